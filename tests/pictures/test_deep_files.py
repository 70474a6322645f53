"""Files of 16 bits: what is written is read back to the last bit."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from samples import HEIGHT, METADATA, WIDTH, deep_noise, error_of, noise, pixels_of

from neural_style_tf import read_picture, save_picture
from neural_style_tf.errors import UsageError
from neural_style_tf.pictures import deep_files, metadata, profiles, reading, writing

DEEP = pytest.mark.parametrize("ending", [".png", ".tif", ".tiff"])


@DEEP
@pytest.mark.parametrize("part_bytes", [1, 1000, 1 << 22])
def test_16_bits_are_written_exactly(tmp_path, ending, part_bytes, monkeypatch):
    monkeypatch.setattr(deep_files, "_PART_BYTES", part_bytes)
    path = tmp_path / f"out{ending}"
    pixels = deep_noise().astype(np.float32) / 257
    writing.save(path, pixels, metadata=METADATA, bits=16)
    np.testing.assert_array_equal(pixels_of(path), pixels)
    assert metadata.read(path) == METADATA
    assert reading.bits(path) == 16


@DEEP
def test_values_are_rounded_and_clipped(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    row = np.float32([-5, 0, 0.001, 0.003, 99.4, 254.999, 300])
    writing.save(path, np.stack([row] * 3, -1)[np.newaxis], bits=16)
    levels = pixels_of(path)[0, :, 0] * 257
    np.testing.assert_allclose(levels, [0, 0, 0, 1, 25_546, 65_535, 65_535], atol=0.01)


@DEEP
def test_alpha_of_16_bits_is_written(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    alpha = np.linspace(0, 1, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    writing.save(path, np.full((HEIGHT, WIDTH, 3), 255.0), alpha, bits=16)
    pixels, again = reading.read(path)
    np.testing.assert_allclose(again, alpha, atol=1 / 65_535)
    np.testing.assert_allclose(pixels, 255, atol=0.01)


@DEEP
def test_one_input_is_one_file(tmp_path, ending):
    pixels = deep_noise() / 257
    for name in ("first", "second"):
        writing.save(tmp_path / f"{name}{ending}", pixels, metadata=METADATA, bits=16)
    first, second = ((tmp_path / f"{name}{ending}").read_bytes() for name in ("first", "second"))
    assert first == second


@DEEP
def test_other_programs_read_it(tmp_path, ending):
    """Pillow keeps the high byte."""
    path = tmp_path / f"out{ending}"
    writing.save(path, deep_noise() / 257, bits=16)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), deep_noise() >> 8)
        assert image.info["icc_profile"] == profiles.srgb_profile()


def test_a_smooth_sky_has_no_bands(tmp_path):
    """From one column to the next it changes by 0.02 levels: 8 bits have runs of 51 equal
    columns."""
    sky = np.linspace(180, 200, 1001, dtype=np.float32)
    pixels = np.repeat(np.tile(sky, (8, 1))[..., np.newaxis], 3, -1)
    longest = {}
    for bits in (8, 16):
        writing.save(tmp_path / "sky.png", pixels, bits=bits)
        row = pixels_of(tmp_path / "sky.png")[0, :, 0]
        longest[bits] = max(len(list(run)) for _, run in itertools.groupby(row))
        assert np.abs(row - sky).max() <= (0.501 if bits == 8 else 0.51 / 257)
    assert longest == {8: 51, 16: 1}


def test_other_bits_than_8_and_16_are_refused(tmp_path):
    refused = error_of(save_picture, tmp_path / "x.png", noise(), bits=12, kind=UsageError)
    assert refused == "bits is 12: use 8 or 16"


@pytest.mark.parametrize("name, what", [("x.jpg", "JPEG"), ("x.webp", "WebP"), ("x.bmp", "BMP")])
def test_formats_of_8_bits_refuse_16(tmp_path, name, what):
    message = f"bits 16 is for .png and .tif: {tmp_path / name} would be a {what} file, which"
    for save in (writing.save, save_picture):
        refused = error_of(save, tmp_path / name, noise(), bits=16, kind=UsageError)
        assert refused == f"{message} holds 8"
    assert list(tmp_path.iterdir()) == []


def test_the_python_interface_writes_16_bits(tmp_path):
    pixels = deep_noise().astype(np.float32) / 257
    save_picture(tmp_path / "out.tif", pixels, bits=16)
    np.testing.assert_array_equal(read_picture(tmp_path / "out.tif"), pixels)
    soft = np.dstack([pixels, np.full((HEIGHT, WIDTH), 128)])
    save_picture(tmp_path / "out.png", soft, bits=16)
    alpha = reading.read(tmp_path / "out.png").alpha
    np.testing.assert_allclose(alpha, 128 / 255, atol=1 / 65_535)


@pytest.mark.parametrize("quality", [1, 60, 100])
def test_the_quality_of_a_jpeg(tmp_path, quality):
    path = tmp_path / "out.jpg"
    writing.save(path, noise(), jpeg_quality=quality)
    with Image.open(path) as image:
        tables = image.quantization
    Image.fromarray(noise()).save(tmp_path / "pillow.jpg", quality=quality)
    with Image.open(tmp_path / "pillow.jpg") as image:
        assert tables == image.quantization


def test_a_number_in_a_tiff_that_looks_like_a_tag_is_left_as_it_is():
    width = 275 + (4 << 16)  # the bytes of an entry's tag and type
    image = Image.open(io.BytesIO(deep_files.tiff(np.full((1, width, 3), 7, np.uint8), {})))
    assert image.size == (width, 1)
    assert np.asarray(image).min() == np.asarray(image).max() == 7


def test_strips_that_32_bits_do_not_reach_are_refused(monkeypatch):
    class Large(bytes):
        def __len__(self):
            return 3_000_000_000

    monkeypatch.setattr(deep_files, "_strip", lambda samples: Large())
    monkeypatch.setattr(deep_files, "_PART_BYTES", 1)  # of one row each
    assert error_of(deep_files.tiff, np.zeros((2, 8, 3), np.uint8), {}) == (
        "a TIFF holds 4 GB, and the picture takes 6.0: end its name in .png"
    )


def test_a_tiff_larger_than_4_gb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(deep_files, "_MOST_TIFF_BYTES", 10_000)
    path = tmp_path / "out.tif"
    assert error_of(writing.save, path, noise(200, 200), bits=16) == (
        "a TIFF holds 4 GB, and the picture takes 0.0: end its name in .png"
    )
    assert not path.exists()
