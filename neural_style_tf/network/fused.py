"""Fused: functions that XLA joins into few kernels, where it works and pays."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

from neural_style_tf.machine import compilation
from neural_style_tf.network import device

# Evaluations times pixels of a stage, from which on its functions are compiled for a GPU: those of
# 64 at 512x512. To compile them takes seconds, and a stage with fewer is over sooner without.
WORTH_COMPILING = 2**24

_pays = contextvars.ContextVar("pays", default=False)


def pays(evaluations: float, pixels: int) -> bool:
    """Whether preparing fast evaluations of a picture pays for that number of them. On a CPU it
    always does, since little is compiled."""
    return not device.is_gpu() or evaluations * pixels >= WORTH_COMPILING


@contextlib.contextmanager
def compiling(does_pay: bool = True) -> Iterator[None]:
    """Graphs that are traced in this context compile for a GPU what they pass to the functions
    below, if that pays. Graphs that are traced elsewhere do not."""
    token = _pays.set(does_pay)
    try:
        yield
    finally:
        _pays.reset(token)


def on_gpu(function: Callable) -> Callable:
    """The function, compiled if its graph is made for a GPU: there each operation is a pass over
    memory. On a CPU TensorFlow's own operations are as fast, and need no compilation."""
    return within_graph(function) if device.is_gpu() else function


def is_fused_on_gpu() -> bool:
    """Whether `on_gpu` compiles what it is given."""
    return device.is_gpu() and _compiles()


def _compiles() -> bool:
    does_pay = _pays.get() or not device.is_gpu()
    return does_pay and not tf.executing_eagerly() and compilation.works()


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
