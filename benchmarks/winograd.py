"""Winograd convolution compared with TensorFlow's, by the number of channels.

    .venv/bin/python benchmarks/winograd.py [--positions 4096] [--precision float32] [--runs 15]

Each row is a 3x3 convolution with as many channels in its input as in its output, forward and
backward, the two ways in turn; the ratio is the median of the ratios of each turn. The limits in
neural_style_tf/network/winograd.py come from this table.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neural_style_tf.machine import tensorflow_setup

CHANNELS = (64, 128, 256, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=4096, help="pixels of the features")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    device = tensorflow_setup.start(debug=False)
    side = math.isqrt(options.positions)
    print(f"Features of {side}x{side} in {options.precision} on {device}.\n")
    print("| channels | direction | TensorFlow | Winograd | times as fast |")
    print("| --- | --- | --- | --- | --- |")
    for channels in CHANNELS:
        for direction in ("forward", "backward"):
            plain, fast, ratio = compare(side, channels, options.precision, direction, options.runs)
            row = f"| {1000 * plain:.2f} ms | {1000 * fast:.2f} ms | {ratio:.2f} |"
            print(f"| {channels} | {direction} {row}", flush=True)


def compare(
    side: int, channels: int, precision: str, direction: str, runs: int
) -> tuple[float, float, float]:
    """The median seconds of TensorFlow's convolution and of Winograd's, and their ratio."""
    from benchmarks.step import seconds

    plain, fast = ways(side, channels, precision, direction)
    for run in (plain, fast):
        run()
    turns = [(seconds(plain), seconds(fast)) for _ in range(runs)]
    ratio = statistics.median(slow / quick for slow, quick in turns)
    return *map(statistics.median, zip(*turns, strict=True)), ratio


def ways(
    side: int, channels: int, precision: str, direction: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The same convolution by TensorFlow, in the faster of its two ways, and by Winograd."""
    import tensorflow as tf

    from neural_style_tf.network import winograd
    from neural_style_tf.network.layers import Layer
    from neural_style_tf.network.operations import Convolution

    dtype = tf.as_dtype(precision)
    kernel = tf.random.normal((3, 3, channels, channels), seed=1) / math.sqrt(9 * channels)
    features = tf.cast(tf.random.normal((1, side, side, channels), seed=2), dtype)
    operation = Convolution(Layer("conv", "conv", kernel, tf.zeros(channels)), dtype)
    transformed = tf.cast(winograd.transform_kernel(kernel), dtype)
    if direction == "forward":
        plain = tf.function(lambda values: operation.forward(values)[0], autograph=False)
        fast = tf.function(lambda values: winograd.convolve(values, transformed), autograph=False)
    else:
        plain = tf.function(lambda values: operation.backward(values, None), autograph=False)
        fast = tf.function(
            lambda values: winograd.convolve_transposed(values, transformed), autograph=False
        )
    return (
        lambda: plain(features)[0, 0, 0, 0].numpy(),
        lambda: fast(features)[0, 0, 0, 0].numpy(),
    )


if __name__ == "__main__":
    main()
