"""Many pictures: a shell loop, batch.py with one and two workers, Dask, and the cost of a job.

    .venv/bin/python benchmarks/batch.py [--skip loop workers cluster jobs memory]

Four photos and three paintings at 256 pixels, 50 iterations. Where two ways are compared, one is
measured before and after the other, so that a machine whose speed changes over an hour favours
neither. 10,000 jobs that paint nothing show what the pool and the scheduler cost per job. One
worker paints 100 pictures of 100 sizes: the most memory that it holds after one of the first ten,
and after any.
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

from benchmarks import memory
from neural_style_tf.batch import jobs, processes
from neural_style_tf.commands import parser as command_line
from neural_style_tf.machine import cpu
from neural_style_tf.runs.options import RunOptions

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = ("china", "cat", "rocket", "pere-tanguy")
PAINTINGS = ("church-at-auvers", "cafe-terrace", "painter-on-the-road")
OPTIONS = ["--size", "256", "--iterations", "50", "--style-loss", "moments"]
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
            rates = [rate(folder, "--workers", n, "--threads", n) for n in ("2", "1", "2")]
            single, double = rates[1], statistics.harmonic_mean(rates[::2])
            row("one worker with one thread", f"{single:.0f} pictures per hour")
            ratio = f"{double / single:.2f} times as many"
            row("two of them", f"{double:.0f} pictures per hour", ratio)
        if "cluster" not in skipped:
            ways = (("--workers", "2"), ("--cluster", "local"), ("--workers", "2"))
            times = [seconds(lambda way=way: batch(folder, *way, "--threads", "2")) for way in ways]
            processes_only, dask = statistics.mean(times[::2]), times[1]
            row("two workers", f"{processes_only:.0f} s")
            ratio = f"{processes_only / dask:.2f} times as fast"
            row("a Dask cluster of two", f"{dask:.0f} s", ratio)
    if "jobs" not in skipped:
        cost = 1000 * seconds(lambda: list(processes.run(range(JOBS), 2, nothing))) / JOBS
        row(f"{JOBS:,} jobs that paint nothing, two workers", f"{cost:.2f} ms each")
        cost = 1000 * dask_seconds() / JOBS
        row(f"{JOBS:,} jobs that paint nothing, Dask", f"{cost:.2f} ms each")
    if "memory" not in skipped:
        tenth, last = memory_of_sizes()
        change = f"{last / tenth - 1:+.0%}"
        row("peak memory of a worker: 10 pictures, 100", f"{tenth:.0f} MB, {last:.0f} MB", change)


def row(*cells: str) -> None:
    what, measured, comparison = (*cells, "")[:3]
    print(f"| {what} | {measured} | {comparison} |", flush=True)


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


def dask_seconds() -> float:
    """The seconds of all jobs on a cluster of two processes, without starting it."""
    from distributed import Client, LocalCluster

    from neural_style_tf.batch import dask_cluster

    job = RunOptions(content="content", styles=["style"], output="output")
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster):
        address = cluster.scheduler_address
        return seconds(lambda: list(dask_cluster.run([job] * JOBS, address, True, work=no_picture)))


def no_picture(*_: object) -> tuple[jobs.Outcome, None]:
    return jobs.Outcome("done"), None


def memory_of_sizes() -> tuple[float, float]:
    """The most megabytes that a worker holds after one of the first ten pictures, and after any."""
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
    """A painter that returns what its process holds, in megabytes."""
    work = jobs.in_worker(1, False)

    def measured(job, tell) -> float:
        outcome = work(job, tell)
        assert outcome.status == "done", outcome.message
        return memory.held()

    return functools.wraps(work)(measured)


if __name__ == "__main__":
    main()
