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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import hardware
import inputs
import provenance
from options import knob_names
from painting import Painting
from settings import Settings, UsageError, UserError, settings_from

if TYPE_CHECKING:
    import numpy as np

    from inputs import Pictures
    from preview import Preview
    from stylize import Step

STATES_A_RUN = 20  # that are saved, unless told otherwise
FILMED_STEPS = 60  # of a run, likewise


class Run(NamedTuple):
    """A picture to paint, checked as far as that costs nothing."""

    options: argparse.Namespace
    settings: Settings
    description: provenance.Description
    resumed: "Resumed | None" = None  # what it goes on with


def settings_of(options: argparse.Namespace) -> Settings:
    """Raises `UsageError` for a value that breaks its rule."""
    return settings_from({name: getattr(options, name) for name in knob_names()})


def check(options: argparse.Namespace, resumed: "Resumed | None" = None) -> Run:
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
    _check_files(options, settings, resumed.files() if resumed else [])
    description = provenance.describe(options, settings)
    if resumed:
        resumed.check(options, description)
    return Run(options, settings, description, resumed)


class Resumed(NamedTuple):
    """A run to go on with."""

    state: "dict[str, np.ndarray]"
    options: dict[str, Any]
    description: provenance.Description

    @classmethod
    def load(cls, path: str) -> "Resumed":
        """That in a file. Raises `UserError` for one that holds no state."""
        import states

        path = os.path.abspath(path)
        state, about = states.load(path)
        description = about["description"]
        told = {"save_state": path, "asked": description["asked"]}
        return cls(state, about["options"] | told, description)

    def inherited(self, options: argparse.Namespace) -> argparse.Namespace:
        """The options of the same picture: what was resolved for the machine, and is asked for as
        it was, is not resolved again."""
        asked = self.description["asked"]
        same = {
            name: self.description[name] for name in asked if asked[name] == getattr(options, name)
        }
        return argparse.Namespace(**vars(options) | {"asked": asked} | same)

    def files(self) -> list[str]:
        """Those that it has written, or was to write."""
        import results

        options = argparse.Namespace(**self.options)
        return results.outputs(options, Settings(**provenance.settings_in(self.description)))

    def check(self, options: argparse.Namespace, description: provenance.Description) -> None:
        """Raises `UsageError` for anything that makes another picture, unless that is allowed."""
        changes = provenance.changes(self.description, description)
        if description["scales"] != self.description["scales"]:
            raise UsageError("a run keeps its stages: leave --scales as it was")
        if changes and not options.allow_changes:
            raise UsageError(
                f"the run in {options.resume} had other settings: {', '.join(changes)}: "
                "leave them, or give --allow-changes"
            )


def paint(
    run: Run,
    pictures: "Pictures",
    device: str,
    preview: "Preview | None" = None,
    watch: "Callable[[Step], None] | None" = None,
) -> int:
    """Paints, and saves what comes out, as `painting.Painting` does. Returns the exit status."""
    return Painting(run, pictures, device, preview, watch).paint()


def _check_files(options: argparse.Namespace, settings: Settings, own: list[str]) -> None:
    """Raises `UserError` for what could not be read or written, or would cost a file. own: those
    of the run that goes on."""
    import files
    import results

    given = [options.content, *options.styles, *filter(None, [options.initial])]
    results.check(options, settings, given + inputs.mask_files(options), own)
    if options.progress_plot and not importlib.util.find_spec("matplotlib"):
        raise UserError("--progress-plot needs matplotlib: pip install -r requirements-plot.txt")
    if options.log_dir and not importlib.util.find_spec("tensorboard"):
        raise UserError("--log-dir needs tensorboard: pip install -r requirements-logs.txt")
    files.open_to_read(options.network).close()


def _find_network(options: argparse.Namespace) -> str:
    """The file of the network."""
    import weights

    with contextlib.nullcontext() if options.debug else hardware.silence():
        return str(weights.find(options.network))
