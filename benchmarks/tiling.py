"""Every size: seconds of one gradient, and the most memory of the process; whole and in tiles.

    .venv/bin/python benchmarks/tiling.py [--sizes 512 1024 2048] [--tile 1024] [--whole 2048]
    .venv/bin/python benchmarks/tiling.py --sizes 4096 --tile 512 --precision bfloat16
    .venv/bin/python benchmarks/tiling.py --sizes 512 1024 2048 4096 --auto

Each row is a process of its own: one gradient to warm up, then the median of some. With --auto each
size runs as `--tile auto` has it: whole if it fits into the memory that is free.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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
    parser.add_argument("--runs", type=int, default=3, help="gradients that count")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "TILE"), help="only this; print it")
    options = parser.parse_args()
    if options.one:
        size, tile = int(options.one[0]), options.one[1]
        print(*gradient(size, tile, options.precision, options.runs))
        return
    head = ("size", "tiles", "seconds", "per megapixel", "against whole", "peak memory")
    print(f"| {' | '.join(head)} | against whole |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in options.sizes:
        whole = None
        tiles = ["off"] * (size <= options.whole) + [str(options.tile)] * (size > options.tile)
        for tile in ["auto"] if options.auto else tiles:
            command = [sys.executable, __file__, "--one", str(size), tile]
            command += ["--precision", options.precision, "--runs", str(options.runs)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures = [float(word) for word in done.stdout.split()]
            if tile == "off":
                whole = figures
            seconds, megabytes = figures
            pairs = zip(figures, whole or (), strict=False)
            ratios = [f"{tiled / untiled:.2f}" for tiled, untiled in pairs]
            time_ratio, memory_ratio = ratios or ("", "")
            print(
                f"| {size}x{size} | {tile} | {seconds:.2f} | {seconds / size**2 * 1e6:.2f} "
                f"| {time_ratio} | {megabytes:.0f} MB | {memory_ratio} |",
                flush=True,
            )


def gradient(size: int, tile: str, precision: str, runs: int) -> tuple[float, float]:
    """The seconds of a gradient at that size, and the megabytes that it all took."""
    tensorflow_setup.start(debug=False)
    from benchmarks.step import pictures
    from neural_style_tf.network import vgg
    from neural_style_tf.objective import memory
    from neural_style_tf.painting import tiling

    network = vgg.load(BUNDLED_NETWORK)
    photo, painting, picture = pictures(size, size)
    dtype = feature_dtype(precision)
    sizes = [photo.shape[1:3], painting.shape[1:3]]
    pixels = tiling.choose_size(network, sizes, Settings(tile=tile), dtype)
    evaluate, _ = memory.make_objective(
        network, photo.numpy(), [painting.numpy()], Settings(style_loss="mean"), dtype, pixels
    )
    evaluate(picture)
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        evaluate(picture).gradient.numpy()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken), memory.peak()


if __name__ == "__main__":
    main()
