"""Whether there is a GPU: what costs nothing to know, and what TensorFlow says."""

import subprocess
import sys

import pytest
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.machine import devices, tensorflow_setup


@pytest.fixture
def asked(monkeypatch):
    """A function that makes an answer of the child process; returns the commands that ask."""
    commands = []

    def make(answer):
        devices.has_gpu.cache_clear()

        def run(command, **_):
            commands.append(command)
            if isinstance(answer, Exception):
                raise answer
            return subprocess.CompletedProcess(command, 0, answer, "")

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    yield make
    devices.has_gpu.cache_clear()


@pytest.mark.parametrize("visible", [None, "0", "1,2", "", " ", "-1"])
def test_gpus_that_the_user_hides_are_not_there(visible, monkeypatch, asked):
    monkeypatch.setattr(devices, "DRIVERS", (__file__,))
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(devices.VISIBLE, visible)
    commands, is_hidden = asked("GPUs: 1\n"), visible in ("", " ", "-1")
    assert devices.seems_to_have_gpu() is devices.has_gpu() is not is_hidden
    assert len(commands) == (0 if is_hidden else 1)
    devices.has_gpu()
    assert len(commands) <= 1  # the answer is known


@pytest.mark.parametrize(
    ("answer", "has_gpu"),
    [
        ("GPUs: 2\n", True),
        ("GPUs: 0\n", False),  # a driver without a usable GPU
        ("", True),  # it crashed: careful
        (OSError("no memory"), True),
        (subprocess.TimeoutExpired("python", 1), True),
    ],
)
def test_a_driver_alone_is_no_gpu(answer, has_gpu, monkeypatch, asked):
    monkeypatch.setattr(devices, "DRIVERS", (__file__,))
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    asked(answer)
    assert devices.has_gpu() is has_gpu


def test_without_a_driver_nobody_is_asked(monkeypatch, asked):
    monkeypatch.setattr(devices, "DRIVERS", ("/nowhere/driver",))
    commands = asked("GPUs: 1\n")
    assert not devices.seems_to_have_gpu() and not devices.has_gpu() and commands == []


def test_metal_is_a_gpu_where_its_plug_in_is_installed(monkeypatch):
    monkeypatch.setattr(devices, "DRIVERS", ())
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")
    for plugin in (None, object()):
        monkeypatch.setattr(devices.importlib.util, "find_spec", lambda _, found=plugin: found)
        assert devices.seems_to_have_gpu() is (plugin is not None)
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    assert not devices.seems_to_have_gpu()


def test_the_question_is_one_that_tensorflow_answers(monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "-1")
    answers = []
    monkeypatch.setattr("builtins.print", lambda *words: answers.append(words))
    exec(devices.QUESTION, {})
    assert answers == [("GPUs:", 0)]


def test_a_module_in_the_current_folder_is_not_asked(tmp_path, monkeypatch):
    module = "class config:\n    def list_physical_devices(_):\n        return [0] * {}\n"
    for folder, count in ("installed", 1), ("current", 0):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tensorflow.py").write_text(module.format(count))
    monkeypatch.setattr(devices, "DRIVERS", (__file__,))
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    monkeypatch.chdir(tmp_path / "current")
    devices.has_gpu.cache_clear()
    assert devices.has_gpu()
    devices.has_gpu.cache_clear()


def test_a_gpu_that_cannot_be_opened_is_reported_in_one_line(monkeypatch):
    error = tf.errors.InternalError(None, None, "cudaSetDevice() failed: out of memory\nmore")

    def fail(_):
        raise error

    monkeypatch.setattr(tf, "zeros", fail)
    with pytest.raises(tf.errors.InternalError):  # nothing to do with a GPU
        tensorflow_setup._open_devices()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["GPU:0"])
    with pytest.raises(UserError) as raised:
        tensorflow_setup._open_devices()
    assert str(raised.value) == (
        "the GPU cannot be opened (cudaSetDevice() failed: out of memory): end other programs that "
        "use it, or set CUDA_VISIBLE_DEVICES=-1 to paint on the CPU"
    )
