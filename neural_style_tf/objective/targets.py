"""Targets: measurements of a photo and of paintings -> what the losses compare a picture with."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from neural_style_tf.objective import losses
from neural_style_tf.objective.colors import Colors
from neural_style_tf.objective.neighbors import NeighborTarget
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings


class Targets(NamedTuple):
    """What the features of the picture are compared with, by layer name."""

    content: dict[str, tf.Tensor]  # features [1, h, w, channels] of the photo
    styles: list[dict[str, losses.StyleTarget]]  # of each painting
    shares: list[float]  # of each painting, in the style loss
    regions: list[int]  # the number of the region that each painting paints
    # with `style_loss="neighbors"`, and only then:
    neighbors: NeighborTarget | None = None
    units: "Units | None" = None
    colors: dict[int, Colors] | None = None  # by the number of the region


class Units(NamedTuple):
    """What losses are divided by, so that they mean the same for every painting: the losses of a
    picture without any features. Float32 scalars."""

    content: tf.Tensor
    styles: list[tf.Tensor]  # of each painting's statistics


def make_targets(
    content: dict[str, tf.Tensor],
    styles: list[dict[str, losses.Gram]],
    settings: Settings,
    masks: Masks,
) -> Targets:
    """The targets from what was measured. For "wasserstein" the paintings of a region are blended
    into one Gaussian by their moments: what is nearest to several Gaussians resembles none of
    them."""
    shares, regions = masks.shares(settings, len(styles)), masks.numbers(len(styles))
    if settings.statistics() == "wasserstein":
        styles, shares, regions = _blended_by_region(styles, shares, regions)
    targets = [
        {layer: losses.style_target(gram, settings.statistics()) for layer, gram in of.items()}
        for of in styles
    ]
    return Targets(content, targets, [float(share) for share in shares], regions)


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


def units_of(targets: Targets, mean_squares: Mapping[str, float], settings: Settings) -> Units:
    """The units of the losses with these targets. mean_squares: of the paintings' features, by
    content layer."""
    content = sum(
        weight * mean_squares[layer] for layer, weight in settings.content_layer_weights().items()
    )
    weights = settings.style_layer_weights()
    styles = [
        _or_one(sum(weight * _loss_of_nothing(style[layer]) for layer, weight in weights.items()))
        for style in targets.styles
    ]
    return Units(_or_one(tf.constant(content, tf.float32)), styles)


def _or_one(unit: tf.Tensor) -> tf.Tensor:
    """The unit, or 1 instead of 0: all layers may have the weight 0."""
    return tf.where(unit > 0, unit, tf.ones_like(unit))


def _loss_of_nothing(target: losses.StyleTarget) -> tf.Tensor:
    """The moments' loss of a picture that has no features."""
    assert isinstance(target, losses.MomentTarget)
    zeros = losses.Gram(tf.zeros_like(target.second), 1.0, tf.zeros_like(target.mean))
    return losses.style_loss(zeros, target, "moments")
