"""Colours: whose colours a picture has, the painting's or the photo's.

Pictures are [H, W, 3] float32 RGB, 0..255. For brightness alone see Gatys et al. 2016, "Preserving
Color in Neural Artistic Style Transfer", section 3; for matched colours section 2.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neural_style_tf.settings import Settings

if TYPE_CHECKING:
    from neural_style_tf.pictures.masks import Masks

# Of RGB, 0..1; added to each channel, since the covariance of a grey picture is singular.
LEAST_VARIANCE = 1e-5
# Levels from the mean of a pixel's channels: pictures that stay below are nearly grey. Toned prints
# have more.
NEARLY_GREY = 16
ROUNDING = 0.01  # levels: below, a picture is grey
UNLIMITED = 255.0


def luma_only(painted: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The brightness of one picture with the colours of another of its size.

    Brightness is the luma Y of ITU-R BT.601, colours are its Cb and Cr. Those are multiples of
    B - Y and R - Y, so that moving R, G and B of a pixel alike changes Y and nothing else.
    """
    moved = photo + (luma(painted) - luma(photo))[..., np.newaxis]
    return np.clip(moved, 0, 255).astype(np.float32)


def matched(
    picture: np.ndarray,
    other: np.ndarray,
    kind: str,
    weights: np.ndarray | None = None,
    other_weights: np.ndarray | None = None,
) -> np.ndarray:
    """One picture in the colours of another, [H, W, 3] float32; values may leave 0..255.

    kind: "match" matches the mean and covariance of the colours, "histogram" the distribution of
    each channel. weights, other_weights: [H, W], 0..1, how much each pixel of a picture counts; by
    default all count alike.
    """
    values, others = picture.reshape(-1, 3), other.reshape(-1, 3)
    shift = _match_statistics if kind == "match" else _match_histograms
    result = shift(values, others, _flat(weights, values), _flat(other_weights, others))
    return result.reshape(picture.shape).astype(np.float32)


class Palette(NamedTuple):
    """Colours that a picture is to have in a region of it."""

    share: float  # where regions overlap
    region: np.ndarray | None  # [H, W], 0..1; None for everywhere
    picture: np.ndarray  # [h, w, 3], whose colours these are
    source: np.ndarray | None  # [h, w], 0..1: how much its pixels count; None for all alike


def in_colors_of(
    picture: np.ndarray,
    paintings: Sequence[np.ndarray],
    kind: str,
    settings: Settings,
    masks: "Masks",
) -> np.ndarray:
    """A picture in the colours of the paintings, each where it paints, blended by their weights.

    kind: as in `matched`, or "own" to leave the picture as it is. paintings: each [h, w, 3].
    """
    if kind == "own":
        return picture
    palettes = []
    for number, share in enumerate(masks.blends(settings, len(paintings))):
        source = masks.source(number)
        source = None if source is None else source[0, ..., 0]
        palettes.append(Palette(share, masks.region(number), paintings[number], source))
    return np.clip(by_region(picture, palettes, kind), 0, 255)


def by_region(picture: np.ndarray, palettes: Sequence[Palette], kind: str) -> np.ndarray:
    """A picture in other colours in each of its regions; where regions overlap, blended by their
    shares; at soft edges, blended with its own. Outside of them it stays as it is.

    Colours are measured in each region, and so are those that they become: in the pictures of the
    palettes within their sources. kind: as in `matched`.
    """
    total, weight = np.zeros_like(picture), np.zeros((*picture.shape[:2], 1), np.float32)
    covered = np.zeros_like(weight)
    for share, region, other, source in palettes:
        if share:
            recolored = matched(picture, other, kind, region, source)
            part = np.float32(1) if region is None else region[..., np.newaxis]
            total += share * part * recolored
            weight += share * part
            covered += part
    covered = np.minimum(covered, 1)
    return covered * total / np.maximum(weight, 1e-6) + (1 - covered) * picture


def limits(
    photo: np.ndarray,
    paintings: Sequence[np.ndarray],
    initial: np.ndarray | None,
    masks: "Masks",
    shares: Sequence[float],
) -> np.ndarray | None:
    """How far a channel of the result may be from the mean of its pixel's, in levels: no further
    than in the photo, the picture to start from and the paintings, where all these are nearly grey.

    The network is trained on colours, and what it measures of a grey picture does not say that it
    is grey. Pictures are [1, H, W, 3], but `initial` [H, W, 3] or None. shares: of the paintings;
    one without a share does not count. Returns [1, H, W, 1] float32, or [1, 1, 1, 1] without masks;
    None if no limit applies.
    """
    everywhere = np.zeros((1, 1), np.float32)
    result, covered = everywhere, everywhere > 0
    for number, (painting, share) in enumerate(zip(paintings, shares, strict=True)):
        if share > 0:
            region, source = masks.region(number), masks.source(number)
            here = ~everywhere.astype(bool) if region is None else region > 0
            limit = _saturation(painting[0], None if source is None else source[0, ..., 0])
            for picture in (photo[0], initial):
                if picture is not None and limit < UNLIMITED:
                    limit = max(limit, _saturation(picture, region))
            result = np.maximum(result, np.where(here, np.float32(limit), 0))
            covered = covered | here
    result = np.where(covered, result, np.float32(UNLIMITED))
    return result[np.newaxis, ..., np.newaxis] if result.min() < UNLIMITED else None


def _saturation(picture: np.ndarray, weights: np.ndarray | None) -> float:
    """The largest distance of a channel from the mean of its pixel's, where weights [H, W] are
    above 0; `UNLIMITED` if the picture is not nearly grey."""
    for pixels, counts in (
        (picture[::8, ::8], None if weights is None else weights[::8, ::8]),  # mostly enough
        (picture, weights),
    ):
        distances = np.abs(pixels - pixels.mean(-1, keepdims=True)).max(-1)
        if counts is not None:
            distances = distances * (counts > 0)
        largest = float(distances.max())
        if largest > NEARLY_GREY:
            return UNLIMITED
    return largest if largest > ROUNDING else 0.0


def _flat(weights: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    return np.ones(len(values), np.float32) if weights is None else weights.reshape(-1)


def _match_statistics(
    values: np.ndarray, others: np.ndarray, weights: np.ndarray, other_weights: np.ndarray
) -> np.ndarray:
    """C^1/2 S^-1/2 (x - mean) + the others' mean, for covariances S and C: eq. 1 to 5."""
    mean, covariance = _statistics(values, weights)
    other_mean, other_covariance = _statistics(others, other_weights)
    matrix = _power(other_covariance, 0.5) @ _power(covariance, -0.5)
    return (values - mean) @ matrix.T + other_mean


def _statistics(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = values.astype(np.float64)
    covariance = np.cov(values, rowvar=False, bias=True, aweights=weights)
    mean = np.average(values, axis=0, weights=weights)
    return mean, covariance + LEAST_VARIANCE * 255**2 * np.eye(3)


def _power(symmetric: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * values**exponent) @ vectors.T


def _match_histograms(
    values: np.ndarray, others: np.ndarray, weights: np.ndarray, other_weights: np.ndarray
) -> np.ndarray:
    """Each channel's value of some rank becomes the others' value of that rank."""
    result = np.empty(values.shape)
    for channel in range(values.shape[1]):
        levels, where = np.unique(values[:, channel], return_inverse=True)
        ranks = _ranks(np.bincount(where, weights, len(levels)))  # ties share one, in the middle
        order = np.argsort(others[:, channel], kind="stable")
        other_ranks = _ranks(other_weights[order])
        result[:, channel] = np.interp(ranks, other_ranks, others[order, channel])[where]
    return result


def _ranks(weights: np.ndarray) -> np.ndarray:
    """Where the middle of each of some weights lies, from 0 to 1."""
    weights = weights.astype(np.float64)
    return (np.cumsum(weights) - 0.5 * weights) / weights.sum()


def luma(pixels: np.ndarray) -> np.ndarray:
    """[H, W] of [H, W, 3]: Y of ITU-R BT.601, section 2.5.1."""
    return pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
