"""A minute of the soak: a few attempts of every part, always the same; and what once failed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launcher import ROOT

pytest.importorskip("resource", reason="the soak needs processes with limits")
from soak.__main__ import parts, replay, run
from soak.engine import SkippedError, Soak, summary

REGRESSIONS = Path(__file__).parent / "soak" / "regressions"
# Attempts of each part: a few seconds' worth. `make soak` makes all that it wants.
ATTEMPTS = {
    "command_lines": 6,
    "day": 10,
    "faults": 6,
    "kills": 2,
    "networks": 60,
    "pictures": 300,
    "places": 4,
    "signals": 3,
    "texts": 300,
    "viewers": 1,
}


# Seconds of waiting, or many runs: `make test-slow`.
LONG = {
    "command_lines",
    "day",
    "faults",
    "kills",
    "networks",
    "places",
    "signals",
    "texts",
    "viewers",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in parts()],
)
def test_a_few_attempts_find_nothing(name, tmp_path):
    """In a process of its own: what is forked where TensorFlow has begun may hang."""
    options = ["--seed", "1", "--minutes", "10", "--attempts", ATTEMPTS.get(name, 5)]
    command = [sys.executable, "-m", "soak", *options, "--failures", tmp_path / "failures", name]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    result = subprocess.run(
        list(map(str, command)),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    skipped = re.search(r"skipped: (.+)", result.stdout)
    if skipped:
        pytest.skip(skipped[1])
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(rf"^{name} +[1-9]", result.stdout, re.MULTILINE), result.stdout


@pytest.mark.parametrize("path", sorted(REGRESSIONS.iterdir()), ids=lambda path: path.name)
def test_what_once_failed_is_fine(path, tmp_path):
    try:
        assert replay(Path(shutil.copy(path, tmp_path))) is None  # a part may write beside it
    except SkippedError as error:
        pytest.skip(str(error))


# The engine itself


class Part:
    """A part of the soak whose attempts fail in two ways, one of them often."""

    WANTED = 10

    def __init__(self, error=None):
        self._error = error

    def soak(self, attempts):
        while attempts.wants_more():
            attempts.count()
            if attempts.attempts > 4:
                attempts.fail("often", "it failed", bytes([attempts.attempts]), ".bin")
        attempts.fail("once", "it failed, too")
        if self._error:
            raise self._error


def test_failures_are_counted_by_kind_and_a_few_are_saved(tmp_path, capsys):
    (attempts,) = run({"part": Part()}, 1, 7, tmp_path)
    assert attempts.attempts == 10 and attempts.kinds == {"often": 6, "once": 1}
    saved = [path.name.rpartition("-") for path in tmp_path.iterdir()]
    assert sorted(name for name, _, _ in saved) == ["part-often"] * 3 + ["part-once"]
    assert "6 x often" in summary([attempts])
    assert "part: seed 7" in capsys.readouterr().out


def test_a_part_that_breaks_has_failed_and_one_that_cannot_run_is_skipped(tmp_path, capsys):
    broken, skipped, last = run(
        {"a": Part(ValueError("x")), "b": Part(SkippedError("no disk")), "c": Part()},
        1, 7, tmp_path,
    )  # fmt: skip
    assert broken.kinds["the part itself broke (ValueError)"] == 1 and not broken.skipped
    assert skipped.skipped == "no disk" and "skipped: no disk" in summary([skipped])
    assert last.attempts == 10


def test_the_same_seed_makes_the_same_attempts(tmp_path):
    first_soak, same, other = (Soak("part", seed, 1, 1, tmp_path) for seed in (7, 7, 8))
    assert first_soak.seed_of(3) == same.seed_of(3) != other.seed_of(3)
    first, again, different = (soak.random.random() for soak in (first_soak, same, other))
    assert first == again != different


def test_time_that_a_part_does_not_use_is_for_those_after_it(tmp_path):
    class Quick(Part):
        def soak(self, attempts):
            self.left = attempts.seconds_left()
            attempts.count()

    first, last = Quick(), Quick()
    run({"first": first, "last": last}, 1, 7, tmp_path)
    assert first.left <= 30 < last.left
