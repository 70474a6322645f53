"""What larger stages begin with where the photo was enlarged."""

from pathlib import Path

import numpy as np
import pytest

from neural_style_tf.painting import dabs, painter
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import reading, resampling

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEIGHBORS = {"style_loss": "neighbors", "scales": 2, "iterations": 4}


@pytest.mark.parametrize("name", ["china.jpg", "cat.jpg", "rocket.jpg"])
@pytest.mark.parametrize("times", [0.5, 1, 2, 3, 5])
def test_detail_is_as_wide_as_the_photo_was_enlarged(name, times):
    photo = reading.read(EXAMPLES / name).pixels
    height, width = (round(times * side) for side in photo.shape[:2])
    found = dabs.detail_width(resampling.resize(photo, height, width))
    if times <= 1:
        assert found == 1
    else:
        assert times / 1.5 < found < times * 1.1


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (300, 2), (100, 90)])
def test_a_picture_without_detail_is_left_as_it_is(size):
    assert dabs.detail_width(np.full((*size, 3), 99, np.float32)) == 1
    slope = np.linspace(99, 99.5, size[1], dtype=np.float32)
    assert dabs.detail_width(np.broadcast_to(slope[:, np.newaxis], (*size, 3))) == 1


@pytest.mark.parametrize(("width", "radius"), [(1, 0), (1.9, 0), (2, 3), (4, 6), (5.7, 8), (16, 8)])
def test_dabs_are_wider_than_what_is_to_go(width, radius):
    assert dabs.radius(width) == radius


def test_edges_stay_and_dots_go():
    picture = np.full((1, 40, 60, 3), 50, np.float32)
    picture[:, :, 30:] = 200
    expected = picture.copy()
    for row, column in ((10, 10), (25, 15), (12, 45), (30, 50)):
        picture[:, row : row + 2, column : column + 2] = 255, 120, 0
    found = dabs.in_dabs(picture, 4)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < np.abs(picture - expected).max() / 10
    np.testing.assert_allclose(found[:, :, 26:34], expected[:, :, 26:34], atol=5)  # not blurred


def in_dabs_by_the_book(picture, radius):
    """The same of a picture [H, W, 3], pixel by pixel."""
    kernels = dabs._sectors(radius)[:, :, 0].astype(np.float64)
    padded = np.pad(picture.astype(np.float64), ((radius,) * 2, (radius,) * 2, (0, 0)), "symmetric")
    result = np.empty(picture.shape)
    for row, column in np.ndindex(picture.shape[:2]):
        around = padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
        means = np.einsum("yxs,yxc->sc", kernels, around)
        variances = np.einsum("yxs,yxc->s", kernels, around**2) - (means**2).sum(1)
        shares = (variances + dabs.LEAST_VARIANCE) ** -float(dabs.SHARPNESS)
        result[row, column] = shares @ means / shares.sum()
    return result


@pytest.mark.parametrize("band", [1, 60, 2**20])
def test_dabs_are_those_of_the_book_band_by_band(band, monkeypatch):
    monkeypatch.setattr(dabs, "BAND", band)
    picture = np.random.default_rng(0).uniform(0, 255, (9, 14, 3)).astype(np.float32)
    found = dabs.in_dabs(picture[np.newaxis], 3)[0]
    np.testing.assert_allclose(found, in_dabs_by_the_book(picture, 3), atol=0.1)


def test_in_a_picture_that_wraps_they_do_not_depend_on_where_that_begins():
    picture = np.random.default_rng(0).uniform(0, 255, (1, 32, 48, 3)).astype(np.float32)
    moved = dabs.in_dabs(np.roll(picture, (9, 31), (1, 2)), 5, wraps=True)
    expected = np.roll(dabs.in_dabs(picture, 5, wraps=True), (9, 31), (1, 2))
    np.testing.assert_allclose(moved, expected, atol=0.1)


@pytest.fixture
def enlarged():
    """A picture without detail that is finer than about six pixels."""
    small = np.random.default_rng(0).uniform(0, 255, (12, 16, 3)).astype(np.float32)
    return resampling.resize(small, 96, 128)


def radii_of_a_run(monkeypatch, network, content, painting, **options):
    """Of the dabs that a run makes, and its picture."""
    radii, made = [], dabs.in_dabs

    def noting(picture, radius, wraps=False):
        radii.append(radius)
        return made(picture, radius, wraps)

    monkeypatch.setattr(painter.dabs, "in_dabs", noting)
    *_, (_, picture) = stylize(network, content, [painting], **{**NEIGHBORS, **options})
    return radii, picture


@pytest.mark.parametrize(
    ("options", "radii"),
    [
        ({}, [8, 8]),  # of the picture so far, and of the photo
        ({"scales": 3}, [4, 4, 8, 8]),
        ({"padding": "wrap"}, [8, 8]),
        ({"scales": "off"}, []),
        ({"style_loss": "moments"}, []),
    ],
    ids=str,
)
def test_larger_stages_begin_with_dabs(network, picture, enlarged, options, radii, monkeypatch):
    painting = picture(50, 60, seed=1)
    found, _ = radii_of_a_run(monkeypatch, network, enlarged, painting, **options)
    assert found == radii


def test_a_sharp_photo_is_left_as_it_is(network, picture, monkeypatch):
    sharp = np.random.default_rng(0).uniform(0, 255, (96, 128, 3))
    assert radii_of_a_run(monkeypatch, network, sharp, picture(50, 60, seed=1))[0] == []


def test_what_is_not_painted_stays_the_photo(network, picture, enlarged, monkeypatch):
    mask = np.zeros((96, 128))
    mask[:, 64:] = 1
    run = monkeypatch, network, enlarged, picture(50, 60, seed=1)
    radii, image = radii_of_a_run(*run, content_mask=mask)
    assert radii
    np.testing.assert_allclose(image[:, :60], enlarged[:, :60], atol=1e-3)
