"""Objectives with known minima, and the descent of an optimizer on them."""

import numpy as np
import tensorflow as tf

from neural_style_tf.objective.evaluation import Evaluation


def valley(target):
    """Half the squared distance to a target."""

    def objective(picture):
        gradient = picture - target
        return Evaluation(gradient, {"total": tf.reduce_sum(gradient**2) / 2})

    return objective


def quadratic(solution, condition, seed=0):
    """A dense bowl: its gradient in float64 NumPy, and the objective. `solution`: [1, H, W, 3]."""
    size = solution.size
    axes, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    hessian = axes * np.geomspace(1, condition, size) @ axes.T

    def slope(picture):
        return hessian @ (picture - solution).ravel()

    matrix, lowest = tf.constant(hessian, tf.float32), tf.constant(solution, tf.float32)

    @tf.function(autograph=False)
    def objective(picture):
        away = tf.reshape(picture - lowest, [-1, 1])
        gradient = matrix @ away
        loss = tf.reduce_sum(away * gradient) / 2
        return Evaluation(tf.reshape(gradient, picture.shape), {"total": loss})

    return slope, objective


@tf.function(autograph=False)
def rosenbrock(picture):
    """Sum of Rosenbrock's valleys: each two values a point, 128 its origin and 30 its unit."""
    with tf.GradientTape() as tape:
        tape.watch(picture)
        points = (tf.reshape(picture, [-1, 2]) - 128) / 30
        x, y = points[:, 0], points[:, 1]
        loss = tf.reduce_sum(100 * (y - x**2) ** 2 + (1 - x) ** 2)
    return Evaluation(tape.gradient(loss, picture), {"total": loss})


def counting(objective):
    """The objective, and the list of the pictures that it is asked about."""
    asked = []

    def counted(picture):
        asked.append(picture.numpy())
        return objective(picture)

    return counted, asked


def descend(optimizer, objective, picture, steps, state=None):
    """Pictures after every step (and before the first), the state, the evaluations."""
    pictures, evaluations = [tf.constant(picture, tf.float32)], []
    state = optimizer.init(pictures[0]) if state is None else state
    for _ in range(steps):
        made, state, evaluation = optimizer.step(objective, pictures[-1], state)
        pictures.append(made)
        evaluations.append(evaluation)
    return pictures, state, evaluations
