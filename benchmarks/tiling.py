"""Tiles against the whole picture: seconds of one gradient, and the most memory of the process.

    .venv/bin/python benchmarks/tiling.py [--sizes 1024 2048] [--tile 512]

Each row is a process of its own: one gradient to warm up, then one that counts.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import neural_style
from benchmarks import memory
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048], help="square")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "TILE"), help="only this; print it")
    options = parser.parse_args()
    if options.one:
        size, tile = options.one
        print(*gradient(int(size), None if tile == "off" else int(tile), options.precision))
        return
    print("| size | tiles | seconds a gradient | against whole | peak memory | against whole |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in options.sizes:
        whole = None
        for tile in ("off", str(options.tile)):
            command = [sys.executable, __file__, "--one", str(size), tile]
            command += ["--precision", options.precision]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds, megabytes = map(float, done.stdout.split())
            whole = whole or (seconds, megabytes)
            print(
                f"| {size}x{size} | {tile} | {seconds:.2f} | {seconds / whole[0]:.2f} "
                f"| {megabytes:.0f} MB | {megabytes / whole[1]:.2f} |",
                flush=True,
            )


def gradient(size: int, tile: int | None, precision: str) -> tuple[float, float]:
    """The seconds of a gradient at that size, and the megabytes that it all took."""
    neural_style.start_tensorflow(debug=False)
    import hardware
    import tiling
    import vgg
    from benchmarks.step import pictures

    network = vgg.load(ROOT / "imagenet-vgg-verydeep-19.mat")
    photo, painting, picture = pictures(size, size)
    dtype = hardware.precision(precision)
    evaluate, _ = tiling.make_objective(
        network, photo.numpy(), [painting.numpy()], Settings(), dtype, tile
    )
    evaluate(picture)
    began = time.perf_counter()
    evaluate(picture).gradient.numpy()
    taken = time.perf_counter() - began
    return taken, memory.peak()


if __name__ == "__main__":
    main()
