"""Formats: the bytes of a network's file, in any format -> its layers as arrays. Needs no
TensorFlow.

The libraries that parse these formats crash, hang or take all memory on some broken files: call
`read` only for files that are known by their digest, and `reader.read` for all others.
"""

import importlib
import io
import math
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files

# Mean of Simonyan and Zisserman's training set, RGB 0..255; Keras has it as BGR.
IMAGENET_MEAN_PIXEL = (123.68, 116.779, 103.939)
# RGB 0..1, from torchvision.models, VGG19_Weights.IMAGENET1K_V1.transforms.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)

HEAD_BYTES = 128  # of a file, enough to recognize its format
SAFE_TORCH = (2, 6)  # older versions run code from files despite weights_only=True: CVE-2025-32434
MAX_ARRAYS = 1000  # in an .h5 file; a VGG-19 has 38

# The layers before the classifier.
_STYLE_PART = re.compile(r"(conv|relu|pool)[0-9]{1,2}(?:_[0-9]{1,2})?")
_KERAS_LAYER = re.compile(r"(?:^|/)block([0-9]{1,2})_conv([0-9]{1,2})/")
_TORCHVISION_NAME = re.compile(r"features\.([0-9]{1,3})\.(weight|bias)")

# (block, number) -> kernel [h, w, in, out] and bias [out]
Convolutions = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]


class Layer(NamedTuple):
    """One layer. A convolution has `kernel` [h, w, in, out] and `bias` [out] float32, which are
    NumPy arrays here and tensors in a `vgg.Network`; other layers have None."""

    name: str
    kind: str  # conv, relu or pool
    kernel: Any = None
    bias: Any = None


class Weights(NamedTuple):
    """The content of a file up to the last ReLU before the classifier.

    The first layer takes (image - mean_pixel) / scale, where both are [3] float32 RGB and belong to
    an image of 0..255. `title` says in words which network it is.
    """

    layers: list[Layer]
    mean_pixel: np.ndarray
    scale: np.ndarray
    title: str = ""


class Format(NamedTuple):
    """One format of network files."""

    maker: str
    extension: str
    example: str
    library: str  # the module that parses it
    signatures: tuple[bytes, ...]  # the first bytes of such files
    open: Callable[[bytes], Any]
    read: Callable[[Any], Weights]


class NotThisFormatError(ValueError):
    """The file begins like one of the format, but is of another."""


def recognize(path: str | Path, head: bytes) -> Format:
    """The format of a file that begins with `head`, its first `HEAD_BYTES`. Raises `UserError` if
    it is unknown."""
    if head.startswith(b"MATLAB 7.3"):
        raise UserError(f"network {path} is a MATLAB 7.3 file: save it again with the option -v7")
    for file_format in FORMATS:
        if head.startswith(file_format.signatures):
            return file_format
    raise UserError(_unknown(path))


def import_library(path: str | Path, file_format: Format) -> None:
    """Imports the library that parses the format. Raises `UserError` if it is missing or too
    old."""
    try:
        library = importlib.import_module(file_format.library)
    except ModuleNotFoundError as error:
        extra = "[torch]" if file_format.library == "torch" else ""
        raise UserError(
            f"network {path} needs {error.name}: pip install 'neural-style-tf{extra}'"
        ) from None
    except (ImportError, OSError) as error:  # for example, it was built for another machine
        raise UserError(
            f"network {path} needs {file_format.library}, which cannot be imported here "
            f"({files.reason(error)}): install it again"
        ) from None
    if file_format.library == "torch" and _version(library.__version__) < SAFE_TORCH:
        raise UserError(
            f"network {path} needs torch {'.'.join(map(str, SAFE_TORCH))} or newer, and "
            f"{library.__version__} is installed: pip install 'neural-style-tf[torch]'"
        )


def read(path: str | Path, data: bytes) -> Weights:
    """The weights in the content of a file; `path` is for messages.

    Raises `UserError` if it is broken or not a VGG, and if the library that parses it is missing.
    """
    file_format = recognize(path, data[:HEAD_BYTES])
    import_library(path, file_format)
    try:
        return file_format.read(_open(path, data, file_format))
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


def _version(text: str) -> tuple[int, ...]:
    """The first two numbers of a version such as 2.5.1+cu121; (0,) if it does not start with
    two."""
    numbers = re.match(r"([0-9]+)\.([0-9]+)", text)
    return tuple(map(int, numbers.groups())) if numbers else (0,)


def _open(path: str | Path, data: bytes, file_format: Format) -> Any:
    """The bytes, parsed by the library of the format."""
    try:
        return file_format.open(data)
    except NotThisFormatError:
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
    layers = _style_part(_records(content["layers"]))
    return Weights(layers, _matconvnet_mean_pixel(content), _pixel((1, 1, 1)))


def _records(array: np.ndarray) -> list[np.void]:
    """The structs in a MATLAB cell or struct array."""
    return [item.ravel()[0] if isinstance(item, np.ndarray) else item for item in array.ravel()]


def _style_part(records: list[np.void]) -> list[Layer]:
    """The layers up to the last ReLU before the classifier."""
    layers, count = [], 0
    for record in records:
        name = _STYLE_PART.fullmatch(str(record["name"].item()))
        if not name:
            break
        layers.append(_matconvnet_layer(record, *name.group(0, 1)))
        if layers[-1].kind == "relu":
            count = len(layers)
    return layers[:count]


def _matconvnet_layer(record: np.void, name: str, kind: str) -> Layer:
    if record["type"].item() != kind:
        raise ValueError(f"{name} is of another type")
    if kind != "conv":
        return Layer(name, kind)
    kernel, bias = record["weights"].ravel()
    # MatConvNet: [width, height, in, out]; TensorFlow: [height, width, in, out]
    return Layer(name, kind, _floats(kernel, 4).transpose(1, 0, 2, 3), _floats(bias.ravel(), 1))


def _floats(array: Any, rank: int) -> np.ndarray:
    """The array as float32. Raises `ValueError` unless it holds real numbers and has that rank."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim != rank:
        raise ValueError(f"not an array of rank {rank}")
    with np.errstate(over="ignore"):  # `weights.read` reports infinite values
        return array.astype(np.float32)


def _matconvnet_mean_pixel(content: dict[str, Any]) -> np.ndarray:
    """[3] float32; beta16 has `normalization` at the top level, later versions in `meta`."""
    holder = content if "normalization" in content else _records(content["meta"])[0]
    average = _records(holder["normalization"])[0]["averageImage"]  # [3], [1, 1, 3] or [h, w, 3]
    return _floats(average.reshape(-1, 3), 2).mean(axis=0)


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
    return Weights(_layers(convolutions), _pixel(IMAGENET_MEAN_PIXEL), _pixel((1, 1, 1)))


def _open_pth(data: bytes) -> Any:
    import torch

    if data.startswith(b"PK"):
        _check_archive(data)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _check_archive(data: bytes) -> None:
    """Raises `ValueError` for a zip archive that torch did not write: torch does not compress."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if not any(member.filename.endswith("/data.pkl") for member in members):
        raise NotThisFormatError
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed")
    if sum(member.file_size for member in members) > len(data):
        raise ValueError("members overlap")


def _read_torchvision(state: dict[str, Any]) -> Weights:
    """The layers of a state dict: `features.N.weight` [out, in, h, w] and `features.N.bias` [out];
    the classifier is ignored."""
    tensors: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in state.items():
        if name.startswith("features."):
            match = _TORCHVISION_NAME.fullmatch(name)
            if match is None:
                raise ValueError(f"{name} is not a layer of torchvision's VGGs")
            array = tensor.detach().float().numpy()
            tensors.setdefault(int(match[1]), {})[match[2]] = array
    convolutions = {}
    for index, place in _torchvision_places(sorted(tensors)).items():
        kernel = tensors[index]["weight"].transpose(2, 3, 1, 0)  # -> [h, w, in, out]
        convolutions[place] = kernel, tensors[index]["bias"]
    scale = 255 * _pixel(TORCHVISION_DEVIATION)
    return Weights(_layers(convolutions), 255 * _pixel(TORCHVISION_MEAN), scale)


def _torchvision_places(indices: list[int]) -> dict[int, tuple[int, int]]:
    """The block and number of the convolution at each index of `features`: 0, 2, 5 -> (1, 1),
    (1, 2), (2, 1).

    A convolution and its ReLU take two indices, and the pooling that ends a block takes one more.
    """
    places, block, number = {}, 1, 0
    for before, index in pairwise([-2, *indices]):
        if index - before not in (2, 3):  # for example 1, before batch normalization
            raise ValueError(f"features.{index} is not a convolution of a VGG")
        if index - before == 3:
            block, number = block + 1, 0
        number += 1
        places[index] = block, number
    return places


def _layers(convolutions: Convolutions) -> list[Layer]:
    """The layers of a VGG with these convolutions: a ReLU after each, a pooling after each block.

    Raises `ValueError` unless the first is conv1_1 and all are 3x3.
    """
    if (1, 1) not in convolutions:
        raise ValueError("conv1_1 is missing")
    layers: list[Layer] = []
    for (block, number), (kernel, bias) in sorted(convolutions.items(), key=lambda item: item[0]):
        if kernel.shape[:2] != (3, 3):
            raise ValueError(f"conv{block}_{number} is not 3x3")
        if layers and number == 1:
            layers.append(Layer(f"pool{block - 1}", "pool"))
        kernel, bias = _floats(kernel, 4), _floats(bias, 1)
        layers.append(Layer(f"conv{block}_{number}", "conv", kernel, bias))
        layers.append(Layer(f"relu{block}_{number}", "relu"))
    return layers


def _pixel(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)


FORMATS = (
    Format(
        "MatConvNet",
        ".mat",
        "imagenet-vgg-verydeep-19.mat",
        "scipy.io",
        (b"MATLAB",),
        _open_mat,
        _read_matconvnet,
    ),
    Format(
        "Keras VGG",
        ".h5",
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "h5py",
        (b"\x89HDF\r\n\x1a\n",),
        _open_h5,
        _read_keras,
    ),
    Format(
        "torchvision VGG",
        ".pth",
        "vgg19-dcbb9e9d.pth",
        "torch",
        # a zip archive, and the format before torch 1.6
        (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."),
        _open_pth,
        _read_torchvision,
    ),
)
