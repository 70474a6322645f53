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
    """One batch of as many pictures as are wanted; with little time, of fewer."""
    left = soak.left()
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
        found = wrongs(folder, case["pictures"], broken, samples, status, errors, print)
        return "; ".join(found) or None


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
    """Runs the batch: what it held on the way, its status and what it told."""
    home = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary")}
    command = [sys.executable, str(ROOT / "batch.py"), "--contents", "photos"]
    command += ["--styles", "painting.png", "--output-dir", "gallery", "--name", "{content}.png"]
    command += ["--network", "network.mat", *ground.QUICK, "--iterations", "2"]
    command += ["--workers", str(WORKERS), "--threads", str(WORKERS)]
    samples, told = [], folder / "told.txt"
    with told.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | home, stdout=errors, stderr=errors
        )
        ends = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < ends:
            samples += sample(process.pid, told)
            time.sleep(0.25)
        process.terminate()
        return samples, process.wait(), told.read_text(errors="replace")


def sample(parent: int, told: Path) -> list[Sample]:
    """What is held now; nothing if a process ended while it was looked at."""
    done = [
        0,
        *map(int, re.findall(r"^(\d+)/\d+ ", told.read_text(errors="replace"), re.MULTILINE)),
    ]
    try:
        parents = {int(path.name): parent_of(path) for path in Path("/proc").glob("[0-9]*")}
        own = {parent}
        while more := {one for one, above in parents.items() if above in own} - own:
            own |= more
        # those that paint have TensorFlow's threads
        painting = [one for one in own - {parent} if len(os.listdir(f"/proc/{one}/task")) > 3]
        held = {one: megabytes(one) for one in painting}
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
    found = []
    if status != (1 if broken else 0):
        found.append(f"status {status}: {errors[-1000:]}")
    if "Traceback" in errors:
        found.append(f"traceback: {errors[errors.index('Traceback') :][:1500]}")
    names = {f"{number:04}.png" for number in range(count)}
    painted = {path.name for path in (folder / "gallery").glob("*.png")}
    if painted != names - broken:
        found.append(f"not all painted: {sorted(painted ^ (names - broken))[:5]}")
    for name in sorted(painted):
        with Image.open(folder / "gallery" / name) as image:
            image.load()
    lines = [line for line in errors.splitlines() if re.match(r"\d+/\d+ error: ", line)]
    if len(lines) != len(broken) or not all(any(name in line for line in lines) for name in broken):
        found.append(f"failures not told: {len(lines)} lines for {len(broken)} broken pictures")
    others = {path.name for path in (folder / "gallery").iterdir()} - painted
    others -= {"gallery.json", "gallery.html", "gallery.jpg"}
    others |= {path.name for path in (folder / "temporary").iterdir()}
    if others:
        found.append(f"left over: {sorted(others)[:5]}")
    return found + growth(count, samples, note)


def growth(count: int, samples: list[Sample], note: Callable[[str], None]) -> list[str]:
    """What grows from the first fifth of the pictures to the last."""
    found = []
    # the first few pictures are not what a batch holds on its way
    first = [one for one in samples if count * 0.02 <= one.done <= count * 0.2 and one.workers]
    last = [one for one in samples if count * 0.8 <= one.done < count and one.workers]
    if not first or not last:
        return ["no samples: too few pictures to compare"] if count >= 100 else []
    figures = {
        "a worker at its largest": [mean_of_peaks(part) for part in (first, last)],
        "the command": [mean([one.parent for one in part]) for part in (first, last)],
        "descriptors": [max(one.descriptors for one in part) for part in (first, last)],
    }
    for name, (before, after) in figures.items():
        unit = "" if name == "descriptors" else " MB"
        told = f"{name}: {before:.0f}{unit} in the first fifth, {after:.0f}{unit} in the last"
        note(told)
        if after > before * GROWTH and count >= 100:
            found.append(f"{name} grows: {told}")
    return found


def mean_of_peaks(samples: list[Sample]) -> float:
    """The mean of the most that each process held: they are replaced on the way."""
    most: dict[int, float] = defaultdict(float)
    for one in samples:
        for process, held in one.workers.items():
            most[process] = max(most[process], held)
    return mean(list(most.values()))


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
