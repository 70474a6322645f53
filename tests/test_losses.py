"""Losses against plain NumPy, and what must hold for any features."""

import numpy as np
import reference
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import losses

values = st.floats(-100, 100, width=32)
features = arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=5), elements=values)
quick = settings(max_examples=25, deadline=None)


def random_features(seed=0, shape=(1, 5, 7, 3)):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def test_content_loss_is_the_mean_of_squares():
    ours, target = random_features(0), random_features(1)
    expected = np.mean((ours.astype("f8") - target) ** 2)
    np.testing.assert_allclose(losses.content_loss(ours, target), expected, rtol=1e-5)


def test_gram_and_style_loss_follow_the_formula():
    ours, target = random_features(0), random_features(1)
    grams = [reference.gram(array[0].astype("f8")) for array in (ours, target)]
    np.testing.assert_allclose(losses.gram(tf.constant(ours)), grams[0], rtol=1e-5, atol=1e-6)
    expected = np.mean((grams[0] - grams[1]) ** 2)
    ours, target = losses.gram(tf.constant(ours)), losses.gram(tf.constant(target))
    np.testing.assert_allclose(losses.style_loss(ours, target), expected, rtol=1e-5)


def test_total_variation_is_the_mean_of_squared_steps():
    picture = random_features(shape=(1, 6, 9, 3)).astype("f8")
    expected = np.mean(np.diff(picture, axis=1) ** 2) + np.mean(np.diff(picture, axis=2) ** 2)
    np.testing.assert_allclose(losses.total_variation(picture), expected, rtol=1e-5)


def test_total_variation_of_a_constant_is_zero():
    assert losses.total_variation(np.full((1, 4, 6, 3), 77.0, "f4")) == 0


@quick
@given(features, st.integers(0, 2**32 - 1))
def test_gram_is_symmetric_and_unmoved_by_shuffling_positions(array, seed):
    gram = losses.gram(tf.constant(array)).numpy()
    np.testing.assert_allclose(gram, gram.T, rtol=1e-5, atol=1e-3)
    positions = array.reshape(-1, array.shape[-1])
    shuffled = np.random.default_rng(seed).permutation(positions).reshape(array.shape)
    np.testing.assert_allclose(gram, losses.gram(tf.constant(shuffled)), rtol=1e-4, atol=1e-2)


@quick
@given(features, st.integers(0, 5))
def test_gram_sums_add_up_over_parts_of_a_picture(array, cut):
    whole = losses.gram_sum(tf.constant(array))
    parts = losses.gram_sum(tf.constant(array[:, :cut])) + losses.gram_sum(
        tf.constant(array[:, cut:])
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-1)
