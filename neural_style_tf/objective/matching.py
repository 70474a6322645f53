"""Matching: a photo, the picture so far and paintings -> which of the paintings' columns is nearest
to each place of the photo. Kolkin et al. 2022, section 3; see neighbors.py.

All columns are compared if they are not too many, measured in float32. At a larger stage each
place, measured in the run's precision, is compared with what the places around it took at the stage
before, and with what is beside that; then again with what these take now: the shapes are decided
already, and what lies side by side in the painting stays together. Barnes et al. 2009,
"PatchMatch: A Randomized Correspondence Algorithm for Structural Image Editing", section 3.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UsageError
from neural_style_tf.network import vgg
from neural_style_tf.objective.colors import Colors, measured_painting, mixed
from neural_style_tf.objective.columns import (
    Box,
    Measure,
    Palette,
    Positions,
    mask_at_places,
    palette_of,
)
from neural_style_tf.objective.nearest import nearest, nearest_of
from neural_style_tf.objective.neighbors import size_in_places
from neural_style_tf.objective.targets import Targets, by_region, content_unit
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings

MOST_COSINES = 2**33  # all columns are compared up to about 1024 pixels
PASSES = 3  # over the places, where not all columns are compared
AROUND = tuple(itertools.product((-1, 0, 1), repeat=2))
ROUNDS = 60  # of adjusting how much nearer a painting has to be, until each has its share


class Chosen(NamedTuple):
    """Where the columns are that the places of a picture take."""

    positions: Positions  # in the paintings
    size: tuple[int, int]  # of the picture in places
    sheets: list[tuple[int, ...]]  # the sizes of the paintings in places


class Matches:
    """Which column each place of a stage is moved towards; decided once, when the stage begins.

    start: [1, H, W, 3] float32 RGB, 0..255, the picture that the stage begins with; None if that is
        the photo. coarser: of the stage before, if there is one. indices: of an earlier run that
        is continued.
    """

    def __init__(
        self,
        start: np.ndarray | None = None,
        coarser: "Matches | None" = None,
        indices: np.ndarray | None = None,
    ):
        self._start, self._coarser, self.indices = start, coarser, indices
        self.chosen: Chosen | None = None  # where these are

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
        """The targets with those of the columns and of the colours.

        content, styles: [1, H, W, 3] float32 RGB, 0..255. dtype: of the run's features.
        size: pixels per side of the tiles; None for whole pictures. Raises `UsageError` for indices
        that are not of these pictures.
        """
        palette = palette_of(network, styles, settings, size, masks)
        places = size_in_places(content.shape[1], content.shape[2])
        if self.indices is None:
            of_queries = tf.float32 if _are_few(palette, places) else dtype
            measure = Measure(network, settings, size, of_queries)
            queries = Queries(measure, palette, content, self._start, settings)
            shares = masks.blends(settings, len(styles))
            self.indices = self.looked_up(palette, queries, shares, masks, dtype)
            del queries  # they are as large as features, and so are pictures
            self._start = self._coarser = None
        elif len(self.indices) != places[0] * places[1] or not (
            self.indices.min() >= 0 and self.indices.max() < len(palette.columns)
        ):
            raise UsageError("the state to resume is not of these pictures: start again")
        self.chosen = chosen_at(palette, self.indices, places)
        return targets._replace(
            content_unit=content_unit(palette.mean_squares, settings),
            neighbors=palette.target(self.indices),
            colors=_colors_of(styles, targets, masks),
        )

    def looked_up(
        self,
        palette: Palette,
        queries: "Queries",
        shares: list[float],
        masks: Masks,
        dtype: tf.DType,
    ) -> np.ndarray:
        """The index of the column that each place takes, [places] int32."""
        are_few = _are_few(palette, queries.size)
        before = self._coarser.chosen if self._coarser and not are_few else None
        if before is None:
            # some of the columns, if there are too many; an odd step does not stay in line
            step = 1 if are_few else int(_cosines(palette, queries.size) // MOST_COSINES) + 1 | 1
            indices = matched(queries, Search(palette, None, dtype, step), shares, masks)
            if step == 1:
                return indices
            before = chosen_at(palette, indices, queries.size)
        for _ in range(PASSES):
            search = Search(palette, Around(before, queries.size), dtype)
            indices = matched(queries, search, shares, masks)
            before = chosen_at(palette, indices, queries.size)
        return indices


def _cosines(palette: Palette, places: tuple[int, int]) -> int:
    """How many there are, of all columns with as many places."""
    return math.prod(places) * len(palette.columns)


def _are_few(palette: Palette, places: tuple[int, int]) -> bool:
    """Whether all columns are compared with all places."""
    return _cosines(palette, places) <= MOST_COSINES


def _colors_of(styles: list[np.ndarray], targets: Targets, masks: Masks) -> dict[int, Colors]:
    """The colours that each region is to have, by its number."""
    each = [measured_painting(style, masks.source(number)) for number, style in enumerate(styles)]
    return {
        region: mixed([each[style] for style in own], [targets.shares[style] for style in own])
        for region, own in by_region(targets.regions).items()
    }


def chosen_at(palette: Palette, indices: np.ndarray, size: tuple[int, int]) -> Chosen:
    """Where the columns are that a picture takes. indices: [places]. size: in places."""
    return Chosen(palette.positions(indices), size, [sheet.shape for sheet in palette.sheets])


class Queries:
    """The columns that are looked up, tile by tile: the photo's, blended with those of the picture
    so far; about their own mean."""

    def __init__(
        self,
        measure: Measure,
        palette: Palette,
        content: np.ndarray,
        start: np.ndarray | None,
        settings: Settings,
    ):
        self._measure, self._palette, self._wraps = measure, palette, settings.wraps
        share = settings.balance()
        self._pictures = (
            [(content, 1.0)] if start is None else [(content, 1 - share), (start, share)]
        )
        self.size = size_in_places(content.shape[1], content.shape[2])
        self._whole: tuple[Box, np.ndarray] | None = None  # if that is a single tile
        sums, count = 0.0, self.size[0] * self.size[1]
        for where, columns in self._blended():
            sums = sums + columns.sum((0, 1), dtype=np.float64)
            if columns.shape[:2] == self.size:
                self._whole = where, columns
        self._mean = np.asarray(sums / count, np.float32)
        if self._whole is not None:
            self._whole[1][...] -= self._mean

    def __iter__(self) -> Iterator[tuple[Box, np.ndarray]]:
        """For each tile which places it covers, and their columns [rows, columns, channels]."""
        if self._whole is not None:
            yield self._whole
            return
        for where, columns in self._blended():
            columns -= self._mean
            yield where, columns

    def _blended(self) -> Iterator[tuple[Box, np.ndarray]]:
        each = [self._measure.tiles(picture, self._wraps) for picture, _ in self._pictures]
        shares = [share for _, share in self._pictures]
        while True:
            blended = np.empty(0, np.float32)
            for tiles, share in zip(each, shares, strict=True):
                tile = next(tiles, None)
                if tile is None:
                    return
                (rows, columns), parts = tile
                if not blended.size:
                    size = rows.stop - rows.start, columns.stop - columns.start
                    blended = np.zeros((*size, sum(self._measure.widths)), np.float32)
                for channels, of_rows in parts:
                    for row, values in enumerate(of_rows):
                        blended[row, :, channels] += share * values
            yield (rows, columns), self._palette.scale(blended)


class Search:
    """Looks for the nearest columns: among each `step`th of all, or around what places took
    before."""

    def __init__(self, palette: Palette, around: "Around | None", dtype: tf.DType, step: int = 1):
        self._palette, self._around, self._dtype, self._step = palette, around, dtype, step

    def nearest(
        self, queries: np.ndarray, rows: np.ndarray, columns: np.ndarray, style: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The cosine of each query [n, channels] with the nearest column of a painting, and its
        index. rows, columns: [n], of the places that they are from."""
        span = self._palette.of(style)
        if self._around is None:
            some = self._palette.columns[span.start : span.stop : self._step]
            cosines, indices = nearest(queries, some, self._dtype)
            return cosines, indices * self._step + span.start
        candidates = self._around.candidates(rows, columns, self._palette.sheets)
        outside = (candidates < span.start) | (candidates >= span.stop)
        return nearest_of(queries, self._palette.columns, candidates, outside, span.start)


class Around:
    """Which columns are compared with a place: those that the places around it took before, at the
    stage before or in the last pass, moved by as much as these places are away; and those beside
    its own."""

    def __init__(self, before: Chosen, size: tuple[int, int]):
        """size: of the picture in places."""
        self._size, self._positions, self._before = before.size, before.positions, before.sheets
        self._ratio = before.size[0] / size[0], before.size[1] / size[1]

    def candidates(
        self, rows: np.ndarray, columns: np.ndarray, sheets: list[np.ndarray]
    ) -> np.ndarray:
        """Their indices, [n, candidates]; -1 for none. rows, columns: [n], of the places. sheets:
        of the palette."""
        at_row, at_column = (rows + 0.5) * self._ratio[0], (columns + 0.5) * self._ratio[1]
        scales = np.array([sheet.shape for sheet in sheets]) / self._before  # [sheets, 2]
        result = []
        for down, across in AROUND:
            row = np.clip(at_row.astype(int) + down, 0, self._size[0] - 1)
            column = np.clip(at_column.astype(int) + across, 0, self._size[1] - 1)
            sheet, top, left = (of[row * self._size[1] + column] for of in self._positions)
            top = np.floor((top + at_row - row) * scales[sheet, 0]).astype(int)
            left = np.floor((left + at_column - column) * scales[sheet, 1]).astype(int)
            beside = AROUND if (down, across) == (0, 0) else [(0, 0)]
            for lower, right in beside:
                result.append(_at(sheets, sheet, top + lower, left + right))
        return np.stack(result, 1)


def _at(
    sheets: list[np.ndarray], sheet: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """The indices of the columns at these positions, [n]; -1 outside of a painting."""
    result = np.full(len(sheet), -1)
    for number, indices in enumerate(sheets):
        height, width = indices.shape
        is_in = (sheet == number) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        result[is_in] = indices[row[is_in], column[is_in]]
    return result


def matched(queries: Queries, search: Search, shares: list[float], masks: Masks) -> np.ndarray:
    """The index of the column for each place, [places] int32."""
    allowed, counts, shares = _divided(queries.size, shares, masks)
    cosines = np.full(allowed.shape, -np.inf, np.float32)
    indices = np.zeros(allowed.shape, np.int32)
    for where, columns in queries:
        rows, across = (index.ravel() for index in np.mgrid[where])
        flat = columns.reshape(len(rows), -1)
        for style in range(len(shares)):
            here = allowed[style][where].ravel()
            place = style, rows[here], across[here]
            if len(place[1]):
                queried = flat if here.all() else flat[here]  # without a copy if possible
                cosines[place], indices[place] = search.nearest(queried, *place[1:], style)
    by_style = indices.reshape(len(shares), -1)
    if len(shares) == 1:
        return by_style[0]
    chosen = by_shares(cosines.reshape(len(shares), -1), shares, counts.ravel())
    return np.take_along_axis(by_style, chosen[np.newaxis], 0)[0]


def _divided(
    size: tuple[int, int], shares: list[float], masks: Masks
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Which places may take from each painting, [paintings, rows, columns] bool; how much each
    place counts, [rows, columns]; and the share of the places that each painting is to have. Where
    regions overlap their paintings share the places."""
    counts = np.ones(size)
    if masks.regions is None:
        return np.ones((len(shares), *size), bool), counts, shares
    covered = np.moveaxis(mask_at_places(masks.regions), -1, 0)
    counts = np.minimum(covered.sum(0, dtype=np.float64), 1)
    allowed = (covered >= covered.max(0) / 2)[masks.numbers(len(shares))]
    parts = allowed * np.reshape(shares, (-1, 1, 1))
    parts = counts * parts / np.maximum(parts.sum(0), 1e-6)
    wanted = parts.sum((1, 2))
    return allowed, counts, list(wanted / max(wanted.sum(), 1e-6))


def by_shares(cosines: np.ndarray, shares: list[float], counts: np.ndarray) -> np.ndarray:
    """Which painting each place takes, [places]: the nearest, but so that each painting has its
    share of the places that count.

    cosines: [paintings, places], of the nearest column in each; minus infinity where a place may
        not take from it. shares: they sum to 1.
    counts: [places], 0..1, how much each place counts.
    """
    wanted = np.array(shares)
    counts = counts / max(counts.sum(), 1e-6)
    # only a place that may take from no other takes from a painting without a share
    handicaps = np.where(wanted > 0, 0.0, -100.0)[:, np.newaxis]
    step = 1.0
    for _ in range(ROUNDS):
        chosen = (cosines + handicaps).argmax(0)
        taken = np.bincount(chosen, counts, minlength=len(wanted))
        handicaps[:, 0] += np.where(wanted > 0, step * (wanted - taken), 0.0)
        step *= 0.9
    return (cosines + handicaps).argmax(0)
