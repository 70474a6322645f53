"""Adam against plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from landscapes import valley

from neural_style_tf.optimizers.adam import Adam


def adam_in_numpy(picture, target, steps, learning_rate, beta1, beta2, eps, schedule):
    """Kingma and Ba 2015, algorithm 1, with every step clipped to 0..255."""
    first = second = np.zeros_like(picture)
    for step in range(1, steps + 1):
        gradient = picture - target
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        mean, variance = first / (1 - beta1**step), second / (1 - beta2**step)
        share = {
            "constant": 1,
            "cosine": 0.5 * (1 + np.cos(np.pi * (step - 1) / steps)),
            "step": 0.5 ** ((step - 1) // 4),
        }
        rate = learning_rate * share[schedule]
        picture = np.clip(picture - rate * mean / (np.sqrt(variance) + eps), 0, 255)
    return picture


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_adam_equals_the_published_algorithm(schedule):
    random = np.random.default_rng(0)
    start = random.uniform(0, 255, (1, 5, 7, 3))
    target = random.uniform(-50, 300, start.shape)
    adam = Adam(7, 0.8, 0.95, 1e-3, schedule, total=25, decay_every=4, decay_factor=0.5)
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


def test_adam_starts_again_at_a_size_that_its_moments_do_not_fit(monkeypatch, caplog):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    adam = Adam(1.0, 0.9, 0.99, 1e-8, "constant", 10)
    small, large = tf.zeros([1, 8, 9, 3]), tf.zeros([1, 16, 18, 3])
    _, state, _ = adam.step(valley(50.0), small, adam.init(small))
    monkeypatch.setattr(tf.image, "resize", full)
    state = adam.rescale(state, large)
    assert state["first"].shape == large.shape and not np.any(state["first"])
    assert "Adam starts again without its moments" in caplog.text


def test_the_state_is_named_tensors_and_steps_leave_their_arguments_alone():
    adam = Adam(10, 0.9, 0.999, 1e-8, "constant", total=1)
    picture = tf.constant(np.full((1, 3, 4, 3), 99, "f4"))
    state = adam.init(picture)
    assert set(state) == {"steps", "averaged", "first", "second"}
    _, after, _ = adam.step(valley(0.0), picture, state)
    assert state["steps"] == 0 and after["steps"] == 1
    assert tf.reduce_all(picture == 99) and tf.reduce_all(state["first"] == 0)
