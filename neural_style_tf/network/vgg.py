"""VGG: weights -> a network; a picture -> named features."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError, nearest
from neural_style_tf.network import cache, weights
from neural_style_tf.network.backprop import Passes
from neural_style_tf.network.weights import Layer


class Network(NamedTuple):
    """The convolutional part of a VGG, ready to run.

    `mean_pixel` [3] float32 RGB, 0..255, is what `preprocess` takes away; `title` says in words
    which network it is. `scale` [3] float32 is what the published network then divides by; the
    first kernel has that done already, so every network here takes the same pictures.
    """

    layers: tuple[Layer, ...]
    mean_pixel: np.ndarray
    title: str
    scale: np.ndarray

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.layers]


def load(path: str | Path) -> Network:
    """The network in a MatConvNet, Keras or torchvision file; `vgg19` and `vgg16` name Keras's.

    Layer names are conv1_1, relu1_1, pool1 ... whatever the file; channel counts come from it.
    Asked for the same file again, it is the same network. Raises `UserError` for a file that is
    missing, broken or not a VGG.
    """
    path = weights.find(path)
    return _load(path, weights.version(path))


@functools.lru_cache(maxsize=1)
def _load(path: str | Path, _: tuple) -> Network:
    layers, mean_pixel, scale, title = cache.read(path)
    layers = tuple(_on_device(layer) for layer in layers)
    return Network(_with_input(layers, 1 / scale), mean_pixel, title, scale)


def without_normalization(network: Network) -> Network:
    """The same network of torchvision, fed RGB 0..1 as it is: no mean taken away, no division.

    Callers still give RGB 0..255. Raises `UserError` for a network that is not torchvision's:
    those never divide, and 0..1 would be next to black for them.
    """
    if (network.scale == 1).all():
        raise UserError(
            f"{network.title} cannot go without normalization: give a torchvision .pth file"
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
    """The features of a picture at the layers asked for; nothing past the last of them is run.

    image: [1, H, W, 3] float32 RGB, 0..255. padding: what the first convolution sees beyond the
        edge, "zero" (the mean pixel) or "replicate" (the edge itself). pooling: "max", "avg" or
        "l2"; pooling_rescale: whether the last two are rescaled to the size of the first.

    Returns [1, h, w, channels] float32 by layer name; h and w are halved, rounded up, by every
    pooling before the layer. Simonyan and Zisserman 2015, table 1.
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
    """Every layer's features of a preprocessed picture [1, H, W, 3], and the mean pixel."""
    network = load(path)
    return Passes(network.layers, network.names, pooling).features(image), network.mean_pixel


def preprocess(image: Any, mean_pixel: np.ndarray) -> Any:
    """RGB 0..255 -> what the network takes."""
    return image - mean_pixel


def unprocess(image: Any, mean_pixel: np.ndarray) -> Any:
    """What the network takes -> RGB 0..255."""
    return image + mean_pixel


def _on_device(layer: Layer) -> Layer:
    if layer.kernel is None:
        return layer
    return layer._replace(kernel=tf.constant(layer.kernel), bias=tf.constant(layer.bias))


def _with_input(layers: tuple[Layer, ...], factors: np.ndarray) -> tuple[Layer, ...]:
    """The layers as if each input channel were multiplied by its factor."""
    first, *rest = layers
    return (first._replace(kernel=first.kernel * factors[:, np.newaxis]), *rest)
