"""Tiling: the objective of a picture larger than memory, exactly, tile by tile.

Statistics of features are sums over positions (losses.py): so they are added up over tiles, and
compared with their targets as one. Two passes over the tiles: the first measures; then the losses
are known, and their gradients at the statistics; the second takes those back to the pixels. Each
tile is run with a margin as wide as its features see (their receptive field), and only the features
inside count: nothing is approximated, and there are no seams.
"""

import contextlib
import errno
import functools
import gc
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.machine import hardware
from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.network import vgg
from neural_style_tf.network.backprop import Gradients, Passes
from neural_style_tf.objective import losses, objective
from neural_style_tf.objective.objective import Evaluation, Objective, Statistics, Targets
from neural_style_tf.optimizers import optimizers
from neural_style_tf.painting import stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.pictures import files
from neural_style_tf.pictures.masks import NO_MASKS, Masks, at_layers
from neural_style_tf.settings import SMALLEST_TILE, Settings

Losses = Callable[[tf.Tensor], dict[str, tf.Tensor]]

# Pictures [H, W, 3] that a run holds beside its features, but for the pairs of L-BFGS.
PICTURES_BESIDE = {"adam": 20, "lbfgs": 20, "l-bfgs-b": 80}
BAND = 128  # rows
SHARE_OF_FREE = 0.8  # of the memory that is free


def choose_size(
    network: vgg.Network, sizes: list[tuple[int, int]], settings: Settings, dtype: tf.DType
) -> int | None:
    """The pixels a side of the tiles for a run with pictures of those sizes, the content's first,
    or of squares as large; None if it is to run whole, as what one tile holds does. "auto" tiles
    only what does not fit in free memory, and then takes the largest tiles that do."""
    if settings.tile == "off":
        return None
    if settings.tile != "auto":
        part = _Part(
            objective.passes_of(network, settings.layers(), settings, dtype), int(settings.tile)
        )
        return int(settings.tile) if any(len(part.tiles(size)) > 1 for size in sizes) else None
    free = hardware.free_memory()
    if free is None:
        return None
    passes = objective.passes_of(network, settings.layers(), settings, dtype)
    height, width = sizes[0]
    beside = PICTURES_BESIDE[settings.optimizer]
    if settings.optimizer == "lbfgs":
        beside += 2 * optimizers.history_of(height, width)
    free = SHARE_OF_FREE * free - beside * 12 * height * width
    pixels = free / passes.bytes_per_pixel()
    if max(height * width for height, width in sizes) <= pixels:
        return None
    part = _Part(passes, SMALLEST_TILE)
    side = int(max(pixels, 0) ** 0.5) - 2 * part.margin
    return max(SMALLEST_TILE, side // part.stride * part.stride)


def in_tiles(
    plan: list[Stage],
    network: vgg.Network,
    styles: list[tuple[int, int]],
    settings: Settings,
    dtype: tf.DType,
) -> list[Stage]:
    """The stages, each with the size of its tiles. styles: the sizes of the paintings at the
    last."""

    def tile(stage: Stage) -> int | None:
        scaled = [stages.style_size(*size, stage, plan[-1], settings) for size in styles]
        return choose_size(network, [stage.outer_size, *scaled], settings, dtype)

    return [stage._replace(tile=tile(stage)) for stage in plan]


def make_objective(
    network: vgg.Network,
    content: np.ndarray,
    styles: list[np.ndarray],
    settings: Settings,
    dtype: tf.DType,
    size: int | None,
    masks: Masks = NO_MASKS,
) -> tuple[Objective, Losses]:
    """The objective of pictures of the content's size; and their losses alone, in float32.

    content, styles: [1, H, W, 3] float32 RGB, 0..255; of large ones a copy as a tensor would be
    one too many. size: of the tiles; None for whole pictures. When memory runs out tiles are halved
    and the same is asked again; raises `UserError` when the smallest do not fit either.
    """
    pictures = _Parked([content, *styles])

    def make(size: int | None) -> tuple[Objective, Losses]:
        content, *styles = pictures.fetch()
        if size is None:
            paintings = [tf.constant(style) for style in styles]
            photo = tf.constant(content)
            targets = objective.measure_targets(network, photo, paintings, settings, masks)
            whole = objective.make_objective(network, targets, settings, dtype, masks)
            return whole, objective.make_losses(network, targets, settings, masks)
        tiled = TiledObjective(network, content, styles, settings, dtype, size, masks)
        pictures.park()
        return tiled, tiled.losses

    largest = max(math.prod(picture.shape[1:3]) for picture in (content, *styles))
    halving = _Halving(make, size, math.isqrt(largest))
    return halving.evaluate, halving.losses


class _Parked:
    """Pictures that will hardly be asked for again: once parked, they are in a file, if there is
    room for one."""

    def __init__(self, pictures: list[np.ndarray]):
        self._pictures, self._count = pictures, len(pictures)
        self._file = None

    def fetch(self) -> list[np.ndarray]:
        if self._pictures:
            return self._pictures
        self._file.seek(0)
        return [np.load(self._file) for _ in range(self._count)]

    def park(self) -> None:
        if not self._pictures:
            return
        with contextlib.suppress(OSError):
            self._file = files.temporary(sum(picture.nbytes for picture in self._pictures))
            for picture in self._pictures:
                np.save(self._file, picture)
            self._file.flush()
            self._pictures = []


class _Halving:
    """What `make` makes, and with smaller tiles whenever memory runs out."""

    def __init__(self, make: Callable, size: int | None, whole: int):
        self._make, self._size, self._whole = make, size, whole
        self._made = None
        self._attempt(lambda *_: None)

    def evaluate(self, picture: tf.Tensor) -> Evaluation:
        return self._attempt(lambda evaluate, _: evaluate(picture))

    def losses(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._attempt(lambda _, losses: losses(picture))

    def _attempt(self, ask: Callable) -> Any:
        while True:
            try:
                if self._made is None:
                    self._made = self._make(self._size)
                return ask(*self._made)
            except (tf.errors.ResourceExhaustedError, MemoryError):
                self._made = None  # before the next is made
                if self._size == SMALLEST_TILE:
                    raise UserError(
                        f"out of memory, even in tiles of {SMALLEST_TILE} pixels: choose a smaller "
                        "size, or the optimizer adam, which needs less"
                    ) from None
                self._size = max(SMALLEST_TILE, (self._size or self._whole) // 2)
            LOGGER.warning("out of memory: goes on in tiles of %d pixels", self._size)
            gc.collect()  # graphs are held in circles


class Tile(NamedTuple):
    """A part of a picture: ranges of pixels [first, last)."""

    rows: tuple[int, int]  # what is run through the network
    columns: tuple[int, int]
    inside: tuple[int, int, int, int]  # what counts: first and last row, first and last column


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


class _Part:
    """Passes over tiles instead of whole pictures."""

    def __init__(self, passes: Passes, size: int):
        self._passes = passes
        self._reach = passes.reach()
        self.stride = max(stride for stride, _ in self._reach.values())
        margin = max(pixels for _, pixels in self._reach.values())
        self.margin = -(-margin // self.stride) * self.stride
        self._size = max(self.stride, size // self.stride * self.stride)

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """Those of a picture of that height and width."""
        return cut(*size, self._size, self.margin, self.stride)

    def slices(self, name: str, tile: Tile) -> tuple[slice, slice, slice]:
        """Where in a layer's features of a tile's box those are that count."""
        stride, _ = self._reach[name]
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

    def weights(self, mask: tf.Tensor | None, place: tf.Tensor) -> dict[str, tf.Tensor] | None:
        """The mask of a tile's box at each layer, with 0 where positions do not count."""
        found = at_layers(mask, self._reach)
        return None if found is None else self.inside(found, place)[0]

    def inside(
        self, features: dict[str, tf.Tensor], place: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The features with 0 where they do not count; and how many positions do."""
        found, counts = {}, {}
        for name, of_layer in features.items():
            mask = self._mask(name, of_layer, place)
            found[name] = tf.where(mask, of_layer, tf.zeros((), of_layer.dtype))
            counts[name] = tf.reduce_sum(tf.cast(mask, tf.float32))
        return found, counts

    def inside_of_gradients(self, gradients: Gradients, place: tf.Tensor) -> Gradients:
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
        layers = settings.layers()
        self._passes = objective.passes_of(network, layers, settings, dtype, often=True)
        exact = objective.passes_of(network, layers, settings)
        self._part = _Part(self._passes, size)
        self._shape = content.shape
        self._tiles = self._part.tiles(self._shape[1:3])
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
        self._contents = _Contents(network, content, settings, self._part)

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
        return picture[_slices(tile)], _place(tile), self._contents[number], regions

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
            features, place, self._with(target), self._part.weights(regions, place)
        )

    def _counted(
        self,
        features: dict[str, tf.Tensor],
        place: tf.Tensor,
        targets: Targets,
        weights: dict[str, tf.Tensor] | None,
    ) -> Statistics:
        """The statistics of what counts in a tile."""
        features, counts = self._part.inside(features, place)
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
        targets, weights = self._with(target), self._part.weights(regions, place)
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
        targets, weights = self._with(target), self._part.weights(regions, place)
        return self._to_picture(features, kept, place, targets, slopes, scale, weights)

    def _to_picture(self, features, kept, place, targets, slopes, scale, weights) -> tf.Tensor:
        gradients = objective.gradients_of(features, targets, slopes, scale, weights)
        gradients = self._part.inside_of_gradients(gradients, place)
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
    passes = objective.passes_of(network, settings.style_layer_weights(), settings)
    part = _Part(passes, size)
    with_sums = settings.style_loss in losses.WITH_SUMS

    @tf.function(autograph=False)
    def measure(
        box: tf.Tensor, place: tf.Tensor, source: tf.Tensor | None
    ) -> dict[str, losses.Gram]:
        features = passes.features(vgg.preprocess(box, network.mean_pixel))
        features, counts = part.inside(features, place)
        weights = part.weights(source, place)
        found = {
            name: objective.grams_of(of_layer, weights, name, with_sums)[0]
            for name, of_layer in features.items()
        }
        if weights is not None:
            return found
        return {name: gram._replace(positions=counts[name]) for name, gram in found.items()}

    total = None
    for tile in part.tiles(style.shape[1:3]):
        box = tf.constant(style[_slices(tile)])
        found = measure(box, _place(tile), _cut_out(source, tile))
        total = found if total is None else _added(total, found)
    return total


class _Contents:
    """The content's features of every tile in turn, float32, kept in a file: to measure them anew
    would cost a pass, and all of them in memory are what tiles are there to avoid."""

    def __init__(self, network: vgg.Network, content: np.ndarray, settings: Settings, part: _Part):
        passes = objective.passes_of(network, settings.content_layer_weights(), settings)

        @tf.function(autograph=False)
        def measure(box: tf.Tensor) -> dict[str, tf.Tensor]:
            return passes.features(vgg.preprocess(box, network.mean_pixel))

        self._places = []  # of each tile: where in the file; by layer the shape, and the inside
        self._file, end = None, 0
        for tile in part.tiles(content.shape[1:3]):
            found = measure(tf.constant(content[_slices(tile)]))
            inside = {name: part.slices(name, tile) for name in found}
            shapes = {name: (found[name].shape, inside[name]) for name in found}
            self._places.append((end, shapes))
            data = [features[inside[name]].numpy().tobytes() for name, features in found.items()]
            length = sum(map(len, data))
            with _told():
                if self._file is None:
                    self._file = files.temporary(length * _share(tile, content.shape))
                self._file.writelines(data)
                self._file.flush()  # or it fails later
            end += length

    def __getitem__(self, tile: int) -> dict[str, tf.Tensor]:
        """By layer, with 0 outside the inside."""
        start, shapes = self._places[tile]
        with _told():
            self._file.seek(start)
            return {name: self._read(shape, inside) for name, (shape, inside) in shapes.items()}

    def _read(self, shape: tf.TensorShape, inside: tuple[slice, ...]) -> tf.Tensor:
        features = np.zeros(shape, np.float32)
        part = features[inside]
        data = self._file.read(part.nbytes)
        if len(data) < part.nbytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        part[:] = np.frombuffer(data, np.float32).reshape(part.shape)
        return tf.constant(features)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raises `UserError` where the file of the photo's features fails."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot keep the photo's features in {files.temporary_folder()} "
            f"({files.reason(error)}): make room there, or name another folder in TMPDIR"
        ) from error


def _share(tile: Tile, shape: tuple[int, ...]) -> int:
    """How many of such tiles a picture [1, H, W, 3] has, rounded up."""
    top, bottom, left, right = tile.inside
    return -(-math.prod(shape[1:3]) // max(1, (bottom - top) * (right - left)))


def _add(gradient: tf.Variable, tile: Tile, found: tf.Tensor) -> None:
    part = gradient[_slices(tile)]
    part.assign(part + found)


def _cut_out(mask: np.ndarray | None, tile: Tile) -> tf.Tensor | None:
    return None if mask is None else tf.constant(mask[_slices(tile)])


def _place(tile: Tile) -> tf.Tensor:
    """Where a tile is, as a tensor: a place does not need a trace of its own."""
    return tf.constant([tile.rows[0], tile.columns[0], *tile.inside])


def _slices(tile: Tile) -> tuple[slice, slice, slice]:
    return slice(None), slice(*tile.rows), slice(*tile.columns)
