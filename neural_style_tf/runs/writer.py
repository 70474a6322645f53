"""Writer: what a run makes -> files. A file that cannot be written is reported, and the run
continues."""

import functools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from neural_style_tf.painting.step import Step
from neural_style_tf.pictures import colors, files, places, resampling, transparency, writing
from neural_style_tf.runs import outputs, provenance, states
from neural_style_tf.runs.failures import Failures
from neural_style_tf.runs.inputs import Pictures
from neural_style_tf.runs.loss_table import LossTable
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.runs.timelapse import Timelapse
from neural_style_tf.settings import Settings


class Writer:
    """Saves the files of a run; checkpoints on a thread of its own, while the next steps run.

    description: what made the picture, kept in its file. on_checkpoint: called with the step and
    the path of each checkpoint that was written.
    """

    def __init__(
        self,
        options: RunOptions,
        settings: Settings,
        pictures: Pictures,
        description: provenance.Description,
        table: LossTable,
        failures: Failures,
        first_iteration: int = 0,
        on_checkpoint: Callable[[int, str], None] | None = None,
    ):
        self._options, self._settings = options, settings
        self._size, self._alpha = pictures.content.shape[:2], pictures.alpha
        self._mask = pictures.masks["content_mask"]
        is_used = settings.preserve_colors == "luma" or self._mask is not None
        self._photo = pictures.content if is_used else None  # it may be large
        if self._photo is not None and settings.wraps:
            self._photo = resampling.tiling(self._photo)
        self._description, self._photo_metadata = description, pictures.metadata
        self._table, self._failures = table, failures
        self._on_checkpoint = on_checkpoint and failures.fenced("the preview", on_checkpoint)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._writing: Future | None = None
        self.fetched: np.ndarray | None = None  # the last picture that came from the device
        self._output = files.Output(options.output)
        self._state = files.Output(options.save_state) if options.save_state else None
        self._loss_files = [path and files.Output(path) for path in outputs.loss_paths(options)]
        self._pattern = outputs.checkpoint_pattern(options)
        self._folder = os.getcwd()  # of the checkpoints, if their pattern is relative
        if self._pattern:
            outputs.make_folder(os.path.dirname(self._pattern))
        self._begin_film(first_iteration)
        self._done = first_iteration
        is_done = first_iteration == settings.iterations
        is_saved = (
            is_done
            and options.resume
            and options.save_state
            and outputs.is_same_file(options.resume, options.save_state)
        )
        self._saved_after = self._done if is_saved else None  # steps that the state holds

    def _begin_film(self, first_iteration: int) -> None:
        self._film: Timelapse | None = None
        self._add_to_film: Callable | None = None
        if not self._options.timelapse:
            return
        path = Path(self._options.timelapse)
        if first_iteration:  # the film of the steps before stays
            path = path.with_stem(f"{path.stem}-from-{first_iteration}")
        film = self._film = Timelapse(files.Output(path), *self._size)

        def add(image: np.ndarray) -> None:
            film.add(self.in_its_colors(image))

        self._add_to_film = self._failures.fenced("the film", add, is_required=True)

    def see(self, step: Step) -> None:
        """Saves the state when it is time."""
        if step.iteration is not None:
            self._done = step.iteration + 1
        every = self._options.state_iterations
        if step.iteration is None or (every and self._done % every == 0):
            self.save_state(step)

    def save_state(self, step: Step, elsewhere: bool = False) -> str | None:
        """Saves the run as it stands, if that is wanted and its picture is finite. Returns the path
        of the state, or of the one saved before.

        elsewhere: in the temporary folder or the like if it cannot be written where it should be.
        """
        place = self._state
        if place is None or self._saved_after == self._done:
            return self._saved_state()
        saved = None

        def save() -> None:
            nonlocal saved
            state = step.state()
            if not np.isfinite(np.asarray(state["picture"])).all():
                return  # the state before is worth more
            state = {**state, "rows": np.array(self._table.rows)}
            about = {"options": provenance.record(self._options), "description": self._description}
            write = functools.partial(states.save, state=state, about=about)
            if self._failures.attempt("the state", write, place):
                saved = str(place)
                self._saved_after = self._done
            elif elsewhere:
                saved = places.save_elsewhere(place, write)

        self._failures.attempt("the state", save)
        return saved or self._saved_state()

    def _saved_state(self) -> str | None:
        return None if self._saved_after is None else str(self._state)

    def save_checkpoint(self, iteration: int, image: np.ndarray) -> None:
        """Begins to; waits for the one before, so that at most one is held in memory."""
        self.fetched = image
        self._begin_writing("the checkpoint", lambda: self._write_checkpoint(iteration, image))

    def save_meanwhile(self, image: np.ndarray, on_saved: Callable[[], None]) -> None:
        """Begins to save the picture as it stands in the place of the result. on_saved: called when
        it is saved."""

        def save() -> None:
            self._write(self._output, self._at_full_size(image))
            on_saved()

        self.fetched = image
        self._begin_writing("the picture", save)

    def save(self, image: np.ndarray, losses: Mapping[str, float] | None = None) -> str | None:
        """Saves the result, at full size whatever its stage; in the temporary folder or the like if
        it cannot be written where it should be. Returns its path, or None if no folder takes it.

        losses: of a run that has reached its end.
        """
        self.fetched = image
        self.finish_writing()
        if losses:
            self._description = self._description | {"losses": dict(losses)}
        try:
            image = self._at_full_size(image)
        except Exception as error:  # mostly for lack of memory
            height, width = image.shape[:2]
            self._failures.report(
                f"the picture is saved with {width}x{height} pixels, because it could not be "
                f"enlarged ({files.in_short(error)})"
            )
        if self._failures.attempt("the picture", self._write, self._output, image):
            return str(self._output)
        path = places.save_elsewhere(self._output, lambda path: self._write(path, image))
        if path:
            self._failures.note(f"saved as {path} instead")
        else:
            self._failures.report("the picture could not be saved anywhere")
        return path

    def save_others(self, image: np.ndarray) -> None:
        """Saves the table and the plot of the losses, and the film, as far as they are wanted.
        image: the last picture of the film."""
        table, plot = self._loss_files
        if table:
            self._failures.attempt("the table", self._table.save_csv, table)
        if plot:
            self._failures.attempt("the plot", self._table.save_plot, plot)
        if self._film and self._add_to_film:
            self._add_to_film(image)
            self._failures.attempt("the film", self._film.save)

    def _begin_writing(self, name: str, write: Callable[[], None]) -> None:
        self.finish_writing()
        self._writing = self._thread.submit(self._failures.attempt, name, write)

    def finish_writing(self) -> None:
        """Waits for what is being written."""
        pending, self._writing = self._writing, None
        if pending:
            pending.result()

    def in_its_colors(self, image: np.ndarray) -> np.ndarray:
        """The picture with the colours that its file has, over white where it is transparent.
        [H, W, 3] float32 RGB, 0..255."""
        if self._settings.preserve_colors == "luma" and self._photo is not None:
            image = colors.luma_only(image, resampling.resize(self._photo, *image.shape[:2]))
        return image if self._alpha is None else transparency.over_white(image, self._alpha)

    def _write_checkpoint(self, iteration: int, image: np.ndarray) -> None:
        if self._add_to_film:
            self._add_to_film(image)
        if self._pattern:
            if self._options.checkpoint_full_size:
                image = self._at_full_size(image)
            path = files.Output(outputs.checkpoint_path(self._pattern, iteration), self._folder)
            self._write(path, image)
            if self._on_checkpoint:
                self._on_checkpoint(iteration, os.fspath(path))

    def _at_full_size(self, image: np.ndarray) -> np.ndarray:
        if image.shape[:2] == self._size:
            return image
        image = resampling.resize(image, *self._size, wraps=self._settings.wraps)
        if self._mask is None:
            return image
        mask = self._mask[..., None]  # the unpainted part of the photo had been reduced, too
        return mask * image + (1 - mask) * self._photo

    def _write(self, path: files.StrPath, image: np.ndarray) -> None:
        alpha = self._alpha
        if alpha is not None:
            alpha = resampling.resize(alpha, *image.shape[:2])
        options = self._options
        writing.save(
            path,
            self.in_its_colors(image),
            alpha,
            None if options.no_metadata else provenance.kept(self._description),
            None if options.no_metadata else self._photo_metadata,
            writing.most_bits(path, options.bits),
            options.jpeg_quality,
        )
