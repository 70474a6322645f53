"""Tiling: the objective of a picture larger than memory, exactly, tile by tile.

Statistics of features are sums over positions (losses.py): so they are added up over tiles, and
compared with their targets as one. Two passes over the tiles: the first measures; then the losses
are known, and their gradients at the statistics; the second takes those back to the pixels. Each
tile is run with a margin as wide as its features see (their receptive field), and only the features
inside count: nothing is approximated, and there are no seams.
"""

import functools
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import tensorflow as tf

from neural_style_tf.network import vgg
from neural_style_tf.network.backprop import Gradients, Passes
from neural_style_tf.objective import losses, objective
from neural_style_tf.objective.content_features import ContentFeatures
from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.objective.layer_masks import at_layers
from neural_style_tf.objective.objective import Statistics, Targets
from neural_style_tf.objective.tiles import Grid, Tile
from neural_style_tf.pictures.masks import NO_MASKS, Masks
from neural_style_tf.settings import Settings

BAND = 128  # rows


class TiledObjective:
    """`objective.make_objective` and `make_losses`, for pictures that do not fit whole."""

    def __init__(
        self,
        network: vgg.Network,
        content: np.ndarray,
        styles: list[np.ndarray],
        settings: Settings,
        dtype: tf.DType,
        size: int,
        masks: Masks = NO_MASKS,
    ):
        self._mean_pixel, self._settings, self._dtype = network.mean_pixel, settings, dtype
        self._passes = objective.passes_of(network, settings, dtype, often=True)
        exact = objective.passes_of(network, settings)
        self._grid = grid = Grid(self._passes.reach(), size)
        self._inside = _Inside(grid.reach)
        self._shape = content.shape
        self._tiles = grid.tiles(self._shape[1:3])
        self._measure = tf.function(
            functools.partial(self._measured, self._passes), autograph=False
        )
        self._measure_exactly = tf.function(
            functools.partial(self._measured, exact), autograph=False
        )
        grams = [
            _grams(network, style, settings, size, masks.source(number))
            for number, style in enumerate(styles)
        ]
        # the content's are in a file
        self._targets = objective.make_targets({}, grams, settings, masks)
        self._regions = masks.regions
        self._contents = ContentFeatures(network, content, settings, grid)

    def __call__(self, picture: tf.Tensor) -> Evaluation:
        gradient = tf.Variable(tf.zeros_like(picture))  # added to in its place
        *others, last = range(len(self._tiles))
        # the last one's features are still there when all is measured: they are not made twice
        found, content, style, slopes, scale = self._end(
            *self._part_of(picture, last), self._sum(picture, others, self._measure)
        )
        _add(gradient, self._tiles[last], found)
        for number in others:
            found = self._backward(*self._part_of(picture, number), slopes, scale)
            _add(gradient, self._tiles[number], found)
        tv = self._add_total_variation(picture, gradient)
        return Evaluation(gradient.read_value(), objective.terms_of(content, style, tv))

    def losses(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        """The losses of a picture, in float32 whatever the run's precision."""
        statistics = self._sum(picture, range(len(self._tiles)), self._measure_exactly)
        content, style = self._compare(statistics)
        return objective.terms_of(content, style, self._add_total_variation(picture))

    def _part_of(self, picture: tf.Tensor, number: int) -> tuple:
        """A tile of the picture, where it is, its targets, and its regions."""
        tile = self._tiles[number]
        regions = _cut_out(self._regions, tile)
        return picture[tile.box], _place(tile), self._contents[number], regions

    def _sum(
        self, picture: tf.Tensor, numbers: Iterable[int], measure: Callable
    ) -> Statistics | None:
        total = None
        for number in numbers:
            found = measure(*self._part_of(picture, number))
            total = found if total is None else _added(total, found)
        return total

    def _measured(
        self,
        passes: Passes,
        box: tf.Tensor,
        place: tf.Tensor,
        target: dict[str, tf.Tensor],
        regions: tf.Tensor | None,
    ) -> Statistics:
        """The statistics of a tile."""
        features = passes.features(vgg.preprocess(box, self._mean_pixel))
        return self._counted(
            features, place, self._with(target), self._inside.weights(regions, place)
        )

    def _counted(
        self,
        features: dict[str, tf.Tensor],
        place: tf.Tensor,
        targets: Targets,
        weights: dict[str, tf.Tensor] | None,
    ) -> Statistics:
        """The statistics of what counts in a tile."""
        features, counts = self._inside.features(features, place)
        content, style = objective.measure(features, targets, self._settings, weights)
        if weights is None:
            style = {
                name: [found._replace(positions=counts[name]) for found in regions]
                for name, regions in style.items()
            }
        content = {
            name: found._replace(values=counts[name] * features[name].shape[-1])
            for name, found in content.items()
        }
        return Statistics(content, style)

    @tf.function(autograph=False)
    def _compare(self, statistics: Statistics) -> tuple[tf.Tensor, tf.Tensor]:
        return objective.compare(statistics, self._targets, self._settings, self._shape)

    @tf.function(autograph=False)
    def _end(
        self,
        box: tf.Tensor,
        place: tf.Tensor,
        target: dict[str, tf.Tensor],
        regions: tf.Tensor | None,
        others: Statistics | None,
    ) -> tuple:
        """The last tile's part of the gradient, the losses of all, and what `_backward` takes."""
        features, kept = self._passes.forward(vgg.preprocess(box, self._mean_pixel))
        targets, weights = self._with(target), self._inside.weights(regions, place)
        statistics = self._counted(features, place, targets, weights)
        if others is not None:
            statistics = _added(statistics, others)
        content, style, slopes = objective.compare_and_derive(
            statistics, targets, self._settings, self._shape
        )
        scale = tf.ones(())
        if self._dtype == tf.float16:
            scale = objective.loss_scale(statistics, slopes)
        found = self._to_picture(features, kept, place, targets, slopes, scale, weights)
        return found, content, style, slopes, scale

    @tf.function(autograph=False)
    def _backward(
        self,
        box: tf.Tensor,
        place: tf.Tensor,
        target: dict[str, tf.Tensor],
        regions: tf.Tensor | None,
        slopes: Statistics,
        scale: tf.Tensor,
    ) -> tf.Tensor:
        """What a tile adds to the gradient of the picture, within its box."""
        features, kept = self._passes.forward(vgg.preprocess(box, self._mean_pixel))
        targets, weights = self._with(target), self._inside.weights(regions, place)
        return self._to_picture(features, kept, place, targets, slopes, scale, weights)

    def _to_picture(self, features, kept, place, targets, slopes, scale, weights) -> tf.Tensor:
        gradients = objective.gradients_of(features, targets, slopes, scale, weights)
        gradients = self._inside.gradients(gradients, place)
        return self._passes.backward(kept, gradients) / scale

    def _add_total_variation(
        self, picture: tf.Tensor, gradient: tf.Variable | None = None
    ) -> tf.Tensor:
        """The weighted total variation, its gradient added to the one given; in bands of rows, for
        the differences of a picture take several times its memory."""
        height, weight, total = picture.shape[1], self._settings.tv_weight, tf.zeros(())
        for first in range(0, height, BAND):
            last = min(first + BAND + 1, height)  # a row of the next band's
            share, found = objective.total_variation(
                picture[:, first:last], self._settings.tv_loss, self._shape, last == height
            )
            total += weight * share
            if gradient is not None:
                part = gradient[:, first:last]
                part.assign(part + weight * found)
            if last == height:
                break
        return total

    def _with(self, target: dict[str, tf.Tensor]) -> Targets:
        return self._targets._replace(content=target)


def _added(one: Statistics, other: Statistics) -> Statistics:
    return tf.nest.map_structure(tf.add, one, other)


def _grams(
    network: vgg.Network,
    style: np.ndarray,
    settings: Settings,
    size: int,
    source: np.ndarray | None = None,
) -> dict[str, losses.Gram]:
    """The Grams of a painting, tile by tile, in float32."""
    passes, layers = objective.passes_of(network, settings), settings.style_layer_weights()
    reach = passes.reach()
    grid = Grid({layer: reach[layer] for layer in layers}, size)
    inside = _Inside(grid.reach)
    with_sums = settings.style_loss in losses.WITH_SUMS

    @tf.function(autograph=False)
    def measure(
        box: tf.Tensor, place: tf.Tensor, source: tf.Tensor | None
    ) -> dict[str, losses.Gram]:
        features = objective.features_at(layers, passes, box, network)
        features, counts = inside.features(features, place)
        weights = inside.weights(source, place)
        found = {
            name: objective.grams_of(of_layer, weights, name, with_sums)[0]
            for name, of_layer in features.items()
        }
        if weights is not None:
            return found
        return {name: gram._replace(positions=counts[name]) for name, gram in found.items()}

    total = None
    for tile in grid.tiles(style.shape[1:3]):
        box = tf.constant(style[tile.box])
        found = measure(box, _place(tile), _cut_out(source, tile))
        total = found if total is None else _added(total, found)
    return total


def _add(gradient: tf.Variable, tile: Tile, found: tf.Tensor) -> None:
    part = gradient[tile.box]
    part.assign(part + found)


def _cut_out(mask: np.ndarray | None, tile: Tile) -> tf.Tensor | None:
    return None if mask is None else tf.constant(mask[tile.box])


def _place(tile: Tile) -> tf.Tensor:
    """Where a tile is, as a tensor: a place does not need a trace of its own."""
    return tf.constant([tile.rows[0], tile.columns[0], *tile.inside])


class _Inside:
    """Which features of a tile count: those of its inside."""

    def __init__(self, reach: Mapping[str, tuple[int, int]]):
        self._reach = reach

    def weights(self, mask: tf.Tensor | None, place: tf.Tensor) -> dict[str, tf.Tensor] | None:
        """The mask of a tile's box at each layer, with 0 where positions do not count."""
        found = at_layers(mask, self._reach)
        return None if found is None else self.features(found, place)[0]

    def features(
        self, features: dict[str, tf.Tensor], place: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The features with 0 where they do not count; and how many positions do."""
        found, counts = {}, {}
        for name, of_layer in features.items():
            mask = self._mask(name, of_layer, place)
            found[name] = tf.where(mask, of_layer, tf.zeros((), of_layer.dtype))
            counts[name] = tf.reduce_sum(tf.cast(mask, tf.float32))
        return found, counts

    def gradients(self, gradients: Gradients, place: tf.Tensor) -> Gradients:
        """The same of gradients: features are large, so nothing keeps two versions of them."""

        def masked(name: str) -> tf.Tensor:
            gradient = gradients[name]()
            mask = self._mask(name, gradient, place)
            return tf.where(mask, gradient, tf.zeros((), gradient.dtype))

        return {name: functools.partial(masked, name) for name in gradients}

    def _mask(self, name: str, of_layer: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        """Which positions [h, w, 1] of a layer count."""
        stride, _ = self._reach[name]
        _, height, width, _ = of_layer.shape
        rows = place[0] + stride * tf.range(height)
        columns = place[1] + stride * tf.range(width)
        rows = (rows >= place[2]) & (rows < place[3])
        columns = (columns >= place[4]) & (columns < place[5])
        return rows[:, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis]
