"""Reading: sizes, limits, and one line for every file that cannot be read."""

import errno
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from samples import HEIGHT, WIDTH, error_of, noise, picture, pixels_of, png, write
from soak.pictures import tiled_tiff

from neural_style_tf.errors import UsageError
from neural_style_tf.machine import memory
from neural_style_tf.pictures import files, formats, metadata, opening, reading, resampling


def test_missing(tmp_path):
    write(tmp_path / "photo.jpg", picture())
    assert error_of(reading.read, tmp_path / "foto.jpg") == (
        f"no file {tmp_path}/foto.jpg (did you mean photo.jpg?): check the name"
    )
    assert error_of(reading.read, str(tmp_path / "xyz")) == (
        f"no file {tmp_path}/xyz: check the name"
    )


def test_missing_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    assert error_of(reading.read, tmp_path / "picture" / "photo.jpg") == (
        f"no folder {tmp_path}/picture for photo.jpg (did you mean pictures?): check it"
    )


def test_folder(tmp_path):
    assert error_of(reading.read, tmp_path) == f"{tmp_path} is a folder: name a file inside it"


def test_empty(tmp_path):
    (tmp_path / "photo.jpg").touch()
    assert error_of(reading.read, tmp_path / "photo.jpg") == (
        f"{tmp_path}/photo.jpg is empty: get a fresh copy"
    )


def test_permission_denied(tmp_path, monkeypatch):
    path = write(tmp_path / "photo.png", picture())

    def refuse(*arguments):  # the tests may run as root, whom no mode keeps out
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.Path, "open", refuse)
    assert error_of(reading.read, path) == (
        f"cannot read {path} (Permission denied): check the file"
    )


@pytest.mark.parametrize(
    "content", [b"Dear diary,\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF"]
)
def test_not_a_picture(tmp_path, content):
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)
    formats = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC"
    expected = f"{path} is not a picture, or a broken one: use a {formats} file"
    assert error_of(reading.read, path) == expected
    assert error_of(metadata.read, path) == expected


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".bmp", ".webp", ".gif"])
def test_cut_short(tmp_path, ending, capfd):
    path = write(tmp_path / f"photo{ending}", noise())
    path.write_bytes(path.read_bytes()[:1000])
    cut_short = (
        re.escape(f"{path} is broken or cut short (") + ".+" + re.escape("): get a fresh copy")
    )
    refused = re.escape(f"{path} is not a picture, or a broken one: ") + ".+"  # without its end
    assert re.fullmatch(f"{cut_short}|{refused}", error_of(reading.read, path))
    assert capfd.readouterr() == ("", "")


def test_cut_short_by_its_full_text(tmp_path):
    path = write(tmp_path / "photo.bmp", noise())
    path.write_bytes(path.read_bytes()[:-100])
    assert error_of(reading.read, path) == (
        f"{path} is broken or cut short (image file is truncated (68 bytes not processed)): "
        "get a fresh copy"
    )


def test_a_picture_that_is_too_large_is_refused_by_its_header(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(8, 2, b"", height=20_000, width=50_000))
    assert error_of(reading.read, path) == (
        f"{path} has 1000.0 megapixels, more than 200: shrink it, or raise max_megapixels"
    )


def test_max_megapixels_is_the_largest_allowed(tmp_path):
    path = write(tmp_path / "photo.png", picture())
    megapixels = HEIGHT * WIDTH / 1e6
    pixels_of(path, max_megapixels=megapixels)
    assert error_of(reading.read, path, max_megapixels=0.002) == (
        f"{path} has 0.0 megapixels, more than 0.002: shrink it, or raise max_megapixels"
    )


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_does_not_interfere_and_is_restored(tmp_path, monkeypatch):
    path = write(tmp_path / "photo.png", picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    pixels_of(path)
    error_of(reading.read, path, max_megapixels=0.001)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("exif", [b"garbage garbage garbage", b"II*\0\xff\xff\xff\0"])
def test_broken_exif_is_ignored_silently(tmp_path, capfd, ending, exif):
    path = write(tmp_path / f"photo{ending}", picture(), exif=b"Exif\0\0" + exif)
    assert np.abs(pixels_of(path) - picture()).mean() < 5
    assert metadata.read(path) == {}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), 0, -1])
def test_a_limit_that_is_not_a_finite_number_above_0_is_refused(tmp_path, limit):
    path = write(tmp_path / "photo.png", picture())
    assert error_of(reading.read, path, max_megapixels=limit, kind=UsageError) == (
        f"max_megapixels is {limit:g}, which is not a finite number above 0: "
        "set it to the megapixels of your largest picture"
    )


def test_the_size_is_known_without_decoding(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(8, 2, b"", height=2**31 - 1, width=2**31 - 1))
    assert reading.size(path) == (2**31 - 1, 2**31 - 1)
    assert metadata.read(path) == {}
    assert error_of(reading.read, path) == (
        f"{path} is 2147483647 pixels wide and 2147483647 high, but a side may have 500000: crop it"
    )


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_upright(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / f"photo{ending}", picture(), exif=exif)
    assert reading.size(path) == reading.read(path).pixels.shape[:2]
    assert reading.size(path) == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))


def test_the_size_of_a_png_knows_exif_behind_the_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path / "photo.png", picture())
    data, content = path.read_bytes(), exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + content))
    path.write_bytes(data[:-12] + chunk + data[-12:])
    assert reading.size(path) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(pixels_of(path), np.rot90(picture(), -1))


def test_a_picture_that_does_not_fit_is_refused_from_its_header(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    path.write_bytes(png(8, 2, b"", height=5_000, width=10_000))
    monkeypatch.setattr(memory, "free_system_memory", lambda: 150_000_000)
    assert error_of(reading.read, path) == (
        f"{path} takes 1.3 GB of memory to read, and 0.1 GB are free: "
        "shrink it, or close other programs"
    )
    assert error_of(reading.read, path, size_of=lambda *_: (50, 100)) == (
        f"{path} takes 0.3 GB of memory to read, and 0.1 GB are free: "
        "shrink it, or close other programs"
    )


def test_a_file_may_take_a_thousand_times_its_length(tmp_path):
    path = write(tmp_path / "empty.webp", Image.new("RGB", (9_000, 9_000)), lossless=True, method=0)
    length = path.stat().st_size
    assert error_of(reading.read, path) == (
        f"{path} has only {length} bytes and takes 1.6 GB of memory to decode: "
        "shrink it, or save it as PNG"
    )


def test_a_tile_counts_as_what_is_decoded(tmp_path):
    path = tmp_path / "tiled.tif"
    path.write_bytes(tiled_tiff())
    np.testing.assert_array_equal(pixels_of(path), np.zeros((24, 36, 3)))
    path.write_bytes(tiled_tiff(32_768, 65_536))
    assert error_of(reading.read, path).endswith(
        "takes 2.1 GB of memory to decode: shrink it, or save it as PNG"
    )


def test_out_of_memory_is_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    path = write(tmp_path / "photo.png", picture())
    expected = f"{path} takes more memory than is free: shrink it, or close other programs"
    with monkeypatch.context() as patch:
        patch.setattr(resampling, "_resize_channel", fail)
        assert error_of(reading.read, path, size_of=lambda *_: (20, 30)) == expected
    monkeypatch.setitem(formats.READERS, "PNG", fail)
    for reader in (reading.read, reading.read_mask, reading.size, metadata.read):
        assert error_of(reader, path) == expected


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    path = write(tmp_path / "photo.jpg", picture(), progressive=True)
    data = path.read_bytes()
    start = data.rindex(b"\xff\xda")
    path.write_bytes(data[:-2] + data[start:-2] * 100 + data[-2:])
    assert error_of(reading.read, path) == (
        f"{path} has more than 30 scans or 64 segments of EXIF: save it again as JPEG or PNG"
    )


def test_a_large_bmp_with_run_lengths_is_refused(tmp_path):
    path = tmp_path / "large.bmp"
    header = struct.pack("<IiiHHIIiiII", 40, 10_000, 5_000, 1, 8, 1, 4, 0, 0, 256, 0)
    path.write_bytes(struct.pack("<2sIII", b"BM", 1082, 0, 1078) + header + bytes(1024) + b"\0\1")
    assert error_of(reading.read, path) == (
        f"{path} is a BMP of 50.0 megapixels with run-length encoding, which takes minutes to "
        "read: save it as PNG"
    )


def test_a_jpeg_is_never_read_by_another_plugin(tmp_path):
    """Pillow takes one with several pictures for MPO."""
    frames = {"save_all": True, "append_images": [Image.fromarray(noise())]}
    path = write(tmp_path / "photos.jpg", picture(), format="MPO", quality=100, **frames)
    with opening.open_image(path) as image:
        assert type(image) is JpegImagePlugin.JpegImageFile
    assert np.abs(pixels_of(path) - picture()).mean() < 2


def test_what_libtiff_says_does_not_reach_the_terminal(tmp_path, capfd):
    path = write(tmp_path / "photo.tif", noise(), compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[100:200] = b"\xff" * 100
    path.write_bytes(bytes(data))
    assert "is broken or cut short" in error_of(reading.read, path)
    assert capfd.readouterr() == ("", "")


def test_a_program_is_not_a_picture(tmp_path):
    path = write(tmp_path / "drawing.eps", picture())
    assert "is not a picture" in error_of(reading.read, path)


def test_tiny_pictures_are_read(tmp_path):
    path = write(tmp_path / "dot.png", picture(1, 2))
    assert pixels_of(path).shape == (1, 2, 3)
