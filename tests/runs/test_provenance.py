"""A picture that says what made it, and is painted again from that."""

import hashlib
import json
import re

import numpy as np
import pytest
from shared import error_of

from neural_style_tf.commands.parser import parse
from neural_style_tf.errors import UserError
from neural_style_tf.pictures import metadata, writing
from neural_style_tf.runs import provenance
from neural_style_tf.runs.options import RunOptions


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


def test_a_picture_of_an_earlier_version_is_painted_as_it_was(folder, monkeypatch):
    """Its paintings were as wide as the result, which it called "keep", and its photo was
    stretched to a width and height."""
    monkeypatch.chdir(folder)
    before = RunOptions(content="photo.png", styles=["painting.png"], output="out.png")
    for size, fit in (({"width": 30}, None), ({"width": 30, "height": 60}, "stretch")):
        now = before.with_settings(style_fit="width", fit=fit, **size)
        described = provenance.describe(now)
        earlier = {**described, "style_fit": "keep"}
        del earlier["style_size"], earlier["fit"]  # which it did not have
        checked = provenance.checked(earlier, "out.png")
        assert checked["style_fit"] == "width" and checked.get("fit") == fit
        assert provenance.is_same(checked, described)


@pytest.mark.parametrize(
    ("style_loss", "stylization", "weight", "kept"),
    [
        ("moments", None, 5000, None),
        ("moments", 0.75, 50_000, None),
        ("neighbors", 0.75, None, 0.75),  # whose losses have one scale, then and now
    ],
)
def test_so_is_one_from_before_paintings_had_one_strength(
    folder, monkeypatch, style_loss, stylization, weight, kept
):
    """A weight of 5000 was multiplied by the stylization then, whatever the painting."""
    monkeypatch.chdir(folder)
    options = RunOptions(content="photo.png", styles=["painting.png"], output="out.png")
    now = options.with_settings(style_loss=style_loss, stylization=stylization)
    earlier = provenance.describe(now) | {"style_weight": 5000.0}
    checked = provenance.checked(earlier, "out.png")
    assert checked["style_weight"] == weight and checked["stylization"] == kept


@pytest.mark.parametrize("stylization", [2, "much"])
def test_a_damaged_stylization_of_an_earlier_version_is_one_line(folder, monkeypatch, stylization):
    monkeypatch.chdir(folder)
    options = RunOptions(content="photo.png", styles=["painting.png"], output="out.png")
    damaged = {"style_weight": 5000.0, "stylization": stylization}
    with pytest.raises(UserError, match=r"^out.png: stylization is (2|much): use "):
        provenance.checked(provenance.describe(options) | damaged, "out.png")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_made_a_picture_is_in_it(run, folder):
    assert run("--iterations", 1, "--seed", 5).returncode == 0
    description = metadata.read(folder / "out.png")
    assert description["styles"] == ["painting.png"] and description["network"] == "network.mat"
    assert description["sha256"]["content"] == sha256(folder / "photo.png")
    assert description["sha256"]["styles"] == [sha256(folder / "painting.png")]
    assert description["versions"].keys() == {"neural-style", "tensorflow", "numpy", "python"}
    assert re.fullmatch(r"CPU \(\d+ threads?\)|GPU .+", description["device"])
    assert description["seed"] == 5
    assert str(folder) not in json.dumps(description)


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


def test_another_photo_is_painted_the_same_way_at_its_own_size(run, folder, picture, command_line):
    writing.save(folder / "large.png", picture(70, 90))
    assert run("--iterations", 4, "--scales", "auto", content="large.png").returncode == 0
    arguments = ["--settings-from", "out.png", "--output", "small.png", "--size", 30]
    result = command_line([*arguments, "--content", "photo.png"], folder)
    assert result.returncode == 0, result.stderr
    description = metadata.read(folder / "small.png")
    assert description["size"] == 30 and description["asked"]["scales"] == "auto"


def test_what_is_given_stands_in_for_what_it_excludes():
    inherited = {"content": "a", "styles": ["b"], "output": "c", "width": 40, "style_weight": 7.0}
    options = parse(["--size", "30", "--stylization", "0.3"], inherited)
    settings = options.settings
    assert settings.width is None and settings.size == 30 and settings.style_weight is None


def test_options_that_say_nothing_alone_are_told(run):
    message = "--allow-changes needs --resume"
    assert error_of(run("--allow-changes"), 2) == message


def test_outputs_are_not_written_over_each_other(run):
    message = "two outputs would both be written to out.png: name each differently"
    assert error_of(run("--save-state", "out.png"), 2) == message
