"""Trade-off: measures of pairs over a knob -> style distances at equal distances to the photo."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import confidence
from benchmarks.confidence import Interval

ENOUGH = 0.9  # of the resamples must have the point that is compared

STYLE_LABELS = {
    "sliced": "sliced feature distance from the painting",
    "gram": "Gram distance from the painting",
}


class Curve(NamedTuple):
    """Measures [knobs, pairs] of one style loss: the distance to the photo, and one to the
    painting."""

    to_photo: np.ndarray
    to_painting: np.ndarray


def at_equal_photo(curve: Curve, reference: Curve) -> list[Interval | None]:
    """At each point of the reference, how much farther from the painting the curve is where both
    are equally far from the photo, as a fraction: -0.15 is 15 % nearer.

    Means over the pairs are compared, and between two knobs of the curve both measures are
    interpolated. None where the curve does not come that near to the photo, or that far.
    """
    pairs = reference.to_photo.shape[1]
    value = _compare(curve, reference, np.arange(pairs))
    resampled = np.array([_compare(curve, reference, r) for r in confidence.resamples(pairs)])
    result: list[Interval | None] = []
    for point, values in zip(value, resampled.T, strict=True):
        inside = np.isfinite(values)
        is_known = np.isfinite(point) and inside.mean() >= ENOUGH
        result.append(confidence.interval(float(point), values[inside]) if is_known else None)
    return result


def _compare(curve: Curve, reference: Curve, pairs: np.ndarray) -> np.ndarray:
    to_photo, to_painting = (values[:, pairs].mean(1) for values in curve)
    wanted, compared = (values[:, pairs].mean(1) for values in reference)
    order = np.argsort(to_photo)
    nearest = np.interp(wanted, to_photo[order], to_painting[order], left=np.nan, right=np.nan)
    return nearest / compared - 1


def largest_deviation(values: np.ndarray, groups: Sequence[str]) -> tuple[str, float]:
    """The group whose mean is farthest from the mean of all groups, and how far. values: [pairs],
    groups: one name per pair."""
    names = sorted(set(groups))
    of_group = np.array(groups)
    means = np.array([values[of_group == name].mean() for name in names])
    deviations = means - means.mean()
    worst = int(np.abs(deviations).argmax())
    return names[worst], float(deviations[worst])


def draw(rows: dict[str, list[dict[str, float]]], knobs: Sequence[float], path: Path) -> None:
    """Draws one line per style loss through its knobs. rows: by loss, the mean measures at each
    knob."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, (measure, label) in zip(plots, STYLE_LABELS.items(), strict=True):
        for loss, means in rows.items():
            points = [(row["lpips"], row[measure]) for row in means]
            axes.plot(*zip(*points, strict=True), "o-", label=loss)
            for knob, point in zip(knobs, points, strict=True):
                axes.annotate(f"{knob:g}", point, textcoords="offset points", xytext=(6, 4))
        axes.set_xlabel("LPIPS to the photo")
        axes.set_ylabel(label)
    plots[1].legend(title="style loss, --stylization")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
