"""Objective: targets + weights + network -> `picture -> Evaluation(gradient, losses)`."""

import functools
import hashlib
import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import compilation, recent
from neural_style_tf.network import device, fused, vgg
from neural_style_tf.network.backprop import Gradients, Passes
from neural_style_tf.network.relus import Difference, Term
from neural_style_tf.objective import colors, graphs, losses, neighbors
from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.objective.layer_masks import at_layers
from neural_style_tf.objective.statistics import (
    Statistics,
    Weights,
    compare,
    derived,
    derives_on_gpu,
    grams_of,
    measure,
    weights_of_regions,
)
from neural_style_tf.objective.targets import Targets, make_targets
from neural_style_tf.pictures.masks import NO_MASKS, Masks
from neural_style_tf.settings import Settings


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
    pixels = content.shape[1] * content.shape[2]
    return make_targets(of_content, of_styles, settings, masks, pixels)


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
    often: bool = True,
) -> Objective:
    """`picture -> Evaluation` for pictures [1, H, W, 3] of the content's size, with features of
    `dtype`. often: whether it is called often enough for compiling to pay on a GPU."""
    evaluate = graph(_evaluation, network, settings, targets, dtype, often)
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
    passes, layers = passes_of_parts(network, settings), settings.style_layer_weights()
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


def with_colors(
    features: dict[str, tf.Tensor], picture: tf.Tensor, targets: Targets
) -> dict[str, tf.Tensor]:
    """The features of a picture, and its colours, as of one more layer, if these count."""
    if targets.colors is None:
        return features
    return {**features, colors.LAYER: colors.at_positions(picture)}


def reach_of(passes: Passes) -> dict[str, tuple[int, int]]:
    """Stride and reach of the layers and of the colours, as `Passes.reach`."""
    return {**passes.reach(), colors.LAYER: (colors.STRIDE, 0)}


def _evaluation(network: vgg.Network, settings: Settings, dtype: tf.DType, often: bool) -> Callable:
    passes = passes_of(network, settings, dtype, often)

    @tf.function(autograph=False)
    @fused.compiling(often)
    def evaluate(picture: tf.Tensor, targets: Targets, regions: tf.Tensor | None) -> Evaluation:
        features, memory = passes.forward(vgg.preprocess(picture, network.mean_pixel))
        features = with_colors(features, picture, targets)
        weights = at_layers(regions, reach_of(passes))
        # the scale of float16 needs the sums
        in_blocks = derives_on_gpu(settings) and dtype != tf.float16
        statistics = measure(features, targets, settings, weights, weights, in_blocks)
        content, style, slopes = derived(statistics, targets, settings, picture.shape, dtype)
        scale = loss_scale(statistics, slopes, targets) if dtype == tf.float16 else None
        gradients = gradients_of(
            features, targets, slopes, scale, weights, weights, as_terms=device.is_gpu()
        )
        gradient = to_picture(passes, memory, gradients, scale)
        return with_total_variation(picture, gradient, content, style, settings)

    return evaluate


def _loss_terms(network: vgg.Network, settings: Settings) -> Callable:
    passes = passes_of(network, settings)

    @tf.function(autograph=False)
    def evaluate(
        picture: tf.Tensor, targets: Targets, regions: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        features = passes.features(vgg.preprocess(picture, network.mean_pixel))
        features = with_colors(features, picture, targets)
        weights = at_layers(regions, reach_of(passes))
        statistics = measure(features, targets, settings, weights, weights)
        content, style = compare(statistics, targets, settings, picture.shape)
        roughness = losses.total_variation(picture, settings.tv_loss, settings.wraps)
        return terms_of(content, style, settings.tv_weight * roughness)

    return evaluate


def as_tensor(mask: np.ndarray | None) -> tf.Tensor | None:
    return None if mask is None else tf.constant(mask)


def with_total_variation(
    picture: tf.Tensor,
    gradient: tf.Tensor,
    content: tf.Tensor,
    style: tf.Tensor,
    settings: Settings,
) -> Evaluation:
    """The evaluation of a picture: the losses of its features, and its total variation."""
    roughness, gradient = fused.within_graph(_smoothed)(
        gradient, picture, settings.tv_weight, settings.tv_loss, settings.wraps
    )
    return Evaluation(gradient, terms_of(content, style, roughness))


def terms_of(content: tf.Tensor, style: tf.Tensor, tv: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"content": content, "style": style, "tv": tv, "total": content + style + tv}


def gradients_of(
    features: dict[str, tf.Tensor],
    targets: Targets,
    slopes: Statistics,
    scale: tf.Tensor | None,
    weights: Weights | None,
    counted: Weights | None,
    as_terms: bool = False,
) -> Gradients:
    """The gradients at each layer's features from those at the statistics, times `scale` if
    there is one; computed when they are asked for. weights, counted: as for `measure`.
    as_terms: whether they may be a `Difference` or `Halved`, which only `Passes.backward` can
    add."""
    near: dict[str, Callable[[], Term]] = {}
    if scale is not None:
        slopes = tf.nest.map_structure(lambda slope: scale * slope, slopes)
    if targets.neighbors is not None:
        places = neighbors.place_weights(counted)
        near = neighbors.gradients(features, targets.neighbors, slopes.neighbors, places, as_terms)

    def of_colors() -> tf.Tensor:
        own = features[colors.LAYER]
        parts = [
            colors.gradient(own, slope, region)
            for region, slope in zip(
                weights_of_regions(counted, colors.LAYER), slopes.colors, strict=True
            )
        ]
        return functools.reduce(_added, parts)

    def gradient(name: str) -> list[Term]:
        if name == colors.LAYER:
            return [of_colors()]
        parts: list[Term] = []
        if name in slopes.style:
            regions = weights_of_regions(weights, name)
            for region, slope in zip(regions, slopes.style[name], strict=True):
                parts += losses.gram_gradient(features[name], slope, region)
        if name in slopes.content:
            slope, target = slopes.content[name].squares, targets.content[name]
            if as_terms and name.startswith("relu"):
                parts.append(Difference(target, slope))
            else:
                parts.append(losses.distance_gradient(features[name], target, slope))
        if name in near:
            parts.append(near[name]())
        return parts if device.is_gpu() else [functools.reduce(_added, parts)]

    return {name: functools.partial(gradient, name) for name in features}


@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def _added(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The sum of two gradients. On its own: TensorFlow joins three or more additions that follow
    each other, to save memory, and then adds in an order that differs between runs."""
    return left + right


def to_picture(
    passes: Passes, memory: list[Any], gradients: Gradients, scale: tf.Tensor | None
) -> tf.Tensor:
    """Takes the gradients at the features back to the picture, and divides by what they were
    multiplied with."""
    gradient = passes.backward(memory, gradients)
    if colors.LAYER in gradients:
        (at_colors,) = gradients[colors.LAYER]()
        gradient = fused.on_gpu(_with_gradient_of_colors)(gradient, at_colors)
    return gradient if scale is None else gradient / scale


def _with_gradient_of_colors(gradient: tf.Tensor, at_colors: tf.Tensor) -> tf.Tensor:
    return _added(gradient, colors.from_positions(at_colors, gradient.shape))


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


def _smoothed(
    gradient: tf.Tensor, picture: tf.Tensor, weight: float, kind: str, wraps: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """The weighted total variation of a picture, and a gradient plus that of it."""
    share, own = _variation(picture, kind, picture.shape, True, wraps)
    return weight * share, gradient + weight * own


@compilation.compiled
def total_variation(
    rows: tf.Tensor, kind: str, shape: tf.TensorShape, is_last: bool = True, wraps: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """What a band of rows adds to the total variation of a picture of `shape`, and its gradient;
    see `losses.roughness`. Compiled with XLA where that works: twelve times as fast,
    since differences of a few channels are mostly memory traffic."""
    return _variation(rows, kind, shape, is_last, wraps)


def _variation(
    rows: tf.Tensor, kind: str, shape: tf.TensorShape, is_last: bool, wraps: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(rows)
        roughness = losses.roughness(rows, kind, is_last, wraps)
        share = losses.total_variation_of(roughness, kind, shape, wraps)
    return share, tape.gradient(share, rows)


def passes_of(
    network: vgg.Network,
    settings: Settings,
    dtype: tf.DType = tf.float32,
    often: bool = False,
    padding: str | None = None,
) -> Passes:
    """The passes to all layers that count, with features of `dtype`. Everyone who needs them gets
    the same ones, since their kernels are large. often: see `Passes`. padding: by default that of
    the settings."""
    padding = padding or settings.padding
    options = settings.pooling, padding, settings.pooling_rescale, dtype, often
    layers = frozenset(settings.layers())
    return graphs.get(
        network.layers,
        (Passes, layers, *options),
        (),
        lambda: Passes(network.layers, layers, *options),
    )


def passes_of_parts(
    network: vgg.Network, settings: Settings, dtype: tf.DType = tf.float32, often: bool = False
) -> Passes:
    """The same for paintings, and for tiles with a margin."""
    return passes_of(network, settings, dtype, often, settings.padding_of_parts())
