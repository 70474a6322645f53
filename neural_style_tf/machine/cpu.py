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
# What a processor has that TensorFlow takes oneDNN on by itself.
ONEDNN_BY_DEFAULT = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def threads() -> int:
    """The processors that this process may use: its affinity, and its container's limit."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, min(count, _container_limit() or count))


def _container_limit() -> int | None:
    """Whole processors of the smallest quota of our cgroups, version 2 or 1; None without one."""
    limits = [_quota(folder) for folder in cgroups()]
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


def cgroups() -> list[Path]:
    """The folder of our cgroup and of those that it is in; at least the topmost."""
    own = ""
    with contextlib.suppress(OSError):
        lines = OWN_CGROUP.read_text().splitlines()
        own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    folder = CGROUPS / own
    above = [parent for parent in folder.parents if parent.is_relative_to(CGROUPS)]
    return list(dict.fromkeys([folder, *above]))


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


def gains_from_onednn() -> bool:
    """Whether this is a processor that oneDNN is made for. TensorFlow takes it by itself only on
    late ones; with AVX2 alone a step is twice as fast with it."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "darwin"
    return is_x86 and ("avx2" in flags() or not flags())


def uses_onednn_by_default() -> bool:
    """Whether TensorFlow does on this processor, unless told."""
    return not ONEDNN_BY_DEFAULT.isdisjoint(flags())


def multiplies_matrices() -> bool:
    """Whether the processor has units that multiply matrices of bfloat16, Intel's AMX: with them
    a plain convolution is as fast as memory."""
    return "amx_bf16" in flags()
