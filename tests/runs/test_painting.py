"""Whatever ends a run or breaks beside it, what was painted is saved."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from shared import COMMAND, QUICK, ROOT

from neural_style_tf.batch import jobs
from neural_style_tf.commands import neural_style, parser
from neural_style_tf.errors import UserError
from neural_style_tf.machine import streams, user_cache
from neural_style_tf.objective import objective
from neural_style_tf.painting import descent
from neural_style_tf.painting.stages import Stage
from neural_style_tf.pictures import files, metadata, places, reading, writing
from neural_style_tf.runs import outputs, progress, states, tensorboard, writer
from neural_style_tf.runs.options import RunOptions


@pytest.fixture
def main(folder, monkeypatch):
    """A function that runs the command line in this process. Returns its exit status."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["neural_style.py"])
    arguments = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    arguments += ["--network", "network.mat", "--precision", "float32", "--iterations", "6", *QUICK]
    return lambda *more: neural_style.main([*arguments, *map(str, more)])


def test_by_default_neighbours_are_compared(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["neural_style.py"])
    arguments = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    arguments += ["--network", "network.mat", "--iterations", "2", "--precision", "float32"]
    assert neural_style.main(arguments) == 0
    description = metadata.read(folder / "out.png")
    assert (description["style_loss"], description["optimizer"]) == ("neighbors", "lbfgs")


def fail_at(monkeypatch, owner, name, number, error, is_method=False):
    """Has the call of that number, from 0, raise an error."""
    function, calls = getattr(owner, name), itertools.count()

    def fails(*arguments, **options):
        if next(calls) == number:
            raise error
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, fails)


def fail_at_evaluation(monkeypatch, number, error):
    """Has an evaluation of the objective fail."""
    make, calls = objective.make_objective, itertools.count()

    def broken(*arguments):
        evaluate = make(*arguments)

        def evaluate_or_fail(picture):
            if next(calls) == number:
                raise error
            return evaluate(picture)

        return evaluate_or_fail

    monkeypatch.setattr(objective, "make_objective", broken)


OF_TENSORFLOW = ("InternalError", "UnimplementedError", "CancelledError", "UnknownError")
GONE = "the device is gone\nat x"
STATE = ["--save-state", "run.npz", "--state-iterations", 100]


@pytest.mark.parametrize(
    "error",
    [
        *(
            getattr(tf.errors, name)(None, None, "the device is gone\nat x")
            for name in OF_TENSORFLOW
        ),
        RuntimeError("the device is gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_on_the_way_saves_picture_and_state_and_is_one_line(
    main, folder, monkeypatch, capsys, error
):
    assert main("--output", "whole.png") == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        fail_at_evaluation(patch, 3, error)
        assert main(*STATE) == 1
    *_, saved, how, last = capsys.readouterr().err.splitlines()
    assert saved.startswith("out.png: 3 of 6 steps in ")
    assert how == "to go on: python neural_style.py --resume run.npz"
    kind = type(error).__name__
    assert last == f"error: {kind}: the device is gone (--debug shows where)"
    assert "losses" not in metadata.read(folder / "out.png")
    assert neural_style.main(["--resume", "run.npz"]) == 0
    ours, whole = (reading.read(folder / name).pixels for name in ("out.png", "whole.png"))
    np.testing.assert_array_equal(ours, whole)


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "")])
def test_memory_that_runs_out_for_good_says_what_to_lower(main, monkeypatch, capsys, error):
    fail_at(monkeypatch, descent, "_better", 2, error)
    assert main(*STATE) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: out of memory: choose a smaller --size or --tile, or --optimizer adam, which needs "
        "less"
    )


def test_the_first_step_of_a_stage_may_fail_and_the_run_goes_on_there(
    main, folder, monkeypatch, capsys
):
    for optimizer in ("adam", "lbfgs"):
        stages = ["--scales", 2, "--optimizer", optimizer, "--overwrite"]
        assert main(*stages, "--output", "whole.png") == 0
        for failing in (4, 5):  # the stage has 4 steps and a look at the last picture
            with monkeypatch.context() as patch:
                fail_at_evaluation(patch, failing, RuntimeError("no"))
                assert main(*stages, *STATE) == 1
            stderr = capsys.readouterr().err
            assert "to go on: " in stderr and reading.read("out.png").pixels.shape == (34, 45, 3)
            assert neural_style.main(["--resume", "run.npz"]) == 0
            ours, whole = (reading.read(name).pixels for name in ("out.png", "whole.png"))
            np.testing.assert_array_equal(ours, whole)


def test_a_step_that_changed_the_state_leaves_the_one_before(main, monkeypatch, capsys):
    fail_at(monkeypatch, descent.Descent, "_keep", 3, RuntimeError("no"))
    assert main("--save-state", "run.npz", "--state-iterations", 2) == 1
    stderr = capsys.readouterr().err
    assert "error: the step that failed had begun to change the state, which is not saved" in stderr
    assert re.search(r"^to go on: .* --resume run.npz$", stderr, re.MULTILINE)
    assert states.load("run.npz")[0]["iterations"] == 2


def test_where_the_device_is_dead_the_last_picture_that_was_fetched_is_saved(
    main, folder, monkeypatch, capsys
):
    dead = RuntimeError("the device is gone")

    def fetch(self):
        raise dead

    checkpoints = ["--checkpoint-output", "c-%d.png", "--checkpoint-iterations", 2]
    for arguments in ([], checkpoints):
        with monkeypatch.context() as patch:
            make = objective.make_objective
            calls = itertools.count()

            def broken(*arguments, make=make, calls=calls, patch=patch):
                evaluate = make(*arguments)

                def dies(picture):
                    if next(calls) == 3:
                        patch.setattr(Stage, "image", lambda *_: fetch(None))
                        raise dead
                    return evaluate(picture)

                return dies

            patch.setattr(objective, "make_objective", broken)
            assert main(*arguments) == 1
        stderr = capsys.readouterr().err
        assert stderr.splitlines()[-1].startswith("error: RuntimeError: the device is gone")
        if arguments:
            ours, last = (reading.read(name).pixels for name in ("out.png", "c-2.png"))
            np.testing.assert_array_equal(ours, last)
        else:
            assert "error: no picture could be saved: the device does not answer" in stderr
            assert not os.path.exists("out.png")


def test_a_display_that_breaks_is_told_once_and_costs_nothing(main, monkeypatch, capsys):
    def breaks(*_):
        raise RuntimeError("no terminal")

    monkeypatch.setattr(progress.Progress, "show", breaks)
    assert main("--progress-write") == 0
    stderr = capsys.readouterr().err
    message = "error: the progress display failed (RuntimeError: no terminal): the run goes on "
    assert stderr.count(message + "without it") == 1
    assert len(Path("out-progress.csv").read_text().splitlines()) == 7
    assert metadata.read("out.png")["losses"]


@pytest.mark.parametrize("name", ["see", "add_picture"])
def test_a_log_that_breaks_fails_the_run_at_its_end(main, monkeypatch, capsys, name):
    fail_at(monkeypatch, tensorboard.TensorBoardLog, name, 1, ValueError("no"))
    assert main("--log-dir", "logs", "--checkpoint-iterations", 2) == 1
    assert "(ValueError: no): the run goes on without it" in capsys.readouterr().err
    assert metadata.read("out.png")["losses"]


@pytest.mark.parametrize("error", [MemoryError("no"), ValueError("no"), OSError(5, "no")])
def test_a_checkpoint_that_fails_on_its_thread_is_told(main, folder, monkeypatch, capsys, error):
    fail_at(monkeypatch, writing, "save", 0, error)
    assert main("--checkpoint-output", "c-%d.png", "--checkpoint-iterations", 3) == 1
    stderr = capsys.readouterr().err
    assert f"error: the checkpoint could not be written ({type(error).__name__}: no)" in stderr
    assert not (folder / "c-0.png").exists() and (folder / "c-3.png").exists()
    assert metadata.read("out.png")["losses"]


def test_a_picture_that_cannot_be_enlarged_is_saved_as_it_is(main, monkeypatch, capsys):
    fail_at(monkeypatch, writer.Writer, "_at_full_size", 0, MemoryError())
    fail_at_evaluation(monkeypatch, 2, RuntimeError("no"))
    assert main("--scales", 2) == 1
    message = "error: the picture is saved with 24x16 pixels, because it could not be enlarged ("
    assert message in capsys.readouterr().err
    assert reading.read("out.png").pixels.shape == (16, 24, 3)


def test_a_picture_goes_where_there_is_room(main, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(files.Path, "home", lambda: home)
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    save = writing.save

    def full(path, *arguments):
        if not str(path).startswith(str(home)):
            raise UserError(f"cannot write {path} (No space left on device): make room there")
        save(path, *arguments)

    monkeypatch.setattr(writing, "save", full)
    assert main() == 1
    stderr = capsys.readouterr().err
    assert "error: cannot write out.png (No space left on device): make room there\n" in stderr
    (saved,) = home.glob("neural-style-*/out.png")
    assert f"saved as {saved} instead" in stderr


def test_a_picture_that_no_place_takes_is_told(main, tmp_path, monkeypatch, capsys):
    folders = [tmp_path / name for name in ("temporary", "home", "cache")]  # not those of others
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(folders[0]))
    monkeypatch.setattr(files.Path, "home", lambda: folders[1])
    monkeypatch.setattr(user_cache, "folder", lambda: folders[2])

    def full(path, *_):
        raise UserError(f"cannot write {path} (No space left on device): make room there")

    monkeypatch.setattr(writing, "save", full)
    assert main() == 1
    assert "error: the picture could not be saved anywhere" in capsys.readouterr().err
    assert not [path for folder in folders for path in folder.glob("neural-style-*")]


def test_a_current_folder_that_is_removed_costs_no_picture(main, folder, monkeypatch):
    """The output is beside it."""
    place = folder / "place"
    place.mkdir()
    see, calls = writer.Writer.see, itertools.count()

    def leave(self, step):
        if next(calls) == 2:
            place.rmdir()
        see(self, step)

    monkeypatch.setattr(writer.Writer, "see", leave)
    monkeypatch.chdir(place)
    arguments = [
        "--content",
        "../photo.png",
        "--styles",
        "../painting.png",
        "--output",
        "../out.png",
    ]
    arguments += [
        "--network",
        "../network.mat",
        "--precision",
        "float32",
        "--iterations",
        "4",
        *QUICK,
    ]
    assert neural_style.main(arguments) == 0
    assert metadata.read(folder / "out.png")["losses"]


def test_in_a_batch_a_failure_is_one_picture_s(folder, monkeypatch):
    fail_at_evaluation(monkeypatch, 3, tf.errors.InternalError(None, None, "the device is gone"))
    arguments = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    arguments += ["--network", "network.mat", "--precision", "float32", "--iterations", "6", *QUICK]
    monkeypatch.chdir(folder)
    painted = parser.parse(arguments, {})
    outcome = jobs.paint(painted, "CPU", lambda *_: None)
    assert outcome.status == "failed"
    assert outcome.message == "InternalError: the device is gone (--debug shows where)"
    assert "losses" not in metadata.read("out.png")
    assert jobs.paint(painted, "CPU", lambda *_: None).status == "done"


def test_two_runs_with_one_output_are_refused(main, folder, capsys):
    for path, arguments in (("out.png", []), ("run.npz", STATE)):
        with files.claim(path):
            assert main(*arguments) == 1
        assert capsys.readouterr().err == (
            f"error: another run is writing {path}: wait until it has ended, or choose another "
            "name\n"
        )
    assert not (folder / "out.png").exists()
    assert main() == 0
    assert not list(folder.glob(".*"))


def test_a_finished_state_is_not_written_again(main, folder):
    assert main("--save-state", "run.npz") == 0
    before = os.stat("run.npz").st_mtime_ns
    assert neural_style.main(["--resume", "run.npz"]) == 0
    assert os.stat("run.npz").st_mtime_ns == before
    assert neural_style.main(["--resume", "run.npz", "--save-state", "two.npz"]) == 0
    assert states.load("two.npz")[0]["iterations"] == 6


# Standard streams


needs_full = pytest.mark.skipif(
    not Path("/dev/full").is_char_device(), reason="this system has no /dev/full"
)


LINES = ["--iterations", "4", "--print-iterations", "1"]


@pytest.mark.parametrize(
    "streams",
    [
        *((None, ""), ("", None)),
        pytest.param(("", "/dev/full"), marks=needs_full),
    ],
)
def test_a_stream_that_is_closed_or_full_costs_no_picture(run, folder, streams):
    assert run(*LINES, streams=streams).returncode == 0
    assert metadata.read(folder / "out.png")["losses"]


@pytest.mark.parametrize("redirected", [">&- 2>&-", "2>&1 | head -1"])
def test_streams_that_a_shell_takes_away_cost_no_picture(folder, redirected):
    arguments = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    arguments += ["--network", "network.mat", "--precision", "float32", *QUICK, *LINES]
    command = " ".join([*COMMAND, *arguments])
    status = subprocess.run(["bash", "-c", f"set -o pipefail; {command} {redirected}"], cwd=folder)
    assert status.returncode == 0
    assert metadata.read(folder / "out.png")["losses"]


@needs_full
def test_output_that_is_lost_fails_the_command(folder):
    command = [sys.executable, str(ROOT / "neural_style.py"), "--help"]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stdout=full).returncode == 1


def test_a_stream_that_breaks_is_written_to_no_more():
    class Broken:
        calls = 0

        def write(self, text):
            self.calls += 1
            raise BrokenPipeError(32, "Broken pipe")

    broken = Broken()
    stream = streams.tolerant(broken)
    assert stream.write("hello") == 5 and stream.write("again") == 5
    assert broken.calls == 1 and isinstance(stream.error, BrokenPipeError)
    assert streams.tolerant(stream) is stream


def test_what_the_core_says_is_shown(main, monkeypatch, capsys):
    fail_at_evaluation(monkeypatch, 3, tf.errors.ResourceExhaustedError(None, None, "OOM"))
    assert main() == 0
    assert "\nout of memory: continues in tiles of 64 pixels\n" in capsys.readouterr().err
    assert not streams.LOGGER.handlers and streams.LOGGER.propagate


def test_the_namespace_of_a_run_has_what_is_claimed():
    options = RunOptions(content="c", styles=["s"], output="a/out.png", timelapse="film.gif")
    assert outputs.claimed(options) == ["film.gif"]  # the folder a is not there
