"""Batches: pairs -> pictures and their gallery, by processes on this machine or by a cluster."""

import contextlib
import math
import os
from collections.abc import Collection, Generator, Sequence
from pathlib import Path

from neural_style_tf.batch import gallery, jobs, own_gpu, processes, worker_count
from neural_style_tf.batch.jobs import Outcome
from neural_style_tf.batch.options import LOCAL, BatchOptions
from neural_style_tf.batch.pairs import Pair
from neural_style_tf.batch.scheduling import TRIES, Event
from neural_style_tf.batch.summary import Summary
from neural_style_tf.batch.worker_count import Kind
from neural_style_tf.errors import INTERRUPTED, UserError, message_of
from neural_style_tf.machine import devices, streams
from neural_style_tf.pictures import files
from neural_style_tf.runs.options import RunOptions

PRELOAD = "neural_style_tf.batch.preload"
DIED = "in the last one, the process that painted it died"
HUNG = "in the last one, no step was reported for {:g} seconds (--job-timeout)"


class Interrupted(KeyboardInterrupt):
    """A signal that ends the batch. `exit_status` is what the process should end with."""

    exit_status = INTERRUPTED


def run(pairs: Sequence[Pair], options: BatchOptions) -> int:
    """Paints the pairs and writes their gallery, also after `KeyboardInterrupt`. Returns the exit
    status: 0 done, 1 if any picture failed, that of the signal if it was interrupted.

    Raises `UserError` for a folder or a gallery that cannot be written, and for a GPU that this
    machine does not have.
    """
    common = pairs[0].options
    if not options.is_remote:
        devices.check_here(common.device)
    _make_folders({os.path.dirname(pair.output) for pair in pairs})
    with Summary(len(pairs), common.quiet) as summary, streams.logged(summary.note_once):
        try:
            _paint_all(pairs, options, summary)
        except KeyboardInterrupt as interruption:
            summary.status = getattr(interruption, "exit_status", INTERRUPTED)
            _add_unreported(pairs, summary)
        except UserError as error:  # nobody paints: what is done is reported all the same
            summary.fail(error)
        _write_gallery(pairs, summary, options.output_dir, common.max_megapixels)
    summary.finish(options.output_dir)
    return summary.status


def _make_folders(paths: Collection[str]) -> None:
    for path in paths:
        try:
            os.makedirs(path or ".", exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the folder {path} ({files.reason(error)}): choose another"
            ) from error


def _paint_all(pairs: Sequence[Pair], options: BatchOptions, summary: Summary) -> None:
    with contextlib.closing(_outcomes(pairs, options, summary)) as outcomes:
        for number, outcome in outcomes:
            summary.add(pairs[number].output, outcome)
            if outcome.status == "failed" and options.fail_fast:
                return


def _outcomes(
    pairs: Sequence[Pair], options: BatchOptions, summary: Summary
) -> Generator[tuple[int, Outcome], None, None]:
    """The numbers of pairs, and what became of each, as soon as it is known."""
    missing = []
    for number, pair in enumerate(pairs):
        outcome = _existing(pair)
        if outcome:
            yield number, outcome
        else:
            missing.append(number)
    if not missing:
        return
    kinds = worker_count.kinds_of([pairs[number].options for number in missing])
    # the largest first: at the end nobody waits long for the last; within a size they stay in order
    order = sorted(range(len(missing)), key=lambda place: kinds[place].pixels, reverse=True)
    missing = [missing[place] for place in order]
    pictures = [pairs[number].options for number in missing]
    events = _events(pictures, options, summary, [kinds[place] for place in order])
    with contextlib.closing(events):
        for event in events:
            number = missing[event.job]
            outcome = _outcome(event, options)
            if outcome:
                yield number, outcome
            else:
                summary.show(event.worker, pairs[number].output, event.value)


def _outcome(event: Event, options: BatchOptions) -> Outcome | None:
    """What became of a picture; None if it is not known yet."""
    if event.kind == "done":
        return event.value
    if event.kind == "died":
        return jobs.failed(f"gave up after {TRIES} attempts: {DIED}")
    if event.kind == "hung":
        hung = HUNG.format(options.job_timeout)
        return jobs.failed(f"gave up after {TRIES} attempts: {hung}")
    return None


def _existing(pair: Pair) -> Outcome | None:
    """What exists of a pair; None if it is to be painted."""
    try:
        return jobs.existing(pair.options)
    except UserError as error:
        return jobs.failed(message_of(error))


def _events(
    pictures: list[RunOptions], options: BatchOptions, summary: Summary, kinds: Sequence[Kind]
) -> Generator[Event, None, None]:
    """Has pictures painted, by processes here or by a cluster."""
    timeout = options.job_timeout or math.inf
    threads, device = pictures[0].threads, pictures[0].device
    if not options.cluster:
        count = worker_count.choose(
            options.workers, threads, kinds, processes.MAX_PROCESSES, device
        )
        gpus = min(count[0], own_gpu.count(device))
        on_gpus = f" on {gpus} GPUs" if gpus > 1 else ""
        pictures_in_words = f"{len(pictures)} picture{'s' * (len(pictures) != 1)}"
        summary.note(f"{pictures_in_words}, {count[0]} at a time{on_gpus}")
        return _processes(pictures, *count, kinds, timeout)
    from neural_style_tf.batch import dask_cluster

    is_local = options.cluster == LOCAL
    return dask_cluster.run(
        pictures,
        options.cluster,
        options.shared_folder or is_local,
        worker_count.choose(options.workers, threads, kinds, device=device) if is_local else None,
        summary.note,
        kinds,
        timeout=timeout,
        tls_files=options.cluster_tls,
    )


def _processes(
    pictures: list[RunOptions], count: int, threads: int, kinds: Sequence[Kind], timeout: float
) -> Generator[Event, None, None]:
    folders = {os.path.dirname(picture.output) for picture in pictures}
    debug, device = pictures[0].debug, pictures[0].device
    # a process to fork from imports silently, and the driver of a GPU may not survive a fork
    can_fork = not debug and not devices.has_gpu(device)

    def clear_up(process: int) -> None:
        for folder in folders:
            files.remove_unfinished(folder, process)
            files.remove_left_behind(folder)  # its claims are free now

    return processes.run(
        pictures,
        count,
        jobs.in_worker,
        (threads, debug, device),
        is_busy=lambda outcome: outcome.status == "busy",
        kinds=kinds,
        on_end=clear_up,
        preload=PRELOAD if can_fork else None,
        timeout=timeout,
    )


def _add_unreported(pairs: Sequence[Pair], summary: Summary) -> None:
    """Adds what was done before an interruption, but had not been reported yet."""
    for pair in pairs:
        outcome = None if pair.output in summary.outcomes else _existing(pair)
        if outcome and outcome.status == "kept":
            summary.add(pair.output, outcome)


def _write_gallery(
    pairs: Sequence[Pair], summary: Summary, folder: str, max_megapixels: float
) -> None:
    entries = [
        gallery.Entry(pair.content, pair.styles, pair.output, *outcome[:-1])
        for pair in pairs
        if (outcome := summary.outcomes.get(pair.output))
    ]
    if entries:
        summary.note("making the gallery")
        gallery.write(Path(folder), entries, max_megapixels)
