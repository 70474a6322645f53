"""Variants of the settings are painted on pairs of the user's, judged and compared."""

import sys

import numpy as np
import pytest
from test_judge import arrays

from benchmarks import collection, evaluation, judge, judge_network, kept, quality, trade_off
from benchmarks.collection import Pair, Variant
from neural_style_tf.pictures import reading, writing


@pytest.fixture
def folders(tmp_path, picture, monkeypatch):
    """A folder of three photos and one of two paintings."""
    network = judge_network.from_arrays(arrays())
    monkeypatch.setattr(judge_network, "load", lambda path=None: network)
    for number, name in enumerate(["photos/cat", "photos/dog", "photos/elk"]):
        write(tmp_path / f"{name}.png", picture(48, 64, number))
    for number, name in enumerate(["paintings/ink", "paintings/oil"]):
        write(tmp_path / f"{name}.png", picture(60, 50, 10 + number))
    return tmp_path


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    writing.save(path, pixels)


def test_every_painting_has_as_many_photos_and_photos_take_turns(folders):
    photos, paintings = (collection.find([str(folders / n)]) for n in ("photos", "paintings"))
    pairs = collection.choose_pairs(photos, paintings, 2)
    names = ["cat--ink.png", "dog--ink.png", "elk--oil.png", "cat--oil.png"]
    assert [pair.file_name for pair in pairs] == names
    with pytest.raises(SystemExit, match="4 photos per painting, but there are 3"):
        collection.choose_pairs(photos, paintings, 4)


def test_two_pictures_of_one_name_are_refused(folders, picture):
    write(folders / "photos" / "cat.jpg", picture(48, 64))
    with pytest.raises(SystemExit, match="have the same name"):
        collection.find([str(folders / "photos")])
    with pytest.raises(SystemExit, match="no file"):
        collection.find([str(folders / "none")])


def test_variants_of_other_options_have_folders_of_their_own(tmp_path):
    variants = [Variant("a/b", []), Variant("a/b", ["--tv-weight", "1"]), Variant("a b", ["-x"])]
    paths = {collection.folder_of(tmp_path, size, v) for size in (64, 96) for v in variants}
    assert len(paths) == 6
    assert all(path.parent.parent == tmp_path for path in paths)


def test_losses_are_painted_at_each_knob_with_their_options():
    parser = quality.argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+")
    evaluation.add_options(parser)
    options = parser.parse_args(["--losses", "moments", "mean --tv-weight 9", "--knobs", "0.25"])
    assert evaluation.choose_variants(options, {}) == [
        ("moments 0.25", ["--style-loss", "moments", "--stylization", "0.25"]),
        (
            "mean --tv-weight 9 0.25",
            ["--style-loss", "mean", "--tv-weight", "9", "--stylization", "0.25"],
        ),
    ]
    options = parser.parse_args(["--only", "adam", "--variants", "mine=--scales 2"])
    assert evaluation.choose_variants(options, {"adam": ["--optimizer", "adam"]}) == [
        ("adam", ["--optimizer", "adam"]),
        ("mine", ["--scales", "2"]),
    ]
    assert evaluation.choose_variants(parser.parse_args([]), {}) == [("default", [])]


@pytest.mark.slow
def test_losses_are_painted_judged_and_compared(folders, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    out = folders / "out"
    command = ["quality.py", str(out), "--photos", str(folders / "photos")]
    command += ["--paintings", str(folders / "paintings" / "*.png"), "--per-painting", "1"]
    command += ["--losses", "moments", "mean", "--knobs", "0.2", "0.5", "0.8", "--sizes", "48"]
    command += ["--iterations", "2", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", command)
    quality.main()
    printed = capsys.readouterr().out
    for text in (
        "48 pixels",
        "| mean of 2 pairs | lpips | gram | sliced | color | flat | halo |",
        "| compared with moments 0.5 | lpips |",
        "| what | lpips: largest deviation of a painting from the mean | which |",
        "| sliced at the lpips of moments |",
        "| gram at the lpips of moments |",
    ):
        assert text in printed
    paths = sorted((out / "48").glob("*/*.png"))
    assert [path.name for path in paths] == ["cat--ink.png", "dog--oil.png"] * 6
    assert reading.read(paths[0]).pixels.shape == (36, 48, 3)
    assert reading.read(out / "48" / "sheets" / "cat--ink.jpg").pixels.shape[1] == 3 * 48
    assert (out / "48" / "curve.png").exists()
    assert len((out / "measures.jsonl").read_text().splitlines()) == 12


def test_measures_are_kept_until_a_picture_changes(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"1")
    computed = []

    def compute():
        computed.append(picture.read_bytes())
        return {"lpips": 0.5}

    for _ in range(2):
        assert kept.Kept(tmp_path / "kept").get([picture], compute) == {"lpips": 0.5}
    picture.write_bytes(b"2")
    kept.Kept(tmp_path / "kept").get([picture], compute)
    assert computed == [b"1", b"2"]


def test_curves_are_compared_where_they_are_equally_far_from_the_photo():
    random = np.random.default_rng(0)
    pairs = random.uniform(0.9, 1.1, 24)
    to_photo = np.outer([0.4, 0.5, 0.6], pairs)
    reference = trade_off.Curve(to_photo, np.outer([0.6, 0.5, 0.4], pairs))
    nearer = trade_off.Curve(to_photo[::-1] + 0.05, 0.8 * reference.to_painting[::-1])
    first, second, third = trade_off.at_equal_photo(nearer, reference)
    assert first is None
    assert second.value == pytest.approx(0.8 * 0.55 / 0.5 - 1, abs=0.01)
    assert third.value == pytest.approx(0.8 * 0.45 / 0.4 - 1, abs=0.01)
    assert second.low <= second.value <= second.high < 0
    same = trade_off.at_equal_photo(reference, reference)
    np.testing.assert_allclose(same, 0, atol=1e-9)


def test_the_painting_that_deviates_most_is_named():
    values = np.array([0.5, 0.5, 0.6, 0.7, 0.4, 0.5])
    painting, deviation = trade_off.largest_deviation(values, ["a", "a", "b", "b", "c", "c"])
    assert painting == "b" and deviation == pytest.approx(0.65 - (0.5 + 0.65 + 0.45) / 3)


def test_both_photos_and_paintings_are_needed(folders, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["quality.py", "out", "--photos", str(folders / "photos")])
    with pytest.raises(SystemExit, match="pass both --photos and --paintings"):
        quality.main()


def test_a_sheet_shows_the_photo_and_the_painting(folders, picture):
    pair = Pair(folders / "photos" / "cat.png", folders / "paintings" / "ink.png")
    for name in ("a", "b"):
        write(folders / name / pair.file_name, picture(30, 40))
    paths = {name: folders / name for name in ("a", "b")}
    evaluation.save_sheets(folders / "sheets", paths, [pair], [])
    assert judge.size_of(folders / "sheets" / "cat--ink.jpg") == (3 * (30 + 14), 40 + 25)
