"""ReLUs: forward and backward; on a GPU together with the sum of the gradients that meet there."""

import functools
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from neural_style_tf.network import device, fused


class Difference(NamedTuple):
    """A gradient that is computed where it is added: that of `slope` times the sum of the squared
    differences of the features from `target`."""

    target: tf.Tensor  # [1, h, w, channels] float32
    slope: tf.Tensor  # a float32 scalar

    def at(self, features: tf.Tensor) -> tf.Tensor:
        return 2 * self.slope * (tf.cast(features, tf.float32) - self.target)


class Halved(NamedTuple):
    """The gradient at the means of squares of 2x2 features, which is spread over these where it is
    added: each has that of its mean, times `scale`, divided by the number of values in the square.
    """

    at_means: tf.Tensor  # [1, h/2, w/2, channels], rounded up: at odd edges squares hold fewer
    scale: float = 1.0

    def at(self, features: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = features.shape
        rows, columns = (np.minimum(2, side - np.arange(0, side, 2)) for side in (height, width))
        counts = (rows[:, np.newaxis] * columns)[..., np.newaxis]  # of the values of each square
        gradient = tf.cast(self.at_means, tf.float32) * (self.scale / counts).astype(np.float32)
        for axis in (1, 2):
            gradient = tf.repeat(gradient, 2, axis)
        return gradient[:, :height, :width]


# A tensor is [1, h, w, channels] or [channels].
Term: TypeAlias = "tf.Tensor | Difference | Halved"


class Relu:
    """max(0, features).

    Its memory is a mask of one byte per value, or its output if that is kept anyway
    (`is_output_kept`) or on a GPU, where to write a mask and read it takes longer.
    """

    keeps_input = False
    channels: int | None = None

    def __init__(self, is_output_kept: bool, bias: tf.Tensor | None = None):
        """bias: [channels] float32, what is added to the features first."""
        self.keeps_output = is_output_kept or device.is_gpu()
        self.bias = bias

    def forward(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self.bias is None:
            features = tf.nn.relu(features)
        else:
            features = fused.on_gpu(_biased_relu)(features, self.bias)
        if self.keeps_output:
            return features, features
        mask = features > 0
        with tf.control_dependencies([mask]):  # now, so that the features can be freed
            return tf.identity(features), mask

    def backward(self, gradient: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        if self.keeps_output:
            return tf.raw_ops.ReluGrad(gradients=gradient, features=memory)
        return tf.where(memory, gradient, tf.zeros((), gradient.dtype))

    def backward_from_terms(
        self, above: "Term | None", terms: list[Term], memory: tf.Tensor
    ) -> tf.Tensor:
        """The same for the sum of several gradients; needs the output. above: that of the layer
        above, if it has one."""
        terms = terms if above is None else [above, *terms]
        return fused.on_gpu(_masked_sum)(terms, memory)


class PooledRelu(Relu):
    """A ReLU below an `AveragePoolingOfRelu`, whose gradient it takes, too: in one pass on a GPU.
    Its memory is the output."""

    def __init__(self, relu: Relu, scale: float):
        """scale: of the pooling."""
        super().__init__(is_output_kept=True, bias=relu.bias)
        self._scale = scale

    def backward(self, gradient: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        return self.backward_from_terms(gradient, [], memory)

    def backward_from_terms(
        self, above: tf.Tensor | None, terms: list[Term], memory: tf.Tensor
    ) -> tf.Tensor:
        spread = None if above is None else Halved(above, self._scale)
        return super().backward_from_terms(spread, terms, memory)


def _biased_relu(features: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    features_in_float32 = tf.cast(features, tf.float32)
    return tf.cast(tf.nn.relu(features_in_float32 + bias), features.dtype)


def _masked_sum(terms: list[Term], features: tf.Tensor) -> tf.Tensor:
    """The sum of gradients where the features are above 0, added in float32, in their type."""
    gradients = [
        tf.cast(term, tf.float32) if tf.is_tensor(term) else term.at(features) for term in terms
    ]
    total = functools.reduce(tf.add, gradients)
    return tf.cast(tf.where(features > 0, total, 0.0), features.dtype)
