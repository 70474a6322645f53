"""A connection to Dask: to a scheduler elsewhere, or to one that is started on this machine."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from neural_style_tf.batch import tls
from neural_style_tf.errors import UserError
from neural_style_tf.machine import cpu, devices
from neural_style_tf.pictures import files

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

CONNECT_SECONDS = 10
# Dask samples a hundred times a second what a worker does, and wakes each of its processes fifty
# times a second to see whether it lags: that alone takes 3 % of two processors.
LESS_POLLING = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
}
PACKAGE = __name__.partition(".")[0]
NOT_INSTALLED = (
    f"{{}} cannot import {PACKAGE}: run pip install 'neural-style-tf[cluster]' in the environment "
    "of the scheduler and of each worker"
)
GPU = "GPU"  # the resource of a worker that has one: dask worker --resources GPU=1
GONE = "the scheduler has gone ({}): start it, and the batch, again"


@contextlib.contextmanager
def connected(
    address: str,
    local_workers: tuple[int, int] | None,
    tls_files: Sequence[str] | None,
    debug: bool,
) -> Iterator["Client"]:
    """A client of the scheduler at an address; of a new one on this machine for "local", with as
    many workers and threads per worker as `local_workers` says."""
    import dask
    from distributed import Client

    security = tls.security(address, tls_files)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(LESS_POLLING))
        if address == "local":
            count, threads = local_workers or (cpu.threads(), 1)
            address = stack.enter_context(_local_cluster(count, threads, debug))
        try:
            client = Client(
                address, timeout=CONNECT_SECONDS, set_as_default=False, security=security
            )
        except Exception as error:  # Dask raises many types
            raise UserError(
                f"no scheduler at {address} ({files.reason(error)}): start one with "
                "'dask scheduler', or use --cluster local"
            ) from error
        stack.enter_context(client)
        if client.run_on_scheduler(find_spec, PACKAGE) is None:
            raise UserError(NOT_INSTALLED.format(address))
        yield client


def _local_cluster(count: int, threads: int, debug: bool) -> "LocalCluster":
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=None,
        dashboard_address=":0",
        resources={GPU: 1} if devices.has_gpu() else None,
        env={"TF_NUM_INTRAOP_THREADS": str(threads)},
        silence_logs=logging.WARNING if debug else logging.CRITICAL,
    )


def workers_of(client: "Client") -> tuple[list[str], dict[str, int] | None]:
    """The addresses of the workers; and what a picture needs of a worker: its GPU, if any has one.

    Raises `UserError` if the scheduler does not answer.
    """
    try:
        workers = client.scheduler_info(n_workers=-1).get("workers")
    except Exception as error:  # Dask raises many types
        raise UserError(GONE.format(files.reason(error))) from error
    if workers is None:  # as it is while Dask tries to connect again
        raise UserError(GONE.format("no answer"))
    has_gpu = any(GPU in worker["resources"] for worker in workers.values())
    return list(workers), {GPU: 1} if has_gpu else None


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Hides what Dask logs about workers that come and go: the batch reports what matters."""
    import distributed  # it gives some of its loggers levels of their own

    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = {name: logging.getLogger(name).level for name in [distributed.__name__, *names]}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
