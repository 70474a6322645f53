"""Own GPU: a worker process -> the GPU that it alone paints on, where a machine has several.

Workers of a batch, of several batches and of a Dask cluster all claim theirs in the same way, by
locks on files that belong to this user. A claim ends with its process.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from neural_style_tf.errors import UserError
from neural_style_tf.machine import devices, drivers, tensorflow_setup
from neural_style_tf.pictures import files

MOST_PER_GPU = 64  # workers, where there are more of them than GPUs

_claims = contextlib.ExitStack()  # of this process


def choose(device: str, debug: bool = False) -> str:
    """What this worker is started with, see `tensorflow_setup.start`: for "auto" and "gpu" the GPU
    with the fewest workers, as in "gpu:1", if there are several; otherwise `device`.

    Only GPUs that `CUDA_VISIBLE_DEVICES` leaves visible are chosen; on the others TensorFlow then
    takes no memory. Imports TensorFlow where there is the driver of a GPU.
    """
    if device not in (devices.AUTO, devices.GPU) or not drivers.may_work():
        return device
    tensorflow_setup.load(debug)
    with contextlib.nullcontext() if debug else tensorflow_setup.silence():
        gpus = devices.gpus_here()
    number = _claimed(_names(len(gpus))) if len(gpus) > 1 else None
    return device if number is None else f"{devices.GPU}:{number}"


def count(device: str) -> int:
    """How many GPUs workers that are started with that device share; 0 for the CPU."""
    if not devices.has_gpu(device):
        return 0
    return max(1, len(devices.gpus())) if device in (devices.AUTO, devices.GPU) else 1


def _names(count: int) -> list[str]:
    """A name for each GPU that TensorFlow lists: two processes that see them in another order, as
    `CUDA_VISIBLE_DEVICES` may say, have the same names for them."""
    visible = os.environ.get(drivers.VISIBLE, "").split(",")
    names = [name.strip().replace("/", "-") for name in visible if name.strip()]
    return names[:count] if len(names) >= count else [str(number) for number in range(count)]


def _claimed(names: list[str]) -> int | None:
    """The place of the GPU that is now claimed for this process; None if none can be."""
    with contextlib.suppress(OSError, UserError):
        folder = _private_folder()
        for worker in range(MOST_PER_GPU):
            for number, name in enumerate(names):
                claim = contextlib.ExitStack()
                if claim.enter_context(files.claim(folder / f"{name}-{worker}")):
                    _claims.push(claim)
                    return number
                claim.close()
    return None


def _private_folder() -> Path:
    """A folder on this machine that belongs to this user. Raises `OSError` if there is none."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir(), f"neural-style-gpus-{user}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if hasattr(os, "getuid") and os.lstat(folder).st_uid != user:
        raise PermissionError
    return folder
