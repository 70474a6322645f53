"""Compilation: small functions, compiled with XLA where that works, as plain graphs elsewhere.

Apple's Metal and DirectML have no XLA. CUDA has none where ptxas or libdevice is missing: then
everything compiled fails when it first runs. So it is tried once.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neural_style_tf.errors import shortened
from neural_style_tf.machine import devices, drivers, streams

if TYPE_CHECKING:
    import tensorflow as tf

TOLERANCE = 1e-3  # relative; of what XLA computes in the trial


def compiled(function: Callable) -> Callable:
    """The graph of a function as `tf.function` makes it, compiled where that works, which is
    decided at the first call: modules are imported before TensorFlow has opened its devices."""
    graphs: dict[bool, Callable] = {}

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        import tensorflow as tf

        does_work = works()
        if does_work not in graphs:
            how = {"jit_compile": True} if does_work else {}
            graphs[does_work] = tf.function(function, autograph=False, **how)
        return graphs[does_work](*arguments, **options)

    return call


def works() -> bool:
    """Whether XLA compiles for the device that this process paints on."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return _works_on(gpus[0].name if gpus else "/device:CPU:0")


@functools.cache
def _works_on(device: str) -> bool:
    """Whether a small function can be compiled on a device, and computes what it should."""
    import tensorflow as tf

    with tf.init_scope(), tf.device(device):  # it may be asked while a graph is made
        values = tf.constant([[0.5, 1.0], [2.0, 3.0]])
        try:
            trial = tf.function(_trial, autograph=False, jit_compile=True)
            error = float(abs(trial(values) / _trial(values) - 1))
            reason = None if error < TOLERANCE else f"wrong by {error:.1e}"
        except Exception as failure:  # each plug-in raises its own types
            reason = f"{type(failure).__name__}: {shortened(str(failure).partition(chr(10))[0])}"
    gpu = devices.gpu_in_use() if reason else None
    if gpu and gpu.capability:  # NVIDIA's: it could work
        streams.warn_once(
            f"XLA compiles nothing on this GPU ({reason}): it paints without, in more time and "
            f"memory; {drivers.WITH_CUDA} installs what XLA needs"
        )
    return reason is None


def _trial(values: "tf.Tensor") -> "tf.Tensor":
    """Needs what the functions need that are compiled: on CUDA, powers and roots need libdevice."""
    import tensorflow as tf

    return tf.reduce_sum(tf.pow(values, 1.25) / tf.sqrt(values + 1))
