"""Columns: pictures -> the columns of their places, in float32; see neighbors.py.

They take as much memory as many features, so they are copied into their place layer by layer, and
what they were copied from is released meanwhile.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import recent
from neural_style_tf.network import vgg
from neural_style_tf.objective import neighbors, objective
from neural_style_tf.objective.layer_masks import at_layers
from neural_style_tf.objective.neighbors import ONE_PER_PLACE, PLACE, NeighborTarget
from neural_style_tf.objective.tiles import Grid, Tile
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings
from neural_style_tf.usual import NEIGHBOR_LAYERS

Box = tuple[slice, slice]  # rows and columns of places
# Of columns: which channels, and for each row of places these channels [columns, channels] float32.
Parts = Iterator[tuple[slice, Iterator[np.ndarray]]]
ROWS = 4096  # columns whose lengths are computed at a time


class Measure:
    """Measures the columns of pictures, tile by tile if they are large."""

    def __init__(
        self,
        network: vgg.Network,
        settings: Settings,
        size: int | None,
        dtype: tf.DType = tf.float32,
    ):
        """size: pixels per side of the tiles; None for whole pictures. dtype: of the features."""
        self._network, self._settings, self._size = network, settings, size
        self._dtype = dtype
        self._reach = objective.passes_of_parts(network, settings).reach()
        layers = settings.content_layer_weights()
        self._squares = dict.fromkeys(layers, 0.0)  # of all features so far
        self._values = dict.fromkeys(layers, 0.0)  # how many these were
        self.widths: list[int] = []  # the channels of each layer of a column

    def tiles(self, picture: np.ndarray, wraps: bool = False) -> Iterator[tuple[Box, Parts]]:
        """For each tile of a picture [1, H, W, 3] float32 RGB, 0..255, which places it covers, and
        the parts of their columns, not yet scaled; each is released when the next is asked for.

        wraps: whether its opposite edges meet."""
        grid = Grid(self._reach, self._size or max(picture.shape[1:3]), wraps)
        for tile in grid.tiles(picture.shape[1:3]):
            _, rows, columns = grid.slices(ONE_PER_PLACE, tile)
            top, left = tile.rows[0] // PLACE, tile.columns[0] // PLACE
            where = (
                slice(top + rows.start, top + rows.stop),
                slice(left + columns.start, left + columns.stop),
            )
            box = tf.constant(tile.cut_out(picture))
            places = neighbors.size_in_places(box.shape[1], box.shape[2])
            parts = self._measured(box, grid, tile)
            self.widths = [part.shape[-1] for part in parts]
            yield where, _in_turn(parts, places, rows, columns)

    def _measured(self, box: tf.Tensor, grid: Grid, tile: Tile) -> list[tf.Tensor]:
        """The parts of the columns of a box, and counts the features of its tile."""
        measure = objective.graph(_columns, self._network, self._settings, box, self._dtype)
        parts, features = measure(box)
        for name, values in features.items():
            values = values[grid.slices(name, tile)]
            self._squares[name] += float(tf.reduce_sum(tf.square(values)))
            self._values[name] += float(tf.size(values))
        return list(parts)

    def mean_squares(self) -> dict[str, float]:
        """Of the features of all pictures so far, by content layer."""
        return {name: self._squares[name] / self._values[name] for name in self._squares}


def _columns(network: vgg.Network, settings: Settings, dtype: tf.DType) -> Callable:
    passes = objective.passes_of_parts(network, settings, dtype)
    content = settings.content_layer_weights()

    @tf.function(autograph=False)
    def columns(picture: tf.Tensor) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        features = objective.features_at(passes.reach(), passes, picture, network)
        parts = [tf.cast(part, tf.float32) for part in neighbors.at_places(features)]
        return parts, {name: tf.cast(features[name], tf.float32) for name in content}

    return columns


def _in_turn(parts: list[tf.Tensor], size: tuple[int, int], rows: slice, columns: slice) -> Parts:
    """These rows and columns of the parts of columns in a box of that size in places. Row by row,
    and each part is released when the next is asked for: they are as large as features."""
    channel = 0
    while parts:
        part = np.asarray(parts.pop(0))  # not `.numpy()`, which is a copy
        down, across = (
            np.arange(side) // -(-side // of) for side, of in zip(size, part.shape[:2], strict=True)
        )
        channels = slice(channel, channel + part.shape[-1])
        yield channels, (part[row, across[columns]] for row in down[rows])
        channel = channels.stop


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
        self._ranges: list[slice] = []  # the columns of each painting
        self.sheets: list[np.ndarray] = []  # [rows, columns] of indices, -1 where nothing is learnt
        copies = range(neighbors.copies_of_each(settings))
        for number, style in enumerate(styles):
            first, source = self._count(), masks.source(number)
            for turns in copies:
                turned = np.rot90(style, turns, (1, 2))
                learnt = np.ones(neighbors.size_in_places(*turned.shape[1:3]), bool)
                if source is not None:
                    learnt = _is_learnt(np.rot90(source, turns, (1, 2)))
                numbers = self._count() + learnt.cumsum().reshape(learnt.shape) - 1
                self.sheets.append(np.where(learnt, numbers, -1))
            self._ranges.append(slice(first, self._count()))
        pictures = (np.rot90(style, turns, (1, 2)) for style in styles for turns in copies)
        self.columns = self._measured(measure, pictures)  # [n, channels] float32, of length 1
        self.mean_squares, self._widths = measure.mean_squares(), measure.widths
        self._scale = _scale(self.columns, self._widths)
        self.columns *= self._scale
        self._mean = self.columns.mean(0)
        self.columns -= self._mean
        for first in range(0, len(self.columns), ROWS):
            some = self.columns[first : first + ROWS]
            some /= np.linalg.norm(some, axis=1, keepdims=True) + 1e-6

    def _count(self) -> int:
        """Of the columns so far."""
        return 1 + max((int(sheet.max()) for sheet in self.sheets), default=-1)

    def _measured(self, measure: Measure, pictures: Iterator[np.ndarray]) -> np.ndarray:
        """The columns of the sheets, which are of these pictures, not yet scaled."""
        result = np.empty((0, 0), np.float32)
        for sheet, picture in zip(self.sheets, pictures, strict=True):
            for where, parts in measure.tiles(picture):
                if not result.size:
                    result = np.empty((self._count(), sum(measure.widths)), np.float32)
                for channels, rows in parts:
                    for numbers, row in zip(sheet[where], rows, strict=True):
                        learnt = numbers >= 0
                        result[numbers[learnt], channels] = row[learnt]
        return result

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


def palette_of(
    network: vgg.Network,
    styles: list[np.ndarray],
    settings: Settings,
    size: int | None,
    masks: Masks,
) -> Palette:
    """The palette of paintings, measured in tiles of that size; remembered for the next photo of a
    batch."""

    def make() -> Palette:
        return Palette(Measure(network, settings, size), styles, settings, masks)

    if not recent.targets.max_size:
        return make()
    sources = [masks.source(number) for number in range(len(styles))]
    digests = [
        None if picture is None else (picture.shape, hashlib.blake2b(picture.tobytes()).digest())
        for picture in [*styles, *sources]
    ]
    key = (Palette, id(network.layers), settings.of_losses(), size, *digests)
    # the network is held so that its id stays its own
    made = recent.targets.get(key, lambda: (network, make()), lambda made: made[1].columns.nbytes)
    return made[1]


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
