"""Hardware: the threads and the memory that this machine gives us, its fastest precision, and
TensorFlow ready on it."""

import contextlib
import functools
import gc
import hashlib
import itertools
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neural_style_tf.errors import UserError, shortened
from neural_style_tf.machine import streams, user_cache

if TYPE_CHECKING:
    import tensorflow as tf

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")
PROCESSORS = Path("/proc/cpuinfo")

WORTHWHILE = 1.5  # how many times faster low precision has to be, to be taken by itself
# Image sides and channels of the convolutions that are tried: an early and a late one of a VGG.
TRIED = ((128, 64), (32, 512))
REPEATS = 7
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
THREADS = "TF_NUM_INTRAOP_THREADS"
MOST_THREADS = 1024  # TensorFlow aborts the process when the system cannot start another
# What a processor has that TensorFlow takes oneDNN on by itself.
BY_ITSELF = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
PROBE = 3  # to be raised when the convolutions change: what was measured before counts no more


def threads() -> int:
    """The processors that this process may use: its affinity, and its container's limit."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, min(count, _container_limit() or count))


def _container_limit() -> int | None:
    """Whole processors of the smallest quota of our cgroups, version 2 or 1; None without one."""
    limits = [_quota(folder) for folder in _cgroups()]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(folder: Path) -> int | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu/cpu.cfs_quota_us").read_text()
            period = (folder / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        limit = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max"
    return max(1, round(limit)) if limit > 0 else None


def _cgroups() -> list[Path]:
    """The folder of our cgroup and of those that it is in; at least the topmost."""
    own = ""
    with contextlib.suppress(OSError):
        lines = OWN_CGROUP.read_text().splitlines()
        own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    folder = CGROUPS / own
    above = [parent for parent in folder.parents if parent.is_relative_to(CGROUPS)]
    return list(dict.fromkeys([folder, *above]))


def free_memory() -> int | None:
    """Bytes that this process may still take: what the system has, within its container's limit.
    None where nobody says, and on a GPU, which says when it is full."""
    import tensorflow as tf

    return None if tf.config.list_physical_devices("GPU") else free_system_memory()


def free_system_memory() -> int | None:
    """The same, whatever paints; without TensorFlow."""
    free = [_system_free(), _container_free()]
    return min((found for found in free if found is not None), default=None)


def most_memory() -> int:
    """The most bytes that this process ever held, and 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)


def seems_to_have_gpu() -> bool:
    """Whether there is a driver of NVIDIA's; without TensorFlow, which knows for sure."""
    return Path("/dev/nvidiactl").exists()


def _system_free() -> int | None:
    try:
        lines = MEMORY.read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((1024 * int(words[1]) for words in found if words[0] == "MemAvailable:"), None)


def _container_free() -> int | None:
    """The least that one of our cgroups may still take."""
    free = [_limit_less_use(folder) for folder in _cgroups()]
    return min((found for found in free if found is not None), default=None)


def _limit_less_use(folder: Path) -> int | None:
    """A cgroup's limit less what it uses and could not drop; version 2 or 1."""
    for limit, used, details, droppable in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            lines = (folder / details).read_text().splitlines()
            could_go = dict(line.split() for line in lines).get(droppable, 0)
            most, now = ((folder / name).read_text() for name in (limit, used))
            return max(0, int(most) - int(now) + int(could_go))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return None


def precision(wanted: str) -> "tf.DType":
    """The type of the features: the one that is wanted, and for "auto" the fastest here."""
    import tensorflow as tf

    if wanted == "auto":
        return _fastest_precision()
    if wanted != "float32":
        _check_precision(tf.as_dtype(wanted))
    return tf.as_dtype(wanted)


@functools.cache
def _check_precision(dtype: "tf.DType") -> None:
    """Raises `UserError` if this machine has no convolution of that type."""
    import tensorflow as tf

    try:
        run, features = _convolution(16, 64, dtype)
        run(features)
    except tf.errors.OpError as error:
        raise UserError(
            f"this machine has no {dtype.name} ({type(error).__name__}): give --precision auto"
        ) from None


@functools.cache
def _fastest_precision() -> "tf.DType":
    """On a GPU what its tensor cores take; on a CPU bfloat16 if it is much faster than float32,
    as it once was measured on this kind of processor: so it always paints the same."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        capability = details.get("compute_capability", (0, 0))
        if capability >= (8, 0):
            return tf.bfloat16
        return tf.float16 if capability >= (7, 0) else tf.float32
    known = ("float32", "bfloat16")
    return tf.as_dtype(user_cache.remembered(f"precision-{_kind_of_processor()}", known, _faster))


def _kind_of_processor() -> str:
    """A digest of what this processor is and can, of the TensorFlow on it and of our way to try."""
    import tensorflow as tf

    told = [str(PROBE), tf.__version__, platform.machine(), platform.processor()]
    told += [processor().get(name, "") for name in ("model name", "flags", "Features")]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def processor() -> dict[str, str]:
    """What the system says of the first processor; nothing where it says nothing."""
    try:
        with open(PROCESSORS) as file:  # no more than that: there may be hundreds
            first = list(itertools.takewhile(str.strip, file))
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def flags() -> set[str]:
    """What an x86 processor can, by Linux's names; none where the system does not say."""
    return set(processor().get("flags", "").split())


def _is_for_onednn() -> bool:
    """Whether this is a processor that oneDNN is made for. TensorFlow takes it by itself only on
    late ones; with AVX2 alone a step is twice as fast with it."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "darwin"
    return is_x86 and ("avx2" in flags() or not flags())


def uses_onednn() -> bool:
    """Whether TensorFlow's convolutions are oneDNN's; also where a program of somebody else's has
    imported TensorFlow."""
    import tensorflow as tf

    is_on = os.environ.get(ONEDNN, "1" if takes_onednn_by_itself() else "0") == "1"
    return is_on and not tf.config.list_logical_devices("GPU")


def takes_onednn_by_itself() -> bool:
    """Whether TensorFlow does on this processor, unless told."""
    return not BY_ITSELF.isdisjoint(flags())


def multiplies_matrices() -> bool:
    """Whether the processor has units that multiply matrices of bfloat16, Intel's AMX: with them
    a plain convolution is as fast as memory."""
    return "amx_bf16" in flags()


def _faster() -> str:
    """What measures faster on this processor now."""
    import tensorflow as tf

    try:
        fast = all(_gain(side, channels) >= WORTHWHILE for side, channels in TRIED)
    except tf.errors.OpError:  # processors without it raise AbortedError and others
        return "float32"
    return "bfloat16" if fast else "float32"


def _gain(side: int, channels: int) -> float:
    """How many times faster a convolution is in bfloat16 than in float32, each as it runs in a
    painting. By turns, and the best of each: what else runs on the machine has no say."""
    import tensorflow as tf

    runs = [_convolution(side, channels, dtype) for dtype in (tf.float32, tf.bfloat16)]
    turns = [[_seconds(*run) for run in runs] for _ in range(1 + REPEATS)]
    plain, low = map(min, zip(*turns[1:], strict=True))  # the first is traced
    return plain / low


def _convolution(side: int, channels: int, dtype: "tf.DType") -> tuple[Callable, "tf.Tensor"]:
    import tensorflow as tf

    from neural_style_tf.network.backprop import Passes
    from neural_style_tf.network.weights import Layer

    kernel, bias = tf.ones((3, 3, channels, channels)), tf.zeros(channels)
    layers = [Layer("first", "relu"), Layer("second", "conv", kernel, bias)]
    passes = Passes(layers, ["second"], dtype=dtype, often=True)
    run = tf.function(lambda image: passes.features(image)["second"], autograph=False)
    return run, tf.ones((1, side, side, channels), dtype)


def _seconds(run: Callable, features: "tf.Tensor") -> float:
    began = time.perf_counter()
    run(features)[0, 0, 0, 0].numpy()
    return time.perf_counter() - began


def start_tensorflow(debug: bool, count: int | None = None) -> str:
    """Imports TensorFlow and makes it ready, for so many threads or as many as there are
    processors for us. Returns in words which device it runs on."""
    count = _number_of_threads(count)
    os.environ[THREADS] = str(count)
    # AddN adds up in an order that hangs on which other operation is done: so one at a time
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    import_tensorflow(debug)
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
    count = wanted or int(value) or min(threads(), MOST_THREADS)
    if count > MOST_THREADS:
        raise UserError(f"{count} threads are too many: use at most {MOST_THREADS}")
    return count


def import_tensorflow(debug: bool = False) -> None:
    """Imports it, no more: it has no threads yet."""
    if _is_for_onednn():
        os.environ.setdefault(ONEDNN, "1")
    # Keras, half a second to import, is not needed: asked for the old one, TensorFlow does without
    # where that is not installed
    without_keras = environment("TF_USE_LEGACY_KERAS", "1")
    with contextlib.nullcontext() if debug else silence(), without_keras, uncollected():
        import tensorflow  # noqa: F401


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
def uncollected() -> Iterator[None]:
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
