"""What a GPU needs for a step, and how much of that its convolutions are; in three minutes.

    .venv/bin/python benchmarks/gpu.py [--json gpu.json] [--torch-python PYTHON]
    .venv/bin/python benchmarks/gpu.py --sizes 64 128 --large 256 --tile 128    # on a CPU

Each part runs in a process of its own, so that one that crashes or takes too long costs only its
own rows: the start of a run, the steps, PyTorch's step (benchmarks/torch_step.py, if PyTorch is
installed with CUDA), and large pictures in one piece and in tiles. Rows are printed as they come,
and are of `--style-loss moments` unless they name another.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import gpu_parts
from neural_style_tf.settings import BUNDLED_NETWORK

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("start", "steps", "torch", "large")
# what each row should reach on an H100 or H200 in bfloat16, by what and size
GOALS = {
    ("objective", 512): 2.5,
    ("objective", 2048): 20,
    ("Adam step", 512): 3,
    ("Adam step", 2048): 22,
    ("L-BFGS step", 512): 4.5,
    ("L-BFGS step", 2048): 28,
    ("share of convolutions", 2048): 50,
    ("times as fast as PyTorch", 512): 2.3,
    ("times as fast as PyTorch", 2048): 2,
    ("1000 Adam steps, not the first", 512): 4,
    ("until the first step has ended, without import", 512): 4,
}


def main() -> None:
    options = parser().parse_args()
    if options.part:
        gpu_parts.run(options, emit)
        return
    report = Report(options)
    report.print_heading()
    for part in PARTS:
        report.run(part)
    report.compare()
    if options.json:
        report.save(options.json)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048], help="square")
    parser.add_argument("--large", type=int, nargs="*", help="4096 and 8192 with a GPU, else none")
    parser.add_argument("--tile", type=int, default=2048, help="of the large pictures")
    parser.add_argument("--steps", type=int, default=1000, help="Adam's, of a second picture")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--network", default=str(BUNDLED_NETWORK))
    parser.add_argument("--seconds", type=float, default=170, help="for everything")
    parser.add_argument("--torch-python", default=sys.executable, help="the Python with PyTorch")
    parser.add_argument("--json", help="also write the results to this file")
    parser.add_argument("--part", choices=PARTS, help="run this part only, and print JSON")
    return parser


def emit(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


class Report:
    """Runs the parts, and prints and collects their rows."""

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self._end = time.monotonic() + options.seconds
        self._rows: list[dict[str, Any]] = []

    def print_heading(self) -> None:
        print("| what | size | measured | goal | |\n| --- | --- | --- | --- | --- |", flush=True)

    def run(self, part: str) -> None:
        """Runs a part in a process of its own, which is killed when the time is up."""
        left = self._end - time.monotonic()
        if left < 0.1:
            self.add({"what": part, "note": "skipped: no time left"})
            return
        try:
            with self._process(part, left) as process:
                self._add_rows(process)
        except OSError as error:  # that Python does not exist
            self.add({"what": part, "note": f"not started: {error}"})
            return
        if time.monotonic() >= self._end:
            self.add({"what": part, "note": "stopped: no time left"})
        elif process.returncode:
            self.add({"what": part, "note": f"ended with status {process.returncode}"})

    def _add_rows(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # what a library prints
                row = json.loads(line)
                if isinstance(row, dict) and "what" in row:
                    self.add(row)

    @contextlib.contextmanager
    def _process(self, part: str, seconds: float) -> Iterator[subprocess.Popen]:
        python = self._options.torch_python if part == "torch" else sys.executable
        with subprocess.Popen(
            [python, *self._command(part, seconds)], stdout=subprocess.PIPE, text=True
        ) as process:
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            try:
                yield process
            finally:
                timer.cancel()

    def _command(self, part: str, seconds: float) -> list[str]:
        options = self._options
        sizes = [str(size) for size in options.sizes]
        if part == "torch":
            return [str(ROOT / "benchmarks" / "torch_step.py"), "--sizes", *sizes]
        command = [__file__, "--part", part, "--seconds", str(seconds), "--sizes", *sizes]
        for name in ("tile", "steps", "precision", "network"):
            command += [f"--{name}", str(getattr(options, name))]
        if options.large is not None:
            command += ["--large", *map(str, options.large)]
        return command

    def add(self, row: dict[str, Any]) -> None:
        """Prints a row, and keeps it."""
        goal = GOALS.get((row["what"], row.get("size")))
        self._rows.append({**row, "goal": goal})
        size, unit = row.get("size"), row.get("unit", "")
        cells = [row["what"], f"{size}x{size}" if size else ""]
        cells += [in_words(value, unit) for value in (row.get("value"), goal)]
        print(f"| {' | '.join([*cells, row.get('note', '')])} |", flush=True)

    def compare(self) -> None:
        """Adds the rows that follow from several parts."""
        for size in self._options.sizes:
            ours, others = (self._value(what, size) for what in ("Adam step", "PyTorch step"))
            if ours and others:
                self.add({"what": "times as fast as PyTorch", "size": size, "value": others / ours})
        for what, runs in (
            (gpu_parts.SAME_BYTES, "runs in one process and in two"),
            (gpu_parts.SAME_BYTES_COMPILED, "runs with Adam in one process"),
        ):
            digests = {row.get("value") for row in self._rows if row["what"] == what}
            if digests:
                verdict = "yes" if len(digests) == 1 and None not in digests else "no"
                self.add({"what": f"{runs}: equal bytes", "value": verdict})

    def _value(self, what: str, size: int) -> Any:
        rows = [row for row in self._rows if (row["what"], row.get("size")) == (what, size)]
        return rows[0].get("value") if rows else None

    def save(self, path: str) -> None:
        Path(path).write_text(json.dumps({"rows": self._rows}, indent=1) + "\n")


def in_words(value: Any, unit: str) -> str:
    """A number with three digits and its unit; text as it is; nothing for None."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:.3g} {unit}".strip() if value < 1000 else f"{value:.0f} {unit}".strip()


if __name__ == "__main__":
    main()
