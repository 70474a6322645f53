"""Dask: jobs -> the workers of a Dask scheduler, each of which paints one picture at a time.

The job function is that of jobs.py. A worker that dies or hangs costs only the time of its own
picture, which is given to another worker.
"""

import contextlib
import dataclasses
import math
import queue
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from neural_style_tf.batch import dask_connection, jobs, parcels, scheduling
from neural_style_tf.batch.dask_connection import GONE, NOT_INSTALLED, PACKAGE
from neural_style_tf.batch.parcels import Painted, Parcel
from neural_style_tf.batch.scheduling import Attempt, Event, Report
from neural_style_tf.errors import UserError, message_of
from neural_style_tf.pictures import files
from neural_style_tf.runs.options import RunOptions

if TYPE_CHECKING:
    from distributed import Client, Future

JOBS_AHEAD = 3  # per worker, so that it never waits for the next one to arrive
MAX_FETCHED = 16  # results at once
RESTART_SECONDS = 30  # for a worker that hangs
LOOK_EVERY_SECONDS = 5.0  # for workers that came or went
NO_ATTEMPT = -1
ENDED = "ended"  # kind of a report: the result is to be fetched


def run(
    options: Sequence[RunOptions],
    address: str,
    is_shared: bool,
    local_workers: tuple[int, int] | None = None,
    note: Callable[[str], None] = lambda text: None,
    kinds: Sequence[Hashable] = (),
    work: Callable[[Parcel, str, int], Painted] = parcels.paint,
    timeout: float = math.inf,
    tls_files: Sequence[str] | None = None,
) -> Generator[Event, None, None]:
    """Paints the pictures of the options, as `processes.run` does.

    address: of a scheduler, or "local" for one on this machine, with as many workers and threads
    per worker as `local_workers` says. is_shared: all machines see the same files. note: called
    with a line on what is waited for. kinds, timeout: as in `processes.run`. work: what a worker
    does with a parcel, the topic of its reports and the number of the attempt. tls_files: the
    authority's certificate, the own one and its key, for an encrypted scheduler.

    Raises `UserError` if Dask is missing, or if the scheduler does not answer (any more). What is
    not done is cancelled when the iterator is closed.
    """
    if not find_spec("distributed"):
        raise UserError("--cluster needs Dask: pip install 'neural-style-tf[cluster]'")
    if local_workers:
        options = [dataclasses.replace(picture, threads=local_workers[1]) for picture in options]
    debug = any(picture.debug for picture in options)
    with (
        contextlib.nullcontext() if debug else dask_connection.silent(),
        dask_connection.connected(address, local_workers, tls_files, debug) as client,
    ):
        workers = _DaskWorkers(client, options, is_shared, note, work)
        yield from scheduling.run(kinds or [None] * len(options), workers, timeout)


class _DaskWorkers:
    """The `Workers` of the scheduler, by their addresses."""

    def __init__(
        self,
        client: "Client",
        options: Sequence[RunOptions],
        is_shared: bool,
        note: Callable[[str], None],
        work: Callable[[Parcel, str, int], Painted],
    ):
        self._client, self._options, self._is_shared = client, options, is_shared
        self._note, self._work = note, work
        self._topic = f"neural-style-{uuid.uuid4().hex}"
        self._news: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._jobs: dict[int, int] = {}  # by attempt
        self._futures: dict[int, Future] = {}  # by attempt
        self._unreleased: set[int] = set()  # jobs that a worker has which hangs and still runs
        self._addresses: list[str] = []
        self._workers: list[str] = []  # those that have this package installed
        self._checks: dict[str, Future | bool] = {}  # whether they have, by address
        self._noted: set[str] = set()  # those that have not, once that is reported
        self._resources: dict[str, int] | None = None
        self._looked = -math.inf

    def start(self) -> None:
        self._client.subscribe_topic(self._topic, lambda event: self._note_progress(*event[1]))

    def _note_progress(self, number: int, worker: str, steps: tuple[int, int] | None) -> None:
        """steps: done, and of how many; None where an attempt begins."""
        self._news.put(Report(number, "progress" if steps else "begun", steps, worker))

    def ready(self) -> list[str]:
        """The workers that can import this package, of those that Dask's scheduler lists."""
        if time.monotonic() - self._looked > LOOK_EVERY_SECONDS:
            before = self._addresses
            self._addresses, self._resources = dask_connection.workers_of(self._client)
            if not self._addresses and (before or self._looked < 0):
                self._note("waiting for workers")
            self._looked = time.monotonic()
        self._workers = [address for address in self._addresses if self._is_installed(address)]
        missing = [address for address in self._addresses if self._checks.get(address) is False]
        if missing and missing == self._addresses:
            raise UserError(NOT_INSTALLED.format(missing[0]))
        for address in missing:
            if address not in self._noted:
                self._noted.add(address)
                self._note(NOT_INSTALLED.format(address))
        return self._workers

    def _is_installed(self, worker: str) -> bool:
        """Whether a worker can import this package. Asked once: a worker that cannot would end with
        its first picture."""
        check = self._checks.get(worker)
        if check is None:
            check = _submit(self._client, (find_spec, PACKAGE), {"workers": [worker]})
            check.add_done_callback(lambda _: self._news.put(Report(NO_ATTEMPT, ENDED)))
            self._checks[worker] = check
        if isinstance(check, bool):
            return check
        if not check.done():
            return False
        try:
            self._checks[worker] = check.result() is not None
        except Exception:  # the answer has got lost: ask again, if the worker is still listed
            del self._checks[worker]
        return self._checks.get(worker) is True

    def capacity(self, waiting: int) -> int:
        """Towards the end fewer jobs, or some would wait while other workers have none."""
        return min(JOBS_AHEAD, waiting, 1 + waiting // (2 * max(1, len(self._workers))))

    def send(self, attempt: Attempt, kind: Hashable) -> None:
        number = attempt.number
        try:
            parcel = parcels.pack(self._options[attempt.job], self._is_shared)
        except UserError as error:
            self._news.put(Report(number, "done", jobs.failed(message_of(error))))
            return
        call = self._work, parcel, self._topic, number
        options = {"workers": [attempt.worker], "allow_other_workers": True}
        future = _submit(self._client, call, options | {"resources": self._resources})
        self._jobs[number], self._futures[number] = attempt.job, future
        future.add_done_callback(lambda _: self._news.put(Report(number, ENDED)))

    def receive(self) -> Iterator[Report]:
        ended = []
        for report in _all_in(self._news):
            if report.kind != ENDED:
                yield report
            elif report.attempt in self._futures:
                ended.append(report.attempt)
        futures = {number: self._futures.pop(number) for number in ended}
        results = _fetched(futures)
        for number, future in futures.items():
            job = self._jobs[number]
            outcome = self._outcome(future, results.get(number), self._options[job])
            if outcome is None:
                yield Report(number, "died")
            elif outcome.status != "busy":
                yield Report(number, "done", outcome)
            else:
                yield Report(number, "hung" if job in self._unreleased else "busy")

    def _outcome(self, future: "Future", result: Any, options: RunOptions) -> jobs.Outcome | None:
        """None if the job was lost, as it is when its workers die again and again. result: None if
        it has not been fetched yet."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        try:
            result = future.result() if result is None else result
        except (KilledWorker, CancelledError):
            return None
        except Exception as error:  # as Dask brings it from the worker
            return jobs.failed(files.in_short(error))
        return parcels.unpack(result, options, self._is_shared)

    def replace(self, worker: Hashable, ends: Sequence[Report]) -> None:
        """Dask's nanny can restart a worker. One without a nanny is left out."""
        hung = {self._jobs[end.attempt] for end in ends if end.kind == "hung"}
        for end in ends:
            future = self._futures.pop(end.attempt, None)
            if future:
                future.cancel(reason="its worker hangs", force=True)
        restarted = {}
        with contextlib.suppress(Exception):  # Dask raises many types
            restarted = self._client.restart_workers([worker], RESTART_SECONDS, False)
        if restarted.get(worker) != "OK":
            self._unreleased |= hung
            self._note(f"{worker} hangs and cannot be restarted: left out, end it yourself")
            with contextlib.suppress(Exception):
                self._client.retire_workers([worker])
        self._addresses = [address for address in self._addresses if address != worker]
        self._looked = 0.0  # look again at once, but say nothing new

    def stop(self) -> None:
        """Cancels what is not done, also where the cluster has gone."""
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._futures.values()))


def _submit(client: "Client", call: tuple, options: dict[str, Any]) -> "Future":
    """The future of a call, a function and its arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large arguments: a picture is large
        try:
            return client.submit(*call, pure=False, **options)
        except Exception as error:  # Dask raises many types
            raise UserError(GONE.format(files.reason(error))) from error


def _all_in(news: "queue.SimpleQueue[Report]") -> Iterator[Report]:
    """All reports that have arrived, but no more than are fetched at once. Waits a second for the
    first."""
    with contextlib.suppress(queue.Empty):
        yield news.get(timeout=1)
        for _ in range(MAX_FETCHED - 1):
            yield news.get_nowait()


def _fetched(futures: Mapping[int, "Future"]) -> dict[int, Any]:
    """The results of those that have finished, fetched at once: to ask for each of them would take
    longer than everything else that is done for it here. Empty if one has got lost since."""
    finished = {number: future for number, future in futures.items() if future.status == "finished"}
    if not finished:
        return {}
    client = next(iter(finished.values())).client
    with contextlib.suppress(Exception):
        return dict(zip(finished, client.gather(list(finished.values())), strict=True))
    return {}
