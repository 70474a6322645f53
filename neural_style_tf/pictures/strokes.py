"""Strokes: a painting -> how wide its strokes are, so that they can be painted at a chosen size.

NumPy and SciPy are imported late, as in neural_style.py.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MEASURED_SIDE = 512  # pixels: the long side at which a painting is looked at, whatever its own size
# Standard deviations of the Gaussians, in these pixels: four per octave. What is finer than the
# first, or as coarse as the last, is grain, or a thing.
FINEST, PER_OCTAVE, OCTAVES = 0.7, 4, 5
# Lindeberg's gamma for ridges. With it the strongest response to stripes is at a scale that grows
# with their width: this many times narrower, measured on stripes of 4 to 20 pixels.
GAMMA = 0.75
WIDTHS_PER_SCALE = 2.5


def width(picture: "np.ndarray") -> float:
    """The typical width of a painting's strokes and lines, in percent of its long side.

    At every place the scale is found at which a ridge, pale or dark, is strongest: the largest
    absolute eigenvalue of the Hessian of the luma, normalised with gamma 3/4 (Lindeberg 1998, "Edge
    Detection and Ridge Detection with Automatic Scale Selection"). The result is the median of
    these scales, weighted by the strengths: about 0.5 for ink lines and 3 for broad brushes. A
    picture without any ridge has 1.

    picture: [H, W, 3] float32 RGB, 0..255.
    """
    import numpy as np

    luma = _luma(picture)
    scales = [FINEST * 2 ** (step / PER_OCTAVE) for step in range(OCTAVES * PER_OCTAVE + 1)]
    strengths = np.stack([_ridges(luma, scale) for scale in scales])
    best = strengths.argmax(0)
    weights = np.bincount(best.ravel(), strengths.max(0).ravel(), len(strengths))[1:-1]
    if weights.sum() <= 0:
        return 1.0
    shares = (np.cumsum(weights) - weights / 2) / weights.sum()
    step = np.interp(0.5, shares, np.arange(1, len(strengths) - 1))
    return float(100 / MEASURED_SIDE * WIDTHS_PER_SCALE * FINEST * 2 ** (step / PER_OCTAVE))


def measured_size(height: int, width: int) -> tuple[int, int]:
    """The size at which a painting of that size is looked at."""
    factor = MEASURED_SIDE / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _luma(picture: "np.ndarray") -> "np.ndarray":
    """[H, W] float32, with a long side of `MEASURED_SIDE`."""
    from neural_style_tf.pictures import colors, resampling

    size = measured_size(*picture.shape[:2])
    return colors.luma(resampling.resize(picture, *size))


def _ridges(luma: "np.ndarray", scale: float) -> "np.ndarray":
    """How strong a ridge of that scale is at each place, [H, W]."""
    import numpy as np
    from scipy import ndimage

    smooth = np.pad(ndimage.gaussian_filter(luma, scale, mode="nearest"), 1, mode="edge")
    inner = smooth[1:-1, 1:-1]
    vertical = smooth[2:, 1:-1] + smooth[:-2, 1:-1] - 2 * inner
    horizontal = smooth[1:-1, 2:] + smooth[1:-1, :-2] - 2 * inner
    mixed = (smooth[2:, 2:] + smooth[:-2, :-2] - smooth[2:, :-2] - smooth[:-2, 2:]) / 4
    mean, half = (vertical + horizontal) / 2, (vertical - horizontal) / 2
    return scale ** (2 * GAMMA) * (np.abs(mean) + np.hypot(half, mixed))
