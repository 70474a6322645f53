"""Progress: a step -> a bar in the terminal, or a line in a log."""

import contextlib
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from neural_style_tf.machine.streams import logged, tolerant
from neural_style_tf.painting import stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import LOSSES, Step
from neural_style_tf.settings import Settings

LINE_EVERY_SECONDS = 5.0  # where stderr is not a terminal
LOSSES_EVERY_SECONDS = 0.25  # reading the losses waits for the device
WIDE = 100  # columns: a terminal that has room for the bar and every loss


class Progress:
    """Shows a run on stderr: a bar in a terminal, a line every few seconds elsewhere.

    plan: the stages of the run, which determine how much work each step is.
    """

    def __init__(self, settings: Settings, plan: list[Stage], quiet: bool = False):
        self._plan, self._is_quiet = plan, quiet
        self._logged = contextlib.ExitStack()
        self._total = settings.iterations
        self._print_iterations = settings.print_iterations
        self._last: Step | None = None
        self._done = 0
        self._is_first = True
        self.last_words = ""  # what was saved where
        self._looked = time.monotonic()
        stderr = tolerant(sys.stderr)
        self._console = Console(file=stderr, quiet=quiet, highlight=False)
        self._errors = Console(file=stderr, highlight=False) if quiet else self._console
        self._bar = Bar(
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=self._total)

    def __enter__(self) -> "Progress":
        if not self._is_quiet:  # else it is for whoever called
            self._logged.enter_context(logged(self.note))
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._logged.close()

    def note(self, text: str) -> None:
        """Prints a line above the bar, unless the run is quiet."""
        self._console.print(text, markup=False, soft_wrap=True)

    def show_error(self, text: str) -> None:
        """Prints a line above the bar, even if the run is quiet."""
        self._errors.print(text, markup=False, soft_wrap=True)

    def show(self, step: Step) -> None:
        """Takes a step in: moves the bar, or prints the losses when it is time."""
        self._last = step
        if step.iteration is None:
            return
        self._done = step.iteration + 1
        if self._is_first:
            self._bar.start()
        if self._console.is_terminal:
            self._show_in_bar(step)
        else:
            self._show_in_line(step)
        self._is_first = False
        if self._print_iterations and step.iteration % self._print_iterations == 0:
            self.note(f"step {step.iteration + 1}: {losses_in_words(step)}")

    def finish(self, path: str) -> None:
        """Says what was saved where."""
        self._bar.stop()
        self.last_words = path
        if self._last is not None:
            of = "" if self._done == self._total else f" of {self._total}"
            seconds = time_in_words(self._last.seconds)
            self.last_words += f": {self._done}{of} steps in {seconds}"
            with contextlib.suppress(Exception):  # a device that has failed has no losses
                self.last_words += f", {losses_in_words(self._last)}"
        self.note(self.last_words)

    def resume(self, iterations: int) -> None:
        """Begins after that many steps."""
        self._done = iterations

    def _show_in_bar(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._looked >= LOSSES_EVERY_SECONDS or self._is_first:
            self._looked = now
            names = LOSSES if self._console.width >= WIDE else ("total",)
            description = f"{losses_in_words(step, names)}  {self._times(step)}"
            self._bar.update(self._task, description=description)
        self._bar.update(self._task, completed=self._done)

    def _show_in_line(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._looked >= LINE_EVERY_SECONDS:
            self._looked = now
            done = f"{self._done}/{self._total}"
            self.note(f"{done}  {losses_in_words(step)}  {self._times(step)}")

    def _times(self, step: Step) -> str:
        """0:10 elapsed, 0:20 remaining"""
        elapsed = time_in_words(step.seconds)
        remaining = seconds_remaining(self._plan, self._done, step.seconds)
        return f"{elapsed} elapsed, {time_in_words(remaining)} remaining"


def seconds_remaining(plan: list[Stage], steps: int, seconds: float) -> float:
    """An estimate, from the work that the steps so far and all others are. seconds: that `steps`
    have taken."""
    done = stages.work_done(plan, steps)
    return seconds / done * (1 - done)


def losses_in_words(step: Step, names: tuple[str, ...] = LOSSES) -> str:
    """content 9.16e+05  style 3.49e+05  tv 8.05e+04  total 1.35e+06"""
    losses = step.losses()
    return "  ".join(f"{name} {losses[name]:.3g}" for name in names)


def time_in_words(seconds: float) -> str:
    """1:02:03, or 2:03 under an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
