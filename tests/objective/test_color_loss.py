"""Colors: the distance of two distributions of colours, against NumPy and GradientTape."""

import numpy as np
import pytest
import tensorflow as tf

from neural_style_tf.objective import colors
from neural_style_tf.objective.colors import DIRECTIONS, HARMONICS


def by_numpy(picture, target):
    """The distance from the definition, for pictures whose sides are even."""
    distances = []
    for direction in DIRECTIONS.T:
        ours, theirs = (halved(values) @ direction for values in (picture, target))
        for order in range(1, HARMONICS + 1):
            gap = np.exp(1j * order * ours).mean() - np.exp(1j * order * theirs).mean()
            distances.append(abs(gap) ** 2 / order**2)
    return sum(distances) / DIRECTIONS.shape[1]


def halved(picture):
    height, width, _ = picture.shape
    return picture.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3)).reshape(-1, 3)


def distance(picture, target):
    """Of two pictures [H, W, 3]."""
    ours = colors.measured(colors.at_positions(tf.constant(picture[np.newaxis])))
    return float(colors.distance(ours, colors.measured_painting(target[np.newaxis], None)))


def test_the_distance_is_that_of_the_definition(picture):
    ours, theirs = picture(30, 24, seed=1), picture(20, 44, seed=2) * 0.7
    np.testing.assert_allclose(distance(ours, theirs), by_numpy(ours, theirs), rtol=1e-4)


def test_where_colors_are_does_not_count(picture):
    ours = picture(30, 24, seed=1)
    turned = np.ascontiguousarray(np.rot90(ours)[::-1])
    assert distance(ours, turned) < 1e-10
    assert distance(ours, ours * 0.9) > 1e-4


def test_the_directions_are_those_of_a_cube():
    lengths = np.linalg.norm(DIRECTIONS, axis=0) * 255 / np.pi
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)
    cosines = np.abs(DIRECTIONS.T @ DIRECTIONS) * (255 / np.pi) ** 2
    assert DIRECTIONS.shape == (3, 13)
    assert (cosines - np.eye(13)).max() < 0.99  # none twice, or back


@pytest.mark.parametrize("size", [(30, 24), (31, 25), (1, 3)], ids=str)
@pytest.mark.parametrize("is_masked", [False, True])
def test_the_gradient_is_gradient_tapes(picture, size, is_masked):
    ours = tf.constant(picture(*size, seed=1)[np.newaxis])
    target = colors.measured_painting(picture(40, 20, seed=2)[np.newaxis], None)
    weights = None
    if is_masked:
        shape = colors.at_positions(ours).shape[:3]
        weights = tf.constant(np.random.default_rng(0).random(shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        loss = colors.distance(colors.measured(colors.at_positions(ours), weights), target)
    expected = tape.gradient(loss, ours).numpy()
    at_positions = colors.at_positions(ours)
    measured = colors.measured(at_positions, weights)
    with tf.GradientTape() as tape:
        tape.watch(measured)
        loss = colors.distance(measured, target)
    slope = tape.gradient(loss, measured, unconnected_gradients="zero")
    gradient = colors.gradient(at_positions, slope, weights)
    result = colors.from_positions(gradient, ours.shape).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


def test_a_painting_is_measured_where_it_is_learnt(picture):
    whole = picture(600, 20, seed=2)  # several bands
    source = np.zeros((1, 600, 20, 1), np.float32)
    source[:, 100:430] = 1
    part = colors.measured_painting(whole[np.newaxis], source)
    alone = colors.measured_painting(whole[np.newaxis, 100:430], None)
    np.testing.assert_allclose(part.waves, alone.waves, atol=1e-5)


def test_several_paintings_share_the_colors():
    red, blue = (np.full((1, 8, 8, 3), color, np.float32) for color in ((255, 0, 0), (0, 0, 255)))
    both = np.concatenate([red, red, red, blue], 1)  # three parts of red
    each = [colors.measured_painting(painting, None) for painting in (red, blue)]
    expected = colors.measured_painting(both, None).waves
    np.testing.assert_allclose(colors.mixed(each, [0.75, 0.25]).waves, expected, atol=1e-6)
