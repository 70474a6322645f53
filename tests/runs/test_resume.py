"""A run that is stopped and goes on is the run that never stopped, to the bit."""

import json
import os
import random
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from shared import PATIENCE, PAUSING, QUICK, ROOT, error_of, start, wait_for

from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.painting.painter import paint_stages
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import metadata, reading, writing
from neural_style_tf.runs import states
from neural_style_tf.settings import Settings

RUNS = {
    "adam": {"optimizer": "adam", "style_loss": "mean"},
    "lbfgs": {"optimizer": "lbfgs"},
    "l-bfgs-b": {"optimizer": "l-bfgs-b", "evaluations": 3, "style_loss": "mean"},
    "stages, lbfgs": {"scales": 2, "optimizer": "lbfgs"},
    "tiles in bfloat16": {"scales": 2, "tile": 64, "precision": "bfloat16", "style_loss": "mean"},
    "patience": {"patience": 2, "learning_rate": 200.0, "style_loss": "mean"},
}


def states_of(network, pictures, **options):
    """The last picture of a run, and its state after every step, fetched at once."""
    found = {}

    def keep(step):
        found[step.iteration] = {name: np.array(one) for name, one in step.state().items()}

    return list(resumed(network, *pictures, on_step=keep, **options))[-1][1], found


def resumed(network, content, styles, on_step=None, resume=None, keep_stages=False, **options):
    """`paint_stages` with settings by name."""
    return paint_stages(
        network,
        content,
        styles,
        Settings(**options),
        on_step=on_step,
        resume=resume,
        keep_stages=keep_stages,
    )


@pytest.fixture
def pictures(picture):
    return picture(70, 90), [picture(60, 50, seed=1)]


@pytest.mark.parametrize("name", RUNS)
def test_every_state_leads_to_the_same_picture(network, pictures, name):
    options = {"iterations": 8} | RUNS[name]
    whole, found = states_of(network, pictures, **options)
    for at in {4, None} & set(found):  # 4 is the last of two stages' first
        again = list(resumed(network, *pictures, resume=found[at], **options))[-1][1]
        np.testing.assert_array_equal(again, whole)


STEADY = {"learning_rate_schedule": "constant", "style_loss": "mean"}
MORE = RUNS | {
    "adam, steady": STEADY,
    "adam, steady, stages": STEADY | {"scales": 3},
    "three stages": {"scales": 3, "style_loss": "mean"},
}


@pytest.mark.parametrize("name", MORE)
def test_ten_and_ten_more_are_twenty_at_once(network, pictures, name):
    options = MORE[name]
    whole = list(stylize(network, *pictures, iterations=20, **options))[-1][1]
    _, found = states_of(network, pictures, iterations=10, keep_stages=True, **options)
    for at in {8, None} & set(found):
        told, options = [], options | {"iterations": 20, "resume": found[at]}
        more = list(resumed(network, *pictures, on_step=told.append, **options))[-1][1]
        np.testing.assert_array_equal(more, whole)
        if name == "adam":  # its rate falls over all steps
            assert told[0].iteration == 0
        elif name == "three stages" and at is None:  # the first has 5 of 10 steps, and 9 of 20
            assert [step.iteration for step in told[:-1]] == list(range(5, 20))
        elif "scales" not in options and "patience" not in options:
            assert told[0].iteration == (10 if at is None else at + 1)


def test_a_state_without_its_stages_cannot_have_more_steps_in_them(network, pictures):
    _, found = states_of(network, pictures, iterations=6, scales=2)
    with pytest.raises(UsageError, match="the run was saved without its earlier stages: use 6"):
        resumed(network, *pictures, resume=found[None], iterations=9)


def test_what_does_not_fit_is_refused(network, pictures, picture):
    _, found = states_of(network, pictures, iterations=3)
    state = found[None]
    with pytest.raises(UsageError, match="iterations is 2, and 3 are done already: use 3 or more"):
        resumed(network, *pictures, resume=state, iterations=2)
    with pytest.raises(UsageError, match="content is 45x34 and the run to resume painted 90x70"):
        resumed(network, picture(), pictures[1], resume=state, iterations=4)
    with pytest.raises(UsageError, match="the state to resume is not of optimizer adam"):
        list(resumed(network, *pictures, resume=state, iterations=3, optimizer="adam"))
    of_another_size = {"picture": state["picture"][:, 8:]}
    with pytest.raises(UsageError, match="has a picture of 90x62 pixels where its stage has 90x70"):
        resumed(network, *pictures, resume=state | of_another_size, iterations=3)


def test_a_state_keeps_arrays_and_what_is_told_about_them(tmp_path):
    path = tmp_path / "run.npz"
    state = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.float64(3)}
    told = {"options": {"content": "фото.jpg"}, "description": {}}
    states.save(path, state, told)
    arrays, about, is_ours = states.load(path)
    assert about == told and is_ours and arrays.keys() == state.keys()
    np.testing.assert_array_equal(arrays["a/b"], state["a/b"])


def test_an_array_alone_is_no_state(tmp_path):
    for name, save in (("one.npy", np.save), ("two.npz", np.savez)):
        save(tmp_path / name, np.zeros(3))
        with pytest.raises(UserError, match="is not a saved run"):
            states.load(tmp_path / name)


@pytest.mark.parametrize("data", [b"hello", b"PK\3\4 cut short", b""])
def test_a_file_that_is_no_state_is_told(tmp_path, data):
    path = tmp_path / "run.npz"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"is not a saved run|is empty"):
        states.load(path)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "run.npz"
    np.savez(path, about=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(UserError, match="is not a saved run"):
        states.load(path)


# The command line


@pytest.fixture
def resume(folder, command_line):
    return lambda *options, state="run.npz": command_line(["--resume", state, *options], folder)


SAVE = ["--save-state", "run.npz", "--scales", 2]


def test_a_finished_run_goes_on_with_more_iterations(run, folder, resume):
    lbfgs = ["--optimizer", "lbfgs"]
    more = ["--progress-write", "--state-iterations", 4, *lbfgs]
    assert run("--iterations", 6, *SAVE, *more).returncode == 0
    result = resume("--iterations", 9)
    assert result.returncode == 0, result.stderr
    assert "out.png: 9 steps in " in result.stderr
    assert "as 9 steps at once have it, goes on after step 4 of 6" in result.stderr
    assert metadata.read(folder / "out.png")["iterations"] == 9
    rows = (folder / "out-progress.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["iteration", *map(str, range(9))]
    about = states.load(folder / "run.npz").about
    assert about["description"]["iterations"] == 9
    assert run("--iterations", 9, "--scales", 2, *lbfgs, output="at-once.png").returncode == 0
    found, expected = (reading.read(folder / name).pixels for name in ("out.png", "at-once.png"))
    np.testing.assert_array_equal(found, expected)


def test_other_settings_and_inputs_are_named_and_refused(run, folder, resume):
    assert run("--iterations", 3, *SAVE).returncode == 0
    before = (folder / "out.png").read_bytes()
    assert error_of(resume("--iterations", 4, "--tv-weight", 7), 2) == (
        "the run in run.npz had other settings: --tv-weight (was 300.0, now 7.0): "
        "leave them as they were, or pass --allow-changes"
    )
    (folder / "other.png").replace(folder / "painting.png")
    assert error_of(resume("--iterations", 4), 2) == (
        "the run in run.npz had other settings: --styles (another file than ['painting.png']): "
        "leave them as they were, or pass --allow-changes"
    )
    assert (folder / "out.png").read_bytes() == before
    assert resume("--iterations", 4, "--allow-changes").returncode == 0


def test_an_output_that_is_not_the_run_s_is_kept(run, folder, resume):
    assert run("--iterations", 3, *SAVE).returncode == 0
    (folder / "new.png").write_bytes(b"precious")
    message = "new.png exists: choose another name, or --overwrite to replace it"
    for option in ("--output", "--save-settings", "--save-state"):
        assert error_of(resume(option, "new.png"), 1) == message
    assert resume("--output", "out.png", "--iterations", 4).returncode == 0  # its own


def test_a_film_that_goes_on_leaves_the_first(run, folder, resume):
    film = ["--timelapse", "film.gif", "--checkpoint-iterations", 1]
    steady = ["--scales", "off", "--learning-rate-schedule", "constant"]
    assert run("--iterations", 3, *SAVE, *film, *steady).returncode == 0
    before = (folder / "film.gif").read_bytes()
    assert resume("--iterations", 5).returncode == 0
    assert (folder / "film.gif").read_bytes() == before
    with Image.open(folder / "film-from-3.gif") as after:
        assert after.n_frames == 3


def test_a_checkpoint_that_is_due_when_the_run_stops_is_there(network, pictures):
    found = {}

    def stop(step):
        found[step.iteration] = step.state()
        if step.iteration == 4:
            raise KeyboardInterrupt

    options = {"iterations": 8, "checkpoint_iterations": 2}
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for iteration, _ in stylize(network, *pictures, on_step=stop, **options):
            seen.append(iteration)
    seen += [at for at, _ in resumed(network, *pictures, resume=found[4], **options)]
    assert seen == [0, 2, 4, 6, None]


def test_a_state_that_is_not_finite_does_not_replace_one_that_is(run, folder):
    wild = ["--learning-rate", 1e38, "--no-clip", "--state-iterations", 1]
    result = run("--iterations", 9, "--save-state", "run.npz", *wild)
    assert "the loss became infinite or not a number" in result.stderr
    if (folder / "run.npz").exists():
        assert np.isfinite(states.load(folder / "run.npz").state["picture"]).all()


def test_tiles_may_be_asked_for_on_the_way_and_stages_not(run, folder, resume):
    assert run("--iterations", 3, "--save-state", "run.npz", "--size", 320).returncode == 0
    result = resume("--iterations", 4, "--tile", 64, "--allow-changes")
    assert result.returncode == 0 and "in tiles of 64 pixels" in result.stderr
    message = "--scales cannot change when a run is resumed"
    assert error_of(resume("--scales", 2, "--allow-changes"), 2) == message


@pytest.mark.parametrize(
    "number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_picture_and_state_and_tells_how_to_go_on(
    run, folder, number, status, resume
):
    options = ["--save-state", "a run.npz", "--checkpoint-output", "c-%d.png"]
    options += ["--checkpoint-iterations", "20"]
    process = start(folder, *options, iterations=100, program=PAUSING)
    wait_for((folder / "here").exists)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, stderr
    command = re.search(r"^to go on: python \S+ --resume '(.+)'$", stderr, re.MULTILINE)
    assert command[1] == "a run.npz"
    done = int(re.search(r"^out.png: (\d+) of 100 steps", stderr, re.MULTILINE)[1])
    state = states.load(folder / "a run.npz").state
    assert state["iterations"] == done
    if status == 143:
        assert resume(state="a run.npz").returncode == 0
        assert run("--iterations", 100, output="whole.png").returncode == 0
        ours, whole = (reading.read(folder / name).pixels for name in ("out.png", "whole.png"))
        np.testing.assert_array_equal(ours, whole)


KILLS = 20
# A run in processes of its own, forked where TensorFlow is imported but not yet started: each
# begins in a second. It kills each after a moment, and looks at what is there.
KILLED = """
import os, random, signal, sys, time
import launcher
from neural_style_tf.commands import neural_style
from neural_style_tf.pictures import reading
from neural_style_tf.runs import states
launcher.import_all()
begin, kills = sys.argv[2:], int(sys.argv[1])
random.seed(int(os.environ["KILLS_SEED"]))

def start(arguments):
    child = os.fork()
    if child == 0:
        neural_style.start(arguments)
    return child

def next_arguments():
    return ["--resume", "run.npz"] if os.path.exists("run.npz") else [*begin, "--overwrite"]

def moment():
    return os.path.exists("run.npz") and os.stat("run.npz").st_ino

reached = []
for _ in range(kills):
    before, child = moment(), start(next_arguments())
    while moment() == before:  # until it has begun to work
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, 0.1))
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "done before it could be killed"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    state = states.load("run.npz").state
    reached.append(int(state["iterations"]))
    for name in os.listdir():
        if name.startswith("c-"):
            reading.read(name)
_, status = os.waitpid(start(next_arguments() + ["--iterations", str(reached[-1] + 3)]), 0)
print(os.waitstatus_to_exitcode(status), *reached)
"""


def test_a_run_that_is_killed_twenty_times_paints_the_same_picture(run, folder):
    options = ["--checkpoint-output", "c-%d.png", "--checkpoint-iterations", 50]
    options += ["--learning-rate-schedule", "constant"]  # the end is not known at the beginning
    options += ["--network", "network.mat"]
    begin = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    begin += [*options, "--iterations", "100000", "--quiet", "--save-state", "run.npz"]
    begin += ["--state-iterations", "2", "--precision", "float32", *QUICK]
    seed = str(random.randrange(1_000_000))
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(KILLS), *map(str, begin)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"KILLS_SEED": seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
    assert result.returncode == 0, (seed, result.stderr[-2000:])
    status, *reached = map(int, result.stdout.split())
    assert status == 0 and len(reached) == KILLS and reached == sorted(reached), (seed, result)
    assert len(set(reached)) == KILLS  # they were killed at work
    whole = ["--learning-rate-schedule", "constant", "--iterations", reached[-1] + 3]
    assert run(*whole, output="whole.png").returncode == 0
    ours, theirs = (reading.read(folder / name).pixels for name in ("out.png", "whole.png"))
    np.testing.assert_array_equal(ours, theirs)
    assert not list(folder.glob(".neural-style-*"))


# A picture that says what made it


def test_a_picture_is_painted_again_from_what_it_says(run, folder, command_line):
    mask = np.zeros((34, 45), np.float32)
    mask[:, 20:] = 255
    writing.save(folder / "mask.png", np.repeat(mask[..., None], 3, -1))
    options = ["--iterations", 4, "--pooling", "max", "--style-layers", "relu1_1=1", "relu2_1=0.5"]
    options += ["--style-masks", "mask.png", "-", "--style-blend-weights", 2, 1, "--no-clip"]
    styles = ["painting.png", "other.png"]
    assert run(*options, "--save-settings", "my.args", styles=styles).returncode == 0
    result = command_line(["--settings-from", "out.png", "--output", "again.png"], folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "again.png").read_bytes() == (folder / "out.png").read_bytes()
    # the recipe has the settings, the command line the pictures
    more = ["--style-masks", "mask.png", "-"]
    assert run("@my.args", *more, styles=styles, output="recipe.png").returncode == 0
    assert (folder / "recipe.png").read_bytes() == (folder / "out.png").read_bytes()


def test_what_made_a_picture_is_in_it(run, folder):
    assert run("--iterations", 1, "--seed", 5).returncode == 0
    told = metadata.read(folder / "out.png")
    assert told["styles"] == ["painting.png"] and told["network"] == "network.mat"
    assert len(told["sha256"]["content"]) == 64 and len(told["sha256"]["styles"]) == 1
    assert told["versions"].keys() == {"neural-style", "tensorflow", "numpy", "python"}
    assert told["device"].startswith(("CPU", "GPU")) and told["seed"] == 5
    assert str(folder) not in json.dumps(told)


def test_inputs_that_are_not_what_they_were_are_told(run, folder, command_line):
    assert run("--iterations", 1).returncode == 0
    arguments = ["--settings-from", "out.png", "--output", "again.png"]

    def again(*options):
        return command_line([*arguments, *options], folder)

    (folder / "other.png").replace(folder / "painting.png")
    message = "painting.png is not the file that made the picture: pass --styles"
    assert error_of(again(), 1) == message
    (folder / "painting.png").rename(folder / "moved.png")
    message = "no file painting.png here or beside the picture: pass --styles"
    assert error_of(again(), 1) == message
    assert again("--styles", "moved.png").returncode == 0
    message = "photo.png has no neural-style metadata: use a picture made by this program"
    arguments[1] = "photo.png"
    assert error_of(again(), 1) == message


def start_and_take_its_folder_away(folder, iterations):
    """A run whose state is saved in a folder that is there no more, and that folder."""
    place = folder / "place"
    place.mkdir()
    options = ["--save-state", "place/run.npz", "--state-iterations", "20"]
    process = start(folder, *options, iterations=iterations, program=PAUSING)
    wait_for((folder / "here").exists)
    assert (place / "run.npz").exists()
    place.rename(folder / "gone")
    (folder / "on").touch()
    return process, place


def test_a_folder_that_vanishes_and_comes_back_is_written_to_again(folder):
    """The run goes on in memory meanwhile, and says so at once."""
    process, place = start_and_take_its_folder_away(folder, iterations=100_000)
    told = "error: cannot write place/run.npz (No such file or directory): make room there"
    assert any(line.startswith(told) for line in process.stderr)
    place.mkdir()
    wait_for((place / "run.npz").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    states.load(place / "run.npz")
    assert reading.read(folder / "out.png").pixels.shape == (34, 45, 3)


def test_what_could_not_be_written_fails_the_run_at_its_end(folder):
    process, _ = start_and_take_its_folder_away(folder, iterations=60)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "error: cannot write place/run.npz" in stderr
    assert "out.png: 60 steps in " in stderr


def test_another_photo_is_painted_the_same_way_at_its_own_size(run, folder, picture, command_line):
    writing.save(folder / "large.png", picture(70, 90))
    assert run("--iterations", 4, "--scales", "auto", content="large.png").returncode == 0
    arguments = ["--settings-from", "out.png", "--output", "small.png", "--size", 30]
    result = command_line([*arguments, "--content", "photo.png"], folder)
    assert result.returncode == 0, result.stderr
    told = metadata.read(folder / "small.png")
    assert told["size"] == 30 and told["asked"]["scales"] == "auto"


def test_what_is_given_stands_in_for_what_it_excludes():
    from neural_style_tf.runs.options import parse

    inherited = {"content": "a", "styles": ["b"], "output": "c", "width": 40, "style_weight": 7.0}
    options = parse(["--size", "30", "--stylization", "0.3"], inherited)
    assert options.width is None and options.size == 30 and options.style_weight == 5000


def test_options_that_say_nothing_alone_are_told(run):
    message = "--allow-changes requires --resume"
    assert error_of(run("--allow-changes"), 2) == message


def test_outputs_are_not_written_over_each_other(run):
    message = "two outputs would both be written to out.png: name each differently"
    assert error_of(run("--save-state", "out.png"), 2) == message
