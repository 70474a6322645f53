"""Weights: a network's file -> its layers, as arrays. Knows every format; needs no TensorFlow."""

import contextlib
import hashlib
import io
import os
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import files
from settings import UserError

# SHA-256 of the files we know, and what to call them.
KNOWN_FILES = {
    "13f64d6bb9f2dd2d4577fa06b90617ec323db451df95c07bdb2c54f610e77bec": "the bundled VGG-19",
    "abdb57167f82a2a1fbab1e1c16ad9373411883f262a1a37ee5db2e6fb0044695": "the published VGG-19",
}
# Addresses and MD5 sums: keras.applications, vgg19.py and vgg16.py.
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
PROGRAM_FOLDER = Path(__file__).resolve().parent

# Of Simonyan and Zisserman's training set, RGB 0..255; Keras keeps it as BGR.
IMAGENET_MEAN_PIXEL = (123.68, 116.779, 103.939)
# RGB 0..1: torchvision.models, VGG19_Weights.IMAGENET1K_V1.transforms.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)

_STYLE_PART = re.compile(r"(conv|relu|pool)\d+(_\d+)?")  # the layers before the classifier
_KERAS_LAYER = re.compile(r"(?:^|/)block(\d+)_conv(\d+)/")

# (block, number) -> kernel [h, w, in, out] and bias [out]
Convolutions = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]


class Layer(NamedTuple):
    """One layer: a convolution has `kernel` [h, w, in, out] and `bias` [out], float32.

    They are arrays here, and tensors in a `vgg.Network`.
    """

    name: str
    kind: str  # conv, relu or pool
    kernel: Any = None
    bias: Any = None


class Weights(NamedTuple):
    """What a file holds, up to the last ReLU before the classifier.

    The first layer takes (image - mean_pixel) / scale: both are [3] float32 RGB, 0..255.
    """

    layers: list[Layer]
    mean_pixel: np.ndarray
    scale: np.ndarray
    title: str = ""


def find(name: str | Path) -> str | Path:
    """Where a network is: `vgg19` and `vgg16` name Keras's files, all else is a path already.

    Keras's files are looked for beside the program and in Keras's own folder, and else fetched,
    for which TensorFlow is imported. Raises `UserError` if they are out of reach.
    """
    if name not in PUBLISHED:
        return name
    address, _ = PUBLISHED[name]
    for folder in folders():
        path = folder / address.rpartition("/")[2]
        if os.path.isfile(path):
            return path
    return _fetch(name)


def folders() -> list[Path]:
    """Where networks are looked for: beside the program, and in Keras's own folder."""
    return [PROGRAM_FOLDER, _keras_folder()]


def read(path: str | Path) -> Weights:
    """The weights in a MatConvNet `.mat`, Keras `.h5` or torchvision `.pth` file, which is told
    by its content.

    Raises `UserError` for a file that is missing, broken or no VGG, and if it takes torch, which
    is not there.
    """
    with files.open_to_read(path) as file:
        data = file.read()
    form = _format_of(path, data)
    content = _open(path, data, form)
    try:
        weights = form.read(content)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError):
        raise UserError(
            f"network {path} is no {form.maker} network: give a {form.extension} file such as "
            f"{form.example}"
        ) from None
    _check_chain(path, weights.layers)
    title = KNOWN_FILES.get(hashlib.sha256(data).hexdigest(), f"the network {Path(path).name}")
    return weights._replace(title=title)


def _keras_folder() -> Path:
    home = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    return Path(os.path.expanduser(home), "models")


def _fetch(name: str) -> Path:
    from keras.utils import get_file

    address, checksum = PUBLISHED[name]
    file_name = address.rpartition("/")[2]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the progress bar
            return Path(get_file(file_name, address, cache_subdir="models", file_hash=checksum))
    except Exception as error:  # Keras itself raises a bare Exception
        with contextlib.suppress(OSError):  # Keras leaves a file with the wrong checksum behind
            (_keras_folder() / file_name).unlink()
        reason = files.reason(error).rpartition(" -- ")[2]
        raise UserError(
            f"network {name} is out of reach ({reason}): get {address} another way and put it "
            f"into {PROGRAM_FOLDER}"
        ) from error


class _Format(NamedTuple):
    maker: str
    extension: str
    example: str
    signatures: tuple[bytes, ...]  # how such files begin
    open: Callable[[bytes], Any]
    read: Callable[[Any], Weights]


def _format_of(path: str | Path, data: bytes) -> _Format:
    for form in _FORMATS:
        if data.startswith(form.signatures):
            return form
    known = [f"a {form.maker} {form.extension}" for form in _FORMATS]
    raise UserError(
        f"network {path} has no known format: give {', '.join(known[:-1])} or {known[-1]} file"
    )


def _open(path: str | Path, data: bytes, form: _Format) -> Any:
    """What the format's own library makes of the bytes."""
    try:
        return form.open(data)
    except ModuleNotFoundError as error:
        raise UserError(
            f"network {path} needs {error.name}: pip install -r requirements-torch.txt"
        ) from None
    except Exception as error:  # the libraries raise anything at all on broken bytes
        raise UserError(
            f"network {path} is truncated or no {form.extension} file ({type(error).__name__}): "
            "fetch it again or give another --network"
        ) from None


def _open_mat(data: bytes) -> dict[str, Any]:
    import scipy.io

    return scipy.io.loadmat(io.BytesIO(data))


def _read_matconvnet(content: dict[str, Any]) -> Weights:
    """Layers, channel counts and mean pixel by field name, of beta16 or newer."""
    layers = [_matconvnet_layer(record) for record in _records(content["layers"])]
    return Weights(_style_part(layers), _matconvnet_mean_pixel(content), _pixel((1, 1, 1)))


def _records(array: np.ndarray) -> list[np.void]:
    """The structs in a MATLAB cell or struct array."""
    return [item.ravel()[0] if isinstance(item, np.ndarray) else item for item in array.ravel()]


def _matconvnet_layer(record: np.void) -> Layer:
    name, kind = str(record["name"].item()), str(record["type"].item())
    if kind != "conv":
        return Layer(name, kind)
    kernel, bias = record["weights"].ravel()
    # MatConvNet keeps [width, height, in, out], TensorFlow wants [height, width, in, out]
    kernel = np.transpose(kernel, (1, 0, 2, 3)).astype(np.float32)
    return Layer(name, kind, kernel, bias.ravel().astype(np.float32))


def _matconvnet_mean_pixel(content: dict[str, Any]) -> np.ndarray:
    """[3] float32; beta16 has `normalization` at the top level, newer files within `meta`."""
    holder = content if "normalization" in content else _records(content["meta"])[0]
    average = _records(holder["normalization"])[0]["averageImage"]  # [3], [1, 1, 3] or [h, w, 3]
    return average.reshape(-1, 3).mean(axis=0).astype(np.float32)


def _style_part(layers: list[Layer]) -> list[Layer]:
    """The layers up to the last ReLU before the classifier."""
    count = 0
    for index, layer in enumerate(layers):
        if not _STYLE_PART.fullmatch(layer.name):
            break
        if layer.kind == "relu":
            count = index + 1
    return layers[:count]


def _open_h5(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of the convolutions by their paths, which differ from one Keras to the next."""
    import h5py

    arrays = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and _KERAS_LAYER.search(name):
            arrays[name] = item[()]

    with h5py.File(io.BytesIO(data), "r") as file:
        file.get("model_weights", file).visititems(collect)  # a whole model has them there
    return arrays


def _read_keras(arrays: dict[str, np.ndarray]) -> Weights:
    """The kernel of a layer is its array of rank 4, the bias the one of rank 1."""
    by_rank: dict[tuple[int, int], dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        block, number = map(int, _KERAS_LAYER.search(name).groups())
        by_rank.setdefault((block, number), {})[array.ndim] = array
    convolutions = {place: (found[4], found[1]) for place, found in by_rank.items()}
    kernel, bias = convolutions[1, 1]
    convolutions[1, 1] = kernel[:, :, ::-1], bias  # trained on BGR
    return Weights(_layers(convolutions), _pixel(IMAGENET_MEAN_PIXEL), _pixel((1, 1, 1)))


def _open_pth(data: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _read_torchvision(state: dict[str, Any]) -> Weights:
    """`features.N.weight` [out, in, h, w] and `features.N.bias`; the classifier is left out."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in state.items():
        if name.startswith("features."):
            _, index, kind = name.split(".")
            found.setdefault(int(index), {})[kind] = tensor.detach().float().numpy()
    convolutions = {}
    for index, place in _torchvision_places(sorted(found)).items():
        kernel = found[index]["weight"].transpose(2, 3, 1, 0)  # -> [h, w, in, out]
        convolutions[place] = kernel, found[index]["bias"]
    scale = 255 * _pixel(TORCHVISION_DEVIATION)
    return Weights(_layers(convolutions), 255 * _pixel(TORCHVISION_MEAN), scale)


def _torchvision_places(indices: list[int]) -> dict[int, tuple[int, int]]:
    """0, 2, 5 -> (1, 1), (1, 2), (2, 1): a convolution and its ReLU take two places of
    `features`, and the pooling that ends a block takes one more."""
    places, block, number = {}, 1, 0
    for before, index in pairwise([-2, *indices]):
        if index - before not in (2, 3):  # 1, if there is batch normalization between
            raise ValueError(f"features.{index} is no convolution of a VGG")
        if index - before == 3:
            block, number = block + 1, 0
        number += 1
        places[index] = block, number
    return places


def _layers(convolutions: Convolutions) -> list[Layer]:
    """Each convolution with its ReLU, and a pooling between the blocks.

    Raises `ValueError` unless they begin with conv1_1, and all are 3x3, as in every VGG.
    """
    if (1, 1) not in convolutions:
        raise ValueError("there is no conv1_1")
    layers = []
    for (block, number), (kernel, bias) in sorted(convolutions.items(), key=lambda item: item[0]):
        if kernel.shape[:2] != (3, 3):
            raise ValueError(f"conv{block}_{number} is not 3x3")
        if layers and number == 1:
            layers.append(Layer(f"pool{block - 1}", "pool"))
        kernel, bias = kernel.astype(np.float32), bias.astype(np.float32)
        layers.append(Layer(f"conv{block}_{number}", "conv", kernel, bias))
        layers.append(Layer(f"relu{block}_{number}", "relu"))
    return layers


def _pixel(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)


def _check_chain(path: str | Path, layers: list[Layer]) -> None:
    """Raises `UserError` unless each convolution takes what the one before it gives."""
    channels = 3
    for layer in layers:
        if layer.kind != "conv":
            continue
        fits = layer.kernel.shape[2] == channels and layer.bias.size == layer.kernel.shape[3]
        if not fits or not np.isfinite(layer.kernel).all():
            raise UserError(f"network {path}: layer {layer.name} is broken, fetch the file again")
        channels = layer.kernel.shape[3]
    if not layers:
        raise UserError(f"network {path} has no layer conv1_1: give a VGG network")


_FORMATS = (
    _Format(
        "MatConvNet",
        ".mat",
        "imagenet-vgg-verydeep-19.mat",
        (b"MATLAB",),
        _open_mat,
        _read_matconvnet,
    ),
    _Format(
        "Keras VGG",
        ".h5",
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        (b"\x89HDF\r\n\x1a\n",),
        _open_h5,
        _read_keras,
    ),
    _Format(
        "torchvision VGG",
        ".pth",
        "vgg19-dcbb9e9d.pth",
        # a zip archive, and how torch before 1.6 wrote
        (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."),
        _open_pth,
        _read_torchvision,
    ),
)
