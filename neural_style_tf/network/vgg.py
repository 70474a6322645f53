"""VGG: weights -> a network; a picture -> named features.

`net`, `preprocess`, `unprocess` and the 36 layer names conv1_1 ... relu5_4 are the interface of the
published program (A. Athalye, neural-style) and stay as they are there; this program uses
`load` and `backprop.Passes`.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError, nearest
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network import cache, weights
from neural_style_tf.network.backprop import Passes
from neural_style_tf.network.layers import Layer
from neural_style_tf.settings import BUNDLED_NETWORK


class Network(NamedTuple):
    """The convolutional part of a VGG, ready to run.

    layers: convolutions hold TensorFlow tensors, see `layers.Layer`.
    mean_pixel: [3] float32 RGB, 0..255, which `preprocess` subtracts.
    title: which network it is, in words.
    scale: [3] float32, which the published network divides by next. Here the first kernel includes
        that division, so every network takes the same pictures.
    """

    layers: tuple[Layer, ...]
    mean_pixel: np.ndarray
    title: str
    scale: np.ndarray

    @property
    def names(self) -> list[str]:
        """The names of the layers in order: conv1_1, relu1_1, conv1_2, relu1_2, pool1 ..."""
        return [layer.name for layer in self.layers]


def load(path: str | Path = BUNDLED_NETWORK) -> Network:
    """The network in a MatConvNet `.mat`, Keras `.h5`, PyTorch `.pth` or `.safetensors` file;
    without an argument, the bundled VGG-19.

    path: a file, or `vgg19` or `vgg16` for the networks that Keras publishes, which are downloaded
        if necessary.

    Layers are named conv1_1, relu1_1, pool1 ... whatever the file calls them; their channels are
    the file's. Loading the same unchanged file twice in a row returns the same network. Raises
    `UserError` for a file that is missing, broken or not a VGG.
    """
    tensorflow_setup.prepare()
    path = weights.find(path)
    return _load(path, weights.version(path))


@functools.lru_cache(maxsize=1)
def _load(path: str | Path, _: tuple) -> Network:
    weights_read, mean_pixel, scale, title = cache.read(path)
    layers = tuple(_on_device(layer) for layer in weights_read)
    return Network(_with_input(layers, 1 / scale), mean_pixel, title, scale)


def without_normalization(network: Network) -> Network:
    """A torchvision network that takes RGB 0..1 without subtracting a mean or dividing by a
    deviation.

    Callers still pass RGB 0..255. Raises `UserError` for networks that are not torchvision's: they
    were trained on 0..255, so that 0..1 would be nearly black to them.
    """
    if (network.scale == 1).all():
        raise UserError(
            f"{network.title} cannot be used without normalization: choose a torchvision .pth file"
        )
    layers = _with_input(network.layers, network.scale / 255)
    return network._replace(
        layers=layers, mean_pixel=np.zeros(3, np.float32), scale=np.full(3, 255, np.float32)
    )


def features(
    network: Network,
    image: tf.Tensor,
    layers: list[str],
    pooling: str = "max",
    padding: str = "zero",
    pooling_rescale: bool = False,
) -> dict[str, tf.Tensor]:
    """The features of a picture at some layers; layers after the last of them are not computed.

    image: [1, H, W, 3] float32 RGB, 0..255. pooling: "max", "avg" or "l2"; pooling_rescale: whether
        the last two are scaled to the magnitude of the first. padding: what the first convolution
        sees beyond the edge, "zero" (the mean pixel) or "replicate" (the edge itself); or "wrap":
        all convolutions see the opposite edge.

    Returns [1, h, w, channels] float32 by layer name; every pooling before the layer halves h and w
    and rounds up. The architecture is that of Simonyan and Zisserman 2015, table 1. Raises
    `UserError` for a layer that the network does not have.
    """
    check_layers(network, layers)
    passes = Passes(network.layers, layers, pooling, padding, pooling_rescale)
    return passes.features(preprocess(image, network.mean_pixel))


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
    """The features of every layer by name, [1, h, w, channels] float32, and the mean pixel [3].

    path: as for `load`. image: a preprocessed picture [1, H, W, 3] float32. pooling: "max", "avg"
        or "l2". Raises `UserError` as `load` does.
    """
    network = load(path)
    return Passes(network.layers, network.names, pooling).features(image), network.mean_pixel


def preprocess(image: Any, mean_pixel: np.ndarray) -> Any:
    """A picture [..., 3] RGB, 0..255 -> the input of the network, in which `mean_pixel` is 0."""
    return image - mean_pixel


def unprocess(image: Any, mean_pixel: np.ndarray) -> Any:
    """The input of the network [..., 3] -> a picture RGB, 0..255; the inverse of `preprocess`."""
    return image + mean_pixel


def _on_device(layer: Layer) -> Layer:
    if layer.kernel is None:
        return layer
    return layer._replace(kernel=tf.constant(layer.kernel), bias=tf.constant(layer.bias))


def _with_input(layers: tuple[Layer, ...], factors: np.ndarray) -> tuple[Layer, ...]:
    """The layers, with the factors [3] of the input channels multiplied into the first kernel."""
    first, *rest = layers
    return (first._replace(kernel=first.kernel * factors[:, np.newaxis]), *rest)
