"""The most memory that a process ever held, in megabytes."""

import subprocess
import time
from pathlib import Path

import hardware


def peak(process: int | str = "self") -> float:
    """Of a process that runs. Not `ru_maxrss` where the system knows better: a child starts with
    its parent's."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return kibibytes * 1024 / 1e6
    except (OSError, StopIteration):
        return hardware.most_memory() / 1e6


def run(command: list[str]) -> tuple[float, float]:
    """Runs a command: the seconds that it takes, and the most megabytes that it holds."""
    began, most = time.perf_counter(), 0.0
    process = subprocess.Popen(command)
    while process.poll() is None:
        most = max(most, peak(process.pid)) if Path(f"/proc/{process.pid}").exists() else most
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, most
