"""Cluster: jobs -> the workers of a Dask scheduler, each of which paints one picture at a time.

The job function is that of jobs.py. Pictures travel as bytes, or by a folder that all machines
share. A worker that dies costs its own picture's time: Dask gives that to another.
"""

import argparse
import contextlib
import importlib.util
import math
import os
import queue
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import access
import files
import hardware
import jobs
import provenance
from jobs import Outcome
from options import NETWORK
from settings import UserError
from workers import TRIES, Event, next_job, of_one_kind

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 3  # jobs that a worker has at a time: so the way there and back costs it nothing
FETCHED = 16  # results, at most, in one go
CONNECT_SECONDS = 10
LOOK_EVERY_SECONDS = 5.0  # for workers that came or went
# Dask looks a hundred times a second what a worker does, and wakes each of its processes fifty
# times to see whether it lags: that alone takes 3 % of two processors that are to paint.
CALM = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
GPU = "GPU"  # what workers call theirs: dask worker --resources GPU=1


# What became of a picture, and its file, unless it lies where all see it.
Painted = tuple[Outcome, bytes | None]


class Parcel(NamedTuple):
    """A job as it travels. A network that does not come with the program has to be there."""

    options: argparse.Namespace
    files: Mapping[str, bytes] | None  # the pictures, by the names that the options give; None
    # where all see the same files


def run(
    options: Sequence[argparse.Namespace],
    address: str,
    is_shared: bool,
    here: tuple[int, int] | None = None,
    note: Callable[[str], None] = lambda _: None,
    kinds: Sequence[Hashable] = (),
    work: Callable[[Parcel, str, int], Painted] | None = None,
) -> Iterator[Event]:
    """Paints the pictures of the options, as `workers.run` does.

    address: of a scheduler, or "local" for one on this machine, with as many workers, of as many
    threads, as `here` says. is_shared: whether all machines see the same files. note: told what
    there is to wait for. kinds: as in `workers.run`. work: instead of `paint_parcel`.

    Raises `UserError` without Dask, and if nobody answers there any more. Whoever closes the
    iterator cancels what is not done.
    """
    if not importlib.util.find_spec("distributed"):
        raise UserError("--cluster needs Dask: pip install -r requirements-cluster.txt")
    if here:
        threads = {"threads": here[1]}
        options = [argparse.Namespace(**vars(one) | threads) for one in options]
    topic, told = f"neural-style-{uuid.uuid4().hex}", queue.SimpleQueue()
    waiting, places = deque((number, 1) for number in range(len(options))), {}
    with _connected(address, here) as client:
        client.subscribe_topic(topic, lambda event: told.put(("told", event[1])))
        kinds = kinds or of_one_kind(options)
        futures, tried, given, latest = {}, {}, {}, {}  # by job; the last two: worker, and its kind
        looked, found, resources = -math.inf, [], None
        try:
            while waiting or futures:
                if time.monotonic() - looked > LOOK_EVERY_SECONDS:
                    before, (found, resources) = found, _workers_of(client)
                    if not found and (before or looked < 0):
                        note("waiting for workers")
                    looked = time.monotonic()
                has = Counter(given[number] for number in futures)
                while free := [one for one in found if has[one] < _ahead(waiting, found)]:
                    worker = min(free, key=lambda one: has[one])
                    others = {kind for one, kind in latest.items() if one != worker}
                    number, tries = next_job(waiting, kinds, latest.get(worker), others)
                    try:
                        parcel = pack(options[number], is_shared)
                    except UserError as error:
                        yield Event(number, 0, "done", jobs.failed(str(error)))
                        continue
                    future = _submit(
                        client,
                        (work or paint_parcel, parcel, topic, number),
                        {"workers": [worker], "allow_other_workers": True, "resources": resources},
                    )
                    future.add_done_callback(lambda _, one=number: told.put(("done", one)))
                    futures[number], tried[number] = future, tries
                    given[number], latest[worker] = worker, kinds[number]
                    has[worker] += 1
                done = {}
                for kind, value in _all_in(told):
                    if kind == "told":
                        number, worker, steps = value
                        yield Event(number, places.setdefault(worker, len(places)), "told", steps)
                    else:
                        done[value] = futures.pop(value)
                fetched = _fetched(client, done)
                for number, future in done.items():
                    outcome = _outcome_of(future, fetched.get(number), options[number])
                    if outcome is not None and outcome.status != "busy":
                        yield Event(number, 0, "done", outcome)
                    elif outcome is not None:
                        waiting.append((number, tried[number]))
                    elif tried[number] < TRIES:
                        waiting.append((number, tried[number] + 1))
                    else:
                        yield Event(number, 0, "died")
        finally:
            with contextlib.suppress(Exception):  # whatever is left of a cluster that is gone
                client.cancel(list(futures.values()))


def _ahead(waiting: Collection, workers: Collection) -> int:
    """How many jobs a worker may have: towards the end fewer, lest some wait where others rest."""
    return min(AHEAD, len(waiting), 1 + len(waiting) // (2 * len(workers)))


def _submit(client: "Client", call: tuple, where: dict[str, Any]) -> "Future":
    """The future of a call, a function and its arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large arguments: a picture is large
        try:
            return client.submit(*call, pure=False, **where)
        except Exception as error:  # Dask has many names for it
            raise UserError(
                f"the scheduler is gone ({files.reason(error)}): start it, and the batch, again"
            ) from error


def pack(options: argparse.Namespace, is_shared: bool) -> Parcel:
    """Raises `UserError` for an input that cannot be read."""
    network = None if Path(options.network) == NETWORK else options.network
    if is_shared:
        paths = (*access.PICTURES, "output", "save_state", "checkpoint_output")
        named = {name: provenance.each(os.path.abspath, getattr(options, name)) for name in paths}
        if network and os.path.exists(network):
            network = os.path.abspath(network)
        return Parcel(argparse.Namespace(**vars(options) | named | {"network": network}), None)
    found = {}

    def read(path: str) -> None:
        with files.open_to_read(path) as file:
            found[path] = file.read()

    for name in access.PICTURES:
        provenance.each(read, getattr(options, name))
    told = {"network": network, "save_state": None}
    return Parcel(argparse.Namespace(**vars(options) | told), found)


def paint_parcel(parcel: Parcel, topic: str, number: int) -> Painted:
    """In a worker."""
    from distributed import get_worker

    worker = get_worker()

    def tell(done: int, total: int) -> None:
        worker.log_event(topic, (number, worker.address, (done, total)))

    with _painting:  # one at a time, however many threads the worker has
        device = _device(parcel.options.debug, parcel.options.threads)
        options = argparse.Namespace(**vars(parcel.options))
        options.network = options.network or NETWORK
        if parcel.files is None:
            return jobs.paint(options, device, tell), None
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                path: _unpacked(path, data, os.path.join(folder, str(place)))
                for place, (path, data) in enumerate(parcel.files.items())
            }
            for name in access.PICTURES:
                setattr(options, name, provenance.each(paths.__getitem__, getattr(options, name)))
            output = options.output
            options.output = os.path.join(folder, os.path.basename(output))
            outcome = jobs.paint(options, device, tell)
            outcome = outcome._replace(message=outcome.message.replace(options.output, output))
            data = Path(options.output).read_bytes() if outcome.status == "done" else None
            return outcome, data


_painting = threading.Lock()
_devices: list[str] = []


def _device(debug: bool, threads: int | None) -> str:
    """TensorFlow is started once in a worker."""
    if not _devices:
        _devices.append(hardware.start_tensorflow(debug, threads))
    return _devices[0]


def _unpacked(path: str, data: bytes, folder: str) -> str:
    """A file of the same name, in a folder of its own."""
    os.mkdir(folder)
    copy = os.path.join(folder, os.path.basename(path))
    Path(copy).write_bytes(data)
    return copy


def _all_in(told: "queue.SimpleQueue[tuple[str, Any]]") -> Iterator[tuple[str, Any]]:
    """What was told; waits a second for the first, and gives no more than is fetched at once."""
    with contextlib.suppress(queue.Empty):
        yield told.get(timeout=1)
        for _ in range(FETCHED - 1):
            yield told.get_nowait()


def _fetched(client: "Client", done: Mapping[int, "Future"]) -> dict[int, Painted]:
    """What became of those that have come to a good end, by one question for all: to ask for each
    would cost more than all else that is done for it here. Nothing where one has got lost since."""
    finished = {number: future for number, future in done.items() if future.status == "finished"}
    with contextlib.suppress(Exception):
        return dict(zip(finished, client.gather(list(finished.values())), strict=True))
    return {}


def _outcome_of(
    future: "Future", fetched: Painted | None, options: argparse.Namespace
) -> Outcome | None:
    """None if it was lost, as it is when its worker dies again and again."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        outcome, data = fetched or future.result()
    except (KilledWorker, CancelledError):
        return None
    except Exception as error:  # as Dask brings it from the worker
        return jobs.failed(f"{type(error).__name__}: {files.reason(error)}")
    if data is None:
        return outcome
    try:
        with files.claim(options.output) as is_ours:  # another batch may have been faster
            if not is_ours:
                return Outcome("busy")
            there = jobs.there_already(options)
            if not there:
                files.write(options.output, data)
            return there or outcome
    except UserError as error:
        return jobs.failed(str(error))._replace(settings=outcome.settings)


@contextlib.contextmanager
def _connected(address: str, here: tuple[int, int] | None) -> Iterator["Client"]:
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(CALM))
        if address == "local":
            count, threads = here or (hardware.threads(), 1)
            os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)  # each worker's
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address=":0",
                resources={GPU: 1} if hardware.seems_to_have_gpu() else None,
            )
            address = stack.enter_context(cluster)
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no scheduler at {address} ({files.reason(error)}): start one with "
                "'dask scheduler', or give --cluster local"
            ) from error
        yield stack.enter_context(client)


def _workers_of(client: "Client") -> tuple[list[str], dict[str, int] | None]:
    """Their addresses; and what a picture takes of one: its GPU, if one has one."""
    found = client.scheduler_info(n_workers=-1)["workers"]
    has_gpu = any(GPU in worker["resources"] for worker in found.values())
    return list(found), {GPU: 1} if has_gpu else None
