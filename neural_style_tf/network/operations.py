"""Operations: one layer of a VGG each, forward, and backward from the gradient of its output.

Each method works on one picture: features are [1, h, w, channels], in the type of the network's
features (float32, bfloat16 or float16). The gradient of an operation's output has the shape and the
type of that output, and the gradient that `backward` returns has those of the input. The first
convolution is the exception: its input is a picture [1, H, W, 3] float32.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import tensorflow as tf

from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network import device, fused, winograd
from neural_style_tf.network.layers import Layer
from neural_style_tf.network.relus import Relu

# Factors that bring the output of a pooling to the magnitude that max pooling gives: K. Crowson,
# style-transfer-pytorch.
POOLING_SCALES = {"avg": 2.0, "l2": 0.78}

Memory = TypeVar("Memory")


class Operation(Protocol[Memory]):
    """One layer, forward and backward."""

    keeps_input: bool  # whether `backward` needs the features that went in
    channels: int | None  # of the output; None if it has as many as the input

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, Memory]:
        """Features [1, h, w, in] -> [1, h', w', out], and what `backward` needs of them.

        h' = h and w' = w, except for poolings, which halve both and round up.
        """
        ...

    def backward(self, gradient: tf.Tensor, memory: Memory) -> tf.Tensor:
        """The gradient of the output [1, h', w', out] -> that of the input [1, h, w, in]."""
        ...


class Convolution:
    """A 3x3 or 1x1 convolution with stride 1 and zeros beyond the edge, plus its bias if the layer
    has one.

    Its gradient is a convolution with the rotated kernel, and it is itself the gradient of one: the
    operation that is faster on this machine serves both ways.
    """

    keeps_input = False

    def __init__(self, layer: Layer, dtype: tf.DType):
        self._kernel = tf.cast(layer.kernel, dtype)
        self._bias = None if layer.bias is None else tf.cast(layer.bias, dtype)
        self.channels = layer.kernel.shape[-1]
        # in float32 oneDNN's gradients are faster than its convolutions; all others are slower
        self._by_gradient = (
            dtype == tf.float32 and tensorflow_setup.uses_onednn() and not device.is_gpu()
        )

    @functools.cached_property
    def _rotated(self) -> tf.Tensor:
        """[3, 3, out, in], rotated by 180 degrees; created on first use, as not all need it."""
        with tf.init_scope():  # not as a part of the graph that is being traced
            return tf.transpose(tf.reverse(self._kernel, [0, 1]), [0, 1, 3, 2])

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, None]:
        if self._by_gradient:
            features = _gradient_of_convolution(features, self._rotated)
        else:
            features = tf.nn.conv2d(features, self._kernel, 1, "SAME")
        return _with_bias(features, self._bias), None

    def backward(self, gradient: tf.Tensor, _: None) -> tf.Tensor:
        if self._by_gradient:
            return _gradient_of_convolution(gradient, self._kernel)
        return tf.nn.conv2d(gradient, self._rotated, 1, "SAME")


def _gradient_of_convolution(gradient: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The gradient of a convolution's output [1, h, w, out] -> that of its input [1, h, w, in];
    kernel: [3, 3, in, out]."""
    shape = [*gradient.shape[:3], kernel.shape[2]]
    return tf.nn.conv2d_transpose(gradient, kernel, shape, 1, "SAME")


def _with_bias(features: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    return features if bias is None else tf.nn.bias_add(features, bias)


class WinogradConvolution(Convolution):
    """The same convolution, faster where there are many channels at many positions."""

    def __init__(self, layer: Layer, dtype: tf.DType):
        super().__init__(layer, dtype)
        self._exact_kernel = layer.kernel

    @functools.cached_property
    def _transformed(self) -> tf.Tensor:
        """[36, in, out]; created on first use, as it is four times as large as the kernel."""
        with tf.init_scope():  # not as a part of the graph that is being traced
            return tf.cast(winograd.transform_kernel(self._exact_kernel), self._kernel.dtype)

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, None]:
        if not winograd.pays(features.shape, self._kernel):
            return super().forward(features)
        return _with_bias(winograd.convolve(features, self._transformed), self._bias), None

    def backward(self, gradient: tf.Tensor, _: None) -> tf.Tensor:
        if not winograd.pays(gradient.shape, self._kernel, is_backward=True):
            return super().backward(gradient, None)
        return winograd.convolve_transposed(gradient, self._transformed)


class WrappedConvolution:
    """A convolution that sees the opposite edge beyond each edge.

    It convolves the features with one more row or column of the opposite edge on each side, and
    leaves these out of the result. Its gradient is likewise that of the wrapped gradient.
    """

    keeps_input = False

    def __init__(self, convolution: Convolution):
        self._convolution = convolution
        self.channels = convolution.channels

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, None]:
        features, _ = self._convolution.forward(wrapped(features))
        return features[:, 1:-1, 1:-1], None

    def backward(self, gradient: tf.Tensor, _: None) -> tf.Tensor:
        return self._convolution.backward(wrapped(gradient), None)[:, 1:-1, 1:-1]


def wrapped(features: tf.Tensor) -> tf.Tensor:
    """[1, h + 2, w + 2, channels]: features [1, h, w, channels] with the opposite edge beyond each
    edge."""
    features = tf.concat([features[:, -1:], features, features[:, :1]], 1)
    return tf.concat([features[:, :, -1:], features, features[:, :, :1]], 2)


class FirstConvolution:
    """The convolution that sees the picture: [1, H, W, 3] float32 -> [1, H, W, channels].

    padding: what it sees beyond the edge, "zero" (the mean pixel), "replicate" (the edge itself) or
        "wrap" (the opposite edge).
    """

    keeps_input = False

    def __init__(self, layer: Layer, dtype: tf.DType, padding: str):
        self._kernel = tf.cast(layer.kernel, dtype)
        self._bias = None if layer.bias is None else tf.cast(layer.bias, dtype)
        self.channels = layer.kernel.shape[-1]
        self._dtype = dtype
        self._padding = padding
        # these types have too few digits for a grey level: the rest of it goes into three more
        # channels
        self._has_rest = dtype != tf.float32
        self._forward_kernel = tf.concat([self._kernel] * (1 + self._has_rest), 2)

    def forward(self, image: tf.Tensor) -> tuple[tf.Tensor, None]:
        inputs = fused.on_gpu(_first_input)(image, self._padding, self._dtype, self._has_rest)
        features = tf.nn.conv2d(inputs, self._forward_kernel, 1, "VALID")
        return _with_bias(features, self._bias), None

    def backward(self, gradient: tf.Tensor, _: None) -> tf.Tensor:
        if self._padding == "wrap":
            gradient = wrapped(gradient)
        height, width = gradient.shape[1:3]
        padded = [1, height + 2, width + 2, 3]
        gradient = tf.nn.conv2d_transpose(gradient, self._kernel, padded, 1, "VALID")
        gradient = tf.cast(gradient, tf.float32)
        if self._padding == "replicate":
            return tf.raw_ops.MirrorPadGrad(input=gradient, paddings=_EDGES, mode="SYMMETRIC")
        edge = 2 if self._padding == "wrap" else 1
        return gradient[:, edge:-edge, edge:-edge]


def _first_input(image: tf.Tensor, padding: str, dtype: tf.DType, has_rest: bool) -> tf.Tensor:
    """What the first convolution takes: the picture with its padding, and with the rest of its
    values that `dtype` cannot hold, [1, H + 2, W + 2, 3 or 6]."""
    image = wrapped(image) if padding == "wrap" else tf.pad(image, _EDGES, _PAD_MODES[padding])
    rounded = tf.cast(image, dtype)
    if not has_rest:
        return rounded
    exact = tf.cast(rounded, tf.float32)
    if device.is_gpu():
        # XLA would leave out a conversion there and back: what does not fit is cut off instead
        bits = tf.bitcast(image, tf.uint32) & _KEPT_BITS[dtype]
        exact = tf.bitcast(bits, tf.float32)
    return tf.cast(tf.concat([exact, image - exact], 3), dtype)


_KEPT_BITS = {tf.bfloat16: 0xFFFF0000, tf.float16: 0xFFFFE000}  # of a float32
_EDGES = [[0, 0], [1, 1], [1, 1], [0, 0]]
_PAD_MODES = {"zero": "CONSTANT", "replicate": "SYMMETRIC"}


# Poolings are 2x2 with stride 2. At an odd edge they cover only the values inside the picture; with
# "wrap" the sides of pictures are multiples of the last stride, so that no edge is odd.
_POOL = {"ksize": 2, "strides": 2, "padding": "SAME"}
_POOL_GRADIENT = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}


class MaxPooling:
    """The maximum of each 2x2 square. Its memory: input and output."""

    keeps_input = True
    channels: int | None = None

    def __init__(self, scale: float):
        """scale: ignored, as the other poolings are scaled to match this one."""

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        pooled = tf.nn.max_pool2d(features, **_POOL)
        return pooled, (features, pooled)

    def backward(self, gradient: tf.Tensor, memory: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        features, pooled = memory
        return tf.raw_ops.MaxPoolGrad(
            orig_input=features, orig_output=pooled, grad=gradient, **_POOL_GRADIENT
        )


class AveragePooling:
    """The mean of each 2x2 square, times `scale`. Its memory: the shape of the input."""

    keeps_input = False
    channels: int | None = None

    def __init__(self, scale: float):
        self.scale = scale

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, list[int]]:
        pooled = tf.nn.avg_pool2d(features, **_POOL)
        return _scaled(pooled, self.scale), features.shape.as_list()

    def backward(self, gradient: tf.Tensor, memory: list[int]) -> tf.Tensor:
        return _gradient_of_average(_scaled(gradient, self.scale), memory)


class AveragePoolingOfRelu(AveragePooling):
    """The same for the output of a `PooledRelu`, to which it leaves its gradient."""

    def backward(self, gradient: tf.Tensor, memory: list[int]) -> tf.Tensor:
        return gradient


class L2Pooling:
    """The root mean square of each 2x2 square, times `scale`; computed in float32, as squares
    exceed the range of float16. Its memory: the input, and the output in float32 without scale."""

    keeps_input = True
    channels: int | None = None

    def __init__(self, scale: float):
        self._scale = scale

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        squares = tf.nn.avg_pool2d(tf.square(tf.cast(features, tf.float32)), **_POOL)
        # the square root has no finite slope at 0, where most features are: hence the last number
        pooled = tf.sqrt(squares + 1e-12)
        return tf.cast(_scaled(pooled, self._scale), features.dtype), (features, pooled)

    def backward(self, gradient: tf.Tensor, memory: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        features, pooled = memory
        slopes = _scaled(tf.cast(gradient, tf.float32), self._scale) / pooled
        slopes = _gradient_of_average(slopes, features.shape.as_list())
        return tf.cast(slopes * tf.cast(features, tf.float32), features.dtype)


POOLINGS: dict[str, Callable[[float], Operation[Any]]] = {
    "max": MaxPooling,
    "avg": AveragePooling,
    "l2": L2Pooling,
}


def make_operation(
    layer: Layer,
    *,
    pooling: str,
    pooling_scale: float,
    wraps: bool,
    dtype: tf.DType,
    often: bool,
    is_kept: bool,
) -> Operation[Any]:
    """The operation of any layer but the first.

    pooling: "max", "avg" or "l2". wraps: whether convolutions see the opposite edge. often: whether
    it runs often enough for a Winograd convolution to pay. is_kept: whether the caller keeps the
    layer's output.
    """
    if layer.kind == "relu":
        return Relu(is_kept, layer.bias)
    if layer.kind == "pool":
        return POOLINGS[pooling](pooling_scale)
    convolution = (WinogradConvolution if often else Convolution)(layer, dtype)
    return WrappedConvolution(convolution) if wraps else convolution


def _scaled(features: tf.Tensor, scale: float) -> tf.Tensor:
    return features if scale == 1 else features * tf.cast(scale, features.dtype)


def _gradient_of_average(gradient: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """The gradient of average pooling's output -> that of its input, which has this shape."""
    return tf.raw_ops.AvgPoolGrad(orig_input_shape=shape, grad=gradient, **_POOL_GRADIENT)
