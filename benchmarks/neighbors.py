"""Neighbours: how long their search takes, and what is lost where not all columns are compared.

    .venv/bin/python benchmarks/neighbors.py [--sizes 256 512] [--precision auto] [--whole-runs]

For each size, the photo and the painting of the README, at a stage that follows one of half its
size: seconds to compare all columns, and to compare those around what the stage before took; and
the mean cosine of the columns that each takes. `--style-loss neighbors` compares all of them up to
MOST_COSINES, in neural_style_tf/objective/matching.py.

With --whole-runs instead: seconds of a run with each style loss, in turns, medians; and how much of
them the search takes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.pictures import reading, resampling, sizes
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

Result = TypeVar("Result")
RUNS = 3  # of each style loss
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], metavar="PIXELS")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--whole-runs", action="store_true", help="time whole runs instead")
    options = parser.parse_args()
    print(f"On {tensorflow_setup.start(debug=False)}.\n")
    if options.whole_runs:
        print("| long side | moments | neighbors | times as long | of which the search |")
        print("| --- | --- | --- | --- | --- |")
        for size in options.sizes:
            print(whole_runs(size, options.precision), flush=True)
        return
    print("| long side | places | columns | all | cosine | around | cosine | all the same |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in options.sizes:
        print(compared(size, options.precision), flush=True)


def pictures(size: int) -> list[np.ndarray]:
    """The photo and the painting, [1, H, W, 3], for a result of that long side."""
    photo, painting = (
        reading.read(EXAMPLES / name).pixels for name in ("china.jpg", "church-at-auvers.jpg")
    )
    height, width = sizes.target_size(*photo.shape[:2], Settings(size=size))
    return [
        resampling.resize(photo, height, width)[np.newaxis],
        resampling.resize(
            painting, *sizes.of_style(painting.shape[:2], (height, width), Settings()).size
        )[np.newaxis],
    ]


def compared(size: int, precision: str) -> str:
    """The row of the table."""
    from neural_style_tf.network import vgg
    from neural_style_tf.network.precision import feature_dtype
    from neural_style_tf.objective import matching
    from neural_style_tf.objective.columns import Measure, Palette
    from neural_style_tf.pictures.masks import NO_MASKS

    network, settings = vgg.load(BUNDLED_NETWORK), Settings(style_loss="neighbors")
    dtype = feature_dtype(precision)

    def made(size: int) -> tuple[Palette, matching.Queries]:
        photo, painting = pictures(size)
        measure = Measure(network, settings, None)
        palette = Palette(measure, [painting], settings, NO_MASKS)
        return palette, matching.Queries(measure, palette, photo, None, settings)

    def look_up(
        palette: Palette, queries: matching.Queries, coarser: matching.Matches | None, most: float
    ) -> np.ndarray:
        matching.MOST_COSINES = most
        return matching.Matches(coarser=coarser).looked_up(palette, queries, [1.0], NO_MASKS, dtype)

    coarser = matching.Matches()
    palette, queries = made(size // 2)
    indices = look_up(palette, queries, None, np.inf)
    coarser.chosen = matching.chosen_at(palette, indices, queries.size)
    palette, queries = made(size)
    seconds_of_all, every = timed(lambda: look_up(palette, queries, None, np.inf))
    seconds_around, around = timed(lambda: look_up(palette, queries, coarser, 0))
    ((_, columns),) = queries
    flat = columns.reshape(-1, columns.shape[-1])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    cosines = [
        float((flat * palette.columns[indices]).sum(1).mean()) for indices in (every, around)
    ]
    same = float(np.mean(every == around))
    return (
        f"| {size} | {len(flat)} | {len(palette.columns)} | {seconds_of_all:.1f} s | "
        f"{cosines[0]:.3f} | {seconds_around:.1f} s | {cosines[1]:.3f} | {100 * same:.0f} % |"
    )


def whole_runs(size: int, precision: str) -> str:
    """The row of the other table."""
    from neural_style_tf.network import vgg
    from neural_style_tf.objective import matching
    from neural_style_tf.painting.stylize import stylize

    network, (photo, painting) = vgg.load(BUNDLED_NETWORK), pictures(size)
    look_up, searches = matching.Matches.looked_up, []

    def timed_look_up(*arguments) -> np.ndarray:
        seconds, indices = timed(lambda: look_up(*arguments))
        searches[-1] += seconds
        return indices

    seconds = {"moments": [], "neighbors": []}
    with mock.patch.object(matching.Matches, "looked_up", timed_look_up):
        for _ in range(RUNS):
            for style_loss, times in seconds.items():
                searches.append(0.0)
                keywords = {"style_loss": style_loss, "precision": precision}
                images = stylize(network, photo[0], [painting[0]], **keywords)
                times.append(timed(lambda images=images: list(images))[0])
    moments, neighbors = map(statistics.median, seconds.values())
    share = statistics.median(searches[1::2]) / neighbors
    return (
        f"| {size} | {moments:.1f} s | {neighbors:.1f} s | {neighbors / moments:.2f} | "
        f"{100 * share:.1f} % |"
    )


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """The seconds that a function takes, and what it returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
