"""What a notebook shows of a run, with a stand-in for IPython."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import Step
from neural_style_tf.runs import notebook
from neural_style_tf.runs.notebook import NotebookDisplay

LOSSES = {"content": 1e6, "style": 2e5, "tv": 3e4, "total": 1.23e6}
STAGES = [Stage(1, 2, 300, 400, 4), Stage(2, 2, 600, 800, 4)]


class StandIn(types.ModuleType):
    """IPython with a kernel, and a cell that keeps what each display has shown."""

    def __init__(self, kernel="kernel"):
        super().__init__("IPython")
        self.shown = []  # a list per display
        self.get_ipython = lambda: types.SimpleNamespace(kernel=kernel)
        self.display = types.SimpleNamespace(
            display=self._show,
            Pretty=lambda text: text,
            Image=lambda data, format: Image.open(io.BytesIO(data), formats=[format]),
        )

    def _show(self, thing, display_id):
        assert display_id is True
        things = [thing]
        self.shown.append(things)
        return types.SimpleNamespace(update=things.append)


@pytest.fixture
def cell(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "IPython", stand_in)
    return stand_in


@pytest.fixture
def clock(monkeypatch):
    """The time, which passes only when a test says so."""
    clock = types.SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(notebook, "time", clock)
    return clock


def step(iteration, picture, seconds=None):
    stage = STAGES[-1 if iteration is None else iteration // 4]
    seconds = 2.0 * (iteration + 1) if seconds is None else seconds
    return Step(iteration, 8, stage, seconds, lambda: LOSSES, lambda: picture, None)


def test_picture_and_bar_grow_in_place(cell, clock, picture):
    small, large = picture(300, 400), picture(600, 800, seed=1)
    display = NotebookDisplay()
    for iteration in range(8):
        display(step(iteration, small if iteration < 4 else large))
        clock.now += 1
    display(step(None, large, seconds=16.0))
    lines, pictures = cell.shown
    assert len(lines) == len(pictures) == 9
    losses = "content 1e+06  style 2e+05  tv 3e+04  total 1.23e+06"
    assert lines[0] == f"███{'░' * 27}  1/8  {losses}  0:02 elapsed"
    assert lines[5] == f"{'█' * 22}{'░' * 8}  6/8  {losses}  0:12 elapsed, 0:04 remaining"
    assert lines[-1] == f"8 steps in 0:16, {losses}"
    assert [image.size for image in (pictures[0], pictures[-1])] == [(400, 300), (512, 384)]
    assert np.abs(np.asarray(pictures[0], float) - small).mean() < 5


def test_it_is_shown_twice_a_second_at_most(cell, clock, picture):
    display, image = NotebookDisplay(), picture()
    for iteration in range(8):
        display(step(iteration, image))
        clock.now += 0.2
    lines, pictures = cell.shown
    assert len(lines) == len(pictures) == 3  # after 0, 0.6 and 1.2 seconds


def test_showing_costs_a_twentieth_of_the_time(cell, clock, picture):
    shown, image = [], picture()

    def fetch():
        clock.now += 1.0
        shown.append(clock.now)
        return image

    display = NotebookDisplay()
    for _ in range(100):
        display(step(0, None)._replace(image=fetch))
        clock.now += 1.0
    assert len(shown) == 5


def test_a_run_that_stops_early_says_so(cell, clock, picture):
    display = NotebookDisplay()
    display(step(0, picture()))
    display(step(None, picture(), seconds=2.0))
    assert cell.shown[0][-1].startswith("1 of 8 steps in 0:02, ")


@pytest.mark.parametrize("module", [None, StandIn(kernel=None)], ids=["script", "terminal"])
def test_nothing_is_shown_or_fetched_outside_of_a_notebook(monkeypatch, module):
    def fetched():
        raise AssertionError("a look waits for the device")

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    if module:
        monkeypatch.setitem(sys.modules, "IPython", module)
    display = NotebookDisplay()
    for iteration in (0, None):
        display(Step(iteration, 8, STAGES[0], 1.0, fetched, fetched, fetched))
    assert not module or not module.shown
    assert module or "IPython" not in sys.modules


def test_a_run_shows_itself(cell, network, picture):
    from neural_style_tf.painting.stylize import stylize

    options = {"iterations": 3, "optimizer": "adam", "style_loss": "mean"}
    images = stylize(network, picture(), [picture(seed=1)], on_step=NotebookDisplay(), **options)
    (last,) = [image for iteration, image in images if iteration is None]
    lines, pictures = cell.shown
    assert lines[-1].startswith("3 steps in 0:0") and pictures[-1].size == (45, 34)
    assert np.abs(np.asarray(pictures[-1], float) - last).mean() < 12
