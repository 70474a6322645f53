"""Reader: an untrusted network file -> its weights, read in a child process with limits.

The libraries that parse networks are written in C. Some broken files crash them, keep them busy for
minutes, or make them allocate tens of gigabytes. Here that ends a child process and is reported in
one line. The limits are not a sandbox: a file that takes control of a library has this user's
rights.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from neural_style_tf.errors import UserError
from neural_style_tf.network import formats, packed
from neural_style_tf.network.layers import Weights
from neural_style_tf.pictures import files

PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])
# the current folder may contain untrusted modules that are named like ours or Python's
CHILD = (
    f"import sys; sys.path = [*filter(None, sys.path)]; import {__name__} as reader; reader.serve()"
)

# The limits of the child while it reads, in addition to what the imported libraries take. A VGG-19
# of float64 takes 480 MB, whatever the size of its file; 80 MB of HDF5 are read in 0.2 s.
MEMORY_BYTES = 600_000_000
MEMORY_FACTOR = 6  # additional bytes per byte of the file
SECONDS = 4.0  # of processor time
BYTES_PER_SECOND = 10_000_000  # one more second for this many bytes of the file
WAIT_SECONDS = 5.0  # of wall-clock time in addition, as the machine may be busy
START_SECONDS = 120.0  # to load the file and import the library, perhaps from slow disks
MAX_ANSWER_BYTES = 2_500_000_000

# What the child sends: READY, then WEIGHTS or REFUSED, the length of the rest, and the rest
READY, WEIGHTS, REFUSED = b"R", b"W", b"E"
LENGTH_BYTES = 8


def read(path: str | Path, file: BinaryIO, size: int) -> Weights:
    """What `formats.read` returns for an open file of `size` bytes; `path` is for messages.

    Raises `UserError` for anything that is wrong with the file, and however the child ends.
    """
    seconds = _seconds(size) + WAIT_SECONDS
    with _child(path, file, size) as (process, output):
        with _killed_after(START_SECONDS + _seconds(size), process):
            output.read(len(READY))
        began = time.monotonic()
        with _killed_after(seconds, process):
            kind, answer = _answer(output)
            status = process.wait()
    if kind == REFUSED:
        raise UserError(answer.decode(errors="surrogateescape"))
    with contextlib.suppress(ValueError):
        return packed.unpack(answer)
    extension = _extension(path, file)
    if time.monotonic() - began >= seconds or status == -getattr(signal, "SIGXCPU", 0):
        what = f"reading it takes more than {seconds:.0f} s"
    else:
        what = f"the reader of {extension} files crashed on it ({_name(status)})"
    raise UserError(
        f"network {path} is broken: {what}: download it again or choose another network"
    )


def _seconds(size: int) -> float:
    """The processor time that reading a file of that size may take."""
    return SECONDS + size / BYTES_PER_SECOND


@contextlib.contextmanager
def _child(
    path: str | Path, file: BinaryIO, size: int
) -> Iterator[tuple[subprocess.Popen, BinaryIO]]:
    """A process that reads the file, and its output. It has ended when the context ends, whatever
    happens."""
    limits = size, _seconds(size), MEMORY_BYTES + MEMORY_FACTOR * size
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # `file.seek` may only move within its buffer
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([PACKAGE_FOLDER, *map(str, filter(None, sys.path))]),
        "OPENBLAS_NUM_THREADS": "1",  # faster to start
        "OMP_NUM_THREADS": "1",
        "HDF5_PLUGIN_PRELOAD": "::",  # loads no compression filters from other folders
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), *map(str, limits)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise UserError(
            f"cannot start the reader of network {path} ({files.reason(error)}): "
            "close other programs"
        ) from error
    output = cast(BinaryIO, process.stdout)
    try:
        yield process, output
    finally:
        process.kill()
        output.close()
        process.wait()


@contextlib.contextmanager
def _killed_after(seconds: float, process: subprocess.Popen) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _answer(stream: BinaryIO) -> tuple[bytes, bytes]:
    """The kind and the content of the child's answer; empty if the answer is incomplete."""
    kind = stream.read(1)
    size = int.from_bytes(stream.read(LENGTH_BYTES), "little")
    if size > MAX_ANSWER_BYTES:
        return b"", b""
    answer = stream.read(size)
    return (kind, answer) if len(answer) == size else (b"", b"")


def _extension(path: str | Path, file: BinaryIO) -> str:
    file.seek(0)
    return formats.recognize(path, file.read(formats.HEAD_BYTES)).extension


def _name(status: int) -> str:
    """How a process ended: the name of a signal, or its exit status."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"


def serve() -> None:
    """The main function of the child."""
    _serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))


def _serve(path: str, size: int, seconds: float, memory: int) -> None:
    """Reads a file of `size` bytes from stdin and sends its weights to stdout.

    seconds: of processor time, memory: in bytes; both without what importing the libraries takes.
    """
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing the libraries print gets into the answer
    data = sys.stdin.buffer.read(size)
    try:
        try:
            formats.import_library(path, formats.recognize(path, data[: formats.HEAD_BYTES]))
        finally:
            output.write(READY)
            output.flush()
        _limit(seconds, memory)
        kind, answer = WEIGHTS, packed.pack(formats.read(path, data))
    except UserError as error:
        kind, answer = REFUSED, str(error).encode(errors="surrogateescape")
    output.write(kind + len(answer).to_bytes(LENGTH_BYTES, "little"))
    output.write(answer)
    output.flush()


def _limit(seconds: float, memory: int) -> None:
    """Limits what this process may use from now on. Windows has no such limits: there only the
    parent's clock ends it."""
    try:
        import resource
    except ModuleNotFoundError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds += usage.ru_utime + usage.ru_stime
    limits = {resource.RLIMIT_CPU: math.ceil(seconds)}
    limits |= {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}  # it writes nothing
    with contextlib.suppress(OSError):  # only Linux has this file, and enforces that limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for name, limit in limits.items():
        soft, hard = resource.getrlimit(name)
        existing = [value for value in (soft, hard) if value != resource.RLIM_INFINITY]
        resource.setrlimit(name, (min([limit, *existing]), hard))
