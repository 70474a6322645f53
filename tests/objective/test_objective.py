"""The objective: losses against plain NumPy, gradients against finite differences."""

import dataclasses

import numpy as np
import pytest
import reference
import tensorflow as tf
from variants import TWO_BLOCKS, VARIANTS, objective_of, untraced

from neural_style_tf.objective.objective import measure_targets
from neural_style_tf.objective.statistics import STYLE_UNIT, Statistics, compare
from neural_style_tf.settings import Settings


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def evaluated(request, network, weights, picture):
    """A picture, what its objective returns, and its losses in plain NumPy: a function."""
    settings = request.param
    content, ours = picture(33, 46, seed=1), picture(33, 46, seed=2)
    styles = [picture(40, 37, seed=3), picture(21, 50, seed=4)]
    styles = styles[: len(settings.style_blend_weights or [1])]
    evaluation = objective_of(network, content, styles, settings)(tf.constant(ours[np.newaxis]))

    def losses_of(image):
        return reference.losses(weights, image, content, styles, settings)

    return ours, evaluation, losses_of


def test_losses_equal_plain_numpy(evaluated):
    ours, evaluation, losses_of = evaluated
    expected = losses_of(ours)
    assert list(evaluation.losses) == ["content", "style", "tv", "total"]
    for name, loss in evaluation.losses.items():
        assert loss.dtype == tf.float32
        np.testing.assert_allclose(loss, expected[name], rtol=1e-4)


def test_gradient_equals_finite_differences(evaluated):
    ours, evaluation, losses_of = evaluated
    assert evaluation.gradient.shape == (1, 33, 46, 3) and evaluation.gradient.dtype == tf.float32
    # along the gradient itself, and along random directions
    random = np.random.default_rng(5)
    gradient = evaluation.gradient.numpy()[0].astype("f8")
    for direction in (gradient, random.normal(size=ours.shape), random.normal(size=ours.shape)):
        direction = direction / np.linalg.norm(direction)
        ahead, behind = (losses_of(ours + step * direction)["total"] for step in (1e-4, -1e-4))
        slope = (ahead - behind) / 2e-4
        np.testing.assert_allclose(
            np.sum(gradient * direction), slope, rtol=1e-3, atol=1e-4 * np.linalg.norm(gradient)
        )


@pytest.mark.parametrize("kind", ["moments", "mean", "layer", "picture", "wasserstein"])
def test_a_picture_without_features_has_the_same_style_loss_for_every_painting(
    network, picture, kind
):
    """Of one that is pale and one that is not."""
    layers = TWO_BLOCKS["style_layers"]
    settings = Settings(style_loss=kind, style_layers=layers, texture="32x32")
    size = tf.TensorShape((1, 32, 32, 3))
    for contrast in (0.1, 1.0):
        painting = tf.constant(128 + contrast * (picture(32, 32, seed=2)[np.newaxis] - 128))
        with untraced():
            targets = measure_targets(network, painting, [painting], settings)
            like = dataclasses.replace(settings, style_loss="layer")
            grams = measure_targets(network, painting, [painting], like)
        nothing = {
            layer: [gram._replace(products=0 * gram.products, sums=tf.zeros(len(gram.products)))]
            for layer, gram in grams.styles[0].items()
        }
        statistics = Statistics({}, nothing, tf.zeros(()), [])
        _, style = compare(statistics, targets, settings, size)
        unit = STYLE_UNIT / (8 if kind == "wasserstein" else 1)
        np.testing.assert_allclose(style, settings.weight_of_style() * unit, rtol=2e-2)


def test_the_content_has_no_content_loss_and_the_style_no_style_loss(network, picture):
    content, style = picture(seed=1), picture(seed=2)
    objective = objective_of(network, content, [style], Settings(style_loss="moments"))
    of_content = objective(tf.constant(content[np.newaxis])).losses
    of_style = objective(tf.constant(style[np.newaxis])).losses
    # not zero: targets are measured in a graph of their own, which rounds otherwise
    assert of_content["content"] < 1e-6 * of_style["content"]
    assert of_style["style"] < 1e-6 * of_content["style"]


def test_gaussians_are_blended_by_their_moments(network, picture):
    settings = Settings(style_loss="wasserstein", style_blend_weights=(3, 1))
    content, first, second = picture(seed=1), picture(40, 48, seed=2), picture(20, 30, seed=3)
    batch = [tf.constant(array[np.newaxis]) for array in (content, first, second)]
    targets = measure_targets(network, batch[0], batch[1:], settings)
    assert len(targets.styles) == len(targets.shares) == 1
    assert targets.shares[0] == pytest.approx(1)
    for layer, gaussian in targets.styles[0].items():
        alone = [
            measure_targets(network, batch[0], [style], Settings(style_loss="moments")).styles[0]
            for style in batch[1:]
        ]
        means = [moments[layer].mean for moments in alone]
        np.testing.assert_allclose(gaussian.mean, 0.75 * means[0] + 0.25 * means[1], rtol=1e-4)
