"""Blind looks: sheets do not tell which side is which, and the key is opened last."""

import csv
import json
import sys

import numpy as np
import pytest

from benchmarks import blind
from neural_style_tf.pictures import reading, writing

HEIGHT, WIDTH = 32, 48
PAINTING_HEIGHT = 44  # of 50x40 pixels, brought to the area of a picture
NAMES = [f"{photo}--oil.png" for photo in ("cat", "dog", "elk", "fox")]
GREYS = {"ours": 40, "theirs": 200}


@pytest.fixture
def folder(tmp_path, picture):
    """Sets of four plain pictures each, their photos and their painting."""
    for name in NAMES:
        photo = name.partition("--")[0]
        write(tmp_path / "photos" / f"{photo}.png", picture(64, 96))
        for variant, grey in GREYS.items():
            write(tmp_path / variant / name, np.full((HEIGHT, WIDTH, 3), grey, "f4"))
    write(tmp_path / "paintings" / "oil.png", picture(50, 40))
    return tmp_path


def write(path, pixels):
    path.parent.mkdir(exist_ok=True)
    writing.save(path, pixels)


def run(monkeypatch, folder, *arguments):
    monkeypatch.setattr(sys, "argv", ["blind.py", str(folder / "sheets"), *map(str, arguments)])
    blind.main()


def write_sheets(monkeypatch, folder):
    sources = ["--photos", folder / "photos", "--paintings", folder / "paintings"]
    run(monkeypatch, folder, *sources, "--sets", *(f"{name}={folder / name}" for name in GREYS))
    return json.loads((folder / "sheets-key.json").read_text())


def fill_in(folder, judge):
    """judge: sheet and point -> judgement."""
    path = folder / "sheets" / "judgements.csv"
    rows = list(csv.reader(path.open(newline="")))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([s, p, judge(s, p)] for s, p, _ in rows[1:])])


def test_the_key_says_which_side_is_which(folder, monkeypatch):
    key = write_sheets(monkeypatch, folder)
    assert sorted(sides["picture"] for sides in key.values()) == NAMES
    for number, sides in key.items():
        pixels = reading.read(folder / "sheets" / f"{number}.png").pixels
        assert pixels.shape == (14 + PAINTING_HEIGHT + 14 + HEIGHT, 2 * WIDTH + blind.GAP, 3)
        row = pixels[-HEIGHT // 2]
        assert row[WIDTH // 2, 0] == GREYS[sides["left"]]
        assert row[-WIDTH // 2, 0] == GREYS[sides["right"]]
    names = sorted(path.name for path in (folder / "sheets").iterdir())
    assert names == ["01.png", "02.png", "03.png", "04.png", "judgements.csv"]


def test_sides_and_order_are_left_to_the_system(folder, monkeypatch):
    drawn = []

    class Chance:
        def shuffle(self, values):
            drawn.append(list(values))
            values.reverse()

    monkeypatch.setattr(blind.random, "SystemRandom", Chance)
    key = write_sheets(monkeypatch, folder)
    assert drawn == [NAMES, *[["ours", "theirs"]] * 4]
    assert key["01"] == {"picture": NAMES[-1], "left": "theirs", "right": "ours"}


def test_the_tally_counts_by_set_not_by_side(folder, monkeypatch, capsys):
    key = write_sheets(monkeypatch, folder)

    def judge(sheet, point):
        if point == "faces":
            return "none"
        if point == "palette":
            return "same" if sheet == "01" else "left"
        side = "left" if key[sheet]["left"] == "ours" else "right"
        return side if point == "line" or sheet != "02" else {"left": "right"}.get(side, "left")

    fill_in(folder, judge)
    run(monkeypatch, folder, "--read")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| point | ours | theirs | same | none | share of ours | p |"
    assert "| line | 4 | 0 | 0 | 0 | 100% (40% to 100%) | 0.125 |" in printed
    assert "| choice | 3 | 1 | 0 | 0 | 75% (19% to 99%) | 0.625 |" in printed
    assert "| faces | 0 | 0 | 0 | 4 | - | - |" in printed
    palette = next(line for line in printed if line.startswith("| palette |")).split(" | ")
    assert int(palette[1]) + int(palette[2]) == 3 and palette[3] == "1"


def test_the_key_stays_closed_until_all_is_judged(folder, monkeypatch):
    write_sheets(monkeypatch, folder)
    (folder / "sheets-key.json").unlink()
    fill_in(folder, lambda sheet, point: "" if (sheet, point) == ("03", "shapes") else "left")
    with pytest.raises(SystemExit, match="1 judgements are missing, first sheet 03, shapes: the"):
        run(monkeypatch, folder, "--read")
    fill_in(folder, lambda sheet, point: "lef" if sheet == "02" else "left")
    with pytest.raises(SystemExit, match="sheet 02, line: lef is not one of left, right, same"):
        run(monkeypatch, folder, "--read")


def test_a_point_that_is_judged_twice_is_refused(folder, monkeypatch):
    write_sheets(monkeypatch, folder)
    fill_in(folder, lambda sheet, point: "left")
    with (folder / "sheets" / "judgements.csv").open("a") as file:
        file.write("02,shapes,right\n")
    with pytest.raises(SystemExit, match="sheet 02, shapes is judged twice"):
        run(monkeypatch, folder, "--read")


def test_sheets_and_their_key_are_not_overwritten(folder, monkeypatch):
    write_sheets(monkeypatch, folder)
    before = (folder / "sheets-key.json").read_bytes()
    with pytest.raises(SystemExit, match="exists: choose another folder"):
        write_sheets(monkeypatch, folder)
    assert (folder / "sheets-key.json").read_bytes() == before


def test_a_key_among_the_sheets_is_refused(folder, monkeypatch):
    sources = ["--photos", folder / "photos", "--paintings", folder / "paintings"]
    sets = ["--sets", *(f"{name}={folder / name}" for name in GREYS)]
    with pytest.raises(SystemExit, match="would lie among the sheets"):
        run(monkeypatch, folder, *sources, *sets, "--key", folder / "sheets" / "key.json")
