"""Precision: the type of the network's features, from what the user asks for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from neural_style_tf.machine import precision

if TYPE_CHECKING:
    import tensorflow as tf


def feature_dtype(wanted: str) -> "tf.DType":
    """The type of the features: "auto" is the fastest here, another name is that type.

    Raises `UserError` if this machine has no convolution of the type.
    """
    return precision.choose(wanted, _convolution)


def _convolution(side: int, channels: int, dtype: "tf.DType") -> tuple[Callable, "tf.Tensor"]:
    """A convolution as it runs in a painting, and features [1, side, side, channels] for it."""
    import tensorflow as tf  # late: a wrong input is answered before TensorFlow is imported

    from neural_style_tf.network.backprop import Passes
    from neural_style_tf.network.weights import Layer

    kernel, bias = tf.ones((3, 3, channels, channels)), tf.zeros(channels)
    layers = [Layer("first", "relu"), Layer("second", "conv", kernel, bias)]
    passes = Passes(layers, ["second"], dtype=dtype, often=True)
    run = tf.function(lambda image: passes.features(image)["second"], autograph=False)
    return run, tf.ones((1, side, side, channels), dtype)
