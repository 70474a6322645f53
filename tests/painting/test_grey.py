"""Grey: a grey photo and grey paintings make a grey picture, nearly grey ones a nearly grey one."""

import numpy as np
import pytest
import tensorflow as tf
from variants import TWO_BLOCKS

from neural_style_tf.painting.frame import Frame
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import colors, writing
from neural_style_tf.pictures.masks import NO_MASKS

STEPS = {"iterations": 6, "content_weight": 0.01, "tv_weight": 1}


def greyed(picture, color=0.0):
    """The picture in grey, and a share of its colours."""
    grey = picture.mean(-1, keepdims=True)
    return (grey + color * (picture - grey)).astype(np.float32)


def saturation(image):
    return np.abs(image - image.mean(-1, keepdims=True)).max()


def painted(network, photo, paintings, **options):
    steps = []
    options = STEPS | (TWO_BLOCKS if "style_loss" not in options else {}) | options
    images = stylize(network, photo, paintings, on_step=steps.append, **options)
    image = list(images)[-1][1]
    assert saturation(steps[len(steps) // 2].image()) <= saturation(image) + 20
    return image


VARIANTS = [
    {"optimizer": "lbfgs"},
    {"optimizer": "adam"},
    {"optimizer": "l-bfgs-b", "iterations": 2},
    {"precision": "bfloat16"},
    {"precision": "float16"},
    {"style_loss": "wasserstein", **TWO_BLOCKS},
    {"style_loss": "neighbors", "iterations": 2},
    {"scales": 2, "tile": 64},
    {"initial_noiseblend": 0.9, "preserve_colors": "match", "initial_colors": "histogram"},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_grey_stays_grey(network, picture, options):
    photo, painting = greyed(picture(seed=1)), greyed(picture(40, 50, seed=2))
    image = painted(network, photo, [painting], **options)
    rounded = writing.to_bytes(image)
    assert (rounded.max(-1) == rounded.min(-1)).all()
    assert np.abs(image - photo).mean() > 1  # it is painted


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "learning_rate": 20}], ids=str)
def test_nearly_grey_stays_nearly_grey(network, picture, options):
    photo, painting = greyed(picture(seed=1), 0.03), greyed(picture(40, 50, seed=2), 0.05)
    most = max(saturation(photo), saturation(painting))
    assert 1 < most < 10
    image = painted(network, photo, [painting], **options)
    assert saturation(image) <= most + 1e-3


def test_colours_of_a_painting_are_taken_over(network, picture):
    photo, painting = greyed(picture(seed=1)), picture(40, 50, seed=2)
    assert saturation(painted(network, photo, [painting])) > 30
    paintings = [greyed(painting), painting]
    assert saturation(painted(network, photo, paintings, style_blend_weights=[1, 0])) < 0.05


def test_a_grey_region_stays_grey_beside_a_coloured_one(network, picture):
    photo, paintings = greyed(picture()), [greyed(picture(seed=1)), picture(seed=2)]
    left = np.zeros(photo.shape[:2], np.float32)
    left[:, :22] = 1
    image = painted(network, photo, paintings, style_masks=[left, 1 - left])
    assert saturation(image[:, :22]) < 0.05 < 10 < saturation(image[:, 22:])


def test_the_colours_of_the_initial_picture_may_stay(network, picture):
    photo, painting = greyed(picture()), greyed(picture(seed=1))
    image = painted(network, photo, [painting], initial=picture(seed=2), iterations=1)
    assert saturation(image) > 30


def test_the_gradient_is_that_of_what_is_visible():
    random = np.random.default_rng(0)
    painted, weights = (
        tf.constant(random.uniform(0, 255, (1, 9, 7, 3)), tf.float32) for _ in range(2)
    )
    limit = random.uniform(0, 99, (1, 9, 7, 1)).astype(np.float32)
    mask = random.uniform(size=(1, 9, 7, 1)).astype(np.float32)
    for frame in (
        Frame(None, None, limit),
        Frame(painted.numpy(), mask, limit),
        Frame(None, None, limit[:, :1, :1]),
        Frame(painted.numpy(), mask),
    ):
        with tf.GradientTape() as tape:
            tape.watch(painted)
            total = tf.reduce_sum(weights * frame.picture(painted))
        expected = tape.gradient(total, painted)
        np.testing.assert_allclose(frame.gradient(weights, painted), expected, atol=1e-4)


def test_the_limit_is_the_most_of_any_picture(picture):
    batch = [greyed(picture(seed=seed), 0.02 * seed)[np.newaxis] for seed in range(4)]
    limit = colors.limits(batch[0], batch[1:], None, NO_MASKS, [1, 1, 1])
    assert limit.shape == (1, 1, 1, 1)
    np.testing.assert_allclose(limit, saturation(batch[3]), rtol=1e-6)
    batch[0][0, 3, 5] = (255, 0, 0)  # one pixel is enough: it is not grey
    assert colors.limits(batch[0], batch[1:], None, NO_MASKS, [1, 1, 1]) is None
