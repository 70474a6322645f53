"""Progress: a step -> terminal bar, log lines, table and plot of the losses."""

import contextlib
import csv
import io
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from neural_style_tf.machine.streams import logged, tolerant
from neural_style_tf.painting import stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.pictures import files
from neural_style_tf.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from neural_style_tf.painting.stylize import Step

LINE_EVERY_SECONDS = 5.0  # where stderr is no terminal
LOOK_EVERY_SECONDS = 0.25  # a look at the losses waits for the device
WIDE = 100  # columns of a terminal that hold the bar and every loss
LOSSES = ("content", "style", "tv", "total")
COLUMNS = ("iteration", "seconds", *LOSSES)


class Progress:
    """Shows a run on stderr: a bar in a terminal, a line every few seconds elsewhere.

    plan: the stages of the run, which say how much a step costs.
    keep_losses: remember the losses of every step, for `save_table` and `save_plot`.
    """

    def __init__(
        self,
        settings: Settings,
        plan: list[Stage],
        quiet: bool = False,
        keep_losses: bool = False,
    ):
        self._plan = plan
        self._total = settings.iterations
        self._print_iterations = settings.print_iterations
        self._keep_losses = keep_losses
        self.rows: list[list[float]] = []  # losses of each step, as in the table
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
        self._logged = logged(self.note)
        self._logged.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._logged.__exit__(None, None, None)

    def note(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def tell_error(self, text: str) -> None:
        """The same, and where only errors are wanted, too."""
        self._errors.print(text, markup=False, soft_wrap=True)

    def keep(self, step: "Step") -> None:
        """Remembers the losses of a step, if they are wanted."""
        if step.iteration is not None and self._keep_losses:
            losses = step.losses()
            self.rows.append([step.iteration, step.seconds, *(losses[name] for name in LOSSES)])

    def show(self, step: "Step") -> None:
        """Takes a step in: moves the bar, or prints the losses when it is time."""
        self._last = step
        if step.iteration is None:
            return
        self._done = step.iteration + 1
        if self._is_first:
            self._bar.start()
        self._show_in_bar(step) if self._console.is_terminal else self._show_in_line(step)
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

    def go_on(self, iterations: int, rows: "np.ndarray") -> None:
        """Continues another's: so many steps are done, with these `rows`."""
        self._done = iterations
        self.rows = [[int(row[0]), *map(float, row[1:])] for row in rows if row[0] < iterations]

    def save_table(self, path: str) -> None:
        """Writes the losses of every step as CSV with a header."""
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(COLUMNS)
        table.writerows(self.rows)
        files.write(path, text.getvalue().encode())

    def save_plot(self, path: str) -> None:
        """Plots the losses over the steps, as a PNG. Needs matplotlib."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel="weighted loss", yscale="log")
        steps = [row[0] + 1 for row in self.rows]
        for column, name in enumerate(LOSSES, 2):
            axes.plot(steps, [row[column] for row in self.rows], label=name)
        axes.grid(alpha=0.3)
        axes.legend()
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=120)
        files.write(path, data.getvalue())

    def _show_in_bar(self, step: "Step") -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_SECONDS or self._is_first:
            self._looked = now
            names = LOSSES if self._console.width >= WIDE else ("total",)
            description = f"{losses_in_words(step, names)}  {self._times(step)}"
            self._bar.update(self._task, description=description)
        self._bar.update(self._task, completed=step.iteration + 1)

    def _show_in_line(self, step: "Step") -> None:
        now = time.monotonic()
        if now - self._looked >= LINE_EVERY_SECONDS:
            self._looked = now
            done = f"{step.iteration + 1}/{self._total}"
            self.note(f"{done}  {losses_in_words(step)}  {self._times(step)}")

    def _times(self, step: "Step") -> str:
        done = stages.work_done(self._plan, step.iteration + 1)
        left = step.seconds / done * (1 - done)
        return f"{time_in_words(step.seconds)} gone, {time_in_words(left)} left"


def losses_in_words(step: "Step", names: tuple[str, ...] = LOSSES) -> str:
    """content 9.16e+05  style 3.49e+05  tv 8.05e+04  total 1.35e+06"""
    losses = step.losses()
    return "  ".join(f"{name} {losses[name]:.3g}" for name in names)


def time_in_words(seconds: float) -> str:
    """1:02:03, or 2:03 under an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
