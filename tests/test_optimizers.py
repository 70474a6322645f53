"""Adam against plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from objective import Evaluation
from optimizers import Adam


def valley(target):
    """Half the squared distance to a target."""

    def objective(picture):
        gradient = picture - target
        return Evaluation(gradient, {"total": tf.reduce_sum(gradient**2) / 2})

    return objective


def adam_in_numpy(picture, target, steps, learning_rate, beta1, beta2, eps, schedule):
    """Kingma and Ba 2015, algorithm 1, with every step clipped to 0..255."""
    first = second = np.zeros_like(picture)
    for step in range(1, steps + 1):
        gradient = picture - target
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        mean, variance = first / (1 - beta1**step), second / (1 - beta2**step)
        cosine = 0.5 * (1 + np.cos(np.pi * (step - 1) / steps))
        rate = learning_rate * (cosine if schedule == "cosine" else 1)
        picture = np.clip(picture - rate * mean / (np.sqrt(variance) + eps), 0, 255)
    return picture


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_adam_equals_the_published_algorithm(schedule):
    random = np.random.default_rng(0)
    start = random.uniform(0, 255, (1, 5, 7, 3))
    target = random.uniform(-50, 300, start.shape)
    adam = Adam(7, beta1=0.8, beta2=0.95, eps=1e-3, schedule=schedule, total=25)
    picture = tf.constant(start, tf.float32)
    state = adam.init(picture)
    for _ in range(25):
        before = picture
        objective = valley(tf.constant(target, tf.float32))
        picture, state, evaluation = adam.step(objective, picture, state)
        np.testing.assert_allclose(evaluation.gradient, before - target, atol=1e-3)
    expected = adam_in_numpy(start, target, 25, 7, 0.8, 0.95, 1e-3, schedule)
    np.testing.assert_allclose(picture, expected, atol=1e-2)
    assert tf.reduce_min(picture) == 0 and tf.reduce_max(picture) == 255


def test_the_state_is_named_tensors_and_steps_leave_their_arguments_alone():
    adam = Adam(10, 0.9, 0.999, 1e-8, "constant", total=1)
    picture = tf.constant(np.full((1, 3, 4, 3), 99, "f4"))
    state = adam.init(picture)
    assert set(state) == {"steps", "first", "second"}
    _, after, _ = adam.step(valley(0.0), picture, state)
    assert state["steps"] == 0 and after["steps"] == 1
    assert tf.reduce_all(picture == 99) and tf.reduce_all(state["first"] == 0)
