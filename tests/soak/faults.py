"""Faults: a call of the system, of TensorFlow or of a watcher fails. The run has to save the
picture and the state, or to say in one line why it cannot, and to exit with the right status."""

import builtins
import errno
import itertools
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from soak import forks
from soak.engine import Soak

WANTED = 4000
STATE = ["--save-state", "run.npz", "--state-iterations", "2"]
RUNS = {
    "files": [
        *(*STATE, "--checkpoint-output", "c-%d.png", "--checkpoint-iterations", "2"),
        *("--timelapse", "film.gif", "--progress-write", "--progress-plot", "--log-dir", "logs"),
        *("--iterations", "5", "--optimizer", "adam", "--learning-rate-schedule", "constant"),
    ],
    "stages": [*STATE, "--iterations", "6", "--optimizer", "lbfgs", "--scales", "2"],
    "tiles": [
        *(*STATE, "--iterations", "4", "--optimizer", "adam"),
        *("--tile", "64", "--width", "240", "--height", "200"),
    ],
    "rounds": [*STATE, "--iterations", "3", "--optimizer", "l-bfgs-b", "--evaluations", "3"],
}
ERRNOS = ("ENOSPC", "EIO", "EACCES", "EDQUOT", "EROFS", "ENOENT", "EMFILE")
OF_TENSORFLOW = (
    "ResourceExhaustedError",
    "InternalError",
    "UnimplementedError",
    "CancelledError",
    "UnknownError",
)
OF_PYTHON = ("RuntimeError", "MemoryError", "ValueError", "KeyError", "OSError")
OF_SYSTEM = ("open", "os.open", "write", "read", "os.fsync", "os.replace", "os.mkdir", "os.unlink")
OF_DEVICE = ("eager", "graph", "fetch", "objective")
WATCHERS = {
    "runs.progress.Progress": ("show", "note"),
    "runs.loss_table.LossTable": ("add", "save_csv", "save_plot"),
    "runs.tensorboard.TensorBoardLog": ("see", "add_picture"),
    "runs.timelapse.Timelapse": ("add", "save"),
    "runs.writer.Writer": ("_write", "_write_checkpoint", "_at_full_size"),
    "runs.states": ("save",),
    "pictures.writing": ("save",),
    "pictures.resampling": ("resize",),
}
SAID = re.compile(r"could be saved|could not be saved anywhere", re.MULTILINE)


class Fault(NamedTuple):
    """The number, from 1, of the call that raises an error, alone or with all later calls."""

    run: str
    target: str
    number: int
    error: str
    stays: bool


def soak(soak: Soak) -> None:
    forks.prepare(soak.folder)
    clean = {name: _clean(soak, name) for name in RUNS}
    expected = {name: picture for name, (_, picture) in clean.items()}
    kinds = [
        (name, target, error, stays)
        for name, (counts, _) in clean.items()
        for target in sorted(counts)
        for error in _errors_of(target)
        for stays in (False, True)
    ]
    soak.note(
        f"{len(kinds)} kinds of faults, {sum(sum(c.values()) for c, _ in clean.values())} calls"
    )
    soak.random.shuffle(kinds)
    for name, target, error, stays in itertools.cycle(kinds):
        if not soak.wants_more():
            return
        number = soak.random.randint(1, clean[name][0][target])
        fault = Fault(name, target, number, error, stays)
        with forks.fresh(soak.folder, soak.attempts) as folder:
            wrong = _attempt(fault, folder, expected[name])
        soak.count()
        if wrong:
            kind = f"{wrong.partition(':')[0]} {target} {error}{' stays' * stays}"
            soak.fail(kind, wrong, json.dumps(fault._asdict() | {"wrong": wrong}).encode())


def replay(path: Path) -> str | None:
    known = json.loads(path.read_bytes())
    fault = Fault(*(known[name] for name in Fault._fields))
    with tempfile.TemporaryDirectory() as folder:
        forks.prepare(Path(folder))
        with forks.fresh(Path(folder), 0) as place:
            forks.run(_arguments(fault.run), place)
            expected = (place / "out.png").read_bytes()
        with forks.fresh(Path(folder), 1) as place:
            return _attempt(fault, place, expected)


def _arguments(name: str) -> list[str]:
    return [*forks.COMMON, *forks.QUICK, *RUNS[name], "--overwrite"]


def _clean(soak: Soak, name: str) -> tuple[Counter, bytes]:
    """How often each kind of call is made in a run without faults, and its picture."""
    with forks.fresh(soak.folder, 0) as folder:
        ended = forks.run(_arguments(name), folder, lambda: _install(None, folder / "calls"))
        assert ended.status == 0, ended
        lines = (folder / "calls").read_text().split("\n")
        return Counter(filter(None, lines)), (folder / "out.png").read_bytes()


def _errors_of(target: str) -> tuple[str, ...]:
    if target in OF_SYSTEM:
        return ERRNOS
    return OF_TENSORFLOW + OF_PYTHON if target in OF_DEVICE else OF_PYTHON


def _attempt(fault: Fault, folder: Path, expected: bytes) -> str | None:
    """What is wrong after a run with that fault."""
    old = (folder / "photo.png").read_bytes()
    (folder / "out.png").write_bytes(old)
    ended = forks.run(
        _arguments(fault.run), folder, lambda: _install(fault, folder / "at", is_quiet=True)
    )
    wrong = _look(fault, folder, ended, old)
    if wrong:
        return f"{wrong}: {ended.status} {ended.stderr[-1500:]}"
    if ended.status == 0 and (folder / "out.png").read_bytes() == expected:
        return None
    if "to go on: " in ended.stderr:
        state = re.search(r"to go on: .*--resume '?(.+?)'?$", ended.stderr, re.MULTILINE)[1]
        state = Path(state)
        again = forks.run(["--resume", state, "--output", "out.png", "--overwrite"], folder)
        if state.is_absolute():
            _remove_elsewhere(state, folder)
        is_shorter = fault.error in ("ResourceExhaustedError", "MemoryError")
        if again.status != 0:
            return f"does not go on: {again.status} {again.stderr[-800:]} after {ended.stderr}"
        if not is_shorter and (folder / "out.png").read_bytes() != expected:
            return f"goes on to another picture: {again.stderr[-500:]} after {ended.stderr}"
    else:
        forks.run(_arguments(fault.run), folder)
    over = forks.left_over(folder)
    return f"left over: {over} after {ended.stderr}" if over else None


def _remove_elsewhere(path: Path, folder: Path) -> None:
    """Removes what was not saved under its name: beside it, or in a folder of its own."""
    if path.parent.resolve() == folder.resolve():
        path.unlink()
    else:
        shutil.rmtree(path.parent)


def _look(fault: Fault, folder: Path, ended: forks.Ended, old: bytes) -> str | None:
    if ended.status is None:
        return "hangs"
    if "Traceback" in ended.stderr or ended.status not in (0, 1):
        return "traceback or status"
    if ended.status == 1 and not re.search("^error: ", ended.stderr, re.MULTILINE):
        return "no reason"
    if broken := forks.broken_files(folder):
        return f"broken files {broken}"
    over = forks.left_over(folder)
    if over and fault.target != "os.unlink":
        return f"unfinished files {over}"
    return _look_at_picture(fault, folder, ended, old)


def _look_at_picture(fault: Fault, folder: Path, ended: forks.Ended, old: bytes) -> str | None:
    from PIL import Image

    has_begun = (folder / "at").exists() and (folder / "at").read_text() == "painting"
    path = folder / "out.png"
    instead = re.search(r"^saved as (.+) instead$", ended.stderr, re.MULTILINE)
    if instead:
        path = Path(instead[1])
    is_new = path.read_bytes() != old
    if is_new:
        with Image.open(path) as image:
            wanted = (240, 200) if fault.run == "tiles" else (forks.WIDTH, forks.HEIGHT)
            if image.size != wanted and "could not be enlarged" not in ended.stderr:
                return f"a picture of {image.size}"
    if instead:
        _remove_elsewhere(path, folder)
    if ended.status == 0 and not is_new:
        return "status 0 without a picture"
    if has_begun and not is_new and not (fault.stays and SAID.search(ended.stderr)):
        return "the picture is lost"
    return None


# What is done to the process that runs


def _install(fault: Fault | None, record: Path, is_quiet: bool = False) -> None:
    """Counts the calls of every kind, or has one of them fail. record: a file that the calls
    are written to, or what the run was doing when one failed."""
    counts: Counter[str] = Counter()
    descriptor = os.open(record, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def called(target: str) -> None:
        counts[target] += 1
        if not is_quiet:
            os.write(descriptor, f"{target}\n".encode())
        if fault is None or target != fault.target:
            return
        if counts[target] == fault.number and _has_latest():
            os.write(descriptor, b"painting")
        if counts[target] == fault.number or (fault.stays and counts[target] > fault.number):
            raise _error(fault.error)

    _wrap_system(called)
    _wrap_device(called)
    _wrap_watchers(called)


def _has_latest() -> bool:
    """Whether there is a picture that can be saved."""
    return bool(_painting) and getattr(_painting[-1], "_latest", None) is not None


_painting: list[Any] = []


def _error(name: str) -> Exception:
    import tensorflow as tf

    if name in ERRNOS:
        number = getattr(errno, name)
        return OSError(number, os.strerror(number))
    if name in OF_TENSORFLOW:
        return getattr(tf.errors, name)(None, None, "injected")
    return getattr(builtins, name)("injected")


def _wrapped(called: Callable, target: str, function: Callable) -> Callable:
    def wrapper(*arguments: Any, **options: Any) -> Any:
        called(target)
        return function(*arguments, **options)

    return wrapper


class _File:
    """An open file whose calls are counted."""

    def __init__(self, called: Callable, file: Any):
        self._called, self._file = called, file

    def write(self, data: Any) -> Any:
        self._called("write")
        return self._file.write(data)

    def writelines(self, data: Any) -> Any:
        self._called("write")
        return self._file.writelines(data)

    def read(self, *size: int) -> Any:
        self._called("read")
        return self._file.read(*size)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _wrap_system(called: Callable) -> None:
    from neural_style_tf.pictures import places

    for name in ("open", "fsync", "replace", "mkdir", "unlink"):
        setattr(os, name, _wrapped(called, f"os.{name}", getattr(os, name)))
    plain, temporary = builtins.open, places.temporary_file

    def opened(*arguments: Any, **options: Any) -> Any:
        called("open")
        file = plain(*arguments, **options)
        mode = options.get("mode", arguments[1] if len(arguments) > 1 else "r")
        return _File(called, file) if "x" in mode else file

    builtins.open = opened
    places.temporary_file = lambda size: _File(called, temporary(size))


def _wrap_device(called: Callable) -> None:
    import tensorflow as tf
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager.polymorphic_function import polymorphic_function
    from tensorflow.python.framework import ops

    from neural_style_tf.objective import objective

    pywrap_tfe.TFE_Py_FastPathExecute = _wrapped(called, "eager", pywrap_tfe.TFE_Py_FastPathExecute)
    function = polymorphic_function.Function
    function.__call__ = _method(called, "graph", function.__call__)
    tensor = ops._EagerTensorBase
    for name in ("numpy", "__array__", "__float__", "__int__"):
        setattr(tensor, name, _method(called, "fetch", getattr(tensor, name)))
    make = objective.make_objective
    objective.make_objective = lambda *arguments: _wrapped(called, "objective", make(*arguments))
    assert tf.executing_eagerly()


def _method(called: Callable, target: str, method: Callable) -> Callable:
    def wrapper(self: Any, *arguments: Any, **options: Any) -> Any:
        called(target)
        return method(self, *arguments, **options)

    return wrapper


def _wrap_watchers(called: Callable) -> None:
    from neural_style_tf.runs.painting_run import PaintingRun

    for place, names in WATCHERS.items():
        owner = forks.owner_of(place)
        wrap = _method if isinstance(owner, type) else _wrapped
        for name in names:
            setattr(owner, name, wrap(called, f"{place}.{name}", getattr(owner, name)))
    prepare = PaintingRun._prepare

    def prepared(self: Any) -> None:
        _painting.append(self)
        prepare(self)

    PaintingRun._prepare = prepared
