"""Quality: properties that the optimizer does not optimise, measured on saved pictures.

    .venv/bin/python benchmarks/quality.py FOLDER [--only NAME ...] [--more NAME=FOLDER ...]
    .venv/bin/python benchmarks/quality.py FOLDER --curve
    .venv/bin/python benchmarks/quality.py FOLDER --sizes 256 512 1024 2048

Paints three photos with each variant of the settings into FOLDER/NAME, unless they exist, and
prints a table; FOLDER/sheet.png shows them side by side. --more adds the pictures of another
program, with the same file names. --only selects variants, including those that the table does not
contain. --curve paints five content weights with each style loss and draws style against content
(FOLDER/curve.png; needs matplotlib). --sizes paints the first pair at each size with the default
settings, to compare how they look (FOLDER/sizes.png).

All measures are computed in float32 from the file and averaged over the pairs:

- style: sliced Wasserstein distance to the painting (Rabin et al. 2011) of relu1_2, relu2_2,
  relu3_3 and relu4_3, layers outside the loss, at three sizes; in standard deviations of the
  painting's features.
- affinity: how much cosine similarities between positions of relu3_1 differ from the photo's, at
  256 pixels (the content loss of Kolkin et al. 2019, "STROTSS", eq. 5).
- ssim: structural similarity of the luma (Wang et al. 2004); 1 for the photo itself.
- ripple: energy above a fifth of a cycle per pixel where the photo is flat, divided by the
  painting's.
- border: energy of the steps between pixels in the outer 8 pixels, divided by that inside, and by
  the same ratio in the photo: 1 means that no border is visible.
- to style, to photo: sliced Wasserstein distance of the colours, in grey levels.
"""

import argparse
import functools
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.pictures import colors, reading, resampling, sizes, writing
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

if TYPE_CHECKING:
    from neural_style_tf.network import vgg

ROOT = Path(__file__).resolve().parent.parent
PAIRS = [("china", "church-at-auvers"), ("cat", "painter-on-the-road"), ("rocket", "cafe-terrace")]
SIZE = 256
LAYERS = ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
DIRECTIONS = 64
QUANTILES = 256
POSITIONS = 1024

LAYER_NAMES = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]


def layer_weights(*weights: float) -> list[str]:
    shares = [weight / sum(weights) for weight in weights]
    return ["--style-layers", *(f"{n}={w:.6g}" for n, w in zip(LAYER_NAMES, shares, strict=True))]


def recipe(name: str) -> str:
    return f"@{ROOT / 'recipes' / name}.args"


ADAM = ["--optimizer", "adam"]
ADAM_20 = [*ADAM, "--learning-rate", "20"]
CONSTANT = [*ADAM_20, "--learning-rate-schedule", "constant"]
EVERY_STEP = ["--checkpoint-iterations", "1", "--checkpoint-output", "step-%04d.png"]
DECAY = 0.99  # of the moving average over these steps
GREY = ["--initial-colors", "own", "--initial-noiseblend", "0.8"]
VARIANTS = {
    "default": [],
    "start: photo": ["--initial-colors", "own"],
    "start: photo, histogram": ["--initial-colors", "histogram"],
    "start: grey and photo": GREY,
    "start: noise": ["--initial-noiseblend", "1"],
    "style loss: mean": ["--style-loss", "mean"],
    "style loss: wasserstein": ["--style-loss", "wasserstein"],
    "layers: 1/C^2": layer_weights(*(1 / count**2 for count in (64, 128, 256, 512, 512))),
    "layers: 256:64:16:4:1": layer_weights(256, 64, 16, 4, 1),
    "padding: zero": ["--padding", "zero"],
    "pooling: max": ["--pooling", "max"],
    "smoothness: 100": ["--tv-weight", "100"],
    "smoothness: 1000": ["--tv-weight", "1000"],
    "steps: 50": ["--iterations", "50"],
    "steps: 200": ["--iterations", "200"],
    "adam": ADAM,
    "adam, rate 20, mean, grey and photo": [*ADAM_20, *GREY, "--style-loss", "mean"],
    "recipe: prisma": [recipe("prisma")],
    "recipe: average-pooling": [recipe("average-pooling")],
    "recipe: keras-noise": [recipe("keras-noise")],
}
ONLY_BY_NAME = {
    "adam, rate 10": [*ADAM, "--learning-rate", "10"],
    "adam, rate 20": ADAM_20,
    "adam, rate 40": [*ADAM, "--learning-rate", "40"],
    "adam, rate 20, constant": CONSTANT,
    "adam, rate 20, constant, averaged": [*CONSTANT, *EVERY_STEP],
}
CURVE = (0.5, 1.6, 5.0, 16.0, 50.0)  # content weights; the default is 5
CURVE_LOSSES = ("moments", "wasserstein", "mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants to paint")
    parser.add_argument("--more", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+")
    options = parser.parse_args()
    if options.sizes:
        table(compare_sizes(options.folder, options.sizes))
        return
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
        paint_one(photo, painting, folder / f"size {size}" / name, [], size)
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


def measures(path: Path, photo_path: Path, painting_path: Path) -> dict[str, float]:
    picture = reading.read(path).pixels
    height, width = picture.shape[:2]
    photo = resampling.resize(reading.read(photo_path).pixels, height, width)
    painting = reading.read(painting_path).pixels
    painting = resampling.resize(painting, *sizes.style_size(*painting.shape[:2], width))
    return {
        "style": style_distance(picture, painting),
        "affinity": affinity_divergence(picture, photo),
        "ssim": ssim(luma(picture), luma(photo)),
        "ripple": ripple(picture, photo, painting),
        "border": border(luma(picture)) / border(luma(photo)),
        "to style": sliced_wasserstein(picture.reshape(-1, 3), painting.reshape(-1, 3)),
        "to photo": sliced_wasserstein(picture.reshape(-1, 3), photo.reshape(-1, 3)),
    }


@functools.cache
def network() -> "vgg.Network":
    from neural_style_tf.network import vgg

    return vgg.load(BUNDLED_NETWORK)


def features(picture: np.ndarray, layers: list[str]) -> list[np.ndarray]:
    """The features [positions, channels] of each layer, with max pooling as in training."""
    import tensorflow as tf

    from neural_style_tf.network import vgg
    from neural_style_tf.network.backprop import Passes

    passes = Passes(network().layers, layers, "max")
    image = vgg.preprocess(tf.constant(picture[np.newaxis]), network().mean_pixel)
    by_name = passes.features(image)
    return [np.reshape(by_name[name], (-1, by_name[name].shape[-1])) for name in layers]


def style_distance(picture: np.ndarray, painting: np.ndarray) -> float:
    distances = []
    for factor in (1, 2, 4):
        small = (
            resampling.resize(p, p.shape[0] // factor, p.shape[1] // factor)
            for p in (picture, painting)
        )
        for ours, theirs in zip(*(features(image, LAYERS) for image in small), strict=True):
            distances.append(sliced_wasserstein(ours, theirs, in_deviations=True))
    return float(np.mean(distances))


def sliced_wasserstein(ours: np.ndarray, theirs: np.ndarray, in_deviations: bool = False) -> float:
    """The mean distance of the quantiles of samples [n, channels] and [m, channels] along random
    directions."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(ours.shape[1], DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    quantiles = [np.quantile(values @ directions, levels, axis=0) for values in (ours, theirs)]
    distances = np.abs(quantiles[0] - quantiles[1]).mean(0)
    if in_deviations:
        distances = distances / ((theirs @ directions).std(0) + 1e-6)
    return float(distances.mean())


def affinity_divergence(picture: np.ndarray, photo: np.ndarray) -> float:
    ours, theirs = similarities(picture), similarities(photo)
    return float(np.abs(ours - theirs).mean())


def similarities(image: np.ndarray) -> np.ndarray:
    """Cosine similarities [n, n] of the features at n random positions."""
    height, width = image.shape[:2]
    scale = SIZE / max(height, width)
    small = resampling.resize(image, round(height * scale), round(width * scale))
    (values,) = features(small, ["relu3_1"])
    chosen = np.random.default_rng(0).permutation(len(values))[:POSITIONS]
    values = values[chosen] / (np.linalg.norm(values[chosen], axis=1, keepdims=True) + 1e-6)
    return values @ values.T


def luma(pixels: np.ndarray) -> np.ndarray:
    return colors.luma(pixels.astype(np.float64))  # variances are differences of much larger terms


def ssim(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Wang et al. 2004 eq. 13, with a Gaussian window of deviation 1.5."""
    pair = (ours, theirs)
    means = [gaussian_filter(image, 1.5) for image in pair]
    variances = [
        gaussian_filter(image**2, 1.5) - mean**2 for image, mean in zip(pair, means, strict=True)
    ]
    covariance = gaussian_filter(ours * theirs, 1.5) - means[0] * means[1]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    denominator = (means[0] ** 2 + means[1] ** 2 + c1) * (sum(variances) + c2)
    return float((numerator / denominator).mean())


def ripple(picture: np.ndarray, photo: np.ndarray, painting: np.ndarray) -> float:
    steepness = gaussian_filter(np.hypot(*np.gradient(luma(photo))), 2)
    flat = steepness < np.quantile(steepness, 0.3)
    energy = high(luma(picture))[flat].mean()
    return float(energy / high(luma(painting)).mean())


def high(image: np.ndarray) -> np.ndarray:
    """The energy above about a fifth of a cycle per pixel."""
    return (image - gaussian_filter(image, 1.0)) ** 2


def border(image: np.ndarray) -> float:
    energy = sum(step**2 for step in np.gradient(image))
    outer = np.ones(energy.shape, bool)
    outer[8:-8, 8:-8] = False
    return float(energy[outer].mean() / energy[~outer].mean())


def sheet(folders: dict[str, Path]) -> Image.Image:
    """One row per variant, one column per pair."""
    rows = []
    for name, folder in folders.items():
        pictures = [Image.open(folder / files_of(*pair)[2]).convert("RGB") for pair in PAIRS]
        row = Image.new(
            "RGB", (sum(p.width for p in pictures), max(p.height for p in pictures) + 14)
        )
        lefts = itertools.accumulate((p.width for p in pictures), initial=0)
        for left, picture in zip(lefts, pictures, strict=False):
            row.paste(picture, (left, 14))
        ImageDraw.Draw(row).text((2, 1), name, fill="white")
        rows.append(row)
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)))
    tops = itertools.accumulate((row.height for row in rows), initial=0)
    for top, row in zip(tops, rows, strict=False):
        whole.paste(row, (0, top))
    return whole


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
