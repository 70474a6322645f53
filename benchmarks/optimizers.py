"""Loss against evaluations and seconds for each optimizer, judged by the saved picture.

    .venv/bin/python benchmarks/optimizers.py [--width 512] [--height 384] [--reference 1000]

Every optimizer paints the example pair with the default losses. Now and then its picture is saved
as a PNG, read again, and its loss taken in float32: what counts is what is in the file. Prints a
table and draws benchmarks/optimizers.png (needs matplotlib). The first row is Adam over
`--reference` steps; the others are held against its last loss.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import images
import neural_style
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
MARKS = (10, 25, 50, 75, 100, 150, 250, 500, 1000)  # evaluations after which a picture is saved
RUNS = {
    "adam": {},
    "lbfgs": {"optimizer": "lbfgs", "initial_noiseblend": 0.0},
    "lbfgs, default start": {"optimizer": "lbfgs"},
    "l-bfgs-b": {"optimizer": "l-bfgs-b", "initial_noiseblend": 0.0, "evaluations": 25},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--reference", type=int, default=1000, help="steps of the first row")
    parser.add_argument("--evaluations", type=int, default=150, help="of the others")
    options = parser.parse_args()
    device = neural_style.start_tensorflow(debug=False)
    import tensorflow as tf

    import vgg
    from objective import make_objective, measure_targets
    from stylize import stylize

    network = vgg.load(ROOT / "imagenet-vgg-verydeep-19.mat")
    size = (options.height, options.width)
    photo = images.resize(images.read(ROOT / "examples/china.jpg").pixels, *size)
    painting = images.read(ROOT / "examples/church-at-auvers.jpg").pixels
    painting = images.resize(painting, *images.style_size(*painting.shape[:2], options.width, 1))
    batch = [tf.constant(picture[np.newaxis]) for picture in (photo, painting)]
    objective = make_objective(
        network, measure_targets(network, batch[0], [batch[1]], Settings()), Settings()
    )

    def loss_when_saved(image: np.ndarray) -> float:
        with tempfile.TemporaryDirectory() as folder:
            images.save(Path(folder) / "picture.png", image)
            pixels = images.read(Path(folder) / "picture.png").pixels
        return float(objective(tf.constant(pixels[np.newaxis])).losses["total"])

    print(f"{options.width}x{options.height} on {device}, loss of the saved PNG in float32")
    print(f"{'optimizer':22} {'evaluations':>11} {'seconds':>8} {'loss':>12}")
    curves = {}
    for name, variant in RUNS.items():
        evaluations = options.reference if name == "adam" else options.evaluations
        a_step = variant.get("evaluations", 1)
        settings = Settings(iterations=-(-evaluations // a_step), **variant)
        spent, began, curve = 0.0, time.monotonic(), []

        def on_step(step, a_step=a_step, curve=curve, name=name, total=evaluations):
            nonlocal spent, began
            if step.iteration is None:
                return
            done = (step.iteration + 1) * a_step
            if done in MARKS or done == total:
                image = step.image()
                spent += time.monotonic() - began
                curve.append((done, spent, loss_when_saved(image)))
                print(f"{name:22} {done:11} {spent:8.1f} {curve[-1][2]:12,.0f}", flush=True)
                began = time.monotonic()

        list(stylize(network, photo, [painting], on_step=on_step, **dataclasses.asdict(settings)))
        curves[name] = curve
    target = curves["adam"][-1][2]
    for name, curve in curves.items():
        reached = [done for done, _, loss in curve if loss <= target]
        print(f"{name}: at {target:,.0f} after {reached[0] if reached else 'more than that many'}")
    draw(curves)


def draw(curves: dict[str, list[tuple[int, float, float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for column, label in enumerate(("evaluations", "seconds")):
        axes = figure.add_subplot(1, 2, column + 1, xlabel=label, ylabel="loss of the saved PNG")
        axes.set(xscale="log", yscale="log")
        for name, curve in curves.items():
            axes.plot([row[column] for row in curve], [row[2] for row in curve], "o-", label=name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(ROOT / "benchmarks" / "optimizers.png", dpi=110)


if __name__ == "__main__":
    main()
