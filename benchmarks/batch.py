"""Many pictures: a shell loop against batch.py, one worker against two, Dask, and what a job costs.

    .venv/bin/python benchmarks/batch.py [--skip loop workers cluster jobs memory]

Four photos and three paintings at 256 pixels, 50 iterations. Of two ways that are compared one is
measured before and after the other, half of the loop or all of it: a machine that is faster or
slower in one hour than in the next favours neither. 10,000 jobs that paint nothing tell what the
pool and the scheduler cost a job. A worker paints 100 pictures of 100 sizes: the most that it
holds after one of the first ten, and of all.
"""

import argparse
import functools
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import memory

from neural_style_tf.batch import jobs, processes
from neural_style_tf.commands import parser as command_line
from neural_style_tf.machine import cpu
from neural_style_tf.runs.options import RunOptions

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = ("china", "cat", "rocket", "pere-tanguy")
PAINTINGS = ("church-at-auvers", "cafe-terrace", "painter-on-the-road")
OPTIONS = ["--size", "256", "--iterations", "50"]
JOBS = 10_000
SIZES = [64 + 2 * (37 * number % 100) for number in range(100)]  # pixels, all different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip", nargs="+", default=[])
    skipped = parser.parse_args().skip
    print(f"On {cpu.threads()} processors.\n")
    print("| what | measured | |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, names in (("photos", PHOTOS), ("paintings", PAINTINGS)):
            (folder / kind).mkdir()
            for picture in names:
                shutil.copy(ROOT / "examples" / f"{picture}.jpg", folder / kind)
        if "loop" not in skipped:
            first = seconds(lambda: shell_loop(folder, PHOTOS[:2]))
            auto = seconds(lambda: batch(folder))
            loop = first + seconds(lambda: shell_loop(folder, PHOTOS[2:]))
            row("a shell loop over neural_style.py, 12 pictures", f"{loop:.0f} s")
            row("batch.py, the same", f"{auto:.0f} s", f"{loop / auto:.2f} times as fast")
        if "workers" not in skipped:
            turns = [rate(folder, "--workers", n, "--threads", n) for n in ("2", "1", "2")]
            one, two = turns[1], statistics.harmonic_mean(turns[::2])
            row("one worker of one thread", f"{one:.0f} pictures per hour")
            row("two of them", f"{two:.0f} pictures per hour", f"{two / one:.2f} times as many")
        if "cluster" not in skipped:
            ways = (("--workers", "2"), ("--cluster", "local"), ("--workers", "2"))
            turns = [seconds(lambda way=way: batch(folder, *way, "--threads", "2")) for way in ways]
            here, dask = statistics.mean(turns[::2]), turns[1]
            row("two workers", f"{here:.0f} s")
            row("a Dask cluster of two", f"{dask:.0f} s", f"{here / dask:.2f} times as fast")
    if "jobs" not in skipped:
        cost = 1000 * seconds(lambda: list(processes.run(range(JOBS), 2, nothing))) / JOBS
        row(f"{JOBS:,} jobs that paint nothing, two workers", f"{cost:.2f} ms each")
        row(f"{JOBS:,} jobs that paint nothing, Dask", f"{1000 * of_dask() / JOBS:.2f} ms each")
    if "memory" not in skipped:
        tenth, last = memory_of_sizes()
        growth = f"{last / tenth - 1:+.0%}"
        row("the most a worker holds: 10 pictures, 100", f"{tenth:.0f} MB, {last:.0f} MB", growth)


def row(*cells: str) -> None:
    what, measured, comment = (*cells, "")[:3]
    print(f"| {what} | {measured} | {comment} |", flush=True)


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shell_loop(folder: Path, photos: Sequence[str]) -> None:
    for photo in photos:
        for painting in PAINTINGS:
            run(
                "neural_style.py",
                *("--content", folder / "photos" / f"{photo}.jpg"),
                *("--styles", folder / "paintings" / f"{painting}.jpg"),
                *("--output", folder / f"{photo}-{painting}.png", *OPTIONS),
            )


def batch(folder: Path, *more: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as gallery:
        options = ["--contents", folder / "photos", "--styles", folder / "paintings", *OPTIONS]
        run("batch.py", *options, "--output-dir", gallery, *more)


def rate(folder: Path, *more: str) -> float:
    """Pictures per hour."""
    return 3600 * len(PHOTOS) * len(PAINTINGS) / seconds(lambda: batch(folder, *more))


def run(program: str, *arguments: str | Path) -> None:
    subprocess.run([sys.executable, ROOT / program, *arguments, "--quiet"], check=True)


def nothing():
    return lambda job, tell: job


def of_dask() -> float:
    """The seconds of all jobs, on a cluster of two processes that is there already."""
    from distributed import Client, LocalCluster

    from neural_style_tf.batch import dask_cluster

    job = RunOptions(content="content", styles=["style"], output="output")
    two = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with two, Client(two):
        address = two.scheduler_address
        return seconds(lambda: list(dask_cluster.run([job] * JOBS, address, True, work=no_picture)))


def no_picture(*_: object) -> tuple[jobs.Outcome, None]:
    return jobs.Outcome("done"), None


def memory_of_sizes() -> tuple[float, float]:
    """The most megabytes that a worker holds after one of the first ten pictures, and of all."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = [
            command_line.parse(
                [
                    *("--content", str(ROOT / "examples/china.jpg")),
                    *("--styles", str(ROOT / "examples/church-at-auvers.jpg")),
                    *("--output", f"{folder}/{size}.png", "--size", str(size)),
                    *("--iterations", "2"),
                ],
                {},
            )
            for size in SIZES
        ]
        events = processes.run(pictures, 1, measured_painter, kinds=SIZES)
        held = [event.value for event in events if event.kind == "done"]
    return max(held[:10]), max(held)


def measured_painter():
    """A painter that tells what its process holds, in megabytes."""
    work = jobs.in_worker(1, False)

    def measured(job, tell) -> float:
        outcome = work(job, tell)
        assert outcome.status == "done", outcome.message
        return memory.held()

    return functools.wraps(work)(measured)


if __name__ == "__main__":
    main()
