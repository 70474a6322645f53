"""Workers: jobs -> processes that do them, each one at a time.

A process that dies or hangs is replaced, and its job tried again. Where the system can, processes
are forked from one that has imported what they need: so it is imported once, and its memory is
shared.
"""

import contextlib
import functools
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NamedTuple

from neural_style_tf.errors import UserError
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.runs.stopping import EXIT_STATUS

TRIES = 3  # of a job whose process dies or hangs
# TensorFlow never lets go of all that it compiles for pictures of a size: 20 to 40 MB for each.
KINDS = 8  # of jobs that a process does, before it is replaced
START_SECONDS = 300.0  # that a process may take before it does anything, whatever a job may take
STOPPED_SECONDS = 5.0  # without a look at the processes: we were stopped, and they may have been
# Windows waits for 63 handles at a time, some of which it needs itself.
MOST = 60 if sys.platform == "win32" else sys.maxsize  # processes
SIGNALS = tuple(EXIT_STATUS)
CANNOT_START = "worker processes cannot start: --debug says why"

Work = Callable[[Any, Callable[[Any], None]], Any]  # (job, tell) -> result


class Event(NamedTuple):
    """News of a job: its number, who does it, and what became of it."""

    job: int
    worker: int
    kind: str  # "begun", "progress", "done", or of its last try "died" or "hung"
    value: Any = None


def of_one_kind(jobs: Sequence[Any]) -> Sequence[Hashable]:
    """The kinds of jobs, of which nobody said any."""
    return [None] * len(jobs)


def never(_: Any) -> bool:
    return False


def ignore(_: int) -> None:
    pass


def run(
    jobs: Sequence[Any],
    count: int,
    start: Callable[..., Work],
    arguments: tuple = (),
    again: Callable[[Any], bool] = never,
    kinds: Sequence[Hashable] = (),
    ended: Callable[[int], None] = ignore,
    preload: str | None = None,
    timeout: float = math.inf,
) -> Iterator[Event]:
    """Does the jobs in `count` processes, `MOST` at most, in order; but a process goes on with jobs
    of the kind of its last one, if there are some, and leaves to others those of theirs. One that
    has done `KINDS` kinds is replaced before the next.

    start: called in each with the arguments; it returns what does a job, which may `tell` what it
    likes on the way. again: whether a result says that the job has to wait, and be asked for once
    more. kinds: of the jobs; they are all of one unless given. ended: called with every
    process's number once it has ended, whichever way. preload: a module that they all need, if it
    takes long to import; the same one for all runs of a process. timeout: seconds; a process that
    has a job and reports nothing for longer hangs, and is killed.

    Raises `UserError` if a process cannot even start. Whoever closes the iterator ends them all.
    """
    begin = functools.partial(_Worker, _context(preload), start, arguments, ended)
    pool = _Pool(jobs, min(count, MOST), begin, again, kinds or of_one_kind(jobs), timeout)
    try:
        while pool.is_busy():
            yield from pool.give()
            yield from pool.listen()
            yield from pool.end_hung()
    finally:
        pool.end()


class _Pool:
    """The processes, and the jobs that wait for them."""

    def __init__(
        self,
        jobs: Sequence[Any],
        count: int,
        begin: Callable[[], "_Worker"],
        again: Callable[[Any], bool],
        kinds: Sequence[Hashable],
        timeout: float,
    ):
        self._jobs, self._begin, self._again, self._kinds = jobs, begin, again, kinds
        self._timeout = timeout
        self._waiting = deque((number, 1) for number in range(len(jobs)))
        self._failures, self._most_failures = 0, TRIES * count  # to start, in a row
        self._looked = time.monotonic()  # at what hangs
        self._workers = [begin() for _ in range(min(count, len(jobs)))]

    def is_busy(self) -> bool:
        """Whether there are jobs to do, or being done."""
        return bool(self._waiting) or any(worker.job is not None for worker in self._workers)

    def give(self) -> Iterator[Event]:
        """Gives each process that has none a job."""
        for place, worker in enumerate(self._workers):
            if self._waiting and worker.job is None and worker.is_ready:
                others = {other.kind for other in self._workers if other is not worker}
                job = next_job(self._waiting, self._kinds, worker.kind, others)
                if not worker.takes(self._kinds[job[0]]):
                    self._waiting.appendleft(job)
                    worker.end()
                    self._workers[place] = self._begin()
                    continue
                worker.send(job, self._jobs[job[0]])
                yield Event(job[0], place, "begun")

    def listen(self) -> Iterator[Event]:
        """Takes in what the processes say; waits for it, but not for long."""
        connections = [worker.connection for worker in self._workers]
        ready = wait(connections, min(1, self._timeout))
        for place, worker in enumerate(self._workers):
            if worker.connection not in ready:
                continue
            kind, value = worker.receive()
            if kind == "ready":
                worker.is_ready, self._failures = True, 0
            elif kind == "dead":
                yield from self._replace(place, "died", value)
            elif kind == "progress":
                yield Event(worker.job[0], place, kind, value)
            else:
                (number, tries), worker.job = worker.job, None
                if self._again(value):
                    worker.kind = None  # others of its kind may have to wait, too
                    self._waiting.append((number, tries))
                else:
                    yield Event(number, place, "done", value)

    def end_hung(self) -> Iterator[Event]:
        """Ends the processes that have said nothing for too long."""
        now = time.monotonic()
        if now - self._looked > STOPPED_SECONDS:
            for worker in self._workers:
                worker.heard += now - self._looked
        self._looked = now
        for place, worker in enumerate(self._workers):
            if worker.is_silent(now, self._timeout):
                worker.end()
                yield from self._replace(place, "hung")

    def end(self) -> None:
        """Ends all processes."""
        for worker in self._workers:
            worker.end()

    def _replace(self, place: int, kind: str, value: Any = None) -> Iterator[Event]:
        """Begins another process for one that has ended, whose job is tried again."""
        worker = self._workers[place]
        self._failures += not worker.is_ready
        if self._failures == self._most_failures:
            raise UserError(CANNOT_START)
        self._workers[place] = self._begin()
        if worker.job is None:
            return
        number, tries = worker.job
        if tries < TRIES:
            self._waiting.appendleft((number, tries + 1))
        else:
            yield Event(number, place, kind, value)


def _context(preload: str | None) -> BaseContext:
    """What makes processes: a fork of one that has imported that module, and done nothing else, for
    TensorFlow's threads do not survive a fork; or each imports anew."""
    if preload is None or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker  # not every system has them

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    resource_tracker.ensure_running()  # it unblocks signals
    with _inherited():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _inherited() -> Iterator[None]:
    """A process that begins meanwhile finds our modules, wherever it is, which Python's forkserver
    does not see to before 3.14; and it leaves signals to us."""
    ours = str(Path(__file__).resolve().parents[2])
    paths = filter(None, [ours, os.environ.get("PYTHONPATH")])
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with tensorflow_setup.environment("PYTHONPATH", os.pathsep.join(paths)):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def next_job(
    waiting: deque[tuple[int, int]],
    kinds: Sequence[Hashable],
    kind: Hashable,
    others: Collection[Hashable],
) -> tuple[int, int]:
    """Takes the first job of that kind; else of one that is no other process's; else the first."""
    wanted = (lambda found: found == kind), (lambda found: found not in others), (lambda _: True)
    for is_wanted in wanted:
        for job in waiting:
            if is_wanted(kinds[job[0]]):
                waiting.remove(job)
                return job
    raise ValueError("no job is waiting")


class _Worker:
    """A process, and the pipe to it."""

    def __init__(
        self,
        context: BaseContext,
        start: Callable[..., Work],
        arguments: tuple,
        ended: Callable[[int], None],
    ):
        self.job: tuple[int, int] | None = None  # its number, and which try it is
        self.kind: Hashable = None  # of its last job
        self._kinds: set[Hashable] = set()  # of all
        self.is_ready = False
        self.heard = time.monotonic()  # when it last said something, or was given a job
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start, arguments), daemon=True)
        try:
            self._process.start()
        except (OSError, EOFError) as error:  # what they are forked from is gone
            raise UserError(CANNOT_START) from error
        self._ended = ended
        theirs.close()

    def takes(self, kind: Hashable) -> bool:
        """Whether it may do a job of that kind, which is then its kind."""
        if kind not in self._kinds and len(self._kinds) == KINDS:
            return False
        self._kinds.add(kind)
        self.kind = kind
        return True

    def is_silent(self, now: float, timeout: float) -> bool:
        """Whether it has said nothing for longer than it may, with a job or before its first."""
        if self.is_ready and self.job is None:
            return False
        return now - self.heard > (timeout if self.is_ready else max(timeout, START_SECONDS))

    def send(self, job: tuple[int, int], content: Any) -> None:
        """Gives it a job: its number and try, and what it is."""
        self.job, self.heard = job, time.monotonic()
        with contextlib.suppress(OSError):  # it died: `receive` will say so
            self.connection.send(content)

    def receive(self) -> tuple[str, Any]:
        self.heard = time.monotonic()
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.end()
            return "dead", self._process.exitcode

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()
        self._ended(self._process.pid)


def _serve(connection: Connection, start: Callable[..., Work], arguments: tuple) -> None:
    """The life of a worker: ends with the process that asks, whichever way that ends."""
    for number in SIGNALS:  # whoever asks decides, and ends us
        signal.signal(number, signal.SIG_IGN)
    lock = threading.Lock()

    def send(kind: str, value: Any = None) -> None:
        with lock:
            try:
                connection.send((kind, value))
            except OSError:
                os._exit(1)

    work = start(*arguments)
    send("ready")
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        send("done", work(job, lambda value: send("progress", value)))
