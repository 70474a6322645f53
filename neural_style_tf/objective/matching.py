"""Matching: a photo, the picture so far and paintings -> which of the paintings' columns is nearest
to each place of the photo. Kolkin et al. 2022, section 3; see neighbors.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UsageError
from neural_style_tf.network import vgg
from neural_style_tf.objective import neighbors, objective
from neural_style_tf.objective.layer_masks import at_layers
from neural_style_tf.objective.neighbors import ONE_PER_PLACE, PLACE, NeighborTarget, size_in_places
from neural_style_tf.objective.targets import Targets, units_of
from neural_style_tf.objective.tiles import Grid
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import NEIGHBOR_LAYERS, Settings

BLOCK = 2**24  # cosines that are compared at a time
# Candidates whose cosines are computed again in float32: low precision cannot tell them apart.
CANDIDATES = 4
QUARTER_TURNS = 3  # copies of a painting, each turned by 90 degrees more
ROUNDS = 60  # of adjusting how much nearer a painting has to be, until each has its share


class Matches:
    """Which column each place of a stage is moved towards; decided once, when the stage begins.

    start: [1, H, W, 3] float32 RGB, 0..255, the picture that the stage begins with; None if that is
        the photo. indices: of an earlier run that is continued.
    """

    def __init__(self, start: np.ndarray | None = None, indices: np.ndarray | None = None):
        self._start, self.indices = start, indices

    def added_to(
        self,
        targets: Targets,
        network: vgg.Network,
        content: np.ndarray,
        styles: list[np.ndarray],
        settings: Settings,
        dtype: tf.DType,
        size: int | None,
        masks: Masks,
    ) -> Targets:
        """The targets with those of the columns, and with the units of all losses.

        content, styles: [1, H, W, 3] float32 RGB, 0..255. dtype: the search's, as the features'.
        size: pixels per side of the tiles; None for whole pictures. Raises `UsageError` for indices
        that are not of these pictures.
        """
        measure = _Measure(network, settings, size)
        palette = _Palette(measure, styles, settings, masks)
        if self.indices is None:
            queries = self._queries(measure, palette, content, settings)
            shares = settings.style_shares(len(styles))
            self.indices = _matched(queries, palette, dtype, shares, masks)
            self._start = None  # the picture may be large
        elif len(self.indices) != np.prod(size_in_places(*content.shape[1:3])) or (
            self.indices.max() >= palette.count or self.indices.min() < 0
        ):
            raise UsageError("the state to resume is not of these pictures: start again")
        return targets._replace(
            neighbors=palette.target(self.indices),
            units=units_of(targets, palette.mean_squares, settings),
        )

    def _queries(
        self, measure: "_Measure", palette: "_Palette", content: np.ndarray, settings: Settings
    ) -> np.ndarray:
        """The columns [places, channels] float32 that are looked up: the photo's, blended with
        those of the picture so far; about their own mean."""
        columns = palette.scaled(measure.columns(content))
        if self._start is not None:
            share = 0.5 if settings.stylization is None else settings.stylization
            columns *= 1 - share
            columns += share * palette.scaled(measure.columns(self._start))
        return columns - columns.mean(0)


class _Measure:
    """Measures the columns of pictures, tile by tile if they are large; in float32."""

    def __init__(self, network: vgg.Network, settings: Settings, size: int | None):
        self._network, self._settings, self._size = network, settings, size
        self._reach = objective.passes_of(network, settings).reach()
        self._squares = dict.fromkeys(self._reach, 0.0)  # of all features so far
        self._values = dict.fromkeys(self._reach, 0.0)  # how many these were
        self.widths: list[int] = []  # the channels of each layer of a column

    def columns(self, picture: np.ndarray) -> np.ndarray:
        """[places, channels] float32 of a picture [1, H, W, 3] float32 RGB, not yet scaled."""
        rows, columns = size_in_places(*picture.shape[1:3])
        grid = Grid(self._reach, self._size or max(picture.shape[1:3]))
        result: Any = None
        for tile in grid.tiles(picture.shape[1:3]):
            box = tf.constant(picture[tile.box])
            measure = objective.graph(_features, self._network, self._settings, box)
            features = measure(box)
            self._add_squares({name: features[name][grid.slices(name, tile)] for name in features})
            part = neighbors.at_places(features).numpy()
            if result is None:
                self.widths = [features[name].shape[-1] for name in NEIGHBOR_LAYERS]
                result = np.empty((rows, columns, part.shape[-1]), np.float32)
            _, down, across = grid.slices(ONE_PER_PLACE, tile)
            top, left = tile.rows[0] // PLACE, tile.columns[0] // PLACE
            inside = result[top + down.start : top + down.stop, left + across.start :]
            inside[:, : across.stop - across.start] = part[down, across]
        return result.reshape(rows * columns, -1)

    def _add_squares(self, features: dict[str, tf.Tensor]) -> None:
        for name, values in features.items():
            self._squares[name] += float(tf.reduce_sum(tf.square(values)))
            self._values[name] += float(tf.size(values))

    def mean_squares(self) -> dict[str, float]:
        """Of the features of all pictures so far, by layer."""
        return {name: self._squares[name] / self._values[name] for name in self._squares}


def _features(network: vgg.Network, settings: Settings) -> Callable:
    passes = objective.passes_of(network, settings)

    @tf.function(autograph=False)
    def features(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return objective.features_at(passes.reach(), passes, picture, network)

    return features


class _Palette:
    """The columns of all paintings, without the parts that they are not learnt from."""

    def __init__(
        self, measure: _Measure, styles: list[np.ndarray], settings: Settings, masks: Masks
    ):
        parts: list[np.ndarray] = []
        self._ranges: list[slice] = []  # of each painting
        for number, style in enumerate(styles):
            first = sum(map(len, parts))
            source = masks.source(number)
            for turns in range(1 + QUARTER_TURNS * settings.style_rotations):
                columns = measure.columns(np.rot90(style, turns, (1, 2)))
                if source is not None:
                    columns = columns[_is_learnt(np.rot90(source, turns, (1, 2)))]
                parts.append(columns)
            self._ranges.append(slice(first, sum(map(len, parts))))
        self.mean_squares, self._widths = measure.mean_squares(), measure.widths
        self._columns = np.concatenate(parts)
        self._scale = _scale(self._columns, self._widths)
        self._columns *= self._scale
        self._mean = self._columns.mean(0)
        self._columns -= self._mean
        self._columns /= np.linalg.norm(self._columns, axis=1, keepdims=True) + 1e-6

    @property
    def count(self) -> int:
        return len(self._columns)

    def scaled(self, columns: np.ndarray) -> np.ndarray:
        """The columns of another picture, as those of the paintings are scaled; in place."""
        columns *= self._scale
        return columns

    def search(
        self, queries: np.ndarray, style: int, dtype: tf.DType
    ) -> tuple[np.ndarray, np.ndarray]:
        """The cosine of each query with the nearest column of a painting, and its index."""
        span = self._ranges[style]
        cosines, indices = nearest(queries, self._columns[span], dtype)
        return cosines, indices + span.start

    def target(self, indices: np.ndarray) -> NeighborTarget:
        ends = np.cumsum(self._widths)[:-1]
        by_layer = zip(
            NEIGHBOR_LAYERS,
            np.split(self._columns, ends, axis=1),
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
    """[places] bool: the places of a painting that a mask [1, h, w, 1] has more in than out; all
    that it has the most of where it has none so."""
    at = _at_places(source)[:, 0]
    return at >= min(0.5, at.max())


def _at_places(mask: np.ndarray) -> np.ndarray:
    """A mask [1, H, W, masks] as [places, masks]."""
    places = at_layers(tf.constant(np.ascontiguousarray(mask)), {"places": (PLACE, 0)})
    assert places is not None
    return places["places"].numpy().reshape(-1, mask.shape[-1])


def _matched(
    queries: np.ndarray, palette: _Palette, dtype: tf.DType, shares: list[float], masks: Masks
) -> np.ndarray:
    """The index of the column for each place, [places] int32."""
    if masks.regions is not None and masks.regions.shape[-1] > 1:
        chosen = _at_places(masks.regions).argmax(-1)
        indices = np.zeros(len(queries), np.int32)
        for style in range(len(shares)):
            here = chosen == style
            if here.any():
                indices[here] = palette.search(queries[here], style, dtype)[1]
        return indices
    searched = [palette.search(queries, style, dtype) for style in range(len(shares))]
    chosen = by_shares(np.stack([cosines for cosines, _ in searched]), shares)
    return np.choose(chosen, [indices for _, indices in searched]).astype(np.int32)


def by_shares(cosines: np.ndarray, shares: list[float]) -> np.ndarray:
    """Which painting each place takes, [places]: the nearest, but so that each painting has its
    share of the places.

    cosines: [paintings, places], of the nearest column in each. shares: they sum to 1.
    """
    wanted = np.array(shares)
    handicaps = np.where(wanted > 0, 0.0, -np.inf)[:, np.newaxis]
    step = 1.0
    for _ in range(ROUNDS):
        chosen = (cosines + handicaps).argmax(0)
        taken = np.bincount(chosen, minlength=len(wanted)) / cosines.shape[1]
        handicaps[:, 0] += np.where(wanted > 0, step * (wanted - taken), 0.0)
        step *= 0.9
    return (cosines + handicaps).argmax(0)


def nearest(
    queries: np.ndarray, columns: np.ndarray, dtype: tf.DType
) -> tuple[np.ndarray, np.ndarray]:
    """The cosine of each query [n, channels] with the nearest of the columns [m, channels], which
    have length 1, and its index; the first of equally near ones. [n] float32 and [n] int32.

    dtype: of the search; in low precision the nearest few are compared again in float32.
    """
    keys = tf.constant(columns)
    low = keys if dtype == tf.float32 else tf.cast(keys, dtype)
    count = 1 if dtype == tf.float32 else min(CANDIDATES, len(columns))
    rows = max(1, BLOCK // len(columns))
    cosines, indices = [], []
    for first in range(0, len(queries), rows):
        block = tf.math.l2_normalize(tf.constant(queries[first : first + rows]), -1)
        products = tf.matmul(tf.cast(block, dtype), low, transpose_b=True)
        best, found = tf.math.top_k(tf.cast(products, tf.float32), count)
        if count > 1:
            found = tf.sort(found, -1)  # so that the first of equally near ones is taken
            best = tf.einsum("qc,qkc->qk", block, tf.gather(keys, found))
        winner = tf.argmax(best, -1)[:, tf.newaxis]
        cosines.append(tf.gather(best, winner, batch_dims=1)[:, 0].numpy())
        indices.append(tf.gather(found, winner, batch_dims=1)[:, 0].numpy())
    return np.concatenate(cosines), np.concatenate(indices)
