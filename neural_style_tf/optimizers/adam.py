"""Adam: moments of the gradient -> steps of about equal length."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from neural_style_tf.machine import compilation, memory
from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.network import device
from neural_style_tf.objective import graphs
from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.optimizers.base import State

# At a new size the moments count as if averaged over this many gradients: few, so that those of
# the new size soon outweigh them.
CARRIED_STEPS = 10.0


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1). With `clip` every step ends within the valid range.

    Saving a picture clips it. Clipping only then gives a worse picture than clipping on the way.
    """

    recovers: ClassVar[bool] = False

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    schedule: str  # of the learning rate: "constant", "cosine" or "step"
    total: int  # steps; for the schedule "cosine"
    decay_every: int = 1  # steps; for the schedule "step", like the factor
    decay_factor: float = 1.0
    clip: bool = True

    def init(self, picture: tf.Tensor) -> State:
        return {
            "steps": tf.zeros((), tf.float32),  # of the schedule
            "averaged": tf.zeros((), tf.float32),  # gradients in the moments
            "first": tf.zeros_like(picture),
            "second": tf.zeros_like(picture),
        }

    def rescale(self, state: State, picture: tf.Tensor) -> State:
        """Resizes the moments to the picture, as if averaged over at most `CARRIED_STEPS`, and
        starts the schedule again. If memory does not suffice, the moments start again, too."""
        try:
            return self._rescaled(state, picture)
        except Exception as error:
            if not memory.ran_out(error):
                raise
            LOGGER.warning(
                "out of memory: Adam starts again without its moments of the smaller size"
            )
        return self.init(picture)

    def _rescaled(self, state: State, picture: tf.Tensor) -> State:
        size, averaged = picture.shape[1:3], state["averaged"]
        carried = tf.minimum(averaged, CARRIED_STEPS)
        first = tf.image.resize(state["first"], size, "bicubic")
        second = tf.nn.relu(tf.image.resize(state["second"], size, "bilinear"))
        return {
            "steps": tf.zeros((), tf.float32),
            "averaged": carried,
            "first": first * (1 - self.beta1**carried) / (1 - self.beta1**averaged),
            "second": second * (1 - self.beta2**carried) / (1 - self.beta2**averaged),
        }

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        evaluation, state = objective(picture), dict(state)
        if device.is_gpu() and picture.shape.num_elements() < graphs.LARGE_PICTURE:
            picture, state = self._graph(self._updated, picture.shape)(
                picture, evaluation.gradient, state
            )
            return picture, state, evaluation
        # each old moment is released as soon as the new one exists: pictures may be large
        first, second, moved = (  # compiled, or there are temporary pictures
            self._graph(method, picture.shape)
            for method in (self._first, self._second, self._moved)
        )
        state["first"] = first(state.pop("first"), evaluation.gradient)
        state["second"] = second(state.pop("second"), evaluation.gradient)
        state["steps"] += 1
        state["averaged"] += 1
        return moved(picture, state), state, evaluation

    def _graph(self, method: Callable, shape: tf.TensorShape) -> Callable:
        """The compiled graph of a method for pictures of `shape`; equal optimizers share it."""
        return graphs.get(
            Adam,
            (method.__name__, self),
            shape,
            lambda: compilation.compiled(method),
        )

    def _updated(
        self, picture: tf.Tensor, gradient: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State]:
        """The next picture and state, in one pass."""
        state = {
            "steps": state["steps"] + 1,
            "averaged": state["averaged"] + 1,
            "first": self._first(state["first"], gradient),
            "second": self._second(state["second"], gradient),
        }
        return self._moved(picture, state), state

    def _first(self, first: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        return self.beta1 * first + (1 - self.beta1) * gradient

    def _second(self, second: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        return self.beta2 * second + (1 - self.beta2) * tf.square(gradient)

    def _moved(self, picture: tf.Tensor, state: State) -> tf.Tensor:
        mean = state["first"] / (1 - self.beta1 ** state["averaged"])
        deviation = tf.sqrt(state["second"] / (1 - self.beta2 ** state["averaged"]))
        picture = picture - self._rate(state["steps"]) * mean / (deviation + self.eps)
        return tf.clip_by_value(picture, 0.0, 255.0) if self.clip else picture

    def _rate(self, steps: tf.Tensor) -> tf.Tensor | float:
        """The learning rate of a step, numbered from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "step":
            return self.learning_rate * self.decay_factor ** ((steps - 1) // self.decay_every)
        done = (steps - 1) / self.total
        # Loshchilov and Hutter 2017, "SGDR", eq. 5: one period, ending at 0
        return self.learning_rate * 0.5 * (1 + tf.cos(math.pi * done))
