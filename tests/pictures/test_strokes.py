"""How wide the strokes of a painting are."""

import numpy as np
import pytest

from neural_style_tf.pictures import resampling, strokes


def stripes(width, side=512):
    """A square picture of pale and dark stripes, each that many pixels wide."""
    row = np.where(np.arange(side) // width % 2, 40, 220).astype(np.float32)
    return np.broadcast_to(row[None, :, None], (side, side, 3))


@pytest.mark.parametrize("width", [3, 5, 8, 12])
def test_stripes_are_as_wide_as_they_are(width):
    assert strokes.width(stripes(width)) == pytest.approx(100 * width / 512, rel=0.15)


def test_the_width_is_relative_to_the_long_side():
    picture = stripes(6)
    expected = strokes.width(picture)
    assert strokes.width(stripes(12, 1024)) == pytest.approx(expected, rel=0.02)
    assert strokes.width(picture[:256]) == pytest.approx(expected, rel=0.02)
    assert strokes.width(resampling.resize(picture, 300, 300)) == pytest.approx(expected, rel=0.1)


def test_neither_direction_nor_contrast_nor_colour_change_it():
    picture, expected = stripes(6), strokes.width(stripes(6))
    assert strokes.width(picture.transpose(1, 0, 2)) == pytest.approx(expected, rel=1e-3)
    assert strokes.width(255 - picture / 4) == pytest.approx(expected, rel=1e-3)


def test_a_picture_without_any_has_one_percent():
    assert strokes.width(np.full((64, 48, 3), 90, np.float32)) == 1.0
