"""Runs: the options of a picture -> checked -> painted -> files. What the command line does with
one picture, and a batch with each of many.

NumPy, Pillow and TensorFlow are imported late: every wrong input answers at once.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import math
import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from neural_style_tf.errors import UserError
from neural_style_tf.machine import hardware
from neural_style_tf.runs import inputs, provenance
from neural_style_tf.runs.options import knob_names
from neural_style_tf.runs.painting_run import PaintingRun
from neural_style_tf.runs.resumed import Resumed
from neural_style_tf.settings import Settings, settings_from

if TYPE_CHECKING:
    from neural_style_tf.painting.stylize import Step
    from neural_style_tf.runs.inputs import Pictures
    from neural_style_tf.runs.preview import Preview

STATES_A_RUN = 20  # that are saved, unless told otherwise
FILMED_STEPS = 60  # of a run, likewise


class Run(NamedTuple):
    """A picture to paint, checked as far as that costs nothing."""

    options: argparse.Namespace
    settings: Settings
    description: provenance.Description
    resumed: Resumed | None = None  # what it goes on with


def settings_of(options: argparse.Namespace) -> Settings:
    """Raises `UsageError` for a value that breaks its rule."""
    return settings_from({name: getattr(options, name) for name in knob_names()})


def check(options: argparse.Namespace, resumed: Resumed | None = None) -> Run:
    """The run of some options. Raises `UserError` for what could not be read or written, would
    cost a file, or does not go together."""
    settings = settings_of(options)
    if (options.timelapse or options.log_dir) and not settings.checkpoint_iterations:
        every = math.ceil(settings.iterations / FILMED_STEPS)
        settings = dataclasses.replace(settings, checkpoint_iterations=every)
    every = math.ceil(settings.iterations / STATES_A_RUN)
    options.state_iterations = options.state_iterations or every
    settings.check_styles(len(options.styles))
    inputs.check_masks(options)
    options.network = _find_network(options)
    _check_files(options, settings, resumed.outputs if resumed else ())
    description = provenance.describe(options, settings)
    if resumed:
        resumed.check(options, description)
    return Run(options, settings, description, resumed)


def paint(
    run: Run,
    pictures: "Pictures",
    device: str,
    preview: "Preview | None" = None,
    watch: "Callable[[Step], None] | None" = None,
) -> int:
    """Paints, and saves what comes out, as `PaintingRun` does. Returns the exit status."""
    return PaintingRun(run, pictures, device, preview, watch).paint()


def _check_files(options: argparse.Namespace, settings: Settings, own: Collection[str]) -> None:
    """Raises `UserError` for what could not be read or written, or would cost a file. own: those
    of the run that goes on."""
    from neural_style_tf.pictures import files
    from neural_style_tf.runs import outputs

    outputs.check(options, settings, files_read(options), own)
    if options.progress_plot and not importlib.util.find_spec("matplotlib"):
        raise UserError("--progress-plot needs matplotlib: pip install 'neural-style-tf[plot]'")
    if options.log_dir and not importlib.util.find_spec("tensorboard"):
        raise UserError("--log-dir needs tensorboard: pip install 'neural-style-tf[logs]'")
    files.open_to_read(options.network).close()


def files_read(options: argparse.Namespace) -> list[str]:
    """Every file that a run reads, recipes among them: none of them is ever written to, except for
    the saved run that goes on."""
    read = [options.content, *options.styles, *filter(None, [options.initial])]
    read += [*inputs.mask_files(options), options.network, *getattr(options, "recipes", [])]
    read += filter(None, [options.settings_from])
    if options.resume and os.path.realpath(options.resume) != os.path.realpath(options.save_state):
        read.append(options.resume)
    return read


def _find_network(options: argparse.Namespace) -> str:
    """The file of the network."""
    from neural_style_tf.network import weights

    with contextlib.nullcontext() if options.debug else hardware.silence():
        return str(weights.find(options.network))
