"""Programs that run while a test goes on, forked from a process that has imported TensorFlow and
Dask but started neither: they begin at once. POSIX only.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from neural_style_tf.batch import preload, processes  # noqa: F401
from neural_style_tf.commands import batch
from neural_style_tf.runs import stopping

with contextlib.suppress(ImportError):
    from distributed.cli import dask_scheduler, dask_worker


class Forked:
    """A function that runs in a process of its own, in a session of its own. What a test needs of
    `subprocess.Popen`, with text on stderr."""

    def __init__(self, function, arguments, cwd):
        if not hasattr(os, "fork"):
            pytest.skip("programs are forked here, which this system cannot")
        self._stderr = tempfile.NamedTemporaryFile("r", suffix=".stderr")  # noqa: SIM115
        place = str(cwd), self._stderr.name
        # this very module, by the name that tests import it by
        context = processes._context("forked")
        self._process = context.Process(
            target=_run, args=(function, [*map(str, arguments)], *place), daemon=False
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        """The exit status. Raises `TimeoutError`."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(self.errors())
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return None, self.errors()

    def errors(self):
        """What it has written to stderr."""
        return Path(self._stderr.name).read_text(errors="replace")

    def kill(self):
        """Kills it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()


def _run(function, arguments, cwd, stderr):
    os.setsid()
    os.chdir(cwd)
    for number, path in enumerate((os.devnull, os.devnull, stderr)):
        os.dup2(os.open(path, os.O_RDWR), number)
    # the process that this one is forked from has them blocked
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, processes.SIGNALS)
    try:
        status = function(arguments)
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    stopping.leave(status)


def run_batch(arguments):
    """batch.py, with workers forked from the process itself: TensorFlow is not started yet."""
    processes._context = lambda _: multiprocessing.get_context("fork")
    return batch.main(arguments)


def run_dask_worker(arguments):
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    dask_worker.main.main(arguments, standalone_mode=False)
    return 0


def run_dask_scheduler(arguments):
    dask_scheduler.main.main(arguments, standalone_mode=False)
    return 0
