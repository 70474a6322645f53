"""Drivers: signs that a computer has a GPU, found without TensorFlow, and why TensorFlow does not
use it: the remedy in one line."""

import ctypes
import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from neural_style_tf.errors import shortened

VISIBLE = "CUDA_VISIBLE_DEVICES"  # GPUs that a process may use: "" and -1 for none
PLUGIN_PATH = "TF_PLUGGABLE_DEVICE_LIBRARY_PATH"  # where TensorFlow looks for more of them
PLUGINS = "tensorflow-plugins"  # folder of plug-ins for other devices, such as Apple's

# Signs of a GPU. Where TensorFlow uses one, nobody looks at them.
NVIDIA = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia", "/dev/nvhost-gpu")
NVIDIA_IN_WSL = "/usr/lib/wsl/lib/libcuda.so.1"  # of the driver of Windows
AMD = "/dev/kfd"
NVIDIA_VERSION = "/proc/driver/nvidia/version"
NVIDIA_ON_WINDOWS = "System32/nvcuda.dll"  # within Windows's own folder

# The libraries of drivers that TensorFlow loads on Linux, NVIDIA's and AMD's: without any of them
# it finds no GPU.
LIBRARIES = ("libcuda.so.1", "libamdhip64.so", "libamdhip64.so.6")
# https://www.tensorflow.org/install/pip, "Hardware requirements", for CUDA 12
OLDEST_DRIVER, OLDEST_DRIVER_IN_WSL = "525.60.13", "528.33"
WITH_CUDA = "pip install 'tensorflow[and-cuda]'"


def may_work() -> bool:
    """Whether TensorFlow could find a GPU: there is a driver that it can load, or a plug-in, and
    the user has not hidden the GPUs. Takes milliseconds, and does not import TensorFlow."""
    if has_plugin():
        return True
    return sys.platform == "linux" and not are_hidden() and any(map(loads, LIBRARIES))


def are_hidden() -> bool:
    """Whether the user or a scheduler has hidden all of NVIDIA's GPUs from all programs. CUDA reads
    the list up to the first that is none."""
    first = os.environ.get(VISIBLE, "0").partition(",")[0].strip()
    return first in ("", "NoDevFiles") or first.startswith("-")


def has_plugin() -> bool:
    """Whether there is a plug-in of TensorFlow for other devices."""
    return bool(os.environ.get(PLUGIN_PATH)) or importlib.util.find_spec(PLUGINS) is not None


def loads(library: str) -> bool:
    """Whether a shared library is there, with all that it needs."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def is_there(path: str) -> bool:
    return os.path.exists(path)


def remedy() -> str | None:
    """What to do so that TensorFlow uses a GPU that it does not find, though this computer seems to
    have one: what is wrong, and the remedy. None without a GPU, and where the user has hidden it.
    """
    if sys.platform == "darwin":
        return _remedy_on_mac() if platform.machine() == "arm64" else None
    if are_hidden():
        return None
    if sys.platform == "win32":
        return _remedy_on_windows() if _has_nvidia_on_windows() else None
    if any(map(is_there, (*NVIDIA, NVIDIA_IN_WSL))) or shutil.which("nvidia-smi"):
        return _remedy_for_nvidia()
    if is_there(AMD) and not build().get("is_rocm_build"):
        return "TensorFlow uses GPUs of AMD only in AMD's own package, tensorflow-rocm"
    return None


def is_advised() -> bool:
    """Whether a GPU that TensorFlow does not find is worth a word in every run: without Apple's
    plug-in a Mac paints on its CPU, which is what docs/devices.md recommends."""
    return sys.platform != "darwin" or has_plugin()


def _remedy_on_mac() -> str:
    if has_plugin():
        return (
            "Apple's plug-in does not fit this version of TensorFlow: "
            "pip install 'neural-style-tf[metal]' installs versions that fit"
        )
    return "pip install 'neural-style-tf[metal]' installs Apple's plug-in, which is not tested here"


def _has_nvidia_on_windows() -> bool:
    folder = os.environ.get("SYSTEMROOT", r"C:\Windows")
    return (
        is_there(os.path.join(folder, NVIDIA_ON_WINDOWS)) or shutil.which("nvidia-smi") is not None
    )


def _remedy_on_windows() -> str:
    return "TensorFlow uses GPUs on Windows only within WSL 2: install this program there"


def _remedy_for_nvidia() -> str:
    facts, version = build(), driver_version()
    in_wsl = is_there(NVIDIA_IN_WSL)
    oldest = OLDEST_DRIVER_IN_WSL if in_wsl else OLDEST_DRIVER
    if not facts.get("is_cuda_build", True):
        return f"this TensorFlow is built without CUDA: {WITH_CUDA} installs one with it"
    if not loads(LIBRARIES[0]):
        return (
            "NVIDIA's driver cannot be loaded (libcuda.so.1): install it, or start the container "
            "with --gpus all"
        )
    if version and _numbers(version) < _numbers(oldest):
        return f"NVIDIA's driver {version} is too old: install {oldest} or later"
    missing = _missing_library(facts)
    if missing:
        return f"{missing} is missing: {WITH_CUDA} installs it"
    visible = os.environ.get(VISIBLE)
    named = f"{VISIBLE} is {shortened(visible)}: nvidia-smi -L lists what it may name; "
    return (named if visible else "") + (
        f"{WITH_CUDA} installs the libraries that it needs, and NVIDIA's driver has to be {oldest} "
        "or later; --debug shows what TensorFlow says"
    )


def build() -> dict[str, Any]:
    """What TensorFlow's package says of itself, such as `is_cuda_build` and `cuda_version`: read
    without importing TensorFlow. Empty if it says nothing."""
    package = importlib.util.find_spec("tensorflow")
    folders = (package and package.submodule_search_locations) or []
    for folder in folders:
        path = os.path.join(folder, "python", "platform", "build_info.py")
        spec = importlib.util.spec_from_file_location("build_info", path)
        if os.path.exists(path) and spec and spec.loader:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return dict(getattr(module, "build_info", {}))
    return {}


def driver_version() -> str | None:
    """The version of NVIDIA's driver, such as 550.54.14; None where Linux does not say it."""
    try:
        text = Path(NVIDIA_VERSION).read_text(errors="replace")
    except OSError:
        return None
    match = re.search(r"NVRM version:.*?\s(\d+(\.\d+)+)\s", text)
    return match[1] if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _missing_library(facts: dict[str, Any]) -> str | None:
    """The first of CUDA's libraries that is neither on this system nor in a package beside
    TensorFlow."""
    needed = (
        ("libcudart.so", facts.get("cuda_version"), "cuda_runtime"),
        ("libcublas.so", facts.get("cuda_version"), "cublas"),
        ("libcudnn.so", facts.get("cudnn_version"), "cudnn"),
    )
    for library, version, package in needed:
        if not version:
            continue
        name = f"{library}.{str(version).partition('.')[0]}"
        if not loads(name) and not _is_installed(f"nvidia.{package}"):
            return name
    return None


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package that would contain it
        return False
