"""Devices: whether there is a GPU that TensorFlow can use, for processes that do not import it."""

import functools
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, WSL 2, ROCm
VISIBLE = "CUDA_VISIBLE_DEVICES"  # GPUs that a process may use: "" and -1 for none
ANSWER_SECONDS = 120.0  # to import TensorFlow, perhaps from a slow disk
# the current folder may contain untrusted modules that are named like TensorFlow's or Python's
QUESTION = """
import sys
sys.path = [*filter(None, sys.path)]
import tensorflow
print("GPUs:", len(tensorflow.config.list_physical_devices("GPU")))
"""


def seems_to_have_gpu() -> bool:
    """Whether there is the driver of a GPU, and the user has not hidden it. Costs nothing, and does
    not say that TensorFlow can use it."""
    if os.environ.get(VISIBLE, "0").strip() in ("", "-1"):
        return False
    return any(Path(driver).exists() for driver in DRIVERS) or _seems_to_have_metal()


def _seems_to_have_metal() -> bool:
    """Whether this is a Mac with Apple's plug-in for TensorFlow."""
    is_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return is_apple and importlib.util.find_spec("tensorflow-plugins") is not None


@functools.cache
def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU. Where there is a driver, a child process asks TensorFlow,
    which takes seconds; this process does not start it."""
    if not seems_to_have_gpu():
        return False
    command = [sys.executable, "-c", QUESTION]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return True  # careful: one process at a time, and none that is forked
    return "GPUs: 0" not in answer.stdout
