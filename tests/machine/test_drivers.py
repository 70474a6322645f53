"""Drivers: a GPU that seems to be there and that TensorFlow does not find, and the remedy."""

import shutil
import sys

import pytest

from neural_style_tf.machine import drivers, streams, tensorflow_setup

CUDA_12 = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\n"
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sat Aug 19 01:15:15 UTC 2023\n"


@pytest.fixture
def computer(monkeypatch, tmp_path):
    """A function that makes this computer one with some files and libraries, on a system."""

    def make(*files, libraries=(), build=CUDA_12, system="linux", plugin=False, machine="arm64"):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(drivers.platform, "machine", lambda: machine)
        monkeypatch.setattr(drivers, "is_there", lambda path: path in files)
        monkeypatch.setattr(drivers.shutil, "which", lambda _: None)
        monkeypatch.setattr(drivers, "loads", lambda library: library in libraries)
        monkeypatch.setattr(drivers, "build", lambda: build)
        monkeypatch.setattr(drivers, "has_plugin", lambda: plugin)
        monkeypatch.setattr(drivers, "NVIDIA_VERSION", str(tmp_path / "version"))
        monkeypatch.setattr(drivers, "_is_installed", lambda package: package in libraries)
        monkeypatch.delenv(drivers.VISIBLE, raising=False)

    return make


def test_without_a_sign_of_a_gpu_nothing_is_said(computer):
    for system in ("linux", "win32"):
        computer(system=system)
        assert drivers.remedy() is None and not drivers.may_work()
    computer(system="darwin", machine="x86_64")
    assert drivers.remedy() is None


@pytest.mark.parametrize(
    ("sign", "libraries", "build", "version", "remedy"),
    [
        (
            *("/dev/nvidia0", (), {"is_cuda_build": False}, None),
            "this TensorFlow is built without CUDA: pip install 'tensorflow[and-cuda]' installs "
            "one with it",
        ),
        (
            *("/proc/driver/nvidia", (), CUDA_12, None),
            "NVIDIA's driver cannot be loaded (libcuda.so.1): install it, or start the container "
            "with --gpus all",
        ),
        (
            *("/dev/nvidiactl", ("libcuda.so.1",), CUDA_12, MODULE.format("470.199.02")),
            "NVIDIA's driver 470.199.02 is too old: install 525.60.13 or later",
        ),
        (
            *("/dev/nvidiactl", ("libcuda.so.1",), CUDA_12, OPEN_MODULE.format("550.54.14")),
            "libcudart.so.12 is missing: pip install 'tensorflow[and-cuda]' installs it",
        ),
        (
            "/dev/nvidiactl",
            ("libcuda.so.1", "libcudart.so.12", "nvidia.cublas"),
            *(CUDA_12, OPEN_MODULE.format("525.60.13")),
            "libcudnn.so.9 is missing: pip install 'tensorflow[and-cuda]' installs it",
        ),
        (
            *(drivers.NVIDIA_IN_WSL, ("libcuda.so.1",), {}, None),
            "pip install 'tensorflow[and-cuda]' installs the libraries that it needs, and "
            "NVIDIA's driver has to be 528.33 or later; --debug shows what TensorFlow says",
        ),
        (
            *("/dev/kfd", (), CUDA_12, None),
            "TensorFlow uses GPUs of AMD only in AMD's own package, tensorflow-rocm",
        ),
        ("/dev/kfd", (), {"is_rocm_build": True}, None, None),
    ],
)
def test_the_remedy_on_linux(sign, libraries, build, version, remedy, computer, tmp_path):
    computer(sign, libraries=libraries, build=build)
    if version:
        (tmp_path / "version").write_text(version)
    assert drivers.remedy() == remedy


def test_the_remedy_mentions_the_gpus_that_the_user_chose(computer, monkeypatch):
    computer("/dev/nvidia0", libraries=("libcuda.so.1",), build={})
    monkeypatch.setenv(drivers.VISIBLE, "7")
    assert drivers.remedy().startswith(
        "CUDA_VISIBLE_DEVICES is 7: nvidia-smi -L lists what it may name; pip install 'tensorflow["
    )


def test_a_plug_in_may_lie_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "/opt/plugin.so")
    assert drivers.has_plugin()


def test_the_remedy_on_a_mac(computer):
    computer(system="darwin")
    assert drivers.remedy() == (
        "pip install 'neural-style-tf[metal]' installs Apple's plug-in, which is not tested here"
    )
    assert not drivers.may_work() and not drivers.is_advised()
    computer(system="darwin", plugin=True)
    assert drivers.remedy().startswith("Apple's plug-in does not fit this version of TensorFlow: ")
    assert drivers.may_work() and drivers.is_advised()


def test_the_remedy_on_windows(computer, monkeypatch):
    computer(system="win32")
    monkeypatch.setattr(drivers.shutil, "which", lambda name: f"C:\\{name}.exe")
    assert drivers.remedy() == (
        "TensorFlow uses GPUs on Windows only within WSL 2: install this program there"
    )
    assert not drivers.may_work()


@pytest.mark.parametrize(
    "visible", [None, "0", "1,2", "GPU-8932f937", "", " ", "-1", "-1,0", "NoDevFiles"]
)
def test_gpus_that_the_user_hides_are_not_missed(visible, computer, monkeypatch):
    computer("/dev/nvidia0", libraries=("libcuda.so.1",))
    if visible is not None:
        monkeypatch.setenv(drivers.VISIBLE, visible)
    is_hidden = visible in ("", " ", "-1", "-1,0", "NoDevFiles")
    assert drivers.may_work() is not is_hidden
    assert (drivers.remedy() is None) is is_hidden


def test_a_gpu_that_tensorflow_does_not_find_is_reported_once(computer, monkeypatch, caplog):
    computer("/dev/nvidia0", build={"is_cuda_build": False})
    monkeypatch.setattr(streams, "_said", set())
    for device in ("cpu", "auto", "auto"):
        assert tensorflow_setup.start(device=device).startswith("CPU (")
    (message,) = caplog.messages
    assert message == (
        "this computer seems to have a GPU, which TensorFlow does not find: this TensorFlow is "
        "built without CUDA: pip install 'tensorflow[and-cuda]' installs one with it; --device "
        "cpu paints on the CPU without this line"
    )


def test_a_mac_without_apples_plug_in_says_nothing_unless_its_devices_are_listed(
    computer, monkeypatch, caplog
):
    computer(system="darwin")
    monkeypatch.setattr(streams, "_said", set())
    assert tensorflow_setup.start().startswith("CPU (") and not caplog.messages
    tensorflow_setup.listed_devices()
    assert "installs Apple's plug-in" in caplog.text


def test_the_build_of_tensorflow_is_read_without_importing_it():
    import tensorflow as tf

    assert drivers.build() == dict(tf.sysconfig.get_build_info())


def test_libraries_are_tried(monkeypatch):
    assert not drivers.loads("libnothing.so.1")
    assert drivers._is_installed("pytest") and not drivers._is_installed("nothing.at_all")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert drivers.driver_version() is None or drivers.driver_version()[0].isdigit()
