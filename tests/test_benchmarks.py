"""The benchmarks run, at sizes that measure nothing."""

import pytest

from benchmarks import bench, commands, memory, optimizers, step, tiling
from settings import Settings


def test_steps_of_every_kind_and_their_convolutions():
    for variant in ("plain", "float32"):
        step.make_step(variant, 32, 48)()
    assert step.convolutions("float32", 32) > 0


def test_a_gradient_is_timed_whole_and_in_tiles():
    for tile in (None, 64):
        seconds, megabytes = tiling.gradient(240, tile, "float32", warm_up=False)
        assert seconds > 0 and megabytes > 100


def test_an_optimizer_is_judged_by_its_saved_pictures(monkeypatch, capsys):
    monkeypatch.setattr(optimizers, "HEIGHT", 32)
    monkeypatch.setattr(optimizers, "WIDTH", 48)
    curve = optimizers.descend("lbfgs", {"optimizer": "lbfgs"}, 11)
    assert [done for done, _, _ in curve] == [10, 11]
    assert curve[-1][2] < curve[0][2]
    assert capsys.readouterr().out.count("| lbfgs | 1") == 2


def test_a_command_is_timed(tmp_path):
    options = ["--iterations", "1", "--width", "48", "--height", "32"]
    seconds, megabytes = memory.run(commands.paint(tmp_path, *options))
    assert seconds > 0.1 and megabytes > 100
    loss = optimizers.judge(Settings(), 32, 48)(tmp_path / "out.png")
    assert loss > 0
    with pytest.raises(SystemExit, match="failed"):
        memory.run(commands.paint(tmp_path, "--iterations", "0"))


def test_the_heading_says_where_and_when():
    assert "Python" in bench.heading() and "tensorflow" in bench.heading()
