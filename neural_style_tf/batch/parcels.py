"""Parcels: jobs as they travel to the workers of a cluster, and results as they come back, checked.

Pictures travel as bytes, or by a folder that all machines share.
"""

import dataclasses
import io
import json
import math
import os
import tempfile
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from neural_style_tf.batch import jobs, own_gpu
from neural_style_tf.batch.jobs import Outcome
from neural_style_tf.errors import UserError, message_of
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.pictures import files, formats
from neural_style_tf.runs import checks, provenance
from neural_style_tf.runs.options import RunOptions, pictures, recorded_paths
from neural_style_tf.settings import BUNDLED_NETWORK

STATUSES = "done", "kept", "failed", "busy"  # of an outcome
# The largest file of a picture: 16 bits for each of four channels, and its metadata.
BYTES_PER_PIXEL, BYTES_BESIDE_PIXELS = 8, 16 << 20


# What became of a picture, and its file, unless all machines see that.
Painted = tuple[Outcome, bytes | None]


class Parcel(NamedTuple):
    """A job as it travels.

    network: None stands for the bundled one, wherever that is on the worker. Any other has to be on
    the worker's machine. files: the pictures, by the names that the options have; None if all
    machines see the same files.
    """

    options: RunOptions
    network: str | None
    files: Mapping[str, bytes] | None


def pack(options: RunOptions, is_shared: bool) -> Parcel:
    """Raises `UserError` for an input that cannot be read."""
    network = None if Path(options.network) == BUNDLED_NETWORK else options.network
    if is_shared:
        paths = set(recorded_paths()) - {"network"}
        absolute = {
            name: provenance.each(os.path.abspath, getattr(options, name)) for name in paths
        }
        if network and os.path.exists(network):
            network = os.path.abspath(network)
        return Parcel(dataclasses.replace(options, **absolute), network, None)
    contents = {}

    def read(path: str) -> None:
        with files.open_to_read(path) as file:
            contents[path] = file.read()

    for name in pictures():
        provenance.each(read, getattr(options, name))
    return Parcel(dataclasses.replace(options, save_state=None), network, contents)


def paint(parcel: Parcel, topic: str, number: int) -> Painted:
    """Paints a parcel; called in a worker. number: of the attempt, reported with its progress."""
    from distributed import get_worker

    worker = get_worker()

    def report(done: int, total: int) -> None:
        worker.log_event(topic, (number, worker.address, (done, total)))

    with _painting:  # one at a time, however many threads the worker has
        worker.log_event(topic, (number, worker.address, None))  # it begins
        try:
            device = _device(parcel.options)
        except UserError as error:
            return jobs.failed(message_of(error)), None
        network = parcel.network or str(BUNDLED_NETWORK)
        options = dataclasses.replace(parcel.options, network=network)
        if parcel.files is None:
            return jobs.paint(options, device, report), None
        return _paint_files(options, parcel.files, device, report)


_painting = threading.Lock()
_devices: list[str] = []


def _device(options: RunOptions) -> str:
    """TensorFlow is started once in a worker, on a GPU of its own where there are several."""
    if not _devices:
        wanted = own_gpu.choose(options.device, options.debug)
        _devices.append(tensorflow_setup.start(options.debug, options.threads, wanted))
    return _devices[0]


def _paint_files(
    options: RunOptions, contents: Mapping[str, bytes], device: str, report: jobs.Report
) -> Painted:
    """Paints in a temporary folder with the files that have travelled along."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            path: _write_copy(path, data, os.path.join(folder, str(place)))
            for place, (path, data) in enumerate(contents.items())
        }
        copies = {
            name: provenance.each(paths.__getitem__, getattr(options, name)) for name in pictures()
        }
        output = os.path.join(folder, os.path.basename(options.output))
        outcome = jobs.paint(dataclasses.replace(options, output=output, **copies), device, report)
        names = {output: options.output, **{copy: path for path, copy in paths.items()}}

        def named(text: str) -> str:
            for copy, path in names.items():
                text = text.replace(copy, path)
            return text

        notes = tuple(map(named, outcome.notes))
        outcome = outcome._replace(message=named(outcome.message), notes=notes)
        return outcome, Path(output).read_bytes() if outcome.status == "done" else None


def _write_copy(path: str, data: bytes, folder: str) -> str:
    """Writes a file of the same name in a folder of its own."""
    os.mkdir(folder)
    copy = os.path.join(folder, os.path.basename(path))
    Path(copy).write_bytes(data)
    return copy


def unpack(result: Any, options: RunOptions, is_shared: bool) -> Outcome:
    """What became of a picture, whose file is written unless it exists by now. The result comes
    from another machine: it is checked before anything is written."""
    if not _is_sound(result, is_shared):
        return jobs.failed(
            f"{options.output}: the worker sent back no result of this program: install the same "
            "version on all machines"
        )
    outcome, data = result
    if data is None:
        return outcome
    try:
        _check_picture(data, options.output)
        with files.claim(options.output) as is_ours:  # another batch may have been faster
            if not is_ours:
                return Outcome("busy")
            existing = jobs.existing(options)
            if not existing:
                files.write(options.output, data)
                run = checks.check(dataclasses.replace(options, overwrite=True))
                jobs.keep_record(options, run.description, outcome.losses)
            return existing or outcome
    except UserError as error:
        return jobs.failed(message_of(error))._replace(settings=outcome.settings)


def _is_sound(result: Any, is_shared: bool) -> bool:
    """Whether what came from a worker has the types of `Painted`, throughout."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Outcome)):
        return False
    outcome, data = result
    sends_picture = outcome.status == "done" and not is_shared
    if not isinstance(data, bytes if sends_picture else type(None)):
        return False
    if not (isinstance(outcome.losses, Mapping) and isinstance(outcome.settings, Mapping)):
        return False
    try:
        json.dumps(dict(outcome.settings))
    except (TypeError, ValueError, RecursionError):
        return False
    return (
        outcome.status in STATUSES
        and isinstance(outcome.message, str)
        and isinstance(outcome.seconds, float | int)
        and math.isfinite(outcome.seconds)
        and isinstance(outcome.notes, tuple)
        and all(isinstance(text, str) for text in outcome.notes)
        and all(isinstance(name, str) for name in (*outcome.losses, *outcome.settings))
        and all(isinstance(loss, float | int) for loss in outcome.losses.values())
    )


def _check_picture(data: bytes, path: str) -> None:
    """Raises `UserError` unless the bytes are a picture's file of the format of `path`, and not
    far more than its pixels take."""
    wanted = formats.FORMATS[Path(path).suffix.lower()]
    pixels = math.inf
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large picture
            with Image.open(io.BytesIO(data), formats=[wanted]) as image:
                pixels = image.width * image.height
                image.verify()
    except Image.DecompressionBombError:
        pass  # the picture is larger still: its size is checked below
    except (OSError, ValueError, SyntaxError, EOFError, IndexError) as error:
        raise UserError(
            f"{path}: the worker sent back something other than a {wanted} file "
            f"({files.reason(error)}): try again, or look at that worker"
        ) from error
    if len(data) > BYTES_PER_PIXEL * pixels + BYTES_BESIDE_PIXELS:
        raise UserError(
            f"{path}: the worker sent back {len(data) / 1e6:.0f} MB for {pixels / 1e6:.1f} "
            "megapixels: look at that worker"
        )
