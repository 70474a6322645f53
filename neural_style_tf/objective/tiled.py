"""The tiled objective: of a picture larger than memory, tile by tile, without approximation.

Statistics of features are sums over positions (losses.py), so those of the tiles are added, and
the sums compared with the targets. There are two passes over the tiles. The first measures the
statistics; from their sums follow the losses and the gradients at the statistics. The second takes
these gradients back to the pixels. Each tile has a margin as wide as the receptive field of its
features, and only the features of its inside count. So the result is that of the whole picture,
and shows no seams.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from neural_style_tf.network import fused, vgg
from neural_style_tf.network.backprop import Gradients, Passes, sum_of
from neural_style_tf.objective import colors, losses, neighbors, objective
from neural_style_tf.objective.content_features import ContentFeatures
from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.objective.layer_masks import at_layers
from neural_style_tf.objective.matching import Matches
from neural_style_tf.objective.neighbors import ONE_PER_PLACE, PLACE
from neural_style_tf.objective.statistics import (
    Statistics,
    Weights,
    compare,
    derived,
    grams_of,
    measure,
)
from neural_style_tf.objective.targets import Targets, make_targets
from neural_style_tf.objective.tiles import Grid, Tile, pieces
from neural_style_tf.pictures.masks import NO_MASKS, Masks
from neural_style_tf.settings import Settings

# The content's features by layer, and the indices of the nearest columns, of a tile's box.
TileTargets = tuple[dict[str, tf.Tensor], tf.Tensor | None]

BAND = 128  # rows of which the total variation is computed at a time


class TiledObjective:
    """`objective.make_objective` and `make_losses` for pictures that do not fit in memory.

    content, styles: [1, H, W, 3] float32 RGB, 0..255. size: pixels per side of the tiles. often:
    see `objective.make_objective`.
    """

    def __init__(
        self,
        network: vgg.Network,
        content: np.ndarray,
        styles: list[np.ndarray],
        settings: Settings,
        dtype: tf.DType,
        size: int,
        masks: Masks = NO_MASKS,
        matches: Matches | None = None,
        often: bool = True,
    ):
        self._mean_pixel, self._settings, self._dtype = network.mean_pixel, settings, dtype
        self._often = often
        self._passes = objective.passes_of_parts(network, settings, dtype, often)
        exact = objective.passes_of_parts(network, settings)
        self._grid = grid = Grid(objective.reach_of(self._passes), size, settings.wraps)
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
        # without the content's, which are in a file
        self._targets = make_targets({}, grams, settings, masks, math.prod(self._shape[1:3]))
        self._indices: np.ndarray | None = None  # of the nearest columns, [rows, columns] of places
        if matches is not None:
            self._targets = matches.added_to(
                self._targets, network, content, styles, settings, dtype, size, masks
            )
            places = neighbors.size_in_places(content.shape[1], content.shape[2])
            assert matches.indices is not None  # they were decided just now
            self._indices = matches.indices.reshape(places)
        self._regions = masks.regions
        self._contents = ContentFeatures(network, content, settings, grid)

    def __call__(self, picture: tf.Tensor) -> Evaluation:
        with fused.compiling(self._often):
            return self._evaluation(picture)

    def _evaluation(self, picture: tf.Tensor) -> Evaluation:
        gradient = tf.Variable(tf.zeros_like(picture))  # tiles are added in place
        *others, last = range(len(self._tiles))
        # the features of the last tile are still in memory when all is measured: one pass less
        part, content, style, slopes, scale = self._end(
            *self._arguments(picture, last), self._sum(picture, others, self._measure)
        )
        _add(gradient, self._tiles[last], part)
        for number in others:
            part = self._backward(*self._arguments(picture, number), slopes, scale)
            _add(gradient, self._tiles[number], part)
        tv = self._add_total_variation(picture, gradient)
        return Evaluation(gradient.read_value(), objective.terms_of(content, style, tv))

    def losses(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        """The losses of a picture, in float32 whatever the run's precision."""
        statistics = self._sum(picture, range(len(self._tiles)), self._measure_exactly)
        content, style = self._compare(statistics)
        return objective.terms_of(content, style, self._add_total_variation(picture))

    def _arguments(self, picture: tf.Tensor, number: int) -> tuple:
        """The box of a tile of the picture, its position, its targets, and its regions."""
        tile = self._tiles[number]
        regions = _cut_out(self._regions, tile)
        targets = self._contents[number], self._nearest(tile)
        return _box_of(picture, tile), _place(tile), targets, regions

    def _nearest(self, tile: Tile) -> tf.Tensor | None:
        """The indices of the nearest columns of a tile's box."""
        if self._indices is None:
            return None
        indices = tile.cut_out(self._indices[np.newaxis], PLACE)
        return tf.constant(indices.reshape(-1))

    def _sum(
        self, picture: tf.Tensor, numbers: Iterable[int], measure: Callable
    ) -> Statistics | None:
        total = None
        for number in numbers:
            statistics = measure(*self._arguments(picture, number))
            total = statistics if total is None else _added(total, statistics)
        return total

    def _measured(
        self,
        passes: Passes,
        box: tf.Tensor,
        place: tf.Tensor,
        target: TileTargets,
        regions: tf.Tensor | None,
    ) -> Statistics:
        """The statistics of a tile."""
        features = passes.features(vgg.preprocess(box, self._mean_pixel))
        targets, weights = self._with(target), self._inside.weights(regions, place)
        features = objective.with_colors(features, box, targets)
        return self._counted(features, place, targets, weights)

    def _counted(
        self,
        features: dict[str, tf.Tensor],
        place: tf.Tensor,
        targets: Targets,
        weights: Weights | None,
    ) -> Statistics:
        """The statistics of the inside of a tile, from the features of its box."""
        counted = self._inside.counted(features, weights, place)
        features, counts = self._inside.features(features, place)
        statistics = measure(features, targets, self._settings, weights, counted)
        content, style = statistics.content, statistics.style
        if weights is None:
            style = {
                name: [gram._replace(positions=counts[name]) for gram in regions]
                for name, regions in style.items()
            }
        content = {
            name: distance._replace(values=counts[name] * features[name].shape[-1])
            for name, distance in content.items()
        }
        return statistics._replace(content=content, style=style)

    @tf.function(autograph=False)
    def _compare(self, statistics: Statistics) -> tuple[tf.Tensor, tf.Tensor]:
        return compare(statistics, self._targets, self._settings, self._shape)

    @tf.function(autograph=False)
    def _end(
        self,
        box: tf.Tensor,
        place: tf.Tensor,
        target: TileTargets,
        regions: tf.Tensor | None,
        others: Statistics | None,
    ) -> tuple:
        """The last tile's part of the gradient, the losses, and what `_backward` needs of them."""
        features, memory = self._passes.forward(vgg.preprocess(box, self._mean_pixel))
        targets, weights = self._with(target), self._inside.weights(regions, place)
        features = objective.with_colors(features, box, targets)
        statistics = self._counted(features, place, targets, weights)
        if others is not None:
            statistics = _added(statistics, others)
        content, style, slopes = derived(
            statistics, targets, self._settings, self._shape, self._dtype
        )
        scale = None
        if self._dtype == tf.float16:
            scale = objective.loss_scale(statistics, slopes, targets)
        part = self._to_picture(features, memory, place, targets, slopes, scale, weights)
        return part, content, style, slopes, scale

    @tf.function(autograph=False)
    def _backward(
        self,
        box: tf.Tensor,
        place: tf.Tensor,
        target: TileTargets,
        regions: tf.Tensor | None,
        slopes: Statistics,
        scale: tf.Tensor | None,
    ) -> tf.Tensor:
        """What a tile adds to the gradient of the picture, [1, h, w, 3] for its box."""
        features, memory = self._passes.forward(vgg.preprocess(box, self._mean_pixel))
        targets, weights = self._with(target), self._inside.weights(regions, place)
        features = objective.with_colors(features, box, targets)
        return self._to_picture(features, memory, place, targets, slopes, scale, weights)

    def _to_picture(
        self,
        features: dict[str, tf.Tensor],
        memory: list[Any],
        place: tf.Tensor,
        targets: Targets,
        slopes: Statistics,
        scale: tf.Tensor | None,
        weights: Weights | None,
    ) -> tf.Tensor:
        """Takes the gradients at the statistics back to the pixels of a box."""
        counted = self._inside.counted(features, weights, place)
        gradients = objective.gradients_of(features, targets, slopes, scale, weights, counted)
        gradients = self._inside.gradients(gradients, place)
        return objective.to_picture(self._passes, memory, gradients, scale)

    def _add_total_variation(
        self, picture: tf.Tensor, gradient: tf.Variable | None = None
    ) -> tf.Tensor:
        """The weighted total variation; adds its gradient to `gradient`. In bands of rows, since
        the differences of a picture take several times its memory."""
        height, weight, total = picture.shape[1], self._settings.tv_weight, tf.zeros(())
        wraps, width = self._settings.wraps, picture.shape[2]
        end = height + 1 if wraps else height  # with the first row once more
        for first in range(0, height, BAND):
            last = min(first + BAND + 1, end)  # with the first row of the next band
            band = Tile((first, last), (0, width), (first, last, 0, width))
            is_last = last == end
            share, band_gradient = objective.total_variation(
                *(_box_of(picture, band), self._settings.tv_loss, self._shape),
                *(is_last and not wraps, wraps),
            )
            total += weight * share
            if gradient is not None:
                _add(gradient, band, weight * band_gradient)
            if is_last:
                break
        return total

    def _with(self, target: TileTargets) -> Targets:
        content, indices = target
        near = self._targets.neighbors
        if near is not None:
            near = near._replace(indices=indices)
        return self._targets._replace(content=content, neighbors=near)


def _added(left: Statistics, right: Statistics) -> Statistics:
    return tf.nest.map_structure(tf.add, left, right)


def _grams(
    network: vgg.Network,
    style: np.ndarray,
    settings: Settings,
    size: int,
    source: np.ndarray | None = None,
) -> dict[str, losses.Gram]:
    """The Gram of a painting [1, H, W, 3] at each style layer, tile by tile, in float32."""
    passes = objective.passes_of_parts(network, settings)
    layers = settings.style_layer_weights()
    reach = passes.reach()
    grid = Grid({layer: reach[layer] for layer in layers}, size)
    inside = _Inside(grid.reach)
    with_sums = settings.statistics() in losses.WITH_SUMS

    @tf.function(autograph=False)
    def measured(
        box: tf.Tensor, place: tf.Tensor, source: tf.Tensor | None
    ) -> dict[str, losses.Gram]:
        features = objective.features_at(layers, passes, box, network)
        features, counts = inside.features(features, place)
        weights = inside.weights(source, place)
        grams = {
            name: grams_of(of_layer, weights, name, with_sums)[0]
            for name, of_layer in features.items()
        }
        if weights is not None:
            return grams
        return {name: gram._replace(positions=counts[name]) for name, gram in grams.items()}

    total = None
    for tile in grid.tiles(style.shape[1:3]):
        box = tf.constant(style[tile.box])
        grams = measured(box, _place(tile), _cut_out(source, tile))
        total = grams if total is None else _added(total, grams)
    assert total is not None  # every picture has a tile
    return total


def _box_of(picture: tf.Tensor, tile: Tile) -> tf.Tensor:
    """The box of a tile in a picture [1, H, W, 3]."""
    first, last = tile.rows
    rows = [picture[:, part] for part, _ in pieces(first, last, picture.shape[1])]
    picture = rows[0] if len(rows) == 1 else tf.concat(rows, 1)
    first, last = tile.columns
    columns = [picture[:, :, part] for part, _ in pieces(first, last, picture.shape[2])]
    return columns[0] if len(columns) == 1 else tf.concat(columns, 2)


def _add(gradient: tf.Variable, tile: Tile, part: tf.Tensor) -> None:
    """Adds the part of a tile's box to the gradient of the picture."""
    _, height, width, _ = gradient.shape
    for rows, rows_in_box in pieces(*tile.rows, height):
        for columns, columns_in_box in pieces(*tile.columns, width):
            piece = gradient[:, rows, columns]
            piece.assign(piece + part[:, rows_in_box, columns_in_box])


def _cut_out(mask: np.ndarray | None, tile: Tile) -> tf.Tensor | None:
    return None if mask is None else tf.constant(tile.cut_out(mask))


def _place(tile: Tile) -> tf.Tensor:
    """The position of a tile: its first row and column, and the top, bottom, left and right of its
    inside. As a tensor, so that tiles of one shape share a trace."""
    return tf.constant([tile.rows[0], tile.columns[0], *tile.inside])


class _Inside:
    """Selects the features that count in the box of a tile: those of its inside. place: see
    `_place`."""

    def __init__(self, reach: Mapping[str, tuple[int, int]]):
        self._reach = reach

    def weights(self, mask: tf.Tensor | None, place: tf.Tensor) -> dict[str, tf.Tensor] | None:
        """The mask of a tile's box at each layer, 0 outside the inside; None without a mask."""
        weights = at_layers(mask, self._reach)
        return None if weights is None else self.features(weights, place)[0]

    def features(
        self, features: dict[str, tf.Tensor], place: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The features, 0 outside the inside; and the number of positions inside."""
        selected, counts = {}, {}
        for name, of_layer in features.items():
            mask = self._mask(name, of_layer, place)
            selected[name] = tf.where(mask, of_layer, tf.zeros((), of_layer.dtype))
            counts[name] = tf.reduce_sum(tf.cast(mask, tf.float32))
        return selected, counts

    def counted(
        self, features: dict[str, tf.Tensor], weights: Weights | None, place: tf.Tensor
    ) -> Weights:
        """How much positions count for `statistics.measure`; 0 outside the inside. weights: of the
        regions, as `weights` returns them."""
        if weights is not None:
            return weights
        return {
            name: tf.cast(self._mask(name, features[name], place), tf.float32)[tf.newaxis]
            for name in (ONE_PER_PLACE, colors.LAYER)
            if name in features
        }

    def gradients(self, gradients: Gradients, place: tf.Tensor) -> Gradients:
        """The gradients, 0 outside the inside: masked here, since a second version of the features
        would take too much memory."""

        def masked(name: str) -> list[tf.Tensor]:
            gradient = fused.on_gpu(sum_of)(gradients[name]())
            mask = self._mask(name, gradient, place)
            return [tf.where(mask, gradient, tf.zeros((), gradient.dtype))]

        return {name: functools.partial(masked, name) for name in gradients}

    def _mask(self, name: str, of_layer: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        """Which positions [h, w, 1] of a layer are inside."""
        stride, _ = self._reach[name]
        _, height, width, _ = of_layer.shape
        first_row, first_column, top, bottom, left, right = tf.unstack(place)
        rows = first_row + np.arange(0, stride * height, stride, dtype=np.int32)
        columns = first_column + np.arange(0, stride * width, stride, dtype=np.int32)
        rows = (rows >= top) & (rows < bottom)
        columns = (columns >= left) & (columns < right)
        return tf.reshape(rows, (-1, 1, 1)) & tf.reshape(columns, (-1, 1))
