"""What `from neural_style_tf import ...` offers: the command as a function, pictures as arrays."""

import shutil
import signal
import subprocess
import sys
import typing

import numpy as np
import pytest
from launcher import ROOT

import neural_style_tf
from neural_style_tf import Settings, UsageError, UserError, paint_file, read_picture, save_picture
from neural_style_tf.pictures import metadata
from neural_style_tf.runs import api, notebook
from neural_style_tf.runs.keywords import RunKeywords
from neural_style_tf.runs.options import option_names
from neural_style_tf.schema import setting_names

FEW = {
    "network": "network.mat",
    "iterations": 3,
    "content_layers": {"relu2_1": 1},
    "style_layers": {"relu1_1": 1, "relu2_1": 1},
    "optimizer": "adam",
    "style_loss": "mean",
    "precision": "float32",
}


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_a_file_is_painted_as_the_command_paints_it(run, here, capfd):
    steps = []
    result = paint_file("photo.png", ["painting.png"], "api.png", on_step=steps.append, **FEW)
    assert run("--iterations", 3).returncode == 0
    assert read_picture("api.png").tolist() == read_picture("out.png").tolist()
    assert metadata.read("api.png") == metadata.read("out.png")
    assert (str(result.path), result.steps) == ("api.png", 3)
    assert result.seconds > 0
    assert result.losses == metadata.read("out.png")["losses"]
    assert [step.iteration for step in steps] == [0, 1, 2, None]
    assert capfd.readouterr() == ("", "")


def test_settings_shape_the_picture_and_options_override_them(here):
    few = {name: value for name, value in FEW.items() if name in setting_names()}
    settings = Settings(**few | {"iterations": 9})
    options = {"settings": settings, "network": "network.mat", "iterations": 3}
    paint_file("photo.png", "painting.png", "out.png", **FEW)
    assert paint_file("photo.png", "painting.png", "again.png", **options).steps == 3
    assert read_picture("again.png").tolist() == read_picture("out.png").tolist()


def test_a_run_to_resume_and_a_picture_may_be_none(here):
    pictures = "photo.png", ["painting.png"], "out.png"
    assert paint_file(*pictures, resume=None, settings_from=None, **FEW).steps == 3


def test_a_size_that_is_none_leaves_the_inherited_width(here):
    pictures = "photo.png", ["painting.png"]
    paint_file(*pictures, "wide.png", width=40, **FEW)
    paint_file(*pictures, "again.png", settings_from="wide.png", size=None)
    assert read_picture("again.png").shape == read_picture("wide.png").shape == (30, 40, 3)


def test_the_keywords_are_the_options_of_the_command():
    options = {*option_names(), *setting_names()} - {"content", "styles", "output"}
    assert typing.get_type_hints(RunKeywords).keys() == options - set(api.COMMAND_ONLY)


def test_one_style_and_paths_of_any_kind(here):
    result = paint_file(here / "photo.png", here / "painting.png", here / "out.png", **FEW)
    assert result.path == here / "out.png"


def test_a_run_is_resumed_and_settings_are_taken_from_a_picture(here):
    three = {**FEW, "overwrite": True}
    pictures = ("photo.png", ["painting.png"])
    paint_file(*pictures, "six.png", **{**FEW, "iterations": 6})
    paint_file(*pictures, "out.png", save_state="run.npz", **three)
    resumed = {"resume": "run.npz", "iterations": 6, "network": "network.mat"}
    assert paint_file(*pictures, "out.png", **resumed, overwrite=True).steps == 6
    assert read_picture("out.png").tolist() == read_picture("six.png").tolist()
    paint_file(*pictures, "again.png", settings_from="six.png")
    assert read_picture("again.png").tolist() == read_picture("six.png").tolist()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"iteration": 3}, r"unknown setting iteration \(did you mean iterations\?\)"),
        ({"iterations": 0}, "iterations"),
        ({"preview": 8000}, "preview is an option of the command alone"),
        ({"preview": 0}, "preview is an option of the command alone"),
        ({"state_iterations": 3}, "state_iterations needs resume or save_state"),
        ({"resume": "a.npz", "settings_from": "b.png"}, "cannot be combined"),
    ],
)
def test_wrong_options_are_errors(here, options, message):
    with pytest.raises(UsageError, match=message):
        paint_file("photo.png", "painting.png", "out.png", **options)


def test_what_cannot_be_read_or_replaced_is_an_error(here):
    with pytest.raises(UserError, match=r"no file absent.png"):
        paint_file("absent.png", "painting.png", "out.png", **FEW)
    (here / "out.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"out.png exists"):
        paint_file("photo.png", "painting.png", "out.png", **FEW)
    assert (here / "out.png").read_bytes() == b"mine"


def test_an_exception_of_on_step_ends_the_run_and_saves_its_picture(here):
    def on_step(step):
        if step.iteration == 1:
            raise ZeroDivisionError("of the caller")

    with pytest.raises(ZeroDivisionError, match="of the caller"):
        paint_file("photo.png", "painting.png", "out.png", on_step=on_step, **FEW)
    assert read_picture("out.png").shape == (34, 45, 3)
    assert "losses" not in metadata.read("out.png")  # of a whole run alone


def test_signal_handlers_are_left_alone_and_ctrl_c_saves_the_picture(here):
    numbers = [signal.SIGINT, signal.SIGTERM]
    before = [signal.getsignal(number) for number in numbers]
    during = []

    def on_step(step):
        during.append([signal.getsignal(number) for number in numbers])
        if len(during) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint_file("photo.png", "painting.png", "out.png", on_step=on_step, **FEW)
    assert read_picture("out.png").shape == (34, 45, 3)
    assert all(handlers == before for handlers in during)
    assert [signal.getsignal(number) for number in numbers] == before


def test_an_output_that_cannot_be_written_is_an_error_at_the_end(here):
    (here / "steps").mkdir()

    def on_step(step):
        if step.iteration == 0:
            shutil.rmtree(here / "steps")  # with the claim to the checkpoints, which is in it
            (here / "steps").write_bytes(b"")

    options = {"checkpoint_output": "steps/%d.png", "checkpoint_iterations": 2, **FEW}
    with pytest.raises(UserError, match=r"steps/"):
        paint_file("photo.png", "painting.png", "out.png", on_step=on_step, **options)
    assert read_picture("out.png").shape == (34, 45, 3)


def test_a_notebook_shows_the_run_unless_it_is_quiet(here, monkeypatch, capfd):
    shown = []
    monkeypatch.setattr(notebook, "is_running", lambda: True)
    monkeypatch.setattr(notebook, "NotebookDisplay", lambda: shown.append)
    paint_file("photo.png", "painting.png", "out.png", **FEW)
    assert [step.iteration for step in shown] == [0, 1, 2, None]
    paint_file("photo.png", "painting.png", "out.png", quiet=True, overwrite=True, **FEW)
    assert len(shown) == 4
    assert capfd.readouterr() == ("", "")


def test_tensorflow_is_imported_without_its_messages(here):
    program = "from neural_style_tf import stylize; print(stylize.__name__)"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("stylize\n", "")


def test_pictures_are_read_and_saved_as_arrays(here):
    image = np.full((4, 6, 3), 200, np.float32)
    save_picture("flat.png", image)
    assert read_picture("flat.png").tolist() == image.tolist()


@pytest.mark.parametrize("shape", [(), (4,), (6, 4), (6, 4, 2), (1, 6, 4, 3)])
def test_arrays_that_are_no_pictures_are_refused(here, shape):
    with pytest.raises(UsageError) as raised:
        save_picture("out.png", np.zeros(shape))
    assert str(raised.value) == (
        f"the picture has shape {shape}: use [height, width, 3], or 4 with transparency"
    )


def test_all_names_are_there():
    for name in neural_style_tf.__all__:
        assert getattr(neural_style_tf, name) is not None
    assert set(neural_style_tf.__all__) <= set(dir(neural_style_tf))
    with pytest.raises(AttributeError, match="no attribute 'styliz'"):
        neural_style_tf.styliz  # noqa: B018
