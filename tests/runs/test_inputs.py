"""Inputs: a result that cannot be held or saved is refused before pictures are enlarged."""

import numpy as np
import pytest
from samples import error_of

from neural_style_tf.errors import UsageError
from neural_style_tf.machine import memory
from neural_style_tf.pictures import resampling, writing
from neural_style_tf.runs import inputs
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.settings import Settings


@pytest.fixture
def photo_not_to_be_enlarged(tmp_path, monkeypatch):
    """One of 30x20 pixels."""

    def enlarged(*_):
        raise AssertionError("enlarged")

    monkeypatch.setattr(resampling, "at_size", enlarged)
    writing.save(tmp_path / "photo.png", np.zeros((20, 30, 3), np.float32))
    return str(tmp_path / "photo.png")


def options_of(content, output, size):
    settings = Settings(size=size)
    return RunOptions(content=content, styles=["s"], output=output, settings=settings)


def test_a_result_too_large_for_its_file_is_told_first(photo_not_to_be_enlarged):
    options = options_of(photo_not_to_be_enlarged, "out.jpg", 70_000)
    with pytest.raises(UsageError, match=r"out\.jpg would be 70000 wide and 46667 high"):
        inputs.load(options)


def test_a_result_too_large_for_the_memory_is_told_first(photo_not_to_be_enlarged, monkeypatch):
    monkeypatch.setattr(memory, "free_system_memory", lambda: 2_000_000_000)
    options = options_of(photo_not_to_be_enlarged, "out.png", 9000)
    assert error_of(inputs.load, options) == (
        "9000x6000 pixels take 3.9 GB of memory at least, and 2.0 GB are free: "
        "make the picture smaller"
    )


@pytest.fixture
def files(tmp_path):
    """A function that writes a picture of that size, [H, W], and returns its path."""

    def write(name, height, width):
        writing.save(tmp_path / name, np.random.default_rng(0).uniform(0, 255, (height, width, 3)))
        return str(tmp_path / name)

    return write


def load(content, *styles, **settings):
    options = RunOptions(
        content=content, styles=styles, output="out.png", settings=Settings(**settings)
    )
    return inputs.load(options)


def shapes(pictures):
    return [picture.shape[:2] for picture in pictures]


def test_a_photo_on_its_side_has_strokes_of_the_same_size(files):
    lying, standing = files("lying.png", 40, 60), files("standing.png", 60, 40)
    for style in (lying, standing):
        style_of_lying, style_of_standing = (
            shapes(load(content, style).styles) for content in (lying, standing)
        )
        assert style_of_lying == style_of_standing
    assert shapes(load(standing, lying).styles) == [(40, 60)]
    assert shapes(load(standing, lying, style_fit="width").styles) == [(27, 40)]


def test_a_long_scroll_is_as_large_as_the_result(files):
    photo, scroll = files("photo.png", 64, 64), files("scroll.png", 20, 600)
    assert shapes(load(photo, scroll).styles) == [(16, 480)]
    longer = files("longer.png", 6, 1200)
    assert shapes(load(photo, longer, scroll).styles) == [(16, 1024), (16, 480)]


def test_a_mask_of_a_scroll_is_cropped_as_the_scroll_is(files, tmp_path):
    photo, scroll = files("photo.png", 64, 64), files("scroll.png", 4, 800)
    mask = np.zeros((4, 800, 3), np.float32)
    mask[:, 400:] = 255
    writing.save(tmp_path / "mask.png", mask)
    options = RunOptions(
        content=photo,
        styles=[scroll],
        output="out.png",
        style_source_masks=[str(tmp_path / "mask.png")],
    )
    pictures = inputs.load(options)
    (source,) = pictures.masks["style_source_masks"]
    assert source.shape == pictures.styles[0].shape[:2] == (16, 1024)
    assert source[:, :500].max() < 0.01 and source[:, 524:].min() > 0.99


def test_the_long_side_of_styles_is_set(files):
    photo, one, other = files("photo.png", 64, 64), files("a.png", 30, 60), files("b.png", 60, 40)
    assert shapes(load(photo, one, other, style_size=[90]).styles) == [(45, 90), (90, 60)]
    assert shapes(load(photo, one, other, style_size=[90, 30]).styles) == [(45, 90), (30, 20)]


THIRDS = np.repeat(np.repeat([[40, 120, 200]], 30, 0), 30, 1)  # [30, 90]: dark, grey, light


@pytest.fixture
def thirds(tmp_path):
    """A function that writes a picture of three squares side by side, and returns its path."""

    def write(name, levels=THIRDS):
        writing.save(tmp_path / name, np.stack([levels] * 3, -1).astype(np.float32))
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    "fit, columns",
    [
        (None, {4: 120, 15: 120, 25: 120}),
        ("crop", {4: 120, 15: 120, 25: 120}),
        ("pad", {0: 40, 4: 40, 15: 120, 25: 200}),
        ("stretch", {0: 40, 4: 40, 15: 120, 25: 200}),
    ],
)
def test_a_photo_is_fitted_with_its_masks_and_its_start(thirds, fit, columns):
    """To 30x30: a third of it, all of it with its mirror image, or all of it narrower."""
    files = {name: thirds(f"{name}.png") for name in ("photo", "initial")}
    files["mask"] = thirds("mask.png", THIRDS[:10, ::3])  # a third of the photo's size
    options = RunOptions(
        content=files["photo"],
        styles=[files["photo"]],
        output="out.png",
        initial=files["initial"],
        content_mask=files["mask"],
        style_masks=[files["mask"]],
        settings=Settings(width=30, height=30, fit=fit, style_fit="stretch"),
    )
    pictures = inputs.load(options)
    masks = 255 * pictures.masks["content_mask"], 255 * pictures.masks["style_masks"][0]
    for picture in (pictures.content[..., 1], pictures.initial[..., 0], *masks):
        assert picture.shape == (30, 30)
        for column, level in columns.items():
            # where a mask is enlarged, Lanczos overshoots by some levels beside an edge
            np.testing.assert_allclose(picture[15, column], level, atol=8)
    if fit == "pad":  # the ten rows of the photo, and their mirror image above and below
        np.testing.assert_allclose(pictures.content[:10], pictures.content[19:9:-1], atol=1e-3)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_masks_and_starts_of_the_size_of_the_result_are_taken_whole(thirds, fit):
    levels = THIRDS[:, 15:75:2]  # [30, 30]
    square = thirds("square.png", levels)
    options = RunOptions(
        content=thirds("photo.png"),
        styles=[square],
        output="out.png",
        initial=square,
        content_mask=square,
        settings=Settings(width=30, height=30, fit=fit),
    )
    pictures = inputs.load(options)
    np.testing.assert_allclose(pictures.initial[..., 2], levels, atol=0.01)
    np.testing.assert_allclose(255 * pictures.masks["content_mask"], levels, atol=0.01)


@pytest.mark.parametrize("fit, middle", [(None, [120, 120]), ("stretch", [40, 200])])
def test_a_start_of_other_proportions_is_cropped_as_a_photo_would_be(thirds, files, fit, middle):
    size = {"width": 30, "height": 30, "fit": fit} if fit else {}
    options = RunOptions(
        content=files("photo.png", 30, 30),
        styles=[files("painting.png", 30, 30)],
        output="out.png",
        initial=thirds("initial.png"),
        settings=Settings(**size),
    )
    np.testing.assert_allclose(inputs.load(options).initial[15, [2, -3], 0], middle, atol=1)


def test_transparency_is_fitted_with_the_photo(tmp_path):
    alpha = np.repeat(np.repeat([[0.0, 0.5, 1.0]], 30, 0), 30, 1).astype(np.float32)
    writing.save(tmp_path / "photo.png", np.full((30, 90, 3), 100, np.float32), alpha)
    photo = str(tmp_path / "photo.png")
    fitted = load(photo, photo, width=30, height=30).alpha
    np.testing.assert_allclose(fitted, 0.5, atol=0.01)
    padded = load(photo, photo, width=30, height=30, fit="pad").alpha
    np.testing.assert_allclose(padded[:, [4, 15, 25]], np.tile([0, 0.5, 1], (30, 1)), atol=0.01)


def test_a_mask_of_other_proportions_is_refused(thirds, files):
    options = RunOptions(
        content=thirds("photo.png"),
        styles=[thirds("style.png")],
        output="out.png",
        content_mask=files("mask.png", 20, 30),
        settings=Settings(width=30, height=30),
    )
    assert error_of(inputs.load, options, kind=UsageError) == (
        f"mask {options.content_mask} is 30x20 and its picture 90x30: give it the same proportions"
    )


def test_a_mask_that_is_white_only_where_the_photo_is_cut_off_is_refused(thirds):
    options = RunOptions(
        content=thirds("photo.png"),
        styles=[thirds("style.png")],
        output="out.png",
        content_mask=thirds("mask.png", np.where(THIRDS == 40, 255, 0)),
        settings=Settings(width=20, height=30),
    )
    assert error_of(inputs.load, options, kind=UsageError) == (
        f"mask {options.content_mask} is all black in what is left of its picture: "
        "paint white what counts"
    )
