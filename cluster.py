"""Cluster: jobs -> the workers of a Dask scheduler, each of which paints one picture at a time.

The job function is that of jobs.py. Pictures travel as bytes, or by a folder that all machines
share. A worker that dies costs its own picture's time: Dask gives that to another.
"""

import argparse
import contextlib
import importlib.util
import os
import queue
import tempfile
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import files
import hardware
import jobs
import provenance
from jobs import Outcome
from options import NETWORK
from settings import UserError
from workers import Event

if TYPE_CHECKING:
    from distributed import Client

AHEAD = 2  # jobs a thread of the cluster that are sent before it has time for them
CONNECT_SECONDS = 10
GPU = "GPU"  # what workers call theirs: dask worker --resources GPU=1


class Parcel(NamedTuple):
    """A job as it travels."""

    options: argparse.Namespace
    files: Mapping[str, bytes] | None  # the inputs, by the names that the options give; None where
    # all see the same files


def run(
    options: Sequence[argparse.Namespace],
    address: str,
    is_shared: bool,
    work: Callable[[Parcel, str, int], tuple[Outcome, bytes | None]] | None = None,
) -> Iterator[Event]:
    """Paints the pictures of the options, as `workers.run` does. address: of a scheduler, or
    "local". is_shared: whether all machines see the same files. work: instead of `paint_parcel`.

    Raises `UserError` without Dask, or if nobody answers there. Whoever closes the iterator cancels
    what is not done.
    """
    if not importlib.util.find_spec("distributed"):
        raise UserError("--cluster needs Dask: pip install -r requirements-cluster.txt")
    topic, told = f"neural-style-{uuid.uuid4().hex}", queue.SimpleQueue()
    waiting, places = deque(range(len(options))), {}
    with _connected(address) as client:
        client.subscribe_topic(topic, lambda event: told.put(("told", event[1])))
        threads, resources = _of_workers(client)
        futures = {}

        def submit(number: int) -> None:
            parcel = pack(options[number], is_shared)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of large ones: a picture is large
                future = client.submit(
                    work or paint_parcel, parcel, topic, number, pure=False, resources=resources
                )
            futures[number] = future
            future.add_done_callback(lambda _: told.put(("done", number)))

        try:
            while waiting or futures:
                while waiting and len(futures) < AHEAD * threads:
                    number = waiting.popleft()
                    try:
                        submit(number)
                    except UserError as error:
                        yield Event(number, 0, "done", jobs.failed(str(error)))
                try:
                    kind, value = told.get(timeout=1)
                except queue.Empty:
                    threads = max(threads, _of_workers(client)[0])  # more may have come
                    continue
                if kind == "told":
                    number, worker, steps = value
                    yield Event(number, places.setdefault(worker, len(places)), "told", steps)
                    continue
                future = futures.pop(value)
                outcome = _outcome_of(future, options[value])
                if outcome is None:
                    yield Event(value, 0, "died")
                elif outcome.status == "busy":
                    waiting.append(value)
                else:
                    yield Event(value, 0, "done", outcome)
        finally:
            client.cancel(list(futures.values()))


def pack(options: argparse.Namespace, is_shared: bool) -> Parcel:
    """Raises `UserError` for an input that cannot be read."""
    network = None if Path(options.network) == NETWORK else options.network
    if is_shared:
        named = {
            name: provenance.each(os.path.abspath, getattr(options, name))
            for name in provenance.PICTURES
        }
        for name in ("output", "save_state"):
            named[name] = provenance.each(os.path.abspath, getattr(options, name))
        return Parcel(argparse.Namespace(**vars(options) | named | {"network": network}), None)
    found = {}

    def read(path: str) -> None:
        with files.open_to_read(path) as file:
            found[path] = file.read()

    for name in provenance.PICTURES:
        provenance.each(read, getattr(options, name))
    told = {"network": network, "save_state": None}
    return Parcel(argparse.Namespace(**vars(options) | told), found)


def paint_parcel(parcel: Parcel, topic: str, number: int) -> tuple[Outcome, bytes | None]:
    """In a worker: what became of the picture, and its file, unless it lies where all see it."""
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
            for name in provenance.PICTURES:
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


def _outcome_of(future: Any, options: argparse.Namespace) -> Outcome | None:
    """None if it was lost: its workers died."""
    from distributed.scheduler import KilledWorker

    try:
        outcome, data = future.result()
    except KilledWorker:
        return None
    except Exception as error:  # as Dask brings it from the worker
        return jobs.failed(f"{type(error).__name__}: {files.reason(error)}")
    if data is not None:
        try:
            files.write(options.output, data)
        except UserError as error:
            return jobs.failed(str(error))._replace(settings=outcome.settings)
    return outcome


@contextlib.contextmanager
def _connected(address: str) -> Iterator["Client"]:
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if address == "local":
            cores = hardware.threads()
            os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # a processor for each of its workers
            cluster = LocalCluster(
                n_workers=cores, threads_per_worker=1, memory_limit=None, dashboard_address=None
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


def _of_workers(client: "Client") -> tuple[int, dict[str, int] | None]:
    """The threads of all, at least one; and what a picture takes of a worker: its GPU, if one
    has one."""
    found = client.scheduler_info(n_workers=-1)["workers"].values()
    has_gpu = any(GPU in worker["resources"] for worker in found)
    return max(1, sum(worker["nthreads"] for worker in found)), {GPU: 1} if has_gpu else None
