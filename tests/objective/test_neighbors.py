"""Neighbors: the loss and its gradient, against NumPy and GradientTape; whole and in tiles."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from variants import apart

from neural_style_tf.objective import memory, neighbors
from neural_style_tf.objective.matching import Matches
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import NEIGHBOR_LAYERS, Settings

SETTINGS = Settings(style_loss="neighbors")
SIZE = (75, 90)  # odd in places: 19 x 23, and neither are multiples of the poolings


def objective_of(network, picture, settings, dtype=tf.float32, tile=None, masks=None, size=SIZE):
    content, style = picture(*size, seed=1), picture(61, 50, seed=2)
    matches = Matches(picture(*size, seed=3)[np.newaxis])
    evaluate, losses = memory.make_objective(
        *(network, content[np.newaxis], [style[np.newaxis]], settings, dtype, tile),
        *(masks or Masks(), matches),
    )
    return evaluate, losses, matches


def columns(weights, picture):
    """The columns of a picture [rows * columns, channels] with NumPy alone, not yet scaled."""
    features = reference.features(weights, picture, pooling="avg", padding="replicate")
    height, width = (-(-side // 4) for side in picture.shape[:2])
    parts = []
    for name in NEIGHBOR_LAYERS:
        part = features[name]
        while part.shape[0] > height:
            part = reference.pool(part, "avg")
        if part.shape[0] < height:
            part = part.repeat(2, 0).repeat(2, 1)[:height, :width]
        parts.append(part.reshape(height * width, -1))
    return parts


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_the_nearest_columns_and_the_loss_are_those_of_brute_force(network, weights, picture):
    _, losses, matches = objective_of(network, picture, SETTINGS)
    ours = picture(*SIZE, seed=4)
    value = losses(tf.constant(ours[np.newaxis]))["style"]

    theirs = columns(weights, picture(61, 50, seed=2))
    scales = [1 / np.sqrt(np.square(part).sum(1).mean()) for part in theirs]
    scaled = lambda image: np.hstack(  # noqa: E731
        [part * scale for part, scale in zip(columns(weights, image), scales, strict=True)]
    )
    palette = scaled(picture(61, 50, seed=2))
    mean = palette.mean(0)
    queries = 0.5 * scaled(picture(*SIZE, seed=1)) + 0.5 * scaled(picture(*SIZE, seed=3))
    cosines = unit(queries - queries.mean(0)) @ unit(palette - mean).T
    chosen = cosines.argmax(1)
    # equally near, except for rounding
    best = np.take_along_axis(cosines, np.stack([chosen, matches.indices], 1), 1)
    np.testing.assert_allclose(best[:, 0], best[:, 1], atol=1e-5)
    assert (chosen == matches.indices).mean() > 0.99

    nearest = unit(palette - mean)[matches.indices]
    distance = 1 - (unit(scaled(ours) - mean) * nearest).sum(1)
    only = Settings(style_loss="neighbors", content_weight=0)
    moments = value / SETTINGS.style_weight / 600 - distance.mean()
    assert moments > 0
    # without smoothness and content the rest is that of the moments, whatever the neighbours
    other = Matches(indices=np.zeros_like(matches.indices))
    content, style = picture(*SIZE, seed=1), picture(61, 50, seed=2)
    _, all_first = memory.make_objective(
        network, content[np.newaxis], [style[np.newaxis]], only, tf.float32, None, matches=other
    )
    first = 1 - (unit(scaled(ours) - mean) * unit(palette - mean)[:1]).sum(1)
    expected = value + SETTINGS.style_weight * 600 * (first.mean() - distance.mean())
    np.testing.assert_allclose(
        all_first(tf.constant(ours[np.newaxis]))["style"], expected, rtol=1e-3
    )


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_the_gradient_is_gradient_tapes(network, picture, pooling):
    settings = Settings(style_loss="neighbors", pooling=pooling)
    evaluate, losses, _ = objective_of(network, picture, settings)
    ours = tf.constant(picture(*SIZE, seed=4)[np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(ours)
        total = losses(ours)["total"]
    evaluation = evaluate(ours)
    np.testing.assert_allclose(evaluation.losses["total"], total, rtol=1e-5)
    assert apart(evaluation.gradient.numpy(), tape.gradient(total, ours).numpy()) < 1e-4


@pytest.mark.parametrize("dtype, tolerance", [(tf.bfloat16, 0.25), (tf.float16, 0.1)], ids=str)
def test_low_precision_agrees(network, picture, dtype, tolerance):
    evaluate, _, matches = objective_of(network, picture, SETTINGS)
    ours = tf.constant(picture(*SIZE, seed=4)[np.newaxis])
    content, style = picture(*SIZE, seed=1), picture(61, 50, seed=2)
    low, _ = memory.make_objective(
        *(network, content[np.newaxis], [style[np.newaxis]], SETTINGS, dtype, None),
        matches=matches,
    )
    assert apart(low(ours).gradient.numpy(), evaluate(ours).gradient.numpy()) < tolerance


@pytest.mark.parametrize("has_mask", [False, True], ids=["everywhere", "in a region"])
def test_tiles_are_the_whole_picture(network, picture, has_mask):
    size, masks = (230, 170), Masks()
    if has_mask:
        regions = np.zeros((1, *size, 1), np.float32)
        regions[:, 40:190, 30:] = 1
        masks = Masks(regions)
    evaluations, indices = [], []
    ours = tf.constant(picture(*size, seed=4)[np.newaxis])
    for tile in (None, 64):
        evaluate, losses, matches = objective_of(
            network, picture, SETTINGS, tile=tile, masks=masks, size=size
        )
        evaluations.append((evaluate(ours), losses(ours)))
        indices.append(matches.indices)
    assert (indices[0] == indices[1]).mean() > 0.99  # except for rounding
    (whole, exact), (tiled, exact_of_tiles) = evaluations
    for name, loss in whole.losses.items():
        np.testing.assert_allclose(tiled.losses[name], loss, rtol=1e-4)
        np.testing.assert_allclose(exact_of_tiles[name], exact[name], rtol=1e-4)
    assert apart(tiled.gradient.numpy(), whole.gradient.numpy()) < 1e-2


def test_places_outside_the_mask_have_no_neighbours_gradient(network, picture):
    regions = np.zeros((1, *SIZE, 1), np.float32)
    regions[:, :16, :16] = 1
    settings = Settings(style_loss="neighbors", content_weight=0, tv_weight=0)
    evaluate, _, _ = objective_of(network, picture, settings, masks=Masks(regions))
    gradient = evaluate(tf.constant(picture(*SIZE, seed=4)[np.newaxis])).gradient[0].numpy()
    assert np.abs(gradient[:16, :16]).max() > 0
    assert not gradient[-4:, -4:].any()  # farther away than relu5_1 sees


@pytest.mark.parametrize("which", ["content_layers", "style_layers"])
def test_layers_without_a_weight_have_no_loss(network, picture, which):
    settings = Settings(style_loss="neighbors", **{which: {"relu2_1": 0}})
    evaluate, _, _ = objective_of(network, picture, settings)
    evaluation = evaluate(tf.constant(picture(*SIZE, seed=4)[np.newaxis]))
    assert np.isfinite(evaluation.losses["total"]) and np.isfinite(evaluation.gradient).all()
    assert evaluation.losses["content"] > 0 or which == "content_layers"


def test_a_column_that_is_nothing_has_a_finite_gradient():
    target = neighbors.NeighborTarget(
        {name: tf.zeros([1, 2]) for name in NEIGHBOR_LAYERS},
        {name: tf.zeros([2]) for name in NEIGHBOR_LAYERS},
        {name: tf.ones(()) for name in NEIGHBOR_LAYERS},
        tf.zeros([4], tf.int32),
    )
    sides = {"1": 8, "2": 4, "3": 2, "4": 1}
    features = {name: tf.zeros([1, sides[name[4]], sides[name[4]], 2]) for name in NEIGHBOR_LAYERS}
    assert float(neighbors.distance(features, target, None)) == 4
    for gradient in neighbors.gradients(features, target, tf.ones(()), None).values():
        assert np.isfinite(gradient().numpy()).all()
