"""Results: what a run makes -> files. What cannot be written is told, and costs no picture."""

import argparse
import functools
import os
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_style_tf.errors import UsageError, UserError, message_of, one_line
from neural_style_tf.pictures import colors, files, images
from neural_style_tf.runs import provenance, states
from neural_style_tf.runs.timelapse import Timelapse
from neural_style_tf.settings import Settings

if TYPE_CHECKING:
    from neural_style_tf.painting.stylize import Step
    from neural_style_tf.runs.inputs import Pictures
    from neural_style_tf.runs.progress import Progress

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
        self._options, self._settings = options, settings
        self._size, self._alpha = pictures.content.shape[:2], pictures.alpha
        self._mask = pictures.masks["content_mask"]
        is_seen = settings.preserve_colors == "luma" or self._mask is not None
        self._photo = pictures.content if is_seen else None  # it may be large
        self._description = description
        self._progress = progress
        self._on_checkpoint = on_checkpoint and self.fenced("the preview", on_checkpoint)
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future | None = None
        self.fetched: np.ndarray | None = None  # the last picture that came from the device
        self._output = files.Output(options.output)
        self._state = files.Output(options.save_state) if options.save_state else None
        self._tables = [path and files.Output(path) for path in loss_paths(options)]
        self._pattern = checkpoint_pattern(options)
        self._folder = os.getcwd()  # of the checkpoints, if their pattern is relative
        if self._pattern:
            _make_folder(os.path.dirname(self._pattern))
        self._film = self._begin_film(first_iteration)
        self._done = first_iteration
        is_done = first_iteration == settings.iterations
        is_there = is_done and options.resume and _is_same_file(options.resume, options.save_state)
        self._saved_after = self._done if is_there else None  # steps that the state holds

    def _begin_film(self, first_iteration: int) -> Callable | None:
        """What adds a picture to the film, if there is to be one."""
        self._timelapse = None
        if not self._options.timelapse:
            return None
        path = Path(self._options.timelapse)
        if first_iteration:  # the film of the steps before stays
            path = path.with_stem(f"{path.stem}-from-{first_iteration}")
        self._timelapse = Timelapse(files.Output(path), *self._size)
        return self.fenced(
            "the film", lambda image: self._timelapse.add(self.in_its_colors(image)), is_asked=True
        )

    def see(self, step: "Step") -> None:
        """Saves the state when it is time."""
        is_last = step.iteration is None
        if not is_last:
            self._done = step.iteration + 1
        if is_last or self._done % self._options.state_iterations == 0:
            self.save_state(step)

    def save_state(self, step: "Step", elsewhere: bool = False) -> str | None:
        """Saves the run as it stands, if that is wanted, and it is sound. Returns where it is, or
        where the one before is.

        elsewhere: in the temporary folder or the like if its own place does not take it.
        """
        if self._state is None or self._saved_after == self._done:
            return self.state_path()
        saved = None

        def save() -> None:
            nonlocal saved
            state = step.state()
            if not np.isfinite(np.asarray(state["picture"])).all():
                return  # the state before is worth more
            state = state | {"rows": np.array(self._progress.rows)}
            about = {"options": provenance.record(self._options), "description": self._description}
            write = functools.partial(states.save, state=state, about=about)
            if self.or_tell("the state", write, self._state):
                saved = str(self._state)
                self._saved_after = self._done
            elif elsewhere:
                saved = files.save_elsewhere(self._state, write)

        self.or_tell("the state", save)
        return saved or self.state_path()

    def state_path(self) -> str | None:
        """Where the last state that this run saved is, if it saved one."""
        return None if self._saved_after is None else str(self._state)

    def save_checkpoint(self, iteration: int, image: np.ndarray) -> None:
        """Begins to; waits for the one before, so that there is never more than one to hold."""
        self.fetched = image
        self.finish_writing()
        self._writing = self._writer.submit(
            self.or_tell, "the checkpoint", self._write_checkpoint, iteration, image
        )

    def save_meanwhile(self, image: np.ndarray, saved: Callable[[], None]) -> None:
        """Begins to save the picture as it stands in the place of the result. saved: called when
        it is."""

        def save() -> None:
            self._write(self._output, self._at_full_size(image))
            saved()

        self.fetched = image
        self.finish_writing()
        self._writing = self._writer.submit(self.or_tell, "the picture", save)

    def save(self, image: np.ndarray, losses: Mapping[str, float] | None = None) -> str | None:
        """Saves the result, at full size whatever its stage; in the temporary folder or the like if
        its own place does not take it. Then what else is wanted. Returns where the picture is, or
        None if nothing takes it. losses: of a run that has come to its end."""
        self.fetched = image
        self.finish_writing()
        if losses:
            self._description = self._description | {"losses": dict(losses)}
        path = self._save_somewhere(image)
        if path is None:
            self.tell_error("the picture could not be saved anywhere")
        else:
            self._progress.finish(path)
        table, plot = self._tables
        if table:
            self.or_tell("the table", self._progress.save_table, table)
        if plot:
            self.or_tell("the plot", self._progress.save_plot, plot)
        if self._film:
            self._film(image)
            self.or_tell("the film", self._timelapse.save)
        return path

    def _save_somewhere(self, image: np.ndarray) -> str | None:
        try:
            image = self._at_full_size(image)
        except Exception as error:  # mostly there is no memory for it
            height, width = image.shape[:2]
            self.tell_error(
                f"the picture is saved with {width}x{height} pixels, for it could not be enlarged "
                f"({files.in_short(error)})"
            )
        if self.or_tell("the picture", self._write, self._output, image):
            return str(self._output)
        path = files.save_elsewhere(self._output, lambda path: self._write(path, image))
        if path:
            self._progress.tell_error(f"saved as {path} instead")
        return path

    def or_tell(self, what: str, write: Callable, *arguments: Any) -> bool:
        """Whether it could be written. If not, that is reported at once, and by the exit status.
        what: is written, as messages call it."""
        try:
            write(*arguments)
        except UserError as error:
            self.tell_error(message_of(error), error.exit_status)
            return False
        except Exception as error:  # whatever it is, the picture and all other files do without
            self.tell_error(f"{what} could not be written ({files.in_short(error)})")
            return False
        return True

    def tell_error(self, message: str, exit_status: int = UserError.exit_status) -> None:
        """Reports an error, also by the exit status."""
        self._progress.tell_error(f"error: {one_line(message)}")
        self.exit_status = exit_status

    def fenced(self, name: str, watch: Callable, is_asked: bool = False) -> Callable:
        """A watcher that the run does without: its first failure is reported, and after that it is
        not called again. is_asked: whether a file that was asked for is missing then, which the
        exit status says."""
        is_broken = False

        def watch_unless_broken(*arguments: Any) -> None:
            nonlocal is_broken
            if is_broken:
                return
            try:
                watch(*arguments)
            except Exception as error:  # whatever it is, it costs no picture
                is_broken = True
                if isinstance(error, UserError):
                    message = message_of(error)
                else:
                    message = f"{name} failed ({files.in_short(error)}): the run goes on without it"
                before = self.exit_status
                self.tell_error(message)
                if not is_asked:
                    self.exit_status = before

        return watch_unless_broken

    def finish_writing(self) -> None:
        """Waits for what is being written."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def in_its_colors(self, image: np.ndarray) -> np.ndarray:
        """The picture as its file shows it."""
        if self._settings.preserve_colors != "luma":
            return image
        return colors.luma_only(image, images.resize(self._photo, *image.shape[:2]))

    def _write_checkpoint(self, iteration: int, image: np.ndarray) -> None:
        if self._film:
            self._film(image)
        if self._pattern:
            if self._options.checkpoint_full_size:
                image = self._at_full_size(image)
            path = files.Output(checkpoint_path(self._pattern, iteration), self._folder)
            self._write(path, image)
            if self._on_checkpoint:
                self._on_checkpoint(iteration, os.fspath(path))

    def _at_full_size(self, image: np.ndarray) -> np.ndarray:
        if image.shape[:2] == self._size:
            return image
        image = images.resize(image, *self._size)
        if self._mask is None:
            return image
        mask = self._mask[..., None]  # what stays of the photo was as small as the rest
        return mask * image + (1 - mask) * self._photo

    def _write(self, path: files.StrPath, image: np.ndarray) -> None:
        alpha = self._alpha
        if alpha is not None:
            alpha = images.resize(alpha, *image.shape[:2])
        images.save(path, self.in_its_colors(image), alpha, self._description)


def check(
    options: argparse.Namespace, settings: Settings, inputs: list[str], own: Collection[str]
) -> None:
    """Raises `UserError` for what could not be written, or would cost a file. own: those that the
    run has written before, and may write again."""
    checkpoints, own = checkpoint_paths(options, settings), set(map(os.path.realpath, own))
    read, written = set(map(os.path.realpath, inputs)), set()
    for path in outputs(options, settings):
        place = os.path.realpath(path)
        if place in read or any(_is_same_file(path, name) for name in inputs):
            raise UsageError(f"the output {path} is also an input: choose another name")
        if place in written:
            raise UsageError(f"two outputs would both be written to {path}: name each differently")
        written.add(place)

    def may_replace(path: str) -> bool:
        return options.overwrite or os.path.realpath(path) in own

    images.check_output(options.output, may_replace(options.output))
    for path in checkpoints[:1]:
        images.check_output(path, may_replace(path), make_folder=True)
    for path in checkpoints[1:]:
        files.check_free(path, may_replace(path))
    for path in _other_outputs(options):
        files.check_writable(path, may_replace(path))
    if options.timelapse:
        Timelapse.check(options.timelapse)


def outputs(options: argparse.Namespace, settings: Settings) -> list[str]:
    """Every file that a run writes."""
    return [options.output, *checkpoint_paths(options, settings), *_other_outputs(options)]


def claimed(options: argparse.Namespace) -> list[str]:
    """The files that two runs may not write at the same time: checkpoints by their first. Their
    folder may not be there yet."""
    pattern = checkpoint_pattern(options)
    checkpoint = [checkpoint_path(pattern, 0)] if pattern else []
    paths = [options.output, *_other_outputs(options), *checkpoint]
    return [path for path in paths if os.path.isdir(os.path.dirname(os.path.abspath(path)))]


def _other_outputs(options: argparse.Namespace) -> list[str]:
    named = (getattr(options, name, None) for name in ("save_state", "timelapse", "save_settings"))
    return [*filter(None, named), *filter(None, loss_paths(options))]


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path or os.curdir, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path} ({files.reason(error)}): choose another"
        ) from error


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
