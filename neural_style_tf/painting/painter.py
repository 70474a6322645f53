"""Painter: checked pictures, a network and a plan -> the picture, stage after stage.

Each stage goes through three steps: `begin` makes its objective and brings the picture to its size,
`paint` takes its steps, `end` notes how it ended. `finish` picks the best picture of the last one.
Pictures may be large: each is released as soon as nothing needs it.
"""

import gc
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import SettingName, UsageError, UserError
from neural_style_tf.machine import precision
from neural_style_tf.network import vgg
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.objective import memory
from neural_style_tf.objective.evaluation import Objective
from neural_style_tf.objective.matching import Matches
from neural_style_tf.optimizers.base import State, within
from neural_style_tf.painting import arguments, continuing, dabs, stages, tiling
from neural_style_tf.painting.arguments import Pictures, size_in_words
from neural_style_tf.painting.descent import Descent, Scored, on_processor_if_full, resized
from neural_style_tf.painting.frame import Frame
from neural_style_tf.painting.stage_optimizer import optimizer_of
from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.start import detail_at_stage, starting_picture
from neural_style_tf.painting.step import MATCHES, Step
from neural_style_tf.pictures import colors, resampling
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings
from neural_style_tf.usual import NEIGHBOR_LAYERS

Images = Iterator[tuple[int | None, np.ndarray]]


def paint_stages(
    network: str | Path | vgg.Network,
    content: Any,
    styles: Sequence[Any],
    settings: Settings,
    *,
    plan: list[Stage] | None = None,
    resume: Mapping[str, Any] | None = None,
    keep_stages: bool = False,
    on_step: Callable[[Step], None] | None = None,
    **pictures: Any,
) -> Images:
    """What `stylize` yields, for a caller that plans, saves and resumes runs.

    network, content, styles, on_step, pictures: as for `stylize`.
    plan: the stages to paint in; by default those of `stages.plan`, in tiles as memory asks for.
    resume: the `Step.state()` of another run, to go on from there; without a plan from the
        `continuing.starting_point`. With the same arguments the picture is that of a run that
        never stopped, to the bit.
    keep_stages: whether states hold the ends of earlier stages, too, which a later run with more
        iterations needs.

    Raises `UserError` for a wrong argument when called, and `NotFiniteError` during the run.
    """
    checked = arguments.checked(content, styles, settings, **pictures)
    network = _load(network, settings)
    if resume is not None:
        if plan is None:
            state = {**resume, "plan": np.asarray(resume["plan"])}
            resume, plan = continuing.starting_point(state, settings)
        check_sizes(checked.content, plan, resume)
    elif plan is None:
        plan = _plan(checked, network, settings)
    resume = None if resume is None else dict(resume)  # the caller may let go of it
    return Painter(network, checked, settings, plan, on_step, resume, keep_stages).images()


def _load(network: str | Path | vgg.Network, settings: Settings) -> vgg.Network:
    """The network as the settings want it. Raises `UserError` if it lacks one of their layers."""
    if not isinstance(network, vgg.Network):
        network = vgg.load(network)
    if not settings.normalization:
        network = vgg.without_normalization(network)
    check_layers(network, settings)
    return network


def check_layers(network: vgg.Network, settings: Settings) -> None:
    """Raises `UserError` unless the network has all layers that the settings name or imply."""
    if settings.style_loss == "neighbors":
        missing = [name for name in NEIGHBOR_LAYERS if name not in network.names]
        if missing:
            raise UserError(
                SettingName("style_loss"),
                f" neighbors needs the layer {missing[0]}, and {network.title} has none: choose a "
                "VGG-16 or a VGG-19, or another loss, such as moments",
            )
    vgg.check_layers(network, settings.layers())


def _plan(pictures: Pictures, network: vgg.Network, settings: Settings) -> list[Stage]:
    """The stages of a new run, in tiles as memory asks for."""
    has_initial = pictures.initial is not None
    height, width = pictures.content.shape[:2]
    plan = stages.plan(height, width, settings, has_initial)
    # a painting may have a part in several regions
    pairs = zip(pictures.styles, pictures.strokes, strict=True)
    of_each = {id(style): (style.shape[:2], stroke) for style, stroke in pairs}.values()
    sizes, strokes = (list(part) for part in zip(*of_each, strict=True))
    return tiling.in_tiles(
        plan, network, sizes, settings, feature_dtype(settings.precision), strokes
    )


def check_sizes(content: np.ndarray, plan: list[Stage], state: Mapping[str, Any] | None) -> None:
    """Raises `UsageError` unless a run to resume painted pictures of the content's size, and its
    state, if it has one, holds a picture of the size of its stage."""
    last = plan[-1]
    if (last.height, last.width) != content.shape[:2]:
        raise UsageError(
            f"content is {size_in_words(content)} and the run to resume painted "
            f"{last.width}x{last.height}: use that size"
        )
    if state is None:
        return
    _, height, width, _ = np.shape(state["picture"])
    expected = plan[int(state["stage"]) - 1].outer_size
    if (height, width) != expected:
        raise UsageError(
            f"the run to resume has a picture of {width}x{height} pixels where its stage has "
            f"{expected[1]}x{expected[0]}: another version saved it; start again from the photo"
        )


class Painter:
    """The stages of a run, one after the other.

    pictures: released when the last stage has begun. resume: the state to go on from, if any.
    keep_stages: whether states hold the ends of earlier stages.
    """

    def __init__(
        self,
        network: vgg.Network,
        pictures: Pictures,
        settings: Settings,
        plan: list[Stage],
        on_step: Callable[[Step], None] | None = None,
        resume: Mapping[str, Any] | None = None,
        keep_stages: bool = False,
    ):
        self._network, self._settings, self._plan = network, settings, plan
        self._pictures = pictures.bled(plan[-1].bleed)
        self._precision = feature_dtype(settings.precision)
        self._on_step, self._resume, self._keep_stages = on_step, resume, keep_stages
        self._ends = continuing.ends_in(resume or {})
        self._detail_width: float | None = None  # of the content
        self._largest_tile: int | None = None  # of the following stages, once memory has run out
        self._forget()

    def _forget(self) -> None:
        """Releases what a stage needs. None before the first `begin` and after `finish`."""
        self._descent: Descent = None  # type: ignore[assignment]
        self._objective: Objective = None  # type: ignore[assignment]
        self._losses: memory.Losses = None  # type: ignore[assignment]
        self._matches: Matches | None = None

    def images(self) -> Images:
        """The checkpoints, each with the number of its step, and last the best picture."""
        return precision.without_tf32_in_float32(self._precision, self._images())

    def _images(self) -> Generator[tuple[int | None, np.ndarray], None, None]:
        first = 1 if self._resume is None else int(self._resume["stage"])
        for stage in self._plan[first - 1 :]:
            self.begin(stage)
            yield from self.paint(stage)
            if self._descent.is_over:
                break
            self.end(stage)
        self._report_best(stage)
        yield None, self.finish(stage)

    def begin(self, stage: Stage) -> None:
        """Makes the objective of a stage, and takes the descent there."""
        self._release_objective()
        last = self._plan[-1]
        pictures = self._pictures.at_stage(stage, last, self._settings)
        photo, *paintings = (picture[np.newaxis] for picture in pictures)
        masks, painted = self._pictures.masks.at(photo, paintings)
        self._frame = self._frame_of(photo, paintings, masks, painted)
        radius = self._radius_of_dabs(stage)
        enlarged = self._enlarged(stage, pictures, masks, radius)
        if radius:
            photo = _in_dabs(photo, radius, stage)
        matches = self._matches_of(stage, enlarged)
        with precision.without_tf32():  # for the targets
            self._objective, self._losses = memory.make_objective(
                *(self._network, photo, paintings, self._settings, self._precision),
                *(self._tile_of(stage), masks, matches, self._spare_bytes, stage.iterations),
            )
        if self._resume is not None:
            resume, self._resume = self._resume, None  # it may be large
            memory.with_room(self._objective, lambda: self._restore(stage, resume))
        else:
            if self._descent is None:
                mean_pixel = self._network.mean_pixel
                start = starting_picture(
                    self._pictures, pictures, mean_pixel, self._settings, masks
                )
                memory.with_room(self._objective, lambda: self._start(start))
            optimizer = optimizer_of(self._settings, stage)
            memory.with_room(
                self._objective, lambda: self._descent.begin_stage(optimizer, stage, enlarged)
            )
        self._matches = matches  # only now: after a failure above, states are of the stage before
        if stage is last:
            self._pictures = None  # type: ignore[assignment]

    def _frame_of(
        self,
        photo: np.ndarray,
        paintings: list[np.ndarray],
        masks: Masks,
        painted: np.ndarray | None,
    ) -> Frame:
        """The frame of a stage, from its pictures, [1, H, W, 3], and masks."""
        initial = self._pictures.initial
        if initial is not None:
            initial = resampling.resize(initial, *photo.shape[1:3])
        shares = masks.blends(self._settings, len(paintings))
        limit = colors.limits(photo, paintings, initial, masks, shares)
        return Frame(photo, painted, limit)

    def _radius_of_dabs(self, stage: Stage) -> int:
        """Of the dabs that a stage begins with, and sees in place of the photo; 0 for none."""
        if self._settings.style_loss != "neighbors" or stage.number == 1:
            return 0
        if self._detail_width is None:
            self._detail_width = dabs.detail_width(self._pictures.content)
        return dabs.radius(self._detail_width * stage.width / self._plan[-1].width)

    def _enlarged(
        self, stage: Stage, pictures: list[np.ndarray], masks: Masks, radius: int
    ) -> np.ndarray | None:
        """What a stage after the first begins with: the best picture so far at its size, with the
        photo's finer detail, or in dabs. pictures: those of the stage. radius: of the dabs."""
        if self._descent is None:
            return None
        best = self._best().picture
        enlarged = resized(best, *stage.outer_size, stage.wraps).numpy()
        if radius:
            return _in_dabs(enlarged, radius, stage)
        detail = detail_at_stage(
            self._pictures, pictures, tuple(best.shape[1:3]), self._settings, masks
        )
        return enlarged if detail is None else np.clip(enlarged + detail, 0, 255)

    def _matches_of(self, stage: Stage, enlarged: np.ndarray | None) -> Matches | None:
        """How the stage decides which parts of the paintings each place is moved towards. enlarged:
        what it begins with, if it is not the first."""
        if self._settings.style_loss != "neighbors":
            return None
        start = None
        if self._resume is not None:
            if MATCHES in self._resume:
                return Matches(indices=np.asarray(self._resume[MATCHES]))
            start = np.asarray(self._resume["picture"])  # of a run with other settings
        elif enlarged is not None:
            start = on_processor_if_full(lambda: self._frame.picture(tf.constant(enlarged))).numpy()
        elif self._pictures.initial is not None:
            initial = self._pictures.initial
            start = resampling.resize(initial, *stage.outer_size, wraps=stage.wraps)[np.newaxis]
        return Matches(start, self._matches)

    def _release_objective(self) -> None:
        """Releases the objective of the stage before, so that its memory is free for the next."""
        if self._objective is not None:
            self._largest_tile = memory.smaller_tiles_of(self._objective) or self._largest_tile
            self._objective = self._losses = None  # type: ignore[assignment]
            gc.collect()  # graphs are in reference cycles

    def _tile_of(self, stage: Stage) -> int | None:
        """The size of its tiles: that of the plan, or a smaller one, with which an earlier stage
        ended because memory had run out."""
        if self._largest_tile is None or stage.tile is None:
            return stage.tile or self._largest_tile
        return min(stage.tile, self._largest_tile)

    def _spare_bytes(self) -> int:
        return 0 if self._descent is None else self._descent.spare_bytes()

    def _start(self, picture: np.ndarray) -> None:
        """Begins the descent at a picture [H, W, 3]."""
        start = self._frame.limited(tf.constant(picture[np.newaxis]))
        self._descent = Descent(start, self._settings)

    def _restore(self, stage: Stage, resume: Mapping[str, Any]) -> None:
        """Takes the descent to where the other run was."""
        optimizer = optimizer_of(self._settings, stage, within("optimizer/", resume))
        self._descent = Descent.restored(resume, optimizer, self._settings)

    def paint(self, stage: Stage) -> Iterator[tuple[int, np.ndarray]]:
        """Takes the steps of a stage, and yields its checkpoints."""
        every, descent = self._settings.checkpoint_iterations, self._descent
        for iteration, scored in descent.steps(self._objective, stage, self._frame):
            if every and iteration % every == 0:
                yield iteration, on_processor_if_full(lambda: stage.image(descent.visible))
            if self._on_step is not None:  # last: it may end the run
                self._on_step(self._step(iteration, stage, scored))

    def end(self, stage: Stage) -> None:
        """Notes how a stage ended, if later states are to hold it."""
        if self._keep_stages and stage is not self._plan[-1]:
            self._ends |= continuing.end_of(stage, self._state(self._descent, stage))

    def _report_best(self, stage: Stage) -> None:
        """Calls `on_step` for the best picture, with its losses in float32."""
        if self._on_step is None:
            return
        best = self._best()
        if self._precision != tf.float32:
            with precision.without_tf32():
                visible = on_processor_if_full(lambda: self._frame.picture(best.picture))
                best = Scored(best.picture, self._losses(visible))
        self._on_step(self._step(None, stage, best))

    def finish(self, stage: Stage) -> np.ndarray:
        """The best picture, [H, W, 3] float32 at the size of the last stage. Everything else is
        released: saving a large picture takes memory."""
        self._release_objective()
        last, frame = self._plan[-1], self._frame
        if stage is not last:  # a limit of the whole run was reached
            paintings = [style[np.newaxis] for style in self._pictures.styles]
            photo = self._pictures.content[np.newaxis]
            frame = self._frame_of(photo, paintings, *self._pictures.masks.at(photo, paintings))
        picture = resized(self._best().picture, *last.outer_size, last.wraps)
        image = on_processor_if_full(lambda: last.image(frame.picture(picture)))
        self._descent.release()
        self._forget()
        gc.collect()
        return image

    def _best(self) -> Scored:
        best = self._descent.best
        assert best is not None  # every stage evaluates a picture
        return best

    def _step(self, iteration: int | None, stage: Stage, scored: Scored) -> Step:
        descent, plan, ends = self._descent, self._plan, self._ends
        frame, painted = descent.frame, scored.picture if iteration is None else descent.picture
        picture = on_processor_if_full(lambda: frame.picture(painted))
        return Step(
            iteration,
            stages.total_steps(plan),
            stage,
            descent.seconds,
            lambda: {name: float(loss) for name, loss in scored.losses.items()},
            lambda: on_processor_if_full(lambda: stage.image(picture)),
            # the failure of a run may be reported by a step of the stage before
            lambda: self._state(descent, descent.stage or stage) | ends,
        )

    def _state(self, descent: Descent, stage: Stage) -> State:
        """The state of the descent, and what else a stage needs to go on."""
        state, matches = descent.state() | _position(stage, self._plan), self._matches
        if matches is not None and matches.indices is not None:
            state[MATCHES] = tf.constant(matches.indices)
        return state


def _in_dabs(picture: np.ndarray, radius: int, stage: Stage) -> np.ndarray:
    return on_processor_if_full(lambda: dabs.in_dabs(picture, radius, stage.wraps))


def _position(stage: Stage, plan: list[Stage]) -> State:
    """Where a run is, for its state."""
    return {"stage": tf.constant(stage.number), "plan": tf.constant(stages.to_rows(plan))}
