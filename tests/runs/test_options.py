"""Every option is described once: what follows from a description, and the rules of values."""

import dataclasses
import re
import shutil

import pytest

from neural_style_tf import needs
from neural_style_tf.batch import tables
from neural_style_tf.commands import batch, parser
from neural_style_tf.errors import UsageError, message_of
from neural_style_tf.machine import devices
from neural_style_tf.runs import checks, options, provenance, resume
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.settings import Settings

FILES = {"content": "photo.png", "styles": ["painting.png"], "output": "out.png"}
ARGUMENTS = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]


@pytest.fixture
def imaginary(monkeypatch):
    """A file that a run reads, described in one place: a photo of the frame."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Imaginary(RunOptions):
        frame: str | None = options._input(
            None, "the frame of the picture", needs=needs.any_of("initial")
        )

    monkeypatch.setattr(options, "RunOptions", Imaginary)


def test_an_option_is_added_in_one_place(imaginary, folder, monkeypatch):
    monkeypatch.chdir(folder)
    shutil.copy("other.png", "frame.png")
    frame = ["--initial", "other.png", "--frame", "frame.png"]
    # the parser, and its checks
    painted = parser.parse([*ARGUMENTS, *frame, "--network", "network.mat"], {})
    assert painted.frame == "frame.png"
    assert "the frame of the picture" in parser.build_parser().format_help()
    with pytest.raises(UsageError, match="frame needs initial"):
        parser.parse([*ARGUMENTS, "--frame", "frame.png"], {})
    with pytest.raises(UsageError, match="--frame does not belong in a recipe"):
        parser.check_recipe(["--frame", "frame.png"])
    parser.check_table(["--frame", "frame.png"])
    # what is kept with the picture, and looked for when it is painted again
    described = provenance.checked(provenance.describe(painted), "out.png")
    assert described["frame"] == "frame.png" and re.fullmatch(
        "[0-9a-f]{64}", described["sha256"]["frame"]
    )
    assert provenance.inputs_of(described, [], [folder])["frame"] == str(folder / "frame.png")
    # what a saved run keeps and a resumed one inherits
    recorded = provenance.record(painted)
    assert recorded["frame"] == str(folder / "frame.png")
    assert resume._recorded(recorded, "run.npz")["frame"] == str(folder / "frame.png")
    # a batch has it, a table may set it
    batch.check_rest(frame, frame)
    row = tables.own_options("--frame frame.png", parser.check_table, parser.check_recipe)
    assert row.arguments == ["--frame", "frame.png"]
    assert "frame.png" in checks.files_read(painted)


def test_a_device_is_that_of_a_machine_not_of_a_picture():
    """Like the number of threads: a saved run keeps it, a recipe and a table cannot set it."""
    recorded = provenance.record(RunOptions.of({**FILES, "device": "gpu:1"}))
    assert resume._recorded(recorded, "run.npz")["device"] == "gpu:1"
    for check, kind in ((parser.check_recipe, "recipe"), (parser.check_table, "table")):
        with pytest.raises(UsageError, match=f"--device does not belong in a {kind}"):
            check(["--device", "cpu"])
    batch.check_rest(["--device", "cpu"], ["--device", "cpu"])


def test_options_are_checked_as_they_are_made():
    wrong = {
        "--threads is 0: use 1 or more": {"threads": 0},
        f"--device is cuda: use {devices.WANTED}": {"device": "cuda"},
        f"--device is 0: use {devices.WANTED}": {"device": 0},
        "--preview is 70000: use 65535 or less": {"preview": 70_000},
        "--max-megapixels is nan: use a finite number": {"max_megapixels": float("nan")},
        "--overwrite is yes: use True or False": {"overwrite": "yes"},
        "--styles is a.png: use a list of names": {"styles": "a.png"},
        "--output is required": {"output": None},
        "unknown setting treads (did you mean threads?)": {"treads": 2},
    }
    for message, values in wrong.items():
        with pytest.raises(UsageError) as raised:
            RunOptions.of({**FILES, **values})
        assert message_of(raised.value) == message


def test_options_are_kept_in_one_form(tmp_path):
    painted = RunOptions.of({**FILES, "output": tmp_path / "out.png", "preview": True, "size": 64})
    assert painted.output == str(tmp_path / "out.png") and painted.preview == 0
    assert painted.styles == ("painting.png",) and painted.settings == Settings(size=64)
    assert RunOptions.of(painted.values()) == painted


def test_help_is_one_screen_and_all_of_it_one_or_two_lines_each(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    brief = parser.build_parser(is_brief=True).format_help()
    assert len(brief.splitlines()) <= 30
    assert len(re.findall("^  --", brief, re.MULTILINE)) <= 18
    lines = 0
    for line in parser.build_parser().format_help().splitlines():
        if re.match("  -", line):
            lines = int(len(line.split("  ")) > 2)  # or its text begins on the next line
        elif line.startswith(" " * 20):
            lines += 1
            assert lines <= 2, line
