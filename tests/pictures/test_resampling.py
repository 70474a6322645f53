"""Resampling: pictures at another size, whole and from bands of rows."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from samples import HEIGHT, WIDTH, noise, p3_profile, picture, rgba_picture, stacked, write
from shared import ROOT

from neural_style_tf.pictures import decoding, reading, resampling
from neural_style_tf.pictures.sizes import Placement

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
    monkeypatch.setattr(reading, "MOST_COLOR_OF_MASK", 255)  # masks of coloured noise
    for path in files_of_all_kinds(tmp_path):
        monkeypatch.setattr(decoding, "BAND_PIXELS", 1 << 20)
        pixels, alpha = reading.read(path)
        mask = reading.read_mask(path)
        monkeypatch.setattr(decoding, "BAND_PIXELS", band)
        for size in SIZES:
            resized = reading.read(path, size_of=lambda *_, size=size: size)
            np.testing.assert_array_equal(resized.pixels, resampling.resize(pixels, *size))
            assert (resized.alpha is None) == (alpha is None)
            if alpha is not None:
                np.testing.assert_array_equal(resized.alpha, resampling.resize(alpha, *size))
            resized = reading.read_mask(path, size_of=lambda *_, size=size: size)
            np.testing.assert_array_equal(resized, resampling.resize(mask, *size))


def test_a_large_picture_is_resized_to_rounding(tmp_path, monkeypatch):
    monkeypatch.setattr(resampling, "MAX_RESIZED_BY_PILLOW", 0)
    monkeypatch.setattr(decoding, "BAND_PIXELS", 150)
    for path in files_of_all_kinds(tmp_path):
        pixels, alpha = reading.read(path)
        for size in SIZES:
            resized = reading.read(path, size_of=lambda *_, size=size: size)
            np.testing.assert_allclose(resized.pixels, resampling.resize(pixels, *size), atol=0.01)
            assert (resized.alpha is None) == (alpha is None)
            if alpha is not None:
                np.testing.assert_allclose(
                    resized.alpha, resampling.resize(alpha, *size), atol=1e-4
                )


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


BOXES = [  # of a picture of 40x56: with whole and broken edges, reduced, enlarged and cut out
    ((20, 20), (0, 8, 40, 40)),
    ((30, 64), (5.25, 3.5, 18.75, 40)),
    ((17, 31), (11.5, 24.5, 17, 31)),
]


@pytest.mark.parametrize("size, box", BOXES)
@pytest.mark.parametrize("most, tolerance", [(0, 0.01), (1 << 20, 0)])
@pytest.mark.parametrize("band", [1, 1000])
def test_a_part_of_a_picture_is_what_pillow_makes_of_it(
    tmp_path, monkeypatch, size, box, most, tolerance, band
):
    monkeypatch.setattr(resampling, "MAX_RESIZED_BY_PILLOW", most)
    monkeypatch.setattr(decoding, "BAND_PIXELS", band)
    path = write(tmp_path / "soft.png", Image.fromarray(rgba_picture()[0]))
    whole = reading.read(path).pixels
    read = reading.read(path, size_of=lambda *_: Placement(size, box))
    top, left, height, width = box
    for channel in range(3):
        if (height, width) == size:
            expected = whole[11:28, 24:55, channel]
        else:
            edges = (left, top, left + width, top + height)
            image = Image.fromarray(np.ascontiguousarray(whole[..., channel]))
            expected = image.resize(size[::-1], Image.Resampling.LANCZOS, edges)
            expected = np.asarray(expected).clip(0, 255)
        np.testing.assert_allclose(read.pixels[..., channel], expected, atol=tolerance)
    assert read.alpha.shape == size


def test_what_is_padded_is_mirrored(tmp_path):
    path = write(tmp_path / "rgb.png", noise())
    whole = reading.read(path).pixels
    mirrored = ((3, 4), (2, 0))
    padded = reading.read(path, size_of=lambda *size: Placement(size, None, mirrored)).pixels
    assert padded.shape == (HEIGHT + 7, WIDTH + 2, 3)
    np.testing.assert_array_equal(padded[3:-4, 2:], whole)
    np.testing.assert_array_equal(padded[2::-1, 2:], whole[:3])
    np.testing.assert_array_equal(padded[-4:, 2:], whole[:-5:-1])
    np.testing.assert_array_equal(padded[3:-4, 1::-1], whole[:, :2])
