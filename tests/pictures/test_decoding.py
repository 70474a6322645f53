"""Decoding: files of every format and mode are read as they look."""

import struct

import numpy as np
import pytest
from PIL import Image
from samples import (
    HEIGHT,
    WIDTH,
    grey_picture,
    noise,
    picture,
    pixels_of,
    png,
    rgba_picture,
    stacked,
    write,
)

from neural_style_tf.pictures import reading


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


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("level", [0, 1])
def test_one_transparent_level_of_grey_with_few_bits(tmp_path, bits, level):
    """level: 0 for the darkest, 1 for the lightest."""
    most = 2**bits - 1
    row = int(f"{0:0{bits}b}{most:0{bits}b}" * 8, 2).to_bytes(2 * bits, "big")
    path = tmp_path / "key.png"
    path.write_bytes(
        png(bits, 0, (b"\0" + row) * 16, 16, 16, transparent=struct.pack(">H", level * most))
    )
    pixels, alpha = reading.read(path)
    np.testing.assert_array_equal(alpha[0], np.arange(16) % 2 != level)
    np.testing.assert_array_equal(alpha, np.tile(alpha[0], (16, 1)))
    hidden = np.arange(16) % 2 == level
    row = np.where(hidden, 255, 255 - 255 * level)
    np.testing.assert_array_equal(pixels[..., 0], np.tile(row, (16, 1)))


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
