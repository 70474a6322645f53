"""The benchmarks run, at sizes that measure nothing."""

import numpy as np
import pytest

from benchmarks import (
    bench,
    commands,
    memory,
    optimizers,
    precision,
    properties,
    quality,
    step,
    tiling,
    winograd,
)
from neural_style_tf.network import vgg
from neural_style_tf.pictures import reading, resampling, writing
from neural_style_tf.settings import Settings


@pytest.fixture
def tiny_network(network, monkeypatch):
    """In place of the bundled one: sooner prepared, and timed in the same way."""
    monkeypatch.setattr(vgg, "load", lambda _: network)


@pytest.mark.slow
def test_steps_of_every_kind_and_their_convolutions(tiny_network):
    for variant in ("plain", "float32"):
        step.make_step(variant, 32, 48)()
    assert step.convolutions("float32", 32) > 0


def test_both_ways_of_a_convolution_are_timed():
    for direction in ("forward", "backward"):
        assert min(winograd.compare(12, 8, "float32", direction, 2)) > 0
        plain, fast = winograd.ways(12, 8, "float32", direction)
        np.testing.assert_allclose(plain(), fast(), rtol=1e-3, atol=1e-4)


def test_a_gradient_is_timed_whole_and_in_tiles(tiny_network):
    for tile in ("off", "64", "auto"):
        seconds, megabytes = tiling.gradient(150, tile, "float32", 1)
        assert seconds > 0 and megabytes > 100


def test_the_average_over_steps_is_of_all_in_their_order():
    pictures = [np.full((2, 3, 3), value, "f4") for value in (10, 20, 40)]
    weights = np.array([0.99**2, 0.99, 1])
    expected = np.sum(weights * (10, 20, 40)) / np.sum(weights)
    np.testing.assert_allclose(quality.average(pictures), np.full((2, 3, 3), expected), rtol=1e-6)


def test_an_optimizer_is_judged_by_its_saved_pictures(tiny_network, monkeypatch, capsys):
    monkeypatch.setattr(optimizers, "HEIGHT", 32)
    monkeypatch.setattr(optimizers, "WIDTH", 48)
    curve = optimizers.descend("lbfgs", {"optimizer": "lbfgs"}, 11)
    assert [done for done, _, _ in curve] == [10, 11]
    assert curve[-1][2] < curve[0][2]
    assert capsys.readouterr().out.count("| lbfgs | 1") == 2


@pytest.mark.slow
def test_a_command_is_timed(tiny, tiny_network, tmp_path):
    options = ["--iterations", "1", "--width", "48", "--height", "32", "--network", str(tiny)]
    seconds, megabytes = memory.run(commands.paint(tmp_path, *options))
    assert seconds > 0.1 and megabytes > 100
    loss = optimizers.judge(Settings(), 32, 48)(tmp_path / "out.png")
    assert loss > 0
    with pytest.raises(SystemExit, match="failed"):
        memory.run(commands.paint(tmp_path, "--iterations", "0"))


@pytest.mark.slow
def test_quality_knows_the_photo_the_painting_and_a_border(tmp_path, picture):
    photo, painting = (quality.ROOT / "examples" / f"{name}.jpg" for name in quality.PAIRS[0])
    width, height = 96, 64
    pixels = resampling.resize(reading.read(photo).pixels, height, width)
    style = resampling.resize(reading.read(painting).pixels, 121, width)
    framed = pixels.copy()
    framed[:8:2] = framed[-8::2] = 0
    measures = {}
    for name, image in (("photo", pixels), ("style", style[:height]), ("framed", framed)):
        writing.save(tmp_path / f"{name}.png", image)
        measures[name] = properties.measures(tmp_path / f"{name}.png", photo, painting)
    assert measures["photo"]["affinity"] < 0.01 and measures["photo"]["ssim"] > 0.99
    assert measures["photo"]["to photo"] < 1 and abs(measures["photo"]["border"] - 1) < 0.1
    assert measures["style"]["style"] < 0.5 * measures["photo"]["style"]
    assert measures["style"]["to style"] < 0.8 * measures["photo"]["to style"]
    assert measures["style"]["affinity"] > 5 * measures["photo"]["affinity"]
    assert measures["framed"]["border"] > 2


def test_the_sheet_has_a_row_for_every_variant(tmp_path, picture):
    folders = {name: tmp_path / name for name in ("a", "b")}
    for folder in folders.values():
        folder.mkdir()
        for pair in quality.PAIRS:
            writing.save(folder / quality.files_of(*pair)[2], picture(20, 30))
    assert quality.sheet(folders).size == (90, 2 * 34)


def test_the_heading_says_where_and_when():
    assert "Python" in bench.heading() and "tensorflow" in bench.heading()


def test_precisions_are_compared_by_their_saved_pictures(tiny_network, tmp_path):
    for name in ("float32", "bfloat16"):
        assert precision.painted(precision.PAIRS[0], name, 48, 2, tmp_path) > 0
        assert reading.read(tmp_path / f"china-{name}.png").pixels.shape == (32, 48, 3)


def test_variants_are_compared_by_the_pictures_that_exist(tmp_path, picture, monkeypatch, capsys):
    monkeypatch.setattr(quality, "SIZE", 32)
    for name in ("default", "adam"):
        (tmp_path / name).mkdir()
        for number, pair in enumerate(quality.PAIRS):
            writing.save(tmp_path / name / quality.files_of(*pair)[2], picture(24, 32, number))
    command = ["quality.py", str(tmp_path), "--only", "default", "--more", f"x={tmp_path / 'adam'}"]
    monkeypatch.setattr("sys.argv", command)
    quality.main()
    lines = capsys.readouterr().out.splitlines()
    heads = "| what | style | affinity | ssim | ripple | border | to style | to photo |"
    assert lines[0] == heads
    assert lines[2].replace("default", "x") == lines[3]
    assert (tmp_path / "sheet.png").exists()
    monkeypatch.setattr("sys.argv", ["quality.py", str(tmp_path), "--sise", "9"])
    with pytest.raises(SystemExit):
        quality.main()
    assert "unknown options without --photos: --sise 9" in capsys.readouterr().err
