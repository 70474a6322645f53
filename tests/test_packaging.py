"""What pyproject.toml, requirements.txt, the package and its messages say agrees."""

import re
import subprocess
import sys

import pytest
from launcher import ROOT

import neural_style_tf
from neural_style_tf.pictures import metadata

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the same
    import tomli as tomllib

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
PAGES = [*ROOT.glob("neural_style_tf/**/*.py"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def test_requirements_and_dependencies_are_the_same():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [line.partition("#")[0].strip() for line in lines]
    assert sorted(filter(None, required)) == sorted(PYPROJECT["project"]["dependencies"])


def test_every_extra_that_is_named_exists():
    named = {
        (extra, page.name)
        for page in PAGES
        for extras in re.findall(r"(?:neural-style-tf|'\.)\[([a-z,]+)\]", page.read_text())
        for extra in extras.split(",")
    }
    assert {extra for extra, _ in named} >= {"preview", "video", "plot", "logs", "cluster"}
    assert [(extra, page) for extra, page in named if extra not in EXTRAS] == []


def test_all_extras_but_those_of_one_system_are_in_all():
    (everything,) = EXTRAS["all"]
    named = set(re.search(r"\[(.+)\]", everything)[1].split(","))
    assert named == EXTRAS.keys() - {"all", "dev", "gpu", "metal"}


def test_the_version_is_the_same_everywhere(command_line, tmp_path):
    version = neural_style_tf.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert "version" not in PYPROJECT["project"]  # it is read from version.py
    assert f"neural-style {version}" == metadata.SOFTWARE
    for program in ("neural_style", "batch"):
        result = command_line(["--version"], tmp_path, program=program)
        assert (result.returncode, result.stdout) == (0, f"neural-style {version}\n")
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert newest == cited == version


@pytest.mark.parametrize(
    "start",
    [
        "import neural_style_tf",
        "import neural_style_tf as n; n.UserError, n.Settings().iterations, dir(n)",
        "from neural_style_tf.commands.neural_style import main; main(['--help'])",
        "from neural_style_tf.commands.batch import main; main(['--help'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(start):
    program = f"""
import sys
try:
    {start}
except SystemExit:
    pass
heavy = {{'tensorflow', 'numpy', 'scipy', 'PIL', 'imageio'}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
