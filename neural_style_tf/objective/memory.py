"""Memory: how large tiles may be, and smaller ones when it runs out nevertheless."""

import contextlib
import gc
import math
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.machine import devices, memory, precision, recent
from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.network import fused, vgg
from neural_style_tf.network.backprop import Passes
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
PALETTES = 4
COLUMNS_BESIDE = 4
MUCH_LESS = 0.7  # of the features of tiles, as a share of those of the tiles before
# TensorFlow's operations on a GPU count the values of a tensor in 32 bits.
MOST_VALUES_ON_GPU = 2**31 - 1
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
        return _countable(passes, sizes)
    (height, width), *styles = sizes
    available = SHARE_OF_FREE * free - pictures_beside * 12 * height * width
    per_pixel = passes.bytes_per_pixel()
    if settings.style_loss == "neighbors":
        columns = neighbors.bytes_per_pixel(passes)
        palette = columns * neighbors.copies_of_each(settings) * sum(map(math.prod, styles))
        available -= PALETTES * palette
        per_pixel += COLUMNS_BESIDE * columns + colors.bytes_per_pixel()
    return _largest(passes, sizes, available / per_pixel)


def _countable(passes: Passes, sizes: list[tuple[int, int]]) -> int | None:
    """The tiles in which a GPU can count the values of the features, however much memory it has."""
    if not devices.gpu_in_use():
        return None
    return _largest(passes, sizes, MOST_VALUES_ON_GPU / passes.values_per_pixel())


def _largest(passes: Passes, sizes: list[tuple[int, int]], pixels: float) -> int | None:
    """The largest tiles that have, with their margins, at most that many pixels; None if whole
    pictures do."""
    if max(map(math.prod, sizes)) <= pixels:
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
    spare_bytes: Callable[[], int] = lambda: 0,
    evaluations: float = math.inf,
) -> "tuple[SmallerWhenFull, Losses]":
    """The objective of pictures of the content's size; and their losses alone, in float32.

    content, styles: [1, H, W, 3] float32 RGB, 0..255, as arrays: a second copy of large ones
    would not fit in memory. size: of the tiles; None for whole pictures. matches: of the stage,
    with `style_loss="neighbors"`; by default those of the photo. spare_bytes: see
    `SmallerWhenFull`. evaluations: about how many there will be. When memory runs out, the tiles
    are halved and the evaluation is repeated. Raises `UserError` if the smallest do not fit either.
    """
    pictures = _ParkedPictures([content, *styles])
    if settings.style_loss == "neighbors" and matches is None:
        matches = Matches()
    often = fused.pays(evaluations, math.prod(content.shape[1:3]))

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
            whole = objective.make_objective(network, targets, settings, dtype, masks, often)
            return whole, objective.make_losses(network, targets, settings, masks)
        tiled = TiledObjective(
            network, content, styles, settings, dtype, size, masks, matches, often
        )
        pictures.park()
        return tiled, tiled.losses

    largest = max(math.prod(picture.shape[1:3]) for picture in (content, *styles))
    features = Features(objective.passes_of(network, settings, dtype, often=True), largest)
    retrying = SmallerWhenFull(make, size, features, spare_bytes)
    return retrying, retrying.losses


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


def with_room(objective: Objective, call: Callable[[], Any]) -> Any:
    """What the call returns. When memory runs out, it is called again with smaller tiles; if the
    objective has none, the error is raised."""
    while True:
        try:
            return call()
        except Exception as error:
            if not (memory.ran_out(error) and isinstance(objective, SmallerWhenFull)):
                raise
        objective.make_room()  # here, where nothing holds the tensors of the error any more


def smaller_tiles_of(objective: Objective) -> int | None:
    """The size of the tiles that it has come down to since memory ran out; None if it did not."""
    is_smaller = isinstance(objective, SmallerWhenFull) and objective.is_smaller
    return objective.size if is_smaller else None  # type: ignore[attr-defined]


class Features:
    """How much memory the features of a picture take. pixels: of the largest picture."""

    def __init__(self, passes: Passes, pixels: int):
        self._bytes_per_pixel = passes.bytes_per_pixel()
        self._margin = Grid(passes.reach(), SMALLEST_TILE).margin
        self._pixels = pixels

    def bytes(self, size: int | None) -> float:
        """Of a tile of that size with its margin; of the whole picture for None."""
        whole = self._pixels if size is None else (size + 2 * self._margin) ** 2
        return self._bytes_per_pixel * min(whole, self._pixels)

    def smaller(self, size: int | None) -> int:
        """Half the size, and so on, until the features take much less memory: tiles with their
        margins may be as large as the picture."""
        smaller = size or math.isqrt(self._pixels)
        while True:
            smaller = max(SMALLEST_TILE, smaller // 2)
            if smaller == SMALLEST_TILE or self.bytes(smaller) <= MUCH_LESS * self.bytes(size):
                return smaller


class SmallerWhenFull:
    """An objective, and its losses, that is made again with smaller tiles when memory runs out.

    make: size of the tiles -> objective, losses. size: of the first tiles; None for whole pictures.
    features: of the largest picture. spare_bytes: what else holds memory that could be given up; as
    long as that is more than the features take, an evaluation that runs out raises the error. The
    caller is to give up some of it, and evaluate again.
    """

    def __init__(
        self,
        make: Callable[[int | None], tuple[Objective, Losses]],
        size: int | None,
        features: Features,
        spare_bytes: Callable[[], int] = lambda: 0,
    ):
        self._make, self._features, self._spare_bytes = make, features, spare_bytes
        self.size, self.is_smaller = size, False
        self._functions: tuple[Objective, Losses] | None = None
        self._attempt(lambda *_: None)

    def __call__(self, picture: tf.Tensor) -> Evaluation:
        return self._attempt(lambda evaluate, _: evaluate(picture), may_spare=True)

    def losses(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._attempt(lambda _, losses: losses(picture))

    @property
    def is_least(self) -> bool:
        """Whether something else takes more memory than the features, and can be given up."""
        return self._spare_bytes() > self._features.bytes(self.size)

    def make_room(self) -> None:
        """Takes smaller tiles from now on. Raises `UserError` if they are the smallest already."""
        self._functions = None  # their memory is needed for the next
        if self.size == SMALLEST_TILE:
            raise UserError(
                f"out of memory, even in tiles of {SMALLEST_TILE} pixels: choose a smaller "
                "size, or the optimizer adam, which needs less"
            )
        self.size, self.is_smaller = self._features.smaller(self.size), True
        LOGGER.warning("out of memory: continues in tiles of %d pixels", self.size)
        recent.targets.clear()
        gc.collect()  # graphs are in reference cycles

    def _attempt(self, call: Callable[[Objective, Losses], Any], may_spare: bool = False) -> Any:
        while True:
            try:
                if self._functions is None:
                    with precision.without_tf32():  # for the targets
                        self._functions = self._make(self.size)
                return call(*self._functions)
            except Exception as error:
                if not memory.ran_out(error) or (may_spare and self.is_least):
                    raise
            self.make_room()  # here, where nothing holds the tensors of the error any more
