"""Objective: targets + weights + network -> `picture -> Evaluation(gradient, losses)`."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import tensorflow as tf

import losses
import vgg
from settings import Settings


class Evaluation(NamedTuple):
    """What an objective says of a picture [1, H, W, 3] float32 RGB, 0..255."""

    gradient: tf.Tensor  # [1, H, W, 3] float32, d total / d picture
    losses: dict[str, tf.Tensor]  # weighted float32 scalars: content, style, tv, total


Objective = Callable[[tf.Tensor], Evaluation]


class Targets(NamedTuple):
    """What the picture is pulled towards, by layer name."""

    content: dict[str, tf.Tensor]  # features [1, h, w, channels] of the photo
    styles: list[dict[str, losses.Gram]]  # of each painting


def measure_targets(
    network: vgg.Network, content: tf.Tensor, styles: list[tf.Tensor], settings: Settings
) -> Targets:
    """The targets of a photo and of one or more paintings, each [1, H, W, 3] RGB, 0..255."""

    def grams(style: tf.Tensor) -> dict[str, losses.Gram]:
        found = _features(network, style, settings.style_layer_weights(), settings)
        return {layer: losses.gram(of_layer) for layer, of_layer in found.items()}

    return Targets(
        _features(network, content, settings.content_layer_weights(), settings),
        [grams(style) for style in styles],
    )


def make_objective(network: vgg.Network, targets: Targets, settings: Settings) -> Objective:
    """The objective, traced once for each size of picture that it is given."""
    weighted = weighted_losses(network, targets, settings)

    @tf.function(reduce_retracing=False)
    def objective(picture: tf.Tensor) -> Evaluation:
        with tf.GradientTape() as tape:
            tape.watch(picture)
            terms = weighted(picture)
        return Evaluation(tape.gradient(terms["total"], picture), terms)

    return objective


def weighted_losses(
    network: vgg.Network, targets: Targets, settings: Settings
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """`picture -> losses`: Gatys et al. 2016 eq. 7, and total variation."""
    content_weights = settings.content_layer_weights()
    style_weights = settings.style_layer_weights()
    shares = settings.style_shares(len(targets.styles))

    def weighted(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        features = _features(network, picture, [*content_weights, *style_weights], settings)
        grams = {layer: losses.gram(features[layer]) for layer in style_weights}
        pixels = picture.shape[1] * picture.shape[2]
        content = sum(
            weight
            * losses.content_loss(features[layer], targets.content[layer], settings.content_loss)
            for layer, weight in content_weights.items()
        )
        style = sum(
            share
            * weight
            * losses.style_loss(grams[layer], target[layer], settings.style_loss, pixels)
            for share, target in zip(shares, targets.styles, strict=True)
            for layer, weight in style_weights.items()
        )
        smoothness = losses.total_variation(picture, settings.tv_loss)
        terms = {
            "content": settings.content_weight * content,
            "style": settings.style_weight * style,
            "tv": settings.tv_weight * smoothness,
        }
        return terms | {"total": tf.add_n(list(terms.values()))}

    return weighted


def _features(
    network: vgg.Network, picture: tf.Tensor, layers: Iterable[str], settings: Settings
) -> dict[str, tf.Tensor]:
    return vgg.features(
        network,
        picture,
        list(layers),
        settings.pooling,
        settings.padding,
        settings.pooling_rescale,
    )
