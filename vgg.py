"""VGG: a weights file -> a network; a picture -> named features. Knows every weights format."""

import hashlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import tensorflow as tf

import files
from settings import UserError, nearest

# SHA-256 of the files we know, and what to call them.
KNOWN_FILES = {
    "13f64d6bb9f2dd2d4577fa06b90617ec323db451df95c07bdb2c54f610e77bec": "the bundled VGG-19",
    "abdb57167f82a2a1fbab1e1c16ad9373411883f262a1a37ee5db2e6fb0044695": "the published VGG-19",
}
_STYLE_PART = re.compile(r"(conv|relu|pool)\d+(_\d+)?")  # the layers before the classifier


class Layer(NamedTuple):
    """One layer: a convolution has `kernel` [h, w, in, out] and `bias` [out], float32."""

    name: str
    kind: str  # conv, relu or pool
    kernel: tf.Tensor | None = None
    bias: tf.Tensor | None = None


class Network(NamedTuple):
    """The convolutional part of a VGG, ready to run.

    `mean_pixel` [3] float32 RGB, 0..255, is what `preprocess` takes away; `title` says in words
    which network it is.
    """

    layers: tuple[Layer, ...]
    mean_pixel: np.ndarray
    title: str

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.layers]


def load(path: str | Path) -> Network:
    """The network in a MatConvNet `.mat` file, of beta16 or newer, read by field name.

    Layer names, channel counts and the mean pixel come from the file; what follows the last ReLU
    before the classifier is left out. Raises `UserError` for a file that is missing, broken or no
    such network.
    """
    with files.open_to_read(path) as file:
        data = file.read()
    content = _mat_content(path, data)
    try:
        layers = [_layer(record) for record in _records(content["layers"])]
        mean_pixel = _mean_pixel(content)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError):
        raise UserError(
            f"network {path} is no MatConvNet network: give a .mat file such as "
            "imagenet-vgg-verydeep-19.mat"
        ) from None
    layers = _style_part(layers)
    _check_chain(path, layers)
    title = KNOWN_FILES.get(hashlib.sha256(data).hexdigest(), f"the network {Path(path).name}")
    return Network(tuple(_on_device(layer) for layer in layers), mean_pixel, title)


def features(
    network: Network,
    image: tf.Tensor,
    layers: list[str],
    pooling: str = "max",
    padding: str = "zero",
) -> dict[str, tf.Tensor]:
    """The features of a picture at the layers asked for; nothing past the last of them is run.

    image: [1, H, W, 3] float32 RGB, 0..255. padding: what the first convolution sees beyond the
        edge, "zero" (the mean pixel) or "replicate" (the edge itself).

    Returns [1, h, w, channels] float32 by layer name; h and w are halved, rounded up, by every
    pooling before the layer. Simonyan and Zisserman 2015, table 1.
    """
    check_layers(network, layers)
    image = preprocess(image, network.mean_pixel)
    return _run(network, image, set(layers), pooling, padding)


def check_layers(network: Network, layers: list[str]) -> None:
    """Raises `UserError` unless the network has all the layers."""
    for name in layers:
        if name not in network.names:
            raise UserError(
                f"the network has no layer {name}{nearest(name, network.names)}: "
                f"it has {network.names[0]} to {network.names[-1]}"
            )


def net(
    path: str | Path, image: tf.Tensor, pooling: str = "max"
) -> tuple[dict[str, tf.Tensor], np.ndarray]:
    """Every layer's features of a preprocessed picture [1, H, W, 3], and the mean pixel."""
    network = load(path)
    return _run(network, image, set(network.names), pooling, "zero"), network.mean_pixel


def preprocess(image: Any, mean_pixel: np.ndarray) -> Any:
    """RGB 0..255 -> what the network takes."""
    return image - mean_pixel


def unprocess(image: Any, mean_pixel: np.ndarray) -> Any:
    """What the network takes -> RGB 0..255."""
    return image + mean_pixel


def _run(
    network: Network, image: tf.Tensor, wanted: set[str], pooling: str, padding: str
) -> dict[str, tf.Tensor]:
    found, current, edge = {}, image, "SAME"
    if padding == "replicate":
        current = tf.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        edge = "VALID"
    for layer in network.layers:
        if layer.kind == "conv":
            current = tf.nn.conv2d(current, layer.kernel, strides=1, padding=edge)
            edge = "SAME"
            current = tf.nn.bias_add(current, layer.bias)
        elif layer.kind == "relu":
            current = tf.nn.relu(current)
        else:
            pool = {"max": tf.nn.max_pool2d, "avg": tf.nn.avg_pool2d}[pooling]
            current = pool(current, ksize=2, strides=2, padding="SAME")
        if layer.name in wanted:
            found[layer.name] = current
        if len(found) == len(wanted):
            break
    return found


def _mat_content(path: str | Path, data: bytes) -> dict[str, Any]:
    try:
        return scipy.io.loadmat(io.BytesIO(data))
    except Exception as error:  # scipy raises anything at all on broken bytes
        raise UserError(
            f"network {path} is truncated or no .mat file ({type(error).__name__}): "
            "fetch it again or give another --network"
        ) from None


def _records(array: np.ndarray) -> list[np.void]:
    """The structs in a MATLAB cell or struct array."""
    return [item.ravel()[0] if isinstance(item, np.ndarray) else item for item in array.ravel()]


def _layer(record: np.void) -> Layer:
    name, kind = str(record["name"].item()), str(record["type"].item())
    if kind != "conv":
        return Layer(name, kind)
    kernel, bias = record["weights"].ravel()
    # MatConvNet keeps [width, height, in, out], TensorFlow wants [height, width, in, out]
    kernel = np.transpose(kernel, (1, 0, 2, 3)).astype(np.float32)
    return Layer(name, kind, kernel, bias.ravel().astype(np.float32))


def _mean_pixel(content: dict[str, Any]) -> np.ndarray:
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


def _on_device(layer: Layer) -> Layer:
    if layer.kernel is None:
        return layer
    return layer._replace(kernel=tf.constant(layer.kernel), bias=tf.constant(layer.bias))
