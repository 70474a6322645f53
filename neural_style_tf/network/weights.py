"""Weights: the file of a network, in any format -> its layers as arrays. Needs no TensorFlow."""

import functools
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np

from neural_style_tf.errors import UserError
from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.network import downloads, formats, reader
from neural_style_tf.network.layers import Layer, Weights
from neural_style_tf.pictures import files
from neural_style_tf.settings import BUNDLED_NETWORK

# SHA-256 of files that are known to be harmless, and their titles.
KNOWN_FILES = {
    "13f64d6bb9f2dd2d4577fa06b90617ec323db451df95c07bdb2c54f610e77bec": "the bundled VGG-19",
    "abdb57167f82a2a1fbab1e1c16ad9373411883f262a1a37ee5db2e6fb0044695": "the published VGG-19",
}
# Addresses and MD5 sums: keras.applications, vgg19.py and vgg16.py. No SHA-256 of these files is
# published. An MD5 sum only shows that a file arrived intact, so it is read as an untrusted file.
KERAS_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications"
PUBLISHED = {
    "vgg19": (
        f"{KERAS_ADDRESS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "253f8cb515780f3b799900260a226db6",
    ),
    "vgg16": (
        f"{KERAS_ADDRESS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
    ),
}

MAX_BYTES = 2_000_000_000  # of a file: a Keras VGG-19 with the state of its optimizer has 1.7 GB
MAX_LAYERS = 100  # a VGG-19 has 36
MAX_CHANNELS = 4096  # as in its classifier; its convolutions have up to 512
_LAYER_NAME = re.compile(r"[a-z0-9_]{1,40}")

_recent = LRUCache(20_000_000)  # bytes of small networks that were read recently, by digest


def find(name: str | Path) -> str | Path:
    """The path of a network's file. `vgg19` and `vgg16` name the files that Keras publishes; any
    other name is a path and is returned unchanged.

    The bundled network is found by its file name from every folder. Keras's files are searched for
    in the current folder and in Keras's own, and otherwise downloaded to the latter. Raises
    `UserError` if the download fails, or if a file found there is not the published one.
    """
    if name == BUNDLED_NETWORK.name and not os.path.exists(name):
        return BUNDLED_NETWORK
    if name not in PUBLISHED:
        return name
    address, checksum = PUBLISHED[name]
    file = address.rpartition("/")[2]
    in_keras_folder = _keras_folder() / file
    for path in (Path(file), in_keras_folder):
        if path.is_file():
            _check_published(str(name), path, checksum, files.version(path))
            return path
    downloads.fetch(f"network {name}", address, in_keras_folder, checksum, MAX_BYTES)
    return in_keras_folder


def folders() -> list[Path]:
    """The folders where a network is searched for if only the name of its file is known: the
    current folder, the package's own and Keras's."""
    return [Path(), BUNDLED_NETWORK.parent, _keras_folder()]


def read(path: str | Path) -> Weights:
    """The weights in a MatConvNet `.mat`, Keras `.h5`, PyTorch `.pth` or `.safetensors` file. The
    format is recognized by the content, whatever the name.

    Raises `UserError` for a file that is missing, broken or not a VGG.
    """
    with open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(formats.HEAD_BYTES)
        formats.recognize(path, head)
        digest = _digest(file)
        network = _recent.get(digest, lambda: _read(path, file, size, digest), _bytes_of)
    _check(path, network)
    return network._replace(title=KNOWN_FILES.get(digest, _title(path, network)))


def open_to_read(path: str | Path) -> BinaryIO:
    """The opened file of a network. Raises `UserError` if it is missing, not a plain file, or too
    large for a network."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = stat.S_IFREG  # `files.open_to_read` reports what is wrong
    except ValueError as error:  # a null byte
        raise UserError(f"no file {str(path)!r} ({error}): check the name") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"network {path} is a device or a pipe: choose a file")
    file = files.open_to_read(path)
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        file.close()
        raise UserError(
            f"network {path} has {size / 1e9:.1f} GB: choose a VGG network, which has at most "
            f"{MAX_BYTES / 1e9:.0f} GB"
        )
    return file


def version(path: str | Path) -> tuple[str, int, int, int]:
    """`files.version` of a network. Raises `UserError` as `open_to_read` does."""
    open_to_read(path).close()
    return files.version(path)


def _keras_folder() -> Path:
    home = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    return Path(os.path.expanduser(home), "models")


@functools.lru_cache(maxsize=16)
def _check_published(name: str, path: Path, checksum: str, _: tuple) -> None:
    """Raises `UserError` unless the file has that MD5 sum. The last argument is the file's version,
    so that a changed file is checked again."""
    with open_to_read(path) as file:
        if _digest(file, "md5") != checksum:
            raise UserError(
                f"network {name}: {path} is not the published file: delete it to have it "
                f"downloaded again, or choose it with --network {path}"
            )


def _digest(file: BinaryIO, kind: str = "sha256") -> str:
    """The digest of a whole file, in hexadecimal digits."""
    digest = hashlib.new(kind, usedforsecurity=kind != "md5")
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _read(path: str | Path, file: BinaryIO, size: int, digest: str) -> Weights:
    """Reads a known file in this process, and any other in a process with limits."""
    if digest in KNOWN_FILES:
        file.seek(0)
        data = file.read()
        if hashlib.sha256(data).hexdigest() == digest:  # it may have changed in the meantime
            return formats.read(path, data)
    return reader.read(path, file, size)


def _title(path: str | Path, network: Weights) -> str:
    """Which file it is, and how it was recognized where its format does not say that."""
    recognized = f" ({network.title})" if network.title else ""
    return f"the network {Path(path).name}{recognized}"


def _bytes_of(network: Weights) -> int:
    return sum(layer.kernel.nbytes for layer in network.layers if layer.kind == "conv")


def _check(path: str | Path, network: Weights) -> None:
    """Raises `UserError` unless it is a VGG in which each convolution takes as many channels as the
    one before has."""
    layers = network.layers
    if not layers or layers[0].kind != "conv":
        raise UserError(f"network {path} has no layer conv1_1: choose a VGG network")
    names = [layer.name for layer in layers]
    are_usual = all(map(_LAYER_NAME.fullmatch, names)) and len(set(names)) == len(names)
    if len(layers) > MAX_LAYERS or not are_usual:
        raise UserError(f"network {path} has layers that no VGG has: choose a VGG network")
    channels = 3
    for layer in layers:
        if layer.kind == "conv":
            if not _fits(layer, channels):
                raise UserError(
                    f"network {path}: layer {layer.name} is broken: download the file again"
                )
            channels = layer.kernel.shape[3]
    if not np.isfinite([network.mean_pixel, network.scale]).all():
        raise UserError(f"network {path}: the mean pixel is broken: download the file again")


def _fits(layer: Layer, channels: int) -> bool:
    """Whether a convolution takes this many channels and could belong to a VGG: 3x3 or 1x1, with
    finite weights."""
    kernel, bias = layer.kernel, layer.bias
    return (
        kernel.shape[:3] in ((3, 3, channels), (1, 1, channels))
        and 1 <= kernel.shape[3] <= MAX_CHANNELS
        and bias.shape == kernel.shape[3:]
        and bool(np.isfinite(kernel).all() and np.isfinite(bias).all())
    )
