"""A step in each precision compared with a plain one: seconds, convolutions, memory.

    .venv/bin/python benchmarks/step.py [--size 512] [--runs 7]

A step is the forward pass, the gradient and Adam's update. The plain one uses TensorFlow's own
operations and GradientTape in a `tf.function` (benchmarks/plain.py). All are timed in turn, and the
ratio is the median of the ratios of each turn. The share of the convolutions comes from timing each
of them alone. Memory is the most that a separate process held, and how much of it grows with the
picture.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import memory
from neural_style_tf.machine import cpu, tensorflow_setup
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("plain", "float32", "bfloat16")
COMPARABLE = Settings(style_loss="mean", style_weight=5000)  # the loss of the other programs
MOMENTS = Settings(style_loss="moments")  # ours without neighbours
MEMORY_SIZE = 1024  # of the picture for which memory is measured: large enough to dominate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of the square picture")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--peak", choices=VARIANTS, help="only run a few such steps and print MB")
    options = parser.parse_args()
    device = tensorflow_setup.start(debug=False)
    if options.peak:
        take = make_step(options.peak, options.size, options.size)
        for _ in range(3):
            take()
        print(memory.peak())
        return
    chosen = feature_dtype("auto").name
    steps = {}
    for variant in VARIANTS:
        try:
            steps[variant] = make_step(variant, options.size, options.size)
            steps[variant]()
        except Exception as error:  # a processor without this precision
            steps.pop(variant, None)
            print(f"{variant}: {type(error).__name__}", file=sys.stderr)
    times = {variant: [] for variant in steps}
    for _ in range(options.runs):
        for variant, step in steps.items():
            times[variant].append(seconds(step))
    print(
        f"A step at {options.size}x{options.size} on {device}, medians of {options.runs}; ", end=""
    )
    print(f"`--precision auto` chooses {chosen}.\n")
    columns = ("step", "seconds", "times as fast", "convolutions")
    columns += (f"peak memory at {MEMORY_SIZE}x{MEMORY_SIZE}", "per megapixel")
    print(f"| {' | '.join(columns)} |")
    print("| --- | --- | --- | --- | --- | --- |")
    for variant, durations in times.items():
        ratio = statistics.median(a / b for a, b in zip(times["plain"], durations, strict=True))
        share = (
            ""
            if variant == "plain"
            else f"{convolutions(variant, options.size) / statistics.median(durations):.0%}"
        )
        large, small = peak(variant, MEMORY_SIZE), peak(variant, 64)
        print(
            f"| {variant} | {statistics.median(durations):.3f} | {ratio:.2f} | {share} "
            f"| {large:.0f} MB | {(large - small) / (MEMORY_SIZE**2 - 64**2) * 1e6:.0f} MB |"
        )


def make_step(
    variant: str, height: int, width: int, settings: Settings = COMPARABLE
) -> Callable[[], None]:
    """A function that runs the next step of a descent of its own."""
    import tensorflow as tf

    from benchmarks import plain
    from neural_style_tf.network import vgg
    from neural_style_tf.objective.objective import make_objective, measure_targets
    from neural_style_tf.optimizers.adam import Adam

    network = vgg.load(BUNDLED_NETWORK)
    photo, painting, picture = pictures(height, width)
    if variant == "plain":
        objective = plain.make_objective(network, photo, [painting], settings)
    else:
        targets = measure_targets(network, photo, [painting], settings)
        objective = make_objective(network, targets, settings, tf.as_dtype(variant))
    adam = Adam(20, 0.9, 0.999, 1e-8, "cosine", total=1000)
    state = adam.init(picture)

    def step() -> None:
        nonlocal picture, state
        picture, state, _ = adam.step(objective, picture, state)
        picture.numpy()

    return step


def pictures(height: int, width: int) -> list:
    """A photo, a painting and a painted photo, each [1, height, width, 3] float32 RGB, 0..255."""
    import tensorflow as tf

    from neural_style_tf.pictures import reading, resampling

    names = ("china.jpg", "church-at-auvers.jpg", "china-church.jpg")
    images = [reading.read(ROOT / "examples" / name).pixels for name in names]
    return [tf.constant(resampling.resize(image, height, width)[np.newaxis]) for image in images]


def convolutions(precision: str, size: int) -> float:
    """The seconds of all convolutions of a step, forward and backward, each timed alone."""
    import tensorflow as tf

    from neural_style_tf.network import vgg
    from neural_style_tf.network.backprop import Passes

    dtype = tf.as_dtype(precision)
    network = vgg.load(BUNDLED_NETWORK)
    settings = COMPARABLE
    passes = Passes(
        network.layers,
        settings.layers(),
        settings.pooling,
        settings.padding,
        dtype=dtype,
        often=True,
    )
    total, side, channels = 0.0, size, 3
    for name, operation in passes.operations.items():
        if name.startswith("pool"):
            side = -(-side // 2)
        if not name.startswith("conv"):
            continue
        image_type = tf.float32 if channels == 3 else dtype
        image = tf.ones((1, side, side, channels), image_type)
        channels = next(layer.kernel.shape[3] for layer in network.layers if layer.name == name)
        gradient = tf.ones((1, side, side, channels), dtype)
        forward = tf.function(lambda image, run=operation: run.forward(image)[0])
        backward = tf.function(lambda gradient, run=operation: run.backward(gradient, None))
        for run, argument in ((forward, image), (backward, gradient)):
            run(argument)
            durations = [
                seconds(lambda run=run, x=argument: run(x)[0, 0, 0, 0].numpy()) for _ in range(5)
            ]
            total += statistics.median(durations)
    return total


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def peak(variant: str, size: int) -> float:
    """The most megabytes that a separate process holds in a few steps; for the plain ones with the
    convolutions that TensorFlow uses by default."""
    environment = os.environ.copy()
    if variant == "plain" and not cpu.uses_onednn_by_default():
        environment[cpu.ONEDNN] = "0"
    command = [sys.executable, __file__, "--peak", variant, "--size", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


if __name__ == "__main__":
    main()
