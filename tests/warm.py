"""Command lines one after another in one process, where TensorFlow is started, the network of the
tests is loaded and graphs are traced once: a run takes hundredths of a second.

What could show from one run to the next is what a notebook shows, too. A test that is about a
process of its own, such as its streams, signals, threads or environment, has one: see
`launcher.OF_A_PROCESS`.
"""

import hashlib
import json
import os
import select
import signal
import sys
import tempfile
import traceback
from pathlib import Path

MOST_GRAPHS = 200  # graphs of tiny networks are small
MOST_BYTES = 10_000_000  # of the file of a network that is known by its content


class Warm:
    """The process, forked when the first command line is run, and again should it end."""

    def __init__(self):
        self._pid = None

    def run(self, request):
        """The exit status of a command line, or None if it took too long and was killed."""
        if self._pid is None:
            self._begin()
        os.write(self._requests, json.dumps(request).encode() + b"\n")
        if not select.select([self._answers], [], [], request["timeout"])[0]:
            self.end()
            return None
        answer = self._answers.readline()
        if answer:
            return json.loads(answer)
        return self.end()

    def end(self):
        """Ends the process. Returns its exit status."""
        if self._pid is None:
            return None
        os.close(self._requests)
        self._answers.close()
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        if not ended:
            os.kill(self._pid, signal.SIGKILL)
            ended, status = os.waitpid(self._pid, 0)
        self._pid = None
        return os.waitstatus_to_exitcode(status)

    def _begin(self):
        reading, self._requests = os.pipe()
        answers, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._requests)
            os.close(answers)
            _serve(reading, writing)
        os.close(reading)
        os.close(writing)
        self._answers = os.fdopen(answers)


def _serve(reading, writing):
    import launcher

    from neural_style_tf.network import vgg
    from neural_style_tf.objective import graphs
    from neural_style_tf.runs import stopping

    launcher.limit_memory()
    vgg._load = _by_content(vgg._load)
    graphs._store.max_size = MOST_GRAPHS
    for line in os.fdopen(reading):
        status = _run(json.loads(line))
        os.write(writing, json.dumps(status).encode() + b"\n")
    stopping.leave(0)


def _by_content(load):
    """`vgg._load` for which the copies of a network in the folders of the tests are one."""
    known = {}

    def load_once(path, version):
        if version[1] > MOST_BYTES:
            return load(path, version)
        key = Path(path).name, hashlib.sha256(Path(path).read_bytes()).digest()
        if key not in known:
            known[key] = load(path, version)
        return known[key]

    return load_once


def _run(request):
    """What `python neural_style.py` does, except that the process does not end."""
    import launcher

    from neural_style_tf.commands import neural_style
    from neural_style_tf.machine import streams

    os.chdir(request["cwd"])
    launcher.redirect([os.devnull, *request["places"]])
    sys.stdout, sys.stderr = streams.tolerant(sys.__stdout__), streams.tolerant(sys.__stderr__)
    tempfile.tempdir = None
    streams._said.clear()
    try:
        status = neural_style.main(request["arguments"])
    except SystemExit as error:  # of `--help` and the like
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    return status or int(streams.lost_output())
