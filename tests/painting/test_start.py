"""The picture that a stage begins with."""

import numpy as np
import pytest

from neural_style_tf.painting import painter
from neural_style_tf.painting.arguments import Pictures
from neural_style_tf.painting.descent import Descent, resized
from neural_style_tf.painting.start import detail_at_stage
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import resampling
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings

SIZE, BEFORE = (64, 96), (32, 48)


@pytest.fixture
def photo():
    """A smooth picture with a pattern of single pixels in its middle."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    picture = np.stack([rows + 60, columns + 60, rows + columns + 30], -1)
    picture[24:40, 40:56] += 40 * ((rows + columns)[24:40, 40:56, np.newaxis] % 2)
    return picture


def detail(photo, initial=None, **options):
    settings = Settings(**{"style_loss": "neighbors", "initial_colors": "own", **options})
    pictures = Pictures(photo, [photo], initial, Masks(), [None])
    return detail_at_stage(pictures, [photo, photo], BEFORE, settings, Masks())


def test_detail_is_what_the_stage_before_could_not_show(photo):
    found = detail(photo)
    assert np.abs(found[24:40, 40:56]).mean() > 10
    assert np.abs(found[8:16, 8:32]).max() < 1
    np.testing.assert_allclose(
        found, photo - resampling.resize(resampling.resize(photo, *BEFORE), *SIZE), atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"initial_noiseblend": 0.75}, 0.25),
        ({"stylization": 0}, 1),
        ({"stylization": 0.75}, 0.5),
        ({"stylization": 0.75, "initial_noiseblend": 0.5}, 0.25),
    ],
)
def test_noise_in_the_start_and_more_painting_leave_less_of_it(photo, options, share):
    np.testing.assert_allclose(detail(photo, **options), share * detail(photo), atol=1e-4)


def test_in_a_picture_that_wraps_it_does_not_depend_on_where_that_begins(photo):
    moved = np.roll(photo, (32, 48), (0, 1))
    expected = np.roll(detail(photo, padding="wrap"), (32, 48), (0, 1))
    np.testing.assert_allclose(detail(moved, padding="wrap"), expected, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"style_loss": "moments"},
        {"stylization": 1},
        {"content_weight": 0},
        {"initial_noiseblend": 1, "initial_colors": None},
    ],
)
def test_there_is_none_without_neighbors_or_a_start_from_the_photo(photo, options):
    assert detail(photo, **options) is None


def test_there_is_none_if_the_run_begins_with_another_picture(photo):
    assert detail(photo, initial=photo) is None


@pytest.mark.parametrize("options", [{}, {"padding": "wrap"}, {"content_mask": True}], ids=str)
def test_a_later_stage_begins_with_it(network, picture, options, monkeypatch):
    if "content_mask" in options:
        options = {"content_mask": np.arange(48 * 64).reshape(48, 64) % 64 / 63}
    begun, found, begin_stage = [], [], Descent.begin_stage

    def beginning(descent, optimizer, stage, start):
        if start is not None:
            begun.append((resized(descent.best.picture, *start.shape[1:3], stage.wraps), start))
        begin_stage(descent, optimizer, stage, start)

    def noting(*arguments):
        found.append(detail_at_stage(*arguments))
        return found[-1]

    monkeypatch.setattr(Descent, "begin_stage", beginning)
    monkeypatch.setattr(painter, "detail_at_stage", noting)
    run = {"style_loss": "neighbors", "scales": 2, "iterations": 2, **options}
    sharp = picture(48, 64) / 2 + np.random.default_rng(0).uniform(0, 100, (48, 64, 3))
    list(stylize(network, sharp, [picture(50, 60, seed=1)], **run))
    ((enlarged, start),), (added,) = begun, found
    assert np.abs(added).max() > 1
    np.testing.assert_allclose(start, np.clip(enlarged + added, 0, 255), atol=1e-3)
