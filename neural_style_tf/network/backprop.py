"""Backprop: a picture forward through the layers of a network, and gradients backward.

Backpropagation (Rumelhart, Hinton and Williams 1986) written out for the few operations of a VGG.
`tf.GradientTape` computes the same gradients (the tests compare the two), but this takes half the
memory and less time, and it starts from the gradients of any layers' features, wherever they come
from.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from neural_style_tf.network import device, fused
from neural_style_tf.network.layers import Layer
from neural_style_tf.network.operations import (
    POOLING_SCALES,
    AveragePooling,
    AveragePoolingOfRelu,
    FirstConvolution,
    Operation,
    make_operation,
)
from neural_style_tf.network.relus import PooledRelu, Relu, Term

# By layer name, a function that returns d loss / d features of the layer as a sum of terms. The
# first is [1, h, w, channels]; or a `Difference` or `Halved`, but only at a ReLU, in a graph for a
# GPU.
Gradients = dict[str, Callable[[], list[Term]]]


class Passes:
    """The layers of a network up to the last wanted one, ready to run forward and backward.

    layers: from a `vgg.Network`. wanted: the names of the layers whose features are returned.
    pooling: "max", "avg" or "l2"; pooling_rescale: whether the last two are scaled to the magnitude
        of the first.
    padding: what the first convolution sees beyond the edge, "zero" or "replicate", and the others
        zeros; or "wrap": all see the opposite edge. Both sides of a picture are then multiples of
        the stride of the last layer.
    dtype: of the features: float32, bfloat16 or float16.
    often: whether they run often enough for preparing faster convolutions to pay, or on a GPU
        compiled functions between these.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        wanted: Iterable[str],
        pooling: str = "max",
        padding: str = "zero",
        pooling_rescale: bool = False,
        dtype: tf.DType = tf.float32,
        often: bool = False,
    ):
        self._wanted = set(wanted)
        self._dtype = dtype
        self.operations: dict[str, Operation[Any]] = {}  # in order, by layer name
        used = _up_to_last(layers, self._wanted)
        if device.is_gpu() and often:
            used = _with_biases_in_relus(used, self._wanted)
        for layer in used:
            if layer.kind == "conv" and not self.operations:
                self.operations[layer.name] = FirstConvolution(layer, dtype, padding)
                continue
            self.operations[layer.name] = make_operation(
                layer,
                pooling=pooling,
                pooling_scale=POOLING_SCALES.get(pooling, 1.0) if pooling_rescale else 1.0,
                wraps=padding == "wrap",
                dtype=dtype,
                often=often,
                is_kept=layer.name in self._wanted,
            )
        if device.is_gpu():
            self._join_relus_and_poolings()

    def _join_relus_and_poolings(self) -> None:
        """Has ReLUs take the gradient of the average pooling above."""
        names = list(self.operations)
        for below, name in itertools.pairwise(names):
            relu, pool = self.operations[below], self.operations[name]
            if isinstance(relu, Relu) and type(pool) is AveragePooling:
                self.operations[below] = PooledRelu(relu, pool.scale)
                self.operations[name] = AveragePoolingOfRelu(pool.scale)

    def bytes_per_pixel(self) -> float:
        """Roughly the peak memory of a forward and a backward pass, per pixel of the picture: what
        the operations remember, and three times the largest features."""
        stride, channels, largest, remembered = 1, 3, 0.0, 0.0
        for name, operation in self.operations.items():
            channels = operation.channels or channels
            values = channels / stride**2
            largest = max(largest, values)
            if name in self._wanted or operation.keeps_input:
                remembered += values * self._dtype.size
            elif name.startswith("relu"):
                keeps_output = getattr(operation, "keeps_output", False)
                remembered += values * (self._dtype.size if keeps_output else 1)  # or a mask
            if name.startswith("pool"):
                stride *= 2
        return remembered + 3 * largest * self._dtype.size

    def values_per_pixel(self) -> float:
        """Of the largest features, per pixel of the picture."""
        stride, channels, largest = 1, 3, 3.0
        for name, operation in self.operations.items():
            channels = operation.channels or channels
            largest = max(largest, channels / stride**2)
            if name.startswith("pool"):
                stride *= 2
        return largest

    def channels(self) -> dict[str, int]:
        """By wanted layer, the number of channels of its features."""
        by_layer, channels = {}, 3
        for name, operation in self.operations.items():
            channels = operation.channels or channels
            if name in self._wanted:
                by_layer[name] = channels
        return by_layer

    def reach(self) -> dict[str, tuple[int, int]]:
        """By wanted layer its stride s, and how far its features see, in pixels: the one at index i
        depends on no pixel outside [i s - n, i s + s + n). Returns (s, n)."""
        reaches, stride, before, after = {}, 1, 0, 0
        for name in self.operations:
            if name.startswith("conv"):
                before, after = before + stride, after + stride
            elif name.startswith("pool"):
                after, stride = after + stride, 2 * stride
            if name in self._wanted:
                reaches[name] = stride, max(before, after + 1 - stride)
        return reaches

    def features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """The wanted features [1, h, w, channels] by layer name; image: a preprocessed picture
        [1, H, W, 3] float32."""
        features, current = {}, image
        for name, operation in self.operations.items():
            current, _ = operation.forward(current)
            if name in self._wanted:
                features[name] = current
        return features

    def forward(self, image: tf.Tensor) -> tuple[dict[str, tf.Tensor], list[Any]]:
        """The same features, and what `backward` needs of the pass: the memory of each
        operation."""
        features, memories, current = {}, [], image
        for name, operation in self.operations.items():
            current, memory = operation.forward(current)
            memories.append(memory)
            if name in self._wanted:
                features[name] = current
        return features, memories

    def backward(self, memories: list[Any], gradients: Gradients) -> tf.Tensor:
        """d loss / d image [1, H, W, 3] float32, from d loss / d features of some wanted layers.

        memories: from `forward`. Each gradient is only computed when the pass arrives at its layer,
        to save memory.
        """
        current = None
        for (name, operation), memory in zip(
            reversed(self.operations.items()), reversed(memories), strict=True
        ):
            if name in gradients:
                with tf.control_dependencies([] if current is None else [current]):
                    terms = gradients[name]()
                if isinstance(operation, Relu) and device.is_gpu():
                    current = operation.backward_from_terms(current, terms, memory)
                    continue
                terms = terms if current is None else [current, *terms]
                current = fused.on_gpu(sum_of)(terms)
            if current is not None:
                current = operation.backward(current, memory)
        return current


def sum_of(terms: list[tf.Tensor]) -> tf.Tensor:
    """The sum of the terms of a gradient, the first of which is [1, h, w, channels]."""
    first, *others = terms
    return functools.reduce(operator.add, [tf.cast(term, first.dtype) for term in others], first)


def _up_to_last(layers: Sequence[Layer], wanted: set[str]) -> list[Layer]:
    """The layers up to the last wanted one."""
    names = [layer.name for layer in layers]
    count = 1 + max((names.index(name) for name in wanted if name in names), default=-1)
    return list(layers[: count if wanted <= set(names) else len(layers)])


def _with_biases_in_relus(layers: list[Layer], wanted: set[str]) -> list[Layer]:
    """The same layers, where each ReLU has the bias of the convolution below, which then has none,
    unless its features are wanted."""
    result = list(layers)
    for number, (below, layer) in enumerate(itertools.pairwise(layers)):
        if (below.kind, layer.kind) == ("conv", "relu") and below.name not in wanted:
            result[number] = below._replace(bias=None)
            result[number + 1] = layer._replace(bias=below.bias)
    return result
