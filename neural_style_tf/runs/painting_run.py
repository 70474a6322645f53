"""Painting a run: a checked run -> its picture, watched, and saved whatever ends it.

NumPy, Pillow and TensorFlow are imported late, as in commands/neural_style.py.
"""

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from neural_style_tf.errors import NotFiniteError, UserError
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.painting import continuing, stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import Step
from neural_style_tf.runs import provenance
from neural_style_tf.runs.checks import Run
from neural_style_tf.runs.failures import Failures, in_words
from neural_style_tf.runs.inputs import Pictures
from neural_style_tf.runs.loss_table import LossTable
from neural_style_tf.runs.stopping import Stop

if TYPE_CHECKING:
    import numpy as np

    from neural_style_tf.runs.preview import Preview


class PaintingRun:
    """A run, from what was checked to what is saved.

    device: what it is painted on, in words. watch: called after every step; if it fails, the run
    continues without it. takes_signals: whether Ctrl-C and the like end the run after its step.
    """

    def __init__(
        self,
        run: Run,
        pictures: Pictures,
        device: str,
        preview: "Preview | None" = None,
        watch: Callable[[Step], None] | None = None,
        takes_signals: bool = True,
    ):
        self._options, self._settings = run.options, run.settings
        self._description, self._resumed = run.description, run.resumed
        self._pictures, self._preview, self._watch = pictures, preview, watch
        self._device, self._takes_signals = device, takes_signals
        self._latest: Step | None = None

    def paint(self) -> int:
        """Paints, and saves what comes out. Returns the exit status.

        Whatever ends the run, the picture as it stands and the state are saved where they can be;
        a failure is raised as `UserError` after that.
        """
        from neural_style_tf.runs.progress import Progress

        self._prepare()
        with (
            Progress(self._settings, self._plan, self._options.quiet) as self._progress,
            Stop(self._progress.note, self._takes_signals) as self._stop,
        ):
            self._announce()
            self._begin()
            try:
                self._save_each(self._images())
            except KeyboardInterrupt:
                if self._latest is None:
                    raise
                self._save_unfinished()
                return self._stop.exit_status
            except Exception as error:  # whatever it is, what was painted is saved
                self._save_unfinished(error)
                if isinstance(error, UserError):
                    raise
                raise UserError(in_words(error)) from error
            finally:
                self._writer.finish_writing()
            return self._failures.exit_status

    @property
    def failures(self) -> list[str]:
        """What could not be written, one line each."""
        return self._failures.messages

    def _prepare(self) -> None:
        """Loads the network, and settles what depends on it."""
        from neural_style_tf.network import vgg
        from neural_style_tf.painting import painter, tiling

        settings, resumed, plan = self._settings, self._resumed, self._pictures.plan
        self._network = vgg.load(self._options.network)
        painter.check_layers(self._network, settings)
        precision = feature_dtype(settings.precision)
        self._state = None
        if resumed:
            self._state, plan = continuing.starting_point(resumed.state, settings)
            painter.check_sizes(self._pictures.content, plan, self._state)
        if not resumed or settings.tile != resumed.description["tile"]:
            sizes = [style.shape[:2] for style in self._pictures.styles]
            strokes = self._pictures.strokes
            plan = tiling.in_tiles(plan, self._network, sizes, settings, precision, strokes)
        self._plan = plan
        self._settings = dataclasses.replace(
            settings,
            precision=precision.name,
            scales=str(len(plan)),
            tile=str(plan[-1].tile or "off"),
        )
        self._description = (
            self._description
            | dataclasses.asdict(self._settings)
            | {"versions": provenance.versions(), "device": self._device}
        )

    def _announce(self) -> None:
        """Says what is going to be painted, and where a resumed run continues."""
        from neural_style_tf.pictures import formats

        sizes = ", then ".join(map(_size_in_words, self._plan))
        network = self._network.title
        fit = self._pictures.fit and f", {self._pictures.fit},"
        self._progress.note(
            f"{sizes}{fit} on {self._device} in {self._settings.precision} with {network}"
        )
        if self._pictures.alpha is not None and formats.is_opaque(self._options.output):
            name = formats.format_of(self._options.output)
            self._progress.note(
                f"what is transparent in {self._options.content} becomes white: "
                f"{name} files have no transparency"
            )
        if not self._resumed:
            return
        first, done = self._first_iteration(), int(self._resumed.state["iterations"])
        if first < done:
            self._progress.note(
                f"resumes after step {first} of {done} to match a single run of "
                f"{self._settings.iterations} steps"
            )
        self._progress.resume(first)

    def _first_iteration(self) -> int:
        return int(self._state["iterations"]) if self._state else 0

    def _begin(self) -> None:
        """Prepares what saves the run and what watches it."""
        from neural_style_tf.runs.writer import Writer

        options, preview = self._options, self._preview
        self._failures = Failures(self._progress.show_error)
        table = LossTable(is_wanted=options.progress_write or options.progress_plot)
        if self._resumed:
            table.resume(self._first_iteration(), self._resumed.state["rows"])
        self._writer = Writer(
            options,
            self._settings,
            self._pictures,
            self._description,
            table,
            self._failures,
            self._first_iteration(),
            preview.add_checkpoint if preview else None,
        )
        fenced = self._failures.fenced
        self._watchers = [
            fenced("the table of losses", table.add, is_required=True),
            fenced("the progress display", self._progress.show),
            self._writer.see,
        ]
        if self._watch:
            self._watchers.append(fenced("what reports the progress", self._watch))
        self._add_picture_to_log: Callable | None = None
        if options.log_dir:
            self._begin_log(options.log_dir)
        self._show_in_preview: Callable | None = None
        if preview:
            self._begin_preview(preview)

    def _begin_log(self, folder: str) -> None:
        from neural_style_tf.runs.tensorboard import TensorBoardLog

        log = TensorBoardLog(folder, self._description)
        writer, fenced = self._writer, self._failures.fenced

        def add_picture(iteration: int, image: "np.ndarray") -> None:
            log.add_picture(iteration, writer.in_its_colors(image))

        self._watchers.append(fenced("the log of losses", log.see, is_required=True))
        self._add_picture_to_log = fenced("the log of pictures", add_picture, is_required=True)

    def _begin_preview(self, preview: "Preview") -> None:
        writer, fenced = self._writer, self._failures.fenced

        def show(image: "np.ndarray", message: str) -> None:
            preview.show(writer.in_its_colors(image))
            preview.tell(message, "done")

        def save_if_asked(step: Step) -> None:
            if step.iteration is not None and preview.save_is_asked_for():
                message = f"saved as {self._options.output} after step {step.iteration + 1}"
                writer.save_meanwhile(step.image(), lambda: preview.tell(message))

        begin = fenced("the preview", preview.begin)
        begin(self._pictures.content, self._plan, self._stop.request, writer.in_its_colors)
        self._watchers.append(fenced("the preview", preview.see))
        self._watchers.append(fenced("the preview's button", save_if_asked))
        self._show_in_preview = fenced("the preview", show)

    def _images(self) -> "Iterator[tuple[int | None, np.ndarray]]":
        """What `paint_stages` yields. From then on it alone holds the pictures."""
        from neural_style_tf.painting.painter import paint_stages

        pictures = self._pictures
        images = paint_stages(
            self._network,
            None if self._settings.texture else pictures.content,
            pictures.styles,
            self._settings,
            initial=pictures.initial,
            **pictures.masks,
            on_step=self._see,
            plan=self._plan,
            resume=self._state,
            keep_stages=bool(self._options.save_state)
            and not stages.depends_on_total_steps(self._settings),
        )
        pictures.let_go()
        if self._resumed:
            self._resumed.state.clear()
            self._state = None
        return images

    def _see(self, step: Step) -> None:
        self._latest = step
        for watch in self._watchers:
            watch(step)
        self._stop.check()

    def _save_each(self, images: "Iterator[tuple[int | None, np.ndarray]]") -> None:
        for iteration, image in images:
            if iteration is None:
                self._writer.fetched = image
                self._save(image, is_whole=True)
                continue
            self._writer.save_checkpoint(iteration, image)
            if self._add_picture_to_log:
                self._add_picture_to_log(iteration, image)

    def _save(self, image: "np.ndarray", is_whole: bool = False) -> str | None:
        """Saves a picture as the result; returns its path. is_whole: the run is finished."""
        losses = self._latest.losses() if is_whole and self._latest else None
        path = self._writer.save(image, losses)
        if path:
            self._progress.finish(path)
        self._writer.save_others(image)
        if self._show_in_preview:
            self._show_in_preview(image, self._progress.last_words)
        return path

    def _save_unfinished(self, error: Exception | None = None) -> None:
        """Saves the picture as it stands, and the state, and says how to resume. error: what ended
        the run, unless it was asked to stop."""
        if self._latest is None:
            return
        image = self._sound_image(error)
        if image is None:
            self._failures.report("no picture could be saved: the device does not answer")
        else:
            self._save(image)
        if isinstance(error, NotFiniteError):
            return  # a run resumed from the state would fail in the same way
        state = self._writer.save_state(self._latest, elsewhere=True)
        if state:
            command = [*_this_command(), "--resume", state]
            self._progress.note(f"to go on: {shlex.join(command)}")

    def _sound_image(self, error: Exception | None) -> "np.ndarray | None":
        """The newest finite picture that can still be fetched; None if there is none."""
        import numpy as np

        image = getattr(error, "image", None)  # of a loss that is not finite
        if image is not None:
            return image
        with contextlib.suppress(Exception):  # a device that has failed
            image = self._latest.image() if self._latest else None
            if image is not None and np.isfinite(image).all():
                return image
        return self._writer.fetched


def _this_command() -> list[str]:
    """How this program was called: by its script in a checkout, or by its installed command."""
    script = sys.argv[0]
    if script.endswith(".py"):
        return ["python", script]
    return script.split() if script.startswith("python -m ") else ["neural-style"]


def _size_in_words(stage: Stage) -> str:
    """512x384 in tiles of 256 pixels"""
    is_cut = stage.tile and stage.tile**2 < stage.width * stage.height  # or only a painting is
    tiles = f" in tiles of {stage.tile} pixels" if is_cut else ""
    return f"{stage.width}x{stage.height}{tiles}"
