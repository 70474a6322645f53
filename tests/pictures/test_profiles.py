"""Profiles: colours are converted to sRGB; broken profiles are ignored."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from samples import (
    HEIGHT,
    P3,
    WIDTH,
    gamma_curve,
    grey_picture,
    icc,
    noise,
    number,
    p3_profile,
    picture,
    pixels_of,
    stacked,
    write,
    xyz,
)

from neural_style_tf.pictures import reading

SRGB = np.array(
    [(0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410)]
)


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
