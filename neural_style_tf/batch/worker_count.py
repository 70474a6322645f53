"""Worker count: the sizes of the pictures -> how many processes paint at the same time."""

import contextlib
import functools
import sys
from collections.abc import Sequence
from typing import NamedTuple

from neural_style_tf.batch import own_gpu
from neural_style_tf.batch.options import AUTO
from neural_style_tf.errors import UserError
from neural_style_tf.machine import cpu, devices, memory, tensorflow_setup
from neural_style_tf.runs.options import RunOptions

WORKER_GIGABYTES = 1.5  # of a process that paints a small picture
MEGAPIXEL_GIGABYTES = 2.3  # more for each megapixel, with neighbors


class Kind(NamedTuple):
    """What TensorFlow prepares itself for: the size of a picture, and the settings that its losses
    depend on. A photo that cannot be read has height and width 0; its job will fail."""

    height: int
    width: int
    losses: str

    @property
    def pixels(self) -> int:
        return self.height * self.width


def kinds_of(pictures: Sequence[RunOptions]) -> list[Kind]:
    """Pictures of one kind are painted one after the other by one process, so that what was made
    for the first is used again."""
    from neural_style_tf.pictures import reading, sizes

    size = functools.cache(reading.size)
    kinds = []
    for picture in pictures:
        settings, height, width = picture.settings, 0, 0
        with contextlib.suppress(UserError):
            height, width = sizes.target_size(*size(picture.content), settings)
        kinds.append(Kind(height, width, settings.of_losses()))
    return kinds


def choose(
    workers: str,
    threads: int | None,
    kinds: Sequence[Kind],
    most: int = sys.maxsize,
    device: str = devices.AUTO,
) -> tuple[int, int]:
    """The number of processes, and of threads per process.

    workers: how many processes the user wants, or "auto". threads: of all processes together, as
    many as there are processors by default, unless TensorFlow's environment variable sets those of
    a process. kinds: of what they paint. most: as many processes as the system allows. device: that
    they paint on.
    """
    per_process = None if threads else tensorflow_setup.threads_of_environment()
    threads = threads or cpu.threads()
    gpus = own_gpu.count(device) if workers == AUTO else 0
    if gpus:
        count = gpus
    elif workers == AUTO:
        count = min(threads, _fit_in_memory(max(kind.pixels for kind in kinds)))
    else:
        count = int(workers)
    count = min(count, len(kinds), most)
    return count, per_process or max(1, threads // count)


def _fit_in_memory(pixels: int) -> int:
    """The number of processes that fit in memory, each with a picture of that many pixels."""
    free = memory.free_system_memory()
    if free is None:
        return sys.maxsize
    return max(1, int(free / (WORKER_GIGABYTES * 1e9 + MEGAPIXEL_GIGABYTES * 1e3 * pixels)))
