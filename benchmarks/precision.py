"""Low precision compared with float32: the loss of the saved pictures after the same steps.

    .venv/bin/python benchmarks/precision.py [--precision bfloat16] [--size 256] [--folder FOLDER]

Three example pairs are painted in float32 and in the other precision with `--style-loss moments`.
The losses are computed in float32 from the PNGs, which stay in FOLDER so that you can look at them.
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.optimizers import judge, pair
from benchmarks.quality import PAIRS, files_of, size_of
from benchmarks.step import MOMENTS
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.pictures import writing
from neural_style_tf.settings import BUNDLED_NETWORK

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float16"))
    parser.add_argument("--size", type=int, default=256, help="longer side of the pictures")
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--folder", type=Path, help="where to keep the pictures")
    options = parser.parse_args()
    device = tensorflow_setup.start(debug=False)
    print(f"{options.size} pixels on {device}, after {options.iterations} steps.\n")
    print(f"| pair | float32 | {options.precision} | |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for names in PAIRS:
            plain, low = (
                painted(names, precision, options.size, options.iterations, folder)
                for precision in ("float32", options.precision)
            )
            title = " in the style of ".join(names)
            print(f"| {title} | {plain:,.0f} | {low:,.0f} | {low / plain - 1:+.1%} |", flush=True)


def painted(
    names: tuple[str, str], precision: str, size: int, iterations: int, folder: Path
) -> float:
    """The loss in float32 of the saved picture."""
    from neural_style_tf.network import vgg
    from neural_style_tf.painting.stylize import stylize

    settings = dataclasses.replace(MOMENTS, iterations=iterations, precision=precision)
    files = files_of(*names)[:2]
    size = size_of(files[0], size)
    photo, painting = pair(*size, files)
    network = vgg.load(BUNDLED_NETWORK)
    path = folder / f"{names[0]}-{precision}.png"
    for _, image in stylize(network, photo, [painting], settings=settings):
        writing.save(path, image)
    return judge(MOMENTS, *size, files)(path)


if __name__ == "__main__":
    main()
