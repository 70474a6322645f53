"""Photo metadata: what a photo says of itself goes into its painting; what holds for its file alone
does not."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin
from samples import HEIGHT, METADATA, WIDTH, noise, picture, pixels_of, png_of, write

from neural_style_tf.machine import streams
from neural_style_tf.pictures import deep_files, metadata, photo_metadata, writing, xmp

INPUTS = [".jpg", ".png", ".webp", ".tif"]
OUTPUTS = [".jpg", ".png", ".webp", ".tif"]
TAKEN, POSITION = 0x8769, 0x8825


def xmp_of(*properties, attributes=""):
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
        ' xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"'
        ' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
        ' xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/"'
        f" {attributes}>{''.join(properties)}</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    ).encode()


TITLE = "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Katze, 猫</rdf:li></rdf:Alt></dc:title>"
XMP = xmp_of(
    TITLE,
    "<crs:Exposure2012>+2.00</crs:Exposure2012>",
    "<xmp:Thumbnails>/9j/4AAQ</xmp:Thumbnails>",
    attributes='tiff:Orientation="6" xmp:Rating="4" xmpRights:Marked="True" hdrgm:Version="1.0"',
)


def photo_exif(orientation=6):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = "Maker", "Model 3", "2020:01:02 03:04:05"
    exif[0x8298], exif[0x013B] = "© somebody".encode(), "Jemand"
    exif[0x0112], exif[0x0131] = orientation, "Camera firmware 1.0"
    rational = TiffImagePlugin.IFDRational
    exif[TAKEN] = {
        0x9003: "2020:01:02 03:04:05",
        0x829A: rational(1, 250),
        0x8827: 400,
        0xA002: 4000,
        0xA003: 3000,
        0xA001: 65_535,
        0x927C: b"the maker's own" * 10,
        0x9286: b"ASCII\0\0\0a comment",
    }
    exif[POSITION] = {1: "N", 2: (48.0, 8.0, 15.5), 3: "E", 4: (11.0, 34.0, 30.25)}
    return exif


def photo(path, dpi=300):
    """A photo that lies on its side, with all that it may say."""
    image = Image.fromarray(picture())
    exif, ending = photo_exif(), path.suffix
    if ending == ".tif":
        tags = {**exif, 700: XMP, 0x011A: float(dpi), 0x011B: float(dpi), 0x0128: 2}
        path.write_bytes(deep_files.tiff(picture(), tags))
    elif ending == ".png":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        image.save(path, exif=exif, dpi=(dpi, dpi), pnginfo=texts)
    elif ending == ".webp":
        exif[0x011A], exif[0x011B], exif[0x0128] = float(dpi), float(dpi), 2
        image.save(path, exif=exif, xmp=XMP, lossless=True)
    else:
        segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
        extra = struct.pack(">HH", 0xFFE1, 2 + len(segment)) + segment
        image.save(path, exif=exif, dpi=(dpi, dpi), extra=extra)
    return path


def said(path):
    """What a file says: EXIF, how and where it was taken, resolution and XMP."""
    with Image.open(path) as image:
        image.load()
        exif = image.getexif()
        dpi = image.info.get("dpi") or (exif[0x011A], exif[0x011B])
        return (
            dict(exif),
            exif.get_ifd(TAKEN),
            exif.get_ifd(POSITION),
            tuple(round(float(value), 1) for value in dpi),
            (image.info.get("xmp") or b"").decode(),
        )


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("ending", INPUTS)
def test_what_a_photo_says_is_passed_on(tmp_path, ending, out):
    passed_on = photo_metadata.read(photo(tmp_path / f"photo{ending}"))
    path = tmp_path / f"painting{out}"
    writing.save(path, noise(30, 20).astype(np.float32), metadata=METADATA, photo=passed_on)
    tags, taken, position, dpi, packet = said(path)
    assert (tags[0x010F], tags[0x0110], tags[0x013B]) == ("Maker", "Model 3", "Jemand")
    assert tags[0x0132] == "2020:01:02 03:04:05"
    assert tags[0x8298].encode("latin-1").decode() == "© somebody"
    assert taken[0x9003] == "2020:01:02 03:04:05"
    assert taken[0x829A] == pytest.approx(1 / 250) and taken[0x8827] == 400
    assert (taken[0xA002], taken[0xA003], taken[0xA001]) == (20, 30, 1)  # as it is now, in sRGB
    assert position[2] == (48.0, 8.0, 15.5) and position[3] == "E"
    assert dpi == (300, 300)
    assert tags.get(0x0112, 1) == 1 and 0x927C not in taken
    assert taken.get(0x9286) != b"ASCII\0\0\0a comment"
    for kept in ("Katze, 猫", 'Rating="4"', 'Marked="True"'):
        assert kept in packet
    for left_out in ("Orientation", "Exposure2012", "Thumbnails", "hdrgm"):
        assert left_out not in packet
    assert metadata.read(path) == METADATA  # ours is read as before
    assert pixels_of(path).shape == (30, 20, 3)


@pytest.mark.parametrize("bits", [8, 16])
def test_16_bits_have_the_same_metadata(tmp_path, bits):
    passed_on = photo_metadata.read(photo(tmp_path / "photo.jpg"))
    for ending in (".png", ".tif"):
        path = tmp_path / f"painting{ending}"
        writing.save(path, noise(), metadata=METADATA, photo=passed_on, bits=bits)
        tags, taken, _, dpi, packet = said(path)
        assert (tags[0x010F], taken[0x8827], dpi) == ("Maker", 400, (300, 300))
        assert "猫" in packet and metadata.read(path) == METADATA


@pytest.mark.parametrize("out", OUTPUTS)
def test_without_metadata_nothing_is_said(tmp_path, out):
    path = tmp_path / f"painting{out}"
    writing.save(path, noise())
    with Image.open(path) as image:
        image.load()
        structure = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 34675}
        assert set(image.getexif()) <= structure
        harmless = {"icc_profile", "jfif", "jfif_version", "jfif_unit", "jfif_density"}
        harmless |= {"dpi", "resolution"} if out == ".tif" else set()  # 1 where there is none
        harmless |= {"compression", "loop", "background", "timestamp", "duration"}
        assert image.info.keys() <= harmless


@pytest.mark.parametrize("out", OUTPUTS)
def test_one_input_is_one_file(tmp_path, out):
    passed_on = photo_metadata.read(photo(tmp_path / "photo.jpg"))
    paths = [tmp_path / f"{name}{out}" for name in ("first", "second")]
    for path in paths:
        writing.save(path, noise(), metadata=METADATA, photo=passed_on)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_is_passed_on_can_be_passed_on_again(tmp_path):
    first = photo_metadata.read(photo(tmp_path / "photo.jpg"))
    for ending in OUTPUTS:
        path = tmp_path / f"painting{ending}"
        writing.save(path, noise(), metadata=METADATA, photo=first)
        again = photo_metadata.read(path)
        assert again.tags == first.tags and again.position == first.position
        assert again.xmp == first.xmp and again.dpi == pytest.approx(first.dpi, abs=0.01)


def test_a_plain_picture_says_nothing(tmp_path):
    for ending in (*INPUTS, ".bmp", ".gif"):
        path = write(tmp_path / f"photo{ending}", picture())
        assert photo_metadata.read(path)._replace(dpi=None) == photo_metadata.NONE
    writing.save(tmp_path / "plain.png", picture(), photo=photo_metadata.NONE)
    writing.save(tmp_path / "none.png", picture())
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "none.png").read_bytes()


def test_texts_of_a_png_stand_for_exif(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Copyright", "© 2020 jemand")
    texts.add_text("Author", "Jemand")
    texts.add_text("Software", "Editor 1.0")
    path = write(tmp_path / "photo.png", picture(), pnginfo=texts)
    tags = photo_metadata.read(path).tags
    assert tags == {0x8298: "© 2020 jemand".encode(), 0x013B: b"Jemand"}


def test_iptc_stands_for_exif(tmp_path):
    records = b""
    for number, value in ((80, "Jemand"), (116, "© jemand"), (120, "A cat")):
        content = value.encode()
        records += struct.pack(">BBBH", 0x1C, 2, number, len(content)) + content
    block = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(records)) + records
    block += b"\0" * (len(block) % 2)
    segment = b"Photoshop 3.0\0" + block
    extra = struct.pack(">HH", 0xFFED, 2 + len(segment)) + segment
    path = write(tmp_path / "photo.jpg", picture(), extra=extra)
    tags = photo_metadata.read(path).tags
    assert tags == {0x013B: b"Jemand", 0x8298: "© jemand".encode(), 0x010E: b"A cat"}


@pytest.mark.parametrize("where", ["before", "behind"])
def test_a_png_may_have_metadata_behind_its_pixels(tmp_path, where):
    chunk = b"eXIf", photo_exif().tobytes().removeprefix(b"Exif\0\0")
    data = png_of(picture(), *([chunk] if where == "before" else []))
    if where == "behind":
        content = chunk[0] + chunk[1]
        added = struct.pack(">I", len(chunk[1])) + content + struct.pack(">I", zlib.crc32(content))
        data = data[:-12] + added + data[-12:]
    (tmp_path / "photo.png").write_bytes(data)
    assert photo_metadata.read(tmp_path / "photo.png").tags[0x010F] == "Maker"


def test_density_of_other_units_is_no_resolution(tmp_path):
    path = write(tmp_path / "photo.png", picture())
    assert photo_metadata.read(path).dpi is None
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 118.0, 118.0, 3  # per centimetre
    path = write(tmp_path / "photo.webp", picture(), exif=exif)
    assert photo_metadata.read(path).dpi is None


def test_a_density_that_a_jpeg_cannot_hold_is_left_out(tmp_path):
    path = write(tmp_path / "photo.png", picture(), dpi=(70_000, 70_000))
    assert photo_metadata.read(path).dpi is None


# Files from strangers


@pytest.mark.parametrize(
    "exif", [b"garbage garbage", b"II*\0\xff\xff\xff\0", b"MM\0*\0\0\0\x08\xff\xff"]
)
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_broken_exif_is_left_out(tmp_path, ending, exif):
    path = write(tmp_path / f"photo{ending}", picture(), exif=b"Exif\0\0" + exif)
    passed_on = photo_metadata.read(path)
    assert passed_on.tags == passed_on.taken == passed_on.position == {}
    writing.save(tmp_path / "out.jpg", noise(), photo=passed_on)


def test_long_values_are_left_out(tmp_path):
    exif = photo_exif()
    exif[0x010E], exif[0x8298] = "x" * 2001, "x" * 2000
    tags = photo_metadata.read(write(tmp_path / "photo.jpg", picture(), exif=exif)).tags
    assert 0x010E not in tags and tags[0x8298] == "x" * 2000


def test_too_many_tags_are_left_out(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[TAKEN] = {tag: 1 for tag in range(0xB000, 0xB000 + 201)}
    passed_on = photo_metadata.read(write(tmp_path / "photo.jpg", picture(), exif=exif))
    assert passed_on.tags == {0x010F: "Maker"} and passed_on.taken == {}


@pytest.mark.parametrize(
    "packet",
    [
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>" + XMP,
        b"not XML",
        b"<x>" * 1000,
        "<x/>".encode("utf-16"),
        b"<a>" * 100_000 + b"</a>" * 100_000,
        b"<!--" + b"x" * 1_000_000 + b"-->" + XMP,
        xmp_of("<crs:Exposure2012>+2.00</crs:Exposure2012>"),
        b"",
    ],
    ids=["entities", "text", "cut short", "utf-16", "deep", "long", "nothing kept", "empty"],
)
def test_xmp_that_is_not_passed_on(tmp_path, packet):
    path = write(tmp_path / "photo.webp", picture(), xmp=packet)
    assert photo_metadata.read(path).xmp is None


def test_xmp_within_xmp_does_not_multiply():
    nested = "<rdf:RDF><rdf:Description><dc:title>" + "x" * 1000
    ends = "</dc:title></rdf:Description></rdf:RDF>"
    packet = xmp_of(f"<dc:source>{nested * 50}{ends * 50}</dc:source>")
    assert len(xmp.for_painting(packet)) < len(packet) + 1000


def test_the_format_of_the_photo_is_not_that_of_the_painting(tmp_path):
    packet = xmp_of("<dc:format>image/x-canon-cr2</dc:format>" + TITLE)
    kept = photo_metadata.read(write(tmp_path / "photo.webp", picture(), xmp=packet)).xmp.decode()
    assert "Katze" in kept and "canon" not in kept


def test_xmp_of_deep_values_is_passed_on_or_left_out():
    deep = xmp_of("<dc:source>" + "<a>" * 100_000 + "</a>" * 100_000 + "</dc:source>")
    with contextlib.suppress(SyntaxError, ValueError, RuntimeError):
        assert xmp.for_painting(deep).count(b"<a") == 100_000


# What does not fit


def big_exif(size):
    exif = photo_exif()
    exif[TAKEN] = {0xB000 + i: b"x" * 2000 for i in range(size // 2000)}
    return exif


def test_a_jpeg_without_room_for_both_keeps_settings_as_comments(tmp_path, caplog):
    data = io.BytesIO()
    Image.fromarray(picture()).save(data, "JPEG", exif=big_exif(50_000))
    (tmp_path / "photo.jpg").write_bytes(data.getvalue())
    passed_on = photo_metadata.read(tmp_path / "photo.jpg")
    long = {"styles": ["x" * 96] * 300}  # 30 kB
    path = tmp_path / "out.jpg"
    writing.save(path, picture(), metadata=long, photo=passed_on)
    assert metadata.read(path) == long and said_maker(path) == "Maker"
    assert caplog.text == ""


def said_maker(path):
    with Image.open(path) as image:
        return image.getexif().get(0x010F)


def test_a_jpeg_says_once_what_it_has_no_room_for(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(streams, "_said", set())
    values = {0xB000 + i: b"x" * 2000 for i in range(40)}
    description = xmp_of(f"<dc:source>{'x' * 70_000}</dc:source>")
    passed_on = photo_metadata.NONE._replace(
        tags={0x010F: "Maker"}, taken=values, xmp=xmp.for_painting(description)
    )
    path = tmp_path / "out.jpg"
    for _ in range(2):
        writing.save(path, picture(), metadata=METADATA, photo=passed_on)
    assert metadata.read(path) == METADATA and said_maker(path) is None
    assert caplog.messages == [
        f"{path} is saved without the EXIF of the photo, which has 81 kB: a JPEG holds 64 kB",
        f"{path} is saved without the XMP of the photo, which has 70 kB: a JPEG holds 64 kB",
    ]
    caplog.clear()
    for ending in (".png", ".webp", ".tif"):
        writing.save(tmp_path / f"out{ending}", picture(), metadata=METADATA, photo=passed_on)
        assert said_maker(tmp_path / f"out{ending}") == "Maker"
    assert caplog.messages == []
    assert pixels_of(path).shape == (HEIGHT, WIDTH, 3)
