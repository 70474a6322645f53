"""Memory: how much this process may still take, and the most that it has taken."""

import re
import sys
from pathlib import Path

from neural_style_tf.machine import cpu, devices

# What a GPU's libraries say when memory runs out, in errors of TensorFlow that are not of that
# kind: cuFFT's plans, cuBLAS, cuDNN, and what is copied to it.
EXHAUSTED = re.compile(
    "out.of.memory|resource.exhausted|alloc.?failed|failed to allocate|scratch allocator"
    "|dst tensor is not initialized",
    re.I,
)
UNSPECIFIC = ("InternalError", "UnknownError", "NotFoundError", "AbortedError")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory has run out, that of the system or of a GPU. Does not
    import TensorFlow."""
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "ResourceExhaustedError":
        return True
    return kind in UNSPECIFIC and bool(EXHAUSTED.search(str(error)))


def free_memory() -> int | None:
    """Bytes that this process may still take: what the system has, within its container's limit.

    Returns None if that is not known, and on a GPU: its memory is not the system's, and running out
    of it is an error that can be handled.
    """
    return None if devices.gpu_in_use() else free_system_memory()


def free_system_memory() -> int | None:
    """Bytes of the system's memory that this process may still take, or None if that is not known.
    Does not import TensorFlow."""
    free = [_free_in_system(), *map(_free_in_cgroup, cpu.cgroups())]
    return min((size for size in free if size is not None), default=None)


def peak_memory() -> int:
    """The most bytes that this process has held, its peak resident set."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def _free_in_system() -> int | None:
    """What programs can take without the system having to swap."""
    import psutil  # late: commands such as --help need no memory figures

    try:
        return psutil.virtual_memory().available
    except (OSError, RuntimeError, psutil.Error):  # for instance where /proc is not mounted
        return None


def _free_in_cgroup(folder: Path) -> int | None:
    """A cgroup's limit less what it uses and could not drop, version 2 or 1; None without a limit.
    psutil does not know cgroups."""
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
            droppable_bytes = dict(line.split() for line in lines).get(droppable, 0)
            most, now = ((folder / name).read_text() for name in (limit, used))
            return max(0, int(most) - int(now) + int(droppable_bytes))
        except (OSError, ValueError):  # missing, or "max"
            continue
    return None
