"""Colours: luma of one and chroma of the other; matched statistics; the combination with a run."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from variants import TWO_BLOCKS

from neural_style_tf.painting import arguments
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import colors
from neural_style_tf.pictures.masks import NO_MASKS, Masks
from neural_style_tf.settings import Settings

PICTURES = hnp.arrays(np.float32, (5, 7, 3), elements=st.floats(0, 255, width=32))
BT601 = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)  # Y, Cb, Cr


@given(PICTURES, PICTURES)
def test_luma_only_takes_luma_of_one_and_chroma_of_the_other(painted, photo):
    result = colors.luma_only(painted, photo)
    assert result.dtype == np.float32 and result.min() >= 0 and result.max() <= 255
    inside = ((result > 0) & (result < 255)).all(-1)
    np.testing.assert_allclose((result @ BT601[0])[inside], (painted @ BT601[0])[inside], atol=1e-2)
    np.testing.assert_allclose(
        (result @ BT601[1:].T)[inside], (photo @ BT601[1:].T)[inside], atol=1e-2
    )


def test_luma_only_of_a_picture_and_itself_is_the_picture(picture):
    np.testing.assert_allclose(colors.luma_only(picture(), picture()), picture(), atol=1e-3)


def test_match_gives_the_mean_and_the_covariance_of_the_photo(picture):
    result = colors.matched(picture(30, 40, seed=1), picture(seed=2), "match").reshape(-1, 3)
    photo = picture(seed=2).reshape(-1, 3)
    np.testing.assert_allclose(result.mean(0), photo.mean(0), atol=0.01)
    expected = np.cov(photo, rowvar=False, bias=True)
    # what is added to the diagonal against division by 0 is 0.65
    np.testing.assert_allclose(np.cov(result, rowvar=False, bias=True), expected, atol=1.5)


def test_histogram_gives_the_values_of_the_photo(picture):
    result = colors.matched(picture(90, 80, seed=1), picture(seed=2), "histogram")
    for quantile in (0.1, 0.5, 0.9):
        ours, theirs = (
            np.quantile(image.reshape(-1, 3), quantile, axis=0)
            for image in (result, picture(seed=2))
        )
        np.testing.assert_allclose(ours, theirs, atol=1)


def test_histogram_keeps_the_order_of_values(picture):
    painting = picture(seed=1)
    result = colors.matched(painting, picture(seed=2), "histogram")
    for channel in range(3):
        order = np.argsort(painting[..., channel].ravel(), kind="stable")
        assert (np.diff(result[..., channel].ravel()[order]) >= 0).all()


@pytest.mark.parametrize("kind", ["match", "histogram"])
@pytest.mark.parametrize("greys", [(100, 100), (30, 200)])
def test_grey_and_even_pictures_stay_numbers(kind, greys, picture):
    grey = np.broadcast_to(np.linspace(*greys, 45, dtype=np.float32)[:, np.newaxis], (34, 45, 3))
    for painting, photo in ((grey, picture()), (picture(), grey), (grey, grey)):
        result = colors.matched(painting, photo, kind)
        assert np.isfinite(result).all()
        middle = np.mean if kind == "match" else np.median
        expected = middle(photo.reshape(-1, 3), axis=0)
        np.testing.assert_allclose(middle(result.reshape(-1, 3), axis=0), expected, atol=1.5)


@pytest.mark.parametrize("kind", ["match", "histogram"])
def test_a_run_takes_over_the_colors_of_the_photo(kind, network, picture):
    photo, painting = 0.3 * picture(seed=1), 128 + 0.5 * picture(seed=2)  # dark, and bright
    options = {"iterations": 8, "tv_weight": 0, "learning_rate": 5} | TWO_BLOCKS
    plain, matched = (
        list(stylize(network, photo, [painting], preserve_colors=which, **options))[-1][1]
        for which in (None, kind)
    )
    target = photo.mean((0, 1))
    assert np.abs(matched.mean((0, 1)) - target).mean() < np.abs(plain.mean((0, 1)) - target).mean()


def test_the_start_has_the_paintings_colours(network, picture):
    photo, paintings = picture(30, 40), [picture(seed=1), picture(seed=2)]
    settings = Settings(style_blend_weights=[3, 1])
    result = colors.in_colors_of(photo, paintings, "match", settings, NO_MASKS)
    means = [painting.mean((0, 1)) for painting in paintings]
    np.testing.assert_allclose(result.mean((0, 1)), 0.75 * means[0] + 0.25 * means[1], atol=6)
    assert result.min() >= 0 and result.max() <= 255
    assert colors.in_colors_of(photo, paintings, "own", settings, NO_MASKS) is photo
    for initial, expected in ((None, means[0]), (photo, photo.mean((0, 1)))):
        options = {"initial": initial, "learning_rate": 1e-6, "iterations": 1} | TWO_BLOCKS
        started = list(stylize(network, photo, paintings[:1], **options))[-1][1]
        np.testing.assert_allclose(started.mean((0, 1)), expected, atol=6)


@pytest.mark.parametrize("kind", ["match", "histogram"])
def test_the_start_has_each_paintings_colours_where_it_paints(kind, picture):
    photo = picture(30, 40)
    dark_and_bright = 0.3 * picture(seed=1)
    dark_and_bright[:, 20:] += 160
    source = np.zeros((1, *dark_and_bright.shape[:2], 1), np.float32)
    source[:, :, :20] = 1
    regions = np.zeros((1, 30, 40, 2), np.float32)
    regions[:, :, :20, 0] = regions[:, :, 20:35, 1] = 1  # and nothing on the right
    masks = Masks(regions, [source, None])
    paintings = [dark_and_bright, picture(seed=2)]
    result = colors.in_colors_of(photo, paintings, kind, Settings(), masks)
    expected = dark_and_bright[:, :20].mean((0, 1)), paintings[1].mean((0, 1))
    np.testing.assert_allclose(result[:, :20].mean((0, 1)), expected[0], atol=6)
    np.testing.assert_allclose(result[:, 20:35].mean((0, 1)), expected[1], atol=6)
    np.testing.assert_array_equal(result[:, 35:], photo[:, 35:])


RED, BLUE = (200, 40, 40), (40, 40, 200)


@pytest.mark.parametrize("kind", ["match", "histogram"])
@pytest.mark.parametrize("content_mask", [False, True])
def test_a_run_keeps_the_colours_of_each_region(kind, content_mask, network, picture):
    left = np.zeros((48, 64), np.float32)
    left[:, :32] = 1
    photo = np.where(left[..., np.newaxis] > 0, RED, BLUE) + 0.1 * (picture(48, 64) - 128)
    masks = {"style_masks": [left, 1 - left]}
    if content_mask:  # what is not painted is of another colour, and does not count
        photo[:24], painted = (40, 200, 40), np.ones((48, 64), np.float32)
        painted[:24] = 0
        masks["content_mask"] = painted
    options = {"iterations": 8, "preserve_colors": kind} | masks | TWO_BLOCKS
    image = list(stylize(network, photo, [picture(seed=1), picture(seed=2)], **options))[-1][1]
    np.testing.assert_allclose(image[24:, :32].mean((0, 1)), RED, atol=20)
    np.testing.assert_allclose(image[24:, 32:].mean((0, 1)), BLUE, atol=20)


def test_a_painting_is_measured_within_its_source_mask(picture):
    photo, painting = picture(seed=1), picture(seed=2)
    painting[:, 20:] = (0, 255, 0)
    source = np.zeros(painting.shape[:2], np.float32)
    source[:, :20] = 1
    settings = Settings(preserve_colors="match")
    checked = arguments.checked(photo, [painting], settings, style_source_masks=[source])
    learnt = checked.styles[0][:, :20]
    np.testing.assert_allclose(learnt.mean((0, 1)), photo.mean((0, 1)), atol=0.1)
    np.testing.assert_array_equal(checked.styles[0][:, 20:], painting[:, 20:])


def test_soft_edges_of_a_region_blend_the_colours(picture):
    photo, region = picture(20, 30), np.full((20, 30), 0.25, np.float32)
    region[:10] = 1
    palette = colors.Palette(1, region, picture(seed=1), None)
    result = colors.by_region(photo, [palette], "match")
    recolored = colors.matched(photo, picture(seed=1), "match", region)
    np.testing.assert_allclose(result[:10], recolored[:10], atol=1e-3)
    np.testing.assert_allclose(result[10:], 0.25 * recolored[10:] + 0.75 * photo[10:], atol=1e-3)
