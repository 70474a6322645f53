"""Paints the pictures of the README and of examples/ anew, each by the command that stands there.

    .venv/bin/python tools/paint_examples.py [PART OF A NAME ...]

With a part of a name, only the pictures whose file names have it.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("examples/README.md", "README.md")
PROGRAM = [".venv/bin/python", "neural_style.py"]
BATCH = [".venv/bin/python", "batch.py"]


def main() -> None:
    wanted = sys.argv[1:]
    for command in [*commands(), *commands(program=BATCH)]:
        option = next((one for one in ("--output", "--output-dir") if one in command), None)
        output = command[command.index(option) + 1] if option else ""
        if output.startswith("examples/") and (
            not wanted or any(part in output for part in wanted)
        ):
            (ROOT / output).parent.mkdir(exist_ok=True)
            arguments = [*command[len(PROGRAM) :], "--overwrite"]
            subprocess.run([sys.executable, command[1], *arguments], cwd=ROOT, check=True)


def commands(pages: Iterable[str] = PAGES, program: list[str] = PROGRAM) -> list[list[str]]:
    """Every command line of a program on the pages, once, split into words."""
    text = "\n".join((ROOT / page).read_text() for page in pages)
    lines = text.replace("\\\n", " ").splitlines()
    split = (shlex.split(line) for line in lines if line.strip().startswith(PROGRAM[0]))
    found = dict.fromkeys(tuple(words) for words in split if words[:2] == program)
    return [list(words) for words in found]


if __name__ == "__main__":
    main()
