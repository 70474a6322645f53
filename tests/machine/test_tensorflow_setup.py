"""TensorFlow is made ready the same way for scripts, notebooks and the command line."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from launcher import ROOT
from PIL import Image

from neural_style_tf.errors import UserError, shortened
from neural_style_tf.machine import cpu, tensorflow_setup

SCRIPT = """
import sys
if "tensorflow" in sys.argv:
    import tensorflow
    tensorflow.zeros(())
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import reading, writing

photo, painting = (reading.read(name).pixels for name in ("photo.png", "painting.png"))
layers = {"content_layers": {"relu2_1": 1}, "style_layers": {"relu1_1": 1, "relu2_1": 1}}
for _, image in stylize("network.mat", photo, [painting], iterations=3, **layers):
    writing.save("script.png", image)
"""


def run_python(folder, *arguments):
    """Runs a new Python process in the default precision. Returns its standard error."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name in (cpu.ONEDNN, tensorflow_setup.THREADS, tensorflow_setup.INTER_OP_THREADS):
        environment.pop(name, None)
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_a_script_paints_the_same_picture_as_the_command_line(folder, picture):
    Image.fromarray(picture(34, 45, seed=7).astype(np.uint8)).save(folder / "painting.png")
    paint = ["--content", "photo.png", "--styles", "painting.png", "--network", "network.mat"]
    paint += ["--iterations", 3, "--output", "command.png", "--content-layers", "relu2_1"]
    paint += ["--style-layers", "relu1_1", "relu2_1"]
    assert "45x34 on " in run_python(folder, ROOT / "neural_style.py", *paint)
    assert "TensorFlow was started" not in run_python(folder, "-c", SCRIPT)
    command, script = (
        np.asarray(Image.open(folder / name)) for name in ("command.png", "script.png")
    )
    np.testing.assert_array_equal(script, command)


@pytest.mark.slow
def test_a_script_that_started_tensorflow_itself_paints_and_is_warned(folder):
    stderr = run_python(folder, "-c", SCRIPT, "tensorflow")
    assert "TensorFlow was started before neural_style_tf, which could not set its thre" in stderr
    assert (folder / "script.png").exists()


@pytest.mark.parametrize(
    ("wanted", "variable", "count"),
    [(None, None, 3), (None, "", 3), (None, "0", 3), (None, " 5 ", 5), (2, "auto", 2), (2, "5", 2)],
)
def test_the_number_of_threads_comes_from_the_option_the_environment_or_the_processors(
    wanted, variable, count, monkeypatch
):
    monkeypatch.setattr(cpu, "threads", lambda: 3)
    monkeypatch.delenv(tensorflow_setup.THREADS, raising=False)
    if variable is not None:
        monkeypatch.setenv(tensorflow_setup.THREADS, variable)
    assert tensorflow_setup._number_of_threads(wanted) == count


@pytest.mark.parametrize("value", ["auto", "-1", "1.5", "9" * 5000, "٣"])
def test_a_variable_that_is_not_a_number_of_threads_is_refused(value, monkeypatch):
    monkeypatch.setenv(tensorflow_setup.THREADS, value)
    with pytest.raises(UserError) as raised:
        tensorflow_setup._number_of_threads(None)
    assert str(raised.value) == (
        f"the environment variable TF_NUM_INTRAOP_THREADS is {shortened(repr(value))}: set it to a "
        "number of threads, or unset it"
    )


def test_more_threads_than_a_system_starts_are_refused(run):
    result = run("--threads", 20_000)
    assert result.returncode == 1
    assert result.stderr == "error: 20000 threads are too many: use at most 1024\n"


def test_the_options_reach_the_run(run):
    result = run("--threads", 1, "--precision", "float32", "--iterations", 1)
    assert result.returncode == 0
    if "GPU" not in result.stderr:
        assert result.stderr.startswith("45x34 on CPU (1 thread) in float32 with the network")


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_a_wrong_number_of_threads_is_refused(run, value):
    result = run(f"--threads={value}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "--threads" in line and value in line


@pytest.mark.parametrize(("value", "during"), [(None, "1"), ("0", "0")])
def test_keras_is_spared_unless_the_user_says_which(value, during, monkeypatch):
    monkeypatch.delenv(tensorflow_setup.KERAS, raising=False)
    if value:
        monkeypatch.setenv(tensorflow_setup.KERAS, value)
    with tensorflow_setup._without_keras():
        assert os.environ[tensorflow_setup.KERAS] == during
    assert os.environ.get(tensorflow_setup.KERAS) == value


@pytest.mark.parametrize(("value", "calls"), [(None, 1), ("1", 1), ("0", 0), ("false", 0)])
def test_operations_are_deterministic_unless_the_user_says_otherwise(value, calls, monkeypatch):
    called = []
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: called.append(True)
    )
    monkeypatch.delenv(tensorflow_setup.DETERMINISM, raising=False)
    if value:
        monkeypatch.setenv(tensorflow_setup.DETERMINISM, value)
    tensorflow_setup._fixed_settings("auto")
    assert len(called) == calls
