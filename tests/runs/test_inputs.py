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
