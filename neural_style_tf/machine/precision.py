"""Precision: the type of the features that is fastest on this machine."""

import contextlib
import functools
import hashlib
import platform
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

from neural_style_tf.errors import SettingName, UserError
from neural_style_tf.machine import cpu, devices, user_cache

if TYPE_CHECKING:
    import tensorflow as tf


# NVIDIA's compute capabilities whose tensor cores multiply these: since Volta, since Ampere.
FLOAT16_CAPABILITY, BFLOAT16_CAPABILITY = (7, 0), (8, 0)
MIN_SPEEDUP = 1.25  # how many times faster low precision has to be than float32 to be chosen
# Image sides and channels of the convolutions to time: an early and a late one of a VGG.
PROBED_SIZES = ((128, 64), (32, 512))
REPEATS = 7
PROBE_VERSION = 4  # raise it when any of these changes: earlier measurements are then ignored

Item = TypeVar("Item")
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
    """The fastest type: on a GPU that of its tensor cores, on a CPU bfloat16 if it is clearly
    faster than float32. That is measured once per kind of processor and remembered, so that one
    machine always paints the same picture."""
    import tensorflow as tf

    gpu = devices.gpu_in_use()
    if gpu:
        capability = gpu.capability or (0, 0)  # only NVIDIA's have one: float32 on all others
        if capability >= BFLOAT16_CAPABILITY:
            return tf.bfloat16
        return tf.float16 if capability >= FLOAT16_CAPABILITY else tf.float32
    names = ("float32", "bfloat16")
    return tf.as_dtype(
        user_cache.remembered(
            f"precision-{_kind_of_processor()}", names, lambda: _faster(convolution)
        )
    )


def without_tf32_in_float32(
    dtype: "tf.DType", items: Generator[Item, None, None]
) -> Iterator[Item]:
    """The items of a generator, which has NVIDIA's GPUs multiply in float32 if its features are
    float32. Between them TF32 is as the caller has it.

    By default TensorFlow rounds the factors of float32 products to TF32 on GPUs since Ampere: to 10
    bits after the point, instead of 23. Features in float16 have 10, in bfloat16 7, so that is
    allowed for their statistics. If a script has switched TF32 off, it stays off.
    """
    is_exact = dtype.name == "float32"
    with contextlib.closing(items):
        while True:
            with without_tf32() if is_exact else contextlib.nullcontext():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Has a GPU multiply in float32 for the duration of the context."""
    import tensorflow as tf

    if not devices.gpu_in_use():
        yield
        return
    was_on = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was_on)


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
