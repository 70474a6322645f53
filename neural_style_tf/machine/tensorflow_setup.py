"""TensorFlow, imported without noise and made ready: its threads, oneDNN, memory, determinism."""

import contextlib
import gc
import os
import re
import sys
from collections.abc import Iterator

from neural_style_tf.errors import UserError, shortened
from neural_style_tf.machine import cpu, streams

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
THREADS = "TF_NUM_INTRAOP_THREADS"
MAX_THREADS = 1024  # TensorFlow aborts the process when the system cannot start another


def start(debug: bool, count: int | None = None) -> str:
    """Imports TensorFlow and makes it ready, for so many threads or as many as there are
    processors for us. Returns in words which device it runs on."""
    count = _number_of_threads(count)
    os.environ[THREADS] = str(count)
    # AddN adds up in an order that hangs on which other operation is done: so one at a time
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    load(debug)
    import tensorflow as tf

    with contextlib.nullcontext() if debug else silence():
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_op_determinism()  # one seed, one picture
        tf.zeros(())  # the first tensor brings the rest of the start-up messages
    if not debug:
        tf.get_logger().setLevel("ERROR")  # pictures of many sizes are many traces: it would warn
    if gpus:
        names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
        return f"GPU ({names[0]})"
    return f"CPU ({count} thread{'s' * (count != 1)})"


def _number_of_threads(wanted: int | None) -> int:
    """How many threads TensorFlow is to have: as many as wanted, or as its environment variable
    says, or one for each processor. Raises `UserError` for a number that would end the process."""
    value = os.environ.get(THREADS, "").strip() or "0"  # TensorFlow reads 0 as "not set", too
    if not wanted and not re.fullmatch("[0-9]{1,9}", value):
        raise UserError(
            f"the environment variable {THREADS} is {shortened(repr(value))}: set it to a number "
            "of threads, or unset it"
        )
    count = wanted or int(value) or min(cpu.threads(), MAX_THREADS)
    if count > MAX_THREADS:
        raise UserError(f"{count} threads are too many: use at most {MAX_THREADS}")
    return count


def load(debug: bool = False) -> None:
    """Imports it, no more: it has no threads yet."""
    if cpu.gains_from_onednn():
        os.environ.setdefault(ONEDNN, "1")
    # Keras, half a second to import, is not needed: asked for the old one, TensorFlow does without
    # where that is not installed
    without_keras = environment("TF_USE_LEGACY_KERAS", "1")
    with (
        contextlib.nullcontext() if debug else silence(),
        without_keras,
        _without_garbage_collection(),
    ):
        import tensorflow  # noqa: F401


def uses_onednn() -> bool:
    """Whether TensorFlow's convolutions are oneDNN's; also where a program of somebody else's has
    imported TensorFlow."""
    import tensorflow as tf

    is_on = os.environ.get(ONEDNN, "1" if cpu.uses_onednn_by_default() else "0") == "1"
    return is_on and not tf.config.list_logical_devices("GPU")


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """An environment variable that is set meanwhile."""
    given = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if given is not None:
            os.environ[name] = given


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keeps Python from looking for garbage in what TensorFlow's import leaves, half a second; and
    ever after, for it stays."""
    if "tensorflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages from the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with streams.silenced():
        yield
