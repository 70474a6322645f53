"""A day in small: one batch of many pictures of many sizes, some broken; memory stays flat."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from launcher import ROOT
from PIL import Image

from soak import ground
from soak.engine import Soak

WANTED = 500  # pictures
SIZES = 60  # of them, at most
BROKEN_EVERY = 10  # pictures
GROWTH = 1.1  # times that memory may grow from the first fifth of the pictures to the last
WORKERS = 2
SECONDS = 3 * 3600


class Sample(NamedTuple):
    """What the processes of a batch hold at a moment."""

    done: int  # pictures
    parent: float  # megabytes of the command itself
    workers: dict[int, float]  # megabytes of each process that paints
    descriptors: int  # that the command has open


def soak(soak: Soak) -> None:
    """One batch of the wanted number of pictures, or of fewer if there is little time."""
    left = soak.seconds_left()
    count = min(soak.wanted, max(10, int(left)))
    folder = soak.folder
    broken = prepare(folder, count, soak.seed)
    samples, status, errors = batch(folder, max(left, 600))
    soak.count(count)
    case = json.dumps({"pictures": count, "seed": soak.seed}).encode()
    for wrong in wrongs(folder, count, broken, samples, status, errors, soak.note):
        kind, _, message = wrong.partition(": ")
        soak.fail(kind, message, case)


def replay(path: Path) -> str | None:
    case = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        broken = prepare(folder, case["pictures"], case["seed"])
        samples, status, errors = batch(folder, SECONDS)
        problems = wrongs(folder, case["pictures"], broken, samples, status, errors, print)
        return "; ".join(problems) or None


def prepare(folder: Path, count: int, seed: int) -> set[str]:
    """photos/0000.png and so on, painting.png and network.mat; the names of the broken photos."""
    ground.make(folder)
    for name in ("photos", "temporary", "home"):
        (folder / name).mkdir()
    broken = set()
    for number in range(count):
        place = number % SIZES
        height, width = 30 + place // 2, 45 + place % 2
        path = folder / f"photos/{number:04}.png"
        ground.picture(height, width, seed + number).save(path)
        if number % BROKEN_EVERY == BROKEN_EVERY // 2:
            broken.add(path.name)
            path.write_bytes(damaged(path.read_bytes(), number // BROKEN_EVERY))
    return broken


def damaged(data: bytes, kind: int) -> bytes:
    """A picture that cannot be read, in one of several ways."""
    ways = (
        data[: len(data) // 2],
        b"",
        b"not a picture",
        data[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + data[24:],
        data[:40] + bytes(len(data) - 40),
        data[:8],
    )
    return ways[kind % len(ways)]


def batch(folder: Path, seconds: float) -> tuple[list[Sample], int | None, str]:
    """Runs the batch: samples of what it held, its status and its output."""
    home = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary")}
    command = [sys.executable, str(ROOT / "batch.py"), "--contents", "photos"]
    command += ["--styles", "painting.png", "--output-dir", "gallery", "--name", "{content}.png"]
    command += ["--network", "network.mat", *ground.QUICK, "--iterations", "2"]
    command += ["--workers", str(WORKERS), "--threads", str(WORKERS)]
    samples, log = [], folder / "log.txt"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | home, stdout=errors, stderr=errors
        )
        ends = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < ends:
            samples += sample(process.pid, log)
            time.sleep(0.25)
        process.terminate()
        return samples, process.wait(), log.read_text(errors="replace")


def sample(parent: int, log: Path) -> list[Sample]:
    """What is held now; nothing if a process ended meanwhile."""
    done = [
        0,
        *map(int, re.findall(r"^(\d+)/\d+ ", log.read_text(errors="replace"), re.MULTILINE)),
    ]
    try:
        parents = {int(path.name): parent_of(path) for path in Path("/proc").glob("[0-9]*")}
        own = {parent}
        while more := {process for process, above in parents.items() if above in own} - own:
            own |= more
        # those that paint have TensorFlow's threads
        painting = [
            process for process in own - {parent} if len(os.listdir(f"/proc/{process}/task")) > 3
        ]
        held = {process: megabytes(process) for process in painting}
        return [Sample(max(done), megabytes(parent), held, len(os.listdir(f"/proc/{parent}/fd")))]
    except (OSError, StopIteration):
        return []


def parent_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def megabytes(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    held = next(line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(held) * 1024 / 1e6


def wrongs(
    folder: Path, count: int, broken: set[str], samples: list[Sample], status: int | None,
    errors: str, note: Callable[[str], None],
) -> list[str]:  # fmt: skip
    """All that is wrong with a batch, each as "kind: message"."""
    problems = []
    if status != (1 if broken else 0):
        problems.append(f"status {status}: {errors[-1000:]}")
    if "Traceback" in errors:
        problems.append(f"traceback: {errors[errors.index('Traceback') :][:1500]}")
    names = {f"{number:04}.png" for number in range(count)}
    painted = {path.name for path in (folder / "gallery").glob("*.png")}
    if painted != names - broken:
        problems.append(f"not all painted: {sorted(painted ^ (names - broken))[:5]}")
    for name in sorted(painted):
        with Image.open(folder / "gallery" / name) as image:
            image.load()
    lines = [line for line in errors.splitlines() if re.match(r"\d+/\d+ error: ", line)]
    if len(lines) != len(broken) or not all(any(name in line for line in lines) for name in broken):
        problems.append(
            f"failures not reported: {len(lines)} lines for {len(broken)} broken pictures"
        )
    others = {path.name for path in (folder / "gallery").iterdir()} - painted
    others -= {"gallery.json", "gallery.html", "gallery.jpg"}
    others |= {path.name for path in (folder / "temporary").iterdir()}
    if others:
        problems.append(f"left over: {sorted(others)[:5]}")
    return problems + growth(count, samples, note)


def growth(count: int, samples: list[Sample], note: Callable[[str], None]) -> list[str]:
    """What grows from the first fifth of the pictures to the last."""
    problems = []
    # the first few pictures are not typical of a batch
    first = [
        sample
        for sample in samples
        if count * 0.02 <= sample.done <= count * 0.2 and sample.workers
    ]
    last = [sample for sample in samples if count * 0.8 <= sample.done < count and sample.workers]
    if not first or not last:
        return ["no samples: too few pictures to compare"] if count >= 100 else []
    figures = {
        "a worker at its largest": [mean_of_peaks(part) for part in (first, last)],
        "the command": [mean([sample.parent for sample in part]) for part in (first, last)],
        "descriptors": [max(sample.descriptors for sample in part) for part in (first, last)],
    }
    for name, (before, after) in figures.items():
        unit = "" if name == "descriptors" else " MB"
        change = f"{name}: {before:.0f}{unit} in the first fifth, {after:.0f}{unit} in the last"
        note(change)
        if after > before * GROWTH and count >= 100:
            problems.append(f"{name} grows: {change}")
    return problems


def mean_of_peaks(samples: list[Sample]) -> float:
    """The mean of the peaks of all processes: workers are replaced during a batch."""
    most: dict[int, float] = defaultdict(float)
    for sample in samples:
        for process, held in sample.workers.items():
            most[process] = max(most[process], held)
    return mean(list(most.values()))


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
