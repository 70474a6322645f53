"""Descent: objectives, optimizers and a start -> step after step, and the best picture."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import NotFiniteError, SettingName, UsageError, UserError
from neural_style_tf.machine import compilation, memory
from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.network import device
from neural_style_tf.objective import graphs
from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.objective.memory import SmallerWhenFull
from neural_style_tf.optimizers.base import Optimizer, State, under, within
from neural_style_tf.optimizers.lbfgs import ShorterWhenFull
from neural_style_tf.painting.frame import NO_FRAME, Frame
from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import LOSSES
from neural_style_tf.pictures import resampling
from neural_style_tf.settings import Settings

# Steps between two checks of whether the loss is still finite: a check waits for the device.
CHECK_EVERY = 10
# Values of a picture whose old state is kept while the next is made, so that a step that fails can
# be taken again: two or three pictures of at most 64 MB.
KEPT_VALUES = graphs.LARGE_PICTURE


class Scored(NamedTuple):
    """A picture [1, H, W, 3] float32 RGB, 0..255, with its losses."""

    picture: tf.Tensor
    losses: dict[str, tf.Tensor]


class Descent:
    """A picture whose loss an optimizer lowers step by step, stage after stage."""

    def __init__(self, picture: tf.Tensor, settings: Settings):
        self.picture = picture  # the current one, [1, H, W, 3] float32 RGB
        self.best: Scored | None = None  # of the stage: losses at different sizes do not compare
        self.seconds = 0.0
        self.frame = NO_FRAME
        self.stage: Stage | None = None
        self._settings = settings
        self._optimizer: Optimizer = None  # type: ignore[assignment]  # until the first stage begins
        self._state: State = {}  # None while a step changes it
        self._iteration = self._evaluations = 0  # of the run
        self._taken = 0  # steps of the stage
        self._patience = _Patience(settings.patience)
        self._began = time.monotonic()

    def begin_stage(self, optimizer: Optimizer, stage: Stage, start: np.ndarray | None) -> None:
        """Continues with another optimizer at that size. start: the picture to begin with,
        [1, H, W, 3]; None in the first stage."""
        if start is None:
            picture = self.picture
            state = optimizer.init(picture)
        else:
            picture = tf.constant(start)
            state = optimizer.rescale(self._state, picture)
        # only now, so that a failure above leaves the descent unchanged
        self.picture, self._state, self.stage = picture, state, stage
        self._optimizer, self.best = optimizer, None
        self._taken, self._patience = 0, _Patience(self._settings.patience)

    def state(self) -> State:
        """Everything that `restored` needs to continue from here, as named tensors. Raises
        `UserError` if a step failed after it had begun to change them."""
        if self._state is None:
            raise UserError(
                "the step that failed had begun to change the state, which is not saved"
            )
        best = self.best
        if best is None:  # in a stage before its first step: any loss is lower
            best = Scored(self.picture, dict.fromkeys(LOSSES, tf.constant(np.inf)))
        numbers = {
            "iterations": self._iteration,
            "evaluations": self._evaluations,
            "taken": self._taken,
            "seconds": self.seconds,
            "patience": [self._patience.lowest, self._patience.waited],
        }
        return {
            "picture": self.picture,
            "best/picture": best.picture,
            **under("best/", best.losses),
            **under("optimizer/", self._state),
            **{name: tf.constant(number, tf.float64) for name, number in numbers.items()},
        }

    @classmethod
    def restored(
        cls, state: Mapping[str, Any], optimizer: Optimizer, settings: Settings
    ) -> "Descent":
        """A descent that continues from a `state`, with that optimizer. Raises `UsageError` for a
        state of another optimizer."""
        descent = cls(tf.convert_to_tensor(state["picture"]), settings)
        best, own = (_tensors(within(part, state)) for part in ("best/", "optimizer/"))
        descent.best = Scored(best.pop("picture"), best)
        descent._optimizer, descent._state = optimizer, own
        if _specs(own) != _specs(optimizer.init(descent.picture)):
            raise UsageError(f"the state to resume is not of optimizer {settings.optimizer}")
        if _specs(best) != _specs(dict.fromkeys(LOSSES, tf.constant(np.inf))):
            raise UsageError("the state to resume lacks the losses of its best picture")
        descent._iteration = int(state["iterations"])
        descent._evaluations = int(state["evaluations"])
        descent._taken = int(state["taken"])
        descent.seconds = float(state["seconds"])
        lowest, waited = map(float, state["patience"])
        descent._patience.lowest, descent._patience.waited = lowest, int(waited)
        descent._began = time.monotonic() - descent.seconds
        return descent

    def release(self) -> None:
        """Releases all pictures, and with them the state."""
        self.picture = self.best = self._state = None  # type: ignore[assignment]

    @property
    def visible(self) -> tf.Tensor:
        """The current picture, within its frame."""
        return self.frame.picture(self.picture)

    def steps(
        self, objective: Objective, stage: Stage, frame: Frame = NO_FRAME
    ) -> Iterator[tuple[int, Scored]]:
        """Takes the remaining steps of a stage. Yields after each its number and the picture that
        it started from. At the end `best` is the best of all pictures, including the last. Pictures
        include the stage's bleed, but not the frame in which the objective sees them.

        Raises `NotFiniteError` if a loss is not finite and the optimizer does not recover.
        """
        self.frame, self.stage = frame, stage
        while self._taken < stage.iterations and not self.is_over and not self._patience.is_over:
            scored, moved, state = self._with_room(objective, lambda: self._step(objective))
            number = self._iteration
            self._keep(scored, check=number % CHECK_EVERY == 0)
            self._patience.see(scored)
            self.picture, self._state = moved, state
            self._iteration, self._taken = number + 1, self._taken + 1
            self.seconds = time.monotonic() - self._began
            yield number, scored
        losses = self._with_room(objective, lambda: objective(self.visible).losses)
        self._keep(Scored(self.picture, losses), check=True)
        self.seconds = time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """Whether a limit of the whole run has been reached."""
        evaluations, seconds = self._settings.max_evaluations, self._settings.max_seconds
        return (evaluations is not None and self._evaluations >= evaluations) or (
            seconds is not None and self.seconds >= seconds
        )

    def spare_bytes(self) -> int:
        """Bytes of memory that the optimizer holds and could give up."""
        if isinstance(self._optimizer, ShorterWhenFull) and self._state is not None:
            return self._optimizer.spare_bytes(self._state)
        return 0

    def _with_room(self, objective: Objective, call: Callable[[], Any]) -> Any:
        """What the call returns. When memory runs out, the history of L-BFGS becomes shorter, or
        the tiles smaller, and it is called again."""
        while True:
            try:
                return call()
            except Exception as error:
                if not memory.ran_out(error) or not isinstance(objective, SmallerWhenFull):
                    raise
            self._make_room(objective)  # here, where nothing holds the tensors of the error

    def _make_room(self, objective: Any) -> None:
        """Gives up what takes most memory. Raises `UserError` if nothing is left to give up."""
        if self._state is None:  # an update failed halfway, of a picture too large to keep the old
            LOGGER.warning("out of memory: the optimizer starts again from the picture as it is")
            self._state = self._optimizer.init(self.picture)
        if isinstance(self._optimizer, ShorterWhenFull) and objective.is_least:
            self._state = self._optimizer.shortened(self._state, self.picture)
        else:
            objective.make_room()

    def _step(self, objective: Objective) -> tuple[Scored, tf.Tensor, State]:
        """The current picture with its losses, the next picture, and the next state. The old state
        of a large picture is released while the new one is made. If the evaluation fails, as most
        failures do, the descent is unchanged."""
        before = self._evaluations
        is_small = self.picture.shape.num_elements() < KEPT_VALUES or all(
            tensor.shape.rank == 0 for tensor in self._state.values()
        )
        small = self._state if is_small else None

        def counted(picture: tf.Tensor) -> Evaluation:
            evaluation = objective(self.frame.picture(picture))
            self._evaluations += 1
            self._state = None  # type: ignore[assignment]  # from here on only the optimizer holds it
            return evaluation._replace(gradient=self.frame.gradient(evaluation.gradient, picture))

        try:
            moved, state, evaluation = self._optimizer.step(counted, self.picture, self._state)
        except BaseException:
            self._evaluations = before
            self._state = self._state or small  # type: ignore[assignment]
            raise
        return Scored(self.picture, evaluation.losses), moved, state

    def _keep(self, scored: Scored, check: bool) -> None:
        """Keeps the picture if it is the best so far. check: whether its losses have to be
        finite."""
        self.best = scored if self.best is None else _better(self.best, scored)
        if check:
            self._check_finite(self.best if self._optimizer.recovers else scored)

    def _check_finite(self, scored: Scored) -> None:
        settings, best, stage = self._settings, self.best, self.stage
        assert best is not None and stage is not None  # a picture has been scored
        broken = [name for name, loss in scored.losses.items() if not np.isfinite(float(loss))]
        if not broken:
            return
        weights = settings.weights_by_loss()
        lower: list[str] = []
        for loss in [name for name in broken if name != "total"] or weights:
            name, value = weights[loss]
            lower += [" or "] * bool(lower)
            lower += [SettingName(name), f" (now {value:g})"]
        visible = self.frame.picture(best.picture)
        image = stage.image(visible) if np.isfinite(float(best.losses["total"])) else None
        raise NotFiniteError(
            f"the loss became infinite or not a number after {self._iteration} steps: lower ",
            *lower,
            image=image,
        )


class _Patience:
    """Ends a stage whose loss has not fallen for `steps` steps; None for never."""

    def __init__(self, steps: int | None):
        self._steps, self.lowest, self.waited = steps, np.inf, 0

    def see(self, scored: Scored) -> None:
        if self._steps is None:
            return
        total = float(scored.losses["total"])
        self.waited = 0 if total < self.lowest else self.waited + 1
        self.lowest = min(total, self.lowest)

    @property
    def is_over(self) -> bool:
        return self._steps is not None and self.waited >= self._steps


def _specs(state: State) -> dict[str, tuple]:
    """The type and shape of each tensor, by name."""
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}


def _tensors(state: Mapping[str, Any]) -> State:
    return {name: tf.convert_to_tensor(value) for name, value in state.items()}


def _better(best: Scored, scored: Scored) -> Scored:
    """The one with the lower loss. NaN is never chosen."""
    try:
        return _lower(best, scored)
    except Exception as error:
        if not memory.ran_out(error):
            raise
    return scored if float(scored.losses["total"]) < float(best.losses["total"]) else best


def _lower(best: Scored, scored: Scored) -> Scored:
    """The one with the lower loss, chosen on the device. NaN is never chosen. A GPU copies the
    picture rather than wait for the host to decide, unless the picture is large."""
    if device.is_gpu() and scored.picture.shape.num_elements() < graphs.LARGE_PICTURE:
        return _selected(best, scored)
    return _taken(best, scored)


@tf.function(autograph=False)
def _taken(best: Scored, scored: Scored) -> Scored:
    return tf.cond(_is_lower(scored, best), lambda: scored, lambda: best)


@compilation.compiled
def _selected(best: Scored, scored: Scored) -> Scored:
    is_lower = _is_lower(scored, best)
    return tf.nest.map_structure(lambda new, old: tf.where(is_lower, new, old), scored, best)


def _is_lower(left: Scored, right: Scored) -> tf.Tensor:
    return left.losses["total"] < right.losses["total"]


def resized(picture: tf.Tensor, height: int, width: int, wraps: bool = False) -> tf.Tensor:
    """The picture [1, H, W, 3] at a larger size, within 0..255: bicubic, Keys 1981, "Cubic
    Convolution Interpolation for Digital Image Processing". wraps: whether its opposite edges meet.
    On the processor if the GPU's memory does not suffice."""
    if tuple(picture.shape[1:3]) == (height, width):
        return picture
    message = "out of memory: the picture is enlarged on the processor"
    return on_processor_if_full(lambda: _enlarged(picture, height, width, wraps), message)


def on_processor_if_full(call: Callable[[], Any], message: str | None = None) -> Any:
    """What the call returns; on the processor if the GPU's memory does not suffice, which is then
    logged if there is a message."""
    try:
        return call()
    except Exception as error:
        if not memory.ran_out(error):
            raise
    if message:
        LOGGER.warning(message)
    with tf.device("CPU:0"):
        return call()


def _enlarged(picture: tf.Tensor, height: int, width: int, wraps: bool) -> tf.Tensor:
    edges = [(0, 0), (0, 0)]
    if wraps:
        sizes = zip(picture.shape[1:3], (height, width), strict=True)
        edges = [resampling.wrapped_edge(*lengths) for lengths in sizes]
        for axis, (edge, _) in enumerate(edges, 1):
            length = picture.shape[axis]
            indices = np.arange(-edge, length + edge) % length
            picture = tf.gather(picture, indices, axis=axis)
    (_, rows), (_, columns) = edges
    size = height + 2 * rows, width + 2 * columns
    larger = tf.image.resize(picture, size, "bicubic")
    larger = larger[:, rows : rows + height, columns : columns + width]
    return tf.clip_by_value(larger, 0.0, 255.0)
