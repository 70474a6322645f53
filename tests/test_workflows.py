"""GitHub's workflows: they are valid, and run on every system and Python that is supported what the
Makefile and the documentation say."""

import re

import pytest
import yaml
from test_packaging import PYPROJECT, ROOT

WORKFLOWS = {path.name: path.read_text() for path in ROOT.glob(".github/workflows/*")}
JOBS = yaml.safe_load(WORKFLOWS["tests.yml"])["jobs"]
CLASSIFIERS = " ".join(PYPROJECT["project"]["classifiers"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_what_github_wants(name):
    workflow = yaml.safe_load(WORKFLOWS[name])
    # YAML 1.1 takes the key `on` for True
    assert workflow.keys() == {"name", True, "permissions", "concurrency", "jobs"}
    assert workflow[True].keys() == {"push", "pull_request", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job.keys() <= {"name", "runs-on", "timeout-minutes", "strategy", "steps"}
        assert job["runs-on"] in ("ubuntu-latest", "${{ matrix.os }}")
        assert 0 < job["timeout-minutes"] <= 360
        for step in job["steps"]:
            assert len(step.keys() & {"uses", "run"}) == 1
            assert step.keys() <= {"name", "uses", "run", "with"}
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1"))
        expressions = re.findall(r"\$\{\{ (.+?) \}\}", str(job))
        assert set(expressions) <= {f"matrix.{name}" for name in _matrix(job)}


def _matrix(job):
    return job.get("strategy", {}).get("matrix", {})


def test_every_system_and_python_that_is_supported_is_tested():
    matrix = _matrix(JOBS["quick"])
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", CLASSIFIERS)
    assert all(isinstance(version, str) for version in matrix["python"])  # not the number 3.1
    names = {"ubuntu-latest": "Linux", "macos-latest": "MacOS", "windows-latest": "Windows"}
    assert matrix["os"] == list(names)
    for name in names.values():
        assert re.search(rf"Operating System :: .*\b{name}\b", CLASSIFIERS)


def test_the_quick_tests_are_those_of_make_test_without_make():
    commands = [step["run"] for step in JOBS["quick"]["steps"] if "run" in step]
    install, test, paint = commands
    assert install == "python -m pip install --editable .[dev]"
    [of_make] = re.findall(
        r"^\t\$\(BIN\)/(python -m pytest .+?)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )[:1]
    assert test == of_make.replace('"not slow"', '"not slow and not browser and not cluster"')
    assert test in (ROOT / "CONTRIBUTING.md").read_text()
    markers = " ".join(PYPROJECT["tool"]["pytest"]["ini_options"]["markers"])
    assert all(f"{name}:" in markers for name in re.findall(r"not (\w+)", test))
    assert paint.startswith("neural-style --content examples/ch*na.jpg --styles examples/")
    assert [path.name for path in ROOT.glob("examples/ch*na.jpg")] == ["china.jpg"]


def test_everything_is_tested_as_everywhere():
    assert JOBS["everything"]["steps"][-1]["run"] == "sudo bash .ci/run"
    assert (ROOT / ".ci" / "run").exists()
