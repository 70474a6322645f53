"""Colors: how far the colours of a picture, wherever they are, are from those of the paintings.

The distribution of the colours along a direction of RGB is known by its characteristic function:
the mean of exp(i t x) over all positions, for some frequencies t. The squared differences of two of
these over t^2 are the Cramér distance of the distributions, the integral of the squared difference
of their cumulative functions. Székely and Rizzo 2013, "Energy statistics: A class of statistics
based on distances", section 2. It is averaged over directions, as Rabin et al. 2011, "Wasserstein
Barycenter and its Application to Texture Mixing", section 3, do with another distance.

Means are additive over the parts of a picture, and a gradient depends on the colour alone: equal
colours remain equal.
"""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.network import fused

LAYER = "colors"  # what the positions are called among the layers of the network
STRIDE = 2  # pixels per side of a position: its colour is their mean
HARMONICS = 4  # frequencies along each direction: half a period over 0..255, and multiples of it
BAND = 256  # rows of a painting that are measured at a time


def _directions() -> np.ndarray:
    """[3, 13] float32: the edges, diagonals and space diagonals of the RGB cube, of length 1; times
    the lowest frequency, in radians per grey level."""
    steps = [np.array(step) for step in itertools.product((-1, 0, 1), repeat=3)]
    ahead = steps[len(steps) // 2 + 1 :]  # the others lead back
    each = [step / np.linalg.norm(step) for step in ahead]
    return np.array(each, np.float32).T * np.float32(np.pi / 255)


DIRECTIONS = _directions()
_ORDERS = np.arange(1, HARMONICS + 1, dtype=np.float32)[:, np.newaxis, np.newaxis]


class Colors(NamedTuple):
    """The colours of a picture. Additive over its parts."""

    waves: tf.Tensor  # [harmonics, 2, directions] float32: cosines and sines, summed
    positions: tf.Tensor  # their number, a float32 scalar


def bytes_per_pixel() -> float:
    """Of what is held at the same time: cosines, sines and slopes of all orders, in float32."""
    return 4 * 3 * HARMONICS * DIRECTIONS.shape[1] / STRIDE**2


def at_positions(picture: tf.Tensor) -> tf.Tensor:
    """The colours of a picture [1, H, W, 3] float32 RGB at each position, [1, h, w, 3]."""
    return tf.nn.avg_pool2d(picture, STRIDE, STRIDE, "SAME")


def from_positions(gradient: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """The gradient at a picture of that shape from the one at `at_positions` of it."""
    _, height, width, _ = shape
    counts = [_pixels(length).reshape(form) for length, form in ((height, (-1, 1)), (width, -1))]
    gradient = gradient / (counts[0] * counts[1])[..., np.newaxis]
    for axis in (1, 2):
        gradient = tf.repeat(gradient, STRIDE, axis)
    return gradient[:, :height, :width]


def _pixels(length: int) -> np.ndarray:
    """How many pixels the positions along a side have; the last may have fewer."""
    return np.diff(np.minimum(np.arange(0, length + STRIDE, STRIDE), length)).astype(np.float32)


def measured(colors: tf.Tensor, weights: tf.Tensor | None = None) -> Colors:
    """Of `at_positions` of a picture. weights: [1, h, w], 0..1, how much each position counts."""
    angles = _angles(colors)
    count = tf.constant(angles.shape[0], tf.float32)
    if weights is not None:
        weights = tf.reshape(weights, (-1, 1))
        count = tf.reduce_sum(weights)
    return Colors(fused.on_gpu(_waves)(angles, weights), count)


def _waves(angles: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """`Colors.waves` of `_angles`. weights: [positions, 1]."""
    harmonics = _harmonics(angles)
    if weights is not None:
        harmonics = [(weights * cosine, weights * sine) for cosine, sine in harmonics]
    waves = [[tf.reduce_sum(part, 0) for part in of_order] for of_order in harmonics]
    return tf.convert_to_tensor(waves)


def measured_painting(painting: np.ndarray, source: np.ndarray | None) -> Colors:
    """Of a painting [1, H, W, 3] float32 RGB, 0..255, as a mean: of one position in all. source:
    [1, H, W, 1], where it is learnt."""
    total = None
    for first in range(0, painting.shape[1], BAND):
        band = slice(None), slice(first, first + BAND)
        weights = None if source is None else at_positions(tf.constant(source[band]))[..., 0]
        part = measured(at_positions(tf.constant(painting[band])), weights)
        total = part if total is None else tf.nest.map_structure(tf.add, total, part)
    assert total is not None  # every picture has a row
    return Colors(total.waves / total.positions, tf.ones(()))


def mixed(paintings: list[Colors], shares: list[float]) -> Colors:
    """All colours of several paintings, by their shares; alike if all shares are 0."""
    shares = shares if any(shares) else [1.0] * len(shares)
    parts = zip(paintings, shares, strict=True)
    waves = sum(share / sum(shares) * of_painting.waves for of_painting, share in parts)
    return Colors(waves, tf.ones(()))


def distance(colors: Colors, target: Colors) -> tf.Tensor:
    """The distance of the colours from their target, a float32 scalar: 0 to about 1."""
    means = colors.waves / (colors.positions + 1e-6)  # a region may be empty
    squares = tf.math.squared_difference(means, target.waves) / _ORDERS**2
    return tf.reduce_sum(squares) / DIRECTIONS.shape[1]


def gradient(colors: tf.Tensor, slope: Colors, weights: tf.Tensor | None = None) -> tf.Tensor:
    """The gradient at the colours [1, h, w, 3] of a loss with the derivative `slope.waves`.
    weights: as for `measured`."""
    if weights is not None:
        weights = tf.reshape(weights, (-1, 1))
    along = fused.on_gpu(_along)(_angles(colors), slope.waves, weights)
    return tf.reshape(along @ DIRECTIONS.T, colors.shape)


def _along(angles: tf.Tensor, waves: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """The gradient at `_angles` from that at `Colors.waves`. weights: [positions, 1]."""
    slopes = tf.unstack(_ORDERS * waves)
    parts = [
        sines * cosine - cosines * sine
        for (cosines, sines), (cosine, sine) in zip(
            map(tf.unstack, slopes), _harmonics(angles), strict=True
        )
    ]
    along = tf.reduce_sum(tf.stack(parts), 0)  # in one order, unlike a chain of additions
    return along if weights is None else along * weights


def _angles(colors: tf.Tensor) -> tf.Tensor:
    """Of colours [1, h, w, 3] along each direction, at the lowest frequency: in radians,
    [positions, directions]."""
    return tf.reshape(colors, (-1, 3)) @ DIRECTIONS


def _harmonics(angles: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """The cosines and sines of each order, [positions, directions], by their sums of angles."""
    cosine, sine = tf.cos(angles), tf.sin(angles)
    result = [(cosine, sine)]
    while len(result) < HARMONICS:
        last_cosine, last_sine = result[-1]
        result.append(
            (last_cosine * cosine - last_sine * sine, last_sine * cosine + last_cosine * sine)
        )
    return result
