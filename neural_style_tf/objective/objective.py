"""Objective: targets + weights + network -> `picture -> Evaluation(gradient, losses)`."""

import functools
import hashlib
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import recent
from neural_style_tf.network import vgg
from neural_style_tf.network.backprop import Gradients, Passes
from neural_style_tf.objective import graphs, losses, neighbors
from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.objective.layer_masks import at_layers
from neural_style_tf.objective.targets import Targets, make_targets
from neural_style_tf.pictures.masks import NO_MASKS, Masks
from neural_style_tf.settings import Settings

# With `style_loss="neighbors"` the losses are numbers from 0 to about 1, whatever the painting.
# These bring them to the size that the default weights and smoothness expect; what they weigh
# relative to each other is by eye, see docs/quality.md.
STYLE_UNIT = 600.0
CONTENT_UNIT = 60_000.0
MOMENTS_SHARE = 16.0  # how much statistics of the whole painting count next to the nearest columns


class Statistics(NamedTuple):
    """All that the losses need of a picture's features, by layer name. Additive over its parts."""

    content: dict[str, losses.Distance]
    style: dict[str, list[losses.Gram]]  # of each region, or of all
    neighbors: tf.Tensor  # the distance from the nearest columns, or 0 if these do not count


def measure_targets(
    network: vgg.Network,
    content: tf.Tensor,
    styles: list[tf.Tensor],
    settings: Settings,
    masks: Masks = NO_MASKS,
) -> Targets:
    """The targets from a photo and one or more paintings, each [1, H, W, 3] float32 RGB, 0..255;
    measured in float32 whatever the precision of the run."""
    content_features = graph(_content_features, network, settings, content)
    of_content = _measured(content_features, network, settings, content)
    of_styles = []
    for number, style in enumerate(styles):
        grams = graph(_style_grams, network, settings, style)
        of_styles.append(
            _measured(grams, network, settings, style, as_tensor(masks.source(number)))
        )
    return make_targets(of_content, of_styles, settings, masks)


def _measured(
    measure: Callable, network: vgg.Network, settings: Settings, *arguments: tf.Tensor | None
) -> Any:
    """What a graph measures of a picture and its mask; remembered for the next run of a batch."""
    if not recent.targets.max_size:
        return measure(*arguments)
    digests = [
        None if argument is None else hashlib.blake2b(argument.numpy().tobytes()).digest()
        for argument in arguments
    ]
    # a photo has one digest, a painting and its mask two
    key = (id(network.layers), settings.of_losses(), *digests)
    made = recent.targets.get(
        key, lambda: (network, measure(*arguments)), lambda made: _bytes_of(made[1])
    )
    return made[1]  # the network is held so that its id stays its own


def _bytes_of(tensors: Any) -> int:
    return sum(
        tensor.dtype.size * tensor.shape.num_elements() for tensor in tf.nest.flatten(tensors)
    )


def make_objective(
    network: vgg.Network,
    targets: Targets,
    settings: Settings,
    dtype: tf.DType = tf.float32,
    masks: Masks = NO_MASKS,
) -> Objective:
    """`picture -> Evaluation` for pictures [1, H, W, 3] of the content's size, with features of
    `dtype`."""
    evaluate = graph(_evaluation, network, settings, targets, dtype)
    regions = as_tensor(masks.regions)
    return lambda picture: evaluate(picture, targets, regions)


def make_losses(
    network: vgg.Network, targets: Targets, settings: Settings, masks: Masks = NO_MASKS
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """`picture -> losses`, as in `Evaluation`, in float32 whatever the precision of the run."""
    evaluate = graph(_loss_terms, network, settings, targets)
    regions = as_tensor(masks.regions)
    return lambda picture: evaluate(picture, targets, regions)


def graph(
    make: Callable, network: vgg.Network, settings: Settings, arguments: Any, *options: Any
) -> Callable:
    """The graph `make(network, settings, *options)`, to be called with tensors of the shapes of
    those in `arguments`, and with the same numbers. Graphs hold neither pictures nor targets: they
    are called with them. Those of large pictures are not kept for another run."""
    leaves = tf.nest.flatten(arguments)
    shapes = [leaf.shape for leaf in leaves if isinstance(leaf, tf.Tensor)]
    # of pictures and features: more columns of paintings do not make tracing longer
    if sum(shape.num_elements() for shape in shapes if shape.rank == 4) > graphs.LARGE_PICTURE:
        return make(network, settings, *options)
    numbers = [leaf for leaf in leaves if not isinstance(leaf, tf.Tensor)]
    name = (make, settings.of_losses(), *numbers, *options)
    return graphs.get(network, name, shapes, lambda: make(network, settings, *options))


def _content_features(network: vgg.Network, settings: Settings) -> Callable:
    passes, layers = passes_of(network, settings), settings.content_layer_weights()

    @tf.function(autograph=False)
    def features(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return features_at(layers, passes, picture, network)

    return features


def _style_grams(network: vgg.Network, settings: Settings) -> Callable:
    passes, layers = passes_of(network, settings), settings.style_layer_weights()
    with_sums = settings.statistics() in losses.WITH_SUMS

    @tf.function(autograph=False)
    def grams(picture: tf.Tensor, source: tf.Tensor | None) -> dict[str, losses.Gram]:
        weights = at_layers(source, passes.reach())
        return {
            layer: grams_of(features, weights, layer, with_sums)[0]
            for layer, features in features_at(layers, passes, picture, network).items()
        }

    return grams


def features_at(
    layers: Collection[str], passes: Passes, picture: tf.Tensor, network: vgg.Network
) -> dict[str, tf.Tensor]:
    """The features of a picture [1, H, W, 3] RGB, 0..255, at some of the passes' layers."""
    features = passes.features(vgg.preprocess(picture, network.mean_pixel))
    return {layer: features[layer] for layer in features if layer in layers}


def _evaluation(network: vgg.Network, settings: Settings, dtype: tf.DType) -> Callable:
    passes = passes_of(network, settings, dtype, often=True)

    @tf.function(autograph=False)
    def evaluate(picture: tf.Tensor, targets: Targets, regions: tf.Tensor | None) -> Evaluation:
        features, memory = passes.forward(vgg.preprocess(picture, network.mean_pixel))
        weights = at_layers(regions, passes.reach())
        places = neighbors.place_weights(weights)
        statistics = measure(features, targets, settings, weights, places)
        content, style, slopes = compare_and_derive(statistics, targets, settings, picture.shape)
        scale = loss_scale(statistics, slopes, targets) if dtype == tf.float16 else 1.0
        gradients = gradients_of(features, targets, slopes, scale, weights, places)
        gradient = passes.backward(memory, gradients) / scale
        return with_total_variation(picture, gradient, content, style, settings)

    return evaluate


def _loss_terms(network: vgg.Network, settings: Settings) -> Callable:
    passes = passes_of(network, settings)

    @tf.function(autograph=False)
    def evaluate(
        picture: tf.Tensor, targets: Targets, regions: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        features = passes.features(vgg.preprocess(picture, network.mean_pixel))
        weights = at_layers(regions, passes.reach())
        places = neighbors.place_weights(weights)
        statistics = measure(features, targets, settings, weights, places)
        content, style = compare(statistics, targets, settings, picture.shape)
        roughness = losses.total_variation(picture, settings.tv_loss)
        return terms_of(content, style, settings.tv_weight * roughness)

    return evaluate


def as_tensor(mask: np.ndarray | None) -> tf.Tensor | None:
    return None if mask is None else tf.constant(mask)


def measure(
    features: dict[str, tf.Tensor],
    targets: Targets,
    settings: Settings,
    weights: dict[str, tf.Tensor] | None,
    places: tf.Tensor | None,
) -> Statistics:
    """The statistics of a picture from its features. weights: the masks of the regions at each
    layer, [1, h, w, regions]. places: how much each place counts, see `neighbors.distance`."""
    with_sums = settings.statistics() in losses.WITH_SUMS
    near = tf.zeros(())
    if targets.neighbors is not None:
        near = neighbors.distance(features, targets.neighbors, places)
    return Statistics(
        {name: losses.distance(features[name], target) for name, target in targets.content.items()},
        {name: grams_of(features[name], weights, name, with_sums) for name in targets.styles[0]},
        near,
    )


def grams_of(
    features: tf.Tensor, weights: dict[str, tf.Tensor] | None, layer: str, with_sums: bool
) -> list[losses.Gram]:
    """The Gram of each region at a layer; a single one without regions."""
    regions = [None] if weights is None else tf.unstack(weights[layer], axis=-1)
    return [losses.gram(features, region, with_sums) for region in regions]


def compare(
    statistics: Statistics, targets: Targets, settings: Settings, shape: tf.TensorShape
) -> tuple[tf.Tensor, tf.Tensor]:
    """The weighted content and style losses of Gatys et al. 2016 eq. 7, of a picture of `shape`
    [1, H, W, 3]."""
    content = sum(
        weight * losses.content_loss(statistics.content[layer], settings.content_loss)
        for layer, weight in settings.content_layer_weights().items()
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
        style = STYLE_UNIT * (statistics.neighbors / (rows * columns) + MOMENTS_SHARE * style)
    return settings.weight_of_content() * content, settings.weight_of_style() * style


def compare_and_derive(
    statistics: Statistics, targets: Targets, settings: Settings, shape: tf.TensorShape
) -> tuple[tf.Tensor, tf.Tensor, Statistics]:
    """The two losses of `compare`, and the gradient of their sum at each statistic."""
    with tf.GradientTape() as tape:
        tape.watch(statistics)
        content, style = compare(statistics, targets, settings, shape)
        total = content + style
    return content, style, tape.gradient(total, statistics, unconnected_gradients="zero")


def with_total_variation(
    picture: tf.Tensor,
    gradient: tf.Tensor,
    content: tf.Tensor,
    style: tf.Tensor,
    settings: Settings,
) -> Evaluation:
    """The evaluation of a picture: the losses of its features, and its total variation."""
    roughness, roughness_gradient = total_variation(picture, settings.tv_loss, picture.shape)
    gradient = gradient + settings.tv_weight * roughness_gradient
    return Evaluation(gradient, terms_of(content, style, settings.tv_weight * roughness))


def terms_of(content: tf.Tensor, style: tf.Tensor, tv: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"content": content, "style": style, "tv": tv, "total": content + style + tv}


def gradients_of(
    features: dict[str, tf.Tensor],
    targets: Targets,
    slopes: Statistics,
    scale: tf.Tensor | float,
    weights: dict[str, tf.Tensor] | None,
    places: tf.Tensor | None,
) -> Gradients:
    """The gradients at each layer's features from those at the statistics, times `scale`; computed
    when they are asked for."""
    near: Gradients = {}
    if targets.neighbors is not None:
        slope = scale * slopes.neighbors
        near = neighbors.gradients(features, targets.neighbors, slope, places)

    def gradient(name: str) -> tf.Tensor:
        parts = []
        if name in slopes.style:
            regions = [None] if weights is None else tf.unstack(weights[name], axis=-1)
            for region, slope in zip(regions, slopes.style[name], strict=True):
                slope = losses.Gram(*(scale * part for part in slope))
                parts.append(losses.gram_gradient(features[name], slope, region))
        if name in slopes.content:
            slope = scale * slopes.content[name].squares
            parts.append(losses.distance_gradient(features[name], targets.content[name], slope))
        if name in near:
            parts.append(near[name]())
        return functools.reduce(_added, parts)

    return {name: functools.partial(gradient, name) for name in features}


@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def _added(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The sum of two gradients. On its own: TensorFlow joins three or more additions that follow
    each other, to save memory, and then adds in an order that differs between runs."""
    return left + right


def loss_scale(statistics: Statistics, slopes: Statistics, targets: Targets) -> tf.Tensor:
    """A power of two that scales the largest gradient at the features to about 1, in the middle of
    float16's range. Micikevicius et al. 2018, "Mixed Precision Training", section 3.2."""
    squares = [
        slopes.content[name].squares ** 2 * distance.squares / distance.values
        for name, distance in statistics.content.items()
    ]
    for name, grams in statistics.style.items():
        for gram, slope in zip(grams, slopes.style[name], strict=True):
            values = gram.positions * gram.products.shape[-1]
            product = gram.products @ slope.products * slope.products
            squares.append(tf.reduce_sum(product) / values)
    if targets.neighbors is not None:
        squares.append(neighbors.steepest(targets.neighbors, slopes.neighbors))
    exponent = tf.math.log(tf.reduce_max(squares) + 1e-30) / (2 * math.log(2))
    return 2 ** -tf.round(exponent)


@tf.function(jit_compile=True, autograph=False)
def total_variation(
    rows: tf.Tensor, kind: str, shape: tf.TensorShape, is_last: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """What a band of rows adds to the total variation of a picture of `shape`, and its gradient;
    see `losses.roughness`. Compiled with XLA: twelve times as fast, since differences of a few
    channels are mostly memory traffic."""
    with tf.GradientTape() as tape:
        tape.watch(rows)
        roughness = losses.roughness(rows, kind, is_last)
        share = losses.total_variation_of(roughness, kind, shape)
    return share, tape.gradient(share, rows)


def passes_of(
    network: vgg.Network,
    settings: Settings,
    dtype: tf.DType = tf.float32,
    often: bool = False,
) -> Passes:
    """The passes to all layers that count, with features of `dtype`. Everyone who needs them gets
    the same ones, since their kernels are large. often: see `Passes`."""
    options = settings.pooling, settings.padding, settings.pooling_rescale, dtype, often
    layers = frozenset(settings.layers())
    return graphs.get(
        network.layers,
        (Passes, layers, *options),
        (),
        lambda: Passes(network.layers, layers, *options),
    )
