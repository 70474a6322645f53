"""Progress: lines, table and plot. What a terminal shows is tested in one."""

import csv

import numpy as np
import pytest
from PIL import Image

from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import Step
from neural_style_tf.runs.loss_table import LossTable
from neural_style_tf.runs.progress import Progress, time_in_words
from neural_style_tf.settings import Settings

LOSSES = {"content": 1e6, "style": 2e5, "tv": 3e4, "total": 1.23e6}
STAGE = Stage(1, 1, 34, 45, 4)
PLAN = [STAGE]


def steps(count):
    for iteration in range(count):
        losses = {name: loss / (iteration + 1) for name, loss in LOSSES.items()}
        yield Step(
            iteration, count, STAGE, 2.0 * iteration, lambda losses=losses: losses, None, None
        )
    yield Step(None, count, STAGE, 2.0 * count, lambda: LOSSES, None, None)


def test_the_end_is_told_in_a_line(capsys):
    with Progress(Settings(iterations=4), PLAN) as progress:
        for step in steps(4):
            progress.show(step)
        progress.finish("out.png")
    assert capsys.readouterr().err == (
        "out.png: 4 steps in 0:08, content 1e+06  style 2e+05  tv 3e+04  total 1.23e+06\n"
    )


def test_losses_are_printed_when_asked_for(capsys):
    with Progress(Settings(iterations=5, print_iterations=2), PLAN) as progress:
        for step in steps(5):
            progress.show(step)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 1", "step 3", "step 5"]
    assert lines[0].endswith("content 1e+06  style 2e+05  tv 3e+04  total 1.23e+06")


def test_a_line_comes_every_few_seconds_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("neural_style_tf.runs.progress.LINE_EVERY_SECONDS", 0)
    with Progress(Settings(iterations=3), [STAGE._replace(iterations=3)]) as progress:
        for step in steps(3):
            progress.show(step)
    assert capsys.readouterr().err.splitlines()[1] == (
        "2/3  content 5e+05  style 1e+05  tv 1.5e+04  total 6.15e+05  0:02 elapsed, 0:01 remaining"
    )


def test_quiet_prints_nothing(capsys):
    with Progress(Settings(iterations=3, print_iterations=1), PLAN, quiet=True) as progress:
        progress.note("hello")
        for step in steps(3):
            progress.show(step)
        progress.finish("out.png")
    assert capsys.readouterr().err == ""


def test_losses_are_only_looked_at_when_somebody_wants_them():
    def looked():
        raise AssertionError("a look waits for the device")

    with Progress(Settings(iterations=50), PLAN) as progress:
        for iteration in range(50):
            progress.show(Step(iteration, 50, STAGE, 0.1, looked, looked, looked))


def test_table_and_plot(tmp_path):
    table = LossTable()
    for step in steps(4):
        table.add(step)
    table.save_csv(tmp_path / "losses.csv")
    with open(tmp_path / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["iteration", "seconds", "content", "style", "tv", "total"]
    assert [row["iteration"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[1]["total"]) == pytest.approx(1.23e6 / 2)
    table.save_plot(tmp_path / "losses.png")
    plot = np.asarray(Image.open(tmp_path / "losses.png").convert("RGB"))
    assert plot.shape[1] > plot.shape[0] and len(np.unique(plot.reshape(-1, 3), axis=0)) > 50


def test_time_in_words():
    assert [time_in_words(s) for s in (0, 59.6, 125, 3723)] == ["0:00", "1:00", "2:05", "1:02:03"]
