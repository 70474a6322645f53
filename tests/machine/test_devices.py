"""Devices: those that TensorFlow finds, asked in a child process, and the one that is used."""

import json
import re
import subprocess

import pytest
import tensorflow as tf

from neural_style_tf.errors import UserError, message_of
from neural_style_tf.machine import devices, drivers, tensorflow_setup
from neural_style_tf.machine.devices import Gpu
from neural_style_tf.runs import checks
from neural_style_tf.runs.options import RunOptions

H200 = ["NVIDIA H200", [9, 0]]
T4 = ["Tesla T4", [7, 5]]


@pytest.fixture
def asked(monkeypatch):
    """A function that makes an answer of the child process; returns the commands that ask."""
    commands = []
    monkeypatch.setattr(drivers, "may_work", lambda: True)

    def make(answer):
        devices.gpus.cache_clear()

        def run(command, **_):
            commands.append(command)
            if isinstance(answer, Exception):
                raise answer
            return subprocess.CompletedProcess(command, 0, answer, "")

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    yield make
    devices.gpus.cache_clear()


class StandIn:
    """What `tf.config` says of GPUs, and of those that are visible to this process."""

    def __init__(self, monkeypatch, count, is_started=False):
        self.listed = [f"GPU:{number}" for number in range(count)]
        self.visible, self._is_started = self.listed, is_started
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: self.listed)
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: self.visible)
        monkeypatch.setattr(tf.config, "set_visible_devices", self._set_visible)
        monkeypatch.setattr(tf.config.experimental, "get_device_details", self._details)
        monkeypatch.setattr(drivers, "remedy", lambda: None)
        monkeypatch.delenv(drivers.VISIBLE, raising=False)

    def _set_visible(self, visible, _):
        if self._is_started:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        self.visible = visible

    def _details(self, gpu):
        return {"device_name": f"card {gpu[-1]}", "compute_capability": (8, 6)}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([], ()),
        ([H200], (Gpu(0, "NVIDIA H200", (9, 0)),)),
        ([H200, T4], (Gpu(0, "NVIDIA H200", (9, 0)), Gpu(1, "Tesla T4", (7, 5)))),
        ([["METAL", None]], (Gpu(0, "METAL", None),)),
        ([[None, None]], (Gpu(0, "unknown", None),)),
    ],
)
def test_tensorflow_is_asked_once_what_it_finds(answer, found, asked):
    commands = asked(f"noise\nGPUs: {json.dumps(answer)}\n")
    assert devices.gpus() == found and devices.gpus() == found
    assert devices.has_gpu() is bool(found) and not devices.has_gpu("cpu")
    assert len(commands) == 1


@pytest.mark.parametrize(
    "answer", ["", "GPUs: [", OSError("no memory"), subprocess.TimeoutExpired("python", 1)], ids=str
)
def test_without_an_answer_one_gpu_is_assumed(answer, asked):
    asked(answer)
    assert devices.gpus() == (Gpu(0, "unknown", None),)


def test_without_a_driver_nobody_is_asked(monkeypatch, asked):
    commands = asked("GPUs: [[null, null]]\n")
    monkeypatch.setattr(drivers, "may_work", lambda: False)
    assert devices.gpus() == () and not devices.has_gpu() and commands == []


def test_the_question_is_one_that_tensorflow_answers(monkeypatch):
    answers = []
    monkeypatch.setattr("builtins.print", lambda *words: answers.append(words))
    StandIn(monkeypatch, 1)
    exec(devices.QUESTION, {})
    assert answers == [('GPUs: [["card 0", [8, 6]]]',)]


def test_a_module_in_the_current_folder_is_not_asked(tmp_path, monkeypatch):
    module = (
        "class config:\n    def list_physical_devices(_):\n        return [0] * {}\n"
        "    class experimental:\n        def get_device_details(_):\n            return {{}}\n"
    )
    for folder, count in ("installed", 1), ("current", 0):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tensorflow.py").write_text(module.format(count))
    monkeypatch.setattr(drivers, "may_work", lambda: True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    monkeypatch.chdir(tmp_path / "current")
    devices.gpus.cache_clear()
    assert devices.gpus() == (Gpu(0, "unknown", None),)
    devices.gpus.cache_clear()


@pytest.mark.parametrize(
    ("device", "count", "used"),
    [
        ("auto", 0, []),
        ("auto", 3, ["GPU:0"]),  # on the others it would take memory, too
        ("cpu", 0, []),
        ("cpu", 2, []),
        ("gpu", 1, ["GPU:0"]),
        ("gpu:0", 2, ["GPU:0"]),
        ("gpu:1", 2, ["GPU:1"]),
    ],
)
def test_tensorflow_uses_the_device_alone(device, count, used, monkeypatch):
    config = StandIn(monkeypatch, count)
    gpu = devices.use(device)
    assert config.visible == used
    assert gpu == (Gpu(int(used[0][-1]), f"card {used[0][-1]}", (8, 6)) if used else None)


def test_the_gpu_that_a_script_has_made_visible_is_used(monkeypatch):
    config = StandIn(monkeypatch, 3)
    config.visible = ["GPU:2"]
    assert devices.use("auto").number == 2
    assert devices.use("gpu:1").number == 1


def test_a_device_is_chosen_once_per_process(monkeypatch):
    config = StandIn(monkeypatch, 2, is_started=True)
    assert devices.use("auto").number == 0 and devices.use("gpu:0").number == 0
    for device in ("cpu", "gpu:1"):
        with pytest.raises(UserError) as raised:
            devices.use(device)
        assert message_of(raised.value) == (
            f"--device is {device}, but TensorFlow already uses gpu:0 in this process: start "
            "another process"
        )
    config.visible = []
    assert devices.use("auto") is devices.use("cpu") is None
    with pytest.raises(UserError, match=r"^device is gpu, but TensorFlow already uses cpu in this"):
        devices.use("gpu")


def test_another_device_than_that_of_the_process_is_refused_before_pictures_are_read(monkeypatch):
    StandIn(monkeypatch, 2, is_started=True)
    monkeypatch.setattr(tensorflow_setup, "_is_ready", True)
    pictures = {"content": "photo.jpg", "styles": ("painting.jpg",), "output": "out.png"}
    checks.check_device(RunOptions(**pictures))
    with pytest.raises(UserError, match=r"^device is cpu, but TensorFlow already uses gpu:0"):
        checks.check_device(RunOptions(**pictures, device="cpu"))


@pytest.mark.parametrize(
    ("device", "count", "message"),
    [
        ("gpu:2", 2, "only gpu:0, gpu:1 here: use one of them"),
        ("gpu", 0, "no GPU here: use auto or cpu"),
        ("gpu:1", 0, "no GPU here: use auto or cpu"),
    ],
)
def test_a_gpu_that_is_not_there_is_an_error(device, count, message, monkeypatch):
    StandIn(monkeypatch, count)
    with pytest.raises(UserError) as raised:
        devices.use(device)
    assert message_of(raised.value) == f"--device is {device}, but TensorFlow finds {message}"
    assert raised.value.exit_status == 1


def test_the_error_says_why_there_is_no_gpu(monkeypatch):
    StandIn(monkeypatch, 0)
    monkeypatch.setattr(drivers, "remedy", lambda: "install it")
    with pytest.raises(UserError, match=r"finds no GPU here: install it$"):
        devices.use("gpu")
    monkeypatch.setenv(drivers.VISIBLE, "-1")
    with pytest.raises(UserError, match=r"finds no GPU here: CUDA_VISIBLE_DEVICES hides all GPUs$"):
        devices.use("gpu")


def test_the_devices_are_listed_by_the_values_of_the_option(monkeypatch):
    monkeypatch.setattr(tensorflow_setup.cpu, "name", lambda: "Xeon")
    monkeypatch.setattr(tensorflow_setup, "_number_of_threads", lambda _: 1)
    StandIn(monkeypatch, 2)
    assert tensorflow_setup.listed_devices() == [
        "cpu    Xeon (1 thread)",
        "gpu:0  card 0 (compute capability 8.6)",
        "gpu:1  card 1 (compute capability 8.6)",
    ]


@pytest.mark.parametrize(
    ("count", "device", "words"),
    [(1, "auto", "GPU (card 0)"), (2, "gpu:1", "GPU 1 (card 1)"), (2, "cpu", "CPU (1 thread)")],
)
def test_a_run_names_its_device(count, device, words, monkeypatch):
    StandIn(monkeypatch, count)
    monkeypatch.setattr(tensorflow_setup, "_number_of_threads", lambda _: 1)
    assert tensorflow_setup.start(device=device) == words


def test_a_gpu_that_cannot_be_opened_is_reported_in_one_line(monkeypatch):
    error = tf.errors.InternalError(None, None, "cudaSetDevice() failed: out of memory\nmore")

    def fail(_):
        raise error

    monkeypatch.setattr(tf, "zeros", fail)
    with pytest.raises(tf.errors.InternalError):  # nothing to do with a GPU
        tensorflow_setup._open_devices()
    StandIn(monkeypatch, 1)
    with pytest.raises(UserError) as raised:
        tensorflow_setup._open_devices()
    assert message_of(raised.value) == (
        "the GPU cannot be opened (cudaSetDevice() failed: out of memory): end other programs that "
        "use it, or choose the CPU, --device cpu"
    )


def test_list_devices_prints_the_cpu(command_line, folder):
    result = command_line(["--list-devices"], folder)
    assert result.returncode == 0
    assert result.stderr == ""
    assert re.fullmatch(r"cpu    .+ \(\d+ threads?\)\n(gpu:\d .+\n)*", result.stdout)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--device", "gpu"], 1, "--device is gpu, but TensorFlow finds no GPU here: "),
        (["--device", "tpu"], 2, f"--device is tpu: use {devices.WANTED}"),
        (["--device", "GPU:0"], 2, f"--device is GPU:0: use {devices.WANTED}"),
    ],
)
def test_a_wrong_device_is_one_line(options, status, message, run):
    result = run(*options, environment={drivers.VISIBLE: "-1"})
    (line,) = result.stderr.splitlines()
    assert result.returncode == status and line.startswith(f"error: {message}")


def test_list_devices_stands_alone(command_line, folder):
    result = command_line(["--list-devices", "--device", "cpu"], folder)
    assert result.returncode == 2
    assert result.stderr == "error: --device has no effect with --list-devices\n"


def test_a_script_keeps_the_gpus_that_are_visible_to_it(monkeypatch):
    config = StandIn(monkeypatch, 2)
    grown = []
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, _: grown.append(gpu)
    )
    tensorflow_setup._fixed_settings()
    assert config.visible == grown == ["GPU:0", "GPU:1"]
    tensorflow_setup._fixed_settings("gpu:1")
    assert config.visible == ["GPU:1"] and grown[2:] == ["GPU:1"]


def test_a_batch_without_the_gpu_that_it_asks_for_does_not_begin(command_line, folder):
    arguments = ["--contents", "photo.png", "--styles", "painting.png", "--output-dir", "gallery"]
    hidden = {drivers.VISIBLE: "-1"}
    options = {"program": "batch", "environment": hidden}
    result = command_line([*arguments, "--device", "gpu:1"], folder, **options)
    assert result.returncode == 1 and not (folder / "gallery").exists()
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: --device is gpu:1, but TensorFlow finds no GPU here: ")


def test_the_cpu_can_be_chosen(run):
    result = run("--device", "cpu", "--threads", 1, "--iterations", 1)
    assert result.returncode == 0
    assert result.stderr.startswith("45x34 on CPU (1 thread) in float32 with the network")
