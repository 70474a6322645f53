"""Statistics: the features of a picture -> what the losses need of them -> the losses."""

from typing import NamedTuple

import tensorflow as tf

from neural_style_tf.objective import colors, losses, neighbors
from neural_style_tf.objective.targets import Targets, by_region
from neural_style_tf.settings import Settings

# With `style_loss="neighbors"` the losses are numbers from 0 to about 1, whatever the painting.
# These bring them to the size that the default weights and smoothness expect; what they weigh
# relative to each other is by eye, see docs/quality.md.
STYLE_UNIT = 600.0
CONTENT_UNIT = 90_000.0
# How much statistics of the whole painting, and the shares of its colours, count next to the
# nearest columns.
MOMENTS_SHARE = 24.0
COLORS_SHARE = 20.0

Weights = dict[str, tf.Tensor]  # by layer [1, h, w, regions], 0..1: how much positions count


class Statistics(NamedTuple):
    """All that the losses need of a picture's features, by layer name. Additive over its parts."""

    content: dict[str, losses.Distance]
    style: dict[str, list[losses.Gram]]  # of each region, or of all
    neighbors: tf.Tensor  # the distance from the nearest columns, or 0 if these do not count
    colors: list[colors.Colors]  # of each region, or of all; [] if they do not count


def measure(
    features: dict[str, tf.Tensor],
    targets: Targets,
    settings: Settings,
    weights: Weights | None,
    counted: Weights | None,
) -> Statistics:
    """The statistics of a picture from its features. weights: the masks of the regions at each
    layer. counted: how much positions count where no feature is 0 instead, that is for neighbours
    and colours."""
    with_sums = settings.statistics() in losses.WITH_SUMS
    near, of_colors = tf.zeros(()), []
    if targets.neighbors is not None:
        near = neighbors.distance(features, targets.neighbors, neighbors.place_weights(counted))
        of_colors = [
            colors.measured(features[colors.LAYER], region)
            for region in weights_of_regions(counted, colors.LAYER)
        ]
    return Statistics(
        {name: losses.distance(features[name], target) for name, target in targets.content.items()},
        {name: grams_of(features[name], weights, name, with_sums) for name in targets.styles[0]},
        near,
        of_colors,
    )


def weights_of_regions(weights: Weights | None, layer: str) -> list[tf.Tensor | None]:
    """How much each position of a layer counts, [1, h, w] for each region; a single None for all
    alike."""
    return [None] if weights is None else tf.unstack(weights[layer], axis=-1)


def grams_of(
    features: tf.Tensor, weights: Weights | None, layer: str, with_sums: bool
) -> list[losses.Gram]:
    """The Gram of each region at a layer; a single one without regions."""
    regions = weights_of_regions(weights, layer)
    return [losses.gram(features, region, with_sums) for region in regions]


def compare(
    statistics: Statistics, targets: Targets, settings: Settings, shape: tf.TensorShape
) -> tuple[tf.Tensor, tf.Tensor]:
    """The weighted content and style losses of Gatys et al. 2016 eq. 7, of a picture of `shape`
    [1, H, W, 3]."""
    content = sum(
        (
            weight * losses.content_loss(statistics.content[layer], settings.content_loss)
            for layer, weight in settings.content_layer_weights().items()
        ),
        start=tf.zeros(()),  # a texture has no content
    )
    weights, pairs = [], []
    for number, share in enumerate(targets.shares):
        if targets.units is not None:
            share = share / targets.units.styles[number]
        for layer, weight in settings.style_layer_weights().items():
            gram = statistics.style[layer][targets.regions[number]]
            weights.append(share * weight)
            pairs.append((gram, targets.styles[number][layer]))
    style_losses = losses.style_losses(pairs, settings.statistics(), shape[1] * shape[2])
    style = sum(weight * loss for weight, loss in zip(weights, style_losses, strict=True))
    if targets.units is not None:
        content = CONTENT_UNIT * content / targets.units.content
        rows, columns = neighbors.size_in_places(shape[1], shape[2])
        near = statistics.neighbors / (rows * columns)
        palette = _color_loss(statistics.colors, targets)
        style = STYLE_UNIT * (near + MOMENTS_SHARE * style + COLORS_SHARE * palette)
    return settings.weight_of_content() * content, settings.weight_of_style() * style


def _color_loss(of_regions: list[colors.Colors], targets: Targets) -> tf.Tensor:
    assert targets.colors is not None  # as there are units
    distances = []
    for number, styles in by_region(targets.regions).items():
        share, target = sum(targets.shares[style] for style in styles), targets.colors[number]
        distances.append(share * colors.distance(of_regions[number], target))
    return tf.reduce_sum(tf.stack(distances))


def compare_and_derive(
    statistics: Statistics, targets: Targets, settings: Settings, shape: tf.TensorShape
) -> tuple[tf.Tensor, tf.Tensor, Statistics]:
    """The two losses of `compare`, and the gradient of their sum at each statistic."""
    with tf.GradientTape() as tape:
        tape.watch(statistics)
        content, style = compare(statistics, targets, settings, shape)
        total = content + style
    return content, style, tape.gradient(total, statistics, unconnected_gradients="zero")
