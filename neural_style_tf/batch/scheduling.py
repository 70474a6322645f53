"""Scheduling: jobs -> attempts at workers, until every job has ended. Starts and sends nothing.

Shared by worker processes (processes.py) and Dask (dask_cluster.py), which start, stop and talk to
the workers. Decided here: which job a worker does next, when a worker hangs, and which jobs are
tried again.
"""

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

TRIES = 3  # of a job whose worker dies or hangs
STOPPED_SECONDS = 5.0  # a longer pause between two looks at the workers: all were stopped (Ctrl-Z)


class Event(NamedTuple):
    """What happened to a job.

    kind: "begun", "progress", "done", or "died" or "hung" if its last try ended so.
    worker: a small number, for display.
    """

    job: int
    worker: int
    kind: str
    value: Any = None


class Attempt(NamedTuple):
    """One try of a job at a worker."""

    number: int
    job: int
    tries: int  # 1 for the first try of the job
    worker: Hashable


class Report(NamedTuple):
    """What is known of an attempt: "begun", "progress" or "done"; "died" or "hung", which counts as
    a try; "busy", the job has to wait and is tried again later; "returned", it did not begin.

    worker: the one that has it, if that is not the one that it was sent to.
    """

    attempt: int
    kind: str
    value: Any = None
    worker: Hashable = None


class Workers(Protocol):
    """Starts, stops and talks to workers."""

    def start(self) -> None:
        """Starts them, if they do not run already."""

    def ready(self) -> Collection[Hashable]:
        """The workers that can be sent jobs. Raises `UserError` if there will never be any."""

    def capacity(self, waiting: int) -> int:
        """The number of jobs that a worker may have at a time while that many jobs are waiting."""

    def send(self, attempt: Attempt, kind: Hashable) -> None:
        """Sends a worker its job, which is of that kind. What becomes of it is reported by
        `receive`, also if it could not be sent."""

    def receive(self) -> Iterator[Report]:
        """What the workers have reported. Waits for it, for a second at most."""

    def replace(self, worker: Hashable, ends: Sequence[Report]) -> None:
        """Stops a worker that hangs, and its attempts, which end as these say. Starts another
        worker if possible."""

    def stop(self) -> None:
        """Stops all workers, or the jobs that they still have."""


def run(
    kinds: Sequence[Hashable], workers: Workers, timeout: float = math.inf
) -> Generator[Event, None, None]:
    """Has workers do jobs 0, 1, ..., one per entry of `kinds`, and stops them at the end, also if
    the iterator is closed earlier.

    kinds: a worker goes on with jobs of the kind of its last one, see `Schedule.assign`.
    timeout: seconds without a report after which a worker that has begun a job hangs.
    """
    schedule = Schedule(kinds, timeout)
    try:
        workers.start()
        while schedule.is_busy():
            _send_jobs(schedule, workers)
            for report in itertools.chain(workers.receive(), _hung(schedule, workers)):
                event = schedule.take(report)
                if event:
                    yield event
    finally:
        workers.stop()


def _send_jobs(schedule: "Schedule", workers: Workers) -> None:
    """Gives each worker as many jobs as it may have, those with the fewest first."""
    schedule.forget_all_but(workers.ready())
    while True:
        ready, loads = workers.ready(), schedule.loads()
        worker = min(ready, key=lambda worker: loads[worker], default=None)
        if not schedule.waiting or not ready or loads[worker] >= workers.capacity(schedule.waiting):
            return
        attempt = schedule.assign(worker)
        workers.send(attempt, schedule.kinds[attempt.job])


def _hung(schedule: "Schedule", workers: Workers) -> Iterator[Report]:
    """Replaces the workers that hang. Yields how their attempts end."""
    for worker, ends in schedule.hanging().items():
        workers.replace(worker, ends)
        yield from ends


class Schedule:
    """The jobs that wait, and the attempts that workers have."""

    def __init__(
        self,
        kinds: Sequence[Hashable],
        timeout: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.kinds = kinds
        self._waiting = deque((job, 1) for job in range(len(kinds)))
        self._attempts: dict[int, Attempt] = {}
        self._numbers = itertools.count()
        self._last_kinds: dict[Hashable, Hashable] = {}  # of the last job of each worker
        self._places: dict[Hashable, int] = {}  # numbers of workers, for display
        self._reports = LastReports(clock)  # of attempts that have begun
        self._timeout = timeout

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def is_busy(self) -> bool:
        """Whether there are jobs to do, or being done."""
        return bool(self._waiting or self._attempts)

    def loads(self) -> Counter[Hashable]:
        """The number of attempts that each worker has."""
        return Counter(attempt.worker for attempt in self._attempts.values())

    def assign(self, worker: Hashable) -> Attempt:
        """The worker's next attempt: at the first job of the kind of its last one, so that what
        it made for that is used again; else of a kind that no other worker is at; else at the
        first job."""
        item = self._next(worker)
        self._waiting.remove(item)
        job, tries = item
        attempt = Attempt(next(self._numbers), job, tries, worker)
        self._attempts[attempt.number] = attempt
        self._last_kinds[worker] = self.kinds[job]
        return attempt

    def _next(self, worker: Hashable) -> tuple[int, int]:
        others = {kind for other, kind in self._last_kinds.items() if other != worker}
        unclaimed = None
        for job, tries in self._waiting:
            kind = self.kinds[job]
            if worker in self._last_kinds and kind == self._last_kinds[worker]:
                return job, tries
            if unclaimed is None and kind not in others:
                unclaimed = job, tries
        return unclaimed or self._waiting[0]

    def forget_all_but(self, workers: Collection[Hashable]) -> None:
        """Frees the kinds of workers that are neither among these nor at work."""
        lost = self._last_kinds.keys() - set(workers) - self.loads().keys()
        for worker in lost:
            del self._last_kinds[worker]

    def take(self, report: Report) -> Event | None:
        """Takes note of a report. Returns the event that it is for the job, if any. A report of an
        attempt that has ended has no effect."""
        attempt = self._attempts.get(report.attempt)
        if attempt is None:
            return None
        attempt = attempt._replace(
            worker=attempt.worker if report.worker is None else report.worker
        )
        if report.kind in ("begun", "progress"):
            self._attempts[attempt.number] = attempt
            self._reports.note(attempt.number)
            return self._event(attempt, report)
        del self._attempts[attempt.number]
        self._reports.forget(attempt.number)
        if report.kind == "busy":
            self._waiting.append((attempt.job, attempt.tries))
            self._last_kinds.pop(attempt.worker, None)  # others of its kind may have to wait, too
        elif report.kind == "returned":
            self._waiting.appendleft((attempt.job, attempt.tries))
        elif report.kind in ("died", "hung") and attempt.tries < TRIES:
            self._waiting.appendleft((attempt.job, attempt.tries + 1))
        else:
            return self._event(attempt, report)
        return None

    def hanging(self) -> dict[Hashable, list[Report]]:
        """The workers of which an attempt has reported nothing for too long, and the reports that
        end the attempts that each of them has: those that hang use up a try, the others did not
        begin."""
        silent = self._reports.silent(self._timeout)
        reports: dict[Hashable, list[Report]] = {
            attempt.worker: [] for number, attempt in self._attempts.items() if number in silent
        }
        for attempt in self._attempts.values():
            if attempt.worker in reports:
                kind = "hung" if attempt.number in silent else "returned"
                reports[attempt.worker].append(Report(attempt.number, kind))
        return reports

    def _event(self, attempt: Attempt, report: Report) -> Event:
        place = self._places.setdefault(attempt.worker, len(self._places))
        return Event(attempt.job, place, report.kind, report.value)


class LastReports:
    """When each of several workers or attempts last reported something. The time while this process
    was stopped does not count: they were stopped, too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._times: dict[Hashable, float] = {}
        self._looked = clock()

    def note(self, key: Hashable) -> None:
        """It has reported something, or has just started."""
        self._times[key] = self._clock()

    def forget(self, key: Hashable) -> None:
        self._times.pop(key, None)

    def silent(self, seconds: float) -> set[Hashable]:
        """Those that have reported nothing for longer."""
        now = self._clock()
        pause, self._looked = now - self._looked, now
        if pause > STOPPED_SECONDS:
            self._times = {key: min(now, last + pause) for key, last in self._times.items()}
        return {key for key, last in self._times.items() if now - last > seconds}
