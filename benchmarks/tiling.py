"""Every size: seconds of one gradient and peak memory of the process; whole and in tiles.

    .venv/bin/python benchmarks/tiling.py [--sizes 512 1024 2048] [--tile 1024] [--whole 2048]
    .venv/bin/python benchmarks/tiling.py --sizes 4096 --tile 512 --precision bfloat16
    .venv/bin/python benchmarks/tiling.py --sizes 512 1024 2048 4096 --auto

Each row is a separate process: one gradient to warm up, then the median of a few. With --auto each
size runs as with `--tile auto`: whole if it fits into the free memory.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import memory
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048], help="square")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--whole", type=int, default=2048, help="the largest size to run whole")
    parser.add_argument("--auto", action="store_true", help="run each size as --tile auto would")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--runs", type=int, default=3, help="gradients to take the median of")
    parser.add_argument("--row", nargs=2, metavar=("SIZE", "TILE"), help="print this row only")
    options = parser.parse_args()
    if options.row:
        size, tile = int(options.row[0]), options.row[1]
        print(*gradient(size, tile, options.precision, options.runs))
        return
    print("| size | tiles | seconds | per megapixel | of whole | peak memory | of whole |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in options.sizes:
        whole = None
        tiles = ["off"] * (size <= options.whole) + [str(options.tile)] * (size > options.tile)
        for tile in ["auto"] if options.auto else tiles:
            command = [sys.executable, __file__, "--row", str(size), tile]
            command += ["--precision", options.precision, "--runs", str(options.runs)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured = [float(word) for word in done.stdout.split()]
            if tile == "off":
                whole = measured
            seconds, megabytes = measured
            ratios = [f"{a / b:.2f}" for a, b in zip(measured, whole or (), strict=False)]
            time_ratio, memory_ratio = ratios or ("", "")
            print(
                f"| {size}x{size} | {tile} | {seconds:.2f} | {seconds / size**2 * 1e6:.2f} "
                f"| {time_ratio} | {megabytes:.0f} MB | {memory_ratio} |",
                flush=True,
            )


def gradient(size: int, tile: str, precision: str, runs: int) -> tuple[float, float]:
    """The seconds of a gradient at that size, and the peak memory in megabytes."""
    tensorflow_setup.start(debug=False)
    from benchmarks.step import pictures
    from neural_style_tf.network import vgg
    from neural_style_tf.objective.memory import make_objective
    from neural_style_tf.painting import tiling

    network = vgg.load(BUNDLED_NETWORK)
    photo, painting, picture = pictures(size, size)
    dtype = feature_dtype(precision)
    sizes = [photo.shape[1:3], painting.shape[1:3]]
    settings = Settings(style_loss="mean", tile=tile)
    pixels = tiling.choose_size(network, sizes, settings, dtype)
    evaluate, _ = make_objective(
        network, photo.numpy(), [painting.numpy()], settings, dtype, pixels
    )
    evaluate(picture)
    durations = []
    for _ in range(runs):
        began = time.perf_counter()
        evaluate(picture).gradient.numpy()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations), memory.peak()


if __name__ == "__main__":
    main()
