"""Signals: Ctrl-C, SIGTERM, SIGHUP and SIGPIPE, once and twice, at every phase of a run: the
documented exit status, no traceback, whole files, and the picture wherever there is one."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from soak import forks
from soak.engine import Soak

WANTED = 1000
ROOT = Path(__file__).resolve().parent.parent.parent
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGPIPE": 0}
PHASES = {  # functions at whose beginning the signal comes; how often they are called
    "runs.checks.check": 1,
    "runs.inputs.load": 1,
    "network.vgg.load": 1,
    "machine.tensorflow_setup.start": 1,
    "objective.objective.measure_targets": 1,
    "runs.writer.Writer.see": 6,
    "runs.progress.Progress.show": 6,
    "runs.states.save": 3,
    "runs.writer.Writer._write_checkpoint": 3,
    "runs.writer.Writer.save": 1,
    "pictures.writing.save": 4,
    "os.fsync": 7,
    "os.replace": 7,
    "runs.progress.Progress.finish": 1,
    "pictures.files.clear_up": 1,
}
RUN = [
    *(*forks.COMMON, *forks.QUICK, "--optimizer", "adam", "--iterations", "5", "--overwrite"),
    *("--save-state", "run.npz", "--state-iterations", "3"),
    *("--checkpoint-output", "c-%d.png", "--checkpoint-iterations", "2", "--progress-write"),
]
IMPORTS = "imports"  # the phase before all others, in a process that is not forked


class Attempt(NamedTuple):
    """A signal at the n-th beginning of a phase, and the same or another one soon after."""

    phase: str
    number: int
    signal: str
    second: str | None
    pause: float  # seconds between the two; of the phase of imports, before the first


def soak(soak: Soak) -> None:
    forks.prepare(soak.folder)
    phases = [(phase, number) for phase, count in PHASES.items() for number in range(1, count + 1)]
    phases += [(IMPORTS, 1)] * 3
    kinds = [*itertools.product(phases, STATUS, (None, *STATUS))]
    soak.note(f"{len(kinds)} kinds of signals and moments")
    soak.random.shuffle(kinds)
    for (phase, number), first, second in itertools.cycle(kinds):
        if not soak.wants_more():
            return
        attempt = Attempt(phase, number, first, second, soak.random.choice([0.0, 0.005, 0.05]))
        if phase == IMPORTS:
            attempt = attempt._replace(pause=soak.random.uniform(0.1, 4.0))
        with forks.fresh(soak.folder, soak.attempts) as folder:
            wrong = _attempt(attempt, folder)
        soak.count()
        if wrong:
            kind = f"{wrong.partition(':')[0]} {first} {second} in {phase}"
            soak.fail(kind, wrong, json.dumps(attempt._asdict() | {"wrong": wrong}).encode())


def replay(path: Path) -> str | None:
    known = json.loads(path.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        forks.prepare(Path(folder))
        with forks.fresh(Path(folder), 0) as place:
            return _attempt(Attempt(*(known[name] for name in Attempt._fields)), place)


def _attempt(attempt: Attempt, folder: Path) -> str | None:
    """What is wrong after a run that got those signals."""
    old = (folder / "photo.png").read_bytes()
    (folder / "out.png").write_bytes(old)
    if attempt.phase == IMPORTS:
        ended = _run_with_imports(attempt, folder)
    else:
        ended = forks.run(RUN, folder, lambda: _install(attempt))
    if ended.status is None:
        return f"hangs: {ended.stderr[-800:]}"
    wrong = _look(attempt, folder, ended, old)
    return f"{wrong}: {ended.status} {ended.stderr[-800:]}" if wrong else None


def _look(attempt: Attempt, folder: Path, ended: forks.Ended, old: bytes) -> str | None:
    allowed = {0} | {STATUS[name] for name in (attempt.signal, attempt.second) if name}
    if attempt.phase == IMPORTS and ended.status < 0:  # Python itself has not started yet
        return None
    if "Traceback" in ended.stderr or ended.status not in allowed:
        return f"status {ended.status}, not of {sorted(allowed)}, or a traceback"
    if broken := forks.broken_files(folder):
        return f"broken files {broken}"
    if over := forks.left_over(folder):
        return f"left over {over}"
    is_new = (folder / "out.png").read_bytes() != old
    is_told = re.search(r"^out.png: \d", ended.stderr, re.MULTILINE)
    has_left_at_once = attempt.second == "SIGINT" and ended.status == 130
    if not is_new and (is_told or ended.status == 0):
        return "the picture is not where it is said to be"
    if not is_new and not has_left_at_once and "nothing to save" not in ended.stderr:
        return "the picture is lost"
    return None


def _run_with_imports(attempt: Attempt, folder: Path) -> forks.Ended:
    command = [sys.executable, str(ROOT / "neural_style.py"), *RUN]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(attempt.pause)
    for name in filter(None, (attempt.signal, attempt.second)):
        process.send_signal(getattr(signal, name))
    try:
        stdout, stderr = process.communicate(timeout=forks.TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        return forks.Ended(None, *process.communicate())
    return forks.Ended(process.returncode, stdout, stderr)


def _install(attempt: Attempt) -> None:
    """Makes the process send itself the signals at that moment."""
    for name in STATUS:  # Ctrl-C is ignored if the soak runs in the background
        if name != "SIGPIPE":
            default = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(getattr(signal, name), default)
    place, _, name = attempt.phase.rpartition(".")
    owner = forks.owner_of(place)
    function, calls = getattr(owner, name), itertools.count(1)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        if next(calls) == attempt.number:
            os.kill(os.getpid(), getattr(signal, attempt.signal))
            if attempt.second:
                time.sleep(attempt.pause)
                os.kill(os.getpid(), getattr(signal, attempt.second))
        return function(*arguments, **options)

    setattr(owner, name, wrapper)
