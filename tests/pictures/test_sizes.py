"""Sizes: of the result, and of the paintings beside it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import error_of

from neural_style_tf.errors import UsageError
from neural_style_tf.pictures import sizes
from neural_style_tf.settings import SMALLEST_SIDE, Settings


@pytest.mark.parametrize(
    "given_settings, expected",
    [
        ({}, (300, 450)),
        ({"width": 300}, (200, 300)),
        ({"height": 100}, (100, 150)),
        ({"size": 900}, (600, 900)),
        ({"width": 64, "height": 320}, (320, 64)),
        ({"width": 100}, (67, 100)),
    ],
)
def test_target_size(given_settings, expected):
    assert sizes.target_size(300, 450, Settings(**given_settings)) == expected


def test_target_size_rounds_halves_up():
    assert sizes.target_size(50, 100, Settings(width=37)) == (19, 37)


def test_size_is_the_long_side_of_a_portrait():
    assert sizes.target_size(450, 300, Settings(size=90)) == (90, 60)


@pytest.mark.parametrize(
    "height, width, given_settings, message",
    [
        (
            20,
            1000,
            {"size": 200},
            "size 200 makes a picture 200 wide and 4 high, but a side needs 16 pixels: "
            "use size 775 or more",
        ),
        (
            1000,
            20,
            {"height": 700},
            "height 700 makes a picture 14 wide and 700 high, but a side needs 16 pixels: "
            "use height 775 or more",
        ),
        (
            100,
            200,
            {"width": 20},
            "width 20 makes a picture 20 wide and 10 high, but a side needs 16 pixels: "
            "use width 31 or more",
        ),
        (
            9,
            30,
            {},
            "the content makes a picture 30 wide and 9 high, but a side needs 16 pixels: "
            "use size 52 or more",
        ),
    ],
)
def test_target_size_too_small(height, width, given_settings, message):
    settings = Settings(**given_settings)
    assert error_of(sizes.target_size, height, width, settings, kind=UsageError) == message


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from(["width", "height", "size"]))
def test_the_smallest_size_that_is_named_is_the_smallest(height, width, name):
    settings = Settings(**{name: SMALLEST_SIDE})
    try:
        assert min(sizes.target_size(height, width, settings)) >= SMALLEST_SIDE
    except UsageError as error:
        smallest = int(re.search(rf"use {name} (\d+) or more", str(error))[1])
        works = sizes.target_size(height, width, Settings(**{name: smallest}))
        assert min(works) == SMALLEST_SIDE
        with pytest.raises(UsageError):
            sizes.target_size(height, width, Settings(**{name: smallest - 1}))


def test_style_size():
    assert sizes.style_size(200, 300, content_width=450, scale=1.0) == (300, 450)
    assert sizes.style_size(200, 300, content_width=450, scale=0.5) == (150, 225)
    assert sizes.style_size(301, 100, content_width=50, scale=1.0) == (151, 50)


def test_a_painting_is_not_enlarged_until_its_strokes_are_gone_unless_asked_for():
    assert sizes.style_size(500, 400, content_width=640) == (800, 640)
    assert sizes.style_size(500, 400, content_width=4096) == (1000, 800)
    assert sizes.style_size(500, 400, content_width=4096, scale=1.0) == (5120, 4096)
    assert sizes.style_size(1000, 1000, content_width=450) == (450, 450)
    assert sizes.style_size(2, 2, content_width=4096) == (512, 512)


def test_style_size_too_small():
    message = error_of(sizes.style_size, 100, 400, 200, 0.25, kind=UsageError)
    assert message == (
        "style_scales 0.25 makes a picture 50 wide and 13 high, but a side needs 16 pixels: "
        "use style_scales 0.31 or more"
    )


@given(st.integers(1, 500), st.integers(1, 500), st.integers(16, 3000), st.floats(1e-6, 4))
def test_the_smallest_scale_that_is_named_works(height, width, content_width, scale):
    try:
        sizes.style_size(height, width, content_width, scale)
    except UsageError as error:
        smallest = float(re.search(r"use style_scales (\S+) or more", str(error))[1])
        sizes.style_size(height, width, content_width, smallest)
        with pytest.raises(UsageError):
            sizes.style_size(height, width, content_width, smallest * 0.98)
