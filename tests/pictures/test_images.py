"""Images: what is read is what the file shows; what is written is whole, and the same each time."""

import contextlib
import errno
import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, JpegImagePlugin
from shared import ROOT
from soak.pictures import tiled_tiff

from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.machine import memory
from neural_style_tf.pictures import (
    decoding,
    files,
    formats,
    metadata,
    opening,
    profiles,
    reading,
    resampling,
    sizes,
    writing,
)
from neural_style_tf.runs import inputs
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.settings import SMALLEST_SIDE, Settings

HEIGHT, WIDTH = 40, 56
ENDINGS = [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"]
METADATA = {
    "content": "Müllers Katze.jpg",
    "styles": ["神奈川沖浪裏.png", "né à \udcff"],
    "size": None,
    "tv_weight": 0.5,
}


def picture(height=HEIGHT, width=WIDTH):
    """[height, width, 3] uint8: a smooth slope of its own in each channel."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = (rows * 255 / height, columns * 255 / width, 255 - rows * 200 / height)
    return np.stack(channels, axis=-1).astype(np.uint8)


def grey_picture():
    return picture()[..., 1]


def noise(height=HEIGHT, width=WIDTH, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def stacked(grey):
    """A grey picture [H, W] as `read` gives it."""
    return np.repeat(np.asarray(grey, dtype=np.float32)[..., np.newaxis], 3, axis=-1)


def write(path, samples, mode=None, **options):
    image = samples if isinstance(samples, Image.Image) else Image.fromarray(samples)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def pixels_of(path, **options):
    """What `read` sees in an opaque file, having checked its type."""
    found = reading.read(path, **options)
    assert found.alpha is None
    assert found.pixels.dtype == np.float32
    assert found.pixels.ndim == 3 and found.pixels.shape[2] == 3
    return found.pixels


def png(bits, color_type, rows, height, width, transparent=None):
    """The bytes of a PNG of any kind, also of those that Pillow cannot write."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))]
    if transparent is not None:
        chunks.append((b"tRNS", transparent))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def error_of(call, *arguments, kind=UserError, **options):
    """The one line of the error that a call ends in."""
    with pytest.raises(kind) as raised:
        call(*arguments, **options)
    assert raised.type is kind
    message = str(raised.value)
    assert "\n" not in message
    return message


# Formats and modes


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_lossless_formats_are_read_exactly(tmp_path, ending):
    path = write(tmp_path / f"photo{ending}", noise())
    np.testing.assert_array_equal(pixels_of(path), noise())


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_lossy_formats_are_read_closely(tmp_path, ending):
    path = write(tmp_path / f"photo{ending}", picture(), quality=95)
    assert np.abs(pixels_of(path) - picture()).mean() < 2


def test_the_content_counts_not_the_ending(tmp_path):
    path = write(tmp_path / "photo.jpg", noise(), format="PNG")
    np.testing.assert_array_equal(pixels_of(path), noise())


def test_a_gif_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "lime", "blue")]
    frames[0].paste("yellow", (0, 0, 10, 20))  # left, top, right, bottom
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    expected = np.full((HEIGHT, WIDTH, 3), (255, 0, 0))
    expected[:20, :10] = (255, 255, 0)
    np.testing.assert_array_equal(pixels_of(path), expected)


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
def test_a_moving_picture_is_its_first_frame(tmp_path, ending):
    first, second = Image.fromarray(noise(seed=1)), Image.fromarray(noise(seed=2))
    path = tmp_path / f"moving{ending}"
    first.save(path, save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(pixels_of(path), noise(seed=1))


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".gif"])
def test_grey(tmp_path, ending):
    path = write(tmp_path / f"grey{ending}", grey_picture())
    np.testing.assert_array_equal(pixels_of(path), stacked(grey_picture()))


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".gif"])
def test_one_bit(tmp_path, ending):
    bits = grey_picture() > 100
    path = write(tmp_path / f"bits{ending}", Image.fromarray(bits))
    np.testing.assert_array_equal(pixels_of(path), stacked(bits * 255))


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".gif"])
def test_palette(tmp_path, ending):
    image = Image.fromarray(picture()).quantize(16)
    path = write(tmp_path / f"palette{ending}", image)
    np.testing.assert_array_equal(pixels_of(path), np.asarray(image.convert("RGB")))


def rgba_picture():
    """Colours with an alpha of 0, soft and 1; and the same over white."""
    alpha = np.linspace(-0.2, 1.2, WIDTH).clip(0, 1) * np.ones((HEIGHT, 1))
    samples = np.dstack([noise(), np.rint(alpha * 255)]).astype(np.uint8)
    share = samples[..., 3:] / 255
    return samples, samples[..., :3] * share + 255 * (1 - share)


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
def test_transparency_is_over_white_and_kept(tmp_path, ending):
    samples, over_white = rgba_picture()
    path = write(tmp_path / f"soft{ending}", samples, lossless=True, exact=True)
    pixels, alpha = reading.read(path)
    np.testing.assert_allclose(pixels, over_white, atol=1e-3)
    np.testing.assert_allclose(alpha, samples[..., 3] / 255, atol=1e-6)
    assert pixels.dtype == alpha.dtype == np.float32


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_grey_with_alpha(tmp_path, ending):
    samples = np.dstack([grey_picture(), picture()[..., 0]])
    share = samples[..., 1] / 255
    path = write(tmp_path / f"soft{ending}", samples)
    pixels, alpha = reading.read(path)
    expected = samples[..., 0] * share + 255 * (1 - share)
    np.testing.assert_allclose(pixels, stacked(expected), atol=1e-3)
    np.testing.assert_allclose(alpha, share, atol=1e-6)


def test_full_alpha_is_none(tmp_path):
    path = write(tmp_path / "opaque.png", picture(), mode="RGBA")
    np.testing.assert_array_equal(pixels_of(path), picture())


def test_a_wholly_transparent_picture_is_white(tmp_path):
    path = write(tmp_path / "nothing.png", Image.new("RGBA", (WIDTH, HEIGHT), (9, 9, 9, 0)))
    pixels, alpha = reading.read(path)
    assert (pixels == 255).all() and (alpha == 0).all()


@pytest.mark.parametrize("ending", [".png", ".gif"])
def test_palette_with_one_transparent_colour(tmp_path, ending):
    image = Image.fromarray(picture()).quantize(16)
    key = int(np.asarray(image)[0, 0])
    path = write(tmp_path / f"palette{ending}", image, transparency=key)
    visible = np.asarray(image) != key
    pixels, alpha = reading.read(path)
    np.testing.assert_array_equal(alpha, visible)
    expected = np.where(visible[..., np.newaxis], np.asarray(image.convert("RGB")), 255)
    np.testing.assert_array_equal(pixels, expected)


def test_palette_with_soft_transparency(tmp_path):
    image = Image.fromarray(picture()).quantize(16)
    shares = bytes(range(0, 256, 17))
    path = write(tmp_path / "palette.png", image, transparency=shares)
    share = np.frombuffer(shares, np.uint8)[np.asarray(image)] / 255
    pixels, alpha = reading.read(path)
    np.testing.assert_allclose(alpha, share, atol=1e-6)
    share = share[..., np.newaxis]
    over_white = np.asarray(image.convert("RGB")) * share + 255 * (1 - share)
    np.testing.assert_allclose(pixels, over_white, atol=1e-3)


def test_one_transparent_colour_of_rgb(tmp_path):
    key = tuple(int(level) for level in picture()[3, 5])
    path = write(tmp_path / "key.png", picture(), transparency=key)
    pixels, alpha = reading.read(path)
    np.testing.assert_array_equal(alpha, (picture() != key).any(axis=-1))
    assert alpha[3, 5] == 0 and (pixels[3, 5] == 255).all()


def test_one_transparent_level_of_grey(tmp_path):
    path = write(tmp_path / "key.png", grey_picture(), transparency=int(grey_picture()[0, 9]))
    pixels, alpha = reading.read(path)
    np.testing.assert_array_equal(alpha, np.ones((HEIGHT, 1)) * (np.arange(WIDTH) != 9))
    assert (pixels[:, 9] == 255).all()


def test_one_transparent_level_of_16_bit_grey(tmp_path):
    levels = np.arange(HEIGHT * WIDTH, dtype=">u2").reshape(HEIGHT, WIDTH)
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    path = tmp_path / "key.png"
    path.write_bytes(png(16, 0, rows, HEIGHT, WIDTH, transparent=struct.pack(">H", 300)))
    alpha = reading.read(path).alpha
    assert alpha[300 // WIDTH, 300 % WIDTH] == 0 and alpha.sum() == alpha.size - 1


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bit_grey_keeps_its_precision(tmp_path, ending):
    levels = np.linspace(0, 65_535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    path = write(tmp_path / f"deep{ending}", levels)
    pixels = pixels_of(path)
    np.testing.assert_allclose(pixels, stacked(levels / 257), atol=1e-4)
    assert len(np.unique(pixels)) == HEIGHT * WIDTH


@pytest.mark.parametrize("color_type, channels", [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_and_alpha(tmp_path, color_type, channels):
    samples = np.full((HEIGHT, WIDTH, channels), 65_535, dtype=">u2")
    samples[: HEIGHT // 2, :, 0] = 100 * 257
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    path = tmp_path / "deep.png"
    path.write_bytes(png(16, color_type, rows, HEIGHT, WIDTH))
    pixels = pixels_of(path)
    assert (pixels[: HEIGHT // 2, :, 0] == 100).all() and (pixels[HEIGHT // 2 :] == 255).all()


def test_32_bit_integers_of_16_bits(tmp_path):
    levels = grey_picture().astype(np.int32) * 257
    path = write(tmp_path / "deep.tif", levels)
    np.testing.assert_allclose(pixels_of(path), stacked(grey_picture()), atol=1e-4)


def test_32_bit_integers(tmp_path):
    levels = (grey_picture().astype(np.uint32) * 0x01010101).view(np.int32)
    path = write(tmp_path / "deep.tif", levels)
    np.testing.assert_allclose(pixels_of(path), stacked(grey_picture()), atol=1e-4)


def test_32_bit_integers_just_above_16_bits_are_nearly_black(tmp_path):
    path = write(tmp_path / "deep.tif", np.full((HEIGHT, WIDTH), 66_000, dtype=np.int32))
    assert pixels_of(path).max() < 0.01


@pytest.mark.parametrize("white", [1, 255, 65_535])
def test_floating_point(tmp_path, white):
    levels = (grey_picture() / 255 * white).astype(np.float32)
    levels[0, 0], levels[0, 1] = np.nan, white
    expected = grey_picture().astype(np.float32)
    expected[0, 0], expected[0, 1] = 0, 255
    path = write(tmp_path / "deep.tif", levels)
    np.testing.assert_allclose(pixels_of(path), stacked(expected), atol=1e-3)


@pytest.mark.parametrize("ending", [".tif", ".jpg"])
def test_cmyk(tmp_path, ending):
    # Pillow writes JPEGs inverted and marks them as Adobe does.
    inks = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    inks[:, WIDTH // 2 :, 0] = 255
    image = Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes())
    pixels = pixels_of(write(tmp_path / f"inks{ending}", image, quality=100))
    np.testing.assert_allclose(pixels[:, : WIDTH // 2 - 8], 255, atol=3)
    np.testing.assert_allclose(pixels[:, WIDTH // 2 + 8 :, 0], 0, atol=3)
    np.testing.assert_allclose(pixels[:, WIDTH // 2 + 8 :, 1:], 255, atol=3)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_orientation(tmp_path, ending, orientation):
    corner = picture()
    corner[:10, :20] = 255  # top left, longer than high
    stored = {
        2: corner[:, ::-1],
        3: corner[::-1, ::-1],
        4: corner[::-1],
        5: corner.transpose(1, 0, 2),
        6: np.rot90(corner),  # shown after a quarter turn clockwise
        7: np.rot90(corner, 2).transpose(1, 0, 2),
        8: np.rot90(corner, -1),
    }.get(orientation, corner)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{ending}"
    write(path, np.ascontiguousarray(stored), exif=exif, quality=100)
    pixels = pixels_of(path)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels - corner).mean() < 3


def test_orientation_of_a_palette_and_its_alpha(tmp_path):
    image = Image.fromarray(picture()).quantize(16)
    key = int(np.asarray(image)[0, 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path / "palette.png", image, transparency=key, exif=exif)
    pixels, alpha = reading.read(path)
    np.testing.assert_array_equal(alpha, np.rot90(np.asarray(image) != key, -1))
    assert pixels.shape == (WIDTH, HEIGHT, 3)


# Colour profiles

# Colorants adapted to D50, a column each: Display P3, as Apple writes it, and sRGB.
P3 = np.array(
    [(0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407)]
)
SRGB = np.array(
    [(0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410)]
)


def number(value):
    return struct.pack(">i", round(value * 65_536))  # s15Fixed16Number


def gamma_curve(gamma):
    return b"curv" + struct.pack(">IIHxx", 0, 1, round(gamma * 256))


def xyz(values):
    return b"XYZ " + bytes(4) + b"".join(number(value) for value in values)


def icc(device_class, space, connection, tags):
    """The bytes of an ICC profile, version 2.4."""
    tags = {b"wtpt": xyz((0.9642, 1, 0.8249)), **tags}
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, offset + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">II", offset + len(data), 0) + bytes((2, 0x40, 0, 0))
    header += device_class + space + connection + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp"
    header = header.ljust(68, b"\0") + xyz((0.9642, 1, 0.8249))[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def p3_profile():
    colorants = {name: xyz(P3[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_curve(2.2))
    return icc(b"mntr", b"RGB ", b"XYZ ", colorants | curves)


def black_ink_profile():
    """A press that prints its black alone, in equal steps of lightness."""
    inputs = bytes(range(256)) * 4
    grid = bytes((255, 128, 128, 0, 128, 128)) * 8  # L, a, b; the last ink moves fastest
    matrix = b"".join(number(float(i == j)) for i in range(3) for j in range(3))
    table = b"mft1" + bytes((0, 0, 0, 0, 4, 3, 2, 0)) + matrix + inputs + grid
    return icc(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table + bytes(range(256)) * 3})


def srgb_encoded(linear):
    linear = np.asarray(linear)
    return 255 * np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055
    )


def srgb_of_p3(levels):
    linear = np.linalg.solve(SRGB, P3 @ (np.asarray(levels) / 255) ** 2.2)
    return srgb_encoded(linear).clip(0, 255)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("color", [(200, 120, 80), (120, 180, 130), (255, 255, 255), (60, 60, 200)])
def test_a_wide_gamut_is_converted(tmp_path, ending, color):
    image = Image.new("RGB", (WIDTH, HEIGHT), color)
    options = {"lossless": True} if ending == ".webp" else {"quality": 100}
    path = write(tmp_path / f"p3{ending}", image, icc_profile=p3_profile(), **options)
    pixel = pixels_of(path)[HEIGHT // 2, WIDTH // 2]
    np.testing.assert_allclose(pixel, srgb_of_p3(color), atol=3)
    assert color == (255, 255, 255) or np.abs(pixel - color).max() > 5


def test_a_profile_leaves_alpha_alone(tmp_path):
    image = Image.new("RGBA", (WIDTH, HEIGHT), (200, 120, 80, 51))
    path = write(tmp_path / "p3.png", image, icc_profile=p3_profile())
    pixels, alpha = reading.read(path)
    np.testing.assert_allclose(alpha, 0.2, atol=1e-6)
    expected = srgb_of_p3((200, 120, 80)) * 0.2 + 255 * 0.8
    np.testing.assert_allclose(pixels[3, 4], expected, atol=1)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_grey_profile_is_converted(tmp_path, depth):
    linear = icc(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": gamma_curve(1.0)})
    levels = grey_picture().astype(depth) * (257 if depth is np.uint16 else 1)
    path = write(tmp_path / "grey.png", levels, icc_profile=linear)
    expected = stacked(srgb_encoded(grey_picture() / 255))
    np.testing.assert_allclose(pixels_of(path), expected, atol=0.6)


def test_a_grey_picture_may_carry_a_colour_profile(tmp_path):
    path = write(tmp_path / "grey.png", grey_picture(), icc_profile=p3_profile())
    expected = srgb_encoded((grey_picture() / 255) ** 2.2)
    np.testing.assert_allclose(pixels_of(path), stacked(expected), atol=2)


def test_a_cmyk_profile_is_converted(tmp_path):
    inks = Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 128))
    path = write(tmp_path / "press.tif", inks, icc_profile=black_ink_profile())
    lightness = 100 * (1 - 128 / 255)
    expected = srgb_encoded(((lightness + 16) / 116) ** 3)
    np.testing.assert_allclose(pixels_of(path), expected, atol=3)


@pytest.mark.parametrize("profile", [b"no profile at all", p3_profile()[:200], black_ink_profile()])
def test_a_profile_that_is_broken_or_for_other_channels_is_ignored(tmp_path, profile):
    path = write(tmp_path / "photo.png", noise(), icc_profile=profile)
    np.testing.assert_array_equal(pixels_of(path), noise())


def test_an_srgb_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = write(tmp_path / "photo.png", noise(), icc_profile=profile)
    assert np.abs(pixels_of(path) - noise()).max() <= 1


# Files that cannot be read


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
    assert error_of(reading.read, tmp_path) == f"{tmp_path} is a folder: give a file inside it"


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
    expected = (
        f"{path} is not a picture, or a broken one: use a JPEG, PNG, WebP, TIFF, BMP or GIF file"
    )
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


def test_too_large_is_told_from_the_header(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(8, 2, b"", height=20_000, width=50_000))
    assert error_of(reading.read, path) == (
        f"{path} has 1000.0 megapixels, more than 200: shrink it, or raise --max-megapixels"
    )


def test_max_megapixels_is_the_largest_allowed(tmp_path):
    path = write(tmp_path / "photo.png", picture())
    megapixels = HEIGHT * WIDTH / 1e6
    pixels_of(path, max_megapixels=megapixels)
    assert error_of(reading.read, path, max_megapixels=0.002) == (
        f"{path} has 0.0 megapixels, more than 0.002: shrink it, or raise --max-megapixels"
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
def test_broken_exif_does_not_matter_and_is_not_told(tmp_path, capfd, ending, exif):
    path = write(tmp_path / f"photo{ending}", picture(), exif=b"Exif\0\0" + exif)
    assert np.abs(pixels_of(path) - picture()).mean() < 5
    assert metadata.read(path) == {}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), 0, -1])
def test_a_limit_that_is_not_a_finite_number_above_0_is_refused(tmp_path, limit):
    path = write(tmp_path / "photo.png", picture())
    assert error_of(reading.read, path, max_megapixels=limit, kind=UsageError) == (
        f"--max-megapixels is {limit:g}, which is not a finite number above 0: "
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


SIZES = [(20, 28), (20, 100), (97, 30), (97, 131), (HEIGHT, 20), (20, WIDTH), (HEIGHT, WIDTH)]


def files_of_all_kinds(folder):
    """Of every mode, with and without alpha and profiles; some lie on their side."""
    rgba, exif = Image.fromarray(rgba_picture()[0]), Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(noise().astype(np.uint16)[..., 0] * 200)
    pictures = {
        "rgb.png": (Image.fromarray(noise()), {"exif": exif}),
        "p3.png": (rgba, {"icc_profile": p3_profile()}),
        "grey.png": (Image.fromarray(noise()).convert("L"), {"icc_profile": p3_profile()}),
        "soft.png": (rgba.convert("LA"), {}),
        "key.gif": (Image.fromarray(noise()).convert("P"), {"transparency": 3}),
        "deep.png": (deep, {}),
        "deep.tif": (deep, {"exif": exif}),
        "press.tif": (Image.fromarray(noise()).convert("CMYK"), {"compression": "tiff_lzw"}),
        "photo.jpg": (Image.fromarray(noise()), {"exif": exif, "icc_profile": p3_profile()}),
        "soft.webp": (rgba, {}),
        "opaque.png": (Image.fromarray(noise()).convert("RGBA"), {}),
    }
    return [write(folder / name, image, **kept) for name, (image, kept) in pictures.items()]


@pytest.mark.parametrize("band", [1, 1000])
def test_a_picture_that_is_read_at_a_size_is_resized_to_the_bit(tmp_path, monkeypatch, band):
    for path in files_of_all_kinds(tmp_path):
        monkeypatch.setattr(decoding, "BAND_PIXELS", 1 << 20)
        pixels, alpha = reading.read(path)
        mask = reading.read_mask(path)
        monkeypatch.setattr(decoding, "BAND_PIXELS", band)
        for size in SIZES:
            found = reading.read(path, size_of=lambda *_, size=size: size)
            np.testing.assert_array_equal(found.pixels, resampling.resize(pixels, *size))
            assert (found.alpha is None) == (alpha is None)
            if alpha is not None:
                np.testing.assert_array_equal(found.alpha, resampling.resize(alpha, *size))
            found = reading.read_mask(path, size_of=lambda *_, size=size: size)
            np.testing.assert_array_equal(found, resampling.resize(mask, *size))


def test_a_large_picture_is_resized_to_rounding(tmp_path, monkeypatch):
    monkeypatch.setattr(resampling, "MOST_RESIZED_BY_PILLOW", 0)
    monkeypatch.setattr(decoding, "BAND_PIXELS", 150)
    for path in files_of_all_kinds(tmp_path):
        pixels, alpha = reading.read(path)
        for size in SIZES:
            found = reading.read(path, size_of=lambda *_, size=size: size)
            np.testing.assert_allclose(found.pixels, resampling.resize(pixels, *size), atol=0.01)
            assert (found.alpha is None) == (alpha is None)
            if alpha is not None:
                np.testing.assert_allclose(found.alpha, resampling.resize(alpha, *size), atol=1e-4)


def test_the_wanted_size_is_made_of_the_size_of_the_file(tmp_path):
    exif, seen = Image.Exif(), []
    exif[0x0112] = 6
    path = write(tmp_path / "photo.jpg", picture(), exif=exif)
    reading.read(path, size_of=lambda *size: seen.append(size) or size)
    assert seen == [(WIDTH, HEIGHT)]


IN_LITTLE_MEMORY = r"""
import re, sys, time
from neural_style_tf.pictures import reading
path, name = sys.argv[1:]
began, call = time.process_time(), getattr(reading, name)
call(path, 200, lambda height, width: (512, 512 * width // height))
peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())
print(int(peak[1]) / 1024, time.process_time() - began)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("name", ["read", "read_mask"])
def test_a_large_picture_of_few_bytes_takes_little(tmp_path, name):
    path = write(tmp_path / "map.png", Image.new("1", (14_140, 14_140), 1))
    run = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY, path, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    megabytes, seconds = map(float, run.stdout.split())
    assert megabytes < 500  # 200 of the picture as Pillow holds it
    assert seconds < 10


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


def test_a_profile_with_a_program_in_it_is_read_without_that(tmp_path):
    """D2B1: a chain of 100,000 steps, which would be worked out for thousands of colours."""
    matrix = b"matf" + struct.pack(">IHH", 0, 3, 3) + struct.pack(">12f", *np.eye(4, 3).ravel())
    count = 100_000
    table = struct.pack(">II", 16 + 8 * count, len(matrix)) * count
    chain = b"mpet" + struct.pack(">IHHI", 0, 3, 3, count) + table + matrix
    colorants = {name: xyz(P3[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_curve(2.2))
    profile = bytearray(icc(b"mntr", b"RGB ", b"XYZ ", colorants | curves | {b"D2B1": chain}))
    profile[8] = 4  # the version that has these
    path = write(tmp_path / "photo.tif", picture(), icc_profile=bytes(profile))
    plain = write(tmp_path / "plain.tif", picture(), icc_profile=p3_profile())
    np.testing.assert_allclose(pixels_of(path), pixels_of(plain), atol=1)


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


# Sizes and colours


def test_resize_to_the_same_size_is_the_same_array():
    pixels = picture().astype(np.float32)
    assert resampling.resize(pixels, HEIGHT, WIDTH) is pixels


@pytest.mark.parametrize("height, width", [(20, 28), (33, 64), (100, 30), (1, 1)])
def test_resize_keeps_a_constant_constant(height, width):
    constant = np.tile(np.float32((10, 100, 200)), (HEIGHT, WIDTH, 1))
    resized = resampling.resize(constant, height, width)
    assert resized.shape == (height, width, 3) and resized.dtype == np.float32
    np.testing.assert_allclose(resized, np.broadcast_to((10, 100, 200), resized.shape), atol=1e-3)


def test_resize_keeps_the_mean_and_the_direction():
    pixels = picture().astype(np.float32)
    resized = resampling.resize(pixels, 20, 28)
    np.testing.assert_allclose(resized.mean((0, 1)), pixels.mean((0, 1)), atol=0.5)
    blocks = pixels.reshape(20, 2, 28, 2, 3).mean((1, 3))
    np.testing.assert_allclose(resized, blocks, atol=3)


def test_resize_averages_what_it_shrinks():
    checks = np.indices((HEIGHT, WIDTH)).sum(0) % 2 * np.float32(255)
    resized = resampling.resize(stacked(checks), 10, 14)
    np.testing.assert_allclose(resized[2:-2, 2:-2], 127.5, atol=8)


@pytest.mark.parametrize("top, shape", [(255, (HEIGHT, WIDTH, 3)), (1, (HEIGHT, WIDTH))])
def test_resize_keeps_to_the_range(top, shape):
    hard = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32) * top
    resized = resampling.resize(hard, 97, 131)
    assert resized.shape == (97, 131, *shape[2:]) and resized.dtype == np.float32
    assert resized.min() == 0 and resized.max() == top


@pytest.mark.parametrize(
    "given_settings, expected",
    [
        ({}, (300, 450)),
        ({"width": 300}, (200, 300)),
        ({"height": 100}, (100, 150)),
        ({"size": 900}, (600, 900)),
        ({"width": 64, "height": 320}, (320, 64)),
        ({"width": 100}, (67, 100)),
    ],
)
def test_target_size(given_settings, expected):
    assert sizes.target_size(300, 450, Settings(**given_settings)) == expected


def test_target_size_rounds_halves_up():
    assert sizes.target_size(50, 100, Settings(width=37)) == (19, 37)


def test_size_is_the_long_side_of_a_portrait():
    assert sizes.target_size(450, 300, Settings(size=90)) == (90, 60)


@pytest.mark.parametrize(
    "height, width, given_settings, message",
    [
        (
            20,
            1000,
            {"size": 200},
            "size 200 makes a picture 200 wide and 4 high, but a side needs 16 pixels: "
            "use size 775 or more",
        ),
        (
            1000,
            20,
            {"height": 700},
            "height 700 makes a picture 14 wide and 700 high, but a side needs 16 pixels: "
            "use height 775 or more",
        ),
        (
            100,
            200,
            {"width": 20},
            "width 20 makes a picture 20 wide and 10 high, but a side needs 16 pixels: "
            "use width 31 or more",
        ),
        (
            9,
            30,
            {},
            "the content makes a picture 30 wide and 9 high, but a side needs 16 pixels: "
            "use size 52 or more",
        ),
    ],
)
def test_target_size_too_small(height, width, given_settings, message):
    settings = Settings(**given_settings)
    assert error_of(sizes.target_size, height, width, settings, kind=UsageError) == message


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from(["width", "height", "size"]))
def test_the_smallest_size_that_is_named_is_the_smallest(height, width, name):
    settings = Settings(**{name: SMALLEST_SIDE})
    try:
        assert min(sizes.target_size(height, width, settings)) >= SMALLEST_SIDE
    except UsageError as error:
        smallest = int(re.search(rf"use {name} (\d+) or more", str(error))[1])
        works = sizes.target_size(height, width, Settings(**{name: smallest}))
        assert min(works) == SMALLEST_SIDE
        with pytest.raises(UsageError):
            sizes.target_size(height, width, Settings(**{name: smallest - 1}))


def test_style_size():
    assert sizes.style_size(200, 300, content_width=450, scale=1.0) == (300, 450)
    assert sizes.style_size(200, 300, content_width=450, scale=0.5) == (150, 225)
    assert sizes.style_size(301, 100, content_width=50, scale=1.0) == (151, 50)


def test_a_painting_is_not_enlarged_until_its_strokes_are_gone_unless_asked_for():
    assert sizes.style_size(500, 400, content_width=640) == (800, 640)
    assert sizes.style_size(500, 400, content_width=4096) == (1000, 800)
    assert sizes.style_size(500, 400, content_width=4096, scale=1.0) == (5120, 4096)
    assert sizes.style_size(1000, 1000, content_width=450) == (450, 450)
    assert sizes.style_size(2, 2, content_width=4096) == (512, 512)


def test_style_size_too_small():
    message = error_of(sizes.style_size, 100, 400, 200, 0.25, kind=UsageError)
    assert message == (
        "style_scales 0.25 makes a picture 50 wide and 13 high, but a side needs 16 pixels: "
        "use style_scales 0.31 or more"
    )


@given(st.integers(1, 500), st.integers(1, 500), st.integers(16, 3000), st.floats(1e-6, 4))
def test_the_smallest_scale_that_is_named_works(height, width, content_width, scale):
    try:
        sizes.style_size(height, width, content_width, scale)
    except UsageError as error:
        smallest = float(re.search(r"use style_scales (\S+) or more", str(error))[1])
        sizes.style_size(height, width, content_width, smallest)
        with pytest.raises(UsageError):
            sizes.style_size(height, width, content_width, smallest * 0.98)


# Outputs, before the run


@pytest.mark.parametrize("ending", [*ENDINGS, ".JPG", ".Png"])
def test_known_endings_pass(tmp_path, ending):
    writing.check_output(tmp_path / f"out{ending}")
    assert os.listdir(tmp_path) == []


def test_unknown_ending(tmp_path):
    known = "end it in .jpg, .jpeg, .png, .webp, .tif, .tiff or .bmp"
    expected = f"{tmp_path}/out.jgp has an unknown ending (did you mean .jpg?): {known}"
    assert error_of(writing.check_output, tmp_path / "out.jgp", kind=UsageError) == expected
    assert error_of(writing.save, tmp_path / "out.jgp", picture(), kind=UsageError) == expected
    assert error_of(writing.check_output, tmp_path / "out.doc", kind=UsageError) == (
        f"{tmp_path}/out.doc has an unknown ending: {known}"
    )
    assert error_of(writing.check_output, tmp_path / "out", kind=UsageError) == (
        f"{tmp_path}/out has no ending that names a format: {known}"
    )


def test_output_is_a_folder(tmp_path):
    assert error_of(writing.check_output, tmp_path, overwrite=True) == (
        f"{tmp_path} is a folder: add a file name"
    )


def test_output_folder_is_missing(tmp_path):
    (tmp_path / "results").mkdir()
    assert error_of(writing.check_output, tmp_path / "result" / "out.png") == (
        f"no folder {tmp_path}/result for out.png (did you mean results?): create it"
    )


def test_output_exists(tmp_path):
    path = write(tmp_path / "out.png", picture())
    assert error_of(writing.check_output, path) == (
        f"{path} exists: give another name, or --overwrite to replace it"
    )
    writing.check_output(path, overwrite=True)
    np.testing.assert_array_equal(pixels_of(path), picture())


def test_output_folder_is_read_only(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")
        yield

    monkeypatch.setattr(files, "_temporary_beside", refuse)
    path = tmp_path / "out.png"
    assert error_of(writing.check_output, path) == (
        f"cannot write {path} (Read-only file system): choose another name or folder"
    )


def test_a_name_that_is_too_long(tmp_path):
    path = tmp_path / ("x" * 300 + ".png")
    assert error_of(writing.check_output, path) == (
        f"cannot write {path} (File name too long): choose another name or folder"
    )
    assert error_of(reading.read, path) == (
        f"cannot read {path} (File name too long): check the file"
    )
    assert os.listdir(tmp_path) == []


def test_output_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writing.check_output("out.png")
    writing.save("out.png", picture())
    np.testing.assert_array_equal(pixels_of("out.png"), picture())


def test_output_size():
    writing.check_output_size("out.webp", 16_383, 16_383)
    writing.check_output_size("out.jpg", 65_500, 30)
    writing.check_output_size("out.png", 100_000, 30)
    assert error_of(writing.check_output_size, "out.webp", 30, 16_384, kind=UsageError) == (
        "out.webp would be 16384 wide and 30 high, but WebP holds at most 16383 a side: "
        "end the name in .png, or make the picture smaller"
    )
    assert error_of(writing.check_output_size, "out.JPEG", 65_501, 30, kind=UsageError) == (
        "out.JPEG would be 30 wide and 65501 high, but JPEG holds at most 65500 a side: "
        "end the name in .png, or make the picture smaller"
    )


@pytest.fixture
def photo_not_to_be_enlarged(tmp_path, monkeypatch):
    """One of 30x20 pixels."""

    def enlarged(*_):
        raise AssertionError("enlarged")

    monkeypatch.setattr(resampling, "at_size", enlarged)
    writing.save(tmp_path / "photo.png", np.zeros((20, 30, 3), np.float32))
    return str(tmp_path / "photo.png")


def options_of(content, output, size):
    settings = Settings(size=size)
    return RunOptions(content=content, styles=["s"], output=output, settings=settings)


def test_a_result_too_large_for_its_file_is_told_first(photo_not_to_be_enlarged):
    options = options_of(photo_not_to_be_enlarged, "out.jpg", 70_000)
    with pytest.raises(UsageError, match=r"out\.jpg would be 70000 wide and 46667 high"):
        inputs.load(options)


def test_a_result_too_large_for_the_memory_is_told_first(photo_not_to_be_enlarged, monkeypatch):
    monkeypatch.setattr(memory, "free_system_memory", lambda: 2_000_000_000)
    options = options_of(photo_not_to_be_enlarged, "out.png", 9000)
    assert error_of(inputs.load, options) == (
        "9000x6000 pixels take 3.9 GB of memory at least, and 2.0 GB are free: "
        "make the picture smaller"
    )


@pytest.mark.parametrize("ending, longest", [(".jpg", 65_500), (".webp", 16_383)])
def test_the_longest_side_can_be_written(tmp_path, ending, longest):
    path = tmp_path / f"out{ending}"
    writing.save(path, np.zeros((2, longest, 3), np.float32))
    assert pixels_of(path).shape == (2, longest, 3)


# Writing

BYTES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 9), st.just(3)))


@hypothesis_settings(deadline=None, max_examples=50)
@given(BYTES)
def test_png_round_trip_is_lossless(tmp_path_factory, samples):
    path = tmp_path_factory.getbasetemp() / "round.png"
    writing.save(path, samples.astype(np.float32))
    np.testing.assert_array_equal(pixels_of(path), samples)


@pytest.mark.parametrize("ending", [".png", ".tif", ".tiff", ".bmp", ".TIFF"])
def test_lossless_formats_are_written_exactly(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, noise().astype(np.float32))
    np.testing.assert_array_equal(pixels_of(path), noise())


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_written_well(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, picture().astype(np.float32))
    assert np.abs(pixels_of(path) - picture()).mean() < 1.5


def test_values_are_rounded_and_clipped(tmp_path):
    row = np.float32([-5, 0.4, 0.6, 99.4, 99.6, 254.6, 300])
    writing.save(tmp_path / "out.png", stacked(row[np.newaxis]))
    found = pixels_of(tmp_path / "out.png")
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 1, 99, 100, 255, 255])


def test_jpeg_is_written_in_full_colour_resolution(tmp_path):
    writing.save(tmp_path / "out.jpg", picture())
    with Image.open(tmp_path / "out.jpg") as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


def test_noise_is_written_as_jpeg(tmp_path):
    # Large enough that the optimized file is longer than the buffer Pillow would have given it.
    writing.save(tmp_path / "out.jpg", noise(300, 400), metadata=METADATA)
    assert metadata.read(tmp_path / "out.jpg") == METADATA


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
def test_alpha_round_trip(tmp_path, ending):
    write(tmp_path / "soft.png", rgba_picture()[0])
    pixels, alpha = reading.read(tmp_path / "soft.png")
    path = tmp_path / f"out{ending}"
    writing.save(path, pixels, alpha)
    again = reading.read(path)
    np.testing.assert_allclose(again.alpha, alpha, atol=1e-6)
    if ending != ".webp":  # which is lossy
        np.testing.assert_allclose(again.pixels, pixels, atol=0.51)


@pytest.mark.parametrize("ending", [".jpg", ".bmp"])
def test_formats_without_alpha_show_it_over_white(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, np.full((HEIGHT, WIDTH, 3), 255.0), alpha=np.zeros((HEIGHT, WIDTH)))
    assert (pixels_of(path) == 255).all()


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_the_profile_is_srgb_and_dateless(tmp_path, ending):
    writing.save(tmp_path / f"out{ending}", picture())
    with Image.open(tmp_path / f"out{ending}") as image:
        profile = image.info["icc_profile"]
    assert struct.unpack(">6H", profile[24:36]) == (2000, 1, 1, 0, 0, 0)
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    assert "sRGB" in name


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_input_is_one_file(tmp_path, ending):
    first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
    writing.save(first, picture(), metadata=METADATA)
    profiles.srgb_profile.cache_clear()
    writing.save(second, picture(), metadata=METADATA)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_metadata_round_trip(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, picture(), metadata=METADATA)
    assert metadata.read(path) == ({} if ending == ".bmp" else METADATA)
    writing.save(path, picture())
    assert metadata.read(path) == {}


def test_metadata_is_where_other_programs_look(tmp_path):
    for ending in (".jpg", ".png", ".webp", ".tif"):
        writing.save(tmp_path / f"out{ending}", picture(), metadata=METADATA)
    software, text = metadata.SOFTWARE, json.dumps(METADATA)
    with Image.open(tmp_path / "out.png") as image:
        assert image.text == {"Software": software, "Comment": text}
    with Image.open(tmp_path / "out.tif") as image:
        assert (image.tag_v2[305], image.tag_v2[270]) == (software, text)
    for name in ("out.jpg", "out.webp"):
        with Image.open(tmp_path / name) as image:
            exif = image.getexif()
        assert exif[0x0131] == software
        assert exif.get_ifd(0x8769)[0x9286] == b"ASCII\0\0\0" + text.encode()


def test_metadata_of_foreign_files_is_empty(tmp_path):
    exif = Image.Exif()
    exif[0x0131], exif[0x010E] = "Another program 1.0", '{"a": 1}'
    for ending in (".jpg", ".png", ".webp", ".tif", ".gif", ".bmp"):
        path = write(tmp_path / f"photo{ending}", picture(), exif=exif)
        assert metadata.read(path) == {}


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_long_metadata_is_kept_whole(tmp_path, ending, caplog):
    for count in (640, 700, 9_000):  # characters, in hundreds: a segment of a JPEG holds 65,533
        long = {"styles": ["x" * 96] * count}
        path, again = tmp_path / f"out{ending}", tmp_path / f"again{ending}"
        writing.save(path, picture(), metadata=long)
        writing.save(again, picture(), metadata=long)
        assert metadata.read(path) == long
        assert path.read_bytes() == again.read_bytes()
    assert caplog.text == ""


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_that_is_too_long_is_left_out_with_a_warning(tmp_path, ending, caplog):
    path = tmp_path / f"out{ending}"
    writing.save(path, picture(), metadata={"styles": ["x" * 96] * 10_000})
    assert metadata.read(path) == {}
    assert caplog.messages == [
        f"{path} is saved without its settings, which are 1.0 MB long: at most 1.0 MB are read "
        "again, so that it cannot be painted again by --settings-from"
    ]
    assert caplog.records[0].name == "neural_style"


def test_metadata_of_which_a_segment_is_lost_is_none(tmp_path):
    path = tmp_path / "out.jpg"
    writing.save(path, picture(), metadata={"styles": ["x" * 96] * 2000})
    data = path.read_bytes()
    start = data.index(b"\xff\xfe")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    path.write_bytes(data[:start] + data[start + 2 + length :])
    assert metadata.read(path) == {}


DAMAGED = {
    "deep": "[" * 100_000,
    "a little deep": '{"a":' * 21 + "1" + "}" * 21,
    "a list": "[1, 2]",
    "no JSON": "{",
    "null": "null",
    "a null byte": '{"a": \0}',
    "many digits": '{"a": ' + "1" * 10_000 + "}",
    "long": '{"a": "' + "x" * 1_000_000 + '"}',
}


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_metadata_is_one_line(tmp_path, monkeypatch, ending, text):
    path = tmp_path / f"out{ending}"
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda _: text)
        patch.setattr(metadata, "MOST_BYTES", 10**7)
        writing.save(path, picture(), metadata={})
    assert error_of(metadata.read, path) == (
        f"the metadata of {path} is damaged: paint the picture again, or use another one"
    )


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_metadata_of_other_programs_is_empty(tmp_path, text):
    exif = Image.Exif()
    exif[0x0131] = "Another program 1.0"
    exif[0x8769] = {0x9286: b"ASCII\0\0\0" + text[:60_000].encode()}
    assert metadata.read(write(tmp_path / "photo.jpg", picture(), exif=exif)) == {}


def test_spaces_and_other_alphabets_in_paths(tmp_path):
    folder = tmp_path / "Meine Bilder, 絵"
    folder.mkdir()
    path = folder / "größte Welle №1.png"
    writing.check_output(path)
    writing.save(path, noise(), metadata=METADATA)
    np.testing.assert_array_equal(pixels_of(str(path)), noise())
    assert metadata.read(path) == METADATA
    assert os.listdir(folder) == [path.name]


def test_a_long_name_can_be_written(tmp_path):
    path = tmp_path / ("ü" * 120 + ".png")  # 244 of 255 bytes
    writing.check_output(path)
    writing.save(path, picture())
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, failing):
    path = tmp_path / "out.png"
    path.write_bytes(b"the old picture")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, failing, fail)
    assert error_of(writing.save, path, picture()) == (
        f"cannot write {path} (No space left on device): make room there or choose another name"
    )
    assert path.read_bytes() == b"the old picture"
    assert os.listdir(tmp_path) == ["out.png"]


def test_an_interrupted_write_leaves_no_litter(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writing.save(tmp_path / "out.png", picture())
    assert os.listdir(tmp_path) == []


def test_the_folder_vanished(tmp_path):
    path = tmp_path / "gone" / "out.png"
    assert error_of(writing.save, path, picture()) == (
        f"cannot write {path} (No such file or directory): make room there or choose another name"
    )


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        writing.save(tmp_path / "out.png", picture())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.png").stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_an_old_file_keeps_its_mode(tmp_path):
    path = write(tmp_path / "out.png", noise())
    path.chmod(0o604)
    writing.save(path, picture())
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    np.testing.assert_array_equal(pixels_of(path), picture())


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "real.png", tmp_path / "out.png"
    if exists:
        write(target, noise())
    link.symlink_to(Path("elsewhere") / "real.png")
    writing.check_output(link, overwrite=exists)
    writing.save(link, picture())
    assert link.is_symlink() and not target.is_symlink()
    np.testing.assert_array_equal(pixels_of(target), picture())
    assert os.listdir(tmp_path / "elsewhere") == ["real.png"]


def test_importing_draws_in_no_colour_management_and_no_tensorflow():
    code = (
        "import sys, neural_style_tf.pictures.reading; "
        "print(*{'PIL.ImageCms', 'tensorflow', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("", "")
