"""Distances: features or colours of two pictures -> a number. NumPy only; no files, no network."""

from collections.abc import Sequence

import numpy as np

DIRECTIONS = 64
QUANTILES = 256


def lpips(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], linear: Sequence[np.ndarray]
) -> float:
    """Zhang et al. 2018, eq. 1: squared differences of features of unit length, weighted by
    channel, averaged over positions and added over layers.

    ours, theirs: [h, w, channels] float32 per layer. linear: [channels] per layer. 0 for equal
    pictures; 0.7 and more for unrelated ones.
    """
    layers = zip(ours, theirs, linear, strict=True)
    return float(sum(((unit(a) - unit(b)) ** 2 @ weights).mean() for a, b, weights in layers))


def unit(features: np.ndarray) -> np.ndarray:
    return features / (np.linalg.norm(features, axis=-1, keepdims=True) + 1e-10)


def gram_distance(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The distance of two Gram matrices relative to the painting's, |G - G'| / |G'| by their
    Frobenius norms, averaged over layers: 0 for the painting, 1 for a black picture.

    ours, theirs: [h, w, channels] per layer; theirs is the painting's. A Gram matrix (Gatys et al.
    2016, eq. 3) is a mean over positions here, so that pictures of all sizes compare.
    """
    distances = []
    for a, b in zip(ours, theirs, strict=True):
        target = gram(b)
        distances.append(np.linalg.norm(gram(a) - target) / np.linalg.norm(target))
    return float(np.mean(distances))


def gram(features: np.ndarray) -> np.ndarray:
    values = flat(features)
    return values.T @ values / len(values)


def sliced_feature_distance(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """`sliced_wasserstein` in deviations, averaged over layers; [h, w, channels] per layer."""
    layers = zip(ours, theirs, strict=True)
    return float(np.mean([sliced_wasserstein(flat(a), flat(b), True) for a, b in layers]))


def flat(values: np.ndarray) -> np.ndarray:
    """[h, w, channels] -> [h*w, channels]"""
    return values.reshape(-1, values.shape[-1])


def sliced_wasserstein(ours: np.ndarray, theirs: np.ndarray, in_deviations: bool = False) -> float:
    """The mean distance of the quantiles of samples [n, channels] and [m, channels] along random
    directions (Rabin et al. 2011).

    in_deviations: in standard deviations of `theirs` along each direction.
    """
    random = np.random.default_rng(0)
    directions = random.normal(size=(ours.shape[1], DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    quantiles = [np.quantile(values @ directions, levels, axis=0) for values in (ours, theirs)]
    distances = np.abs(quantiles[0] - quantiles[1]).mean(0)
    if in_deviations:
        distances = distances / ((theirs @ directions).std(0) + 1e-6)
    return float(distances.mean())
