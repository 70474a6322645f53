"""Loss against evaluations and seconds for each optimizer, judged by the saved picture.

    .venv/bin/python benchmarks/optimizers.py [--evaluations 150] [--reference 1000]

Every optimizer paints the example pair at 512x384 with `--style-loss moments`, and Adam with a
learning rate of 20. After some steps the picture is saved as a PNG and read again, and its loss is
computed in float32, as the file is what counts. Prints a table and draws benchmarks/optimizers.png
(needs matplotlib). With `--reference` the first row is Adam with that many steps, which
`AFTER_1000_STEPS` comes from.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import memory
from benchmarks.step import MOMENTS
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.pictures import reading, resampling, sizes, writing
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

ROOT = Path(__file__).resolve().parent.parent
PAIR = ("examples/china.jpg", "examples/church-at-auvers.jpg")
HEIGHT, WIDTH = 384, 512
# Loss of the saved PNG after `--reference 1000` in float32 on an AMD EPYC.
AFTER_1000_STEPS = 389_136
# Evaluations after which a picture is saved.
MARKS = (10, 25, 50, 75, 100, 125, 150, 200, 250, 300, 500, 1000)
RUNS = {
    "adam": {"optimizer": "adam", "learning_rate": 20.0},
    "lbfgs": {"optimizer": "lbfgs"},
    "l-bfgs-b": {"optimizer": "l-bfgs-b", "evaluations": 25},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--reference", type=int, help="first row: Adam with this many steps")
    options = parser.parse_args()
    device = tensorflow_setup.start(debug=False)

    precision = feature_dtype("auto").name
    print(f"{WIDTH}x{HEIGHT} on {device} in {precision}; losses of the saved PNGs in float32.\n")
    print("| optimizer | evaluations | seconds | loss | peak memory so far |")
    print("| --- | --- | --- | --- | --- |")
    runs = [(name, variant, options.evaluations) for name, variant in RUNS.items()]
    if options.reference:
        plain = RUNS["adam"] | {"precision": "float32"}
        runs.insert(0, (f"adam, {options.reference} steps", plain, options.reference))
    curves = {name: descend(name, variant, total) for name, variant, total in runs}
    target = curves[runs[0][0]][-1][2] if options.reference else AFTER_1000_STEPS
    print(f"\nEvaluations until the loss is that of 1000 steps of Adam ({target:,.0f}):")
    for name, curve in curves.items():
        reached = next((str(done) for done, _, loss in curve if loss <= target), "not reached")
        print(f"{name}: {reached}.", end=" ")
    print()
    draw(curves, target)


def descend(name: str, variant: dict, evaluations: int) -> list[tuple[int, float, float]]:
    """Paints with a variant of the settings. Returns rows of evaluations, seconds and loss."""
    from neural_style_tf.network import vgg
    from neural_style_tf.painting.stylize import stylize

    per_step = variant.get("evaluations", 1)
    keywords = {
        "iterations": -(-evaluations // per_step),
        "style_loss": MOMENTS.style_loss,
        **variant,
    }
    loss_of = judge(MOMENTS, HEIGHT, WIDTH)
    photo, painting = pair(HEIGHT, WIDTH)
    network = vgg.load(BUNDLED_NETWORK)
    curve, spent, began = [], 0.0, time.monotonic()

    def on_step(step) -> None:
        nonlocal spent, began
        if step.iteration is None:
            return
        done = (step.iteration + 1) * per_step
        if done not in MARKS and done != evaluations:
            return
        image = step.image()
        spent += time.monotonic() - began
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            writing.save(path, image)
            curve.append((done, spent, loss_of(path)))
        row = f"| {name} | {done} | {spent:.1f} | {curve[-1][2]:,.0f} | {memory.peak():.0f} MB |"
        print(row, flush=True)
        began = time.monotonic()

    list(stylize(network, photo, [painting], on_step=on_step, **keywords))
    return curve


def judge(
    settings: Settings, height: int, width: int, names: Sequence[str | Path] = PAIR
) -> Callable[[Path], float]:
    """A function that returns the loss of a picture in a file, in float32."""
    import tensorflow as tf

    from neural_style_tf.network import vgg
    from neural_style_tf.objective.objective import make_losses, measure_targets

    network = vgg.load(BUNDLED_NETWORK)
    photo, painting = (tf.constant(pixels[np.newaxis]) for pixels in pair(height, width, names))
    losses = make_losses(network, measure_targets(network, photo, [painting], settings), settings)
    return lambda path: float(losses(tf.constant(reading.read(path).pixels[np.newaxis]))["total"])


def pair(
    height: int, width: int, names: Sequence[str | Path] = PAIR
) -> tuple[np.ndarray, np.ndarray]:
    """An example photo at that size and its painting, as the command line sizes it."""
    photo, painting = (reading.read(ROOT / name).pixels for name in names)
    settings = Settings(style_scales=(1,))
    size = sizes.of_style(painting.shape[:2], (height, width), settings).size
    return resampling.resize(photo, height, width), resampling.resize(painting, *size)


def draw(curves: dict[str, list[tuple[int, float, float]]], target: float) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for column, label in enumerate(("evaluations", "seconds")):
        axes = figure.add_subplot(1, 2, column + 1, xlabel=label, ylabel="loss of the saved PNG")
        axes.set(xscale="log", yscale="log")
        for name, curve in curves.items():
            axes.plot([row[column] for row in curve], [row[2] for row in curve], "o-", label=name)
        axes.axhline(target, color="gray", linestyle="--", label="1000 steps of Adam")
        for axis in (axes.xaxis, axes.yaxis):  # plain numbers
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:,.0f}")
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(ROOT / "benchmarks" / "optimizers.png", dpi=110)


if __name__ == "__main__":
    main()
