"""Paints the pictures of the README, docs/ and examples/ again, each with the command on its page.

    .venv/bin/python tools/paint_examples.py [PART OF A NAME ...]

With a part of a name: only the pictures whose file names contain it.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("examples/README.md", "README.md", "docs/tuning.md", "docs/long-runs.md")
# How the pages spell a program: installed, and in a checkout.
PAINT = ("neural-style", ".venv/bin/neural-style", ".venv/bin/python neural_style.py")
BATCH = ("neural-style-batch", ".venv/bin/neural-style-batch", ".venv/bin/python batch.py")


def main() -> None:
    wanted = sys.argv[1:]
    programs = ((PAINT, "neural_style.py", "--output"), (BATCH, "batch.py", "--output-dir"))
    for spellings, script, option in programs:
        for arguments in commands(spellings):
            output = arguments[arguments.index(option) + 1] if option in arguments else ""
            if is_wanted(output, wanted):
                (ROOT / output).parent.mkdir(exist_ok=True)
                command = [sys.executable, script, *arguments, "--overwrite"]
                subprocess.run(command, cwd=ROOT, check=True)


def is_wanted(output: str, parts: list[str]) -> bool:
    in_examples = output.startswith("examples/")
    return in_examples and (not parts or any(part in output for part in parts))


def commands(spellings: tuple[str, ...] = PAINT, pages: Iterable[str] = PAGES) -> list[list[str]]:
    """The arguments of every different command line of a program on the pages."""
    text = "\n".join((ROOT / page).read_text() for page in pages)
    lines = text.replace("\\\n", " ").splitlines()
    different = {}
    for line in lines:
        spelling = next((s for s in spellings if line.startswith(f"    {s} ")), None)
        if spelling:
            arguments = shlex.split(line.strip().removeprefix(spelling), comments=True)
            different[tuple(arguments)] = arguments
    return list(different.values())


if __name__ == "__main__":
    main()
