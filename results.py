"""Results: what a run makes -> files. What cannot be written is told, and costs no picture."""

import argparse
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import colors
import files
import images
import provenance
import states
from options import in_option_names
from settings import Settings, UsageError, UserError
from timelapse import Timelapse

if TYPE_CHECKING:
    import numpy as np

    from inputs import Pictures
    from progress import Progress
    from stylize import Step

# %d, %05d, %s, {} or {:05}: where a checkpoint's name has its step
PLACEHOLDER = re.compile(r"%(0?\d*)[sd]|\{(?::(0?\d*)d?)?\}")


class Results:
    """Saves the pictures of a run: checkpoints on a thread of its own, while the next steps run.
    One that cannot be saved is told, and the run goes on: `exit_status` says so at the end.

    description: what makes the picture, kept in its file. on_checkpoint: told of those that are
    there, their step and file.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        settings: Settings,
        pictures: "Pictures",
        description: provenance.Description,
        progress: "Progress",
        first_iteration: int = 0,
        on_checkpoint: Callable[[int, str], None] | None = None,
    ):
        self.exit_status = 0
        self._options, self._settings, self._pictures = options, settings, pictures
        self._description = description
        self._progress, self._on_checkpoint = progress, on_checkpoint
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future | None = None
        self._pattern = checkpoint_pattern(options)
        if self._pattern:
            Path(self._pattern).parent.mkdir(exist_ok=True)
        table, _ = loss_paths(options)
        if table and options.resume:
            progress.continue_table(table, first_iteration)
        self._timelapse = None
        if options.timelapse:
            self._timelapse = Timelapse(options.timelapse, *pictures.content.shape[:2])

    def see(self, step: "Step") -> None:
        """Saves the state when it is time."""
        every = self._options.state_iterations
        if self._options.save_state and (
            step.iteration is None or (step.iteration + 1) % every == 0
        ):
            self.save_state(step)

    def save_state(self, step: "Step") -> None:
        """Saves the run as it stands, if that is wanted."""
        if self._options.save_state:
            about = {"options": provenance.kept(self._options), "description": self._description}
            self._or_tell(states.save, self._options.save_state, step.state(), about)

    def save_checkpoint(self, iteration: int, image: "np.ndarray") -> None:
        """Begins to; waits for the one before, so that there is never more than one to hold."""
        self._finish_writing()
        self._writing = self._writer.submit(self._write_checkpoint, iteration, image)

    def save_meanwhile(self, image: "np.ndarray") -> None:
        """Begins to save the picture as it stands in the place of the result."""
        self._finish_writing()
        image = self._at_full_size(image)
        self._writing = self._writer.submit(self._or_tell, self._write, self._options.output, image)

    def save(self, image: "np.ndarray") -> None:
        """Saves the result, at full size whatever its stage; in the temporary folder if its own
        place is gone. Then what else is wanted."""
        path, image = self._options.output, self._at_full_size(image)
        self._finish_writing()
        if not self._or_tell(self._write, path, image):
            path = os.path.join(tempfile.mkdtemp(), os.path.basename(path))
            self._write(path, image)
            self._progress.tell_error(f"saved as {path} instead")
        self._progress.finish(path)
        table, plot = loss_paths(self._options)
        if table:
            self._or_tell(self._progress.save_table, table)
        if plot:
            self._or_tell(self._progress.save_plot, plot)
        if self._timelapse:
            self._timelapse.add(self.in_its_colors(image))
            self._or_tell(self._timelapse.save)

    def in_its_colors(self, image: "np.ndarray") -> "np.ndarray":
        """The picture as its file shows it."""
        if self._settings.preserve_colors != "luma":
            return image
        return colors.luma_only(image, images.resize(self._pictures.content, *image.shape[:2]))

    def _write_checkpoint(self, iteration: int, image: "np.ndarray") -> None:
        if self._timelapse:
            self._timelapse.add(self.in_its_colors(image))
        if self._pattern:
            if self._options.checkpoint_full_size:
                image = self._at_full_size(image)
            path = checkpoint_path(self._pattern, iteration)
            if self._or_tell(self._write, path, image) and self._on_checkpoint:
                self._on_checkpoint(iteration, path)

    def _finish_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _at_full_size(self, image: "np.ndarray") -> "np.ndarray":
        content, mask = self._pictures.content, self._pictures.masks["content_mask"]
        if image.shape == content.shape:
            return image
        image = images.resize(image, *content.shape[:2])
        if mask is None:
            return image
        mask = mask[..., None]  # what stays of the photo was as small as the rest
        return mask * image + (1 - mask) * content

    def _write(self, path: str, image: "np.ndarray") -> None:
        alpha = self._pictures.alpha
        if alpha is not None:
            alpha = images.resize(alpha, *image.shape[:2])
        images.save(path, self.in_its_colors(image), alpha, self._description)

    def _or_tell(self, write: Callable, *arguments: Any) -> bool:
        """Whether it could be written. If not, that is told at once, and by the exit status."""
        try:
            write(*arguments)
        except UserError as error:
            self._progress.tell_error(f"error: {in_option_names(str(error))}")
            self.exit_status = error.exit_status
            return False
        return True


def check(options: argparse.Namespace, settings: Settings, inputs: list[str]) -> None:
    """Raises `UserError` for what could not be written, or would cost one of the inputs."""
    checkpoints = checkpoint_paths(options, settings)
    others = [*filter(None, [options.save_state, options.timelapse, options.save_settings])]
    others += filter(None, loss_paths(options))
    pictures = [options.output, *checkpoints]
    for path in [*pictures, *others]:
        if any(_is_same_file(path, name) for name in inputs):
            raise UsageError(f"output {path} is an input picture: give another name")
    if options.output in checkpoints:
        raise UsageError(f"output {options.output} is a checkpoint's name too: give another")
    images.check_output(options.output, options.overwrite)
    for path in checkpoints[:1]:
        images.check_output(path, options.overwrite, make_folder=True)
    for path in checkpoints[1:]:
        files.check_free(path, options.overwrite)
    for path in others:
        same_run = options.resume is not None and _is_same_file(path, options.resume)
        files.check_writable(path, options.overwrite or same_run)
    if options.timelapse:
        Timelapse.check(options.timelapse)


def _is_same_file(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def checkpoint_paths(options: argparse.Namespace, settings: Settings) -> list[str]:
    """The files that the checkpoints of a run will go to. Raises `UsageError` for a pattern that
    has no place for the step, or one that lacks its other option."""
    pattern, every = checkpoint_pattern(options), settings.checkpoint_iterations
    example = "--checkpoint-output step-%05d.jpg --checkpoint-iterations 50"
    if not pattern and (not every or options.timelapse or options.log_dir):
        return []
    if not pattern or not every:
        given, lacking = ("output", "iterations") if pattern else ("iterations", "output")
        raise UsageError(f"--checkpoint-{given} needs --checkpoint-{lacking}, as in {example}")
    if len(PLACEHOLDER.findall(pattern)) != 1:
        raise UsageError(
            f"--checkpoint-output {pattern} needs one place for the step, as in {example}"
        )
    return [checkpoint_path(pattern, step) for step in range(0, settings.iterations, every)]


def checkpoint_pattern(options: argparse.Namespace) -> str | None:
    """The pattern with the names of the pictures in place of {content} and {style}."""
    if options.checkpoint_output is None:
        return None
    content, *styles = (Path(path).stem for path in [options.content, *options.styles])
    pattern = options.checkpoint_output.replace("{content}", content)
    return pattern.replace("{style}", "+".join(styles))


def checkpoint_path(pattern: str, iteration: int) -> str:
    """step-%05d.jpg -> step-00050.jpg; also %s, %d, {} and {:05}."""
    return PLACEHOLDER.sub(lambda match: format(iteration, match[1] or match[2] or ""), pattern)


def loss_paths(options: argparse.Namespace) -> tuple[str | None, str | None]:
    """Where the losses go, beside the output: the table and the plot, or None for each."""
    stem = os.path.splitext(options.output)[0]
    return (
        f"{stem}-progress.csv" if options.progress_write else None,
        f"{stem}-progress.png" if options.progress_plot else None,
    )
