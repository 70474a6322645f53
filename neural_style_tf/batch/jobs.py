"""Jobs: one picture of many -> painted, and what became of it.

The same function for every way to paint many: in a worker process here, or on a cluster. It may be
asked twice for the same picture: what is done is kept.

TensorFlow is imported late, as in neural_style.py.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.errors import UserError, one_line
from neural_style_tf.machine import recent
from neural_style_tf.pictures import files
from neural_style_tf.runs import checks, failures, inputs, provenance
from neural_style_tf.runs.options import RunOptions, option_names
from neural_style_tf.runs.painting_run import PaintingRun
from neural_style_tf.runs.resume import Resumed

if TYPE_CHECKING:
    from neural_style_tf.painting.step import Step

# Of what several pictures share, a process keeps so much.
ROOM_FOR_PICTURES = 256 << 20
ROOM_FOR_TARGETS = 256 << 20

BUSY_SECONDS = 0.5  # to wait before one asks again
REPORT_EVERY_SECONDS = 0.5

Report = Callable[[int, int], None]  # steps done, and of how many


class Outcome(NamedTuple):
    status: str  # "done", "kept" (was there, and is right), "failed", or "busy": another paints it
    message: str = ""  # one line: why it failed
    seconds: float = 0.0
    losses: Mapping[str, float] = {}  # by name, of the picture
    settings: Mapping[str, Any] = {}  # by name, as they were asked for


def paint(options: RunOptions, device: str, report: Report) -> Outcome:
    """Paints the picture of some options, unless it exists already. device: what it is painted on,
    in words."""
    recent.pictures.max_size, recent.targets.max_size = ROOM_FOR_PICTURES, ROOM_FOR_TARGETS
    began = time.monotonic()
    try:
        with files.claim(options.output) as is_ours:
            if not is_ours:
                time.sleep(BUSY_SECONDS)
                return Outcome("busy")
            outcome = existing(options) or _paint(options, device, report)
    except Exception as error:  # whatever it is, the other pictures can do without this one
        if options.debug and not isinstance(error, UserError):
            raise
        outcome = failed(failures.in_words(error))
    return outcome._replace(seconds=time.monotonic() - began)


def in_worker(threads: int | None, debug: bool) -> Callable:
    """What a worker process starts with: `paint` on its device."""
    from neural_style_tf.machine import tensorflow_setup

    device = tensorflow_setup.start(debug, threads)

    def work(options: RunOptions, report: Callable) -> Outcome:
        return paint(options, device, lambda done, total: report((done, total)))

    return work


def failed(message: str) -> Outcome:
    return Outcome("failed", one_line(message))


def existing(options: RunOptions) -> Outcome | None:
    """What to report of a picture that is there already; None if it is to be painted, as one
    is that was stopped midway. Raises `UserError` for a file that is not what the options make, and
    would be lost."""
    if options.overwrite or not os.path.exists(options.output):
        return None
    from neural_style_tf.pictures import metadata

    found = metadata.read(options.output)
    if not found:
        raise UserError(
            f"{options.output} exists, and does not say what made it: use --overwrite to replace "
            "it, or another folder"
        )
    found = provenance.checked(found, options.output)
    run = checks.check(_replacing(options))
    settings = provenance.settings_in(run.description)
    if provenance.is_same(found, run.description):
        if "losses" not in found:
            return None  # it was stopped midway
        _remove(options.save_state)
        return Outcome("kept", losses=found["losses"], settings=settings)
    raise UserError(
        f"{options.output} exists, but was made with other settings: use --overwrite to replace "
        "it, or another folder"
    )


def _paint(options: RunOptions, device: str, report: Report) -> Outcome:
    losses, reported = {}, 0.0

    def watch(step: "Step") -> None:
        nonlocal reported
        if step.iteration is None:
            losses.update(step.losses())
        elif time.monotonic() - reported > REPORT_EVERY_SECONDS:
            reported = time.monotonic()
            report(step.iteration + 1, step.total)

    options = _replacing(options)
    run = _resumed(options) or checks.check(options)
    pictures = inputs.load(run.options)
    settings = provenance.settings_in(run.description)
    if PaintingRun(run, pictures, device, watch=watch).paint():
        message = f"not all of {options.output} could be written, the lines above say what"
        return failed(message)._replace(settings=settings)
    _remove(options.save_state)
    return Outcome("done", losses=losses, settings=settings)


def _resumed(options: RunOptions) -> checks.Run | None:
    """The run that was killed while it painted this picture, if it has left a sound state."""
    if not options.save_state or not os.path.exists(options.save_state):
        return None
    from neural_style_tf.painting import stages

    with contextlib.suppress(UserError):
        resumed = Resumed.load(options.save_state, option_names())
        run = checks.check(resumed.inherited(options), resumed)
        stages.fitted(resumed.state, run.settings)
        return run
    return None


def _remove(state: str | None) -> None:
    if state:
        with contextlib.suppress(OSError):
            os.unlink(state)


def _replacing(options: RunOptions) -> RunOptions:
    return dataclasses.replace(options, overwrite=True, quiet=True)
