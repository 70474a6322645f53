"""Confidence: measures of pairs -> means, and their intervals by bootstrap over the pairs."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 4000
LEVEL = 0.95


class Interval(NamedTuple):
    """A value and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def mean(values: np.ndarray) -> Interval:
    """The mean of [pairs] values (Efron and Tibshirani 1993, the percentile interval)."""
    return interval(float(values.mean()), values[resamples(len(values))].mean(1))


def ratio(values: np.ndarray, reference: np.ndarray) -> Interval:
    """The ratio of two means over the same pairs [pairs], minus 1: each resample takes the same
    pairs of both, so that differences between the pairs do not count."""
    chosen = resamples(len(values))
    ratios = values[chosen].mean(1) / reference[chosen].mean(1)
    return interval(float(values.mean() / reference.mean()) - 1, ratios - 1)


def difference(values: np.ndarray, reference: np.ndarray) -> Interval:
    """The mean difference over the same pairs [pairs]."""
    return mean(values - reference)


def resamples(count: int) -> np.ndarray:
    """Indices [resamples, count] of pairs, drawn with replacement; the same each time."""
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
