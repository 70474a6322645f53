"""What a picture is like close up, painted with the bundled network."""

from pathlib import Path

import pytest

from benchmarks import surface
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import reading, resampling

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("style_loss", ["moments", "neighbors"])
def test_skies_and_walls_are_paint_without_mesh_or_ripple(style_loss):
    """Fine detail where the photo is flat is at most 1.2 times the painting's own."""
    photo = resampling.resize(reading.read(EXAMPLES / "china.jpg").pixels, 96, 144)
    painting = resampling.resize(reading.read(EXAMPLES / "church-at-auvers.jpg").pixels, 128, 102)
    pictures = {"content": photo, "styles": [painting]}
    *_, (_, picture) = stylize(**pictures, style_loss=style_loss)
    assert 0.3 < surface.flat_detail(picture, photo, painting) <= 1.2
