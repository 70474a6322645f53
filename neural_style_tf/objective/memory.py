"""Memory: how large tiles may be, and smaller ones when it runs out nevertheless."""

import contextlib
import gc
import math
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.machine import memory
from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.network import vgg
from neural_style_tf.objective import colors, neighbors, objective
from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.objective.matching import Matches
from neural_style_tf.objective.tiled import TiledObjective
from neural_style_tf.objective.tiles import Grid
from neural_style_tf.pictures import places
from neural_style_tf.pictures.masks import NO_MASKS, Masks
from neural_style_tf.settings import SMALLEST_TILE, Settings

Losses = Callable[[tf.Tensor], dict[str, tf.Tensor]]

# How many times the columns of the paintings, and those of a tile, are held at the same time while
# neighbours are looked for: by the peak at 1024 pixels.
PALETTES = 3
COLUMNS_BESIDE = 4
SHARE_OF_FREE = 0.8  # of free memory: estimates are rough, and other programs run


def choose_size(
    network: vgg.Network,
    sizes: list[tuple[int, int]],
    settings: Settings,
    dtype: tf.DType,
    pictures_beside: int,
) -> int | None:
    """The pixels per side of the tiles for a run; None to run whole, if every picture fits in one
    tile or tiling is off. "auto" tiles only what does not fit in free memory, in the largest tiles
    that do.

    sizes: height and width of each picture, the content's first. pictures_beside: float32 pictures
    of the content's size that the run holds besides its features.
    """
    if settings.tile == "off":
        return None
    passes = objective.passes_of(network, settings, dtype, often=True)
    if settings.tile != "auto":
        grid = Grid(passes.reach(), int(settings.tile))
        return None if all(map(grid.is_whole, sizes)) else int(settings.tile)
    free = memory.free_memory()
    if free is None:
        return None
    (height, width), *styles = sizes
    available = SHARE_OF_FREE * free - pictures_beside * 12 * height * width
    per_pixel = passes.bytes_per_pixel()
    if settings.style_loss == "neighbors":
        columns = neighbors.bytes_per_pixel(passes)
        palette = columns * neighbors.copies_of_each(settings) * sum(map(math.prod, styles))
        available -= PALETTES * palette
        per_pixel += COLUMNS_BESIDE * columns + colors.bytes_per_pixel()
    pixels = available / per_pixel
    if max(height * width for height, width in sizes) <= pixels:
        return None
    grid = Grid(passes.reach(), SMALLEST_TILE)
    side = int(max(pixels, 0) ** 0.5) - 2 * grid.margin
    return max(SMALLEST_TILE, side // grid.stride * grid.stride)


def make_objective(
    network: vgg.Network,
    content: np.ndarray,
    styles: list[np.ndarray],
    settings: Settings,
    dtype: tf.DType,
    size: int | None,
    masks: Masks = NO_MASKS,
    matches: Matches | None = None,
) -> tuple[Objective, Losses]:
    """The objective of pictures of the content's size; and their losses alone, in float32.

    content, styles: [1, H, W, 3] float32 RGB, 0..255, as arrays: a second copy of large ones
    would not fit in memory. size: of the tiles; None for whole pictures. matches: of the stage,
    with `style_loss="neighbors"`; by default those of the photo. When memory runs out, the tiles
    are halved and the evaluation is repeated. Raises `UserError` if the smallest do not fit
    either.
    """
    pictures = _ParkedPictures([content, *styles])
    if settings.style_loss == "neighbors" and matches is None:
        matches = Matches()

    def make(size: int | None) -> tuple[Objective, Losses]:
        content, *styles = pictures.fetch()
        if size is None:
            paintings = [tf.constant(style) for style in styles]
            photo = tf.constant(content)
            targets = objective.measure_targets(network, photo, paintings, settings, masks)
            if matches is not None:
                targets = matches.added_to(
                    targets, network, content, styles, settings, dtype, size, masks
                )
            whole = objective.make_objective(network, targets, settings, dtype, masks)
            return whole, objective.make_losses(network, targets, settings, masks)
        tiled = TiledObjective(network, content, styles, settings, dtype, size, masks, matches)
        pictures.park()
        return tiled, tiled.losses

    largest = max(math.prod(picture.shape[1:3]) for picture in (content, *styles))
    retrying = _WithSmallerTiles(make, size, math.isqrt(largest))
    return retrying.evaluate, retrying.losses


class _ParkedPictures:
    """Pictures that are unlikely to be needed again. Once parked they are in a temporary file, if
    the disk has space for it."""

    def __init__(self, pictures: list[np.ndarray]):
        self._pictures, self._count = pictures, len(pictures)
        self._file: IO[bytes] | None = None

    def fetch(self) -> list[np.ndarray]:
        if self._file is None:
            return self._pictures
        self._file.seek(0)
        return [np.load(self._file) for _ in range(self._count)]

    def park(self) -> None:
        if not self._pictures:
            return
        with contextlib.suppress(OSError):
            file = places.temporary_file(sum(picture.nbytes for picture in self._pictures))
            for picture in self._pictures:
                np.save(file, picture)
            file.flush()
            self._file, self._pictures = file, []


class _WithSmallerTiles:
    """An objective and its losses, made again with tiles of half the size when memory runs out.

    make: size of the tiles -> objective, losses. size: of the first tiles; None for whole pictures.
    whole: pixels per side of a square as large as the largest picture.
    """

    def __init__(
        self,
        make: Callable[[int | None], tuple[Objective, Losses]],
        size: int | None,
        whole: int,
    ):
        self._make, self._size, self._whole = make, size, whole
        self._functions: tuple[Objective, Losses] | None = None
        self._attempt(lambda *_: None)

    def evaluate(self, picture: tf.Tensor) -> Evaluation:
        return self._attempt(lambda evaluate, _: evaluate(picture))

    def losses(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._attempt(lambda _, losses: losses(picture))

    def _attempt(self, call: Callable[[Objective, Losses], Any]) -> Any:
        while True:
            try:
                if self._functions is None:
                    self._functions = self._make(self._size)
                return call(*self._functions)
            except (tf.errors.ResourceExhaustedError, MemoryError):
                self._functions = None  # their memory is needed for the next
                if self._size == SMALLEST_TILE:
                    raise UserError(
                        f"out of memory, even in tiles of {SMALLEST_TILE} pixels: choose a smaller "
                        "size, or the optimizer adam, which needs less"
                    ) from None
                self._size = max(SMALLEST_TILE, (self._size or self._whole) // 2)
            LOGGER.warning("out of memory: continues in tiles of %d pixels", self._size)
            gc.collect()  # graphs are in reference cycles
