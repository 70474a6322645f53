"""Blind: two sets of painted pictures -> sheets that do not tell which is which, and the tally.

    .venv/bin/python benchmarks/blind.py FOLDER --sets A=FOLDER B=FOLDER \\
        --photos FOLDER --paintings FOLDER
    .venv/bin/python benchmarks/blind.py FOLDER --read

The first writes a sheet for each PHOTO--PAINTING.png that both sets have: FOLDER/01.png, 02.png ...
in random order, with the photo and the painting above and the two results at 100 % below, called
left and right at random; and FOLDER/judgements.csv, with a line for each sheet and point. The key
is written beside the folder, to FOLDER-key.json, or to the file that --key names.

Fill in the last column of each line: left, right, same, or none if the sheet has nothing of the
kind. Then --read prints how often each set was preferred; it does not open the key before all lines
are filled in.
"""

import argparse
import csv
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image
from scipy.stats import binomtest

from benchmarks import judge, sheets
from neural_style_tf.pictures import reading, resampling, sizes
from neural_style_tf.settings import Settings

POINTS = ("line", "texture", "palette", "shapes", "flat regions", "borders", "faces", "choice")
SIDES = ("left", "right")
ANSWERS = (*SIDES, "same", "none")
COLUMNS = ["sheet", "point", "judgement"]
GAP = 16  # pixels between pictures

Judgements = dict[tuple[str, str], str]  # by sheet and point, one of ANSWERS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the sheets")
    parser.add_argument("--sets", nargs=2, metavar="NAME=FOLDER", help="painted pictures")
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    parser.add_argument("--paintings", type=Path, metavar="FOLDER")
    parser.add_argument("--key", type=Path, metavar="FILE")
    parser.add_argument("--read", action="store_true", help="print the tally")
    options = parser.parse_args()
    folder = options.folder.resolve()
    key = options.key or folder.with_name(f"{folder.name}-key.json")
    if options.read:
        judgements = read_judgements(folder / "judgements.csv")
        print_tally(tally(judgements, json.loads(key.read_text())))
        return
    if not (options.sets and options.photos and options.paintings):
        parser.error("pass --sets, --photos and --paintings, or --read")
    folders = {name: Path(path) for name, path in (s.split("=", 1) for s in options.sets)}
    if len(folders) != 2:
        parser.error("both sets have the same name: rename one of them")
    write(folder, key, folders, options.photos, options.paintings)


def write(folder: Path, key: Path, folders: dict[str, Path], photos: Path, paintings: Path) -> None:
    """Writes the sheets, the file for the judgements and the key.

    Raises `SystemExit` if the folder or the key exists: sheets would no longer fit their key.
    """
    if key.exists() or (folder.exists() and any(folder.iterdir())):
        raise SystemExit(f"{folder} or its key {key} exists: choose another folder")
    if folder in key.resolve().parents:
        raise SystemExit(f"the key {key} would lie among the sheets: choose another file")
    chance = random.SystemRandom()
    names = judge.common_names(folders)
    chance.shuffle(names)
    folder.mkdir(parents=True, exist_ok=True)
    sides = {}
    for number, name in enumerate(names, 1):
        left_and_right = list(folders)
        chance.shuffle(left_and_right)
        results = [folders[variant] / name for variant in left_and_right]
        sheet(*judge.files_of(name, photos, paintings), results).save(folder / f"{number:02}.png")
        sides[f"{number:02}"] = {"picture": name, **dict(zip(SIDES, left_and_right, strict=True))}
    key.write_text(json.dumps(sides, indent=1) + "\n")
    with (folder / "judgements.csv").open("w", newline="") as file:
        rows = ([number, point, ""] for number in sides for point in POINTS)
        csv.writer(file).writerows([COLUMNS, *rows])


def sheet(photo_path: Path, painting_path: Path, results: Sequence[Path]) -> Image.Image:
    """The photo at the size of the result and the painting at the size that the program gives it,
    and below them the results. Nothing of the files but their pixels is in the sheet."""
    left, right = (reading.read(path).pixels for path in results)
    height, width = left.shape[:2]
    photo = resampling.resize(reading.read(photo_path).pixels, height, width)
    painting = reading.read(painting_path).pixels
    painting = resampling.resize(
        painting, *sizes.of_style(painting.shape[:2], (height, width), Settings()).size
    )
    above, below = (
        [Image.fromarray(np.round(pixels).astype(np.uint8)) for pixels in row]
        for row in ((photo, painting), (left, right))
    )
    return sheets.labelled_rows(
        {
            "photo and painting": [sheets.side_by_side(above, GAP)],
            "left and right": [sheets.side_by_side(below, GAP)],
        }
    )


def read_judgements(path: Path) -> Judgements:
    """The judgements of a file. Raises `SystemExit` unless every sheet beside it is judged on every
    point."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    judgements: Judgements = {}
    for row in rows:
        sheet_name, point, judgement = ((row.get(c) or "").strip() for c in COLUMNS)
        if judgement and judgement not in ANSWERS:
            raise SystemExit(
                f"sheet {sheet_name}, {point}: {judgement} is not one of {', '.join(ANSWERS)}"
            )
        if (sheet_name, point) in judgements:
            raise SystemExit(
                f"sheet {sheet_name}, {point} is judged twice: remove one of the lines"
            )
        judgements[sheet_name, point] = judgement
    wanted = [(sheet.stem, p) for sheet in sorted(path.parent.glob("*.png")) for p in POINTS]
    missing = [names for names in wanted if not judgements.get(names)]
    if missing:
        sheet_name, point = missing[0]
        raise SystemExit(
            f"{len(missing)} judgements are missing, first sheet {sheet_name}, {point}: the key "
            "stays closed until all are filled in"
        )
    return {names: judgements[names] for names in wanted}


def tally(judgements: Judgements, key: dict[str, dict[str, str]]) -> dict[str, Counter]:
    """For each point how often each set was preferred; of "same" and "none" as well.

    Sets are counted from 0 on, so that all points list the same ones.
    """
    names = sorted({sides[side] for sides in key.values() for side in SIDES})
    counts = {point: Counter(dict.fromkeys([*names, "same", "none"], 0)) for point in POINTS}
    for (sheet_name, point), judgement in judgements.items():
        counts[point][key[sheet_name].get(judgement, judgement)] += 1
    return counts


def print_tally(counts: dict[str, Counter]) -> None:
    """A table with the share of the first set among the sheets where one was preferred, its 95 %
    confidence interval (Clopper and Pearson 1934), and the p-value of the sign test."""
    first, second, *_ = next(iter(counts.values()))
    heads = [first, second, "same", "none", f"share of {first}", "p"]
    print(f"| point | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}")
    for point, count in counts.items():
        cells = [str(count[name]) for name in heads[:4]]
        preferred = count[first] + count[second]
        if preferred:
            test = binomtest(count[first], preferred)
            bounds = test.proportion_ci(0.95)
            cells.append(f"{count[first] / preferred:.0%} ({bounds.low:.0%} to {bounds.high:.0%})")
            cells.append(f"{test.pvalue:.3f}")
        else:
            cells += ["-", "-"]
        print(f"| {point} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
