"""Neighbors: how far each place of a picture is from what the paintings have nearest to it.

A place is 4x4 pixels. Its column is all that the network sees there: the features of several
layers, one above the other. Kolkin et al. 2022, "Neural Neighbor Style Transfer", arXiv 2203.13215,
section 3: columns of the photo are replaced by the nearest of the painting's, by cosine, and the
picture is moved towards these. Which is nearest to which is decided before (matching.py) and fixed
while the picture moves. So the loss is a sum over places, and additive over tiles.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf

from neural_style_tf.network import fused
from neural_style_tf.network.backprop import Passes
from neural_style_tf.network.operations import AveragePooling
from neural_style_tf.network.relus import Halved, Term
from neural_style_tf.settings import Settings
from neural_style_tf.usual import NEIGHBOR_LAYERS

PLACE = 4  # pixels per side
# Places compared at a time: those of 512x512 pixels; or of 2048x2048 where the comparison is fused,
# so that their columns are not stored.
PLACES_OF_A_BAND = 2**14
PLACES_OF_A_FUSED_BAND = 2**18
ONE_PER_PLACE = "relu3_1"  # a layer with one position in each place
HALVING = AveragePooling(1.0)
# Added to the squared lengths of columns: they are near 1 if anything is there.
LEAST_SQUARE = 1e-12
QUARTER_TURNS = 3  # copies of a painting, each turned by 90 degrees more

Result = TypeVar("Result")


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
    """The columns of a picture, not yet scaled: of each layer its part [rows, columns, channels];
    where that has one position in several places, one row or column for these.

    features: by layer [1, h, w, channels], those of `NEIGHBOR_LAYERS` among them.
    """
    return [pooled[0] for pooled in _pooled_layers(features).values()]


def distance(
    features: Mapping[str, tf.Tensor], target: NeighborTarget, weights: tf.Tensor | None
) -> tf.Tensor:
    """One minus the cosine of each column of the picture with its target, 0 to 2; the sum over the
    places, a float32 scalar.

    weights: [places] float32, 0..1, how much each place counts; None for all alike.
    """
    compared = _compared(_pooled_layers(features), target)
    return fused.on_gpu(_sum_of_distances)(compared, weights)


def gradients(
    features: Mapping[str, tf.Tensor],
    target: NeighborTarget,
    slope: tf.Tensor,
    weights: tf.Tensor | None,
    as_terms: bool = False,
) -> dict[str, Callable[[], Term]]:
    """By layer, a function that returns the gradient at its features, in their type, of a loss with
    the derivative `slope` at `distance`. as_terms: whether it may be a `Halved`."""
    pooled = _pooled_layers(features)
    of_places = fused.on_gpu(_of_places)(_compared(pooled, target), slope, weights)
    made: list[tf.Tensor] = []

    def gradient(name: str) -> Term:
        with tf.control_dependencies(made[-1:]):  # one layer after the other
            # in the type of the features
            at_pooled = tf.concat(_by_bands(_slopes, pooled, target, name, of_places), 1)
            shapes = _shapes_on_the_way(features[name], name)
            is_halved = as_terms and len(shapes) > 1
            made.append(_from_pooled(at_pooled, shapes[is_halved:]))
        return Halved(made[-1]) if is_halved else made[-1]

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


class Compared(NamedTuple):
    """Of the columns of a picture, each layer's share, [places] float32."""

    products: list[tf.Tensor]  # with the targets
    squares: list[tf.Tensor]  # of the lengths

    def cosines(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The cosine of each place's column with its target, and the length of the column,
        [places]."""
        # not one added to the other: TensorFlow may add them in an order that differs between runs
        lengths = tf.sqrt(tf.reduce_sum(tf.stack(self.squares), 0) + LEAST_SQUARE)
        return tf.reduce_sum(tf.stack(self.products), 0) / lengths, lengths


def _compared(pooled: Mapping[str, tf.Tensor], target: NeighborTarget) -> Compared:
    result = Compared([], [])
    for name in NEIGHBOR_LAYERS:
        of_bands = _by_bands(_compare, pooled, target, name)
        result.products.append(tf.concat([product for product, _ in of_bands], 0))
        result.squares.append(tf.concat([square for _, square in of_bands], 0))
    return result


def _compare(part: "Part") -> tuple[tf.Tensor, tf.Tensor]:
    """A layer's share of the products of columns and targets, and of the columns' squared lengths,
    [places]."""
    own, theirs = part.columns()
    return tf.reduce_sum(own * theirs, -1), tf.reduce_sum(tf.square(own), -1)


def _sum_of_distances(compared: Compared, weights: tf.Tensor | None) -> tf.Tensor:
    cosines, _ = compared.cosines()
    return tf.reduce_sum(1 - cosines if weights is None else weights * (1 - cosines))


def _of_places(
    compared: Compared, slope: tf.Tensor, weights: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """What the slopes of all layers need, [places] each: the ratios of cosines to lengths, and the
    factors of the slopes."""
    cosines, lengths = compared.cosines()
    factors = -slope / lengths
    return cosines / lengths, factors if weights is None else factors * weights


def _slopes(part: "Part", ratios: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """The gradient at a layer's `_pooled` features. ratios, factors: of `_of_places`."""
    own, theirs = part.columns()
    # d cosine / d column = (target - cosine column / length) / length
    slopes = theirs - ratios[:, tf.newaxis] * own
    slopes *= (factors * part.scale)[:, tf.newaxis]
    return tf.cast(_summed(slopes, part.times, part.rows), part.pooled.dtype)


class Part(NamedTuple):
    """A layer's part of the columns of a band of places, and of their targets."""

    pooled: tf.Tensor  # `_pooled` features [1, h, w, channels] of the band
    indices: tf.Tensor  # [places] int32
    palette: tf.Tensor  # [n, channels]: the layer's part of the paintings' columns
    mean: tf.Tensor
    scale: tf.Tensor
    times: int  # how many places a position has along each side
    rows: int  # of places

    def columns(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The picture's and the targets', [places, channels] float32."""
        own = self.pooled
        if self.times > 1:
            for axis in (1, 2):
                own = tf.repeat(own, self.times, axis)
            own = own[:, : self.rows, : self.indices.shape[0] // self.rows]
        own = tf.cast(tf.reshape(own, (-1, own.shape[-1])), tf.float32)
        theirs = tf.cast(tf.gather(self.palette, self.indices), tf.float32)
        return own * self.scale - self.mean, theirs


def _by_bands(
    compute: Callable[..., Result],
    pooled: Mapping[str, tf.Tensor],
    target: NeighborTarget,
    name: str,
    others: Sequence[tf.Tensor] = (),
) -> list[Result]:
    """What `compute` returns for a layer's part of each band of places, band after band so that it
    takes little memory.

    pooled: see `_pooled_layers`. others: [places] each, what `compute` is called with besides.
    Several bands are computed after them: otherwise TensorFlow would notice that the losses and the
    gradients need the same columns, and hold all of them from one to the other.
    """
    rows, columns = _size_of(pooled)
    most = PLACES_OF_A_FUSED_BAND if fused.is_fused_on_gpu() else PLACES_OF_A_BAND
    height = max(2, most // columns // 2 * 2)
    times = max(1, _stride(name) // PLACE)
    before, results = list(others) if height < rows else [], []
    for first in range(0, rows, height):
        last = min(first + height, rows)
        places = slice(first * columns, last * columns)
        with tf.control_dependencies(before):
            result = fused.on_gpu(_for_band(compute, times, last - first))(
                pooled[name][:, first // times : -(-last // times)],
                target.indices[places],
                target.columns[name],
                target.means[name],
                target.scales[name],
                *(other[places] for other in others),
            )
        before = tf.nest.flatten(result)
        results.append(result)
    return results


@functools.cache  # so that a graph compiles it once
def _for_band(compute: Callable[..., Result], times: int, rows: int) -> Callable[..., Result]:
    """`compute` as a function of tensors: those of a `Part`, and others."""

    def of_band(
        pooled: tf.Tensor,
        indices: tf.Tensor,
        palette: tf.Tensor,
        mean: tf.Tensor,
        scale: tf.Tensor,
        *others: tf.Tensor,
    ) -> Result:
        return compute(Part(pooled, indices, palette, mean, scale, times, rows), *others)

    return of_band


def _stride(name: str) -> int:
    """The pixels between two positions of a layer's features: poolings halve them four times."""
    return 2 ** (int(name[len("relu")]) - 1)


def _size_of(pooled: Mapping[str, tf.Tensor]) -> tuple[int, int]:
    """Rows and columns of places."""
    _, rows, columns, _ = pooled[ONE_PER_PLACE].shape
    return rows, columns


def _pooled_layers(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The `_pooled` features of each of `NEIGHBOR_LAYERS`. The loss, its gradient and the network
    need the same ones: they are pooled once in a graph if nothing has to come before."""
    return {name: _pooled(features[name], name) for name in NEIGHBOR_LAYERS}


def _pooled(features: tf.Tensor, name: str) -> tf.Tensor:
    """Features [1, h, w, channels] of a layer with one position in a place, or in several."""
    stride = _stride(name)
    while stride < PLACE:  # as poolings do: a larger window would begin beyond the edge
        features, stride = HALVING.forward(features)[0], 2 * stride
    return features


def _summed(places: tf.Tensor, times: int, rows: int) -> tf.Tensor:
    """The gradient at rows of `_pooled` features, [1, h, w, channels], from that at their places
    [places, channels]."""
    channels = places.shape[-1]
    band = tf.reshape(places, (1, rows, -1, channels))
    if times == 1:
        return band
    height, width = (-(-side // times) for side in band.shape[1:3])
    beyond = [[0, 0], [0, -rows % times], [0, -band.shape[2] % times], [0, 0]]
    band = tf.reshape(tf.pad(band, beyond), (1, height, times, width, times, channels))
    return tf.reduce_sum(band, (2, 4))


def _shapes_on_the_way(features: tf.Tensor, name: str) -> list[list[int]]:
    """The shapes that `_pooled` goes through, from that of the features."""
    stride, shapes = _stride(name), [features.shape.as_list()]
    while stride < PLACE:
        _, height, width, channels = shapes[-1]
        shapes.append([1, -(-height // 2), -(-width // 2), channels])
        stride *= 2
    return shapes


def _from_pooled(gradient: tf.Tensor, shapes: list[list[int]]) -> tf.Tensor:
    """The gradient at features of the first of these shapes, from that at `_pooled` of them, which
    have the last."""
    for shape in reversed(shapes[:-1]):
        gradient = HALVING.backward(gradient, shape)
    return gradient
