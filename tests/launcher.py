"""The command line in processes of their own, forked where TensorFlow is imported but not yet
started: a test waits for what its command does, not for imports.
"""

import contextlib
import gc
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import warm

try:
    import resource
except ImportError:  # Windows, where nothing is forked either
    resource = None

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 12 * 10**9  # of addresses: so that a command cannot make the machine swap
PAUSE_AFTER = 30  # steps
# options of what a process has from its start
OF_A_PROCESS = {"--threads", "--debug", "--preview", "--device", "--list-devices"}


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

    def run(
        self,
        arguments,
        cwd,
        timeout=600,
        program="neural_style",
        environment=None,
        streams=("", ""),
        shares=False,
    ):
        """Like `subprocess.run([sys.executable, "neural_style.py", *arguments])` with its output
        captured as text, and its peak memory in megabytes. program: "neural_style", or "batch",
        whose workers are forked from it. environment: variables to set, or to remove if None.
        streams: files in place of standard output and error, or None for one that is closed.
        shares: whether the process may be one that has run others before, see `warm`, which is
        sooner done. What is about a process of its own has one in any case."""
        with tempfile.TemporaryDirectory() as place:
            names = [os.path.join(place, name) for name in ("stdout", "stderr")]
            for name in names:
                Path(name).touch()
            captured = zip(names, streams, strict=True)
            places = [name if stream == "" else stream for name, stream in captured]
            request = {"timeout": timeout, "program": program, "environment": environment or {}}
            is_its_own = program != "neural_style" or environment or streams != ("", "")
            options = {str(word).partition("=")[0] for word in arguments}
            request["shares"] = shares and not is_its_own and OF_A_PROCESS.isdisjoint(options)
            status, megabytes = self.ask("run", arguments, cwd, places, **request)
            output = [Path(name).read_text(errors="replace") for name in names]
        if status is None:
            raise subprocess.TimeoutExpired(arguments, timeout, *output)
        result = subprocess.CompletedProcess([*map(str, arguments)], status, *output)
        result.megabytes = megabytes
        return result

    def start(self, arguments, cwd, pauses=False):
        """Like `subprocess.Popen([sys.executable, "neural_style.py", *arguments])` with standard
        error in a pipe, as text. pauses: whether it waits after some steps, see `pause`."""
        return Process(self.ask, arguments, cwd, pauses)

    def ask(self, kind, arguments=(), cwd=".", places=(), **more):
        """What the process that is forked answers to a request."""
        request = {"kind": kind, "arguments": [*map(str, arguments)], "cwd": str(cwd)}
        request |= {"places": places, "program": "neural_style", "environment": {}} | more
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())


class Process:
    """A command line that is running, with what tests use of `subprocess.Popen`."""

    def __init__(self, ask, arguments, cwd, pauses):
        self._ask, self.returncode = ask, None
        with tempfile.TemporaryDirectory() as place:
            pipe = os.path.join(place, "stderr")
            os.mkfifo(pipe)
            self.pid = ask("start", arguments, cwd, [os.devnull, pipe], pauses=pauses)
            self.stderr = open(pipe, errors="replace")  # noqa: SIM115

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def poll(self):
        if self.returncode is None:
            self.returncode = self._ask("poll", pid=self.pid)
        return self.returncode

    def wait(self, timeout=600):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.pid, timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout=600):
        text = []
        reader = threading.Thread(target=lambda: text.append(self.stderr.read()), daemon=True)
        reader.start()
        self.wait(timeout)
        reader.join(timeout)
        return None, "".join(text)


def import_all():
    """Imports what takes long, and excludes it from garbage collection."""
    import imageio.plugins.pillow  # noqa: F401
    import psutil  # noqa: F401
    from PIL import Image, ImageCms  # noqa: F401

    from neural_style_tf.batch import preload  # noqa: F401
    from neural_style_tf.commands import (
        batch,  # noqa: F401
        neural_style,  # noqa: F401
    )
    from neural_style_tf.pictures import reading  # noqa: F401

    Image.init()  # imports Pillow's formats, which writing a picture does otherwise
    gc.freeze()


def serve(network):
    import_all()
    from neural_style_tf.network import weights

    weights.read(network)
    one_for_many = warm.Warm()
    for line in sys.stdin:
        if line == "\n":
            break
        request = json.loads(line)
        if request.get("shares"):
            print(json.dumps([one_for_many.run(request), 0]), flush=True)
        else:
            print(json.dumps(answer(request)), flush=True)
    one_for_many.end()


def answer(request):
    """Of a command that is run: its exit status and megabytes. Of one that is started: its process.
    Of one that is polled: its exit status, or None while it is running."""
    if request["kind"] == "poll":
        ended, status = os.waitpid(request["pid"], os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
    child = os.fork()
    if child == 0:
        paint(request)
    return child if request["kind"] == "start" else status_of(child, request["timeout"])


def paint(request):
    """What `python neural_style.py` does, or batch.py, in the process that was forked."""
    from neural_style_tf.commands import neural_style
    from neural_style_tf.runs import stopping

    set_environment(request["environment"])
    limit_memory()
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup or the like may ignore it
    redirect([os.devnull, *request["places"]])
    if request.get("pauses"):
        pause()
    try:
        if request["program"] == "batch":
            stopping.leave(run_batch(request["arguments"]))
        neural_style.start(request["arguments"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        stopping.leave(1)


def limit_memory():
    with contextlib.suppress(ValueError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def pause():
    """Has the run of this process wait after some steps, in the presence of a file `here`, until it
    is asked to stop or there is a file `on`: what a test does there is never too late."""
    from neural_style_tf.runs import stopping

    check, calls = stopping.Stop.check, itertools.count(1)

    def check_and_wait(stop):
        if next(calls) == PAUSE_AFTER:
            Path("here").touch()
            while not (os.path.exists("on") or stop._requested.wait(0.01)):
                pass
        check(stop)

    stopping.Stop.check = check_and_wait


def redirect(places):
    """Has the standard streams lead to files, or closes those without one, as a shell does."""
    for number, place in enumerate(places):
        if place is None:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)
        else:
            descriptor = os.open(place, os.O_RDWR)
            os.dup2(descriptor, number)
            os.close(descriptor)


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
