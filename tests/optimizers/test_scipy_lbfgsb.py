"""A round of SciPy's L-BFGS-B."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from landscapes import counting, descend, rosenbrock

from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.optimizers.scipy_lbfgsb import LBFGSB


@pytest.mark.parametrize("bounds", [True, False])
def test_a_round_of_lbfgsb_is_scipys_own(start, bounds):
    objective, asked = counting(rosenbrock)
    (_, made), state, (evaluation,) = descend(LBFGSB(12, bounds), objective, start, 1)

    def flat(vector):
        evaluation = rosenbrock(tf.constant(vector.reshape(start.shape), tf.float32))
        return float(evaluation.losses["total"]), evaluation.gradient.numpy().ravel().astype("f8")

    limits = [(0, 255)] * start.size if bounds else None
    expected, loss, details = scipy.optimize.fmin_l_bfgs_b(flat, start, bounds=limits, maxfun=12)
    np.testing.assert_array_equal(made, expected.reshape(start.shape).astype("f4"))
    np.testing.assert_array_equal(asked[0], start)
    assert evaluation.losses["total"] == rosenbrock(tf.constant(start)).losses["total"]
    assert 12 < len(asked) == details["funcalls"] < 12 + 20  # a line search has at most 20
    assert loss < evaluation.losses["total"] and state["rounds"] == 1


def test_lbfgsb_scores_a_picture_out_of_bounds_as_it_was_given(start):
    start[0, 0, 0, 0] = 300
    (_, made), _, (evaluation,) = descend(LBFGSB(), rosenbrock, start, 1)
    assert evaluation.losses["total"] == rosenbrock(tf.constant(start)).losses["total"]
    assert np.max(made) <= 255


@pytest.mark.parametrize("sound", [0, 1, 5])
def test_lbfgsb_ends_a_round_at_the_best_when_the_loss_breaks(start, sound):
    def breaks(picture):
        gradient, losses = rosenbrock(picture)
        broken = len(asked) > sound
        return Evaluation(gradient, {"total": losses["total"] * (np.nan if broken else 1)})

    objective, asked = counting(breaks)
    (_, made), _, _ = descend(LBFGSB(), objective, start, 1)
    losses = [rosenbrock(tf.constant(picture)).losses["total"] for picture in asked[:sound]]
    best = asked[np.argmin(losses)] if losses else start
    np.testing.assert_array_equal(made, best)
    assert len(asked) == sound + 1
