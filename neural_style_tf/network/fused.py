"""Fused: functions that XLA joins into few kernels, where it works."""

from collections.abc import Callable

import tensorflow as tf

from neural_style_tf.machine import compilation
from neural_style_tf.network import device


def on_gpu(function: Callable) -> Callable:
    """The function, compiled if its graph is made for a GPU: there each operation is a pass over
    memory. On a CPU TensorFlow's own operations are as fast, and need no compilation."""
    return within_graph(function) if device.is_gpu() else function


def is_fused_on_gpu() -> bool:
    """Whether `on_gpu` compiles what it is given."""
    return device.is_gpu() and _compiles()


def _compiles() -> bool:
    return not tf.executing_eagerly() and compilation.works()


def within_graph(function: Callable) -> Callable:
    """The function, compiled as a part of the graph that is being traced, which shares it among its
    layers and holds it: it is released with that graph."""
    if not _compiles():
        return function
    held = tf.compat.v1.get_collection_ref("fused_functions")  # of this graph
    for own, made in held:
        if own is function:
            return made
    made = tf.function(function, autograph=False, jit_compile=True)
    held.append((function, made))
    return made
