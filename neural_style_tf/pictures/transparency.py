"""Transparency: colours and alpha -> colours everywhere, so that what is behind counts in nothing.

Pictures are [H, W, 3] float32 RGB, 0..255; alpha is [H, W] float32, 0 transparent to 1 opaque.
"""

import numpy as np

from neural_style_tf.pictures import resampling

# Of alpha: below it the colours of a file are rounded too coarsely to be used alone.
RELIABLE_ALPHA = 1 / 8


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The picture as it looks on white paper; alpha may have another size."""
    share = resampling.resize(alpha, *pixels.shape[:2])[..., np.newaxis]
    return pixels * share + 255 * (1 - share)


def over(pixels: np.ndarray, alpha: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A picture that is over white, over another of its size instead."""
    return np.clip(pixels + (1 - alpha[..., np.newaxis]) * (other - 255), 0, 255)


def filled(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours of a picture over white, without the white: where it is opaque its own, where it
    is transparent those of what is visible nearby, whatever the file hides there.

    A network that looks at the result sees no edge where the picture ends. Averages over larger
    and larger squares fill the gaps: pull-push, Gortler et al. 1996, "The Lumigraph", section 3.4.
    Where alpha is 0 everywhere the result is white.
    """
    share = alpha[..., np.newaxis]
    visible = np.clip(pixels - 255 * (1 - share), 0, 255 * share)  # multiplied by alpha
    weight = np.minimum(share / RELIABLE_ALPHA, 1)
    own = visible / np.maximum(share, 1e-6)
    return np.clip(_filled(own * weight, weight), 0, 255).astype(np.float32)


def _filled(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """weighted: colours [h, w, 3] times their weight [h, w, 1], 0..1; what lacks of 1 is filled."""
    height, width = weight.shape[:2]
    if weight.min() >= 1:
        return weighted
    if height == width == 1:
        return weighted / weight if weight[0, 0, 0] > 0 else np.full_like(weighted, 255)
    colors, sums = _summed(weighted), _summed(weight)
    excess = np.maximum(sums, 1)
    coarse = _filled(colors / excess, sums / excess)
    return weighted + (1 - weight) * resampling.enlarged(coarse, height, width)


def _summed(pixels: np.ndarray) -> np.ndarray:
    """Sums over squares of 2x2 pixels, those at an odd edge over what there is."""
    height, width = pixels.shape[:2]
    even = np.pad(pixels, [(0, height % 2), (0, width % 2), (0, 0)])
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
