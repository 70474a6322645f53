"""Neighbors: how far each place of a picture is from what the paintings have nearest to it.

A place is 4x4 pixels. Its column is all that the network sees there: the features of several
layers, one above the other. Kolkin et al. 2022, "Neural Neighbor Style Transfer", arXiv 2203.13215,
section 3: columns of the photo are replaced by the nearest of the painting's, by cosine, and the
picture is moved towards these. Which is nearest to which is decided before (matching.py) and fixed
while the picture moves. So the loss is a sum over places, and additive over tiles.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from neural_style_tf.network.backprop import Passes
from neural_style_tf.network.operations import AveragePooling
from neural_style_tf.settings import NEIGHBOR_LAYERS, Settings

PLACE = 4  # pixels per side
ONE_PER_PLACE = "relu3_1"  # a layer with one position in each place
HALVING = AveragePooling(1.0)
# Added to the squared lengths of columns: they are near 1 if anything is there.
LEAST_SQUARE = 1e-12
QUARTER_TURNS = 3  # copies of a painting, each turned by 90 degrees more


class NeighborTarget(NamedTuple):
    """What the columns of a picture are compared with.

    The parts of columns have a scale: each layer is divided by its root mean square in the
    paintings, and by the root of its number of channels, so that all layers count alike.
    """

    columns: dict[str, tf.Tensor]  # of the paintings, by layer [n, channels]; of length 1 in all
    means: dict[str, tf.Tensor]  # by layer [channels] float32, which were subtracted
    scales: dict[str, tf.Tensor]  # by layer, float32 scalars that features are multiplied by
    indices: tf.Tensor  # [places] int32: which of the n columns each place is moved towards


def size_in_places(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of places in a picture of that size in pixels."""
    return -(-height // PLACE), -(-width // PLACE)


def copies_of_each(settings: Settings) -> int:
    """How many copies of a painting are offered, itself and those that are turned."""
    return 1 + QUARTER_TURNS * settings.style_rotations


def bytes_per_pixel(passes: Passes) -> float:
    """Of the columns of a picture, in float32."""
    channels = passes.channels()
    return 4 * sum(channels[name] for name in NEIGHBOR_LAYERS) / PLACE**2


def place_weights(weights: Mapping[str, tf.Tensor] | None) -> tf.Tensor | None:
    """How much each place counts, [places] float32, 0..1; from the masks of all regions at each
    layer, [1, h, w, regions]. None without masks."""
    if weights is None or ONE_PER_PLACE not in weights:
        return None
    return tf.reshape(tf.minimum(tf.reduce_sum(weights[ONE_PER_PLACE], -1), 1.0), [-1])


def at_places(features: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
    """The columns of a picture, not yet scaled: of each layer its part [rows, columns, channels].

    features: by layer [1, h, w, channels], those of `NEIGHBOR_LAYERS` among them.
    """
    size = _size_of(features)
    parts = (_at_places(features[name], name, size) for name in NEIGHBOR_LAYERS)
    return [tf.reshape(part, (*size, -1)) for part in parts]


def distance(
    features: Mapping[str, tf.Tensor], target: NeighborTarget, weights: tf.Tensor | None
) -> tf.Tensor:
    """One minus the cosine of each column of the picture with its target, 0 to 2; the sum over the
    places, a float32 scalar.

    weights: [places] float32, 0..1, how much each place counts; None for all alike.
    """
    cosines, _ = _compared({name: features[name] for name in NEIGHBOR_LAYERS}, target)
    return tf.reduce_sum(1 - cosines if weights is None else weights * (1 - cosines))


def gradients(
    features: Mapping[str, tf.Tensor],
    target: NeighborTarget,
    slope: tf.Tensor,
    weights: tf.Tensor | None,
) -> dict[str, Callable[[], tf.Tensor]]:
    """By layer, a function that returns the gradient at its features, in their type, of a loss with
    the derivative `slope` at `distance`."""
    features = {name: features[name] for name in NEIGHBOR_LAYERS}
    cosines, lengths = _compared(features, target)
    factors = -slope / lengths
    if weights is not None:
        factors *= weights

    def gradient(name: str) -> tf.Tensor:
        part = _part_of(features, target, name)
        slopes = _slopes(part, target.indices, cosines / lengths, factors)
        return _from_places(slopes, features[name], name, _size_of(features))

    return {name: functools.partial(gradient, name) for name in NEIGHBOR_LAYERS}


def steepest(target: NeighborTarget, slope: tf.Tensor) -> tf.Tensor:
    """At most what the mean square of `gradients` at the features of a place and layer is, for
    columns of about length 1; a float32 scalar."""
    return tf.reduce_max(
        [
            tf.square(slope * scale) / target.means[name].shape[0]
            for name, scale in target.scales.items()
        ]
    )


# Functions on their own: if they were parts of a graph TensorFlow would compute the columns once,
# and hold them from the losses to the gradients, twice as many values as all features have.
_apart = tf.function(autograph=False, experimental_attributes={"_noinline": True})


class _Part(NamedTuple):
    """A layer's part of the columns: of a picture, not yet scaled, and of the paintings."""

    features: tf.Tensor  # [places, channels]
    columns: tf.Tensor  # [n, channels]
    mean: tf.Tensor
    scale: tf.Tensor


def _part_of(features: Mapping[str, tf.Tensor], target: NeighborTarget, name: str) -> _Part:
    at_places = _at_places(features[name], name, _size_of(features))
    return _Part(at_places, target.columns[name], target.means[name], target.scales[name])


@_apart
def _compared(
    features: dict[str, tf.Tensor], target: NeighborTarget
) -> tuple[tf.Tensor, tf.Tensor]:
    """The cosine of each place's column with its target, and the length of the column, [places]."""
    products: list[tf.Tensor] = []
    squares: list[tf.Tensor] = []
    for name in NEIGHBOR_LAYERS:
        # one layer after the other, so that no two are held
        with tf.control_dependencies(products[-1:] + squares[-1:]):
            own, theirs = _pair(_part_of(features, target, name), target.indices)
            products.append(tf.reduce_sum(own * theirs, -1))
            squares.append(tf.reduce_sum(tf.square(own), -1))
    # not one added to the other: TensorFlow may add them in an order that differs between runs
    lengths = tf.sqrt(tf.reduce_sum(tf.stack(squares), 0) + LEAST_SQUARE)
    return tf.reduce_sum(tf.stack(products), 0) / lengths, lengths


@_apart
def _slopes(part: _Part, indices: tf.Tensor, ratios: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """The gradient at a layer's part of the columns, [places, channels] float32. ratios: [places],
    of cosines to lengths. factors: [places], of the loss."""
    own, theirs = _pair(part, indices)
    # d cosine / d column = (target - cosine column / length) / length
    slopes = theirs - ratios[:, tf.newaxis] * own
    return slopes * (factors * part.scale)[:, tf.newaxis]


def _pair(part: _Part, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A layer's part of the columns, and of the target of each place, [places, channels]
    float32."""
    own = tf.cast(part.features, tf.float32) * part.scale - part.mean
    return own, tf.cast(tf.gather(part.columns, indices), tf.float32)


def _stride(name: str) -> int:
    """The pixels between two positions of a layer's features: poolings halve them four times."""
    return 2 ** (int(name[len("relu")]) - 1)


def _size_of(features: Mapping[str, tf.Tensor]) -> tuple[int, int]:
    """Rows and columns of places."""
    _, rows, columns, _ = features[ONE_PER_PLACE].shape
    return rows, columns


def _at_places(features: tf.Tensor, name: str, size: tuple[int, int]) -> tf.Tensor:
    """Features [1, h, w, channels] of a layer as [places, channels]: the mean of those in a place,
    or those that the place is in."""
    channels, stride = features.shape[-1], _stride(name)
    while stride < PLACE:  # as poolings do: a larger window would begin beyond the edge
        features, stride = HALVING.forward(features)[0], 2 * stride
    if stride > PLACE:
        for axis in (1, 2):
            features = tf.repeat(features, stride // PLACE, axis)
        features = features[:, : size[0], : size[1]]
    return tf.reshape(features, (-1, channels))


def _from_places(
    gradient: tf.Tensor, features: tf.Tensor, name: str, size: tuple[int, int]
) -> tf.Tensor:
    """The gradient at features, in their type, from that at `_at_places` of them."""
    channels, stride = features.shape[-1], _stride(name)
    gradient = tf.reshape(gradient, (1, *size, channels))
    shapes = [features.shape.as_list()]
    while stride < PLACE:
        _, height, width, _ = shapes[-1]
        shapes.append([1, -(-height // 2), -(-width // 2), channels])
        stride *= 2
    for shape in reversed(shapes[:-1]):
        gradient = HALVING.backward(tf.cast(gradient, features.dtype), shape)
    if stride > PLACE:
        times = stride // PLACE
        _, height, width, _ = features.shape
        beyond = [[0, 0], [0, height * times - size[0]], [0, width * times - size[1]], [0, 0]]
        gradient = tf.reshape(tf.pad(gradient, beyond), (1, height, times, width, times, channels))
        gradient = tf.reduce_sum(gradient, (2, 4))
    return tf.cast(gradient, features.dtype)
