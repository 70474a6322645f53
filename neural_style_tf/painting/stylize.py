"""The run: pictures and settings -> better and better pictures. Prints nothing."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from neural_style_tf.errors import NotFiniteError, UsageError
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.network import vgg
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.objective import memory
from neural_style_tf.optimizers.adam import Adam
from neural_style_tf.optimizers.base import Optimizer, State, under, within
from neural_style_tf.optimizers.lbfgs import LBFGS, ShorterWhenFull, history_in, history_of
from neural_style_tf.optimizers.scipy_lbfgsb import LBFGSB
from neural_style_tf.painting import stages, tiling
from neural_style_tf.painting.descent import Descent, Scored, resized
from neural_style_tf.painting.frame import Frame
from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import Step
from neural_style_tf.pictures import colors, resampling
from neural_style_tf.pictures.masks import GivenMasks, Masks
from neural_style_tf.settings import LEARNING_RATE, SMALLEST_SIDE, Settings, settings_from

__all__ = ["NotFiniteError", "Step", "stylize"]

NOISE_DEVIATION = 0.256  # grey levels; the published program's start, see initial_picture


def stylize(
    network: str | Path | vgg.Network,
    content: np.ndarray,
    styles: Sequence[np.ndarray],
    *,
    initial: np.ndarray | None = None,
    style_masks: Sequence[np.ndarray | None] | None = None,
    content_mask: np.ndarray | None = None,
    style_source_masks: Sequence[np.ndarray | None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    plan: list[Stage] | None = None,
    resume: Mapping[str, ArrayLike] | None = None,
    keep_stages: bool = False,
    **options: Any,
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Repaints a photo in the style of one or more paintings (Gatys, Ecker and Bethge 2016).

    network: a weights file, or what `vgg.load` made of one.
    content, styles, initial: [H, W, 3] RGB, 0..255, of any number type. Styles may have any size
        (the larger a style against the content, the larger its strokes; see `stages.style_size`
        for those of coarse stages); `initial`, the picture to start from, has the content's.
    style_masks: where each style paints, [H, W] of the content's size, 0..1; None for everywhere.
    content_mask: what is painted at all, likewise; the rest of the photo stays.
    style_source_masks: what each style is learnt from, [h, w] of its size; None for all of it.
    on_step: called after every step with a `Step`, and once more at the end.
    plan: the stages to paint in; by default those of `stages.plan`, in tiles as memory asks for.
    resume: the `Step.state()` of another run, to go on from where that was; in its stages. With the
        same arguments the picture is that of a run that never stopped, to the bit. More iterations
        may be asked for, and give what as many at once would have: see `stages.fitted`.
    keep_stages: whether states hold the ends of earlier stages, too, which that needs.
    options: the fields of `settings.Settings` by name, for instance `iterations`,
        `content_weight`, `checkpoint_iterations`.

    Yields `(iteration, image)` after every step whose number, from 0, is a multiple of
    `checkpoint_iterations`: the picture as it stands, at the size of its stage; and last `(None,
    image)`: the picture with the lowest loss, at the content's size. Images are [H, W, 3] float32
    RGB, 0..255.

    Raises `UserError` for a wrong argument when called, not at the first picture, and
    `NotFiniteError` during the run.
    """
    tensorflow_setup.prepare()
    settings = settings_from(options)
    settings.check_styles(len(styles))
    content = _checked("content", content)
    styles = [_checked(f"style {number}", style) for number, style in enumerate(styles, 1)]
    if not styles:
        raise UsageError("got no style: give one picture or more")
    if initial is not None:
        initial = _checked("initial", initial)
        if initial.shape != content.shape:
            raise UsageError(
                f"initial is {_size(initial)} and content {_size(content)}: give equal sizes"
            )
    if settings.preserve_colors in ("match", "histogram"):
        styles = [colors.matched(style, content, settings.preserve_colors) for style in styles]
    given = GivenMasks.checked(content, styles, style_masks, content_mask, style_source_masks)
    if not isinstance(network, vgg.Network):
        network = vgg.load(network)
    if not settings.normalization:
        network = vgg.without_normalization(network)
    vgg.check_layers(network, settings.layers())
    if resume is not None:
        if plan is None:
            resume, plan = stages.fitted({**resume, "plan": np.asarray(resume["plan"])}, settings)
        _check_sizes(content, plan, resume)
    elif plan is None:
        plan = stages.plan(*content.shape[:2], settings, initial is not None)
        precision = feature_dtype(settings.precision)
        plan = tiling.in_tiles(
            plan, network, [style.shape[:2] for style in styles], settings, precision
        )
    resume = None if resume is None else dict(resume)  # who called need not keep it
    return _Run(
        network, content, styles, initial, given, on_step, settings, plan, resume, keep_stages
    ).images()


def initial_picture(base: np.ndarray, mean_pixel: np.ndarray, settings: Settings) -> np.ndarray:
    """The picture to start from, [H, W, 3] float32 RGB, 0..255: `base` blended with a share of
    noise around the network's mean pixel."""
    generator = np.random.default_rng(settings.seed)
    picture, blend = np.array(base, np.float32), settings.initial_noiseblend
    for rows in picture:  # one after another: the noise is float64, and pictures may be large
        if settings.noise_range is None:
            noise = mean_pixel + NOISE_DEVIATION * generator.standard_normal(rows.shape)
        else:
            noise = mean_pixel + generator.uniform(*settings.noise_range, rows.shape)
        rows[:] = (1 - blend) * rows + blend * noise
    return picture


class _Run:
    """The stages of a run, one after the other. Pictures may be large: each is let go as soon as
    nothing needs it."""

    def __init__(
        self,
        network: vgg.Network,
        content: np.ndarray,
        styles: list[np.ndarray],
        initial: np.ndarray | None,
        given: GivenMasks,
        on_step: Callable[[Step], None] | None,
        settings: Settings,
        plan: list[Stage],
        resume: Mapping[str, ArrayLike] | None,
        keep_stages: bool,
    ):
        bleed = plan[-1].bleed
        self._content, self._given = resampling.bled(content, bleed), given.bled(bleed)
        self._initial = None if initial is None else resampling.bled(initial, bleed)
        self._network, self._styles = network, styles
        self._settings, self._plan = settings, plan
        self._precision = feature_dtype(settings.precision)
        self._on_step, self._resume, self._keep_stages = on_step, resume, keep_stages
        self._ends = under(stages.ENDS, within(stages.ENDS, resume or {}))
        self._descent: Descent | None = None
        self._objective = self._losses = None

    def images(self) -> Iterator[tuple[int | None, np.ndarray]]:
        """What `stylize` yields."""
        plan, resume = self._plan, self._resume
        for stage in plan if resume is None else plan[int(resume["stage"]) - 1 :]:
            self._begin(stage)
            yield from self._steps(stage)
            if self._descent.is_over:
                break
            if self._keep_stages and stage is not plan[-1]:
                state = self._descent.state() | _where(stage, plan)
                self._ends |= under(f"{stages.ENDS}{stage.number}/", state)
        self._tell_best(stage)
        yield None, self._last_image(stage)

    def _begin(self, stage: Stage) -> None:
        """Makes the objective of a stage, and takes the descent there."""
        if self._objective is not None:
            self._objective = self._losses = None  # gone before the next are made
            gc.collect()  # graphs are held in circles
        pictures = [resampling.resize(self._content, *stage.outer_size)]
        for style in self._styles:
            size = stages.style_size(*style.shape[:2], stage, self._plan[-1], self._settings)
            pictures.append(resampling.resize(style, *size))
        photo, *paintings = (picture[np.newaxis] for picture in pictures)
        masks, painted = self._given.at(photo, paintings)
        self._frame = Frame(photo, painted)
        self._objective, self._losses = memory.make_objective(
            self._network, photo, paintings, self._settings, self._precision, stage.tile, masks
        )
        if self._resume is not None:
            self._go_on(stage)
        else:
            if self._descent is None:
                start = self._start(pictures, masks)
                self._descent = Descent(tf.constant(start[np.newaxis]), self._settings)
            self._descent.begin_stage(_optimizer(self._settings, stage), stage)
        if stage is self._plan[-1]:
            self._content = self._initial = None
            self._styles.clear()

    def _go_on(self, stage: Stage) -> None:
        """Takes the descent to where the other run was."""
        resume, self._resume = self._resume, None  # it may be large
        state = within("optimizer/", resume)
        optimizer = _optimizer(self._settings, stage, state)
        self._descent = Descent.restored(resume, optimizer, self._settings)

    def _start(self, pictures: list[np.ndarray], masks: Masks) -> np.ndarray:
        """The picture that the first stage begins with. pictures: its photo and paintings."""
        settings, initial, base = self._settings, self._initial, pictures[0]
        if initial is not None:
            base = resampling.resize(initial, *base.shape[:2])
        kind = settings.initial_colors or ("match" if initial is None else "own")
        base = colors.in_colors_of(base, pictures[1:], kind, settings, masks)
        return initial_picture(base, self._network.mean_pixel, settings)

    def _steps(self, stage: Stage) -> Iterator[tuple[int, np.ndarray]]:
        """Takes the steps of a stage, and yields its checkpoints."""
        every, descent = self._settings.checkpoint_iterations, self._descent
        for iteration, scored in descent.steps(self._objective, stage, self._frame):
            if every and iteration % every == 0:
                yield iteration, stage.image(descent.seen)
            if self._on_step is not None:  # last: it may end the run
                self._on_step(self._step(iteration, stage, scored))

    def _tell_best(self, stage: Stage) -> None:
        """Calls `on_step` for the picture that was chosen."""
        if self._on_step is None:
            return
        best = self._descent.best
        if self._precision != tf.float32:
            best = Scored(best.picture, self._losses(self._frame.picture(best.picture)))
        self._on_step(self._step(None, stage, best))

    def _last_image(self, stage: Stage) -> np.ndarray:
        """The picture that was chosen, at the size of the last stage. After that there is nothing
        left of the run: saving a large picture takes memory."""
        last, frame = self._plan[-1], self._frame
        if stage is not last:  # a limit of the whole run was reached
            paintings = [style[np.newaxis] for style in self._styles]
            content = self._content[np.newaxis]
            _, painted = self._given.at(content, paintings)
            frame = Frame(content, painted)
        picture = resized(self._descent.best.picture, *last.outer_size)
        image = last.image(frame.picture(picture))
        self._descent.release()
        self._objective = self._losses = self._descent = None
        gc.collect()
        return image

    def _step(self, iteration: int | None, stage: Stage, scored: Scored) -> Step:
        descent, plan, ends = self._descent, self._plan, self._ends
        picture = descent.frame.picture(scored.picture) if iteration is None else descent.seen
        return Step(
            iteration,
            sum(stage.iterations for stage in plan),
            stage,
            descent.seconds,
            lambda: {name: float(loss) for name, loss in scored.losses.items()},
            lambda: stage.image(picture),
            # the failure of a run may be reported by a step of the stage before
            lambda: descent.state() | _where(descent.stage, plan) | ends,
        )


def _optimizer(
    settings: Settings, stage: Stage, state: Mapping[str, ArrayLike] | None = None
) -> Optimizer:
    """The optimizer of a stage. state: its own, to go on with; that of L-BFGS may have been
    shortened.

    Of Adam's each has the learning rate's whole schedule: measured at
    800x534 in two stages, the loss was 12 % lower than with one schedule for both."""
    if settings.optimizer == "lbfgs":
        low, high = (0.0, 255.0) if settings.clip else (-np.inf, np.inf)
        history = history_of(*stage.outer_size)
        if state and "curvatures" in state:
            history = min(history, history_in(state))
        return ShorterWhenFull(LBFGS(history, low, high))
    if settings.optimizer == "l-bfgs-b":
        return LBFGSB(settings.evaluations, bounds=settings.clip)
    return Adam(
        learning_rate=settings.learning_rate or LEARNING_RATE,
        beta1=settings.beta1,
        beta2=settings.beta2,
        eps=settings.eps,
        schedule=settings.learning_rate_schedule,
        total=stage.iterations,
        decay_every=settings.decay_every,
        decay_factor=settings.decay_factor,
        clip=settings.clip,
    )


def _where(stage: Stage, plan: list[Stage]) -> State:
    """Where a run is, for its state."""
    return {"stage": tf.constant(stage.number), "plan": tf.constant(stages.in_numbers(plan))}


def _check_sizes(
    content: np.ndarray, plan: list[Stage], resume: Mapping[str, ArrayLike] | None
) -> None:
    """Raises `UsageError` unless a run to resume painted pictures of the content's size, and has
    one of its stage's."""
    if (plan[-1].height, plan[-1].width) != content.shape[:2]:
        raise UsageError(
            f"content is {_size(content)} and the run to resume painted "
            f"{plan[-1].width}x{plan[-1].height}: give that size"
        )
    if resume is None:
        return
    _, height, width, _ = np.shape(resume["picture"])
    expected = plan[int(resume["stage"]) - 1].outer_size
    if (height, width) != expected:
        raise UsageError(
            f"the run to resume has a picture of {width}x{height} pixels where its stage has "
            f"{expected[1]}x{expected[0]}: another version kept it; begin anew"
        )


def _checked(name: str, picture: Any) -> np.ndarray:
    """The picture as float32. Raises `UsageError` unless it is [H, W, 3], finite and big enough."""
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise UsageError(f"{name} has shape {picture.shape}: give [height, width, 3]")
    if min(picture.shape[:2]) < SMALLEST_SIDE:
        raise UsageError(f"{name} is {_size(picture)}: give {SMALLEST_SIDE} pixels or more a side")
    picture = picture.astype(np.float32, copy=False)
    if not np.isfinite(picture).all():
        raise UsageError(f"{name} holds values that are no finite numbers: give RGB from 0 to 255")
    return picture


def _size(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    return f"{width}x{height}"
