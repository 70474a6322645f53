"""Whole commands, from the shell to the file: how long until something is there.

    .venv/bin/python benchmarks/commands.py [--evaluations 138]

How long the first preview takes; what the smallest run costs (imports, network, tracing), which is
all that a step of 64x64 pixels takes; what one of 512x512 costs besides its steps, and a second one
in the same process; and how much sooner the `lbfgs` recipe has a picture whose saved PNG is as
good, by its loss in float32, as that of 1000 plain Adam steps. A plain step is timed here, and
multiplied; what loss 1000 of them reach was measured once, by `benchmarks/optimizers.py`.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import memory
from benchmarks.optimizers import AFTER_1000_STEPS, PAIR, judge
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

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
        subprocess.run([*command, "--iterations", "1"], check=True)  # the network is kept now
        previews = [first_preview(command, Path(folder)) for _ in range(3)]
        preview, most = map(statistics.median, zip(*previews, strict=True))
        print(f"| first preview on disk, 512x512 | {preview:.1f} | {most:.0f} MB | |")
        small = paint(Path(folder), "--width", "64", "--height", "64", "--iterations", "1")
        whole, most = median_run(small)
        print(f"| one step, 64x64: what the smallest run costs | {whole:.1f} | {most:.0f} MB | |")
        first, second, step = in_one_process()
        whole, most = median_run([*command, "--iterations", "1"])
        comment = "the whole command"
        print(
            f"| a run without its steps, 512x512 | {whole - step:.1f} | {most:.0f} MB | {comment} |"
        )
        comment, most = f"the first {first - step:.1f}", memory.peak()
        print(f"| a second in the same process | {second - step:.1f} | {most:.0f} MB | {comment} |")
        descent(Path(folder), options.evaluations)


def paint(folder: Path, *more: str) -> list[str]:
    command = [sys.executable, str(ROOT / "neural_style.py"), "--overwrite", "--quiet"]
    command += ["--content", str(ROOT / PAIR[0]), "--styles", str(ROOT / PAIR[1])]
    return [*command, "--output", str(folder / "out.png"), *more]


def median_run(command: list[str]) -> tuple[float, float]:
    """The seconds that a command takes, and the most megabytes that it holds, each the median of
    three."""
    runs = [memory.run(command) for _ in range(3)]
    return tuple(map(statistics.median, zip(*runs, strict=True)))


def first_preview(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds from the start of a run with default settings until its first checkpoint is there,
    and the most megabytes until then."""
    preview = folder / "preview-0.jpg"
    preview.unlink(missing_ok=True)
    began = time.perf_counter()
    checkpoints = ["--checkpoint-output", str(folder / "preview-%d.jpg")]
    run = subprocess.Popen([*command, *checkpoints, "--checkpoint-iterations", "100"])
    while not preview.exists():
        if run.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended without a preview")
        time.sleep(0.01)
    taken, most = time.perf_counter() - began, memory.peak(run.pid)
    run.terminate()
    run.wait()
    return taken, most


def in_one_process() -> tuple[float, float, float]:
    """The seconds of two runs of one step after another, network loaded, and of a step."""
    from benchmarks.step import make_step, pictures, seconds
    from neural_style_tf.network import vgg
    from neural_style_tf.painting.stylize import stylize

    network = vgg.load(BUNDLED_NETWORK)
    photo, painting, _ = (picture.numpy()[0] for picture in pictures(512, 512))
    runs = [
        seconds(lambda: list(stylize(network, photo, [painting], iterations=1))) for _ in range(2)
    ]
    step = make_step(feature_dtype("auto").name, 512, 512)
    step()
    return *runs, 2 * statistics.median(seconds(step) for _ in range(3))  # and the last look


def descent(folder: Path, evaluations: int) -> None:
    """The `lbfgs` recipe against 1000 plain steps of Adam, at 512x384."""
    from benchmarks.step import make_step, seconds

    recipe = [f"@{ROOT / 'recipes' / 'lbfgs.args'}", "--iterations", str(evaluations)]
    command = paint(folder, *recipe, "--width", "512", "--height", "384")
    plain = make_step("plain", 384, 512, Settings())
    plain()
    steps = [seconds(plain) for _ in range(5)]
    run, most = memory.run(command)
    steps += [seconds(plain) for _ in range(5)]
    loss = judge(Settings(), 384, 512)(folder / "out.png")
    thousand = 1000 * statistics.median(steps)
    verdict = f"{thousand / run:.1f} times as fast" if loss <= AFTER_1000_STEPS else "not reached"
    print(f"| 1000 plain Adam steps, 512x384 | {thousand:.0f} | | loss {AFTER_1000_STEPS:,.0f} |")
    comment = f"loss {loss:,.0f}: {verdict}"
    what = f"the lbfgs recipe, {evaluations} evaluations"
    print(f"| {what} | {run:.1f} | {most:.0f} MB | {comment} |")


if __name__ == "__main__":
    main()
