"""The wheel, installed where nothing else is, paints from any folder."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from launcher import ROOT
from shared import size_of

from neural_style_tf.settings import BUNDLED_NETWORK
from neural_style_tf.version import VERSION

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]  # built and installed once

MOST_BYTES = 36_000_000
QUICK = ["--size", "64", "--iterations", "2", "--precision", "float32"]


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with nothing but the wheel, which sees the packages of the tests. Yields its
    folder of commands, and its site-packages as they were before those packages were seen."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    places = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    python = Path(places["scripts"]) / Path(sys.executable).name
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    installed = sorted(os.listdir(places["purelib"]))
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(places["purelib"], "of-the-tests.pth").write_text("\n".join(sorted(shared)))
    return Path(places["scripts"]), installed


@pytest.fixture
def command(environment, tmp_path):
    """A function that runs a command of the environment in a folder with a photo and a painting."""
    for name in ("china.jpg", "church-at-auvers.jpg"):
        (tmp_path / name).write_bytes((ROOT / "examples" / name).read_bytes())
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(name, *arguments):
        result = subprocess.run(
            [environment[0] / name, *arguments],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel.stat().st_size <= MOST_BYTES
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        assert file.read(f"neural_style_tf/data/{BUNDLED_NETWORK.name}") == (
            BUNDLED_NETWORK.read_bytes()
        )
    assert {name.partition("/")[0] for name in names} == {
        "neural_style_tf",
        f"neural_style_tf-{VERSION}.dist-info",
    }
    recipes = {f"neural_style_tf/recipes/{path.name}" for path in ROOT.glob("recipes/*.args")}
    assert len(recipes) == 8 and recipes <= names
    licences = {"LICENSE", "neural_style_tf/data/LICENSE"}
    assert {f"neural_style_tf-{VERSION}.dist-info/licenses/{name}" for name in licences} <= names


def test_site_packages_gain_the_package_and_its_metadata_only(environment):
    commands, installed = environment
    assert installed == ["neural_style_tf", f"neural_style_tf-{VERSION}.dist-info"]
    assert {path.stem for path in commands.glob("neural-style*")} == {
        "neural-style",
        "neural-style-batch",
    }


def test_the_commands_paint_from_any_folder(command, tmp_path):
    command(
        "neural-style",
        *("--content", "china.jpg", "--styles", "church-at-auvers.jpg", "--output", "out.png"),
        *("--recipe", "lbfgs", *QUICK),
    )
    assert size_of(tmp_path / "out.png") == (64, 43)
    command(
        "neural-style-batch",
        *("--contents", "china.jpg", "--styles", "church-at-auvers.jpg"),
        *("--output-dir", "gallery", "@recipes/lbfgs.args", *QUICK),
    )
    assert size_of(tmp_path / "gallery" / "china--church-at-auvers.png") == (64, 43)
    assert (tmp_path / "gallery" / "gallery.html").exists()


def test_the_version_is_that_of_the_metadata(command):
    program = "from importlib.metadata import version; print(version('neural-style-tf'))"
    python = Path(sys.executable).name
    assert command(python, "-c", program) == f"{VERSION}\n"
    assert command(python, "-m", "neural_style_tf", "--version") == f"neural-style {VERSION}\n"
    assert command("neural-style", "--version") == f"neural-style {VERSION}\n"
    assert command("neural-style-batch", "--version") == f"neural-style {VERSION}\n"


def test_help_names_the_command_that_was_called(command):
    python = Path(sys.executable).name
    for call, arguments in {
        "neural-style": ["neural-style"],
        "neural-style-batch": ["neural-style-batch"],
        "python -m neural_style_tf": [python, "-m", "neural_style_tf"],
    }.items():
        usage = re.match(r"usage: (.+?) (?:\[|--)", command(*arguments, "--help"))
        assert usage[1] == call
