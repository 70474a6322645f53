"""Losses against plain NumPy, and what must hold for any features."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from neural_style_tf.network import device
from neural_style_tf.objective import losses

values = st.floats(-100, 100, width=32)
features = arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=5), elements=values)
quick = settings(max_examples=25, deadline=None)


def random_features(seed=0, shape=(1, 5, 7, 3)):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def test_content_loss_is_the_mean_or_sum_of_squares():
    ours, target = random_features(0), random_features(1)
    squares = (ours.astype("f8") - target) ** 2
    distance = losses.distance(ours, target)
    np.testing.assert_allclose(losses.content_loss(distance), np.mean(squares), rtol=1e-5)
    np.testing.assert_allclose(losses.content_loss(distance, "sum"), squares.sum(), rtol=1e-5)


def test_style_losses_follow_their_formulas():
    ours, target = random_features(0), random_features(1, (1, 4, 9, 3))  # M = 35, N = 3
    a, b = (array.astype("f8").reshape(-1, 3) for array in (ours, target))
    raw = np.sum((a.T @ a - b.T @ b) ** 2)
    expected = {
        "mean": np.mean((a.T @ a / (35 * 3) - b.T @ b / (36 * 3)) ** 2),
        "layer": raw / (4 * 35**2 * 3**2),
        "picture": raw / (4 * 3**2 * 140**2),
    }
    ours, target = losses.gram(tf.constant(ours)), losses.gram(tf.constant(target))
    for scale, value in expected.items():
        loss = losses.style_loss(ours, target, scale, pixels=140)
        np.testing.assert_allclose(loss, value, rtol=1e-5)


def test_total_variation_follows_its_formulas():
    picture = random_features(shape=(1, 6, 9, 3)).astype("f8")
    down, right = (np.diff(picture, axis=axis) ** 2 for axis in (1, 2))
    roughness = losses.total_variation(picture)
    np.testing.assert_allclose(roughness, np.mean(down) + np.mean(right), rtol=1e-5)
    expected = np.sum((down[:, :, :-1] + right[:, :-1]) ** 1.25)
    np.testing.assert_allclose(losses.total_variation(picture, "power"), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["squares", "power"])
def test_total_variation_of_a_constant_is_zero_and_so_is_its_gradient(kind):
    picture = tf.constant(np.full((1, 4, 6, 3), 77.0, "f4"))
    with tf.GradientTape() as tape:
        tape.watch(picture)
        loss = losses.total_variation(picture, kind)
    assert loss == 0 and tf.reduce_all(tape.gradient(loss, picture) == 0)


@quick
@given(features, st.integers(0, 2**32 - 1))
def test_gram_is_symmetric_and_unmoved_by_shuffling_positions(array, seed):
    gram = losses.gram(tf.constant(array)).products.numpy()
    np.testing.assert_allclose(gram, gram.T, rtol=1e-5, atol=1e-3)
    positions = array.reshape(-1, array.shape[-1])
    shuffled = np.random.default_rng(seed).permutation(positions).reshape(array.shape)
    np.testing.assert_allclose(
        gram, losses.gram(tf.constant(shuffled)).products, rtol=1e-4, atol=1e-2
    )


@quick
@given(features, st.integers(0, 5))
def test_grams_add_up_over_parts_of_a_picture(array, cut):
    whole, first, second = (
        losses.gram(tf.constant(part)) for part in (array, array[:, :cut], array[:, cut:])
    )
    assert whole.positions == first.positions + second.positions
    parts = first.products + second.products
    np.testing.assert_allclose(whole.products, parts, rtol=1e-4, atol=1e-1)


def test_total_variation_where_opposite_edges_meet():
    picture = np.random.default_rng(4).uniform(0, 255, (1, 7, 9, 3)).astype(np.float32)
    down, right = (np.square(np.roll(picture, -1, axis) - picture) for axis in (1, 2))
    ours = losses.total_variation(tf.constant(picture), wraps=True)
    np.testing.assert_allclose(ours, down.mean() + right.mean(), rtol=1e-5)
    ours = losses.total_variation(tf.constant(picture), "power", wraps=True)
    np.testing.assert_allclose(ours, ((down + right) ** 1.25).sum(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["squares", "power"])
def test_bands_of_rows_add_up_to_the_total_variation(picture, kind):
    rows = tf.constant(picture(20, 31)[np.newaxis])
    expected = losses.total_variation(rows, kind)
    bands = ((0, 8), (7, 13), (12, 20))
    total = sum(
        losses.total_variation_of(
            losses.roughness(rows[:, first:last], kind, last == 20), kind, rows.shape
        )
        for first, last in bands
    )
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def gaussian(array, least):
    """Mean, second moment and covariance in float64."""
    positions = array.astype("f8").reshape(-1, array.shape[-1])
    second = positions.T @ positions / len(positions)
    mean = positions.mean(0)
    return mean, second, second - np.outer(mean, mean) + least * np.eye(len(mean))


def least_variance(target):
    return 1e-4 * max(np.mean(target.astype("f8") ** 2), 1)


@pytest.mark.parametrize("kind", losses.WITH_SUMS)
@pytest.mark.parametrize("channels", [3, 40])  # more than positions: singular covariances
@pytest.mark.parametrize("size", [0.5, 300])  # as deep features of pixels are
def test_losses_of_means_follow_their_formulas(kind, channels, size):
    arrays = [
        size * (random_features(0, (1, 5, 7, channels)) + 0.3),
        size * random_features(1, (1, 4, 6, channels)),
    ]
    least = least_variance(arrays[1])
    (mean, second, covariance), (other, other_second, target) = (
        gaussian(array, least) for array in arrays
    )
    unit = np.trace(other_second) / channels**3
    if kind == "moments":
        spread = np.sqrt(np.diag(covariance)) - np.sqrt(np.diag(target))
        expected = np.mean((second - other_second) ** 2) / channels**2
        expected += unit * (np.mean((mean - other) ** 2) + np.mean(spread**2))
    else:
        root = scipy.linalg.sqrtm(target)
        middle = scipy.linalg.sqrtm(root @ covariance @ root)
        distance = np.sum((mean - other) ** 2)
        distance += np.trace(covariance) + np.trace(target) - 2 * np.trace(middle).real
        expected = unit / 8 * distance / channels
    ours, theirs = (losses.gram(tf.constant(array), with_sums=True) for array in arrays)
    target = losses.style_target(theirs, kind)
    loss = losses.style_loss(ours, target, kind)
    np.testing.assert_allclose(loss, expected, rtol=2e-3 if channels > 24 else 1e-4)
    assert losses.style_loss(theirs, target, kind) < 1e-5 * loss


@pytest.mark.parametrize("kind", losses.WITH_SUMS)
def test_gradients_of_losses_of_means_equal_finite_differences(kind):
    features, target = random_features(0, (1, 6, 9, 5)), random_features(1, (1, 6, 9, 5)) + 0.5
    weights = np.random.default_rng(2).uniform(size=(1, 6, 9)).astype("f4")
    theirs = losses.style_target(losses.gram(tf.constant(target), with_sums=True), kind)

    def loss(array):
        ours = losses.gram(tf.constant(array, tf.float32), tf.constant(weights), with_sums=True)
        return ours, losses.style_loss(ours, theirs, kind)

    with tf.GradientTape() as tape:
        ours = losses.gram(tf.constant(features), tf.constant(weights), with_sums=True)
        tape.watch(ours)
        value = losses.style_loss(ours, theirs, kind)
    slope = tape.gradient(value, ours)
    (gradient,) = losses.gram_gradient(tf.constant(features), slope, tf.constant(weights))
    gradient = gradient.numpy()
    direction = gradient / np.linalg.norm(gradient)
    ahead, behind = (float(loss(features + step * direction)[1]) for step in (2e-2, -2e-2))
    np.testing.assert_allclose((ahead - behind) / 4e-2, np.sum(gradient * direction), rtol=2e-3)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_the_slope_is_right_where_a_small_picture_has_fewer_positions_than_channels(dtype):
    """Its covariance is singular: what rounding makes of zero variances must not lead the way."""
    arrays = [1000 * np.maximum(random_features(n, (1, 6, 8, 128)), 0) for n in (0, 1)]
    features = tf.cast(arrays[0], dtype)
    target = losses.style_target(losses.gram(tf.constant(arrays[1]), with_sums=True), "wasserstein")
    with tf.GradientTape() as tape:
        ours = losses.gram(features, with_sums=True)
        tape.watch(ours)
        loss = losses.style_loss(ours, target, "wasserstein")
    (gradient,) = losses.gram_gradient(features, tape.gradient(loss, ours))
    gradient = gradient.numpy().astype("f8")

    positions = features.numpy().astype("f8").reshape(-1, 128)
    least = least_variance(arrays[1])
    (mean, _, covariance), (other, _, wanted) = (gaussian(a, least) for a in (positions, arrays[1]))
    root = scipy.linalg.sqrtm(wanted).real
    values, vectors = scipy.linalg.eigh(root @ covariance @ root)
    turned = root @ vectors
    slope = np.eye(128) - (turned / np.sqrt(values)) @ turned.T  # of the distance, at C
    expected = (positions - mean) @ slope + (mean - other)
    expected *= 2 * float(target.unit) / 8 / 128 / len(positions)
    tolerance = 1e-4 if dtype == tf.float32 else 4e-2  # of what a product of bfloat16 leaves
    error = np.linalg.norm(gradient.reshape(-1, 128) - expected) / np.linalg.norm(expected)
    assert error < tolerance


def test_losses_of_several_layers_at_once_are_those_of_each():
    """Some with equally many channels, in any order."""
    pairs = [
        tuple(
            losses.gram(tf.constant(random_features(seed, (1, 6, 9, channels))), with_sums=True)
            for seed in (number, number + 10)
        )
        for number, channels in enumerate((5, 3, 5, 8, 3))
    ]
    for kind in ("wasserstein", "mean"):
        ready = [(ours, losses.style_target(theirs, kind)) for ours, theirs in pairs]
        together = losses.style_losses(ready, kind, 54)
        apart = [losses.style_loss(*pair, kind, 54) for pair in ready]
        np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_a_gpu_rounds_no_products_that_wasserstein_inverts():
    """Of channels that are nearly equal: rounded to bfloat16, their covariance would be noise."""
    generator = np.random.default_rng(0)
    common = generator.uniform(1, 3, (1, 32, 32, 1))
    features = tf.cast(common + generator.normal(size=(1, 32, 32, 64)) / 50, tf.bfloat16)
    exact = tf.cast(tf.reshape(features, (-1, 64)), tf.float64)
    with device.made_for(device.GPU):
        gram = losses.gram(features, with_sums=True, in_float32=True)
    wanted = tf.matmul(exact, exact, transpose_a=True).numpy()
    np.testing.assert_allclose(gram.products, wanted, rtol=1e-5)
    np.testing.assert_allclose(gram.sums, tf.reduce_sum(exact, 0), rtol=1e-5)
