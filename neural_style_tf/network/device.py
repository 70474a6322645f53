"""Device: whether graphs are made for a GPU or for a CPU.

The same numbers are computed in different ways: a GPU is limited by the number of its kernels and
by what each reads and writes, a CPU by its multiplications. All such choices ask here.
"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

CPU, GPU = "CPU", "GPU"

_chosen: list[str] = []  # by the contexts that are open, the innermost last


def kind() -> str:
    """`GPU` if TensorFlow has one, otherwise `CPU`."""
    if _chosen:
        return _chosen[-1]
    return GPU if tf.config.list_logical_devices("GPU") else CPU


def is_gpu() -> bool:
    return kind() == GPU


@contextlib.contextmanager
def made_for(chosen: str) -> Iterator[None]:
    """Makes the graphs of the context for `CPU` or `GPU`, whatever this machine has: to count the
    operations of the other one, or to test them. They run on either, though slowly."""
    _chosen.append(chosen)
    try:
        yield
    finally:
        _chosen.pop()
