"""Targets: measurements of a photo and of paintings -> what the losses compare a picture with."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from neural_style_tf.objective import losses
from neural_style_tf.objective.colors import Colors
from neural_style_tf.objective.neighbors import NeighborTarget
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings

LEAST_ROOT = 1e-4  # of the largest: a layer that a painting leaves dark would count without limit


class Targets(NamedTuple):
    """What the features of the picture are compared with, by layer name."""

    content: dict[str, tf.Tensor]  # features [1, h, w, channels] of the photo
    styles: list[dict[str, losses.StyleTarget]]  # of each painting
    shares: list[float]  # of each painting, in the style loss
    regions: list[int]  # the number of the region that each painting paints
    # of each layer of each painting: the settings' own, or float32 scalars with which the losses
    # mean the same for every painting
    style_weights: list[dict[str, Any]]
    # with `style_loss="neighbors"`, and only then:
    content_unit: tf.Tensor | None = None
    neighbors: NeighborTarget | None = None
    colors: dict[int, Colors] | None = None  # by the number of the region


def make_targets(
    content: dict[str, tf.Tensor],
    styles: list[dict[str, losses.Gram]],
    settings: Settings,
    masks: Masks,
    pixels: int,
) -> Targets:
    """The targets from what was measured, of a picture with that many pixels. For "wasserstein" the
    paintings of a region are blended into one Gaussian by their moments: what is nearest to several
    Gaussians resembles none of them."""
    shares, regions = masks.shares(settings, len(styles)), masks.numbers(len(styles))
    if settings.statistics() == "wasserstein":
        styles, shares, regions = _blended_by_region(styles, shares, regions)
    targets = [
        {layer: losses.style_target(gram, settings.statistics()) for layer, gram in of.items()}
        for of in styles
    ]
    weights: list[dict[str, Any]] = [settings.style_layer_weights()] * len(targets)
    if settings.equalizes_styles:
        weights = [_equal_weights(target, settings, pixels) for target in targets]
    return Targets(content, targets, [float(share) for share in shares], regions, weights)


def by_region(regions: list[int]) -> dict[int, list[int]]:
    """The numbers of the paintings of each region, by its number. regions: as in `Targets`."""
    return {
        number: [style for style, region in enumerate(regions) if region == number]
        for number in sorted(set(regions))
    }


def _blended_by_region(
    styles: list[dict[str, losses.Gram]], shares: list[float], regions: list[int]
) -> tuple[list[dict[str, losses.Gram]], list[float], list[int]]:
    """One style for each region, with its share."""
    of_regions = by_region(regions)
    blended, sums = [], []
    for own in of_regions.values():
        weights = [shares[style] for style in own]
        sums.append(sum(weights))
        blended.append(
            {
                layer: _blended([styles[style][layer] for style in own], weights)
                for layer in styles[0]
            }
            if len(own) > 1
            else styles[own[0]]
        )
    return blended, sums, list(of_regions)


def _blended(grams: list[losses.Gram], shares: list[float]) -> losses.Gram:
    shares = shares if any(shares) else [1.0] * len(shares)
    parts = [
        share / sum(shares) / gram.positions for share, gram in zip(shares, grams, strict=True)
    ]
    return losses.Gram(
        sum(part * gram.products for part, gram in zip(parts, grams, strict=True)),
        tf.ones(()),
        sum(part * gram.sums for part, gram in zip(parts, grams, strict=True)),
    )


def content_unit(mean_squares: Mapping[str, float], settings: Settings) -> tf.Tensor:
    """The content loss of a picture without features, as large as those of paintings. mean_squares:
    of the paintings' features, by content layer."""
    weights = settings.content_layer_weights()
    unit = sum(weight * mean_squares[layer] for layer, weight in weights.items())
    return _or_one(tf.constant(unit, tf.float32))


def _equal_weights(
    target: Mapping[str, losses.StyleTarget], settings: Settings, pixels: int
) -> dict[str, tf.Tensor]:
    """With these weights the sum of a painting's style losses is 1 for a picture without features.
    What each layer has of it is the root of what it had: otherwise some have a hundred thousand
    times more than others, which is to say that two of them count."""
    weights = settings.style_layer_weights()
    roots = {
        layer: tf.sqrt(losses.loss_of_nothing(target[layer], settings.statistics(), pixels))
        for layer in weights
    }
    least = LEAST_ROOT * tf.reduce_max(list(roots.values()))
    roots = {layer: _or_one(tf.maximum(root, least)) for layer, root in roots.items()}
    total = _or_one(sum((weights[layer] * roots[layer] for layer in weights), start=tf.zeros(())))
    return {layer: weight / (roots[layer] * total) for layer, weight in weights.items()}


def _or_one(unit: tf.Tensor) -> tf.Tensor:
    """The unit, or 1 instead of 0: all layers may have the weight 0."""
    return tf.where(unit > 0, unit, tf.ones_like(unit))
