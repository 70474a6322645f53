"""Forks: one command line -> a process of its own, forked where TensorFlow is imported but not yet
started, so that an attempt takes a second or two. What the parts that break runs share."""

import contextlib
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import launcher
from PIL import Image

from soak import ground

TIMEOUT = 120.0  # seconds, after which a run hangs
HEIGHT, WIDTH = 34, 45
INPUTS = ("photo.png", "painting.png", "network.mat")
COMMON = ("--content", "photo.png", "--styles", "painting.png", "--output", "out.png")
QUICK = ("--network", "network.mat", "--precision", "float32", "--style-loss", "mean")


class Ended(NamedTuple):
    """How a process ended; the status is None where it had to be killed."""

    status: int | None
    stdout: str
    stderr: str


def make_inputs(folder: Path) -> None:
    """Writes a photo, a painting and a tiny network."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(INPUTS[:2]):
        ground.picture(HEIGHT, WIDTH, seed).save(folder / name)
    # the same file at every attempt, for its checksum is in the pictures
    (folder / INPUTS[2]).write_bytes(ground.network().read_bytes())


def prepare(folder: Path) -> None:
    """Imports what takes long, once, and gives the program a cache of its own. The network is read
    once, too: what is forked remembers it."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    launcher.import_all()
    make_inputs(folder / "inputs")
    from neural_style_tf.network import weights

    weights.read(folder / "inputs" / INPUTS[2])


def start(arguments: list[str], folder: Path, before: Callable[[], None] = lambda: None) -> int:
    """Forks a process that runs `neural_style.py` in that folder. Returns its number. before: is
    called in it first."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in enumerate((os.devnull, ".stdout", ".stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o666), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
        from neural_style_tf.commands import neural_style

        before()
        neural_style.start([*map(str, arguments)])
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(70)


def wait(child: int, folder: Path, timeout: float = TIMEOUT) -> Ended:
    """Waits for a process that `start` has begun."""
    status, end = None, time.monotonic() + timeout
    while status is None and time.monotonic() < end:
        ended_child, wait_status = os.waitpid(child, os.WNOHANG)
        if ended_child:
            status = os.waitstatus_to_exitcode(wait_status)
        else:
            time.sleep(0.005)
    if status is None:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return Ended(status, *(_text(folder / name) for name in (".stdout", ".stderr")))


def run(arguments: list[str], folder: Path, before: Callable[[], None] = lambda: None) -> Ended:
    """Runs a command line to its end."""
    return wait(start(arguments, folder, before), folder)


def left_over(folder: Path) -> list[str]:
    """The names of unfinished files, and of claims."""
    return sorted(path.name for path in folder.rglob(".neural-style-*"))


def broken_files(folder: Path) -> list[str]:
    """What is wrong with pictures, films and states in a folder."""
    from neural_style_tf.runs import states

    wrong = []
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix in (".png", ".gif", ".jpg"):
                with Image.open(path) as image:
                    for frame in range(getattr(image, "n_frames", 1)):
                        image.seek(frame)
                        image.load()
            elif path.suffix == ".npz":
                states.load(path)
        except Exception as error:
            wrong.append(f"{path.name} is broken ({type(error).__name__}: {error})")
    return wrong


@contextlib.contextmanager
def fresh(folder: Path, number: int) -> Iterator[Path]:
    """A new folder with the inputs, removed at the end."""
    import shutil

    place = folder / f"attempt-{number}"
    make_inputs(place)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def owner_of(place: str) -> Any:
    """The module or class of that name, in the package, or `os`."""
    return pkgutil.resolve_name(place if place == "os" else f"neural_style_tf.{place}")
