"""Precision: the type of the features that is fastest on this machine."""

import functools
import hashlib
import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from neural_style_tf.errors import SettingName, UserError
from neural_style_tf.machine import cpu, user_cache

if TYPE_CHECKING:
    import tensorflow as tf


MIN_SPEEDUP = 1.5  # how many times faster low precision has to be than float32 to be chosen
# Image sides and channels of the convolutions to time: an early and a late one of a VGG.
PROBED_SIZES = ((128, 64), (32, 512))
REPEATS = 7
PROBE_VERSION = 3  # raise it when the convolutions change: earlier measurements are then ignored

# side, channels and type -> a function to time and its argument, [1, side, side, channels]
Convolution = Callable[[int, int, "tf.DType"], tuple[Callable, "tf.Tensor"]]


def choose(wanted: str, convolution: Convolution) -> "tf.DType":
    """The type of the features: the one named, or for "auto" the fastest on this machine.

    convolution: (side, channels, type) -> a function to time, and the features to pass to it.
    Raises `UserError` if this machine has no convolution of the type.
    """
    import tensorflow as tf

    if wanted == "auto":
        return _fastest(convolution)
    if wanted != "float32":
        _check(tf.as_dtype(wanted), convolution)
    return tf.as_dtype(wanted)


@functools.cache
def _check(dtype: "tf.DType", convolution: Convolution) -> None:
    """Raises `UserError` if this machine has no convolution of that type."""
    import tensorflow as tf

    try:
        run, features = convolution(16, 64, dtype)
        run(features)
    except tf.errors.OpError as error:
        raise UserError(
            f"this machine has no {dtype.name} ({type(error).__name__}): use ",
            SettingName("precision"),
            " auto",
        ) from None


@functools.cache
def _fastest(convolution: Convolution) -> "tf.DType":
    """The fastest type: on a GPU that of its tensor cores, on a CPU bfloat16 if it is much faster
    than float32. That is measured once per kind of processor and remembered, so that one machine
    always paints the same picture."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        capability = details.get("compute_capability", (0, 0))
        if capability >= (8, 0):
            return tf.bfloat16
        return tf.float16 if capability >= (7, 0) else tf.float32
    names = ("float32", "bfloat16")
    return tf.as_dtype(
        user_cache.remembered(
            f"precision-{_kind_of_processor()}", names, lambda: _faster(convolution)
        )
    )


def _kind_of_processor() -> str:
    """A digest of the processor, its features, TensorFlow's version and that of this probe."""
    import tensorflow as tf

    facts = [str(PROBE_VERSION), tf.__version__, platform.machine(), platform.processor()]
    facts += [cpu.processor().get(name, "") for name in ("model name", "flags", "Features")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _faster(convolution: Convolution) -> str:
    """The type that is faster on this processor, measured now."""
    import tensorflow as tf

    try:
        fast = all(
            _gain(side, channels, convolution) >= MIN_SPEEDUP for side, channels in PROBED_SIZES
        )
    except tf.errors.OpError:  # processors without bfloat16 raise AbortedError and others
        return "float32"
    return "bfloat16" if fast else "float32"


def _gain(side: int, channels: int, convolution: Convolution) -> float:
    """How many times faster a convolution is in bfloat16 than in float32, each as it runs in a
    painting. Alternating runs, best of each, so that other load does not bias the result."""
    import tensorflow as tf

    runs = [convolution(side, channels, dtype) for dtype in (tf.float32, tf.bfloat16)]
    turns = [[_seconds(*run) for run in runs] for _ in range(1 + REPEATS)]
    float32, bfloat16 = map(min, zip(*turns[1:], strict=True))  # the first are traced
    return float32 / bfloat16


def _seconds(run: Callable, features: "tf.Tensor") -> float:
    began = time.perf_counter()
    run(features)[0, 0, 0, 0].numpy()
    return time.perf_counter() - began
