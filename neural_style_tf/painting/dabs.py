"""Dabs: a picture that was enlarged -> the same in dabs of paint with edges.

The pixels of a photo that was enlarged twice or more are blurred dots, and so are the ends of
strokes. The network takes them for shapes, and they would be painted. So larger stages begin with
dabs, and see the photo in dabs, too: see docs/quality.md.
"""

import math

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import precision
from neural_style_tf.pictures import resampling

# A picture is made smaller by powers of this factor. By the largest that takes from it at most
# `LOST` of what its double takes, it can be made smaller without losing detail: measured on photos
# as they are, which lose a third or more, and enlarged ones.
FACTOR = math.sqrt(2)
MOST_POWERS = 8
LOST = 0.25
LEAST_LOST = 1.0  # grey levels: with less than that in its double, there is nothing to compare
LEAST_WIDTH = 2.0  # pixels: finer detail is the photo's own, and kept
RADIUS = math.sqrt(2)  # of dabs, times that width
LARGEST_RADIUS = 8  # pixels: larger dots than that went at an earlier stage
SECTORS = 8
SHARPNESS = 4  # the power of variances that sectors count by
LEAST_VARIANCE = 4.0  # grey levels squared, added to variances
BAND = 2**19  # pixels that are filtered at a time


def detail_width(photo: np.ndarray) -> float:
    """How many pixels wide the finest detail of a photo [H, W, 3] is, by halves of octaves; 1 for
    one that is sharp, and about as many as it was enlarged by for another."""
    most = min(MOST_POWERS, int(math.log(min(photo.shape[:2]), FACTOR)) - 2)
    lost = {power: _lost(photo, FACTOR**power) for power in range(1, most + 3)}
    for power in range(most, 0, -1):
        double = lost[power + 2]
        if double > LEAST_LOST and lost[power] <= LOST * double:
            return FACTOR**power
    return 1.0


def _lost(photo: np.ndarray, factor: float) -> float:
    """What a photo loses when it is made smaller and enlarged again: the root mean square, in grey
    levels."""
    smaller = (max(1, round(side / factor)) for side in photo.shape[:2])
    return float(np.sqrt(np.mean(resampling.detail(photo, *smaller) ** 2)))


def radius(width: float) -> int:
    """Of dabs, in pixels, for a photo with detail of that width; 0 for none."""
    return min(LARGEST_RADIUS, round(RADIUS * width)) if width >= LEAST_WIDTH else 0


def in_dabs(picture: np.ndarray, radius: int, wraps: bool = False) -> np.ndarray:
    """A picture [1, H, W, 3] float32 RGB, 0..255, in which each pixel has the colour of the sectors
    around it that vary least: edges stay, and what is smaller than the radius goes.

    Papari et al. 2007, "Artistic Edge and Corner Enhancing Smoothing"; the shape of the sectors is
    that of Kyprianidis et al. 2010, "Anisotropic Kuwahara Filtering with Polynomial Weighting
    Functions". wraps: whether its opposite edges meet.
    """
    edges = ((0, 0), (radius, radius), (radius, radius), (0, 0))
    padded = np.pad(picture, edges, "wrap" if wraps else "symmetric")
    kernels, result = tf.constant(_sectors(radius)), np.empty_like(picture)
    rows = max(1, BAND // picture.shape[2])
    with precision.without_tf32():
        for first in range(0, picture.shape[1], rows):
            last = min(first + rows, picture.shape[1])
            band = tf.constant(padded[0, first : last + 2 * radius])
            result[0, first:last] = _filtered(band, kernels).numpy()
    return result


@tf.function(autograph=False, reduce_retracing=True)
def _filtered(band: tf.Tensor, kernels: tf.Tensor) -> tf.Tensor:
    """Rows [h, W, 3] of a picture; the band also has the edges that kernels [k, k, 1, n] need."""
    channels = tf.transpose(band, (2, 0, 1))[..., tf.newaxis]
    means = tf.nn.conv2d(channels, kernels, 1, "VALID")
    squares = tf.nn.conv2d(tf.square(channels), kernels, 1, "VALID")
    variances = tf.reduce_sum(tf.nn.relu(squares - tf.square(means)), 0) + LEAST_VARIANCE
    shares = (tf.reduce_min(variances, -1, keepdims=True) / variances) ** SHARPNESS
    shares /= tf.reduce_sum(shares, -1, keepdims=True)
    return tf.transpose(tf.reduce_sum(means * shares, -1), (1, 2, 0))


def _sectors(radius: int) -> np.ndarray:
    """The weights of each sector, [2 radius + 1, 2 radius + 1, 1, sectors] float32; they sum to 1
    for each, overlap, and fall from the middle outwards."""
    down, across = np.mgrid[-radius : radius + 1, -radius : radius + 1] / (radius + 0.5)
    overlap, limit = 2 / (radius + 0.5), 1.5 * np.pi / SECTORS
    bend = (overlap + np.cos(limit)) / np.sin(limit) ** 2
    weights = []
    for angle in 2 * np.pi * np.arange(SECTORS) / SECTORS:
        along = across * np.cos(angle) + down * np.sin(angle)
        beside = down * np.cos(angle) - across * np.sin(angle)
        weights.append(np.maximum(0, along + overlap - bend * beside**2) ** 2)
    kernels = np.stack(weights, -1)
    kernels /= kernels.sum(-1, keepdims=True)
    kernels *= np.exp(-np.pi * (down**2 + across**2))[..., np.newaxis]
    return (kernels / kernels.sum((0, 1)))[:, :, np.newaxis].astype(np.float32)
