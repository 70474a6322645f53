"""Engine: a part of the soak -> its attempts, until enough have been made or time is up.

A part is a module of this package with

    WANTED: int                                how many attempts a full soak makes
    def soak(soak: Soak) -> None               makes attempts while `soak.wants_more()`
    def replay(path: Path) -> str | None       repeats a saved attempt: what is wrong, or None
"""

import hashlib
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

EXAMPLES = 3  # failures of each kind that are saved


class SkippedError(Exception):
    """A part, or the rest of one, cannot be tried here; the message says why."""


class Soak:
    """The attempts of one part. Everything random comes from `random`, so that a seed repeats it.

    folder: an empty folder of its own, removed at the end.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        wanted: int,
        seconds: float,
        failures: Path,
        is_timed: bool = True,
    ):
        """failures: the folder that failed attempts are saved in. is_timed: whether an attempt may
        fail for the time that it takes; where other programs run at the same time it may not."""
        self.name, self.seed, self.wanted, self.is_timed = name, seed, wanted, is_timed
        self.random = random.Random(f"{name} {seed}")
        self.attempts = 0
        self.kinds: Counter[str] = Counter()  # of failures
        self.notes: list[str] = []  # figures for the report
        self.took = 0.0  # seconds, known at the end
        self.skipped = ""  # the reason, if it was skipped
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._failures = failures

    def __enter__(self) -> "Soak":
        self.folder = Path(tempfile.mkdtemp(prefix=f"soak-{self.name}-"))
        print(f"{self.name}: seed {self.seed}", flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.took = self.seconds()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make(self, part: ModuleType) -> None:
        """Makes the attempts of a part. One that cannot be tried here is skipped; one that breaks
        has failed."""
        with self:
            try:
                part.soak(self)
            except SkippedError as error:
                self.skipped = str(error)
            except Exception as error:
                traceback.print_exception(error)
                self.kinds[f"the part itself broke ({type(error).__name__})"] += 1

    def wants_more(self) -> bool:
        """Whether another attempt is to be made."""
        return self.attempts < self.wanted and time.monotonic() < self._ends

    def seconds(self) -> float:
        """Since the part began."""
        return time.monotonic() - self._began

    def seconds_left(self) -> float:
        """Seconds that remain for the part."""
        return self._ends - time.monotonic()

    def count(self, attempts: int = 1) -> None:
        """Counts attempts that were made, failed or not."""
        self.attempts += attempts

    def note(self, text: str) -> None:
        """Adds a figure to the report, such as a peak of memory."""
        self.notes.append(text)
        print(f"{self.name}: {text}", flush=True)

    def fail(self, kind: str, message: str, data: bytes = b"", ending: str = ".json") -> None:
        """Records a failed attempt. kind: short, the same for failures of one cause. data: what
        `replay` needs to repeat the attempt; the file's name begins with the part's."""
        self.kinds[kind] += 1
        if self.kinds[kind] > EXAMPLES:
            return
        self._failures.mkdir(parents=True, exist_ok=True)
        plain = "".join(letter if letter.isalnum() else "_" for letter in kind)[:80]
        digest = hashlib.sha256(data).hexdigest()[:8]
        path = self._failures / f"{self.name}-{plain}-{digest}{ending}"
        path.write_bytes(data)
        print(f"{self.name}: {kind}: {message[:500]} ({path})", file=sys.stderr, flush=True)

    def seed_of(self, number: int) -> str:
        """The seed of an attempt by its number: with it, a child process makes the same one."""
        return f"{self.name} {self.seed} {number}"


def summary(parts: Sequence[Soak]) -> str:
    """A table of the parts, with what failed below each."""
    lines = [f"{'part':<16}{'attempts':>10}{'wanted':>10}{'failed':>8}{'seconds':>9}"]
    for part in parts:
        figures = f"{part.attempts:>10}{part.wanted:>10}{part.kinds.total():>8}{part.took:>9.0f}"
        lines.append(f"{part.name:<16}{figures}")
        lines += [f"    {count} x {kind}" for kind, count in part.kinds.most_common()]
        lines += [f"    skipped: {part.skipped}"] * bool(part.skipped)
        lines += [f"    {note}" for note in part.notes]
    return "\n".join(lines)
