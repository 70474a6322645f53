"""Limits: attempts in a process of their own -> those that took too long or too much, or failed."""

import contextlib
import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

try:
    import resource
except ImportError:  # Windows, where nothing is forked either
    resource = None

ADDRESS_SPACE = 8 << 30  # bytes, so that the machine stays usable whatever an attempt does
MESSAGE = 2000  # characters of it that are kept

Attempt = TypeVar("Attempt")


class Failure(NamedTuple):
    number: int  # of the attempt
    kind: str  # the same for failures of one cause
    message: str


def failures(
    attempts: Sequence[Attempt],
    make: Callable[[Attempt], None],
    seconds: float = 10,
    megabytes: float = 1000,
) -> Iterator[Failure]:
    """The attempts that fail: `make` raises, ends the process, takes more than `seconds` of
    processor time or ten times as long altogether, or its process holds more than `megabytes`.
    Many attempts share a process, which is replaced when one ends it."""
    first = 0
    while first < len(attempts):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _make_all(attempts, first, make, (seconds, megabytes), writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                message = json.loads(line)
                if isinstance(message, int):
                    first = message
                else:
                    yield Failure(first, *message)
        _, status = os.waitpid(child, 0)
        if status:
            name = _name(status)
            is_late = name in ("SIGPROF", "SIGALRM")
            taken = f"over {seconds:g} s" if is_late else f"process ended with {name}"
            yield Failure(first, taken, taken)
        first += 1


def _name(status: int) -> str:
    number = os.waitstatus_to_exitcode(status)
    return signal.Signals(-number).name if number < 0 else f"status {number}"


def _make_all(
    attempts: Sequence[Attempt],
    first: int,
    make: Callable[[Attempt], None],
    limits: tuple[float, float],
    writer: int,
) -> None:
    """In the child: writes the number of each attempt as it begins, and how it failed."""
    seconds, megabytes = limits
    for late in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(late, signal.SIG_DFL)  # ends the process, even where C does not return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # messages of libraries written in C
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def tell(what: int | tuple[str, str]) -> None:
        os.write(writer, (json.dumps(what) + "\n").encode())

    for number in range(first, len(attempts)):
        tell(number)
        before = begin_peak()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
        try:
            make(attempts[number])
        except BaseException as error:
            tell((_kind(error), "".join(traceback.format_exception(error))[-MESSAGE:]))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        peak = peak_megabytes() - before
        if peak > megabytes:
            tell((f"over {megabytes:g} MB", f"{peak:.0f} MB"))
    os._exit(0)


def _kind(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).stem} {place.name}"


def begin_peak() -> float:
    """The megabytes that this process holds; from now on `peak_megabytes` is the peak
    after this call, where the system supports that (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return memory_megabytes("VmRSS")


def peak_megabytes() -> float:
    """The most memory that this process held."""
    return memory_megabytes("VmHWM")


def memory_megabytes(name: str) -> float:
    """A figure of Linux about the memory of this process: VmRSS, VmHWM or VmSize."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
