"""Checks: the options of a picture -> a run that can begin, or an error that says why not.

NumPy, Pillow and TensorFlow are imported late: every wrong input is reported at once.
"""

import contextlib
import dataclasses
import importlib.util
import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

from neural_style_tf.errors import SettingName, UserError
from neural_style_tf.machine import devices, tensorflow_setup
from neural_style_tf.runs import inputs, provenance
from neural_style_tf.runs.options import NO_FILE, RunOptions, option_names
from neural_style_tf.runs.resume import Resumed
from neural_style_tf.settings import Settings

STATES_PER_RUN = 20  # that are saved, by default
FILMED_STEPS = 60  # per run, by default


class Run(NamedTuple):
    """A picture to paint, checked as far as that costs nothing."""

    options: RunOptions
    description: provenance.Description
    resumed: Resumed | None = None  # the run that it continues

    @property
    def settings(self) -> Settings:
        return self.options.settings


def check(options: RunOptions, resumed: Resumed | None = None) -> Run:
    """The run of these options. resumed: the saved run that it continues. Raises `UserError` for
    what could not be read or written, would cost a file, or cannot be combined."""
    iterations = options.settings.iterations
    if (options.timelapse or options.log_dir) and not options.settings.checkpoint_iterations:
        every = math.ceil(iterations / FILMED_STEPS)
        options = options.with_settings(checkpoint_iterations=every)
    options.settings.check_styles(len(options.styles))
    inputs.check_masks(options)
    options = dataclasses.replace(
        options,
        state_iterations=options.state_iterations or math.ceil(iterations / STATES_PER_RUN),
        network=_find_network(options),
    )
    _check_files(options, resumed.outputs if resumed else ())
    description = provenance.describe(options)
    if resumed:
        resumed.check(options, description)
    return Run(options, description, resumed)


def check_device(options: RunOptions) -> None:
    """Starts TensorFlow where a GPU is asked for. Raises `UserError` if there is none, or if this
    process uses another device already: before the pictures are read."""
    chooses = options.device != devices.AUTO
    if chooses and (options.device != devices.CPU or tensorflow_setup.is_ready()):
        tensorflow_setup.prepare(options.debug, options.threads, options.device)


@contextlib.contextmanager
def claiming(options: RunOptions) -> Iterator[None]:
    """Keeps other runs from writing the same files meanwhile. Raises `UserError` if one does."""
    from neural_style_tf.pictures import files
    from neural_style_tf.runs import outputs

    with contextlib.ExitStack() as claims:
        for path in outputs.claimed(options):
            if not claims.enter_context(files.claim(path)):
                raise UserError(
                    f"another run is writing {path}: wait until it has ended, or choose another "
                    "name"
                )
        yield


def _check_files(options: RunOptions, own: Collection[str]) -> None:
    """Raises `UserError` for what could not be read or written, or would cost a file. own: the
    files that a resumed run wrote, and may write again."""
    from neural_style_tf.pictures import files
    from neural_style_tf.runs import outputs

    outputs.check(options, files_read(options), own)
    if options.progress_plot and not importlib.util.find_spec("matplotlib"):
        advice = " needs matplotlib: pip install 'neural-style-tf[plot]'"
        raise UserError(SettingName("progress_plot"), advice)
    if options.log_dir and not importlib.util.find_spec("tensorboard"):
        advice = " needs tensorboard: pip install 'neural-style-tf[logs]'"
        raise UserError(SettingName("log_dir"), advice)
    files.open_to_read(options.network).close()


def files_read(options: RunOptions) -> list[str]:
    """Every file that a run reads, recipes among them: none of them is ever written to, except for
    the saved run that it continues."""
    read = [*options.recipes]
    for name in option_names(lambda rule: rule["role"] == "input" and rule.get("is_path")):
        value = getattr(options, name)
        paths = value if isinstance(value, tuple) else [value]
        read += [path for path in paths if path not in NO_FILE]
    is_own = options.save_state and _is_same(options.resume, options.save_state)
    return [path for path in read if not (is_own and path == options.resume)]


def _find_network(options: RunOptions) -> str:
    """The file of the network."""
    from neural_style_tf.network import weights

    with contextlib.nullcontext() if options.debug else tensorflow_setup.silence():
        return str(weights.find(options.network))


def _is_same(path: str | None, other: str) -> bool:
    from neural_style_tf.pictures import portable

    return path is not None and portable.place(path) == portable.place(other)
