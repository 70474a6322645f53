"""Batches as tests run them."""

import os
import sys

from forked import Forked, run_batch
from launcher import ROOT
from shared import QUICK

OPTIONS = ["--network", "network.mat", "--precision", "float32", "--iterations", 6]
OPTIONS += [*QUICK, "--threads", 2]
EVERY = ["--contents", "photos", "--styles", "paintings", "--output-dir", "gallery"]
NAMES = [f"{photo}--{style}.png" for photo in ("one", "two") for style in ("dots", "lines")]


def complete(arguments):
    return [*OPTIONS, *([] if "--pairs" in arguments else EVERY), *arguments]


def command(*arguments):
    return [sys.executable, str(ROOT / "batch.py"), *map(str, complete(arguments))]


def start(folders, *arguments):
    """Starts a batch there, which goes on while the test does."""
    return Forked(run_batch, complete(arguments), folders)


def assert_as_alone(folders, alone, names=NAMES):
    for name in names:
        photo, style = name.removesuffix(".png").split("--")
        photo = "photos/one.png" if photo == "one" else "photos/two.jpg"
        expected = alone(folders, photo, f"paintings/{style}.png")
        assert (folders / "gallery" / name).read_bytes() == expected, name
    assert not [name for name in os.listdir(folders / "gallery") if name.startswith(".")]


SLOW = "--iterations 1000000"
ONE_QUICK = f"""content,styles,output,options
photos/one.png,paintings/dots.png,{NAMES[0]},
photos/one.png,paintings/lines.png,{NAMES[1]},{SLOW}
photos/two.jpg,paintings/dots.png,{NAMES[2]},{SLOW}
photos/two.jpg,paintings/lines.png,{NAMES[3]},{SLOW}
"""


def one_quick(folders):
    """The options of a batch that paints its first picture at once, and then goes on until it is
    stopped."""
    (folders / "pairs.csv").write_text(ONE_QUICK)
    return ["--pairs", "pairs.csv", "--output-dir", "gallery"]
