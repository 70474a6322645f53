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
import shlex
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

import hardware
import inputs
import provenance
import stages
from options import knob_names
from resumed import Resumed
from settings import Settings, UserError, settings_from
from stopping import Stop

if TYPE_CHECKING:
    import numpy as np

    from inputs import Pictures
    from preview import Preview
    from stages import Stage
    from stylize import Step

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
    """Paints, and saves what comes out. Returns the exit status.

    device: what it is painted on, in words. watch: told of every step.
    """
    from progress import Progress
    from results import Results

    options, settings, description, resumed = run
    import tiling
    import vgg
    from stylize import NotFiniteError, stylize

    network = vgg.load(options.network)
    vgg.check_layers(network, settings.layers())
    precision = hardware.precision(settings.precision)
    plan, state = pictures.plan, None
    if resumed:
        state, plan = stages.fitted(resumed.state, settings)
    first = int(state["iterations"]) if state else 0
    if not resumed or settings.tile != resumed.description["tile"]:
        sizes = [style.shape[:2] for style in pictures.styles]
        plan = tiling.in_tiles(plan, network, sizes, settings, precision)
    settings = dataclasses.replace(
        settings,
        precision=precision.name,
        scales=str(len(plan)),
        tile=str(plan[-1].tile or "off"),
    )
    description |= dataclasses.asdict(settings)
    description |= {"versions": provenance.versions(), "device": device}
    keep_losses = options.progress_write or options.progress_plot
    with (
        Progress(settings, plan, options.quiet, keep_losses) as progress,
        Stop(progress.note) as stop,
    ):
        told = ", then ".join(map(_in_words, plan))
        progress.note(f"{told} on {device} in {precision.name} with {network.title}")
        if resumed:
            done = int(resumed.state["iterations"])
            if first < done:
                progress.note(
                    f"as {settings.iterations} steps at once have it, goes on after step {first} "
                    f"of {done}"
                )
            progress.go_on(first, resumed.state["rows"])
        on_checkpoint = preview and preview.add_checkpoint
        results = Results(options, settings, pictures, description, progress, first, on_checkpoint)
        watchers = [progress.show, results.see, *([watch] if watch else [])]
        if options.log_dir:
            from logs import Logs

            logs = Logs(options.log_dir, description)
            watchers.append(lambda step: results.or_tell(logs.see, step))
        if preview:
            preview.begin(pictures.content, plan, stop.request, results.in_its_colors)
            watchers.append(preview.see)
        latest = None

        def on_step(step: "Step") -> None:
            nonlocal latest
            latest = step
            for watch in watchers:
                watch(step)
            if preview and step.iteration is not None and preview.save_is_asked_for():
                told = f"saved as {options.output} after step {step.iteration + 1}"
                results.save_meanwhile(step.image(), lambda: preview.tell(told))
            stop.check()

        def save(image: "np.ndarray", is_whole: bool = False) -> None:
            results.save(image, latest.losses() if is_whole else None)
            if preview:
                preview.show(results.in_its_colors(image))
                preview.tell(progress.last_words, "done")

        images = stylize(
            network,
            pictures.content,
            pictures.styles,
            initial=pictures.initial,
            **pictures.masks,
            on_step=on_step,
            plan=plan,
            resume=state,
            keep_stages=bool(options.save_state) and not stages.hangs_on_all(settings),
            **dataclasses.asdict(settings),
        )
        pictures.let_go()
        if resumed:
            resumed.state.clear()
            state = None
        try:
            for iteration, image in images:
                if iteration is None:
                    save(image, is_whole=True)
                else:
                    results.save_checkpoint(iteration, image)
                    if options.log_dir:
                        image = results.in_its_colors(image)
                        results.or_tell(logs.add_picture, iteration, image)
        except KeyboardInterrupt:
            if latest is None:
                raise
            save(latest.image())
            results.save_state(latest)
            if options.save_state:
                command = ["python", sys.argv[0], "--resume", options.save_state]
                progress.note(f"to go on: {shlex.join(command)}")
            return stop.exit_status
        except NotFiniteError as error:
            if error.image is not None:
                save(error.image)
            raise
        return results.exit_status


def _in_words(stage: "Stage") -> str:
    """512x384 in tiles of 256 pixels"""
    is_cut = stage.tile and stage.tile**2 < stage.width * stage.height  # or only a painting is
    tiles = f" in tiles of {stage.tile} pixels" if is_cut else ""
    return f"{stage.width}x{stage.height}{tiles}"


def _check_files(options: argparse.Namespace, settings: Settings, own: Collection[str]) -> None:
    """Raises `UserError` for what could not be read or written, or would cost a file. own: those
    of the run that goes on."""
    import files
    import results

    results.check(options, settings, files_read(options), own)
    if options.progress_plot and not importlib.util.find_spec("matplotlib"):
        raise UserError("--progress-plot needs matplotlib: pip install -r requirements-plot.txt")
    if options.log_dir and not importlib.util.find_spec("tensorboard"):
        raise UserError("--log-dir needs tensorboard: pip install -r requirements-logs.txt")
    files.open_to_read(options.network).close()


def files_read(options: argparse.Namespace) -> list[str]:
    """Every file that a run reads, recipes among them: none of them is ever written to, but for the
    saved run that goes on."""
    read = [options.content, *options.styles, *filter(None, [options.initial])]
    read += [*inputs.mask_files(options), options.network, *getattr(options, "recipes", [])]
    read += filter(None, [options.settings_from])
    if options.resume and os.path.realpath(options.resume) != os.path.realpath(options.save_state):
        read.append(options.resume)
    return read


def _find_network(options: argparse.Namespace) -> str:
    """The file of the network."""
    import weights

    with contextlib.nullcontext() if options.debug else hardware.silence():
        return str(weights.find(options.network))
