"""Summary: what becomes of many pictures -> bars, lines, and a table at the end."""

import os
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from neural_style_tf.batch.jobs import Outcome
from neural_style_tf.errors import UserError, message_of
from neural_style_tf.machine.streams import tolerant
from neural_style_tf.runs.progress import time_in_words

SHOWN = 40  # pictures, at the end
WORDS = {"done": "painted", "kept": "there already", "failed": "failed"}


class Summary:
    """Shows a batch on stderr: in a terminal a bar of all pictures and one of each that is being
    painted, elsewhere a line a picture."""

    def __init__(self, count: int, quiet: bool = False):
        self.status = 0  # of the command
        self.outcomes: dict[str, Outcome] = {}  # by output
        self._count, self._began = count, time.monotonic()
        stderr = tolerant(sys.stderr)
        self._console = Console(file=stderr, quiet=quiet, highlight=False)
        self._errors = Console(file=stderr, highlight=False) if quiet else self._console
        self._bars = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )
        self._all = self._bars.add_task("pictures", total=count)
        self._of_workers: dict[int, int] = {}

    def __enter__(self) -> "Summary":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """A line of its own, above the bars."""
        self._console.print(text, markup=False, soft_wrap=True)

    def show(self, worker: int, output: str, steps: tuple[int, int] | None) -> None:
        """A worker is at a picture, and so many of its steps are done."""
        if worker not in self._of_workers:
            self._of_workers[worker] = self._bars.add_task("", total=None)
        done, total = steps or (0, None)
        name = os.path.basename(output)
        self._bars.update(self._of_workers[worker], description=name, completed=done, total=total)

    def add(self, output: str, outcome: Outcome) -> None:
        """A picture is done, or has failed."""
        self.outcomes[output] = outcome
        self._bars.update(self._all, completed=len(self.outcomes))
        number = f"{len(self.outcomes)}/{self._count}"
        if outcome.status == "failed":
            self.status = self.status or UserError.exit_status
            self._errors.print(f"{number} error: {outcome.message}", markup=False, soft_wrap=True)
        elif outcome.status == "done":
            self.note(f"{number} {output} in {time_in_words(outcome.seconds)}")

    def fail(self, error: UserError) -> None:
        """Nothing more will be painted."""
        self.status = error.exit_status
        self._errors.print(f"error: {message_of(error)}", markup=False, soft_wrap=True)

    def finish(self, folder: str) -> None:
        """What became of each, of many only of those that failed; and how many became what."""
        shown = list(self.outcomes.items())
        if len(shown) > SHOWN:
            shown = [one for one in shown if one[1].status == "failed"][:SHOWN]
        table = Table("picture", "", "time", "loss", box=None, pad_edge=False)
        for output, one in shown:
            took = time_in_words(one.seconds) if one.status == "done" else ""
            loss = f"{one.losses['total']:.3g}" if one.losses else ""
            table.add_row(Text(os.path.basename(output)), WORDS[one.status], took, loss)
        if shown:
            self._console.print(table)
        counts = [
            f"{number} {words}"
            for status, words in WORDS.items()
            if (number := sum(one.status == status for one in self.outcomes.values()))
        ]
        left = self._count - len(self.outcomes)
        counts += [f"{left} not begun"] * bool(left)
        took = time_in_words(time.monotonic() - self._began)
        self.note(f"{', '.join(counts)} in {took}: {os.path.join(folder, 'gallery.html')}")
