"""The benchmarks run, at sizes that measure nothing."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import (
    bench,
    card,
    commands,
    gpu,
    gpu_parts,
    memory,
    optimizers,
    precision,
    properties,
    quality,
    step,
    tiling,
    torch_step,
    winograd,
)
from neural_style_tf.network import vgg
from neural_style_tf.objective import objective
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
    loss = optimizers.judge(Settings(style_loss="moments"), 32, 48)(tmp_path / "out.png")
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


def test_variants_are_compared_by_the_pictures_that_exist(
    tmp_path, picture, network, monkeypatch, capsys
):
    monkeypatch.setattr(properties, "network", lambda: network)
    monkeypatch.setattr(quality, "SIZE", 32)
    for name in ("moments", "adam"):
        (tmp_path / name).mkdir()
        for number, pair in enumerate(quality.PAIRS):
            writing.save(tmp_path / name / quality.files_of(*pair)[2], picture(24, 32, number))
    command = ["quality.py", str(tmp_path), "--only", "moments", "--more", f"x={tmp_path / 'adam'}"]
    monkeypatch.setattr("sys.argv", command)
    quality.main()
    lines = capsys.readouterr().out.splitlines()
    heads = "| what | style | affinity | ssim | ripple | border | to style | to photo |"
    assert lines[0] == heads
    assert lines[2].replace("moments", "x") == lines[3]
    assert (tmp_path / "sheet.png").exists()
    monkeypatch.setattr("sys.argv", ["quality.py", str(tmp_path), "--sise", "9"])
    with pytest.raises(SystemExit):
        quality.main()
    assert "unknown options without --photos: --sise 9" in capsys.readouterr().err


@pytest.fixture
def gpu_options(tmp_path):
    """A function that makes the options of benchmarks/gpu.py from arguments."""
    small = ["--sizes", "32", "--large", "48", "--tile", "64", "--precision", "float32"]
    return lambda *more: gpu.parser().parse_args([*small, "--network", "tiny", *more])


@pytest.mark.slow
@pytest.mark.parametrize("part", ["steps", "large"])
def test_every_row_of_a_gpu_is_measured_on_a_cpu_too(part, gpu_options, tiny_network, monkeypatch):
    monkeypatch.setattr(gpu_parts, "COMPARED_STEPS", 2)
    for module in (gpu_parts, card):
        monkeypatch.setattr(module, "TIMED_SECONDS", 0.0)
    rows = []
    gpu_parts.run(gpu_options("--part", part), rows.append)
    assert [row for row in rows if not row.get("value")] == []
    names = {row["what"] for row in rows}
    if part == "steps":
        goals = {what for what, size in gpu.GOALS if size == 2048} - {"times as fast as PyTorch"}
        assert goals < names
    else:
        assert {"objective in one piece", "objective in tiles of 64"} < names


def test_a_row_that_fails_or_comes_too_late_says_so_and_the_next_is_measured(gpu_options):
    emitted = []
    rows = gpu_parts.Rows(gpu_options(), emitted.append)
    assert rows.measure("first", lambda: 1 / 0, "ms", size=32) is None
    assert rows.measure("second", lambda: 7, "ms") == 7
    rows._end = 0
    assert rows.measure("third", lambda: 7) is None
    assert emitted == [
        {"what": "first", "unit": "ms", "size": 32, "note": "ZeroDivisionError: division by zero"},
        {"what": "second", "unit": "ms", "value": 7},
        {"what": "third", "unit": "", "note": "skipped: no time left"},
    ]


def test_memory_that_runs_out_in_one_piece_is_a_row(gpu_options, tiny_network, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(objective, "measure_targets", exhausted)
    rows = []
    call = lambda: gpu_parts.time_of_large(gpu_options(), 128, None)  # noqa: E731
    gpu_parts.Rows(gpu_options(), rows.append).measure("objective in one piece", call)
    note = "ExhaustedError: out of memory: continues in tiles of 64 pixels"
    assert rows == [{"what": "objective in one piece", "unit": "", "note": note}]


def test_the_report_has_ratios_goals_and_what_became_of_each_part(
    gpu_options, tmp_path, monkeypatch, capsys
):
    programs = {
        "start": """print('{"what": "digest", "value": "a1"}'); print("noise")""",
        "steps": """print('{"what": "Adam step", "size": 2048, "value": 20.0, "unit": "ms"}')
print('{"what": "digest", "value": "a1"}')""",
        "torch": """print('{"what": "PyTorch step", "size": 2048, "value": 44.3}')""",
        "large": "import os, sys; sys.stdout.flush(); os._exit(3)",
    }
    monkeypatch.setattr(gpu.Report, "_command", lambda _, part, seconds: ["-c", programs[part]])
    path = tmp_path / "gpu.json"
    command = ["gpu.py", "--sizes", "2048", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    gpu.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| digest |  | a1 |  |  |",
        "| Adam step | 2048x2048 | 20 ms | 22 ms |  |",
        "| digest |  | a1 |  |  |",
        "| PyTorch step | 2048x2048 | 44.3 |  |  |",
        "| large |  |  |  | ended with status 3 |",
        "| times as fast as PyTorch | 2048x2048 | 2.21 | 2 |  |",
        "| runs in one process and in two: equal bytes |  | yes |  |  |",
    ]
    assert json.loads(path.read_text())["rows"][-2]["value"] == 44.3 / 20
    monkeypatch.setattr(gpu.Report, "_command", lambda *_: ["-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--seconds", "0.3"])
    gpu.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| start |  |  |  | stopped: no time left |",
        *(f"| {part} |  |  |  | skipped: no time left |" for part in ("steps", "torch", "large")),
    ]


def test_a_python_that_is_not_there_is_a_row(capsys):
    report = gpu.Report(gpu.parser().parse_args(["--torch-python", "no/python"]))
    report.run("torch")
    assert capsys.readouterr().out.startswith("| torch |  |  |  | not started: ")


def test_a_step_of_pytorch_lowers_its_loss():
    pytest.importorskip("torch")
    import torch

    step = torch_step.make_step(32, "cpu", torch.float32)
    losses = [float(step().detach()) for _ in range(8)]
    assert 0 < min(losses[1:]) < losses[0]


@pytest.mark.slow
def test_the_table_of_a_gpu_is_printed(tiny, tmp_path, monkeypatch, capsys):
    path = tmp_path / "gpu.json"
    command = ["--sizes", "32", "--steps", "3", "--network", str(tiny), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *command])
    gpu.main()
    rows = json.loads(path.read_text())["rows"]
    assert {row["what"] for row in rows if row.get("value") is None} == {
        "PyTorch step",
        "large pictures",
    }
    printed = capsys.readouterr().out
    for runs in ("runs in one process and in two", "runs with Adam in one process"):
        assert f"| {runs}: equal bytes |  | yes |  |  |" in printed
