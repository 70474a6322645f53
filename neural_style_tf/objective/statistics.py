"""Statistics: the features of a picture -> what the losses need of them -> the losses."""

import functools
from typing import NamedTuple

import tensorflow as tf

from neural_style_tf.network import device, fused
from neural_style_tf.objective import colors, losses, neighbors, slopes
from neural_style_tf.objective.slopes import Term
from neural_style_tf.objective.targets import Targets, by_region
from neural_style_tf.settings import Settings

# Losses that are divided by their units are numbers from 0 to about 1, whatever the painting. These
# bring them to the size that the default weights and smoothness expect: what is usual for losses
# that are not divided; and with neighbors what they weigh relative to each other is by eye, see
# docs/quality.md.
STYLE_UNIT = 17_000.0
NEIGHBORS_UNIT = 600.0
CONTENT_UNIT = 313_000.0
# How much statistics of the whole painting, and the shares of its colours, count next to the
# nearest columns.
MOMENTS_SHARE = 96.0
COLORS_SHARE = 20.0
# How many times more the statistics count at `stylization` 1 than in the middle: with less of the
# photo alone, places hardly come nearer to the painting. Measured at 0.7, see docs/quality.md.
STATISTICS_RANGE = 16.0

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
    in_blocks: bool = False,
) -> Statistics:
    """The statistics of a picture from its features. weights: the masks of the regions at each
    layer. counted: how much positions count where no feature is 0 instead, that is for neighbours
    and colours. in_blocks: whether Grams may be; they are summed by `derived`."""
    kind = settings.statistics()
    how = kind in losses.WITH_SUMS, kind == "wasserstein", in_blocks
    near, of_colors = tf.zeros(()), []
    if targets.neighbors is not None:
        near = neighbors.distance(features, targets.neighbors, neighbors.place_weights(counted))
        of_colors = [
            colors.measured(features[colors.LAYER], region)
            for region in weights_of_regions(counted, colors.LAYER)
        ]
    return Statistics(
        {name: losses.distance(features[name], target) for name, target in targets.content.items()},
        {name: grams_of(features[name], weights, name, *how) for name in targets.styles[0]},
        near,
        of_colors,
    )


def weights_of_regions(weights: Weights | None, layer: str) -> list[tf.Tensor | None]:
    """How much each position of a layer counts, [1, h, w] for each region; a single None for all
    alike."""
    return [None] if weights is None else tf.unstack(weights[layer], axis=-1)


def grams_of(
    features: tf.Tensor,
    weights: Weights | None,
    layer: str,
    with_sums: bool,
    in_float32: bool = False,
    in_blocks: bool = False,
) -> list[losses.Gram]:
    """The Gram of each region at a layer; a single one without regions."""
    regions = weights_of_regions(weights, layer)
    return [losses.gram(features, region, with_sums, in_float32, in_blocks) for region in regions]


def compare(
    statistics: Statistics,
    targets: Targets,
    settings: Settings,
    shape: tf.TensorShape,
    style: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The weighted content and style losses of Gatys et al. 2016 eq. 7, of a picture of `shape`
    [1, H, W, 3]. style: the sum of the style losses of all layers, if it is known."""
    content = sum(
        (
            weight * losses.content_loss(statistics.content[layer], settings.content_loss)
            for layer, weight in settings.content_layer_weights().items()
        ),
        start=tf.zeros(()),  # a texture has no content
    )
    if style is None:
        terms = list(_terms(statistics, targets).values())
        pairs = [(gram, target) for gram, target, _ in terms]
        of_terms = losses.style_losses(pairs, settings.statistics(), shape[1] * shape[2])
        style = sum(weight * loss for (_, _, weight), loss in zip(terms, of_terms, strict=True))
    style *= _scale(settings)
    if targets.content_unit is not None:
        content = CONTENT_UNIT * content / targets.content_unit
        rows, columns = neighbors.size_in_places(shape[1], shape[2])
        near = statistics.neighbors / (rows * columns)
        palette = _color_loss(statistics.colors, targets)
        style += NEIGHBORS_UNIT * (near + COLORS_SHARE * palette)
    return settings.weight_of_content() * content, settings.weight_of_style() * style


def _scale(settings: Settings) -> float:
    """What the sum of the paintings' losses is multiplied by."""
    if not settings.equalizes_styles:
        return 1.0
    if settings.style_loss != "neighbors":
        return STYLE_UNIT
    more = STATISTICS_RANGE ** max(0.0, 2 * settings.balance() - 1)
    return NEIGHBORS_UNIT * MOMENTS_SHARE * more


def _terms(statistics: Statistics, targets: Targets) -> dict[tuple[int, str], Term]:
    """What the style loss is a weighted sum of, by the number of the painting and the layer."""
    terms = {}
    for number, share in enumerate(targets.shares):
        for layer, weight in targets.style_weights[number].items():
            gram = statistics.style[layer][targets.regions[number]]
            terms[number, layer] = Term(gram, targets.styles[number][layer], share * weight)
    return terms


def _color_loss(of_regions: list[colors.Colors], targets: Targets) -> tf.Tensor:
    assert targets.colors is not None  # as there are units
    distances = []
    for number, styles in by_region(targets.regions).items():
        share, target = sum(targets.shares[style] for style in styles), targets.colors[number]
        distances.append(share * colors.distance(of_regions[number], target))
    return tf.reduce_sum(tf.stack(distances))


def derives_on_gpu(settings: Settings) -> bool:
    """Whether `derived` is compiled, if XLA works, and takes Grams `in_blocks`."""
    return device.is_gpu() and settings.statistics() != "wasserstein"


def derived(
    statistics: Statistics,
    targets: Targets,
    settings: Settings,
    shape: tf.TensorShape,
    dtype: tf.DType,
) -> tuple[tf.Tensor, tf.Tensor, Statistics]:
    """`compare_and_derive`; on a GPU compiled, unless it decomposes matrices. What is
    the same for all pictures of this size, such as the number of positions, is a constant there,
    and derivatives that nothing needs are 0."""
    if not derives_on_gpu(settings):
        return compare_and_derive(statistics, targets, settings, shape)
    leaves = tf.nest.flatten(statistics)
    constants = [tf.get_static_value(leaf) for leaf in leaves]

    def derive(variable: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tuple]:
        rest = iter(variable)
        own = [next(rest) if value is None else tf.constant(value) for value in constants]
        whole = tf.nest.pack_sequence_as(statistics, own)
        grams = {name: [gram.summed() for gram in of] for name, of in whole.style.items()}
        content, style, slope = compare_and_derive(
            whole._replace(style=grams), targets, settings, shape
        )
        needed = (
            {name: at.squares for name, at in slope.content.items()},
            {name: [_as_factor(at, dtype) for at in of] for name, of in slope.style.items()},
            [] if targets.neighbors is None else [slope.neighbors],
            [at.waves for at in slope.colors],
        )
        return content, style, needed

    variable = [leaf for leaf, value in zip(leaves, constants, strict=True) if value is None]
    content, style, (squares, grams, near, waves) = fused.on_gpu(derive)(variable)
    zero = tf.zeros(())
    slope = Statistics(
        {name: losses.Distance(square, zero) for name, square in squares.items()},
        grams,
        near[0] if near else zero,
        [colors.Colors(wave, zero) for wave in waves],
    )
    return content, style, slope


def _as_factor(slope: losses.Gram, dtype: tf.DType) -> losses.Gram | losses.Doubled:
    """A slope as `losses.gram_gradient` multiplies with it. Float16 needs its scale first."""
    if dtype == tf.float16:
        return slope
    return losses.Doubled(tf.cast(2 * slope.products, dtype), slope.sums)


def compare_and_derive(
    statistics: Statistics, targets: Targets, settings: Settings, shape: tf.TensorShape
) -> tuple[tf.Tensor, tf.Tensor, Statistics]:
    """The two losses of `compare`, and the gradient of their sum at each statistic."""
    style: tf.Tensor | None = None
    known: dict[str, list[losses.Gram]] = {}
    if settings.statistics() != "wasserstein":
        style, known = _style_and_slopes(statistics, targets, settings, shape)
    with tf.GradientTape() as tape:
        tape.watch(statistics)
        content, style = compare(statistics, targets, settings, shape, style)
        total = content + style
    gradient = tape.gradient(total, statistics, unconnected_gradients="zero")
    return content, style, gradient._replace(style={**gradient.style, **known})


def _style_and_slopes(
    statistics: Statistics, targets: Targets, settings: Settings, shape: tf.TensorShape
) -> tuple[tf.Tensor, dict[str, list[losses.Gram]]]:
    """The sum of the style losses of all layers, and the gradient of the style loss of `compare` at
    `Statistics.style`."""
    terms = _terms(statistics, targets)
    weight = settings.weight_of_style() * _scale(settings)
    style, of_terms = slopes.weighted_sum(
        list(terms.values()), settings.statistics(), shape[1] * shape[2], weight
    )
    at_grams: dict[tuple[str, int], list[losses.Gram]] = {}
    for (number, layer), slope in zip(terms, of_terms, strict=True):
        at_grams.setdefault((layer, targets.regions[number]), []).append(slope)
    by_layer = {}
    for layer, grams in statistics.style.items():
        nothing = (tf.nest.map_structure(tf.zeros_like, gram) for gram in grams)
        by_layer[layer] = [
            functools.reduce(_added, at_grams.get((layer, region), [none]))
            for region, none in enumerate(nothing)
        ]
    return style, by_layer


def _added(left: losses.Gram, right: losses.Gram) -> losses.Gram:
    return losses.Gram(left.products + right.products, left.positions, left.sums + right.sums)
