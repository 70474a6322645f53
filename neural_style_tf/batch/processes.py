"""Processes: jobs -> worker processes on this machine, each of which does one job at a time.

A process that dies or hangs is replaced, and its job tried again. On Linux, processes are forked
from one that has imported what they need: it is imported once, and its memory is shared.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

from neural_style_tf.batch import scheduling
from neural_style_tf.batch.scheduling import TRIES, Attempt, Event, LastReports, Report
from neural_style_tf.errors import UserError, message_of
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.runs.stopping import EXIT_STATUS

# TensorFlow never frees what it compiles for pictures of a size: 20 to 40 MB for each.
MAX_KINDS = 8  # kinds of jobs that a process does before it is replaced
START_SECONDS = 300.0  # in which a process has to be ready, however short the timeout of jobs
# Windows waits for 63 handles at a time, some of which it needs itself.
MAX_PROCESSES = 60 if sys.platform == "win32" else sys.maxsize
SIGNALS = tuple(EXIT_STATUS)
CANNOT_START = "worker processes cannot start: --debug says why"
# With it Python, since 3.11, imports nothing from the current folder, where a stranger's modules
# may have the names of its own.
SAFE_PATH = "PYTHONSAFEPATH"

Work = Callable[[Any, Callable[[Any], None]], Any]  # (job, report progress) -> result


def run(
    jobs: Sequence[Any],
    count: int,
    start: Callable[..., Work],
    arguments: tuple = (),
    *,
    is_busy: Callable[[Any], bool] = lambda result: False,
    kinds: Sequence[Hashable] = (),
    on_end: Callable[[int], None] = lambda process: None,
    preload: str | None = None,
    timeout: float = math.inf,
) -> Generator[Event, None, None]:
    """Does the jobs in `count` processes, `MAX_PROCESSES` at most, in order, except that a process
    goes on with jobs of the kind of its last one. A process that has done `MAX_KINDS` kinds is
    replaced before the next.

    start: called in each process with the arguments; returns the function that does a job.
    is_busy: whether a result says that the job has to wait, and be tried again later. kinds: one
    per job; by default all are of one kind. on_end: called with the id of every process that has
    ended, for whatever reason. preload: a module that all processes need, if it takes long to
    import; the same one in all calls. timeout: in seconds; a process that has a job and reports
    nothing for longer is killed.

    Raises `UserError` if processes cannot start, with the reason if `start` raises one. They end
    when the iterator is closed.
    """
    kinds = kinds or [None] * len(jobs)
    count = min(count, MAX_PROCESSES, len(jobs))
    context = _context(preload)
    processes = _Processes(
        jobs, count, lambda: _Process(context, start, arguments, on_end), is_busy, timeout
    )
    yield from scheduling.run(kinds, processes, timeout)


class _Processes:
    """The `Workers` of the scheduler: each is a place, whose process may be replaced."""

    def __init__(
        self,
        jobs: Sequence[Any],
        count: int,
        begin: Callable[[], "_Process"],
        is_busy: Callable[[Any], bool],
        timeout: float,
    ):
        self._jobs, self._count, self._begin, self._is_busy = jobs, count, begin, is_busy
        self._start_seconds = max(timeout, START_SECONDS)
        self._wait_seconds = min(1, timeout)
        self._failures, self._max_failures = 0, TRIES * count  # to start, one after the other
        self._processes: dict[Hashable, _Process] = {}  # by place
        self._starting = LastReports()
        self._reports: list[Report] = []  # that are known already

    def start(self) -> None:
        for place in range(self._count):
            self._start(place)

    def ready(self) -> list[Hashable]:
        return [place for place, process in self._processes.items() if process.is_ready]

    def capacity(self, waiting: int) -> int:
        return 1

    def send(self, attempt: Attempt, kind: Hashable) -> None:
        process = self._processes[attempt.worker]
        if process.may_do(kind):
            process.send(attempt.number, kind, self._jobs[attempt.job])
            self._reports.append(Report(attempt.number, "begun"))
        else:
            self.replace(attempt.worker)
            self._reports.append(Report(attempt.number, "returned"))

    def receive(self) -> Iterator[Report]:
        reports, self._reports = self._reports, []
        yield from reports
        places: dict[Any, Hashable] = {
            process.connection: place for place, process in self._processes.items()
        }
        for connection in wait(list(places), self._wait_seconds):
            yield from self._receive(places[connection])
        for place in self._starting.silent(self._start_seconds):
            self._fail_to_start(place)

    def _receive(self, place: Hashable) -> Iterator[Report]:
        process = self._processes[place]
        kind, value = process.receive()
        if kind == "ready":
            process.is_ready, self._failures = True, 0
            self._starting.forget(place)
            return
        if kind == "died" and not process.is_ready:
            self._fail_to_start(place)
            return
        if kind == "unable":
            self._fail_to_start(place, value)
            return
        if kind == "died":
            self.replace(place)
        elif kind == "done" and self._is_busy(value):
            kind = "busy"
        if process.attempt is not None:
            yield Report(process.attempt, kind, value)
        if kind != "progress":
            process.attempt = None

    def replace(self, worker: Hashable, ends: Sequence[Report] = ()) -> None:
        self._processes[worker].end()
        self._start(worker)

    def stop(self) -> None:
        for process in self._processes.values():
            process.end()

    def _start(self, place: Hashable) -> None:
        self._processes[place] = self._begin()
        self._starting.note(place)

    def _fail_to_start(self, place: Hashable, reason: str = CANNOT_START) -> None:
        self._failures += 1
        if self._failures == self._max_failures:
            raise UserError(reason)
        self.replace(place)


def _context(preload: str | None) -> BaseContext:
    """How processes start: forked from one that has imported that module and done nothing else, for
    TensorFlow's threads do not survive a fork; or each imports everything itself."""
    if preload is None or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker  # not every system has them

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    with tensorflow_setup.environment(SAFE_PATH, "1"):
        resource_tracker.ensure_running()  # it unblocks signals
        with _importable():
            forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """A process that starts meanwhile can import what this one can, which Python's forkserver does
    not provide for before 3.14, and leaves signals to this one."""
    paths = filter(None, sys.path)
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with tensorflow_setup.environment("PYTHONPATH", os.pathsep.join(paths)):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


class _Process:
    """A process, and the pipe to it."""

    def __init__(
        self,
        context: BaseContext,
        start: Callable[..., Work],
        arguments: tuple,
        on_end: Callable[[int], None],
    ):
        self.attempt: int | None = None  # the number of the attempt that it has
        self.is_ready = False
        self._kinds: set[Hashable] = set()  # of all its jobs
        self._on_end = on_end
        self.connection, its_end = context.Pipe()
        self._process: Any = context.Process(  # type: ignore[attr-defined]  # each kind has it
            target=_serve, args=(its_end, start, arguments), daemon=True
        )
        try:
            with tensorflow_setup.environment(SAFE_PATH, "1"):
                self._process.start()
        except (OSError, EOFError) as error:  # the process that they are forked from has died
            raise UserError(CANNOT_START) from error
        its_end.close()

    def may_do(self, kind: Hashable) -> bool:
        return kind in self._kinds or len(self._kinds) < MAX_KINDS

    def send(self, attempt: int, kind: Hashable, job: Any) -> None:
        self.attempt = attempt
        self._kinds.add(kind)
        with contextlib.suppress(OSError):  # it has died: `receive` will say so
            self.connection.send(job)

    def receive(self) -> tuple[str, Any]:
        """What it has reported: "ready", "progress" or "done" and a value, "unable" and the reason
        why it cannot start, or that it died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return "died", None

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()
        self._on_end(self._process.pid)


def _serve(connection: Connection, start: Callable[..., Work], arguments: tuple) -> None:
    """The life of a worker process. It ends with the process that started it, however that ends."""
    for number in SIGNALS:  # handled by the process that started this one
        signal.signal(number, signal.SIG_IGN)
    lock = threading.Lock()

    def send(kind: str, value: Any = None) -> None:
        with lock:
            try:
                connection.send((kind, value))
            except OSError:
                os._exit(1)

    try:
        work = start(*arguments)
    except UserError as error:
        send("unable", message_of(error))
        return
    send("ready")
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        send("done", work(job, lambda value: send("progress", value)))
