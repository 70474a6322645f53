"""Losses: features -> scalar. Pure tensor maths; no files, no printing.

Style statistics are sums over positions: the statistics of a picture are those of its parts added
up. What compares them with a target comes after.
"""

import tensorflow as tf


def content_loss(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of two features [1, h, w, channels].

    Gatys et al. 2016 eq. 1, as a mean instead of half the sum so that sizes compare.
    """
    return tf.reduce_mean(tf.math.squared_difference(features, target))


def gram_sum(features: tf.Tensor) -> tf.Tensor:
    """The products of every two channels, summed over positions: [channels, channels].

    Gatys et al. 2016 eq. 3. Additive over positions.
    """
    positions = tf.reshape(features, (-1, features.shape[-1]))  # [h*w, channels]
    return tf.matmul(positions, positions, transpose_a=True)


def gram(features: tf.Tensor) -> tf.Tensor:
    """`gram_sum` over h*w*channels: the same whatever the size of the picture."""
    return gram_sum(features) / tf.size(features, tf.float32)


def style_loss(gram: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of two Gram matrices. Gatys et al. 2016 eq. 4, as a mean."""
    return tf.reduce_mean(tf.math.squared_difference(gram, target))


def total_variation(picture: tf.Tensor) -> tf.Tensor:
    """Mean squared step to the pixel below, plus the same to the right. Picture [1, H, W, 3].

    Mahendran and Vedaldi 2015, section 3, with exponent beta = 2.
    """
    down = picture[:, 1:] - picture[:, :-1]
    right = picture[:, :, 1:] - picture[:, :, :-1]
    return tf.reduce_mean(tf.square(down)) + tf.reduce_mean(tf.square(right))
