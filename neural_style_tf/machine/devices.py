"""Devices: the GPUs that TensorFlow can use, here or asked of it in a child process; and which of
them a run paints on."""

import functools
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from neural_style_tf.errors import SettingName, UserError
from neural_style_tf.machine import drivers

if TYPE_CHECKING:
    import tensorflow as tf

AUTO, CPU, GPU = "auto", "cpu", "gpu"  # values of `device`, besides gpu:0, gpu:1 ...
DEVICE = re.compile(r"auto|cpu|gpu(:[0-9]{1,4})?", re.ASCII)
WANTED = "auto, cpu, gpu, or gpu:N for one of several, as in gpu:1"

ANSWER_SECONDS = 120.0  # to import TensorFlow, perhaps from a slow disk
ANSWER = "GPUs: "
# the current folder may contain untrusted modules that are named like TensorFlow's or Python's
QUESTION = """
import sys
sys.path = [*filter(None, sys.path)]
import json
import tensorflow as tf
details = tf.config.experimental.get_device_details
gpus = [details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
names = "device_name", "compute_capability"
print("GPUs: " + json.dumps([[gpu.get(name) for name in names] for gpu in gpus]))
"""


class Gpu(NamedTuple):
    """A GPU that TensorFlow can use.

    number: N of `gpu:N`, its place among those that TensorFlow lists. capability: NVIDIA's compute
    capability; None for others.
    """

    number: int
    name: str
    capability: tuple[int, int] | None = None


@functools.cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that TensorFlow can use in a new process. A child process asks TensorFlow, which
    takes seconds; this process does not start it. Without a driver nobody is asked.

    If the child gives no answer, one GPU is assumed: one process at a time, and none that is
    forked, is right for a GPU and only slow without.
    """
    if not drivers.may_work():
        return ()
    command = [sys.executable, "-c", QUESTION]
    environment = {"TF_USE_LEGACY_KERAS": "1", **os.environ}  # faster to import
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=environment
        )
        lines = [line for line in answer.stdout.splitlines() if line.startswith(ANSWER)]
        return tuple(
            _gpu(number, name, capability)
            for number, (name, capability) in enumerate(json.loads(lines[-1][len(ANSWER) :]))
        )
    except (OSError, subprocess.TimeoutExpired, LookupError, ValueError):
        return (_gpu(0, None, None),)


def has_gpu(device: str = AUTO) -> bool:
    """Whether a new process would paint on a GPU, see `gpus`. device: that it is started with."""
    return device != CPU and bool(gpus())


def check_here(device: str) -> None:
    """Raises `UserError` if a new process would not find that device, see `gpus`."""
    if device not in (AUTO, CPU):
        check(device, len(gpus()))


def gpus_here() -> list[Gpu]:
    """The GPUs that TensorFlow lists in this process, where it has been imported."""
    import tensorflow as tf

    return [
        _details(number, gpu) for number, gpu in enumerate(tf.config.list_physical_devices("GPU"))
    ]


def gpu_in_use() -> Gpu | None:
    """The GPU that this process paints on; None for the CPU."""
    import tensorflow as tf

    visible = tf.config.get_visible_devices("GPU")
    return _details(_number(visible[0]), visible[0]) if visible else None


def use(device: str) -> Gpu | None:
    """Has TensorFlow, which has been imported, use that device alone: on the others it would take
    memory, too. Returns the GPU, or None for the CPU.

    device: "auto" is the first GPU that is visible to this process, or the CPU without one. Raises
    `UserError` for a GPU that TensorFlow does not list, and for another device than the one that
    TensorFlow uses already in this process: that can be chosen only once.
    """
    import tensorflow as tf

    listed = tf.config.list_physical_devices("GPU")
    visible = tf.config.get_visible_devices("GPU")
    if device == AUTO:
        wanted = visible[:1]
    elif device == CPU:
        wanted = []
    else:
        wanted = [_listed(device, listed)]
    try:
        if wanted != visible:
            tf.config.set_visible_devices(wanted, "GPU")
    except RuntimeError:  # it has been started
        if device != AUTO and wanted != visible[:1]:
            used = f"gpu:{_number(visible[0])}" if visible else CPU
            raise UserError(
                SettingName("device"),
                f" is {device}, but TensorFlow already uses {used} in this process: start another "
                "process",
            ) from None
    return gpu_in_use()


def _listed(device: str, listed: "list[tf.config.PhysicalDevice]") -> "tf.config.PhysicalDevice":
    """The device of TensorFlow that `gpu` or `gpu:N` stands for."""
    number = int(device.partition(":")[2] or 0)
    check(device, len(listed))
    return listed[number]


def check(device: str, count: int) -> None:
    """Raises `UserError` if a device is none of as many GPUs as TensorFlow can use here."""
    if device in (AUTO, CPU) or int(device.partition(":")[2] or 0) < count:
        return
    problem = f" is {device}, but TensorFlow finds "
    if count:
        found = ", ".join(f"gpu:{number}" for number in range(count))
        raise UserError(SettingName("device"), problem, f"only {found} here: use one of them")
    hidden = f"{drivers.VISIBLE} hides all GPUs" if drivers.are_hidden() else None
    advice = hidden or drivers.remedy() or "use auto or cpu"
    raise UserError(SettingName("device"), problem, f"no GPU here: {advice}")


def _number(gpu: "tf.config.PhysicalDevice") -> int:
    """The place of a GPU among those that TensorFlow lists."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU").index(gpu)


def _details(number: int, gpu: "tf.config.PhysicalDevice") -> Gpu:
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(gpu)
    return _gpu(number, details.get("device_name"), details.get("compute_capability"))


def _gpu(number: int, name: str | None, capability: "tuple[int, int] | list[int] | None") -> Gpu:
    return Gpu(number, name or "unknown", tuple(capability) if capability else None)  # type: ignore[arg-type]
