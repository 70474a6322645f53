"""The device that TensorFlow computes on: its name, rates and memory, and the time of a call."""

import gc
import platform
import subprocess
import time
from collections.abc import Callable
from typing import Any

from benchmarks import memory
from benchmarks.step import seconds

MOST_CALLS = 50  # that are timed together
TIMED_SECONDS = 1.0  # after which no further call or step is timed


def driver() -> str:
    """What NVIDIA's driver says of the first GPU."""
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
    command = ["nvidia-smi", query, "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def versions() -> str:
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    parts = [f"TensorFlow {tf.__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {build[f'{name}_version']}" for name in ("cuda", "cudnn") if gpus()]
    return ", ".join(parts)


def matrix_rate(side: int, precision: str) -> float:
    """TFLOP/s of products of square matrices."""
    import tensorflow as tf

    matrix = tf.ones((side, side), precision)
    return 2 * side**3 / time_of(lambda: matrix @ matrix) / 1e12


def copy_rate(count: int) -> float:
    """GB/s of an operation that reads and writes that many float32 values."""
    import tensorflow as tf

    values = tf.ones((count,))
    return 2 * values.dtype.size * count / time_of(lambda: tf.negative(values)) / 1e9


def time_of(call: Callable[[], Any]) -> float:
    """Seconds of a call that returns a tensor, of many in a row: the device is waited for only
    before the first and after the last."""
    wait_for(call())
    count = max(3, min(MOST_CALLS, int(TIMED_SECONDS / seconds(lambda: wait_for(call())))))
    began = time.perf_counter()
    for _ in range(count):
        result = call()
    wait_for(result)
    return (time.perf_counter() - began) / count


def wait_for(tensor: Any) -> None:
    """Fetches one value, which waits for all that the device was asked for before."""
    import tensorflow as tf

    tf.reshape(tensor, [-1])[0].numpy()


def gpus() -> list:
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def forget_peak() -> None:
    """Has `peak` count from here, on a GPU."""
    import tensorflow as tf

    gc.collect()
    if gpus():
        tf.config.experimental.reset_memory_stats("GPU:0")


def peak() -> float:
    """The most megabytes of the GPU that were in use at a time, or without a GPU the most that this
    process ever held."""
    import tensorflow as tf

    if gpus():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    return memory.peak()
