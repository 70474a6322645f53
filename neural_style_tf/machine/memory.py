"""Memory: how much this process may still take, and the most that it has taken."""

import sys
from pathlib import Path

from neural_style_tf.machine import cpu

MEMORY = Path("/proc/meminfo")


def free_memory() -> int | None:
    """Bytes that this process may still take: what the system has, within its container's limit.
    None where nobody says, and on a GPU, which says when it is full."""
    import tensorflow as tf

    return None if tf.config.list_physical_devices("GPU") else free_system_memory()


def free_system_memory() -> int | None:
    """The same, whatever paints; without TensorFlow."""
    free = [_system_free(), _container_free()]
    return min((found for found in free if found is not None), default=None)


def peak_memory() -> int:
    """The most bytes that this process ever held, and 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)


def _system_free() -> int | None:
    try:
        lines = MEMORY.read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((1024 * int(words[1]) for words in found if words[0] == "MemAvailable:"), None)


def _container_free() -> int | None:
    """The least that one of our cgroups may still take."""
    free = [_limit_less_use(folder) for folder in cpu.cgroups()]
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
