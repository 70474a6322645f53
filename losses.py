"""Losses: features -> scalar. Pure tensor maths; no files, no printing.

Style statistics are sums over positions: the statistics of a picture are those of its parts added
up. What compares them with a target comes after.
"""

from typing import NamedTuple

import tensorflow as tf


def content_loss(features: tf.Tensor, target: tf.Tensor, reduction: str = "mean") -> tf.Tensor:
    """Squared differences of two features [1, h, w, channels], as their "mean" or "sum".

    Gatys et al. 2016 eq. 1 is half the sum; means are alike at every size of picture.
    """
    difference = tf.math.squared_difference(features, target)
    return {"mean": tf.reduce_mean, "sum": tf.reduce_sum}[reduction](difference)


class Gram(NamedTuple):
    """The style of features. Additive: the Gram of a picture is that of its parts added up."""

    products: tf.Tensor  # [channels, channels], every two channels, summed over positions
    positions: tf.Tensor  # their number, a float32 scalar


def gram(features: tf.Tensor) -> Gram:
    """F^T F of features [1, h, w, channels]: Gatys et al. 2016 eq. 3."""
    channels = features.shape[-1]
    positions = tf.reshape(features, (-1, channels))  # [h*w, channels]
    products = tf.matmul(positions, positions, transpose_a=True)
    return Gram(products, tf.size(features, tf.float32) / channels)


def style_loss(gram: Gram, target: Gram, scale: str = "mean", pixels: float = 0) -> tf.Tensor:
    """Squared differences of two Grams over N channels, in one of the published scales.

    "mean": their mean, each Gram first divided by its M positions times N.
    "layer": their sum over 4 M^2 N^2, nothing divided before. Gatys et al. 2016 eq. 4.
    "picture": their sum over 4 * 3^2 * pixels^2, for the H*W `pixels` of the picture. Chollet's
        Keras example.
    """
    channels = gram.products.shape[-1]
    if scale == "mean":
        ours, theirs = (one.products / (one.positions * channels) for one in (gram, target))
        return tf.reduce_mean(tf.math.squared_difference(ours, theirs))
    size = {"layer": gram.positions * channels, "picture": 3 * pixels}[scale]
    # divided before it is squared: the squares of large pictures would overflow
    return tf.reduce_sum(tf.square((gram.products - target.products) / (2 * size)))


def total_variation(picture: tf.Tensor, kind: str = "squares") -> tf.Tensor:
    """How rough a picture [1, H, W, 3] is.

    "squares": mean squared step to the pixel below, plus the same to the right. Mahendran and
        Vedaldi 2015, section 3, with exponent beta = 2.
    "power": sum of (dy^2 + dx^2)^1.25 over the pixels that have both neighbours (beta = 2.5).
    """
    down = tf.square(picture[:, 1:] - picture[:, :-1])
    right = tf.square(picture[:, :, 1:] - picture[:, :, :-1])
    if kind == "squares":
        return tf.reduce_mean(down) + tf.reduce_mean(right)
    return tf.reduce_sum((down[:, :, :-1] + right[:, :-1]) ** 1.25)
