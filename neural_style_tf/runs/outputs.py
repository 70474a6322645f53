"""Outputs: the names of the files that a run writes, and whether it may write them."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from neural_style_tf.errors import SettingName, UsageError, UserError
from neural_style_tf.pictures import files, portable, writing
from neural_style_tf.runs.options import RunOptions, single_files_written
from neural_style_tf.runs.timelapse import Timelapse

# %d, %05d, %s, {} or {:05}: where a checkpoint's name has its step
PLACEHOLDER = re.compile(r"%(0?\d*)[sd]|\{(?::(0?\d*)d?)?\}")


def check(options: RunOptions, inputs: list[str], own: Collection[str]) -> None:
    """Raises `UserError` for a file that could not be written or would be lost. own: files that the
    run has written before and may replace."""
    checkpoints, own = checkpoint_paths(options), set(map(portable.place, own))
    read, written = set(map(portable.place, inputs)), set()
    for path in paths(options):
        place = portable.place(path)
        if place in read or any(is_same_file(path, name) for name in inputs):
            raise UsageError(f"the output {path} is also an input: choose another name")
        if place in written:
            raise UsageError(f"two outputs would both be written to {path}: name each differently")
        written.add(place)

    def may_replace(path: str) -> bool:
        return options.overwrite or portable.place(path) in own

    writing.check_output(options.output, may_replace(options.output))
    check_form(options)
    for path in checkpoints[:1]:
        writing.check_output(path, may_replace(path), make_folder=True)
    for path in checkpoints[1:]:
        files.check_free(path, may_replace(path))
    for path in _other_outputs(options):
        files.check_writable(path, may_replace(path))
    if options.timelapse:
        Timelapse.check(options.timelapse)


def check_form(options: RunOptions) -> None:
    """Raises `UsageError` for an option of the file that its format does not have."""
    writing.check_bits(options.output, options.bits)
    pictures = [options.output, *filter(None, [checkpoint_pattern(options)])]
    if options.jpeg_quality and not any(map(writing.is_jpeg, pictures)):
        raise UsageError(
            SettingName("jpeg_quality"),
            f" has no effect on {options.output}: end the name in .jpg, or leave the option out",
        )


def paths(options: RunOptions) -> list[str]:
    """Every file that a run writes."""
    return [options.output, *checkpoint_paths(options), *_other_outputs(options)]


def claimed(options: RunOptions) -> list[str]:
    """The files that two runs may not write at the same time: checkpoints by their first. Their
    folder may not be there yet."""
    pattern = checkpoint_pattern(options)
    checkpoint = [checkpoint_path(pattern, 0)] if pattern else []
    paths = [options.output, *_other_outputs(options), *checkpoint]
    return [path for path in paths if os.path.isdir(os.path.dirname(os.path.abspath(path)))]


def _other_outputs(options: RunOptions) -> list[str]:
    named = (getattr(options, name) for name in single_files_written())
    return [*filter(None, named), *filter(None, loss_paths(options))]


def make_folder(path: str) -> None:
    """Makes a folder and those above it. Raises `UserError`."""
    try:
        os.makedirs(path or os.curdir, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path} ({files.reason(error)}): choose another"
        ) from error


def is_same_file(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def checkpoint_paths(options: RunOptions) -> list[str]:
    """The files that the checkpoints of a run will go to. Raises `UsageError` for a pattern that
    has no placeholder for the step, or if one of the two options is missing."""
    settings = options.settings
    pattern, every = checkpoint_pattern(options), settings.checkpoint_iterations
    example = "--checkpoint-output step-%05d.jpg --checkpoint-iterations 50"
    if not pattern and (not every or options.timelapse or options.log_dir):
        return []
    if not pattern or not every:
        present, lacking = ("output", "iterations") if pattern else ("iterations", "output")
        raise UsageError(f"--checkpoint-{present} needs --checkpoint-{lacking}, as in {example}")
    if len(PLACEHOLDER.findall(pattern)) != 1:
        raise UsageError(
            f"--checkpoint-output {pattern} needs one placeholder for the step, as in {example}"
        )
    return [checkpoint_path(pattern, step) for step in range(0, settings.iterations, every)]


def checkpoint_pattern(options: RunOptions) -> str | None:
    """The pattern with the names of the pictures in place of {content} and {style}."""
    if options.checkpoint_output is None:
        return None
    content = "texture" if options.content is None else Path(options.content).stem
    styles = [Path(path).stem for path in options.styles]
    pattern = options.checkpoint_output.replace("{content}", content)
    return pattern.replace("{style}", "+".join(styles))


def checkpoint_path(pattern: str, iteration: int) -> str:
    """step-%05d.jpg -> step-00050.jpg; also %s, %d, {} and {:05}."""
    return PLACEHOLDER.sub(lambda match: format(iteration, match[1] or match[2] or ""), pattern)


def loss_paths(options: RunOptions) -> tuple[str | None, str | None]:
    """Where the losses go, beside the output: the table and the plot, or None for each."""
    stem = os.path.splitext(options.output)[0]
    return (
        f"{stem}-progress.csv" if options.progress_write else None,
        f"{stem}-progress.png" if options.progress_plot else None,
    )
