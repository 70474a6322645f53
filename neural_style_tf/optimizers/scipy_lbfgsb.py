"""SciPy's L-BFGS-B: a round of evaluations -> a better picture."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.optimizers.base import State


@dataclass(frozen=True)
class LBFGSB:
    """SciPy's L-BFGS-B (Zhu et al. 1997): one step is one round of evaluations.

    Each round begins without history, as in the published programs. These do not clip pixels until
    the end: `bounds=False` does the same. SciPy counts evaluations between iterations only, so a
    round may exceed its evaluations by a line search.
    """

    recovers: ClassVar[bool] = True

    evaluations: int = 20  # per round
    bounds: bool = True
    low: float = 0.0
    high: float = 255.0

    def init(self, picture: tf.Tensor) -> State:
        return {"rounds": tf.zeros((), tf.int32)}

    def rescale(self, state: State, picture: tf.Tensor) -> State:
        return state

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        import scipy.optimize  # late: other optimizers do not need it

        evaluations = _Round(objective, picture)
        bounds = scipy.optimize.Bounds(self.low, self.high) if self.bounds else None
        options = {"maxfun": self.evaluations}
        try:
            vector = scipy.optimize.minimize(
                evaluations,
                evaluations.best,
                jac=True,
                method="L-BFGS-B",
                bounds=bounds,
                options=options,
            ).x
        except _NotFiniteError:
            vector = evaluations.best
        if self.bounds:
            vector = np.clip(vector, self.low, self.high)
        moved = tf.constant(vector.reshape(picture.shape).astype(np.float32))
        return moved, {"rounds": state["rounds"] + 1}, evaluations.first


class _Round:
    """An objective in SciPy's terms: vector [H*W*3] float64 -> loss and gradient of the same shape.

    Holds the evaluation of the picture that the round began with, and the best vector so far.
    """

    def __init__(self, objective: Objective, picture: tf.Tensor):
        self.first = objective(picture)
        self.best = _vector(picture)
        self._best_loss = math.inf
        self._objective = objective
        self._shape = picture.shape
        self._start = self.best

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        evaluation = self._evaluate(vector)
        loss, gradient = float(evaluation.losses["total"]), _vector(evaluation.gradient)
        if not (math.isfinite(loss) and np.isfinite(gradient).all()):
            raise _NotFiniteError
        if loss < self._best_loss:
            self.best, self._best_loss = vector.copy(), loss
        return loss, gradient

    def _evaluate(self, vector: np.ndarray) -> Evaluation:
        if np.array_equal(vector, self._start):
            return self.first
        return self._objective(tf.constant(vector.reshape(self._shape).astype(np.float32)))


class _NotFiniteError(Exception):
    """The loss or gradient is not finite: SciPy could not continue."""


def _vector(picture: tf.Tensor) -> np.ndarray:
    return np.asarray(picture, np.float64).ravel()
