"""Summary: what becomes of many pictures -> bars, lines, and a table at the end, on stderr."""

import os
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from neural_style_tf.batch.jobs import Outcome
from neural_style_tf.errors import UserError, message_of, one_line
from neural_style_tf.machine.streams import tolerant
from neural_style_tf.runs.progress import time_in_words

MAX_ROWS = 40  # pictures in the table at the end
WORDS = {"done": "painted", "kept": "already done", "failed": "failed"}


class Summary:
    """Shows a batch: in a terminal a bar for all pictures and one for each that is being painted,
    elsewhere a line per picture."""

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
        self._worker_bars: dict[int, TaskID] = {}
        self._noted: set[str] = set()

    def __enter__(self) -> "Summary":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Prints a line above the bars."""
        self._console.print(text, markup=False, soft_wrap=True)

    def note_once(self, text: str) -> None:
        """The same for what several processes may report."""
        text = one_line(text)
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)

    def show(self, worker: int, output: str, steps: tuple[int, int] | None) -> None:
        """Shows the picture that a worker is at. steps: done, and in all."""
        if worker not in self._worker_bars:
            self._worker_bars[worker] = self._bars.add_task("", total=None)
        done, total = steps or (0, None)
        name = os.path.basename(output)
        self._bars.update(self._worker_bars[worker], description=name, completed=done, total=total)

    def add(self, output: str, outcome: Outcome) -> None:
        """Adds what became of a picture."""
        self.outcomes[output] = outcome
        self._bars.update(self._all, completed=len(self.outcomes))
        number = f"{len(self.outcomes)}/{self._count}"
        for text in outcome.notes:
            self.note_once(text)
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
        """Prints a table of what became of each picture, with many pictures only of those that
        failed; and how many there are of each kind."""
        rows = list(self.outcomes.items())
        if len(rows) > MAX_ROWS:
            failed = [(output, outcome) for output, outcome in rows if outcome.status == "failed"]
            rows = failed[:MAX_ROWS]
        table = Table("picture", "", "time", "loss", box=None, pad_edge=False)
        for output, outcome in rows:
            took = time_in_words(outcome.seconds) if outcome.status == "done" else ""
            loss = f"{outcome.losses['total']:.3g}" if outcome.losses else ""
            table.add_row(Text(os.path.basename(output)), WORDS[outcome.status], took, loss)
        if rows:
            self._console.print(table)
        counts = [
            f"{number} {words}"
            for status, words in WORDS.items()
            if (number := sum(outcome.status == status for outcome in self.outcomes.values()))
        ]
        remaining = self._count - len(self.outcomes)
        counts += [f"{remaining} not started"] * bool(remaining)
        took = time_in_words(time.monotonic() - self._began)
        self.note(f"{', '.join(counts)} in {took}: {os.path.join(folder, 'gallery.html')}")
