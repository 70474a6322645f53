"""Jobs: the options of one picture of a batch -> painted, and what became of it.

Worker processes and clusters call the same function. It may be called twice for the same picture:
what is done is kept.

TensorFlow is imported late, as in neural_style.py.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.batch import own_gpu, records
from neural_style_tf.errors import UserError, one_line
from neural_style_tf.machine import devices, recent, streams
from neural_style_tf.pictures import files
from neural_style_tf.runs import checks, failures, inputs, provenance
from neural_style_tf.runs.options import RunOptions, option_names
from neural_style_tf.runs.painting_run import PaintingRun
from neural_style_tf.runs.resume import Resumed

if TYPE_CHECKING:
    from neural_style_tf.painting.step import Step

# Bytes that a process keeps of what several pictures share.
ROOM_FOR_PICTURES = 256 << 20
ROOM_FOR_TARGETS = 256 << 20

BUSY_SECONDS = 0.5  # before a picture that another process paints is tried again
REPORT_EVERY_SECONDS = 0.5

Report = Callable[[int, int], None]  # steps done, and of how many


class Outcome(NamedTuple):
    """What became of a picture.

    status: "done", "kept" (it existed already, as the options say), "failed", or "busy" (another
    process paints it).
    """

    status: str
    message: str = ""  # one line: why it failed
    seconds: float = 0.0
    losses: Mapping[str, float] = {}  # by name, of the picture
    settings: Mapping[str, Any] = {}  # by name, as the user set them
    notes: tuple[str, ...] = ()  # what the user should hear of


def paint(options: RunOptions, device: str, report: Report) -> Outcome:
    """Paints the picture of some options, unless it exists already. device: what it is painted on,
    in words."""
    recent.pictures.max_size, recent.targets.max_size = ROOM_FOR_PICTURES, ROOM_FOR_TARGETS
    began = time.monotonic()
    notes: list[str] = []
    try:
        with streams.logged(notes.append), files.claim(options.output) as is_ours:
            if not is_ours:
                time.sleep(BUSY_SECONDS)
                return Outcome("busy")
            outcome = existing(options) or _paint(options, device, report)
    except Exception as error:  # the other pictures are painted all the same
        if options.debug and not isinstance(error, UserError):
            raise
        outcome = failed(failures.in_words(error))
    return outcome._replace(seconds=time.monotonic() - began, notes=tuple(notes))


def in_worker(threads: int | None, debug: bool, wanted: str = devices.AUTO) -> Callable:
    """Starts TensorFlow in a worker process, which gets a GPU of its own where there are several.
    Returns the function that does a job there. wanted: the device of the batch, such as auto."""
    from neural_style_tf.machine import tensorflow_setup

    notes: list[str] = []  # of all workers the same: they travel with the outcomes
    with streams.logged(notes.append):
        device = tensorflow_setup.start(debug, threads, own_gpu.choose(wanted, debug))

    def work(options: RunOptions, report: Callable) -> Outcome:
        outcome = paint(options, device, lambda done, total: report((done, total)))
        return outcome._replace(notes=(*notes, *outcome.notes))

    return work


def failed(message: str) -> Outcome:
    return Outcome("failed", one_line(message))


def existing(options: RunOptions) -> Outcome | None:
    """The outcome of a picture that exists already; None if it is to be painted, also if it was
    stopped midway. Raises `UserError` for a file that the options would not make: it would be lost.
    """
    if options.overwrite or not os.path.exists(options.output):
        return None
    from neural_style_tf.pictures import metadata, reading

    own = metadata.read(options.output)
    description = own or records.read(options.output)
    if not description:
        raise UserError(
            f"{options.output} exists, and does not say how it was made: use --overwrite to "
            "replace it, or another folder"
        )
    description = provenance.checked(description, options.output)
    run = checks.check(_replacing(options))
    settings = provenance.settings_in(run.description)
    is_as_asked = bool(own) != options.no_metadata and reading.bits(options.output) == options.bits
    if is_as_asked and provenance.is_same(description, run.description):
        if "losses" not in description:
            return None  # it was stopped midway
        _remove(options.save_state)
        return Outcome("kept", losses=description["losses"], settings=settings)
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
    painting = PaintingRun(run, pictures, device, watch=watch)
    try:
        status = painting.paint()
    except Exception:
        keep_record(options, run.description)  # of the picture as it stands
        raise
    if status:
        message = f"not all of {options.output} could be written (see above)"
        return failed(message)._replace(settings=settings)
    keep_record(options, run.description, losses)
    _remove(options.save_state)
    return Outcome("done", losses=losses, settings=settings)


def keep_record(
    options: RunOptions,
    description: provenance.Description,
    losses: Mapping[str, float] | None = None,
) -> None:
    """Remembers how a picture without metadata was made. losses: of one that is finished."""
    if options.no_metadata and os.path.exists(options.output):
        finished = {} if losses is None else {"losses": losses}
        records.keep(options.output, {**description, **finished})


def _resumed(options: RunOptions) -> checks.Run | None:
    """The run that was killed while it painted this picture, if it has left a sound state."""
    if not options.save_state or not os.path.exists(options.save_state):
        return None
    from neural_style_tf.painting import continuing

    with contextlib.suppress(UserError):
        resumed = Resumed.load(options.save_state, option_names())
        run = checks.check(resumed.inherited(options), resumed)
        continuing.starting_point(resumed.state, run.settings)
        return run
    return None


def _remove(state: str | None) -> None:
    if state:
        with contextlib.suppress(OSError):
            os.unlink(state)


def _replacing(options: RunOptions) -> RunOptions:
    return dataclasses.replace(options, overwrite=True, quiet=True)
