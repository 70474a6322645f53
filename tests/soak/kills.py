"""Kills: kill -9 at random moments of runs, batches and Dask clusters. Afterwards
every file is whole, the resumed run ends with the same picture, and nothing is left over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from soak import forks
from soak.engine import Soak

WANTED = 1000
ROOT = Path(__file__).resolve().parent.parent.parent
STATE = ("--save-state", "run.npz", "--state-iterations", "2")
CONSTANT = ("--optimizer", "adam", "--learning-rate-schedule", "constant")
RUNS = {
    "adam": (*STATE, *CONSTANT, "--iterations", "40"),
    "checkpoints": (
        *(*STATE, *CONSTANT, "--iterations", "20", "--progress-write"),
        *("--checkpoint-output", "c-%d.png", "--checkpoint-iterations", "1"),
    ),
    "film": (
        *(*STATE, *CONSTANT, "--iterations", "20"),
        *("--checkpoint-iterations", "1", "--timelapse", "film.gif"),
    ),
    "stages": (*STATE, "--optimizer", "lbfgs", "--scales", "2", "--iterations", "20"),
    "tiles": (*STATE, *CONSTANT, "--iterations", "6", "--tile", "64", "--width", "240"),
}
BATCHES = {"batch": ("--workers", "2"), "cluster": ("--workers", "2", "--cluster", "local")}
EVERY_BATCH, EVERY_CLUSTER = 12, 48  # attempts: they take longer
SECONDS = {"batch": 12.0, "cluster": 25.0}  # the latest moment of a kill


class Attempt(NamedTuple):
    """A run and the moments, in seconds, at which it is killed, before it may run to its end."""

    name: str
    moments: list[float]


def soak(soak: Soak) -> None:
    forks.prepare(soak.folder)
    expected, seconds = {}, dict(SECONDS)
    for name in RUNS:
        with forks.fresh(soak.folder, 0) as folder:
            began = time.monotonic()
            forks.run(_arguments(name), folder)
            seconds[name] = time.monotonic() - began
            expected[name] = (folder / "out.png").read_bytes()
    with forks.fresh(soak.folder, 0) as folder:
        expected["batch"] = expected["cluster"] = _batch_pictures(folder)
    while soak.wants_more():
        name = soak.random.choice(sorted(RUNS))
        if soak.attempts % EVERY_BATCH == EVERY_BATCH - 1:
            is_cluster = soak.attempts % EVERY_CLUSTER == EVERY_CLUSTER - 1
            name = "cluster" if is_cluster else "batch"
        kills = soak.random.choice([1, 1, 2]) if name in RUNS else 1
        moments = [round(soak.random.uniform(0, seconds[name]), 3) for _ in range(kills)]
        attempt = Attempt(name, moments)
        with forks.fresh(soak.folder, soak.attempts) as folder:
            wrong = _attempt(attempt, folder, expected[name])
        soak.count(kills)
        if wrong:
            kind = f"{wrong.partition(':')[0]} {name}"
            soak.fail(kind, wrong, json.dumps(attempt._asdict() | {"wrong": wrong}).encode())


def replay(path: Path) -> str | None:
    known = json.loads(path.read_bytes())
    attempt = Attempt(known["name"], known["moments"])
    with tempfile.TemporaryDirectory() as folder:
        forks.prepare(Path(folder))
        with forks.fresh(Path(folder), 0) as place:
            if attempt.name in RUNS:
                forks.run(_arguments(attempt.name), place)
                expected = (place / "out.png").read_bytes()
            else:
                expected = _batch_pictures(place)
        with forks.fresh(Path(folder), 1) as place:
            return _attempt(attempt, place, expected)


def _arguments(name: str) -> list[str]:
    return [*forks.COMMON, *forks.QUICK, *RUNS[name], "--overwrite"]


def _attempt(attempt: Attempt, folder: Path, expected: bytes) -> str | None:
    if attempt.name in BATCHES:
        return _attempt_batch(attempt, folder, expected)
    (folder / "out.png").write_bytes((folder / "photo.png").read_bytes())
    for moment in attempt.moments:
        child = forks.start(_next_arguments(attempt.name, folder), folder)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        forks.wait(child, folder)
        if broken := forks.broken_files(folder):
            return f"broken files: {broken}"
    ended = forks.run(_next_arguments(attempt.name, folder), folder)
    if ended.status != 0:
        return f"does not go on: {ended.status} {ended.stderr[-800:]}"
    if broken := forks.broken_files(folder):
        return f"broken files at the end: {broken}"
    if (folder / "out.png").read_bytes() != expected:
        return f"another picture: {ended.stderr[-800:]}"
    over = forks.left_over(folder)
    return f"left over: {over}" if over else None


def _next_arguments(name: str, folder: Path) -> list[str]:
    has_state = (folder / "run.npz").exists()
    return ["--resume", "run.npz", "--overwrite"] if has_state else _arguments(name)


# Batches


def _start_batch(folder: Path, *options: str) -> subprocess.Popen:
    photos = folder / "photos"
    if not photos.exists():
        photos.mkdir()
        for name in ("one.png", "two.png", "three.png"):
            shutil.copy(folder / "photo.png", photos / name)
    command = [sys.executable, str(ROOT / "batch.py"), "--contents", "photos", "--styles"]
    command += ["painting.png", "--output-dir", "gallery", *forks.QUICK, *CONSTANT]
    command += ["--iterations", "200", "--save-states", "--state-iterations", "20", *options]
    command += ["--threads", "1"]  # a picture records the threads of its worker
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _batch_pictures(folder: Path) -> bytes:
    process = _start_batch(folder, "--workers", "2")
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    return _pictures_in(folder / "gallery")


def _pictures_in(gallery: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(gallery.glob("*--*.png")))


def _attempt_batch(attempt: Attempt, folder: Path, expected: bytes) -> str | None:
    """Kills the batch alone, or with all its workers, and starts it again immediately."""
    options, gallery = BATCHES[attempt.name], folder / "gallery"
    process = _start_batch(folder, *options)
    time.sleep(attempt.moments[0])
    is_all = int(1000 * attempt.moments[0]) % 2
    os.killpg(process.pid, signal.SIGKILL) if is_all else process.kill()
    process.wait()
    process.stderr.close()
    if gallery.exists() and (broken := forks.broken_files(gallery)):
        return f"broken files: {broken}"
    process = _start_batch(folder, *options)
    try:
        _, stderr = process.communicate(timeout=4 * forks.TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"hangs: {process.communicate()[1][-800:]}"
    if process.returncode != 0:
        return f"does not go on: {process.returncode} {stderr[-800:]}"
    if _pictures_in(gallery) != expected:
        return f"other pictures: {stderr[-800:]}"
    over = forks.left_over(folder) + [path.name for path in gallery.glob("*.npz")]
    return f"left over: {over}" if over else None
