"""TensorFlow, imported without noise and made ready: its threads, oneDNN, memory, determinism."""

import contextlib
import gc
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

from neural_style_tf.errors import SettingName, UserError, shortened
from neural_style_tf.machine import cpu, devices, drivers, streams

THREADS = "TF_NUM_INTRAOP_THREADS"
INTER_OP_THREADS = "TF_NUM_INTEROP_THREADS"
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0: all messages, 3: none but fatal ones
DETERMINISM = "TF_DETERMINISTIC_OPS"
KERAS = "TF_USE_LEGACY_KERAS"
MAX_THREADS = 1024  # TensorFlow aborts the process when the system cannot start another

_lock = threading.Lock()
_is_ready = False


def start(debug: bool = False, threads: int | None = None, device: str = devices.AUTO) -> str:
    """Makes TensorFlow ready for a command, with this many threads. Returns the device in words.

    debug: shows TensorFlow's own messages. threads: by default one per processor that this process
    may use. device: "auto", "cpu", "gpu" or "gpu:N". Raises `UserError` as `prepare` does.
    """
    prepare(debug, threads, device)
    import tensorflow as tf

    if not debug:
        tf.get_logger().setLevel("ERROR")  # pictures of many sizes are many traces: it would warn
    gpu = devices.gpu_in_use()
    if gpu:
        number = f" {gpu.number}" if len(devices.gpus_here()) > 1 else ""
        return f"GPU{number} ({gpu.name})"
    if device != devices.CPU and not devices.gpus_here() and drivers.is_advised():
        _report_unused_gpu()
    return f"CPU ({threads_in_words(threads)})"


def _report_unused_gpu() -> None:
    """Logs that this computer seems to have a GPU that TensorFlow does not find."""
    remedy = drivers.remedy()
    if remedy:
        streams.warn_once(
            f"this computer seems to have a GPU, which TensorFlow does not find: {remedy}; "
            "--device cpu paints on the CPU without this line"
        )


def threads_in_words(threads: int | None = None) -> str:
    """How many threads the CPU's operations have, in words."""
    count = _number_of_threads(threads)
    return f"{count} thread{'s' * (count != 1)}"


def prepare(debug: bool = False, threads: int | None = None, device: str | None = None) -> None:
    """Imports TensorFlow and makes it ready; the first call in a process does, all others only
    check that the device is the one in use.

    The commands call it, and so do `stylize` and `vgg.load`: a script and a notebook thus paint the
    same picture as the command line. If TensorFlow was initialised before, by another library or
    by earlier lines of a script, what can no longer be set is logged as a warning.

    device: by default the first that is visible to this process, and the others stay visible: a
    script may have plans for them.

    Raises `UserError` for a number of threads with which TensorFlow would end the process, and for
    a device that TensorFlow does not find, or can no longer change to.
    """
    global _is_ready
    count = _number_of_threads(threads)
    with _lock:
        if _is_ready:
            if device:
                devices.use(device)
            return
        if device and not drivers.may_work():
            devices.check(device, 0)  # at once: the import takes seconds
        was_imported = "tensorflow" in sys.modules
        os.environ[THREADS] = str(count)
        os.environ.setdefault(INTER_OP_THREADS, "1")
        load(debug)
        with contextlib.nullcontext() if debug else silence():
            settings = _fixed_settings(device)
        if was_imported and cpu.misses_onednn():
            settings.append("oneDNN, which doubles its speed here")
        if settings:
            streams.LOGGER.warning(
                "TensorFlow was started before neural_style_tf, which could not set %s: import "
                "neural_style_tf first",
                ", ".join(settings),
            )
        _is_ready = True


def is_ready() -> bool:
    """Whether TensorFlow has been made ready in this process, with a device that remains."""
    return _is_ready


def _fixed_settings(device: str | None = None) -> list[str]:
    """Sets up an imported TensorFlow. Returns what could no longer be set, in words."""
    import tensorflow as tf

    if device:
        devices.use(device)
    fixed = []
    try:
        # AddN adds in an order that depends on which operation ends first: one at a time. The
        # environment variable does this; the call raises an error if it came too late.
        if os.environ[INTER_OP_THREADS] == "1":
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        fixed.append("its threads")
    try:
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except (RuntimeError, ValueError):  # ValueError: where only some GPUs were set before
        fixed.append("the growth of GPU memory")
    if os.environ.get(DETERMINISM, "1").strip().lower() not in ("0", "false"):
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
        if not tf.config.get_visible_devices("GPU"):
            raise
        reason = shortened(str(error).partition("\n")[0], 150)
        raise UserError(
            f"the GPU cannot be opened ({reason}): end other programs that use it, or choose the "
            "CPU, ",
            SettingName("device"),
            " cpu",
        ) from error


def _number_of_threads(wanted: int | None) -> int:
    """The number of threads that is wanted, that of TensorFlow's environment variable, or one per
    processor. Raises `UserError` for a number with which TensorFlow would end the process."""
    count = wanted or threads_of_environment() or min(cpu.threads(), MAX_THREADS)
    if count > MAX_THREADS:
        raise UserError(f"{count} threads are too many: use at most {MAX_THREADS}")
    return count


def threads_of_environment() -> int | None:
    """The number of threads per process that the user's environment sets for TensorFlow; None if it
    does not. Raises `UserError` for what is not a number of threads."""
    value = os.environ.get(THREADS, "").strip() or "0"  # TensorFlow reads 0 as "not set", too
    if not re.fullmatch("[0-9]{1,9}", value):
        raise UserError(
            f"the environment variable {THREADS} is {shortened(repr(value))}: set it to a number "
            "of threads, or unset it"
        )
    return int(value) or None


def load(debug: bool = False) -> None:
    """Imports TensorFlow without initialising it: it has no threads yet. Raises `UserError` if it
    cannot be imported; what it said until then is shown."""
    if "tensorflow" not in sys.modules:
        cpu.choose_onednn()
        with contextlib.nullcontext() if debug else _shown_if_it_fails(), _without_keras():
            _import()
    else:  # another thread may still be importing it: wait for that
        _import()


def _import() -> None:
    try:
        with _without_garbage_collection():
            import tensorflow  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise _cannot_be_imported(error) from error
        raise UserError("TensorFlow is not installed: pip install tensorflow") from error
    except Exception as error:  # whatever is wrong with its libraries
        raise _cannot_be_imported(error) from error


def _cannot_be_imported(error: Exception) -> UserError:
    reason = shortened(f"{type(error).__name__}: {error}".partition("\n")[0], 200)
    return UserError(
        f"TensorFlow cannot be imported ({reason}): install it again, in an environment of its own"
    )


@contextlib.contextmanager
def _shown_if_it_fails() -> Iterator[None]:
    """Keeps messages from the terminal, unless the context raises an error: then they are shown."""
    said = ""
    try:
        with kept() as text:
            try:
                yield
            except Exception:
                said = text()
                raise
    except Exception:
        print(said, end="", file=sys.stderr)
        raise


def listed_devices(debug: bool = False) -> list[str]:
    """A line for each device that TensorFlow can use here, beginning with its value of `device`.
    Logs why a GPU that this computer seems to have is not among them."""
    load(debug)
    with contextlib.nullcontext() if debug else silence():
        gpus = devices.gpus_here()
    lines = [f"{devices.CPU}    {cpu.name()} ({threads_in_words()})"]
    for number, name, capability in gpus:
        version = f" (compute capability {capability[0]}.{capability[1]})" if capability else ""
        lines.append(f"{devices.GPU}:{number}  {name}{version}")
    if not gpus:
        _report_unused_gpu()
    return lines


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
def _without_keras() -> Iterator[None]:
    """Spares TensorFlow the import of Keras, half a second: asked for the old one, TensorFlow does
    without where that is not installed. What the user's environment says about it counts more."""
    if KERAS in os.environ:
        yield
        return
    with environment(KERAS, "1"):
        yield


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


def kept() -> contextlib.AbstractContextManager[Callable[[], str]]:
    """Keeps TensorFlow's start-up messages from the terminal; yields a function that returns them.
    Whoever sets TensorFlow's variable to 0 wants to see them."""
    if os.environ.setdefault(LOG_LEVEL, "3") == "0":
        return contextlib.nullcontext(str)
    sys.stderr.flush()
    return streams.kept()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps TensorFlow's messages from the terminal, as `kept` does."""
    if os.environ.setdefault(LOG_LEVEL, "3") == "0":
        yield
        return
    sys.stderr.flush()
    with streams.silenced():
        yield
