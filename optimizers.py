"""Optimizers: a picture and its objective -> a better picture. Their state is named tensors."""

import math
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from objective import Evaluation, Objective

State = dict[str, tf.Tensor]


class Optimizer(Protocol):
    """What `stylize` asks of an optimizer. Pictures are [1, H, W, 3] float32 RGB, 0..255."""

    def init(self, picture: tf.Tensor) -> State:
        """The state before the first step."""

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        """The next picture and state, and the evaluation of the picture that was given."""


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1); every step ends within the valid range.

    A file clips the picture when it is saved: what was not clipped on the way is worse then
    than what was.
    """

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    schedule: str  # of the learning rate: constant or cosine
    total: int  # steps

    def init(self, picture: tf.Tensor) -> State:
        return {
            "steps": tf.zeros((), tf.float32),
            "first": tf.zeros_like(picture),
            "second": tf.zeros_like(picture),
        }

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        evaluation = objective(picture)
        picture, state = self._update(picture, evaluation.gradient, state)
        return picture, state, evaluation

    @tf.function
    def _update(
        self, picture: tf.Tensor, gradient: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State]:
        steps = state["steps"] + 1
        first = self.beta1 * state["first"] + (1 - self.beta1) * gradient
        second = self.beta2 * state["second"] + (1 - self.beta2) * tf.square(gradient)
        mean = first / (1 - self.beta1**steps)
        deviation = tf.sqrt(second / (1 - self.beta2**steps))
        picture = picture - self._rate(steps) * mean / (deviation + self.eps)
        picture = tf.clip_by_value(picture, 0.0, 255.0)
        return picture, {"steps": steps, "first": first, "second": second}

    def _rate(self, steps: tf.Tensor) -> tf.Tensor | float:
        """The learning rate of a step, numbered from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        done = (steps - 1) / self.total
        # Loshchilov and Hutter 2017 eq. 5, one period that ends at 0
        return self.learning_rate * 0.5 * (1 + tf.cos(math.pi * done))
