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
