"""Cluster: jobs -> the workers of a Dask scheduler, each of which paints one picture at a time.

The job function is that of jobs.py. Pictures travel as bytes, or by a folder that all machines
share. A worker that dies or hangs costs its own picture's time: that is given to another.
"""

import contextlib
import dataclasses
import importlib.util
import io
import json
import logging
import math
import os
import queue
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from neural_style_tf.batch import jobs, scheduling
from neural_style_tf.batch.jobs import Outcome
from neural_style_tf.batch.scheduling import Attempt, Event, Report
from neural_style_tf.errors import UsageError, UserError, message_of
from neural_style_tf.machine import cpu, devices, tensorflow_setup
from neural_style_tf.pictures import files, formats
from neural_style_tf.runs import provenance
from neural_style_tf.runs.options import RunOptions, pictures, recorded_paths
from neural_style_tf.settings import BUNDLED_NETWORK

if TYPE_CHECKING:
    from distributed import Client, Future, Security

AHEAD = 3  # jobs that a worker has at a time: so the way there and back costs it nothing
FETCHED = 16  # results, at most, in one go
CONNECT_SECONDS = 10
RESTART_SECONDS = 30  # for a worker that hangs
LOOK_EVERY_SECONDS = 5.0  # for workers that came or went
# Dask looks a hundred times a second what a worker does, and wakes each of its processes fifty
# times to see whether it lags: that alone takes 3 % of two processors that are to paint.
CALM = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
ENDED = "ended"  # kind of a report: the result is to be fetched
GPU = "GPU"  # what workers call theirs: dask worker --resources GPU=1
GONE = "the scheduler has gone ({}): start it, and the batch, again"
STATUSES = "done", "kept", "failed", "busy"  # of an outcome
# The most that a picture's file can have: 16 bits of four channels, and its metadata.
PIXEL_BYTES, OTHER_BYTES = 8, 16 << 20


# What became of a picture, and its file, unless it lies where all see it.
Painted = tuple[Outcome, bytes | None]


class Parcel(NamedTuple):
    """A job as it travels. A network that does not come with the program has to be there."""

    options: RunOptions
    network: str | None  # None: the bundled one, wherever it lies there
    files: Mapping[str, bytes] | None  # the pictures, by the names that the options give; None
    # where all see the same files


def run(
    options: Sequence[RunOptions],
    address: str,
    is_shared: bool,
    here: tuple[int, int] | None = None,
    note: Callable[[str], None] = lambda _: None,
    kinds: Sequence[Hashable] = (),
    work: Callable[[Parcel, str, int], Painted] | None = None,
    timeout: float = math.inf,
    tls: Sequence[str] | None = None,
) -> Iterator[Event]:
    """Paints the pictures of the options, as `processes.run` does.

    address: of a scheduler, or "local" for one on this machine, with as many workers, of as many
    threads, as `here` says. is_shared: whether all machines see the same files. note: reports what
    there is to wait for. kinds, timeout: as in `processes.run`. work: instead of `paint_parcel`.
    tls:
    the files of the authority's certificate, ours, and its key, for a scheduler that is encrypted.

    Raises `UserError` without Dask, and if nobody answers there any more. Whoever closes the
    iterator cancels what is not done.
    """
    if not importlib.util.find_spec("distributed"):
        raise UserError("--cluster needs Dask: pip install 'neural-style-tf[cluster]'")
    if here:
        options = [dataclasses.replace(each, threads=here[1]) for each in options]
    debug = any(each.debug for each in options if isinstance(each, RunOptions))
    with (
        contextlib.nullcontext() if debug else _silent_dask(),
        _connected(address, here, tls, debug) as client,
    ):
        workers = _DaskWorkers(client, options, is_shared, note, work or paint_parcel)
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
        self._workers: list[str] = []
        self._resources: dict[str, int] | None = None
        self._looked = -math.inf

    def start(self) -> None:
        self._client.subscribe_topic(self._topic, lambda event: self._note_progress(*event[1]))

    def _note_progress(self, number: int, worker: str, steps: tuple[int, int] | None) -> None:
        """steps: done, and of how many; None where an attempt begins."""
        self._news.put(Report(number, "progress" if steps else "begun", steps, worker))

    def ready(self) -> list[str]:
        """Asks Dask's scheduler for its workers, now and then."""
        if time.monotonic() - self._looked > LOOK_EVERY_SECONDS:
            before = self._workers
            self._workers, self._resources = _workers_of(self._client)
            if not self._workers and (before or self._looked < 0):
                self._note("waiting for workers")
            self._looked = time.monotonic()
        return self._workers

    def capacity(self, waiting: int) -> int:
        """Towards the end fewer jobs, or some would wait while other workers have none."""
        return min(AHEAD, waiting, 1 + waiting // (2 * max(1, len(self._workers))))

    def send(self, attempt: Attempt, kind: Hashable) -> None:
        number = attempt.number
        try:
            parcel = pack(self._options[attempt.job], self._is_shared)
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
            outcome = _outcome_of(future, results.get(number), self._options[job], self._is_shared)
            if outcome is None:
                yield Report(number, "died")
            elif outcome.status != "busy":
                yield Report(number, "done", outcome)
            else:
                yield Report(number, "hung" if job in self._unreleased else "busy")

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
        self._workers = [other for other in self._workers if other != worker]
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


def pack(options: RunOptions, is_shared: bool) -> Parcel:
    """Raises `UserError` for an input that cannot be read."""
    network = None if Path(options.network) == BUNDLED_NETWORK else options.network
    if is_shared:
        paths = set(recorded_paths()) - {"network"}
        named = {name: provenance.each(os.path.abspath, getattr(options, name)) for name in paths}
        if network and os.path.exists(network):
            network = os.path.abspath(network)
        return Parcel(dataclasses.replace(options, **named), network, None)
    found = {}

    def read(path: str) -> None:
        with files.open_to_read(path) as file:
            found[path] = file.read()

    for name in pictures():
        provenance.each(read, getattr(options, name))
    return Parcel(dataclasses.replace(options, save_state=None), network, found)


def paint_parcel(parcel: Parcel, topic: str, number: int) -> Painted:
    """In a worker. number: of the attempt, which is reported with its progress."""
    from distributed import get_worker

    worker = get_worker()

    def tell(done: int, total: int) -> None:
        worker.log_event(topic, (number, worker.address, (done, total)))

    with _painting:  # one at a time, however many threads the worker has
        worker.log_event(topic, (number, worker.address, None))
        device = _device(parcel.options.debug, parcel.options.threads)
        options = dataclasses.replace(
            parcel.options, network=parcel.network or str(BUNDLED_NETWORK)
        )
        if parcel.files is None:
            return jobs.paint(options, device, tell), None
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                path: _unpacked(path, data, os.path.join(folder, str(place)))
                for place, (path, data) in enumerate(parcel.files.items())
            }
            output = options.output
            options = dataclasses.replace(
                options,
                output=os.path.join(folder, os.path.basename(output)),
                **{
                    name: provenance.each(paths.__getitem__, getattr(options, name))
                    for name in pictures()
                },
            )
            outcome = jobs.paint(options, device, tell)
            outcome = outcome._replace(message=outcome.message.replace(options.output, output))
            data = Path(options.output).read_bytes() if outcome.status == "done" else None
            return outcome, data


_painting = threading.Lock()
_devices: list[str] = []


def _device(debug: bool, threads: int | None) -> str:
    """TensorFlow is started once in a worker."""
    if not _devices:
        _devices.append(tensorflow_setup.start(debug, threads))
    return _devices[0]


def _unpacked(path: str, data: bytes, folder: str) -> str:
    """A file of the same name, in a folder of its own."""
    os.mkdir(folder)
    copy = os.path.join(folder, os.path.basename(path))
    Path(copy).write_bytes(data)
    return copy


def _all_in(news: "queue.SimpleQueue[Report]") -> Iterator[Report]:
    """All reports that have arrived, but no more than are fetched at once. Waits a second for the
    first."""
    with contextlib.suppress(queue.Empty):
        yield news.get(timeout=1)
        for _ in range(FETCHED - 1):
            yield news.get_nowait()


def _fetched(done: Mapping[int, "Future"]) -> dict[int, Any]:
    """What became of those that have come to a good end, by one question for all: to ask for each
    would cost more than all else that is done for it here. Nothing where one has got lost since."""
    finished = {number: future for number, future in done.items() if future.status == "finished"}
    if not finished:
        return {}
    client = next(iter(finished.values())).client
    with contextlib.suppress(Exception):
        return dict(zip(finished, client.gather(list(finished.values())), strict=True))
    return {}


def _outcome_of(
    future: "Future", fetched: Any, options: RunOptions, is_shared: bool
) -> Outcome | None:
    """None if it was lost, as it is when its worker dies again and again. fetched: the result, if
    it is here already."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        result = future.result() if fetched is None else fetched
    except (KilledWorker, CancelledError):
        return None
    except Exception as error:  # as Dask brings it from the worker
        return jobs.failed(files.in_short(error))
    if not _is_sound(result, is_shared):
        return jobs.failed(
            f"{options.output}: the worker sent back no result of this program: install the same "
            "version on all machines"
        )
    outcome, data = result
    if data is None:
        return outcome
    try:
        _check_picture(data, options.output)
        with files.claim(options.output) as is_ours:  # another batch may have been faster
            if not is_ours:
                return Outcome("busy")
            there = jobs.there_already(options)
            if not there:
                files.write(options.output, data)
            return there or outcome
    except UserError as error:
        return jobs.failed(message_of(error))._replace(settings=outcome.settings)


def _is_sound(result: Any, is_shared: bool) -> bool:
    """Whether what came from a worker is of the types of `Painted`, throughout."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Outcome)):
        return False
    outcome, data = result
    sends_picture = outcome.status == "done" and not is_shared
    if not isinstance(data, bytes if sends_picture else type(None)):
        return False
    if not (isinstance(outcome.losses, Mapping) and isinstance(outcome.settings, Mapping)):
        return False
    try:
        json.dumps(dict(outcome.settings))
    except (TypeError, ValueError, RecursionError):
        return False
    return (
        outcome.status in STATUSES
        and isinstance(outcome.message, str)
        and isinstance(outcome.seconds, float | int)
        and math.isfinite(outcome.seconds)
        and all(isinstance(name, str) for name in (*outcome.losses, *outcome.settings))
        and all(isinstance(loss, float | int) for loss in outcome.losses.values())
    )


def _check_picture(data: bytes, path: str) -> None:
    """Raises `UserError` unless the bytes are a picture's file of the format of `path`, and not
    far more than its pixels take."""
    wanted = formats.FORMATS[Path(path).suffix.lower()]
    pixels = math.inf
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large picture
            with Image.open(io.BytesIO(data), formats=[wanted]) as image:
                pixels = image.width * image.height
                image.verify()
    except Image.DecompressionBombError:
        pass  # Pillow's word for a picture that is larger still
    except (OSError, ValueError, SyntaxError, EOFError, IndexError) as error:
        raise UserError(
            f"{path}: the worker sent back something other than a {wanted} file "
            f"({files.reason(error)}): try again, or look at that worker"
        ) from error
    if len(data) > PIXEL_BYTES * pixels + OTHER_BYTES:
        raise UserError(
            f"{path}: the worker sent back {len(data) / 1e6:.0f} MB for {pixels / 1e6:.1f} "
            "megapixels: look at that worker"
        )


@contextlib.contextmanager
def _silent_dask() -> Iterator[None]:
    """Hides what Dask logs of workers that come and go: the batch reports what matters."""
    import distributed  # which gives some of its loggers levels of their own

    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = {name: logging.getLogger(name).level for name in [distributed.__name__, *names]}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _connected(
    address: str, here: tuple[int, int] | None, tls: Sequence[str] | None, debug: bool
) -> Iterator["Client"]:
    import dask
    from distributed import Client, LocalCluster

    security = _security(address, tls)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(CALM))
        if address == "local":
            count, threads = here or (cpu.threads(), 1)
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address=":0",
                resources={GPU: 1} if devices.seems_to_have_gpu() else None,
                env={"TF_NUM_INTRAOP_THREADS": str(threads)},
                silence_logs=logging.WARNING if debug else logging.CRITICAL,
            )
            address = stack.enter_context(cluster)
        try:
            client = Client(
                address,
                timeout=CONNECT_SECONDS,
                set_as_default=False,
                security=security,
            )
        except Exception as error:  # Dask has many names for it
            raise UserError(
                f"no scheduler at {address} ({files.reason(error)}): start one with "
                "'dask scheduler', or use --cluster local"
            ) from error
        yield stack.enter_context(client)


def _security(address: str, tls: Sequence[str] | None) -> "Security":
    """What Dask is to encrypt with: these files, or those that its own settings name. Raises
    `UsageError` for an address that needs some where there are none."""
    from distributed import Security

    if tls:
        names = "tls_ca_file", "tls_client_cert", "tls_client_key"
        return Security(**dict(zip(names, tls, strict=True)), require_encryption=True)
    security = Security()
    if address.startswith("tls://") and not security.get_connection_args("client")["ssl_context"]:
        raise UsageError(f"--cluster {address} is encrypted: it requires --cluster-tls")
    return security


def _workers_of(client: "Client") -> tuple[list[str], dict[str, int] | None]:
    """Their addresses; and what a picture takes of one: its GPU, if one has one."""
    try:
        found = client.scheduler_info(n_workers=-1).get("workers")
    except Exception as error:  # Dask has many names for it
        raise UserError(GONE.format(files.reason(error))) from error
    if found is None:  # as it is while Dask tries to connect again
        raise UserError(GONE.format("no answer"))
    has_gpu = any(GPU in worker["resources"] for worker in found.values())
    return list(found), {GPU: 1} if has_gpu else None
