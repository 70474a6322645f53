"""A run that is stopped and goes on is the run that never stopped, to the bit."""

import random
import re
import signal
import time

import numpy as np
import pytest
from PIL import Image
from shared import PATIENCE, QUICK, error_of, wait_for

from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.painting.descent import Descent
from neural_style_tf.painting.painter import paint_stages
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import metadata, reading
from neural_style_tf.runs import states
from neural_style_tf.runs.resume import Resumed
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

pytestmark = pytest.mark.usefixtures("many_graphs")

RUNS = {
    "adam": {"optimizer": "adam", "style_loss": "mean"},
    "lbfgs": {"optimizer": "lbfgs"},
    "l-bfgs-b": {"optimizer": "l-bfgs-b", "evaluations": 3, "style_loss": "mean"},
    "stages, lbfgs": {"scales": 2, "optimizer": "lbfgs"},
    "neighbors": {"scales": 2, "style_loss": "neighbors"},
    "tiles in bfloat16": {"scales": 2, "tile": 64, "precision": "bfloat16", "style_loss": "mean"},
    "patience": {"patience": 2, "learning_rate": 200.0, "style_loss": "mean"},
}
FEW_LAYERS = {"content_layers": {"relu2_1": 1}, "style_layers": {"relu1_1": 1, "relu2_1": 1}}


def states_of(network, pictures, **options):
    """The last picture of a run, and its state after every step, fetched at once; by the step, and
    None for the last."""
    states = {}

    def keep(step):
        states[step.iteration] = {name: np.array(value) for name, value in step.state().items()}

    return list(resumed(network, *pictures, on_step=keep, **options))[-1][1], states


def resumed(network, content, styles, on_step=None, resume=None, keep_stages=False, **options):
    """`paint_stages` with few layers, and settings by name."""
    return paint_stages(
        network,
        content,
        styles,
        Settings(**FEW_LAYERS, **options),
        on_step=on_step,
        resume=resume,
        keep_stages=keep_stages,
    )


@pytest.fixture
def pictures(picture, request):
    """A photo of three stages, or of several tiles, and a painting; smaller ones for SciPy, which
    looks at its bounds one by one."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    height, width = (34, 45) if name == "l-bfgs-b" else (70, 90)
    return picture(height, width), [picture(60, 50, seed=1)]


@pytest.mark.parametrize("name", RUNS)
def test_every_state_leads_to_the_same_picture(network, pictures, name):
    options = {"iterations": 8} | RUNS[name]
    whole, states = states_of(network, pictures, **options)
    for at in (4, None):  # 4 is the last of two stages' first
        if at not in states:  # patience has ended the run before
            assert name == "patience"
            continue
        again = list(resumed(network, *pictures, resume=states[at], **options))[-1][1]
        np.testing.assert_array_equal(again, whole)


def test_a_stage_with_neighbors_that_fails_leaves_the_state_of_the_one_before(
    network, pictures, monkeypatch
):
    options = {"iterations": 8} | RUNS["neighbors"]
    whole = list(resumed(network, *pictures, **options))[-1][1]
    steps, begin_stage = [], Descent.begin_stage

    def failing(descent, optimizer, stage, start):
        if stage.number == 2:
            raise RuntimeError
        begin_stage(descent, optimizer, stage, start)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "begin_stage", failing)
        with pytest.raises(RuntimeError):
            list(resumed(network, *pictures, on_step=steps.append, **options))
    again = list(resumed(network, *pictures, resume=steps[-1].state(), **options))[-1][1]
    np.testing.assert_array_equal(again, whole)


STEADY = {"learning_rate_schedule": "constant", "style_loss": "mean"}
MORE = RUNS | {
    "adam, steady": STEADY,
    "adam, steady, stages": STEADY | {"scales": 3},
    "three stages": {"scales": 3, "style_loss": "mean"},
}
# The first step of a run of 20 that resumes one of 10 after its step of index 8, and at its end
FIRST_STEPS = {
    "adam": (0, 0),  # its rate falls over all steps
    "lbfgs": (9, 10),
    "l-bfgs-b": (9, 10),
    "adam, steady": (9, 10),
    "three stages": (5, 5),  # the first has 5 of 10 steps, and 9 of 20
}


@pytest.mark.parametrize("name", MORE)
def test_ten_and_ten_more_are_twenty_at_once(network, pictures, name):
    options = MORE[name] | {"iterations": 20}
    whole = list(stylize(network, *pictures, **FEW_LAYERS, **options))[-1][1]
    _, states = states_of(network, pictures, **options | {"iterations": 10, "keep_stages": True})
    first_steps = []
    for at in (8, None):
        if at not in states:  # patience has ended the run before
            assert name == "patience"
            continue
        steps = []
        options["resume"] = states[at]
        more = list(resumed(network, *pictures, on_step=steps.append, **options))[-1][1]
        np.testing.assert_array_equal(more, whole)
        first_steps.append(steps[0].iteration)
        numbers = [step.iteration for step in steps]
        assert name == "patience" or numbers == [*range(numbers[0], 20), None]
    assert tuple(first_steps) == FIRST_STEPS.get(name, tuple(first_steps))


def test_a_state_without_its_stages_cannot_have_more_steps_in_them(network, pictures):
    _, states_by_step = states_of(network, pictures, iterations=6, scales=2)
    with pytest.raises(UsageError, match="the run was saved without its earlier stages: use 6"):
        resumed(network, *pictures, resume=states_by_step[None], iterations=9)


def test_what_does_not_fit_is_refused(network, pictures, picture):
    _, states_by_step = states_of(network, pictures, iterations=3)
    state = states_by_step[None]
    with pytest.raises(UsageError, match="iterations is 2, and 3 are done already: use 3 or more"):
        resumed(network, *pictures, resume=state, iterations=2)
    with pytest.raises(UsageError, match="content is 45x34 and the run to resume painted 90x70"):
        resumed(network, picture(), pictures[1], resume=state, iterations=4)
    with pytest.raises(UsageError, match="the state to resume is not of optimizer adam"):
        list(resumed(network, *pictures, resume=state, iterations=3, optimizer="adam"))
    of_another_size = {"picture": state["picture"][:, 8:]}
    with pytest.raises(UsageError, match="has a picture of 90x62 pixels where its stage has 90x70"):
        resumed(network, *pictures, resume=state | of_another_size, iterations=3)


def test_a_state_keeps_arrays_and_what_belongs_to_them(tmp_path):
    path = tmp_path / "run.npz"
    state = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.float64(3)}
    saved = {"options": {"content": "фото.jpg"}, "description": {}}
    states.save(path, state, saved)
    arrays, about, is_ours = states.load(path)
    assert about == saved and is_ours and arrays.keys() == state.keys()
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
    def resume(*options, state="run.npz", **how):
        return command_line(["--resume", state, *options], folder, **how)

    return resume


SAVE = ["--save-state", "run.npz", "--scales", 2]


def test_a_finished_run_goes_on_with_more_iterations(run, folder, resume):
    lbfgs = ["--optimizer", "lbfgs"]
    more = ["--progress-write", "--state-iterations", 4, *lbfgs]
    assert run("--iterations", 6, *SAVE, *more).returncode == 0
    result = resume("--iterations", 9, shares=False)  # only files know the first run
    assert result.returncode == 0, result.stderr
    assert "out.png: 9 steps in " in result.stderr
    assert "resumes after step 4 of 6 to match a single run of 9 steps" in result.stderr
    assert metadata.read(folder / "out.png")["iterations"] == 9
    rows = (folder / "out-progress.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["iteration", *map(str, range(9))]
    about = states.load(folder / "run.npz").about
    assert about["description"]["iterations"] == 9
    assert run("--iterations", 9, "--scales", 2, *lbfgs, output="at-once.png").returncode == 0
    painted, expected = (reading.read(folder / name).pixels for name in ("out.png", "at-once.png"))
    np.testing.assert_array_equal(painted, expected)


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


def test_neighbors_are_looked_up_again_after_a_change(run, folder, resume):
    assert run("--iterations", 3, *SAVE, "--optimizer", "lbfgs").returncode == 0
    changed = ["--style-loss", "neighbors", "--allow-changes"]
    result = resume("--iterations", 4, *changed)  # a run without any
    assert result.returncode == 0, result.stderr
    before = states.load(folder / "run.npz").state["matches"]
    (folder / "other.png").replace(folder / "painting.png")  # too small for all of these
    result = resume("--iterations", 5, "--allow-changes")
    assert result.returncode == 0, result.stderr
    after = states.load(folder / "run.npz").state["matches"]
    assert after.shape == before.shape and (after != before).any()


def test_an_output_that_is_not_the_run_s_is_kept(run, folder, resume):
    assert run("--iterations", 3, *SAVE).returncode == 0
    (folder / "new.png").write_bytes(b"precious")
    message = "new.png exists: choose another name, or --overwrite to replace it"
    for option in ("--output", "--save-settings", "--save-state"):
        assert error_of(resume(option, "new.png"), 1) == message
    assert resume("--output", "out.png", "--iterations", 4).returncode == 0  # its own


def test_a_film_that_goes_on_leaves_the_first(run, folder, resume):
    film = ["--timelapse", "film.gif", "--checkpoint-iterations", 1]
    steady = ["--scales", "off", "--learning-rate-schedule", "constant", "--style-weight", 5000]
    assert run("--iterations", 3, *SAVE, *film, *steady).returncode == 0
    before = (folder / "film.gif").read_bytes()
    assert resume("--iterations", 5).returncode == 0
    assert (folder / "film.gif").read_bytes() == before
    with Image.open(folder / "film-from-3.gif") as after:
        assert after.n_frames == 3


def test_a_checkpoint_that_is_due_when_the_run_stops_is_there(network, pictures):
    states_by_step = {}

    def stop(step):
        states_by_step[step.iteration] = step.state()
        if step.iteration == 4:
            raise KeyboardInterrupt

    options = {"iterations": 8, "checkpoint_iterations": 2}
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for iteration, _ in stylize(network, *pictures, on_step=stop, **FEW_LAYERS, **options):
            seen.append(iteration)
    seen += [at for at, _ in resumed(network, *pictures, resume=states_by_step[4], **options)]
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


@pytest.mark.slow
@pytest.mark.parametrize("name, status", [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_saves_picture_and_state_and_tells_how_to_go_on(
    run, start, folder, name, status, resume
):
    options = ["--save-state", "a run.npz", "--checkpoint-output", "c-%d.png"]
    options += ["--checkpoint-iterations", "20"]
    process = start(*options, iterations=100, pauses=True)
    wait_for((folder / "here").exists)
    process.send_signal(getattr(signal, name))
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


KILLS = 6  # `make soak` has a thousand


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_paints_the_same_picture(run, folder, launcher):
    begin = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    begin += ["--network", "network.mat", "--iterations", 100_000, "--save-state", "run.npz"]
    begin += ["--state-iterations", 2, "--precision", "float32", *QUICK, "--overwrite"]
    begin += ["--learning-rate-schedule", "constant"]  # the end is not known at the beginning
    begin += ["--checkpoint-output", "c-%d.png", "--checkpoint-iterations", 50]
    state, reached = folder / "run.npz", []

    def begin_or_resume():
        return ["--resume", "run.npz"] if state.exists() else begin

    def saved():
        return state.exists() and state.stat().st_ino

    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    for _ in range(KILLS):
        before, process = saved(), launcher.start(begin_or_resume(), folder)
        wait_for(lambda before=before: saved() != before)  # until it has begun to work
        time.sleep(chance.uniform(0.0, 0.1))
        assert process.poll() is None, seed
        process.kill()
        assert process.wait() == -signal.SIGKILL
        reached.append(int(states.load(state).state["iterations"]))
        for path in folder.glob("c-*"):
            assert reading.read(path).pixels.shape == (34, 45, 3), (seed, path)
    assert reached == sorted(set(reached)), seed  # each was killed at work
    more = ["--iterations", reached[-1] + 3]
    process = launcher.start([*begin_or_resume(), *more], folder)
    _, stderr = process.communicate()
    assert process.returncode == 0, (seed, stderr)
    whole = ["--learning-rate-schedule", "constant", *more]
    assert run(*whole, output="whole.png").returncode == 0
    ours, theirs = (reading.read(folder / name).pixels for name in ("out.png", "whole.png"))
    np.testing.assert_array_equal(ours, theirs)
    assert not list(folder.glob(".*")), seed


def start_and_take_its_folder_away(start, folder, iterations):
    """A run whose state is saved in a folder that has been moved away, and that folder."""
    place = folder / "place"
    place.mkdir()
    options = ["--save-state", "place/run.npz", "--state-iterations", "20"]
    process = start(*options, iterations=iterations, pauses=True)
    wait_for((folder / "here").exists)
    assert (place / "run.npz").exists()
    place.rename(folder / "gone")
    (folder / "on").touch()
    return process, place


def test_a_folder_that_vanishes_and_comes_back_is_written_to_again(start, folder):
    """The run goes on in memory meanwhile, and says so at once."""
    process, place = start_and_take_its_folder_away(start, folder, iterations=100_000)
    message = "error: cannot write place/run.npz (No such file or directory): make room there"
    assert any(line.startswith(message) for line in process.stderr)
    place.mkdir()
    wait_for((place / "run.npz").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    states.load(place / "run.npz")
    assert reading.read(folder / "out.png").pixels.shape == (34, 45, 3)


def test_what_could_not_be_written_fails_the_run_at_its_end(start, folder):
    process, _ = start_and_take_its_folder_away(start, folder, iterations=60)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "error: cannot write place/run.npz" in stderr
    assert "out.png: 60 steps in " in stderr


def test_a_saved_run_that_cannot_go_on_is_refused_in_one_line(run, folder):
    assert run("--iterations", 2, "--save-state", "run.npz").returncode == 0
    for option, message in {
        ("--size", 40): "content is 40x30 and the run to resume painted 45x34: use that size",
        ("--optimizer", "lbfgs"): "--optimizer cannot change when a run is resumed",
    }.items():
        result = run("--resume", "run.npz", "--allow-changes", "--iterations", 4, *option)
        assert error_of(result, 2).startswith(message)


def test_a_run_with_the_bundled_network_goes_on_when_the_program_has_moved(run, folder):
    """Of an older version, or from another environment: its checksum is compared all the same."""
    assert run("--iterations", 2, "--save-state", "run.npz").returncode == 0
    state, about, _ = states.load(folder / "run.npz")
    about["options"]["network"] = str(folder / "moved" / BUNDLED_NETWORK.name)
    states.save(folder / "run.npz", state, about)
    assert Resumed.load(str(folder / "run.npz")).options["network"] == str(BUNDLED_NETWORK)
