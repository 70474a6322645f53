"""Sizes: of the result, and of the paintings beside it."""

import re

import numpy as np
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


@pytest.mark.parametrize(
    "fit, wide, high",
    [
        ("crop", ((500, 500), (0, 100, 600, 600)), ((300, 400), (200, 0, 450, 600))),
        (
            "pad",
            ((375, 500), None, ((62, 63), (0, 0))),
            ((300, 212), None, ((0, 0), (94, 94))),
        ),
        ("stretch", ((500, 500),), ((300, 400),)),
    ],
)
def test_a_photo_of_other_proportions_is_cropped_padded_or_stretched(fit, wide, high):
    assert sizes.fitted((600, 800), (500, 500), fit) == sizes.Placement(*wide)
    assert sizes.fitted((850, 600), (300, 400), fit) == sizes.Placement(*high)
    settings = Settings(width=500, height=500, fit=fit)
    assert sizes.of_content((600, 800), settings) == sizes.Placement(*wide)
    done = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}[fit]
    assert sizes.in_words((600, 800), sizes.Placement(*wide)) == f"{done} from 800x600"


@given(
    st.tuples(*[st.integers(1, 2000)] * 2),
    st.tuples(*[st.integers(16, 2000)] * 2),
    st.sampled_from(["crop", "pad", "stretch"]),
)
def test_every_fit_has_the_size_and_takes_a_part_of_the_file(file, target, fit):
    placement = sizes.fitted(file, target, fit)
    assert placement.full_size == target and min(placement.size) >= 1
    top, left, height, width = placement.box or (0, 0, *file)
    assert 0 <= top < top + height <= file[0] + 1e-9
    assert 0 <= left < left + width <= file[1] + 1e-9
    if fit == "crop" and placement.box:
        np.testing.assert_allclose(width * target[0], height * target[1])
        assert height == file[0] or width == file[1]


@given(st.tuples(*[st.integers(16, 2000)] * 2), st.integers(16, 2000))
def test_rounding_is_no_other_proportion(file, width):
    try:
        target = sizes.target_size(*file, Settings(width=width))
    except UsageError:
        return
    for fit in ("crop", "pad", "stretch"):
        placement = sizes.fitted(file, target, fit)
        assert placement == sizes.Placement(target) and sizes.in_words(file, placement) == ""


def of_style(painting, result, **options):
    return sizes.of_style(painting, result, Settings(**options))


def test_a_style_has_as_many_pixels_as_the_result():
    assert of_style((200, 300), (300, 450)).size == (300, 450)
    assert of_style((450, 300), (300, 450)).size == (450, 300)
    assert of_style((450, 300), (300, 450), style_scales=[0.5]).size == (225, 150)
    assert of_style((100, 400), (200, 200)).size == (100, 400)
    assert of_style((100, 400), (200, 200), style_scales=[2]).size == (200, 800)


@given(st.tuples(*[st.integers(16, 1500)] * 2), st.tuples(*[st.integers(16, 1500)] * 2))
def test_strokes_do_not_depend_on_which_way_up_the_photo_is(painting, result):
    upright, turned = of_style(painting, result), of_style(painting, result[::-1])
    assert upright == turned
    assert of_style(painting[::-1], result).size == upright.size[::-1]


def test_a_style_is_as_wide_as_the_result_or_stretched_to_it_on_request():
    assert of_style((450, 300), (300, 450), style_fit="width").size == (675, 450)
    assert of_style((301, 100), (90, 50), style_fit="width").size == (151, 50)
    half = {"style_fit": "width", "style_scales": [0.5]}
    assert of_style((450, 300), (300, 450), **half).size == (338, 225)
    assert of_style((450, 300), (300, 450), style_fit="stretch").size == (300, 450)


def test_the_long_side_of_a_style_is_set_for_all_or_for_each():
    assert of_style((450, 300), (64, 64), style_size=[600]).size == (600, 400)
    assert of_style((300, 450), (64, 64), style_size=[37]).size == (25, 37)
    each = Settings(style_size=[90, 60])
    assert sizes.of_style((450, 300), (64, 64), each, 0).size == (90, 60)
    assert sizes.of_style((450, 300), (64, 64), each, 1).size == (60, 40)


def for_strokes(painting, result, stroke, stroke_size):
    return sizes.of_style(painting, result, Settings(stroke_size=stroke_size), 0, stroke)


def test_a_painting_is_as_large_as_makes_its_strokes_the_size_that_is_asked_for():
    """Strokes of 1 % of 400 pixels are to be 0.5 or 1 % of 800."""
    assert for_strokes((300, 400), (600, 800), 1.0, 0.5).size == (300, 400)
    assert for_strokes((300, 400), (600, 800), 1.0, 1.0).size == (600, 800)
    assert for_strokes((300, 400), (800, 600), 1.0, 0.5).size == (300, 400)
    assert for_strokes((300, 400), (600, 800), 2.0, 0.5).size == (150, 200)


def test_for_large_strokes_it_is_enlarged_as_far_as_otherwise_and_bounded():
    assert for_strokes((300, 400), (600, 800), 1.0, 5).size == (600, 800)
    assert for_strokes((3000, 4000), (300, 400), 1.0, 50).size == (1200, 1600)
    assert for_strokes((2, 2), (600, 800), 1.0, 50).size == (512, 512)
    assert for_strokes((1, 400), (600, 800), 1.0, 50) == of_style((1, 400), (600, 800))


def test_for_fine_strokes_no_painting_becomes_too_small_for_the_network():
    assert for_strokes((300, 400), (600, 800), 1.0, 0.01).size == (16, 21)
    assert for_strokes((40, 4000), (64, 64), 1.0, 0.5).size == (16, 1024)  # the middle of it


def test_a_painting_is_not_enlarged_until_its_strokes_are_gone_unless_asked_for():
    assert of_style((500, 500), (640, 640)).size == (640, 640)
    assert of_style((500, 400), (4096, 4096)).size == (1000, 800)
    assert of_style((500, 400), (2000, 8000), style_scales=[1]).size == (4472, 3578)
    assert of_style((500, 400), (4096, 4096), style_size=[3000]).size == (3000, 2400)
    assert of_style((1000, 1000), (450, 450)).size == (450, 450)
    assert of_style((2, 2), (4096, 4096)).size == (512, 512)
    assert of_style((500, 400), (64, 4096), style_fit="width").size == (1000, 800)


@pytest.mark.parametrize("style_fit", ["area", "width"])
def test_a_narrow_painting_is_enlarged_for_the_network_and_cropped_if_that_makes_it_large(
    style_fit,
):
    def of_style(painting, result):
        return sizes.of_style(painting, result, Settings(style_fit=style_fit))

    assert of_style((10, 500), (64, 64)) == sizes.Placement((16, 800))
    assert of_style((10, 1600), (64, 64)) == sizes.Placement((16, 1024), (0, 480, 10, 640))
    if style_fit == "area":
        assert of_style((1600, 10), (64, 64)) == sizes.Placement((1024, 16), (480, 0, 640, 10))


@given(st.integers(1, 500_000), st.integers(1, 500_000), st.integers(16, 600), st.booleans())
def test_no_painting_is_refused_or_large_without_a_size_in_the_settings(
    height, width, side, is_wide
):
    result = (side, 2 * side) if is_wide else (side, side)
    placement = of_style((height, width), result)
    assert min(placement.size) >= SMALLEST_SIDE
    pixels = placement.size[0] * placement.size[1]
    assert pixels <= max(4, (1 + 1 / min(placement.size)) ** 2) * result[0] * result[1]


def test_style_size_too_small():
    message = error_of(of_style, (100, 400), (200, 200), style_scales=[0.1], kind=UsageError)
    assert message == (
        "style_scales 0.1 makes a picture 40 wide and 10 high, but a side needs 16 pixels: "
        "use style_scales 0.155 or more"
    )
    message = error_of(of_style, (100, 400), (200, 200), style_size=[50], kind=UsageError)
    assert message == (
        "style_size 50 makes a picture 50 wide and 13 high, but a side needs 16 pixels: "
        "use style_size 62 or more"
    )


@pytest.mark.parametrize("style_fit", ["area", "width"])
@given(
    st.tuples(*[st.integers(1, 500)] * 2),
    st.tuples(*[st.integers(16, 3000)] * 2),
    st.floats(1e-6, 4),
)
def test_the_smallest_scale_that_is_named_works(style_fit, painting, result, scale):
    def size_at(scale):
        return of_style(painting, result, style_fit=style_fit, style_scales=[scale])

    try:
        size_at(scale)
    except UsageError as error:
        smallest = float(re.search(r"use style_scales (\S+) or more", str(error))[1])
        size_at(smallest)
        with pytest.raises(UsageError):
            size_at(smallest * 0.98)


@given(st.tuples(*[st.integers(1, 500)] * 2))
def test_the_smallest_style_size_that_is_named_works(painting):
    def size_at(long_side):
        return of_style(painting, (64, 64), style_size=[long_side])

    try:
        size_at(SMALLEST_SIDE)
    except UsageError as error:
        smallest = int(re.search(r"use style_size (\d+) or more", str(error))[1])
        assert min(size_at(smallest).size) == SMALLEST_SIDE
        with pytest.raises(UsageError):
            size_at(smallest - 1)
