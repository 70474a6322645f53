"""Colours: whose colours a picture has, the painting's or the photo's.

Pictures are [H, W, 3] float32 RGB, 0..255. For brightness alone see Gatys et al. 2016, "Preserving
Color in Neural Artistic Style Transfer", section 3; for matched colours section 2.
"""

from collections.abc import Sequence

import numpy as np

from settings import Settings

LEAST_VARIANCE = 1e-5  # of RGB from 0 to 1, added to each: a grey picture's covariance is singular


def luma_only(painted: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The brightness of one picture with the colours of another of its size.

    Brightness is the luma Y of ITU-R BT.601, colours are its Cb and Cr. Those are multiples of
    B - Y and R - Y, so that moving R, G and B of a pixel alike changes Y and nothing else.
    """
    moved = photo + (luma(painted) - luma(photo))[..., np.newaxis]
    return np.clip(moved, 0, 255).astype(np.float32)


def matched(picture: np.ndarray, other: np.ndarray, kind: str) -> np.ndarray:
    """One picture in the colours of another: in their mean and covariance ("match") or, channel
    by channel, in their very distribution ("histogram"). Values of the first may lie beyond
    0..255."""
    shift = _match_statistics if kind == "match" else _match_histograms
    found = shift(picture.reshape(-1, 3), other.reshape(-1, 3))
    return found.reshape(picture.shape).astype(np.float32)


def in_colors_of(
    photo: np.ndarray, paintings: Sequence[np.ndarray], settings: Settings
) -> np.ndarray:
    """The photo in the paintings' colours, blended by their shares, as `initial_colors` says."""
    kind = settings.initial_colors
    if kind == "photo":
        return photo
    shares = settings.style_shares(len(paintings))
    found = sum(
        share * matched(photo, painting, kind)
        for share, painting in zip(shares, paintings, strict=True)
    )
    return np.clip(found, 0, 255)


def _match_statistics(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """C^1/2 S^-1/2 (x - mean) + the others' mean, for covariances S and C: eq. 1 to 5."""
    (mean, covariance), (other_mean, other_covariance) = map(_statistics, (values, others))
    matrix = _power(other_covariance, 0.5) @ _power(covariance, -0.5)
    return (values - mean) @ matrix.T + other_mean


def _statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = values.astype(np.float64)
    covariance = np.cov(values, rowvar=False, bias=True)
    return values.mean(0), covariance + LEAST_VARIANCE * 255**2 * np.eye(3)


def _power(symmetric: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * values**exponent) @ vectors.T


def _match_histograms(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Each channel's value of some rank becomes the others' value of that rank."""
    found = np.empty(values.shape)
    for channel in range(values.shape[1]):
        _, where, counts = np.unique(values[:, channel], return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - 0.5 * counts) / len(values)  # ties share one, in the middle
        theirs = np.sort(others[:, channel])
        places = (np.arange(len(theirs)) + 0.5) / len(theirs)
        found[:, channel] = np.interp(ranks, places, theirs)[where]
    return found


def luma(pixels: np.ndarray) -> np.ndarray:
    """[H, W] of [H, W, 3]: Y of ITU-R BT.601, section 2.5.1."""
    return pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
