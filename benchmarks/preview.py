"""Preview: how much a page in the browser slows down the run that it shows.

    .venv/bin/python benchmarks/preview.py [--size 512] [--viewers 1] [--rounds 7]

Paints the example pair. In turn, ten steps are shown on the page, to viewers who fetch every
picture, and ten are not. Prints the medians and their ratio.
"""

import argparse
import http.client
import json
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import memory
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.painting import stages
from neural_style_tf.pictures import reading, resampling
from neural_style_tf.runs.preview import Preview
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

ROOT = Path(__file__).resolve().parent.parent
STEPS = 10  # per turn
WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--viewers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    plain, shown, pictures = seconds(options.size, options.viewers, options.rounds)
    print("| step | seconds |\n| --- | --- |")
    print(f"| {options.size}x{options.size} | {plain:.4f} |")
    print(f"| shown to {options.viewers}, {pictures} pictures fetched | {shown:.4f} |")
    print(f"\n{shown / plain - 1:+.1%}; {memory.peak():.0f} MB")


def seconds(size: int, viewers: int, rounds: int) -> tuple[float, float, int]:
    """The median seconds of a step that is not shown and of one that is, and how many pictures were
    fetched."""
    tensorflow_setup.start(debug=False)
    from neural_style_tf.painting.stylize import stylize

    photo, painting = (
        resampling.resize(reading.read(ROOT / "examples" / name).pixels, size, size)
        for name in ("china.jpg", "church-at-auvers.jpg")
    )
    steps = WARM_UP + 2 * rounds * STEPS
    settings = Settings(style_loss="moments", iterations=steps, scales="off")
    preview = Preview("127.0.0.1", 0, "benchmark")
    preview.begin(photo, stages.plan(size, size, settings), lambda: None, lambda image: image)
    fetched = []
    for _ in range(viewers):
        threading.Thread(target=look, args=(preview.address, fetched), daemon=True).start()
    turns: dict[bool, list[float]] = {False: [], True: []}
    began = None

    def on_step(step) -> None:
        nonlocal began
        number = (step.iteration or 0) - WARM_UP
        is_shown = number // STEPS % 2 == 1
        if step.iteration is not None and is_shown:
            preview.see(step)
        if number % STEPS == STEPS - 1 and number > 0:
            step.losses()  # waits for the device
            turns[is_shown].append((time.perf_counter() - began) / STEPS)
        if number % STEPS == STEPS - 1:
            began = time.perf_counter()

    list(stylize(BUNDLED_NETWORK, photo, [painting], on_step=on_step, settings=settings))
    preview.close()
    return statistics.median(turns[False]), statistics.median(turns[True]), len(fetched)


def look(address: str, fetched: list[int]) -> None:
    """Does what a browser does: follows the events and fetches each new picture."""
    host, _, token = address.removeprefix("http://").partition("/?")
    events = http.client.HTTPConnection(host)
    events.request("GET", f"/events?{token}")
    seen = 0
    for line in events.getresponse():
        if line.startswith(b"data: {") and (version := json.loads(line[6:])["version"]) > seen:
            seen = version
            picture = http.client.HTTPConnection(host)
            picture.request("GET", f"/picture?{token}")
            fetched.append(len(picture.getresponse().read()))


if __name__ == "__main__":
    main()
