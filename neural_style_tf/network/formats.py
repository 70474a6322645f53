"""Formats: the bytes of a network's file, in any format -> its layers as arrays. Needs no
TensorFlow.

The libraries that parse these formats crash, hang or take all memory on some broken files: call
`read` only for files that are known by their digest, and `reader.read` for all others.
"""

import importlib
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neural_style_tf.errors import UserError
from neural_style_tf.network import layers, safetensors_files, state_dicts, torch_files
from neural_style_tf.network.layers import Layer, Weights
from neural_style_tf.pictures import files

HEAD_BYTES = 128  # of a file, enough to recognize its format
MAX_ARRAYS = 1000  # in an .h5 file; a VGG-19 has 38

# The layers before the classifier.
_STYLE_PART = re.compile(r"(conv|relu|pool)[0-9]{1,2}(?:_[0-9]{1,2})?")
_KERAS_LAYER = re.compile(r"(?:^|/)block([0-9]{1,2})_conv([0-9]{1,2})/")


class Format(NamedTuple):
    """One format of network files."""

    maker: str
    extension: str
    example: str
    library: str  # the module that parses it
    is_head: Callable[[bytes], bool]  # whether a file may begin with these bytes
    open: Callable[[bytes], Any]
    read: Callable[[Any], Weights]


def recognize(path: str | Path, head: bytes) -> Format:
    """The format of a file that begins with `head`, its first `HEAD_BYTES`. Raises `UserError` if
    it is unknown."""
    if head.startswith(b"MATLAB 7.3"):
        raise UserError(f"network {path} is a MATLAB 7.3 file: save it again with the option -v7")
    for file_format in FORMATS:
        if file_format.is_head(head):
            return file_format
    raise UserError(_unknown(path))


def import_library(path: str | Path, file_format: Format) -> None:
    """Imports the library that parses the format. Raises `UserError` if it is missing."""
    try:
        importlib.import_module(file_format.library)
    except ModuleNotFoundError as error:
        raise UserError(f"network {path} needs {error.name}: pip install neural-style-tf") from None
    except (ImportError, OSError) as error:  # for example, it was built for another machine
        raise UserError(
            f"network {path} needs {file_format.library}, which cannot be imported here "
            f"({files.reason(error)}): install it again"
        ) from None


def read(path: str | Path, data: bytes) -> Weights:
    """The weights in the content of a file; `path` is for messages.

    Raises `UserError` if it is broken or not a VGG, and if the library that parses it is missing.
    """
    file_format = recognize(path, data[:HEAD_BYTES])
    import_library(path, file_format)
    try:
        return file_format.read(_open(path, data, file_format))
    except state_dicts.UnknownLayoutError as error:
        raise UserError(
            f"network {path} is not a VGG in a known layout: it has {error}; known are "
            f"{state_dicts.LAYOUTS}: choose another file"
        ) from None
    except state_dicts.UnknownInputError as error:
        raise UserError(
            f"network {path} has {error} in its metadata: write three numbers each, RGB, for "
            "pictures of 0..255, where a scale is 1 or more"
        ) from None
    except MemoryError:
        raise UserError(
            f"network {path} is broken (it unpacks to far more than a VGG has): download it again "
            "or choose another network"
        ) from None
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        raise UserError(
            f"network {path} is not a {file_format.maker} network: choose a "
            f"{file_format.extension} file such as {file_format.example}"
        ) from None


def _unknown(path: str | Path) -> str:
    known = [f"a {item.maker} {item.extension}" for item in FORMATS]
    choices = f"{', '.join(known[:-1])} or {known[-1]} file"
    return f"network {path} has an unknown format: choose {choices}"


def _open(path: str | Path, data: bytes, file_format: Format) -> Any:
    """The bytes, parsed by the library of the format."""
    try:
        return file_format.open(data)
    except torch_files.NotTorchError:
        raise UserError(_unknown(path)) from None
    except MemoryError:
        raise
    except Exception as error:  # on broken bytes the libraries raise exceptions of every kind
        raise UserError(
            f"network {path} is truncated or not a {file_format.extension} file "
            f"({type(error).__name__}): download it again or choose another network"
        ) from None


def _open_mat(data: bytes) -> dict[str, Any]:
    import scipy.io

    wanted = ["layers", "meta", "normalization"]
    return scipy.io.loadmat(io.BytesIO(data), variable_names=wanted)


def _read_matconvnet(content: dict[str, Any]) -> Weights:
    """Layers, channels and mean pixel, found by the names of their fields: the layouts of beta16
    and of later versions differ in the order."""
    style_part = _style_part(_records(content["layers"]))
    return Weights(style_part, _matconvnet_mean_pixel(content), layers.pixel((1, 1, 1)))


def _records(array: np.ndarray) -> list[np.void]:
    """The structs in a MATLAB cell or struct array."""
    return [item.ravel()[0] if isinstance(item, np.ndarray) else item for item in array.ravel()]


def _style_part(records: list[np.void]) -> list[Layer]:
    """The layers up to the last ReLU before the classifier."""
    found, count = [], 0
    for record in records:
        name = _STYLE_PART.fullmatch(str(record["name"].item()))
        if not name:
            break
        found.append(_matconvnet_layer(record, *name.group(0, 1)))
        if found[-1].kind == "relu":
            count = len(found)
    return found[:count]


def _matconvnet_layer(record: np.void, name: str, kind: str) -> Layer:
    if record["type"].item() != kind:
        raise ValueError(f"{name} is of another type")
    if kind != "conv":
        return Layer(name, kind)
    kernel, bias = record["weights"].ravel()
    # MatConvNet: [width, height, in, out]; TensorFlow: [height, width, in, out]
    kernel = layers.floats(kernel, 4).transpose(1, 0, 2, 3)
    return Layer(name, kind, kernel, layers.floats(bias.ravel(), 1))


def _matconvnet_mean_pixel(content: dict[str, Any]) -> np.ndarray:
    """[3] float32; beta16 has `normalization` at the top level, later versions in `meta`."""
    holder = content if "normalization" in content else _records(content["meta"])[0]
    average = _records(holder["normalization"])[0]["averageImage"]  # [3], [1, 1, 3] or [h, w, 3]
    return layers.floats(average.reshape(-1, 3), 2).mean(axis=0)


def _open_h5(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of the convolutions by path; the paths depend on the version of Keras."""
    import h5py

    arrays: dict[str, np.ndarray] = {}
    remaining = _max_unpacked_bytes(data)

    def collect(name: str, item: Any) -> None:
        nonlocal remaining
        if isinstance(item, h5py.Dataset) and _KERAS_LAYER.search(name):
            remaining -= _size(item)
            if remaining < 0 or len(arrays) == MAX_ARRAYS:
                raise MemoryError
            arrays[name] = item[()]

    with h5py.File(io.BytesIO(data), "r") as file:
        group = "model_weights"  # in the file of a whole model
        if isinstance(file.get(group, getlink=True), h5py.HardLink):  # not a link to another file
            file[group].visititems(collect)
        else:
            file.visititems(collect)
    return arrays


def _max_unpacked_bytes(data: bytes) -> int:
    """How many bytes a file may unpack to. The weights of a VGG hardly compress; those of a network
    with 256 levels per layer, as the bundled one, compress to a quarter."""
    return 500_000_000 + 4 * len(data)


def _size(item: Any) -> int:
    """The size of a dataset in bytes. Raises `ValueError` unless it holds plain numbers that are
    stored in this file."""
    if item.dtype.kind != "f" or item.shape is None or item.is_virtual or item.external:
        raise ValueError("not plain numbers")
    return item.dtype.itemsize * math.prod(map(int, item.shape))


def _read_keras(arrays: dict[str, np.ndarray]) -> Weights:
    """The layers of arrays by path: a layer's array of rank 4 is its kernel, that of rank 1 its
    bias."""
    by_rank: dict[tuple[int, int], dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        match = _KERAS_LAYER.search(name)
        if match is None:
            continue
        block, number = map(int, match.groups())
        by_rank.setdefault((block, number), {})[array.ndim] = array
    convolutions = {place: (layer[4], layer[1]) for place, layer in by_rank.items()}
    kernel, bias = convolutions[1, 1]
    convolutions[1, 1] = kernel[:, :, ::-1], bias  # trained on BGR
    mean_pixel, scale = layers.pixel(layers.IMAGENET_MEAN_PIXEL), layers.pixel((1, 1, 1))
    return Weights(layers.of(convolutions), mean_pixel, scale)


FORMATS = (
    Format(
        "MatConvNet",
        ".mat",
        "imagenet-vgg-verydeep-19.mat",
        "scipy.io",
        lambda head: head.startswith(b"MATLAB"),
        _open_mat,
        _read_matconvnet,
    ),
    Format(
        "Keras VGG",
        ".h5",
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "h5py",
        lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"),
        _open_h5,
        _read_keras,
    ),
    Format(
        "PyTorch VGG",
        ".pth",
        "vgg19-dcbb9e9d.pth",
        "zipfile",
        lambda head: head.startswith((torch_files.ZIP_HEAD, torch_files.LEGACY_HEAD)),
        torch_files.read,
        state_dicts.read,
    ),
    Format(
        "safetensors VGG",
        ".safetensors",
        "vgg19.safetensors",
        "json",
        safetensors_files.is_head,
        safetensors_files.read,
        lambda content: state_dicts.read(*content),
    ),
)
