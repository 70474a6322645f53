"""Columns: pictures -> the columns of their places, measured in float32; see neighbors.py."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.network import vgg
from neural_style_tf.objective import neighbors, objective
from neural_style_tf.objective.layer_masks import at_layers
from neural_style_tf.objective.neighbors import ONE_PER_PLACE, PLACE, NeighborTarget
from neural_style_tf.objective.tiles import Grid
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import NEIGHBOR_LAYERS, Settings

Box = tuple[slice, slice]  # rows and columns of places


class Measure:
    """Measures the columns of pictures, tile by tile if they are large."""

    def __init__(self, network: vgg.Network, settings: Settings, size: int | None):
        """size: pixels per side of the tiles; None for whole pictures."""
        self._network, self._settings, self._size = network, settings, size
        self._reach = objective.passes_of_parts(network, settings).reach()
        layers = settings.content_layer_weights()
        self._squares = dict.fromkeys(layers, 0.0)  # of all features so far
        self._values = dict.fromkeys(layers, 0.0)  # how many these were
        self.widths: list[int] = []  # the channels of each layer of a column

    def tiles(self, picture: np.ndarray, wraps: bool = False) -> Iterator[tuple[Box, np.ndarray]]:
        """For each tile of a picture [1, H, W, 3] float32 RGB, 0..255, which places it covers, and
        their columns [rows, columns, channels] float32, not yet scaled.

        wraps: whether its opposite edges meet."""
        grid = Grid(self._reach, self._size or max(picture.shape[1:3]), wraps)
        for tile in grid.tiles(picture.shape[1:3]):
            box = tf.constant(tile.cut_out(picture))
            measure = objective.graph(_columns, self._network, self._settings, box)
            parts, features = measure(box)
            self._count({name: features[name][grid.slices(name, tile)] for name in features})
            self.widths = [part.shape[-1] for part in parts]
            _, rows, columns = grid.slices(ONE_PER_PLACE, tile)
            top, left = tile.rows[0] // PLACE, tile.columns[0] // PLACE
            where = (
                slice(top + rows.start, top + rows.stop),
                slice(left + columns.start, left + columns.stop),
            )
            yield where, np.concatenate([part[rows, columns] for part in parts], -1)

    def whole(self, picture: np.ndarray) -> np.ndarray:
        """The columns of all tiles, [rows, columns, channels]."""
        size = neighbors.size_in_places(picture.shape[1], picture.shape[2])
        result = np.empty(0, np.float32)
        for (rows, columns), part in self.tiles(picture):
            if not result.size:
                result = np.empty((*size, part.shape[-1]), np.float32)
            result[rows, columns] = part
        return result

    def _count(self, features: dict[str, tf.Tensor]) -> None:
        for name, values in features.items():
            self._squares[name] += float(tf.reduce_sum(tf.square(values)))
            self._values[name] += float(tf.size(values))

    def mean_squares(self) -> dict[str, float]:
        """Of the features of all pictures so far, by content layer."""
        return {name: self._squares[name] / self._values[name] for name in self._squares}


def _columns(network: vgg.Network, settings: Settings) -> Callable:
    passes = objective.passes_of_parts(network, settings)
    content = settings.content_layer_weights()

    @tf.function(autograph=False)
    def columns(picture: tf.Tensor) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        features = objective.features_at(passes.reach(), passes, picture, network)
        return neighbors.at_places(features), {name: features[name] for name in content}

    return columns


class Positions(NamedTuple):
    """Where columns are in the paintings; all are integers [n]."""

    sheet: np.ndarray  # which painting, or turned copy of one
    row: np.ndarray
    column: np.ndarray


class Palette:
    """The columns of all paintings, except where a source mask leaves them out."""

    def __init__(
        self, measure: Measure, styles: list[np.ndarray], settings: Settings, masks: Masks
    ):
        """styles: [1, H, W, 3] float32 RGB, 0..255."""
        parts: list[np.ndarray] = []
        self._ranges: list[slice] = []  # the columns of each painting
        self.sheets: list[np.ndarray] = []  # [rows, columns] of indices, -1 where nothing is learnt
        count = 0
        for number, style in enumerate(styles):
            first, source = count, masks.source(number)
            for turns in range(neighbors.copies_of_each(settings)):
                columns = measure.whole(np.rot90(style, turns, (1, 2)))
                learnt = np.ones(columns.shape[:2], bool)
                if source is not None:
                    learnt = _is_learnt(np.rot90(source, turns, (1, 2)))
                parts.append(columns[learnt])
                self.sheets.append(
                    np.where(learnt, count + learnt.cumsum().reshape(learnt.shape) - 1, -1)
                )
                count += len(parts[-1])
            self._ranges.append(slice(first, count))
        self.mean_squares, self._widths = measure.mean_squares(), measure.widths
        self.columns = np.concatenate(parts)  # [n, channels] float32, of length 1
        parts.clear()
        self._scale = _scale(self.columns, self._widths)
        self.columns *= self._scale
        self._mean = self.columns.mean(0)
        self.columns -= self._mean
        self.columns /= np.linalg.norm(self.columns, axis=1, keepdims=True) + 1e-6

    def of(self, style: int) -> slice:
        """Which columns are those of a painting."""
        return self._ranges[style]

    def positions(self, indices: np.ndarray) -> Positions:
        """Where the columns with these indices are."""
        result = np.empty((3, len(self.columns)), np.int32)
        for number, sheet in enumerate(self.sheets):
            rows, columns = np.nonzero(sheet >= 0)
            result[:, sheet[rows, columns]] = np.full(len(rows), number), rows, columns
        return Positions(*result[:, indices])

    def scale(self, columns: np.ndarray) -> np.ndarray:
        """Scales the columns of another picture as those of the paintings are; in place."""
        columns *= self._scale
        return columns

    def target(self, indices: np.ndarray) -> NeighborTarget:
        """The target of places that are moved towards the columns with these indices."""
        ends = np.cumsum(self._widths)[:-1]
        by_layer = zip(
            NEIGHBOR_LAYERS,
            np.split(self.columns, ends, axis=1),
            np.split(self._mean, ends),
            np.split(self._scale, ends),
            strict=True,
        )
        columns, means, scales = {}, {}, {}
        for name, of_layer, mean, scale in by_layer:
            columns[name] = tf.cast(tf.constant(of_layer), tf.bfloat16)
            means[name], scales[name] = tf.constant(mean), tf.constant(scale[0])
        return NeighborTarget(columns, means, scales, tf.constant(indices))


def _scale(columns: np.ndarray, widths: list[int]) -> np.ndarray:
    """What each channel of columns is multiplied by, so that all layers count alike."""
    squares = np.einsum("nc,nc->c", columns, columns, dtype=np.float64) / len(columns)
    layers = np.split(squares, np.cumsum(widths)[:-1])
    return np.concatenate(
        [np.full(len(layer), 1 / np.sqrt(layer.sum() + 1e-12), np.float32) for layer in layers]
    )


def _is_learnt(source: np.ndarray) -> np.ndarray:
    """[rows, columns] bool: the places of a painting that a mask [1, h, w, 1] covers at least half
    of; where there are none, those that it covers most of."""
    covered = mask_at_places(source)[..., 0]
    return covered >= min(0.5, covered.max())


def mask_at_places(mask: np.ndarray) -> np.ndarray:
    """A mask [1, H, W, masks] as [rows, columns, masks] of places."""
    places = at_layers(tf.constant(np.ascontiguousarray(mask)), {"places": (PLACE, 0)})
    assert places is not None  # as the mask is not
    return places["places"].numpy()[0]
