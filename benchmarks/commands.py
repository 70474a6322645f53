"""Whole commands, from the shell to the file: how long until there is a picture.

    .venv/bin/python benchmarks/commands.py [--evaluations 138]

It measures how long the first preview takes; what the smallest run costs (imports, network,
tracing), as the time of one step at 64x64 pixels; what a run at 512x512 costs in addition to its
steps, and a second one in the same process; and how much sooner the `lbfgs` recipe reaches the loss
of 1000 plain Adam steps. Losses are of the saved PNG, in float32. A plain step is timed here and
multiplied by 1000; the loss after 1000 of them comes from `benchmarks/optimizers.py`.
"""

import argparse
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import memory
from benchmarks.optimizers import AFTER_1000_STEPS, PAIR, judge
from benchmarks.step import MOMENTS
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.settings import BUNDLED_NETWORK

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=138, help="of the lbfgs recipe")
    options = parser.parse_args()
    device = tensorflow_setup.start(debug=False)
    print(f"Commands on {device}.\n")
    print("| what | seconds | peak memory | |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        command = paint(Path(folder), "--width", "512", "--height", "512")
        subprocess.run([*command, "--iterations", "1"], check=True)  # fills the cache of networks
        previews = [first_preview(command, Path(folder)) for _ in range(3)]
        preview, peak = map(statistics.median, zip(*previews, strict=True))
        print(f"| first preview on disk, 512x512 | {preview:.1f} | {peak:.0f} MB | |")
        small = paint(Path(folder), "--width", "64", "--height", "64", "--iterations", "1")
        whole, peak = median_run(small)
        print(f"| one step, 64x64: the cost of the smallest run | {whole:.1f} | {peak:.0f} MB | |")
        first, second, step = in_one_process()
        whole, peak = median_run([*command, "--iterations", "1"])
        note = "the whole command"
        print(f"| a run without its steps, 512x512 | {whole - step:.1f} | {peak:.0f} MB | {note} |")
        note, peak = f"the first {first - step:.1f}", memory.peak()
        print(f"| a second in the same process | {second - step:.1f} | {peak:.0f} MB | {note} |")
        descent(Path(folder), options.evaluations)


def paint(folder: Path, *more: str) -> list[str]:
    command = [sys.executable, str(ROOT / "neural_style.py"), "--overwrite", "--quiet"]
    command += ["--content", str(ROOT / PAIR[0]), "--styles", str(ROOT / PAIR[1])]
    command += ["--style-loss", MOMENTS.style_loss]
    return [*command, "--output", str(folder / "out.png"), *more]


def median_run(command: list[str]) -> tuple[float, float]:
    """The seconds that a command takes, and the most megabytes that it holds, each the median of
    three."""
    runs = [memory.run(command) for _ in range(3)]
    return tuple(map(statistics.median, zip(*runs, strict=True)))


def first_preview(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds from the start of a run until its first checkpoint exists, and the most megabytes
    that it held until then."""
    preview = folder / "preview-0.jpg"
    preview.unlink(missing_ok=True)
    began = time.perf_counter()
    checkpoints = ["--checkpoint-output", str(folder / "preview-%d.jpg")]
    run = subprocess.Popen([*command, *checkpoints, "--checkpoint-iterations", "100"])
    while not preview.exists():
        if run.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended without a preview")
        time.sleep(0.01)
    duration, peak = time.perf_counter() - began, memory.peak(run.pid)
    run.terminate()
    run.wait()
    return duration, peak


def in_one_process() -> tuple[float, float, float]:
    """The seconds of two one-step runs in a row, with the network loaded, and of one step."""
    from benchmarks.step import make_step, pictures, seconds
    from neural_style_tf.network import vgg
    from neural_style_tf.painting.stylize import stylize

    network = vgg.load(BUNDLED_NETWORK)
    photo, painting, _ = (picture.numpy()[0] for picture in pictures(512, 512))
    settings = dataclasses.replace(MOMENTS, iterations=1)
    runs = [
        seconds(lambda: list(stylize(network, photo, [painting], settings=settings)))
        for _ in range(2)
    ]
    step = make_step(feature_dtype("auto").name, 512, 512)
    step()
    # a run of one step evaluates the loss twice: in the step, and of the final picture
    return *runs, 2 * statistics.median(seconds(step) for _ in range(3))


def descent(folder: Path, evaluations: int) -> None:
    """The `lbfgs` recipe against 1000 plain steps of Adam, at 512x384."""
    from benchmarks.step import make_step, seconds

    recipe = [f"@{ROOT / 'recipes' / 'lbfgs.args'}", "--iterations", str(evaluations)]
    command = paint(folder, *recipe, "--width", "512", "--height", "384")
    plain = make_step("plain", 384, 512, MOMENTS)
    plain()
    steps = [seconds(plain) for _ in range(5)]
    run, peak = memory.run(command)
    steps += [seconds(plain) for _ in range(5)]
    loss = judge(MOMENTS, 384, 512)(folder / "out.png")
    thousand = 1000 * statistics.median(steps)
    verdict = f"{thousand / run:.1f} times as fast" if loss <= AFTER_1000_STEPS else "not reached"
    print(f"| 1000 plain Adam steps, 512x384 | {thousand:.0f} | | loss {AFTER_1000_STEPS:,.0f} |")
    what = f"the lbfgs recipe, {evaluations} evaluations"
    print(f"| {what} | {run:.1f} | {peak:.0f} MB | loss {loss:,.0f}: {verdict} |")


if __name__ == "__main__":
    main()
