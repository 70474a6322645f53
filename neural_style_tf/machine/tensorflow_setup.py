"""TensorFlow, imported without noise and made ready: its threads, oneDNN, memory, determinism."""

import contextlib
import gc
import os
import re
import sys
import threading
from collections.abc import Iterator

from neural_style_tf.errors import UserError, shortened
from neural_style_tf.machine import cpu, devices, streams

THREADS = "TF_NUM_INTRAOP_THREADS"
INTER_OP_THREADS = "TF_NUM_INTEROP_THREADS"
MAX_THREADS = 1024  # TensorFlow aborts the process when the system cannot start another

_lock = threading.Lock()
_is_ready = False


def start(debug: bool = False, threads: int | None = None) -> str:
    """Makes TensorFlow ready for a command, with this many threads. Returns the device in words.

    debug: shows TensorFlow's own messages. threads: by default one per processor that this process
    may use. Raises `UserError` as `prepare` does.
    """
    prepare(debug, threads)
    import tensorflow as tf

    if not debug:
        tf.get_logger().setLevel("ERROR")  # pictures of many sizes are many traces: it would warn
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
        return f"GPU ({names[0]})"
    if devices.seems_to_have_gpu():
        streams.LOGGER.warning(
            "this machine seems to have a GPU, but TensorFlow does not see it: install "
            "neural-style-tf[gpu] for one of NVIDIA's, or set CUDA_VISIBLE_DEVICES=-1 to paint on "
            "the CPU; --debug shows TensorFlow's messages"
        )
    count = _number_of_threads(threads)
    return f"CPU ({count} thread{'s' * (count != 1)})"


def prepare(debug: bool = False, threads: int | None = None) -> None:
    """Imports TensorFlow and makes it ready; the first call in a process does, all others return.

    The commands call it, and so do `stylize` and `vgg.load`: a script and a notebook thus paint the
    same picture as the command line. If TensorFlow was initialised before, by another library or
    by earlier lines of a script, what can no longer be set is logged as a warning.

    Raises `UserError` for a number of threads with which TensorFlow would end the process.
    """
    global _is_ready
    count = _number_of_threads(threads)
    with _lock:
        if _is_ready:
            return
        was_imported = "tensorflow" in sys.modules
        os.environ[THREADS] = str(count)
        os.environ.setdefault(INTER_OP_THREADS, "1")
        load(debug)
        with contextlib.nullcontext() if debug else silence():
            settings = _fixed_settings()
        if was_imported and cpu.gains_from_onednn() and not cpu.uses_onednn():
            settings.append("oneDNN, which doubles its speed here")
        if settings:
            streams.LOGGER.warning(
                "TensorFlow was started before neural_style_tf, which could not set %s: import "
                "neural_style_tf first",
                ", ".join(settings),
            )
        _is_ready = True


def _fixed_settings() -> list[str]:
    """Sets up an imported TensorFlow. Returns what could no longer be set, in words."""
    import tensorflow as tf

    fixed = []
    try:
        # AddN adds in an order that depends on which operation ends first: one at a time. The
        # environment variable does this; the call raises an error if it came too late.
        if os.environ[INTER_OP_THREADS] == "1":
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        fixed.append("its threads")
    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except (RuntimeError, ValueError):  # ValueError: where only some GPUs were set before
        fixed.append("the growth of GPU memory")
    tf.config.experimental.enable_op_determinism()  # one seed, one picture
    _open_devices()
    return fixed


def _open_devices() -> None:
    """Has TensorFlow open its devices and print its remaining messages: its first tensor does.
    Raises `UserError` for a GPU that cannot be opened."""
    import tensorflow as tf

    try:
        tf.zeros(())
    except (tf.errors.OpError, RuntimeError) as error:
        if not tf.config.list_physical_devices("GPU"):
            raise
        reason = shortened(str(error).partition("\n")[0], 150)
        raise UserError(
            f"the GPU cannot be opened ({reason}): end other programs that use it, or set "
            f"{devices.VISIBLE}=-1 to paint on the CPU"
        ) from error


def _number_of_threads(wanted: int | None) -> int:
    """The number of threads that is wanted, that of TensorFlow's environment variable, or one per
    processor. Raises `UserError` for a number with which TensorFlow would end the process."""
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
    """Imports TensorFlow without initialising it: it has no threads yet."""
    cpu.choose_onednn()
    # Keras, half a second to import, is not needed: asked for the old one, TensorFlow does without
    # where that is not installed
    without_keras = environment("TF_USE_LEGACY_KERAS", "1")
    quiet = contextlib.nullcontext() if debug else silence()
    with quiet, without_keras, _without_garbage_collection():
        import tensorflow  # noqa: F401


def uses_onednn() -> bool:
    """Whether TensorFlow's convolutions are oneDNN's; also if another program imported it."""
    import tensorflow as tf

    return cpu.uses_onednn() and not tf.config.list_logical_devices("GPU")


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable for the duration of the context."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pauses garbage collection while TensorFlow is imported, which saves half a second, and
    exempts what the import made from later collections, since all of it stays."""
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
