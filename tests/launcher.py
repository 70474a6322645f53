"""The command line in processes of their own, forked where TensorFlow is imported but not yet
started: a test waits for what its command does, not for imports.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Launcher:
    """The process that is forked, as long as the context lasts.

    network: a file that most commands will read, which it reads once for all of them.
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
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()

    def run(self, arguments, cwd, timeout=120):
        """Like `subprocess.run([sys.executable, "neural_style.py", *arguments])` with its output
        captured as text."""
        arguments = [*map(str, arguments)]
        with tempfile.TemporaryDirectory() as place:
            names = [os.path.join(place, name) for name in ("stdout", "stderr")]
            request = {"arguments": arguments, "cwd": str(cwd), "names": names, "timeout": timeout}
            print(json.dumps(request), file=self._server.stdin, flush=True)
            status = json.loads(self._server.stdout.readline())
            told = [Path(name).read_text() for name in names]
        if status is None:
            raise subprocess.TimeoutExpired(arguments, timeout, *told)
        return subprocess.CompletedProcess(arguments, status, *told)


def import_all():
    """Imports what takes long, and keeps it from those who look for garbage."""
    import imported  # noqa: F401
    import neural_style  # noqa: F401

    gc.freeze()


def serve(network):
    import_all()
    import weights

    weights.read(network)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            paint(request)
        print(json.dumps(status_of(child, request["timeout"])), flush=True)


def paint(request):
    """What `python neural_style.py` does, in the process that was forked."""
    import neural_style

    os.chdir(request["cwd"])
    for number, name in enumerate([os.devnull, *request["names"]]):
        os.dup2(os.open(name, os.O_CREAT | os.O_RDWR), number)
    try:
        neural_style.leave_on_interrupt()
        neural_style.leave(neural_style.main(request["arguments"]))
    except SystemExit as error:
        neural_style.leave(error.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        neural_style.leave(1)


def status_of(child, timeout):
    """The exit status of a process, or None of one that took too long and is killed."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    serve(sys.argv[1])
