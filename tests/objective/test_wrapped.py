"""The objective of pictures whose opposite edges meet: the same wherever the picture begins, and in
tiles."""

import numpy as np
import pytest
import tensorflow as tf
from variants import apart, untraced

from neural_style_tf.objective import memory
from neural_style_tf.objective.objective import make_objective, measure_targets
from neural_style_tf.objective.tiles import Grid, Tile
from neural_style_tf.optimizers.lbfgs import LBFGS
from neural_style_tf.settings import Settings

ROLLED = (16, 32)  # pixels, multiples of the stride of the deepest layer


def rolled(picture):
    return np.roll(picture, ROLLED, (1, 2))


def evaluate(network, content, style, ours, settings):
    content, style = tf.constant(content), tf.constant(style)
    targets = measure_targets(network, content, [style], settings)
    return make_objective(network, targets, settings)(tf.constant(ours))


@pytest.mark.parametrize(
    "options",
    [{"style_loss": "mean"}, {"pooling": "max", "tv_loss": "power"}, {"pooling": "l2"}],
    ids=str,
)
def test_wherever_a_picture_begins_its_objective_is_the_same(network, picture, options):
    settings = Settings(**{"style_loss": "moments", "padding": "wrap", **options})
    content, style, ours = (picture(48, 64, seed=seed)[np.newaxis] for seed in range(3))
    with untraced():
        expected, evaluation = (
            evaluate(network, move(content), style, move(ours), settings)
            for move in (np.asarray, rolled)
        )
    for name, loss in expected.losses.items():
        np.testing.assert_allclose(evaluation.losses[name], loss, rtol=1e-5)
    assert apart(evaluation.gradient.numpy(), rolled(expected.gradient.numpy())) < 1e-5


def test_wherever_a_picture_begins_lbfgs_takes_the_same_steps(shallow, picture):
    settings, optimizer = Settings(style_loss="moments", padding="wrap", content_weight=0), LBFGS()
    style, ours = (picture(48, 64, seed=seed)[np.newaxis] for seed in range(2))
    targets = measure_targets(shallow, tf.constant(ours), [tf.constant(style)], settings)
    objective = make_objective(shallow, targets, settings)
    ends = []
    for start in (ours, rolled(ours)):
        moving = tf.constant(start)
        state = optimizer.init(moving)
        for _ in range(5):
            moving, state, _ = optimizer.step(objective, moving, state)
        ends.append(moving.numpy())
    assert np.abs(ends[0] - ours).mean() > 5
    np.testing.assert_allclose(ends[1], rolled(ends[0]), atol=0.05)


def test_only_with_wrap(network, picture):
    settings = Settings(style_loss="moments", content_weight=0)
    style, ours = (picture(48, 64, seed=seed)[np.newaxis] for seed in range(2))
    with untraced():
        here, there = (
            evaluate(network, ours, style, move(ours), settings).losses["style"]
            for move in (np.asarray, rolled)
        )
    assert abs(float(here / there) - 1) > 0.01


@pytest.mark.parametrize(
    "options, size",
    [
        ({}, (160, 208)),
        ({"pooling": "max", "tv_loss": "power"}, (32, 16)),
        ({"style_loss": "neighbors"}, (64, 48)),
    ],
    ids=str,
)
def test_tiles_see_the_opposite_edges(shallow, network, picture, options, size):
    settings = Settings(**{"style_loss": "moments", "padding": "wrap", **options})
    network = network if settings.style_loss == "neighbors" else shallow
    content, style = picture(*size, seed=1)[np.newaxis], picture(70, 90, seed=2)[np.newaxis]
    noise = np.random.default_rng(0).normal(0, 5, content.shape)
    ours = tf.constant(picture(*size, seed=3)[np.newaxis] + noise, tf.float32)
    arguments = network, content, [style], settings, tf.float32
    with untraced():
        evaluate, losses = memory.make_objective(*arguments, None)
        expected, expected_losses = evaluate(ours), losses(ours)
    evaluate, losses = memory.make_objective(*arguments, 32)
    evaluation, exact = evaluate(ours), losses(ours)
    assert apart(evaluation.gradient.numpy(), expected.gradient.numpy()) < 1e-5
    for name, loss in expected.losses.items():
        np.testing.assert_allclose(evaluation.losses[name], loss, rtol=1e-5)
        np.testing.assert_allclose(exact[name], expected_losses[name], rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 48), (16, 320), (16, 16)], ids=str)
def test_insides_cover_the_picture_once_and_all_have_the_whole_margin(size):
    grid = Grid({"relu1_1": (1, 3), "relu3_1": (4, 14)}, 32, wraps=True)
    covered = np.zeros(size, int)
    for tile in grid.tiles(size):
        top, bottom, left, right = tile.inside
        covered[top:bottom, left:right] += 1
        assert tile.rows[0] <= top - grid.margin and bottom + grid.margin <= tile.rows[1]
        assert tile.columns[0] <= left - grid.margin and right + grid.margin <= tile.columns[1]
    assert (covered == 1).all()


def test_a_box_takes_the_opposite_edges_as_often_as_it_needs():
    picture = np.arange(12).reshape(1, 3, 4)
    box = Tile((-4, 5), (2, 6), (0, 3, 0, 4)).cut_out(picture)
    np.testing.assert_array_equal(box[0], np.tile(picture[0], (5, 3))[2:11, 6:10])
