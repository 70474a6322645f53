"""Low precision against float32: the loss after the same steps, of the saved pictures.

    .venv/bin/python benchmarks/precision.py [--precision bfloat16] [--size 256] [--folder FOLDER]

Three example pairs, each painted in float32 and in the other, as the defaults have it. The losses
are taken in float32 from the PNGs, which stay in FOLDER, to look at.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import hardware
import images
from benchmarks.quality import PAIRS
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float16"))
    parser.add_argument("--size", type=int, default=256, help="longer side of the pictures")
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--folder", type=Path, help="where the pictures stay")
    options = parser.parse_args()
    device = hardware.start_tensorflow(debug=False)
    print(f"{options.size} pixels on {device}, after {options.iterations} steps.\n")
    print(f"| pair | float32 | {options.precision} | |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as kept:
        folder = options.folder or Path(kept)
        folder.mkdir(parents=True, exist_ok=True)
        for pair in PAIRS:
            plain, low = (
                painted(pair, precision, options.size, options.iterations, folder)
                for precision in ("float32", options.precision)
            )
            names = " in the style of ".join(pair)
            print(f"| {names} | {plain:,.0f} | {low:,.0f} | {low / plain - 1:+.1%} |", flush=True)


def painted(pair: tuple[str, str], precision: str, size: int, iterations: int, folder: Path):
    """The loss in float32 of the saved picture."""
    import tensorflow as tf

    import vgg
    from objective import make_losses, measure_targets
    from stylize import stylize

    photo, painting = (images.read(ROOT / "examples" / f"{name}.jpg").pixels for name in pair)
    scale = size / max(photo.shape[:2])
    height, width = (round(scale * side) for side in photo.shape[:2])
    photo = images.resize(photo, height, width)
    painting = images.resize(painting, *images.style_size(*painting.shape[:2], width, 1))
    network = vgg.load(ROOT / "imagenet-vgg-verydeep-19.mat")
    path = folder / f"{pair[0]}-{precision}.png"
    for _, image in stylize(network, photo, [painting], iterations=iterations, precision=precision):
        images.save(path, image)
    content, style = (tf.constant(picture[np.newaxis]) for picture in (photo, painting))
    losses = make_losses(
        network, measure_targets(network, content, [style], Settings()), Settings()
    )
    return float(losses(tf.constant(images.read(path).pixels[np.newaxis]))["total"])


if __name__ == "__main__":
    main()
