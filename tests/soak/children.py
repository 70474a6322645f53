"""Children: attempts -> what is wrong with each, in a process that is forked for many of them and
replaced when it dies, hangs or takes too much memory."""

import contextlib
import multiprocessing
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from soak import limits

READING_IS_FINE = [  # what Python itself reads, besides what an attempt allows
    *(sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null", "/dev/urandom"),
    *(str(Path(os.__file__).parent), str(Path(__file__).resolve().parents[2])),
    *filter(None, sys.path),
]
CHANGES = {  # audit events of calls that change files, and how many of their arguments are paths
    "os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2,
    "os.truncate": 1, "os.chmod": 1, "os.chown": 1, "os.utime": 1, "shutil.move": 2,
}  # fmt: skip
NEVER = {"pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}
NEVER |= {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}


class Child:
    """A process that makes attempts. work(job) makes one: what is wrong, as "kind: message", or
    None. seconds, megabytes: limits of an attempt."""

    def __init__(
        self, work: Callable[[Any], str | None], seconds: float = 10.0, megabytes: int = 1000
    ):
        self._work, self._seconds, self._megabytes = work, seconds, megabytes
        self._process: multiprocessing.Process | None = None
        self.most_megabytes = 0.0  # the peak of all attempts

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def attempt(self, job: Any) -> str | None:
        """What is wrong with an attempt, or None."""
        if self._process is None:
            self._start()
        self._connection.send(job)
        if not self._connection.poll(self._seconds):
            self.end()
            return f"hang: no answer within {self._seconds:g} s"
        try:
            wrong, megabytes = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            status = self._process.exitcode
            self.end()
            return f"died {status}: the process ended with status {status}"
        self.most_megabytes = max(self.most_megabytes, megabytes)
        if not wrong and megabytes > self._megabytes:
            self.end()  # the next attempt begins in a fresh process
            return f"memory: took {megabytes:.0f} MB"
        return wrong

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._work, self._megabytes), daemon=True
        )
        self._process.start()
        theirs.close()

    def end(self) -> None:
        """Ends the process; the next attempt starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = None


def _serve(connection: Connection, work: Callable, megabytes: int) -> None:
    """Makes attempts in the child until the connection is closed."""
    held = int(limits.memory_megabytes("VmSize") * 1e6)
    most = held + 4 * 1_000_000 * megabytes  # so that an attempt cannot make the machine swap
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            job = connection.recv()
        except EOFError:
            os._exit(0)
        before = limits.begin_peak()
        try:
            wrong = work(job)
        except Exception as error:
            wrong = in_words(error)
        connection.send((wrong, limits.peak_megabytes() - before))


def in_words(error: BaseException) -> str:
    """An unexpected exception: the last frame in the program's own code, and its message."""
    root = str(Path(__file__).resolve().parents[2])
    frames = [
        f"{Path(frame.filename).stem} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(root) and "/tests/" not in frame.filename
        and "/.venv" not in frame.filename
    ]  # fmt: skip
    return f"{type(error).__name__} at {frames[-1] if frames else '?'}: {error}"[:2000]


class Watch:
    """Files that Python opens or changes although it may not. One per process, since audit hooks
    cannot be removed; it is active only within `watching`."""

    def __init__(self) -> None:
        self._is_on = False
        self._wrong: list[str] = []
        sys.addaudithook(self._see)

    @contextlib.contextmanager
    def watching(
        self, reads: list[Path] | None, writes: list[Path], what: list[str]
    ) -> Iterator[None]:
        """Appends to `what`, as "kind: message", what is read outside the folders `reads` (None:
        anything may be) and changed outside the folders `writes`."""
        readable = None if reads is None else [*map(os.path.realpath, [*reads, *READING_IS_FINE])]
        self._readable, self._writable = readable, [*map(os.path.realpath, writes)]
        self._wrong, self._is_on = what, True
        try:
            yield
        finally:
            self._is_on = False

    def _see(self, event: str, arguments: tuple) -> None:
        if not self._is_on:
            return
        if event in NEVER:
            self._wrong.append(f"{event}: {arguments!r:.300}")
        elif event in CHANGES:
            for path in arguments[: CHANGES[event]]:
                self._check("changes", path, self._writable)
        elif event == "open":
            path, _, flags = arguments
            is_writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            self._check(
                "changes" if is_writing else "reads",
                path,
                self._writable if is_writing else self._readable,
            )
        elif event in ("os.listdir", "os.scandir"):
            self._check("reads", arguments[0] or ".", self._readable)

    def _check(self, verb: str, path: Any, folders: list[str] | None) -> None:
        if folders is None or not isinstance(path, str | bytes | os.PathLike):
            return
        self._is_on = False  # `realpath` is watched, too
        try:
            real = os.path.realpath(os.fsdecode(path))
        except ValueError:  # a null byte: the call itself refuses it
            return
        finally:
            self._is_on = True
        if verb == "changes" and real == os.devnull:
            return
        if not any(real == folder or real.startswith(folder + os.sep) for folder in folders):
            self._wrong.append(f"{verb} a file outside: {real[:300]}")
