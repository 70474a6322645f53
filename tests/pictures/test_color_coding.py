"""Colour coding: what chunks of a PNG, codes of AVIF and HEIC and EXIF say of colours is obeyed."""

import io
import struct
import sys
import types
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile, features
from samples import (
    HEIGHT,
    WIDTH,
    deep_noise,
    error_of,
    icc,
    noise,
    p3_profile,
    picture,
    pixels_of,
    png_of,
    write,
)
from test_profiles import SRGB, srgb_encoded

from neural_style_tf.pictures import boxes, reading

HAS_AVIF = features.check("avif")
needs_avif = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow reads no AVIF")
GREY_55 = np.full((HEIGHT, WIDTH, 1), 55, np.uint8)
# From light of Display P3 to that of sRGB; CSS Color 4, 17.
P3_TO_SRGB = np.array(
    [
        (1.2249401763, -0.2249401763, 0),
        (-0.0420569547, 1.0420569547, 0),
        (-0.0196375546, -0.0786360456, 1.0982736001),
    ]
)
# The same of BT.2020; ITU-R BT.2407, 2.2.
BT2020_TO_SRGB = np.array(
    [(1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)]
)
COLOR = (200, 120, 80)
P3_CHROMATICITIES = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
GAMMA_1, SRGB_CHUNK = (b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")
GAMMA_2_2 = b"gAMA", struct.pack(">I", 45_455)


def chromaticities(values):
    return b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in values))


def codes(primaries, transfer):
    return b"cICP", bytes((primaries, transfer, 0, 1))


def profile(data):
    return b"iCCP", b"p\0\0" + zlib.compress(data)


def srgb_light(levels):
    share = np.asarray(levels, float) / 255
    return np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)


def flat(color=COLOR, depth=np.uint8):
    factor = 257 if depth is np.uint16 else 1
    return np.full((HEIGHT, WIDTH, 3), np.array(color) * factor, depth)


def saved(path, data):
    path.write_bytes(data)
    return path


def read_flat(tmp_path, *chunks, samples=None):
    samples = flat() if samples is None else samples
    return pixels_of(saved(tmp_path / "flat.png", png_of(samples, *chunks)))[3, 4]


def test_a_linear_grey_of_55_is_128(tmp_path):
    assert read_flat(tmp_path, GAMMA_1, samples=GREY_55) == pytest.approx([127.95] * 3, abs=0.02)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("gamma", [0.3, 1 / 1.8, 1.0])
def test_gamma_is_obeyed(tmp_path, depth, gamma):
    chunk = b"gAMA", struct.pack(">I", round(100_000 * gamma))
    pixel = read_flat(tmp_path, chunk, samples=flat(depth=depth))
    expected = srgb_encoded((np.array(COLOR) / 255) ** (1 / gamma))
    np.testing.assert_allclose(pixel, expected, atol=0.02)


@pytest.mark.parametrize(
    "chunks",
    [
        (GAMMA_2_2,),
        (GAMMA_2_2, chromaticities(SRGB_CHROMATICITIES)),
        (SRGB_CHUNK, GAMMA_1),
        (codes(1, 13), GAMMA_1),
        (codes(1, 13), profile(p3_profile())),
        (codes(2, 2),),
        (codes(1, 1),),
        ((b"gAMA", bytes(4)),),
        (chromaticities((0,) * 8),),
        (chromaticities((0.3, 0.3) * 4),),
    ],
    ids=[
        *("gamma of sRGB", "gamma and primaries of sRGB", "sRGB before gamma"),
        *("codes before gamma", "codes before a profile", "codes that say nothing", "video"),
        *("no gamma", "no primaries", "primaries that are one colour"),
    ],
)
@pytest.mark.parametrize("samples", [noise(), deep_noise()], ids=["8 bits", "16 bits"])
def test_what_is_srgb_stays_as_it_is(tmp_path, chunks, samples):
    path = saved(tmp_path / "photo.png", png_of(samples, *chunks))
    factor = 257 if samples.dtype == np.uint16 else 1
    np.testing.assert_array_equal(pixels_of(path), samples.astype(np.float32) / factor)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "chunks",
    [(codes(12, 13),), (chromaticities(P3_CHROMATICITIES),), (codes(12, 13), SRGB_CHUNK)],
    ids=["codes", "chromaticities", "codes before sRGB"],
)
def test_display_p3_without_a_profile(tmp_path, chunks, depth):
    pixel = read_flat(tmp_path, *chunks, samples=flat(depth=depth))
    expected = srgb_encoded((P3_TO_SRGB @ srgb_light(COLOR)).clip(0, 1))
    np.testing.assert_allclose(pixel, expected, atol=0.1)
    assert np.abs(pixel - COLOR).max() > 5


def test_linear_bt_2020_by_codes(tmp_path):
    pixel = read_flat(tmp_path, codes(9, 8), samples=flat((60, 50, 40), np.uint16))
    expected = srgb_encoded(BT2020_TO_SRGB @ (np.array((60, 50, 40)) / 255))
    np.testing.assert_allclose(pixel, expected, atol=0.1)


def test_white_stays_white_whatever_white_it_is(tmp_path):
    dci = (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
    white = flat((255, 255, 255))
    pixel = read_flat(tmp_path, chromaticities(dci), samples=white)
    np.testing.assert_allclose(pixel, 255, atol=0.001)


def test_a_profile_counts_before_gamma(tmp_path):
    pixel = read_flat(tmp_path, profile(p3_profile()), GAMMA_1)
    light = np.linalg.solve(SRGB, SRGB @ P3_TO_SRGB @ (np.array(COLOR) / 255) ** (563 / 256))
    np.testing.assert_allclose(pixel, srgb_encoded(light.clip(0, 1)), atol=1.5)


def test_gamma_counts_beside_a_broken_profile(tmp_path):
    pixel = read_flat(tmp_path, profile(b"none"), GAMMA_1, samples=flat((55, 55, 55)))
    np.testing.assert_allclose(pixel, 127.95, atol=0.02)


def test_gamma_of_a_palette_and_of_a_mask(tmp_path):
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putpalette([55, 55, 55, 0, 0, 0])
    data = io.BytesIO()
    image.save(data, "PNG")
    kind, content = GAMMA_1
    chunk = struct.pack(">I", 4) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path = saved(tmp_path / "p.png", data.getvalue()[:33] + chunk + data.getvalue()[33:])
    np.testing.assert_allclose(pixels_of(path), 127.95, atol=0.02)
    np.testing.assert_allclose(reading.read_mask(path), 127.95 / 255, atol=1e-3)


def test_gamma_leaves_alpha_alone(tmp_path):
    samples = np.dstack([flat((55, 55, 55)), np.full((HEIGHT, WIDTH), 51, np.uint8)])
    pixels, alpha = reading.read(saved(tmp_path / "soft.png", png_of(samples, GAMMA_1)))
    np.testing.assert_allclose(alpha, 0.2, atol=1e-6)
    np.testing.assert_allclose(pixels, 127.95 * 0.2 + 255 * 0.8, atol=0.02)


@pytest.mark.parametrize("transfer, name", [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_in_one_line(tmp_path, transfer, name):
    path = saved(tmp_path / "hdr.png", png_of(deep_noise(), codes(9, transfer)))
    expected = (
        f"{path} has high dynamic range ({name}), which a painting cannot have: "
        "save it for ordinary screens (SDR), in sRGB or Display P3"
    )
    assert error_of(reading.read, path) == expected
    assert error_of(reading.read_mask, path) == expected


def described(text):
    content = text.encode("utf-16-be")
    head = b"mluc" + struct.pack(">4I", 0, 1, 12, 0x656E5553) + struct.pack(">II", len(content), 28)
    return {b"desc": head + content}


@pytest.mark.parametrize(
    "tags, name",
    [
        ({b"cicp": b"cicp" + bytes((0, 0, 0, 0, 9, 16, 0, 1))}, "PQ"),
        ({b"cicp": b"cicp" + bytes((0, 0, 0, 0, 9, 18, 0, 1))}, "HLG"),
        (described("Rec. 2100 PQ"), "PQ"),
        (described("Display P3 HLG"), "HLG"),
        ({b"desc": b"desc" + struct.pack(">II", 0, 10) + b"Rec2100HLG\0"}, "HLG"),
    ],
)
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_hdr_by_a_profile_is_refused(tmp_path, tags, name, ending):
    hdr = icc(b"mntr", b"RGB ", b"XYZ ", tags)
    path = write(tmp_path / f"hdr{ending}", picture(), icc_profile=hdr)
    assert f"has high dynamic range ({name})" in error_of(reading.read, path)


@pytest.mark.parametrize(
    "kind, text",
    [
        *((b"mntr", text) for text in ("Display P3", "Adobe RGB (1998)", "EPQ200", "Monitor 2100")),
        *((b"prtr", text) for text in ("Stylus Photo 2100", "Paper PQ")),
    ],
)
def test_other_profiles_are_not_taken_for_hdr(tmp_path, kind, text):
    ordinary = icc(kind, b"RGB ", b"XYZ ", described(text))
    path = write(tmp_path / "photo.png", noise(), icc_profile=ordinary)
    np.testing.assert_array_equal(pixels_of(path), noise())


@pytest.mark.parametrize("primaries, transfer", [(3, 13), (9, 9), (200, 200)])
def test_codes_that_are_unknown_are_refused(tmp_path, primaries, transfer):
    path = saved(tmp_path / "odd.png", png_of(noise(), codes(primaries, transfer)))
    assert error_of(reading.read, path) == (
        f"{path} has colours that are not known (primaries {primaries}, transfer {transfer} of "
        "ITU-T H.273): convert it to sRGB"
    )


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_adobe_rgb_as_cameras_mark_it(tmp_path, ending):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65_535, 0xA005: {1: "R03"}}
    options = {"lossless": True} if ending == ".webp" else {"quality": 100}
    image = Image.new("RGB", (WIDTH, HEIGHT), COLOR)
    pixel = pixels_of(write(tmp_path / f"photo{ending}", image, exif=exif, **options))[3, 4]
    matrix = np.array([(1.39835, -0.39835, 0), (0, 1, 0), (0, -0.04293, 1.04293)])
    expected = srgb_encoded((matrix @ (np.array(COLOR) / 255) ** (563 / 256)).clip(0, 1))
    np.testing.assert_allclose(pixel, expected, atol=3 if ending == ".jpg" else 0.2)
    assert np.abs(expected - COLOR).max() > 10


# AVIF and HEIC


@needs_avif
def test_avif(tmp_path):
    path = write(tmp_path / "photo.avif", picture(), quality=100)
    assert reading.size(path) == (HEIGHT, WIDTH)
    assert np.abs(pixels_of(path) - picture()).mean() < 1.5


@needs_avif
def test_avif_with_alpha(tmp_path):
    samples = np.dstack([picture(), picture()[..., 1]])
    _, alpha = reading.read(write(tmp_path / "soft.avif", samples, quality=100))
    np.testing.assert_allclose(alpha, samples[..., 3] / 255, atol=0.02)


@needs_avif
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_avif_is_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / "photo.avif", picture(), quality=100, exif=exif)
    expected = np.rot90(picture(), {3: 2, 6: -1, 8: 1}[orientation])
    assert reading.size(path) == expected.shape[:2]
    assert np.abs(pixels_of(path) - expected).mean() < 1.5


@needs_avif
def test_avif_with_a_profile(tmp_path):
    image = Image.new("RGB", (WIDTH, HEIGHT), COLOR)
    path = write(tmp_path / "p3.avif", image, quality=100, icc_profile=p3_profile())
    expected = srgb_encoded((P3_TO_SRGB @ (np.array(COLOR) / 255) ** (563 / 256)).clip(0, 1))
    np.testing.assert_allclose(pixels_of(path)[3, 4], expected, atol=3)


def with_codes(path, primaries, transfer):
    """Changes the codes of an AVIF file."""
    data = path.read_bytes()
    place = data.index(b"nclx") + 4
    return saved(path, data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :])


def box(name, content):
    return struct.pack(">I", 8 + len(content)) + name + content


@pytest.mark.parametrize("number, expected", [(1, (12, 13)), (0x81, (12, 13)), (0, None)])
def test_codes_among_the_properties_of_the_main_picture(number, expected):
    """Properties are counted from 1; the highest bit says that one must be understood."""
    colors = box(b"colr", b"nclx" + struct.pack(">HHHB", 12, 13, 1, 128))
    association = struct.pack(">IIHBB", 0, 1, 7, 1, number)
    properties = box(b"ipco", colors) + box(b"ipma", association)
    meta = bytes(4) + box(b"pitm", struct.pack(">IH", 0, 7)) + box(b"iprp", properties)
    assert boxes.color_codes(io.BytesIO(box(b"ftyp", b"avif") + box(b"meta", meta))) == expected


@needs_avif
def test_avif_in_display_p3_by_codes(tmp_path):
    path = write(tmp_path / "p3.avif", Image.new("RGB", (WIDTH, HEIGHT), COLOR), quality=100)
    pixel = pixels_of(with_codes(path, 12, 13))[3, 4]
    expected = srgb_encoded((P3_TO_SRGB @ srgb_light(COLOR)).clip(0, 1))
    np.testing.assert_allclose(pixel, expected, atol=3)


@needs_avif
def test_avif_in_hdr_is_refused(tmp_path):
    path = with_codes(write(tmp_path / "hdr.avif", picture()), 9, 16)
    assert "has high dynamic range (PQ)" in error_of(reading.read, path)


@needs_avif
def test_a_broken_avif_is_one_line(tmp_path):
    path = write(tmp_path / "photo.avif", noise())
    data = path.read_bytes()
    for length in (40, 200, len(data) - 100):
        message = error_of(reading.read, saved(path, data[:length]))
        assert message.startswith(f"{path} is ")


@needs_avif
def test_an_avif_that_is_too_large_is_refused_by_its_header(tmp_path):
    path = write(tmp_path / "photo.avif", noise())
    assert error_of(reading.read, path, max_megapixels=0.001) == (
        f"{path} has 0.0 megapixels, more than 0.001: shrink it, or raise max_megapixels"
    )


def test_an_avif_that_this_pillow_does_not_read(tmp_path, monkeypatch):
    header = struct.pack(">I", 28) + b"ftypmif1\0\0\0\0mif1avif"
    path = saved(tmp_path / "photo.avif", header + bytes(40))
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    monkeypatch.delattr(PIL, "AvifImagePlugin", raising=False)
    assert error_of(reading.read, path) == (
        f"{path} is an AVIF picture, which needs Pillow 11.3 or newer: pip install --upgrade pillow"
    )


HEIC = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40)


@pytest.mark.parametrize("read", [reading.read, reading.size, reading.read_mask])
def test_a_heic_without_its_library_says_what_to_install(tmp_path, monkeypatch, read):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = saved(tmp_path / "photo.jpg", HEIC)  # as phones sometimes name them
    assert error_of(read, path) == (
        f"{path} is a HEIC picture, which needs pillow-heif: pip install 'neural-style-tf[heif]'"
    )


class StandIn(ImageFile.ImageFile):
    """What pillow-heif makes of a HEIC file: turned upright, with the codes of its colours."""

    format = "HEIF"
    transfer = 13

    def _open(self):
        self._size, self._mode = (WIDTH, HEIGHT), "RGB"
        self.info["nclx_profile"] = {
            "color_primaries": 12,
            "transfer_characteristics": self.transfer,
        }

    def load(self):
        self.im = Image.new("RGB", self._size, COLOR).im
        return super().load()


@pytest.fixture
def stand_in(monkeypatch):
    library = types.ModuleType("pillow_heif")
    library.HeifImageFile = StandIn
    monkeypatch.setitem(sys.modules, "pillow_heif", library)


def test_a_heic_in_display_p3(tmp_path, stand_in):
    path = saved(tmp_path / "photo.heic", HEIC)
    assert reading.size(path) == (HEIGHT, WIDTH)
    expected = srgb_encoded((P3_TO_SRGB @ srgb_light(COLOR)).clip(0, 1))
    np.testing.assert_allclose(pixels_of(path)[3, 4], expected, atol=0.1)


def test_a_heic_in_hdr_is_refused(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(StandIn, "transfer", 18)
    message = error_of(reading.read, saved(tmp_path / "photo.heic", HEIC))
    assert "has high dynamic range (HLG)" in message


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_real_heic(tmp_path, orientation):
    heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif: the extra heif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(picture())
    image.info["exif"] = exif.tobytes()
    heif.register_heif_opener()
    image.save(tmp_path / "photo.heic", quality=100)
    expected = picture() if orientation == 1 else np.rot90(picture(), -1)
    assert reading.size(tmp_path / "photo.heic") == expected.shape[:2]
    assert np.abs(pixels_of(tmp_path / "photo.heic") - expected).mean() < 4
