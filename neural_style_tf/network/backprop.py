"""Backprop: a picture forward through the layers of a network, and gradients backward.

Backpropagation (Rumelhart, Hinton and Williams 1986) written out for the few operations of a VGG.
GradientTape finds the same gradients, and the tests hold the two together; written out they take
half the memory and less time, and they start from any layers' gradients, wherever those are from.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network import winograd
from neural_style_tf.network.weights import Layer

# What brings the features after these poolings to the size they have after "max": K. Crowson,
# style-transfer-pytorch.
POOLING_SCALES = {"avg": 2.0, "l2": 0.78}

Gradients = dict[str, Callable[[], tf.Tensor]]


class Operation(Protocol):
    """One layer: forward, what it has to remember of that, and backward."""

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, Any]: ...

    def backward(self, gradient: tf.Tensor, kept: Any) -> tf.Tensor: ...


class Passes:
    """The layers of a network up to the last one wanted, ready to run either way.

    layers: from a `vgg.Network`. wanted: the names of those whose features are given out.
    padding: what the first convolution sees beyond the edge, "zero" or "replicate".
    pooling: "max", "avg" or "l2"; pooling_rescale: whether the last two are brought to the size of
        the first.
    dtype: of the features: float32, bfloat16 or float16.
    often: whether they will run so often that preparing faster convolutions pays.
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
        self.layers = layers  # whose id stands for them in `objective.passes_of`
        self._wanted = set(wanted)
        self._dtype = dtype
        self._often = often
        scale = POOLING_SCALES.get(pooling, 1.0) if pooling_rescale else 1.0
        self.operations = {}
        missing = set(self._wanted)
        for layer in layers:
            if not missing:
                break
            missing.discard(layer.name)
            self.operations[layer.name] = self._operation(layer, pooling, padding, scale)

    def _operation(self, layer: Layer, pooling: str, padding: str, scale: float) -> Operation:
        if layer.kind == "relu":
            return _Relu(is_kept=layer.name in self._wanted)
        if layer.kind == "pool":
            return _POOLINGS[pooling](scale)
        if not self.operations:
            return _FirstConvolution(layer, self._dtype, padding)
        return (_WinogradConvolution if self._often else _Convolution)(layer, self._dtype)

    def bytes_per_pixel(self) -> float:
        """About how much a forward and a backward pass hold at their peak, a pixel of the
        picture: what is remembered, and three of the largest features."""
        stride, channels, largest, kept = 1, 3, 0.0, 0.0
        for name, operation in self.operations.items():
            channels = getattr(operation, "channels", channels)
            values = channels / stride**2
            largest = max(largest, values)
            if name in self._wanted or getattr(operation, "keeps_features", False):
                kept += values * self._dtype.size
            elif name.startswith("relu"):
                kept += values  # a byte each
            if name.startswith("pool"):
                stride *= 2
        return kept + 3 * largest * self._dtype.size

    def reach(self) -> dict[str, tuple[int, int]]:
        """Of each wanted layer the stride, and how many pixels on either side of its place one of
        its features sees: at index i of stride s, none outside [i s - n, i s + s + n)."""
        found, stride, before, after = {}, 1, 0, 0
        for name in self.operations:
            if name.startswith("conv"):
                before, after = before + stride, after + stride
            elif name.startswith("pool"):
                after, stride = after + stride, 2 * stride
            if name in self._wanted:
                found[name] = stride, max(before, after + 1 - stride)
        return found

    def features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """A preprocessed picture [1, H, W, 3] float32 -> features [1, h, w, channels] by name."""
        features, current = {}, image
        for name, operation in self.operations.items():
            current, _ = operation.forward(current)
            if name in self._wanted:
                features[name] = current
        return features

    def forward(self, image: tf.Tensor) -> tuple[dict[str, tf.Tensor], list[Any]]:
        """The same, and what `backward` needs."""
        features, kept, current = {}, [], image
        for name, operation in self.operations.items():
            current, memory = operation.forward(current)
            kept.append(memory)
            if name in self._wanted:
                features[name] = current
        return features, kept

    def backward(self, kept: list[Any], gradients: Gradients) -> tf.Tensor:
        """What the gradients at some of the wanted layers make at the picture: [1, H, W, 3]
        float32. Each is asked for only when its layer's turn has come, to spare memory."""
        current = None
        for (name, operation), memory in zip(
            reversed(self.operations.items()), reversed(kept), strict=True
        ):
            if name in gradients:
                with tf.control_dependencies([] if current is None else [current]):
                    gradient = gradients[name]()
                current = gradient if current is None else current + gradient
            if current is not None:
                current = operation.backward(current, memory)
        return current


class _Convolution:
    """A convolution with stride 1, and its bias.

    Backward it is a convolution with the kernel turned, and forward the gradient of one: so the
    faster operation serves both ways.
    """

    def __init__(self, layer: Layer, dtype: tf.DType):
        self._kernel = tf.cast(layer.kernel, dtype)
        self._bias = tf.cast(layer.bias, dtype)
        self.channels = layer.kernel.shape[-1]
        # in float32 oneDNN's gradients are faster than its convolutions; all others are slower
        self._by_gradient = dtype == tf.float32 and tensorflow_setup.uses_onednn()

    @functools.cached_property
    def _turned(self) -> tf.Tensor:
        """[3, 3, out, in]; made when it is needed, as some never need it."""
        with tf.init_scope():  # not as a part of the graph that is being traced
            return tf.transpose(tf.reverse(self._kernel, [0, 1]), [0, 1, 3, 2])

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, None]:
        if self._by_gradient:
            features = _gradient(features, self._turned)
        else:
            features = tf.nn.conv2d(features, self._kernel, 1, "SAME")
        return tf.nn.bias_add(features, self._bias), None

    def backward(self, gradient: tf.Tensor, _: None) -> tf.Tensor:
        if self._by_gradient:
            return _gradient(gradient, self._kernel)
        return tf.nn.conv2d(gradient, self._turned, 1, "SAME")


def _gradient(values: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """[1, h, w, in] that a convolution's results [1, h, w, out] go back to; kernel: of that
    convolution, [3, 3, in, out]."""
    shape = [*values.shape[:3], kernel.shape[2]]
    return tf.nn.conv2d_transpose(values, kernel, shape, 1, "SAME")


class _WinogradConvolution(_Convolution):
    """The same, faster where there are many channels at many places."""

    def __init__(self, layer: Layer, dtype: tf.DType):
        super().__init__(layer, dtype)
        self._exact = layer.kernel

    @functools.cached_property
    def _transformed(self) -> tf.Tensor:
        """Made when it is needed: it is four times as large as the kernel."""
        with tf.init_scope():  # not as a part of the graph that is being traced
            return tf.cast(winograd.transform_kernel(self._exact), self._kernel.dtype)

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, None]:
        if not winograd.pays(features.shape, self._kernel):
            return super().forward(features)
        return tf.nn.bias_add(winograd.convolve(features, self._transformed), self._bias), None

    def backward(self, gradient: tf.Tensor, _: None) -> tf.Tensor:
        if not winograd.pays(gradient.shape, self._kernel, is_backward=True):
            return super().backward(gradient, None)
        return winograd.convolve_transposed(gradient, self._transformed)


class _FirstConvolution:
    """The convolution that sees the picture, with a choice of what is beyond the edge."""

    def __init__(self, layer: Layer, dtype: tf.DType, padding: str):
        self._kernel = tf.cast(layer.kernel, dtype)
        self._bias = tf.cast(layer.bias, dtype)
        self.channels = layer.kernel.shape[-1]
        self._dtype = dtype
        self._replicates = padding == "replicate"

    def forward(self, image: tf.Tensor) -> tuple[tf.Tensor, None]:
        mode = "SYMMETRIC" if self._replicates else "CONSTANT"
        image = tf.pad(image, _EDGES, mode)
        kernel, low = self._kernel, tf.cast(image, self._dtype)
        if self._dtype != tf.float32:
            # a grey level has more digits than these types: what is lost comes as more channels
            rest = tf.cast(image - tf.cast(low, tf.float32), self._dtype)
            low, kernel = tf.concat([low, rest], 3), tf.concat([kernel, kernel], 2)
        return tf.nn.bias_add(tf.nn.conv2d(low, kernel, 1, "VALID"), self._bias), None

    def backward(self, gradient: tf.Tensor, _: None) -> tf.Tensor:
        height, width = gradient.shape[1:3]
        padded = [1, height + 2, width + 2, 3]
        gradient = tf.nn.conv2d_transpose(gradient, self._kernel, padded, 1, "VALID")
        gradient = tf.cast(gradient, tf.float32)
        if self._replicates:
            return tf.raw_ops.MirrorPadGrad(input=gradient, paddings=_EDGES, mode="SYMMETRIC")
        return gradient[:, 1:-1, 1:-1]


_EDGES = [[0, 0], [1, 1], [1, 1], [0, 0]]


class _Relu:
    """Remembers a byte a value, or its features where they are kept anyway."""

    def __init__(self, is_kept: bool):
        self._is_kept = is_kept

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.nn.relu(features)
        if self._is_kept:
            return features, features
        mask = features > 0
        with tf.control_dependencies([mask]):  # now, so that the features can go
            return tf.identity(features), mask

    def backward(self, gradient: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
        if self._is_kept:
            return tf.raw_ops.ReluGrad(gradients=gradient, features=kept)
        return tf.where(kept, gradient, tf.zeros((), gradient.dtype))


# Poolings of 2x2 with stride 2. At an odd edge what is beyond it does not count.
_POOL = {"ksize": 2, "strides": 2, "padding": "SAME"}
_POOL_GRADIENT = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}


class _MaxPooling:
    keeps_features = True

    def __init__(self, scale: float):
        pass  # the others are rescaled to the size of this one

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        pooled = tf.nn.max_pool2d(features, **_POOL)
        return pooled, (features, pooled)

    def backward(self, gradient: tf.Tensor, kept: tuple) -> tf.Tensor:
        features, pooled = kept
        return tf.raw_ops.MaxPoolGrad(
            orig_input=features, orig_output=pooled, grad=gradient, **_POOL_GRADIENT
        )


class _AveragePooling:
    def __init__(self, scale: float):
        self._scale = scale

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, list[int]]:
        pooled = tf.nn.avg_pool2d(features, **_POOL)
        return _scaled(pooled, self._scale), features.shape.as_list()

    def backward(self, gradient: tf.Tensor, shape: list[int]) -> tf.Tensor:
        return _spread(_scaled(gradient, self._scale), shape)


class _L2Pooling:
    """The root of the mean square, in float32: squares need the range."""

    keeps_features = True

    def __init__(self, scale: float):
        self._scale = scale

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        squares = tf.nn.avg_pool2d(tf.square(tf.cast(features, tf.float32)), **_POOL)
        # the root has no slope at 0, where most features are: hence the last number
        pooled = tf.sqrt(squares + 1e-12)
        return tf.cast(_scaled(pooled, self._scale), features.dtype), (features, pooled)

    def backward(self, gradient: tf.Tensor, kept: tuple) -> tf.Tensor:
        features, pooled = kept
        slopes = _scaled(tf.cast(gradient, tf.float32), self._scale) / pooled
        slopes = _spread(slopes, features.shape.as_list())
        return tf.cast(slopes * tf.cast(features, tf.float32), features.dtype)


_POOLINGS = {"max": _MaxPooling, "avg": _AveragePooling, "l2": _L2Pooling}


def _scaled(features: tf.Tensor, scale: float) -> tf.Tensor:
    return features if scale == 1 else features * tf.cast(scale, features.dtype)


def _spread(gradient: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """The gradient of average pooling."""
    return tf.raw_ops.AvgPoolGrad(orig_input_shape=shape, grad=gradient, **_POOL_GRADIENT)
