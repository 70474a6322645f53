"""Notebook: a step -> the picture and a line of progress below the cell that paints.

IPython is never imported for this: where a notebook runs, it is imported already.
"""

import io
import sys
import time
from typing import TYPE_CHECKING, Any

from PIL import Image

from neural_style_tf.painting.step import Step
from neural_style_tf.pictures import writing
from neural_style_tf.runs.progress import losses_in_words, time_in_words

if TYPE_CHECKING:
    import numpy as np

LONGEST_SIDE = 512  # pixels, of the picture in the notebook
SHOW_EVERY_SECONDS = 0.5  # at most this often
TIME_SHARE = 0.05  # of the run's time that showing it may cost
BAR_CELLS = 30


def is_running() -> bool:
    """Whether this process is the kernel of a notebook, such as Jupyter's or Colab's."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookDisplay:
    """Shows a run in a notebook, for `on_step` of `stylize`:

        for iteration, image in stylize(..., on_step=NotebookDisplay()):

    Outside of a notebook it does nothing. An object shows one run.
    """

    def __init__(self) -> None:
        self._display: Any = sys.modules["IPython"].display if is_running() else None
        self._picture: Any = None
        self._line: Any = None  # handles of what is displayed
        self._shown, self._cost = -float("inf"), 0.0  # when, and seconds
        self._done = 0  # steps
        self._first: Step | None = None  # of the current stage; it takes longer than the others

    def __call__(self, step: Step) -> None:
        """Takes a step in. Fetches its picture and losses only when they are due to be shown."""
        if self._display is None:
            return
        if step.iteration is not None:
            if self._first is None or step.stage != self._first.stage:
                self._first = step
            self._done = step.iteration + 1
        now = time.monotonic()
        pause = max(SHOW_EVERY_SECONDS, self._cost / TIME_SHARE)
        if step.iteration is None or now - self._shown >= pause:
            self._show(step)
            self._shown = time.monotonic()
            self._cost = self._shown - now

    def _show(self, step: Step) -> None:
        line = self._display.Pretty(self._progress(step))
        picture = self._display.Image(data=_jpeg(step.image()), format="jpeg")
        if self._line is None:
            self._line = self._display.display(line, display_id=True)
            self._picture = self._display.display(picture, display_id=True)
        else:
            self._line.update(line)
            self._picture.update(picture)

    def _progress(self, step: Step) -> str:
        """███████░░░  45/60  content 9.16e+05 ...  0:10 elapsed, 0:03 remaining"""
        done = self._done
        if step.iteration is None:
            of = "" if done == step.total else f" of {step.total}"
            return f"{done}{of} steps in {time_in_words(step.seconds)}, {losses_in_words(step)}"
        full = BAR_CELLS * done // step.total
        bar = "█" * full + "░" * (BAR_CELLS - full)
        elapsed = f"{time_in_words(step.seconds)} elapsed"
        remaining = self._seconds_remaining(step)
        times = elapsed if remaining is None else f"{elapsed}, {time_in_words(remaining)} remaining"
        return f"{bar}  {done}/{step.total}  {losses_in_words(step)}  {times}"

    def _seconds_remaining(self, step: Step) -> float | None:
        """How long the last stage will take at the pace that it has had so far; None for earlier
        stages, whose steps take less time than those to come."""
        first = self._first
        if first is None or first.iteration is None or step.stage.number < step.stage.count:
            return None
        steps = self._done - 1 - first.iteration
        if steps == 0:
            return None
        return (step.seconds - first.seconds) / steps * (step.total - self._done)


def _jpeg(picture: "np.ndarray") -> bytes:
    """A picture [H, W, 3] RGB 0..255 as a JPEG file of at most `LONGEST_SIDE`."""
    image = Image.fromarray(writing.to_bytes(picture))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), reducing_gap=2)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
