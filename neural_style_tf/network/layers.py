"""Layers: what every format of a network's file is read into."""

from typing import Any, NamedTuple

import numpy as np

# Mean of Simonyan and Zisserman's training set, RGB 0..255; Keras has it as BGR.
IMAGENET_MEAN_PIXEL = (123.68, 116.779, 103.939)
# RGB 0..1, from torchvision.models, VGG19_Weights.IMAGENET1K_V1.transforms.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)

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
    an image of 0..255. `title` says in words which network it is, or how it was recognized.
    """

    layers: list[Layer]
    mean_pixel: np.ndarray
    scale: np.ndarray
    title: str = ""


def of(convolutions: Convolutions) -> list[Layer]:
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
        kernel, bias = floats(kernel, 4), floats(bias, 1)
        layers.append(Layer(f"conv{block}_{number}", "conv", kernel, bias))
        layers.append(Layer(f"relu{block}_{number}", "relu"))
    return layers


def floats(array: Any, rank: int) -> np.ndarray:
    """The array as float32. Raises `ValueError` unless it holds real numbers and has that rank."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim != rank:
        raise ValueError(f"not an array of rank {rank}")
    with np.errstate(over="ignore"):  # `weights.read` reports infinite values
        return array.astype(np.float32)


def pixel(values: Any) -> np.ndarray:
    """[3] float32. Raises `ValueError` for anything but three numbers."""
    array = np.array(values, np.float32)
    if array.shape != (3,):
        raise ValueError("not a pixel")
    return array
