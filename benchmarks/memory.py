"""The memory that a process holds, and the most it ever held, in megabytes."""

import subprocess
import time
from pathlib import Path

from neural_style_tf.machine import memory


def peak(process: int | str = "self") -> float:
    """The most megabytes that a running process ever held. `ru_maxrss` is only used where the
    system has nothing better: a child process inherits its parent's."""
    return _status("VmHWM", process)


def held() -> float:
    """The megabytes that this process holds now, or the most it ever held where the system does not
    report more."""
    return _status("VmRSS", "self")


def _status(name: str, process: int | str) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        kibibytes = next(int(line.split()[1]) for line in lines if line.startswith(name))
        return kibibytes * 1024 / 1e6
    except (OSError, StopIteration):
        return memory.peak_memory() / 1e6


def run(command: list[str]) -> tuple[float, float]:
    """Runs a command. Returns the seconds that it took and the most megabytes that it held."""
    began, highest = time.perf_counter(), 0.0
    process = subprocess.Popen(command)
    while process.poll() is None:
        if Path(f"/proc/{process.pid}").exists():
            highest = max(highest, peak(process.pid))
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, highest
