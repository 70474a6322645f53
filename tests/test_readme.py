"""Every command of the README and of examples/ is run, with few steps and a small size."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from shared import ROOT

from neural_style_tf.commands import neural_style
from neural_style_tf.pictures import images
from tools import paint_examples

QUICK = ["--iterations", "2", "--quiet"]
PAGES = {page: (ROOT / page).read_text() for page in (*paint_examples.PAGES, "recipes/README.md")}
COMMANDS = paint_examples.commands(PAGES)
BATCHES = paint_examples.commands([*PAGES, "docs/scale.md"], paint_examples.BATCH)
GO_ON = [c for c in COMMANDS if "--resume" in c or "--settings-from" in c]  # from another's files
PAINT = [c for c in COMMANDS if "--output" in c and c not in GO_ON]
OTHERS = [c for c in COMMANDS if c not in GO_ON + PAINT]


@pytest.fixture
def place(tmp_path, monkeypatch, tiny, picture):
    """A folder with what the pages name, as the current one."""
    for folder in ("examples", "recipes"):
        # whoever has painted the gallery has its pictures there
        ignored = shutil.ignore_patterns("gallery")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(tiny, tmp_path / "imagenet-vgg-verydeep-19.mat")
    (tmp_path / "paintings").mkdir()
    for seed, name in enumerate(
        ("photo.jpg", "painting.jpg", "paintings/a.jpg", "paintings/b.png")
    ):
        Image.fromarray(picture(60, 80, seed=seed).astype("u1")).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", PAINT, ids=" ".join)
def test_neural_style_commands(place, tiny, command, monkeypatch):
    monkeypatch.setattr("neural_style_tf.runs.preview.Preview.wait", lambda self: None)
    monkeypatch.setattr("webbrowser.open", lambda address: None)
    output = Path(command[command.index("--output") + 1])
    output.unlink(missing_ok=True)
    options = command[len(paint_examples.PROGRAM) :]
    size = ["--size", "64"]
    if "--width" in options:  # as the recipes have it, which give both sides
        size = ["--width", "64", "--height", "43"]
    for option in ("--size", "--width", "--height"):
        if option in options:
            del options[options.index(option) : options.index(option) + 2]
    assert neural_style.main([*options, *size, "--network", str(tiny), *QUICK]) == 0
    with Image.open(output) as image:
        assert max(image.size) == 64


def test_commands_that_go_on(place):
    """In their order, after the one whose state is saved."""
    saving = next(command for command in COMMANDS if "--save-state" in command)
    assert len(GO_ON) == 4
    for command in [saving, *GO_ON]:
        options = command[len(paint_examples.PROGRAM) :]
        if command is saving:
            options += ["--size", "64", "--network", "imagenet-vgg-verydeep-19.mat", *QUICK]
        if "--iterations" in options and command is not saving:
            options[options.index("--iterations") + 1] = "4"
        assert neural_style.main(options) == 0, command
    for name, size in (("out.jpg", (64, 48)), ("again.jpg", (64, 48)), ("cat.jpg", (64, 43))):
        with Image.open(name) as image:
            assert image.size == size
    assert images.metadata("out.jpg")["iterations"] == 4
    assert "--size 64" in Path("mine.args").read_text()


@pytest.mark.parametrize("command", OTHERS, ids=" ".join)
def test_other_commands(tiny, command, capsys):
    options = command[len(paint_examples.PROGRAM) :]
    assert neural_style.main([*options, "--network", str(tiny)]) == 0
    assert capsys.readouterr().out


def test_the_pages_name_only_files_that_are_there():
    for page, text in PAGES.items():
        for name in re.findall(r'(?:src="|\]\()([^":)]+)[")]', text):
            assert (ROOT / page).parent.joinpath(name).exists(), f"{page}: {name}"


@pytest.mark.parametrize("command", BATCHES, ids=" ".join)
def test_batch_commands(place, tiny, command):
    """A cluster of others is one on this machine."""
    shutil.copytree(place / "paintings", place / "photos")
    options = ["local" if word.startswith("tcp://") else word for word in command[2:]]
    for option in ("--contents", "--styles"):  # two by two are enough
        first = options.index(option) + 1
        last = next(at for at in range(first, len(options)) if options[at].startswith("--"))
        options[first:last] = options[first : min(last, first + 2)]
    quick = [*QUICK, "--size", "64", "--network", str(tiny)]
    done = shell([sys.executable, str(ROOT / "batch.py"), *options, *quick])
    assert done.returncode == 0 and done.stderr == ""
    folder = Path(options[options.index("--output-dir") + 1])
    told = json.loads((folder / "gallery.json").read_text())["pictures"]
    assert [one["status"] for one in told] == ["done"] * 4
    assert (folder / "gallery.html").exists() and (folder / "gallery.jpg").exists()


def shell(command, **environment):
    environment = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def style_folder(tiny, page):
    command = re.search(r"^ +(examples/style_folder.sh .+)$", PAGES[page], re.MULTILINE)[1].split()
    command[0] = str(ROOT / command[0])
    return shell([*command, *QUICK, "--size", "64", "--network", str(tiny)])


@pytest.mark.parametrize("page", paint_examples.PAGES)
def test_style_folder(place, tiny, page):
    (place / "paintings" / "b.png").unlink()
    result = style_folder(tiny, page)
    assert result.returncode == 0, result.stderr
    names = ["a-preview-0000.jpg", "a.jpg"]
    assert sorted(path.name for path in (place / "results").iterdir()) == names


def test_style_folder_goes_on(place, tiny):
    """What is painted is kept, and a broken painting does not keep the others from it."""
    (place / "results").mkdir()
    (place / "results" / "a.jpg").write_bytes(b"painted before")
    (place / "paintings" / "aa.jpg").write_text("no picture")
    result = style_folder(tiny, "README.md")
    assert result.returncode == 1 and "aa.jpg is not a picture" in result.stderr
    assert "a.jpg is there already" in result.stderr
    assert (place / "results" / "a.jpg").read_bytes() == b"painted before"
    with Image.open(place / "results" / "b.jpg") as image:
        assert max(image.size) == 64


def test_make_example(tmp_path):
    """As `make example` paints it, but with this Python, small and elsewhere."""
    output = tmp_path / "example.jpg"
    variables = [f"BIN={Path(sys.executable).parent}", f"EXAMPLE={output}"]
    variables += ["EXAMPLE_OPTIONS=--iterations 1 --size 48"]
    command = ["make", "--directory", str(ROOT), "--old-file", ".venv/installed", "example"]
    result = shell([*command, *variables], MAKEFLAGS="")
    assert result.returncode == 0, result.stderr
    assert f"The painting is {output}" in result.stdout
    with Image.open(output) as image:
        assert max(image.size) == 48


def test_from_python(place):
    code = re.search(r"```python\n(.+?)```", PAGES["README.md"], re.DOTALL)[1]
    assert len(code.splitlines()) <= 12
    quick = code.replace("iterations=100, checkpoint_iterations=20", "**quick")
    exec(quick, {"quick": {"iterations": 3, "checkpoint_iterations": 2}})
    for name in ("result.png", "step-000.png", "step-002.png"):
        with Image.open(name) as image:
            assert image.size == (640, 427)
