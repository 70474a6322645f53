"""The CPU: how many threads this process may run, and what the processor can do."""

import contextlib
import itertools
import os
import platform
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
PROCESSORS = Path("/proc/cpuinfo")
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # the variable that switches it on or off
# TensorFlow uses oneDNN by default on processors with any of these.
ONEDNN_BY_DEFAULT = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def threads() -> int:
    """How many processors this process may use, by its affinity and its container's limit."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, min(count, _container_limit() or count))


def _container_limit() -> int | None:
    """The smallest quota among this process's cgroups, in whole processors; None without one."""
    limits = [_quota(folder) for folder in cgroups()]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(folder: Path) -> int | None:
    """A cgroup's quota in whole processors, version 2 or 1; None without a limit."""
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


def cgroups() -> list[Path]:
    """The folders of this process's cgroup and of all that contain it; at least the topmost."""
    own = ""
    with contextlib.suppress(OSError):
        lines = OWN_CGROUP.read_text().splitlines()
        own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    folder = CGROUPS / own
    above = [parent for parent in folder.parents if parent.is_relative_to(CGROUPS)]
    return list(dict.fromkeys([folder, *above]))


def processor() -> dict[str, str]:
    """The description of the first processor, by field of /proc/cpuinfo; empty without that."""
    try:
        with open(PROCESSORS) as file:  # only the first: there may be hundreds
            first = list(itertools.takewhile(str.strip, file))
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def name() -> str:
    """What the processor is called, or at least its architecture."""
    known = processor().get("model name") or platform.processor() or platform.machine()
    return known or "unknown processor"


def flags() -> set[str]:
    """The features of an x86 processor, by Linux's names; empty on other systems."""
    return set(processor().get("flags", "").split())


def choose_onednn() -> None:
    """Has TensorFlow use oneDNN where it is faster, unless the user's environment says otherwise.

    TensorFlow reads the variable when it is imported, so this runs when `neural_style_tf` is, and
    does nothing if TensorFlow came first.
    """
    if "tensorflow" not in sys.modules and gains_from_onednn():
        os.environ.setdefault(ONEDNN, "1")


def uses_onednn() -> bool:
    """Whether TensorFlow's operations on the CPU are oneDNN's."""
    return os.environ.get(ONEDNN, "1" if uses_onednn_by_default() else "0") == "1"


def gains_from_onednn() -> bool:
    """Whether oneDNN is faster on this processor. TensorFlow uses it by default on new ones only;
    with AVX2 alone a step is twice as fast with it."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "darwin"
    return is_x86 and ("avx2" in flags() or not flags())


def misses_onednn() -> bool:
    """Whether oneDNN would be faster than what TensorFlow uses, unless the user chose that."""
    return gains_from_onednn() and not uses_onednn_by_default() and ONEDNN not in os.environ


def uses_onednn_by_default() -> bool:
    """Whether TensorFlow uses oneDNN on this processor where the environment does not say."""
    return not ONEDNN_BY_DEFAULT.isdisjoint(flags())


def multiplies_matrices() -> bool:
    """Whether the processor has units that multiply bfloat16 matrices, Intel's AMX: with them a
    plain convolution is limited by memory alone."""
    return "amx_bf16" in flags()
