"""Quality: properties that the optimizer does not optimise, measured on saved pictures.

    .venv/bin/python benchmarks/quality.py FOLDER [--only NAME ...] [--more NAME=FOLDER ...]
    .venv/bin/python benchmarks/quality.py FOLDER --curve
    .venv/bin/python benchmarks/quality.py FOLDER --sizes 256 512 1024 2048
    .venv/bin/python benchmarks/quality.py FOLDER --photos PATH ... --paintings PATH ... \\
        --losses moments wasserstein --sizes 256 512

Paints three photos with each variant of the settings into FOLDER/NAME, unless they exist, and
prints a table (the columns: `properties`); FOLDER/sheet.png shows them side by side. --more adds
the pictures of another program, with the same file names. --only selects variants, including those
that the table does not contain. --curve paints five content weights with each style loss and draws
style against content (FOLDER/curve.png; needs matplotlib). --sizes paints the first pair at each
size with `--style-loss moments`, to compare how they look (FOLDER/sizes.png).

With --photos and --paintings (files, folders or patterns), the pairs are every painting with two of
the photos, at each of the --sizes, and the columns are those of `judge`, with confidence intervals.
--losses paints each style loss at five values of --stylization; a loss may bring options along:
"wasserstein --tv-weight 100". See `evaluation`. Unknown options go to batch.py, which paints.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from benchmarks import evaluation, sheets
from benchmarks.properties import measures
from benchmarks.variants import ONLY_BY_NAME, ROOT, VARIANTS, WITH_MOMENTS
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.pictures import reading, resampling, sizes, writing
from neural_style_tf.settings import Settings

PAIRS = [("china", "church-at-auvers"), ("cat", "painter-on-the-road"), ("rocket", "cafe-terrace")]
SIZE = 256
DECAY = 0.99  # of the moving average over the steps of a run
CURVE = (0.5, 1.6, 5.0, 16.0, 50.0)  # content weights; the default is 5
CURVE_LOSSES = ("moments", "wasserstein", "mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants to paint")
    parser.add_argument("--more", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+")
    evaluation.add_options(parser)
    options, others = parser.parse_known_args()
    if options.photos or options.paintings:
        evaluation.evaluate(options, others, VARIANTS | ONLY_BY_NAME)
    elif others:
        parser.error(f"unknown options without --photos: {' '.join(others)}")
    elif options.sizes:
        table(compare_sizes(options.folder, options.sizes))
    else:
        compare_variants(options)


def compare_variants(options: argparse.Namespace) -> None:
    if options.curve:
        variants = {
            f"{loss} {weight:g}": ["--style-loss", loss, "--content-weight", str(weight)]
            for loss, weight in itertools.product(CURVE_LOSSES, CURVE)
        }
    else:
        known = VARIANTS | ONLY_BY_NAME
        variants = {name: known[name] for name in options.only or VARIANTS}
    folders = {name: options.folder / name.replace("/", "-") for name in variants}
    for name, arguments in variants.items():
        paint(folders[name], arguments)
    folders |= {name: Path(path) for name, path in (more.split("=", 1) for more in options.more)}
    tensorflow_setup.start(debug=False)
    rows = {name: measured(folder) for name, folder in folders.items()}
    table(rows)
    sheet(folders).save(options.folder / ("curve-sheet.png" if options.curve else "sheet.png"))
    if options.curve:
        curve(rows, options.folder / "curve.png")


def table(rows: dict[str, dict[str, float]]) -> None:
    columns = next(iter(rows.values()))
    print(f"| what | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in row.values())} |")


def compare_sizes(folder: Path, wanted: list[int]) -> dict[str, dict[str, float]]:
    """The measures of the first pair at each size; also writes FOLDER/sizes.png."""
    rows, pictures = {}, []
    for size in wanted:
        photo, painting, name = files_of(*PAIRS[0])
        paint_one(photo, painting, folder / f"size {size}" / name, WITH_MOMENTS, size)
        rows[str(size)] = measures(folder / f"size {size}" / name, photo, painting)
        pictures.append(reading.read(folder / f"size {size}" / name).pixels)
    height, width = size_of(files_of(*PAIRS[0])[0], 2 * SIZE)
    resized = [resampling.resize(picture, height, width) for picture in pictures]
    halves = [resized[:2], resized[2:4]] if len(resized) > 3 else [resized[:2]]
    writing.save(folder / "sizes.png", np.vstack([np.hstack(half) for half in halves]))
    return rows


def files_of(photo: str, painting: str) -> tuple[Path, Path, str]:
    examples = ROOT / "examples"
    return examples / f"{photo}.jpg", examples / f"{painting}.jpg", f"{photo}--{painting}.png"


def paint(folder: Path, arguments: list[str]) -> None:
    for pair in PAIRS:
        photo, painting, name = files_of(*pair)
        paint_one(photo, painting, folder / name, arguments, SIZE)


def paint_one(photo: Path, painting: Path, path: Path, arguments: list[str], size: int) -> None:
    """Paints a picture, unless the file exists."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size_of(photo, size)
    command = [sys.executable, str(ROOT / "neural_style.py"), *arguments]
    command += ["--content", str(photo), "--styles", str(painting), "--quiet"]
    command += ["--output", str(path.resolve()), "--width", str(width), "--height", str(height)]
    with tempfile.TemporaryDirectory() as working_folder:  # for the checkpoints of recipes
        subprocess.run(command, check=True, cwd=working_folder)
        steps = sorted(Path(working_folder).glob("step-*.png"))
        if steps:
            writing.save(path, average(reading.read(step).pixels for step in steps))


def average(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """The exponential moving average over the pictures of a run, corrected for its bias (Kingma and
    Ba 2015, section 3)."""
    total, weight = 0.0, 0.0
    for picture in pictures:
        total = DECAY * total + (1 - DECAY) * picture
        weight = DECAY * weight + (1 - DECAY)
    return (total / weight).astype(np.float32)


def size_of(photo: Path, size: int) -> tuple[int, int]:
    return sizes.target_size(*reading.read(photo).pixels.shape[:2], Settings(size=size))


def measured(folder: Path) -> dict[str, float]:
    """The mean of each measure over the pairs."""
    rows = [measures(folder / files_of(*pair)[2], *files_of(*pair)[:2]) for pair in PAIRS]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def sheet(folders: dict[str, Path]) -> Image.Image:
    """One row per variant, one column per pair."""
    rows = {
        name: [Image.open(folder / files_of(*pair)[2]) for pair in PAIRS]
        for name, folder in folders.items()
    }
    return sheets.labelled_rows(rows)


def curve(measured_rows: dict[str, dict[str, float]], path: Path) -> None:
    """Draws one line per style loss through its content weights."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    labels = {"affinity": "affinity divergence from the photo", "ssim": "ssim with the photo"}
    for axes, (measure, label) in zip(plots, labels.items(), strict=True):
        for loss in CURVE_LOSSES:
            rows = {weight: measured_rows[f"{loss} {weight:g}"] for weight in CURVE}
            points = [(row[measure], row["style"]) for row in rows.values()]
            axes.plot(*zip(*points, strict=True), "o-", label=loss)
            for weight, point in zip(rows, points, strict=True):
                axes.annotate(f"{weight:g}", point, textcoords="offset points", xytext=(6, 4))
        axes.set_xlabel(label)
    plots[0].set_ylabel("style distance from the painting")
    plots[1].legend(title="style loss, content weights")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
