"""Descent: objectives, an optimizer and a start -> step after step, and the best picture."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

import states
from masks import NO_FRAME, Frame
from objective import Evaluation, Objective
from optimizers import Optimizer, State
from settings import SettingName, Settings, UsageError, UserError
from stages import Stage

LOOK_EVERY = 10  # steps between two looks at whether the loss is still finite: a look waits


class Scored(NamedTuple):
    """A picture [1, H, W, 3] float32 RGB, 0..255, with its losses."""

    picture: tf.Tensor
    losses: dict[str, tf.Tensor]


class NotFiniteError(UserError):
    """The loss stopped being a number. `image` is the last good picture, or None."""

    def __init__(self, *parts: str, image: np.ndarray | None):
        super().__init__(*parts)
        self.image = image


class Descent:
    """A picture on its way down, stage after stage."""

    def __init__(self, picture: tf.Tensor, settings: Settings):
        self.picture = picture  # as it stands
        self.best: Scored | None = None  # of the stage: losses at another size say nothing here
        self.seconds = 0.0
        self.frame = NO_FRAME
        self._stage: Stage | None = None
        self._settings = settings
        self._optimizer: Optimizer | None = None
        self._state: State = {}
        self._iteration = self._evaluations = 0  # of the run
        self._taken = 0  # steps of the stage
        self._patience = _Patience(settings.patience)
        self._began = time.monotonic()

    def begin_stage(self, optimizer: Optimizer, stage: Stage) -> None:
        """Goes on with another optimizer at that size, from the best picture there is."""
        if self.best is None:
            self._state = optimizer.init(self.picture)
        else:
            self.picture = resized(self.best.picture, *stage.outer_size)
            self._state = optimizer.rescale(self._state, self.picture)
        self._optimizer, self.best = optimizer, None
        self._taken, self._patience = 0, _Patience(self._settings.patience)

    def state(self) -> State:
        """All that `restored` needs to go on from here, as named tensors."""
        numbers = {
            "iterations": self._iteration,
            "evaluations": self._evaluations,
            "taken": self._taken,
            "seconds": self.seconds,
            "patience": [self._patience.lowest, self._patience.waited],
        }
        return {
            "picture": self.picture,
            "best/picture": self.best.picture,
            **states.under("best/", self.best.losses),
            **states.under("optimizer/", self._state),
            **{name: tf.constant(number, tf.float64) for name, number in numbers.items()},
        }

    @classmethod
    def restored(
        cls, state: Mapping[str, ArrayLike], optimizer: Optimizer, settings: Settings
    ) -> "Descent":
        """A descent that goes on where `state` was taken, with that optimizer. Raises `UsageError`
        for a state of another optimizer."""
        descent = cls(tf.convert_to_tensor(state["picture"]), settings)
        best, own = (_tensors(states.within(part, state)) for part in ("best/", "optimizer/"))
        descent.best = Scored(best.pop("picture"), best)
        descent._optimizer, descent._state = optimizer, own
        if descent._state.keys() != optimizer.init(descent.picture).keys():
            raise UsageError(f"the state to resume is not of optimizer {settings.optimizer}")
        descent._iteration = int(state["iterations"])
        descent._evaluations = int(state["evaluations"])
        descent._taken = int(state["taken"])
        descent.seconds = float(state["seconds"])
        lowest, waited = map(float, state["patience"])
        descent._patience.lowest, descent._patience.waited = lowest, int(waited)
        descent._began = time.monotonic() - descent.seconds
        return descent

    def release(self) -> None:
        """Lets all pictures go; `state` is no more."""
        self.picture = self.best = None
        self._state = {}

    @property
    def seen(self) -> tf.Tensor:
        """The picture as it stands, within its frame."""
        return self.frame.picture(self.picture)

    def steps(
        self, objective: Objective, stage: Stage, frame: Frame = NO_FRAME
    ) -> Iterator[tuple[int, Scored]]:
        """What is left of a stage. After each step its number, and the picture it set out from;
        then `best` is the best of all, the last one among them. Pictures are without the frame that
        the objective sees them in, and with the stage's bleed.

        Raises `NotFiniteError` if a loss is no finite number, and the optimizer would not find
        back by itself.
        """

        self.frame, self._stage = frame, stage

        def counted(picture: tf.Tensor) -> Evaluation:
            self._evaluations += 1
            evaluation = objective(frame.picture(picture))
            return evaluation._replace(gradient=frame.gradient(evaluation.gradient))

        while self._taken < stage.iterations and not self.is_over and not self._patience.is_over:
            scored, self.picture = self._step(counted)
            number = self._iteration
            self._keep(scored, look=number % LOOK_EVERY == 0)
            self._patience.see(scored)
            self._iteration, self._taken = number + 1, self._taken + 1
            self.seconds = time.monotonic() - self._began
            yield number, scored
        self._keep(Scored(self.picture, objective(self.seen).losses), look=True)
        self.seconds = time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """Whether a limit of the whole run has been reached."""
        evaluations, seconds = self._settings.max_evaluations, self._settings.max_seconds
        return (evaluations is not None and self._evaluations >= evaluations) or (
            seconds is not None and self.seconds >= seconds
        )

    def _step(self, objective: Objective) -> tuple[Scored, tf.Tensor]:
        """The picture as it was, with its losses, and the next. Nothing else of the step is kept,
        not even the old state while the new is made: pictures may be large."""
        held = [self._state]
        self._state = {}
        made, self._state, evaluation = self._optimizer.step(objective, self.picture, held.pop())
        return Scored(self.picture, evaluation.losses), made

    def _keep(self, scored: Scored, look: bool) -> None:
        self.best = scored if self.best is None else _lower(self.best, scored)
        if look:
            self._check_finite(self.best if self._optimizer.recovers else scored)

    def _check_finite(self, scored: Scored) -> None:
        settings, best = self._settings, self.best
        broken = [name for name, loss in scored.losses.items() if not np.isfinite(float(loss))]
        if not broken:
            return
        weights = [f"{name}_weight" for name in broken if name != "total"]
        weights = weights or ["content_weight", "style_weight", "tv_weight"]
        lower: list[str] = []
        for name in weights:
            lower += [" or "] * bool(lower)
            lower += [SettingName(name), f" (now {getattr(settings, name):g})"]
        seen = self.frame.picture(best.picture)
        image = self._stage.image(seen) if np.isfinite(float(best.losses["total"])) else None
        raise NotFiniteError(
            f"the loss became infinite or not a number after {self._iteration} steps: lower ",
            *lower,
            image=image,
        )


class _Patience:
    """Ends a stage whose loss has not fallen for so many steps; None for never."""

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


def _tensors(state: Mapping[str, ArrayLike]) -> State:
    return {name: tf.convert_to_tensor(one) for name, one in state.items()}


@tf.function(autograph=False)
def _lower(best: Scored, other: Scored) -> Scored:
    """Whichever has the lower loss, chosen on the device, and not copied. A NaN never wins."""
    return tf.cond(other.losses["total"] < best.losses["total"], lambda: other, lambda: best)


def resized(picture: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The picture at a larger size (bicubic, Keys 1981), within 0..255."""
    if tuple(picture.shape[1:3]) == (height, width):
        return picture
    return tf.clip_by_value(tf.image.resize(picture, (height, width), "bicubic"), 0.0, 255.0)
