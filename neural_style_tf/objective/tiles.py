"""Tiles: the size of a picture -> the parts that go through the network. Geometry only."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """A part of a picture: ranges of pixels [first, last). Where opposite edges meet, its box may
    extend beyond the edges: before 0 is the end of the picture, and beyond the end its beginning.
    """

    rows: tuple[int, int]  # of the box that goes through the network
    columns: tuple[int, int]
    inside: tuple[int, int, int, int]  # the part that counts: top, bottom, left, right

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The slices of its box in a batch [1, H, W, ...], if that extends beyond no edge."""
        return slice(None), slice(*self.rows), slice(*self.columns)

    def cut_out(self, picture: np.ndarray, stride: int = 1) -> np.ndarray:
        """Its box [1, h, w, ...] of a picture [1, H, W, ...] with one position in `stride`
        pixels."""
        for axis, (first, last) in enumerate((self.rows, self.columns), 1):
            length = picture.shape[axis]
            first, last = first // stride, -(-last // stride)
            if first < 0 or last > length:
                picture = picture.take(np.arange(first, last), axis, mode="wrap")
            else:
                picture = picture[(slice(None),) * axis + (slice(first, last),)]
        return picture


def pieces(first: int, last: int, length: int) -> Iterator[tuple[slice, slice]]:
    """The parts of a range [first, last) in a picture whose opposite edges meet and whose side has
    that length: each as a slice of the side, and as a slice of the range."""
    begin = first
    while begin < last:
        start = begin % length
        end = min(last, begin + length - start)
        yield slice(start, start + end - begin), slice(begin - first, end - first)
        begin = end


def cut(height: int, width: int, size: int, margin: int, stride: int) -> list[Tile]:
    """The tiles of a picture. Their insides cover it exactly once; the box of each is at least
    `margin` pixels larger on every side, up to the edge of the picture.

    No box has more pixels than a square with an inside of `size` pixels per side. Of all ways to
    cut the picture so, in squares or bands, this is the one with the fewest pixels in all boxes.
    Size and margin are multiples of `stride`, and so is every edge except the picture's own: so
    poolings join the same pixels as in the whole picture. There are at most four shapes of boxes,
    since each has to be traced.
    """
    most_pixels, ways = (size + 2 * margin) ** 2, []
    for down in range(1, 1 + max(1, math.ceil((height - 2 * margin) / stride))):
        longest = most_pixels // _longest(height, down, margin, stride)
        across = _fewest(width, longest, margin, stride)
        if across:
            sums = [2 * margin * (down - 1) + height, 2 * margin * (across - 1) + width]
            ways.append((math.prod(sums), down, across))
    _, down, across = min(ways)
    return [
        Tile(rows, columns, (*inside_rows, *inside_columns))
        for rows, inside_rows in _spans(height, down, margin, stride)
        for columns, inside_columns in _spans(width, across, margin, stride)
    ]


def _fewest(length: int, longest: int, margin: int, stride: int) -> int | None:
    """The least number of boxes along a side such that none is longer; None if there is none."""
    if length <= longest:
        return 1
    step = (longest - 2 * margin) // stride * stride
    return math.ceil((length - 2 * margin) / step) if step > 0 else None


def _longest(length: int, count: int, margin: int, stride: int) -> int:
    """The length of the longest of `count` boxes along a side."""
    return length if count == 1 else _step(length, count, margin, stride) + 2 * margin


def _step(length: int, count: int, margin: int, stride: int) -> int:
    return math.ceil((length - 2 * margin) / count / stride) * stride


def _spans(length: int, count: int, margin: int, stride: int) -> Iterator[tuple]:
    """The box and the inside of each tile along one side, as (first, last). The margin stops
    at the ends of the picture, so the inside is larger there: all boxes except the last are
    equally long."""
    step = _step(length, count, margin, stride)
    count = 1 if count == 1 else math.ceil((length - 2 * margin) / step)
    for number in range(count):
        first = number * step
        is_last = number == count - 1
        last = length if is_last else first + step + 2 * margin
        yield (first, last), (first + margin * (number > 0), last - margin * (not is_last))


class Grid:
    """How pictures are cut into tiles for some layers of a network.

    reach: for each layer its stride, and how many pixels beyond it its features see, as
    `Passes.reach()` returns them. size: pixels per side of a tile's inside, rounded down to a
    multiple of the largest stride. wraps: whether opposite edges of the pictures meet.
    """

    def __init__(self, reach: Mapping[str, tuple[int, int]], size: int, wraps: bool = False):
        self.reach, self._wraps = reach, wraps
        self.stride = max(stride for stride, _ in reach.values())
        margin = max(pixels for _, pixels in reach.values())
        self.margin = -(-margin // self.stride) * self.stride
        self.size = max(self.stride, size // self.stride * self.stride)

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """The tiles of a picture of that height and width."""
        if not self._wraps:
            return cut(*size, self.size, self.margin, self.stride)
        # those of a picture with a margin beyond each edge, which counts as no inside
        height, width = (side + 2 * self.margin for side in size)
        wide = cut(height, width, self.size, self.margin, self.stride)
        return [_moved(tile, self.margin, *size) for tile in wide]

    def is_whole(self, size: tuple[int, int]) -> bool:
        """Whether a picture of that height and width is not larger than one tile."""
        return len(cut(*size, self.size, self.margin, self.stride)) == 1

    def slices(self, name: str, tile: Tile) -> tuple[slice, slice, slice]:
        """The slices of the inside in a layer's features [1, h, w, channels] of a tile's box."""
        stride, _ = self.reach[name]
        top, bottom, left, right = tile.inside

        def positions(first: int, last: int, start: int) -> slice:
            return slice((first - start) // stride, -(-(last - start) // stride))

        rows = positions(top, bottom, tile.rows[0])
        columns = positions(left, right, tile.columns[0])
        return slice(None), rows, columns


def _moved(tile: Tile, margin: int, height: int, width: int) -> Tile:
    """A tile of a picture with that margin as one of the picture without."""
    rows, columns = ((first - margin, last - margin) for first, last in (tile.rows, tile.columns))
    top, bottom, left, right = (edge - margin for edge in tile.inside)
    inside = max(0, top), min(bottom, height), max(0, left), min(right, width)
    return Tile(rows, columns, inside)
