"""Kept: measures that were computed before, in a file, until something they depend on changes."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CODE = ("judge.py", "judge_network.py", "distances.py", "surface.py")

Measures = dict[str, float]


class Kept:
    """path: a file with a line of JSON per picture, or None to keep nothing."""

    def __init__(self, path: Path | None):
        self._path = path
        self._measures: dict[str, Measures] = {}
        if path and path.exists():
            lines = map(json.loads, path.read_text().splitlines())
            self._measures = {line["of"]: line["measures"] for line in lines}

    def get(self, pictures: Iterable[Path], compute: Callable[[], Measures]) -> Measures:
        """The measures of these pictures together, which depend on their content alone."""
        if self._path is None:
            return compute()
        digest = _digest([*pictures, *(HERE / name for name in CODE)])
        if digest not in self._measures:
            self._measures[digest] = compute()
            with self._path.open("a") as file:
                print(json.dumps({"of": digest, "measures": self._measures[digest]}), file=file)
        return self._measures[digest]


def _digest(paths: Iterable[Path]) -> str:
    each = (hashlib.sha256(path.read_bytes()).digest() for path in paths)
    return hashlib.sha256(b"".join(each)).hexdigest()
