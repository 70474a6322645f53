"""Content features: those of the photo, measured tile by tile, kept in a file."""

import contextlib
import errno
import math
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.network import vgg
from neural_style_tf.objective import objective
from neural_style_tf.objective.tiles import Grid, Tile
from neural_style_tf.pictures import files, places
from neural_style_tf.settings import Settings


class ContentFeatures:
    """The content's features of every tile in turn, float32, kept in a file: to measure them anew
    would cost a pass, and all of them in memory are what tiles are there to avoid."""

    def __init__(self, network: vgg.Network, content: np.ndarray, settings: Settings, grid: Grid):
        passes = objective.passes_of(network, settings)
        layers = settings.content_layer_weights()

        @tf.function(autograph=False)
        def measure(box: tf.Tensor) -> dict[str, tf.Tensor]:
            return objective.features_at(layers, passes, box, network)

        self._places = []  # of each tile: where in the file; by layer the shape, and the inside
        self._file, end = None, 0
        for tile in grid.tiles(content.shape[1:3]):
            found = measure(tf.constant(content[tile.box]))
            inside = {name: grid.slices(name, tile) for name in found}
            shapes = {name: (found[name].shape, inside[name]) for name in found}
            self._places.append((end, shapes))
            data = [features[inside[name]].numpy().tobytes() for name, features in found.items()]
            length = sum(map(len, data))
            with _told():
                if self._file is None:
                    self._file = places.temporary_file(length * _share(tile, content.shape))
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
            f"cannot keep the photo's features in {places.temporary_folder()} "
            f"({files.reason(error)}): make room there, or name another folder in TMPDIR"
        ) from error


def _share(tile: Tile, shape: tuple[int, ...]) -> int:
    """How many of such tiles a picture [1, H, W, 3] has, rounded up."""
    top, bottom, left, right = tile.inside
    return -(-math.prod(shape[1:3]) // max(1, (bottom - top) * (right - left)))
