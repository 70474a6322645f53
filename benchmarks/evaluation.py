"""Evaluation: variants of the settings -> painted on many pairs, judged and compared.

Pictures are in FOLDER/SIZE/VARIANT/PHOTO--PAINTING.png, sheets of each pair in FOLDER/SIZE/sheets,
and with --losses the curves in FOLDER/SIZE/curve.png (needs matplotlib). Measures are kept in
FOLDER/measures.jsonl, so that only new pictures take time.
"""

import argparse
import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import collection, judge, sheets, trade_off
from benchmarks.collection import Pair, Variant
from benchmarks.trade_off import Curve
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.settings import DEFAULT_STYLIZATION

SIZES = [256]
KNOBS = [0.2, 0.35, 0.5, 0.65, 0.8]  # values of --stylization


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pairs of your own")
    group.add_argument("--photos", nargs="+", metavar="PATH")
    group.add_argument("--paintings", nargs="+", metavar="PATH")
    group.add_argument("--per-painting", type=int, default=2, metavar="N", help="photos")
    group.add_argument("--losses", nargs="+", default=[], metavar="LOSS")
    group.add_argument("--knobs", nargs="+", type=float, default=KNOBS, metavar="STYLIZATION")
    group.add_argument("--variants", nargs="+", default=[], metavar="NAME=OPTIONS")
    group.add_argument("--weights", type=Path, metavar="FILE", help="of the judge's network")


def evaluate(
    options: argparse.Namespace, common: Sequence[str], known: dict[str, list[str]]
) -> None:
    """Paints and prints the tables of each size. common: options of batch.py for all pictures.
    known: variants by name, for --only."""
    if not (options.photos and options.paintings):
        raise SystemExit("pass both --photos and --paintings")
    photos, paintings = collection.find(options.photos), collection.find(options.paintings)
    pairs = collection.choose_pairs(photos, paintings, options.per_painting)
    variants = choose_variants(options, known)
    wanted = options.sizes or SIZES
    collection.paint(options.folder, wanted, variants, pairs, common)
    tensorflow_setup.start(debug=False)
    for size in wanted:
        folders = {v.name: collection.folder_of(options.folder, size, v) for v in variants}
        for more in options.more:
            name, path = more.split("=", 1)
            folders[name] = Path(path) / str(size)
        print(f"\n{size} pixels\n")
        report(options, size, folders, pairs)


def choose_variants(options: argparse.Namespace, known: dict[str, list[str]]) -> list[Variant]:
    """Those of --losses, of --only and of --variants; the default if there are none."""
    variants = [
        Variant(
            f"{loss} {knob:g}", ["--style-loss", *shlex.split(loss), "--stylization", f"{knob:g}"]
        )
        for loss, knob in itertools.product(options.losses, options.knobs)
    ]
    variants += [Variant(name, known[name]) for name in options.only or ()]
    for text in options.variants:
        name, arguments = text.split("=", 1)
        variants.append(Variant(name, shlex.split(arguments)))
    return variants or [Variant("default", [])]


def report(
    options: argparse.Namespace, size: int, folders: dict[str, Path], pairs: Sequence[Pair]
) -> None:
    rows = judge.judge(
        folders,
        {pair.file_name: tuple(pair) for pair in pairs},
        options.weights,
        options.folder / "measures.jsonl",
    )
    judge.print_means(rows)
    if len(rows) > 1:
        default = f"{options.losses[0]} {DEFAULT_STYLIZATION:g}" if options.losses else ""
        judge.print_differences(rows, default if default in rows else next(iter(rows)))
    print_deviations(rows, pairs)
    folder = options.folder / str(size)
    if options.losses:
        print_curves(rows, options.losses, options.knobs)
        means = {
            loss: [
                {key: float(values.mean()) for key, values in rows[f"{loss} {knob:g}"].items()}
                for knob in options.knobs
            ]
            for loss in options.losses
        }
        trade_off.draw(means, options.knobs, folder / "curve.png")
    save_sheets(folder / "sheets", folders, pairs, options.losses)


def print_deviations(rows: judge.Rows, pairs: Sequence[Pair]) -> None:
    """For each variant, the painting whose photos it keeps least or most."""
    paintings = [pair.painting.stem for pair in pairs]
    print("\n| what | lpips: largest deviation of a painting from the mean | which |")
    print("| --- | --- | --- |")
    for name, row in rows.items():
        painting, deviation = trade_off.largest_deviation(row["lpips"], paintings)
        print(f"| {name} | {deviation:+.3f} | {painting} |")


def print_curves(rows: judge.Rows, losses: Sequence[str], knobs: Sequence[float]) -> None:
    """How much nearer to the painting the other losses are than the first where they are equally
    far from the photo."""
    first, *others = losses
    heads = [f"{rows[f'{first} {knob:g}']['lpips'].mean():.3f} ({knob:g})" for knob in knobs]
    for measure in trade_off.STYLE_LABELS if others else ():
        print(f"\n| {measure} at the lpips of {first} | {' | '.join(heads)} |")
        print(f"| --- |{' --- |' * len(heads)}")
        reference = curve_of(rows, first, knobs, measure)
        for loss in others:
            curve = curve_of(rows, loss, knobs, measure)
            compared = trade_off.at_equal_photo(curve, reference)
            cells = [judge.percent(interval) if interval else "-" for interval in compared]
            print(f"| {loss} | {' | '.join(cells)} |")


def curve_of(rows: judge.Rows, loss: str, knobs: Sequence[float], measure: str) -> Curve:
    by_knob = [rows[f"{loss} {knob:g}"] for knob in knobs]
    to_photo, to_painting = ([row[key] for row in by_knob] for key in ("lpips", measure))
    return Curve(np.array(to_photo), np.array(to_painting))


def save_sheets(
    folder: Path, folders: dict[str, Path], pairs: Sequence[Pair], losses: Sequence[str]
) -> None:
    """One sheet per pair: the photo and the painting, and below them the pictures of each loss, or
    of each variant, in a row."""
    folder.mkdir(exist_ok=True)
    for pair in pairs:
        rows: dict[str, list[Image.Image]] = {}
        for name, path in folders.items():
            loss = name.rpartition(" ")[0]
            rows.setdefault(loss if loss in losses else name, []).append(
                Image.open(path / pair.file_name)
            )
        height, width = next(iter(rows.values()))[0].size[::-1]
        originals = [Image.open(path) for path in pair]
        for picture in originals:
            picture.thumbnail((width, height))
        top = {pair.file_name.removesuffix(".png"): originals}
        sheets.labelled_rows(top | rows).save(
            folder / f"{Path(pair.file_name).stem}.jpg", quality=92
        )
