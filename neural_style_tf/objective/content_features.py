"""Content features: the photo's, measured tile by tile and stored in a temporary file."""

import contextlib
import errno
import math
import os
from collections.abc import Iterator
from typing import IO

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.network import device, vgg
from neural_style_tf.objective import objective
from neural_style_tf.objective.tiles import Grid, Tile
from neural_style_tf.pictures import files, places
from neural_style_tf.settings import Settings

MOST_ON_GPU = 1 << 30  # bytes; the features of 5600x5600 pixels with the default content layer


class ContentFeatures:
    """The content's features of each tile, float32, in a temporary file: measuring them again would
    cost a pass each time, and holding all of them would take the memory that tiles save. A GPU, to
    which they would have to be copied in every step, holds those that fit in `MOST_ON_GPU`.

    content: [1, H, W, 3] float32 RGB, 0..255. Raises `UserError` if the file fails.
    """

    def __init__(self, network: vgg.Network, content: np.ndarray, settings: Settings, grid: Grid):
        passes = objective.passes_of_parts(network, settings)
        layers = settings.content_layer_weights()

        @tf.function(autograph=False)
        def measure(box: tf.Tensor) -> dict[str, tf.Tensor]:
            return objective.features_at(layers, passes, box, network)

        # for each tile: its offset in the file, and for each layer the shape and the inside
        self._layouts: list[tuple[int, dict[str, tuple]]] = []
        self._file: IO[bytes] | None = None
        self._on_gpu: dict[int, dict[str, tf.Tensor]] = {}  # the insides, by the tile's number
        end = held = 0
        for number, tile in enumerate(grid.tiles(content.shape[1:3])):
            features = measure(tf.constant(tile.cut_out(content)))
            inside = {name: grid.slices(name, tile) for name in features}
            shapes = {name: (features[name].shape, inside[name]) for name in features}
            self._layouts.append((end, shapes))
            insides = {name: features[name][inside[name]] for name in features}
            size = sum(4 * tensor.shape.num_elements() for tensor in insides.values())
            if device.is_gpu() and held + size <= MOST_ON_GPU:
                self._on_gpu[number], held = insides, held + size
                continue
            data = [tensor.numpy().tobytes() for tensor in insides.values()]
            length = sum(map(len, data))
            with _file_errors():
                if self._file is None:
                    count = _tiles_per_picture(tile, content.shape)
                    self._file = places.temporary_file(length * count)
                self._file.writelines(data)
                self._file.flush()  # so that a full disk is noticed here
            end += length

    def __getitem__(self, tile: int) -> dict[str, tf.Tensor]:
        """The features [1, h, w, channels] of a tile's box by layer, 0 except in the inside."""
        start, shapes = self._layouts[tile]
        if tile in self._on_gpu:
            insides = self._on_gpu[tile]
            return {name: _padded(insides[name], *layout) for name, layout in shapes.items()}
        file = self._file
        assert file is not None  # every picture has a tile
        with _file_errors():
            file.seek(start)
            return {name: self._read(file, *layout) for name, layout in shapes.items()}

    def _read(self, file: IO[bytes], shape: tf.TensorShape, inside: tuple[slice, ...]) -> tf.Tensor:
        features = np.zeros(shape, np.float32)
        part = features[inside]
        data = file.read(part.nbytes)
        if len(data) < part.nbytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        part[:] = np.frombuffer(data, np.float32).reshape(part.shape)
        return tf.constant(features)


def _padded(part: tf.Tensor, shape: tf.TensorShape, inside: tuple[slice, ...]) -> tf.Tensor:
    """Features of that shape, 0 except in the inside, which is the part."""
    _, rows, columns = inside
    edges = [
        [axis.start, length - axis.start - size]
        for axis, length, size in zip((rows, columns), shape[1:3], part.shape[1:3], strict=True)
    ]
    return tf.pad(part, [[0, 0], *edges, [0, 0]])


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    """Turns an `OSError` of the file into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot store the photo's features in {places.temporary_folder()} "
            f"({files.reason(error)}): free space there, or set TMPDIR to another folder"
        ) from error


def _tiles_per_picture(tile: Tile, shape: tuple[int, ...]) -> int:
    """How many tiles of that size a picture [1, H, W, 3] has, rounded up."""
    top, bottom, left, right = tile.inside
    return -(-math.prod(shape[1:3]) // max(1, (bottom - top) * (right - left)))
