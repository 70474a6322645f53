"""Collection: photos and paintings -> pairs; variants of the settings -> painted by one batch."""

import csv
import hashlib
import itertools
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from neural_style_tf.batch.pairs import find_pictures
from neural_style_tf.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
SEPARATOR = "--"


class Pair(NamedTuple):
    """The files of a photo and a painting."""

    photo: Path
    painting: Path

    @property
    def file_name(self) -> str:
        """PHOTO--PAINTING.png"""
        return f"{self.photo.stem}{SEPARATOR}{self.painting.stem}.png"


class Variant(NamedTuple):
    """Options of neural_style.py under a name."""

    name: str
    arguments: list[str]


def find(paths: Sequence[str]) -> list[Path]:
    """The pictures that files, folders and patterns name, sorted by name.

    Raises `SystemExit` if there are none, or two that differ only in their folder or ending.
    """
    try:
        pictures = sorted((Path(path) for path in find_pictures(paths)), key=lambda path: path.stem)
    except UserError as error:
        raise SystemExit(str(error)) from error
    for before, after in itertools.pairwise(pictures):
        if before.stem == after.stem:
            raise SystemExit(f"{before} and {after} have the same name: rename one of them")
    return pictures


def choose_pairs(
    photos: Sequence[Path], paintings: Sequence[Path], per_painting: int
) -> list[Pair]:
    """Every painting with `per_painting` photos, which take turns: the same pairs each time, and
    every photo nearly equally often.

    Raises `SystemExit` if there are fewer photos than that.
    """
    if per_painting > len(photos):
        raise SystemExit(f"{per_painting} photos per painting, but there are {len(photos)}")
    return [
        Pair(photos[(number * per_painting + turn) % len(photos)], painting)
        for number, painting in enumerate(paintings)
        for turn in range(per_painting)
    ]


def folder_of(folder: Path, size: int, variant: Variant) -> Path:
    """Where the pictures of a variant are. The end of its name tells apart what the rest does not:
    names are shown to people, and folders have fewer letters."""
    letters = "".join(c if c.isalnum() or c in ".-" else "-" for c in variant.name)
    digest = hashlib.sha256(shlex.join(variant.arguments).encode()).hexdigest()[:6]
    return folder / str(size) / f"{letters}-{digest}"


def paint(
    folder: Path,
    sizes: Sequence[int],
    variants: Sequence[Variant],
    pairs: Sequence[Pair],
    common: Sequence[str] = (),
) -> None:
    """Paints what is missing, all in one command. common: further options of batch.py.

    Raises `SystemExit` if a picture cannot be painted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "pairs.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["content", "styles", "output", "options"])
        for size in sizes:
            for variant in variants:
                options = shlex.join(["--size", str(size), *variant.arguments])
                own_folder = folder_of(folder, size, variant).resolve()
                for pair in pairs:
                    output = own_folder / pair.file_name
                    writer.writerow([*(path.resolve() for path in pair), output, options])
    command = [sys.executable, str(ROOT / "batch.py"), "--pairs", str(table)]
    command += ["--output-dir", str(folder.resolve()), *common]
    if status := subprocess.run(command).returncode:
        raise SystemExit(status)
