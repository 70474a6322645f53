"""Tiles: the size of a picture -> the parts that it is run through a network in. Geometry only."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Tile(NamedTuple):
    """A part of a picture: ranges of pixels [first, last)."""

    rows: tuple[int, int]  # what is run through the network
    columns: tuple[int, int]
    inside: tuple[int, int, int, int]  # what counts: first and last row, first and last column

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Where it is in a batch [1, H, W, ...]."""
        return slice(None), slice(*self.rows), slice(*self.columns)


def cut(height: int, width: int, size: int, margin: int, stride: int) -> list[Tile]:
    """The tiles of a picture: their insides cover it once; each is run with at least `margin`
    pixels more on every side that the picture has. None has more pixels than a square whose inside
    is `size` a side; of all ways to cut a picture so, squares or bands, it is the one that runs the
    fewest.

    Size and margin are multiples of `stride`, and so is every edge but the picture's own: poolings
    fall as they do in the whole picture. There are at most four shapes: each has to be traced.
    """
    most, ways = (size + 2 * margin) ** 2, []
    for down in range(1, 1 + max(1, math.ceil((height - 2 * margin) / stride))):
        longest = most // _longest(height, down, margin, stride)
        across = _fewest(width, longest, margin, stride)
        if across:
            run = [2 * margin * (down - 1) + height, 2 * margin * (across - 1) + width]
            ways.append((math.prod(run), down, across))
    _, down, across = min(ways)
    return [
        Tile(rows, columns, (*inside_rows, *inside_columns))
        for rows, inside_rows in _spans(height, down, margin, stride)
        for columns, inside_columns in _spans(width, across, margin, stride)
    ]


def _fewest(length: int, longest: int, margin: int, stride: int) -> int | None:
    """Into how many a side is to be cut so that none is longer; None for what cannot be."""
    if length <= longest:
        return 1
    step = (longest - 2 * margin) // stride * stride
    return math.ceil((length - 2 * margin) / step) if step > 0 else None


def _longest(length: int, count: int, margin: int, stride: int) -> int:
    """The most that is run of one of so many along a side."""
    return length if count == 1 else _step(length, count, margin, stride) + 2 * margin


def _step(length: int, count: int, margin: int, stride: int) -> int:
    return math.ceil((length - 2 * margin) / count / stride) * stride


def _spans(length: int, count: int, margin: int, stride: int) -> Iterator[tuple]:
    """Along one side, what is run and what counts of each tile. Where the picture ends there is no
    margin, and more counts: so all but the last are equally long."""
    step = _step(length, count, margin, stride)
    count = 1 if count == 1 else math.ceil((length - 2 * margin) / step)
    for number in range(count):
        first = number * step
        is_last = number == count - 1
        last = length if is_last else first + step + 2 * margin
        yield (first, last), (first + margin * (number > 0), last - margin * (not is_last))


class Grid:
    """How pictures are cut into tiles for the layers of a network.

    reach: of each layer the stride, and how far its features see (`Passes.reach()`); size: pixels
    a side of a tile's inside, rounded down to a multiple of the largest stride.
    """

    def __init__(self, reach: Mapping[str, tuple[int, int]], size: int):
        self.reach = reach
        self.stride = max(stride for stride, _ in reach.values())
        margin = max(pixels for _, pixels in reach.values())
        self.margin = -(-margin // self.stride) * self.stride
        self.size = max(self.stride, size // self.stride * self.stride)

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """Those of a picture of that height and width."""
        return cut(*size, self.size, self.margin, self.stride)

    def slices(self, name: str, tile: Tile) -> tuple[slice, slice, slice]:
        """Where in a layer's features [1, h, w, channels] of a tile's box those are that count."""
        stride, _ = self.reach[name]
        top, bottom, left, right = tile.inside
        return (
            slice(None),
            *(
                slice((first - start) // stride, -(-(last - start) // stride))
                for first, last, start in (
                    (top, bottom, tile.rows[0]),
                    (left, right, tile.columns[0]),
                )
            ),
        )
