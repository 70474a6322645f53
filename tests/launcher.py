"""The command line in processes of their own, forked where TensorFlow is imported but not yet
started: a test waits for what its command does, not for imports.
"""

import gc
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 12 * 10**9  # of addresses: so that a command cannot make the machine swap


class Launcher:
    """The process that commands are forked from, within its context.

    network: a file that most commands read; this process reads it once for all of them.
    """

    def __init__(self, network):
        self._network = network

    def __enter__(self):
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self._network)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        """Ends it with an empty line: its input may stay open in a process forked meanwhile."""
        print(file=self._server.stdin)
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()

    def run(self, arguments, cwd, timeout=600, program="neural_style", environment=None):
        """Like `subprocess.run([sys.executable, "neural_style.py", *arguments])` with its output
        captured as text, and its peak memory in megabytes. program: "neural_style", or "batch",
        whose workers are forked from it. environment: variables to set, or to remove if None."""
        arguments = [*map(str, arguments)]
        with tempfile.TemporaryDirectory() as place:
            names = [os.path.join(place, name) for name in ("stdout", "stderr")]
            request = {"arguments": arguments, "cwd": str(cwd), "names": names, "timeout": timeout}
            request |= {"program": program, "environment": environment or {}}
            print(json.dumps(request), file=self._server.stdin, flush=True)
            status, megabytes = json.loads(self._server.stdout.readline())
            output = [Path(name).read_text(errors="replace") for name in names]
        if status is None:
            raise subprocess.TimeoutExpired(arguments, timeout, *output)
        result = subprocess.CompletedProcess(arguments, status, *output)
        result.megabytes = megabytes
        return result


def import_all():
    """Imports what takes long, and excludes it from garbage collection."""
    from neural_style_tf.batch import preload  # noqa: F401
    from neural_style_tf.commands import (
        batch,  # noqa: F401
        neural_style,  # noqa: F401
    )

    gc.freeze()


def serve(network):
    import_all()
    from neural_style_tf.network import weights

    weights.read(network)
    for line in sys.stdin:
        if line == "\n":
            return
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            paint(request)
        print(json.dumps(status_of(child, request["timeout"])), flush=True)


def paint(request):
    """What `python neural_style.py` does, or batch.py, in the process that was forked."""
    from neural_style_tf.commands import neural_style
    from neural_style_tf.runs import stopping

    set_environment(request["environment"])
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    os.chdir(request["cwd"])
    for number, name in enumerate([os.devnull, *request["names"]]):
        os.dup2(os.open(name, os.O_CREAT | os.O_RDWR), number)
    try:
        if request["program"] == "batch":
            stopping.leave(run_batch(request["arguments"]))
        neural_style.start(request["arguments"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        stopping.leave(1)


def set_environment(variables):
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    tempfile.tempdir = None  # determined again from the variables


def run_batch(arguments):
    """The exit status of batch.py, with workers forked from here: TensorFlow is not started yet."""
    from neural_style_tf.batch import processes
    from neural_style_tf.commands import batch

    processes._context = lambda _: multiprocessing.get_context("fork")
    try:
        return batch.main(arguments)
    except SystemExit as error:  # of `--version` and the like
        return error.code or 0


def status_of(child, timeout):
    """The exit status of a process, or None if it took too long and was killed; and its peak
    memory in megabytes."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024 / 1e6
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None, 0


if __name__ == "__main__":
    serve(sys.argv[1])
