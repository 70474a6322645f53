"""Loss table: the losses of every step -> a CSV file and a plot."""

import csv
import io
from typing import TYPE_CHECKING

from neural_style_tf.painting.step import LOSSES, Step
from neural_style_tf.pictures import files

if TYPE_CHECKING:
    import numpy as np

COLUMNS = ("iteration", "seconds", *LOSSES)


class LossTable:
    """The losses of the steps so far: a row per step, with the values of `COLUMNS`.

    is_wanted: whether `add` keeps anything, which waits for the device.
    """

    def __init__(self, is_wanted: bool = True):
        self._is_wanted = is_wanted
        self.rows: list[list[float]] = []

    def add(self, step: Step) -> None:
        """Adds the losses of a step."""
        if step.iteration is not None and self._is_wanted:
            losses = step.losses()
            self.rows.append([step.iteration, step.seconds, *(losses[name] for name in LOSSES)])

    def resume(self, iterations: int, rows: "np.ndarray") -> None:
        """Takes over the rows of the run that is resumed, up to that step. rows: [steps, 6]."""
        self.rows = [[int(row[0]), *map(float, row[1:])] for row in rows if row[0] < iterations]

    def save_csv(self, path: files.StrPath) -> None:
        """Writes the table as CSV, with a header. Raises `UserError`."""
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(COLUMNS)
        table.writerows(self.rows)
        files.write(path, text.getvalue().encode())

    def save_plot(self, path: files.StrPath) -> None:
        """Plots the losses over the steps, as a PNG. Needs matplotlib. Raises `UserError`."""
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
