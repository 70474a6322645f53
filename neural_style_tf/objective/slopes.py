"""Slopes: the style losses of all layers, and their derivatives at the statistics, written out.

The same as `losses.style_losses` and a GradientTape, in a tenth of the operations: on a GPU each is
a kernel, however small its tensors are.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import tensorflow as tf

from neural_style_tf.objective.losses import Gaussian, Gram, MomentTarget, StyleTarget


class Term(NamedTuple):
    """A Gram of the picture, its target, and the weight of their loss."""

    gram: Gram
    target: StyleTarget  # no Gaussian
    weight: tf.Tensor | float


def weighted_sum(
    terms: Sequence[Term], scale: str, pixels: float, outer: float
) -> tuple[tf.Tensor, list[Gram]]:
    """The weighted sum of the terms' losses, a float32 scalar; and for each term the derivatives at
    its Gram of `outer` times this sum, with 0 for `Gram.positions`. scale: any but "wasserstein",
    as for `losses.style_loss`."""
    values, at_products = [], []
    for gram, target, weight in terms:
        ours, theirs, factor = _factors(gram, target, scale, pixels)
        assert not isinstance(target, Gaussian)
        products = target.second if isinstance(target, MomentTarget) else target.products
        difference = ours * gram.products - theirs * products
        factor *= weight
        values.append(factor * tf.reduce_sum(tf.square(difference)))
        at_products.append(2 * outer * factor * ours * difference)
    at_sums = [tf.zeros_like(term.gram.sums) for term in terms]
    if scale == "moments":
        value, at_diagonals, at_sums = _of_moments(terms, outer)
        values.append(value)
        at_products = [
            products + tf.linalg.diag(diagonal)
            for products, diagonal in zip(at_products, at_diagonals, strict=True)
        ]
    slopes = [
        Gram(products, tf.zeros(()), sums)
        for products, sums in zip(at_products, at_sums, strict=True)
    ]
    return tf.reduce_sum(tf.stack(values)), slopes


def _factors(
    gram: Gram, target: StyleTarget, scale: str, pixels: float
) -> tuple[tf.Tensor | float, tf.Tensor | float, float]:
    """What the products of the picture are multiplied with, those of the target, and the squares of
    the differences."""
    channels = gram.products.shape[-1]
    if scale in ("mean", "moments"):
        theirs = target.positions if isinstance(target, Gram) else 1.0
        return 1 / (gram.positions * channels), 1 / (theirs * channels), 1 / channels**2
    # the target is divided by the picture's size, too
    factor = 0.5 / (gram.positions * channels if scale == "layer" else 3 * pixels)
    return factor, factor, 1.0


def _of_moments(
    terms: Sequence[Term], outer: float
) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
    """The losses of means and deviations of "moments", and their derivatives at the diagonals of
    `Gram.products` and at `Gram.sums`, times `outer`. The channels of all layers are one vector."""
    targets = [term.target for term in terms if isinstance(term.target, MomentTarget)]
    channels = [target.mean.shape[0] for target in targets]

    def joined(vectors: Iterable[tf.Tensor]) -> tf.Tensor:
        return tf.concat(list(vectors), 0)  # [channels of all layers]

    weight = joined(
        term.weight / count * target.unit
        for term, target, count in zip(terms, targets, channels, strict=True)
    )
    count = joined(tf.fill(term.gram.sums.shape, term.gram.positions) for term in terms)
    mean = joined(term.gram.sums for term in terms) / count
    squares = joined(tf.linalg.diag_part(term.gram.products) for term in terms) / count
    variance = squares - tf.square(mean)
    deviation = tf.sqrt(tf.nn.relu(variance) + joined(target.least for target in targets))
    away = mean - joined(target.mean for target in targets)
    spread = deviation - joined(target.deviation for target in targets)
    value = tf.reduce_sum(weight * (tf.square(away) + tf.square(spread)))
    # d deviation / d variance = 1 / (2 deviation), and d variance / d mean = -2 mean
    at_variance = tf.where(variance > 0, weight * spread / deviation, 0.0)
    at_mean = 2 * (weight * away - at_variance * mean)
    return (
        value,
        tf.split(outer / count * at_variance, channels),
        tf.split(outer / count * at_mean, channels),
    )
