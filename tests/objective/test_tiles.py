"""Tiles cover a picture, and reach as far as the features see."""

import math
import re

import numpy as np
import reference
import tensorflow as tf
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from neural_style_tf.network import vgg
from neural_style_tf.network.backprop import Passes
from neural_style_tf.objective.tiles import cut


@hypothesis_settings(deadline=None, max_examples=200)
@given(
    st.integers(16, 700),
    st.integers(16, 700),
    st.integers(1, 12),
    st.integers(0, 6),
    st.sampled_from([4, 8, 16]),
)
def test_insides_cover_the_picture_once(height, width, size, margin, stride):
    size, margin = size * stride, margin * stride
    tiles = cut(height, width, size, margin, stride)
    covered = np.zeros((height, width), int)
    for tile in tiles:
        top, bottom, left, right = tile.inside
        covered[top:bottom, left:right] += 1
        for (first, last), start, end, length in (
            (tile.rows, top, bottom, height),
            (tile.columns, left, right, width),
        ):
            assert first % stride == 0 and (last % stride == 0 or last == length)
            assert 0 <= first <= max(0, start - margin) and min(length, end + margin) <= last
            assert last <= length
    assert (covered == 1).all()
    shapes = {(np.diff(tile.rows)[0], np.diff(tile.columns)[0]) for tile in tiles}
    assert len(shapes) <= 4 and max(map(math.prod, shapes)) <= (size + 2 * margin) ** 2


def test_the_reach_is_the_receptive_field_found_by_differentiation():
    ones = {
        name: (np.ones_like(kernel), np.ones_like(bias))
        for name, (kernel, bias) in reference.tiny_weights(channels=(1, 1, 1, 1, 1)).items()
    }
    layers = [
        vgg.Layer(name, re.match("[a-z]+", name)[0], *map(tf.constant, ones.get(name, ())))
        for name in reference.layer_names(ones)
    ]
    wanted = ["relu1_1", "relu1_2", "pool1", "conv2_2", "relu3_1", "relu4_2", "relu5_1"]
    passes = Passes(layers, wanted, "avg")
    picture = tf.ones((1, 480, 480, 3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(picture)
        features = passes.features(picture)
        middle = {}
        for name, (stride, _) in passes.reach().items():
            place = 240 // stride
            middle[name] = features[name][0, place, place, 0]
    for name, (stride, pixels) in passes.reach().items():
        seen = np.flatnonzero(np.any(tape.gradient(middle[name], picture)[0, :, :, 0], axis=1))
        place = 240 // stride * stride
        first, last = place - pixels, place + stride + pixels - 1
        # a margin of `pixels` is enough, and one pixel less is not
        assert seen[0] == first or seen[-1] == last, name
        assert seen[0] >= first and seen[-1] <= last, name
