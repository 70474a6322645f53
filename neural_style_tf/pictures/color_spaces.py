"""Colour spaces: colours of three primaries and a curve -> sRGB, in float32."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Curve = Callable[[np.ndarray], np.ndarray]  # samples, 0..1 -> light, 0..1; float32, of any shape
Chromaticities = tuple[float, ...]  # x and y of white, red, green and blue

D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)  # with a gamma of 563/256
ADOBE_GAMMA = 563 / 256
# Bradford's cone responses, as ICC.1:2022, annex E, has them.
_BRADFORD = np.array(
    [(0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)]
)


class ColorSpace(NamedTuple):
    """The colours of a file: the curve of each channel, and the matrix from their light to that of
    sRGB."""

    curves: tuple[Curve, Curve, Curve]
    matrix: np.ndarray  # [3, 3]

    def to_srgb(self, colors: np.ndarray) -> np.ndarray:
        """[..., 3] float32, 0..255, in sRGB. What sRGB does not have is clipped."""
        light = np.empty_like(colors, np.float32)
        for channel, curve in enumerate(self.curves):
            light[..., channel] = _light(curve, colors[..., channel])
        return srgb_encoded(light @ self.matrix.T.astype(np.float32))

    def grey_to_srgb(self, grey: np.ndarray) -> np.ndarray:
        """The same for grey levels, of any shape: they have no primaries."""
        return srgb_encoded(_light(self.curves[1], grey))


def _light(curve: Curve, levels: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # of curves that are not sound
        return np.clip(curve(levels / 255), 0, 1)


def srgb_encoded(light: np.ndarray) -> np.ndarray:
    """Light, 0..1, as sRGB, 0..255; clipped. IEC 61966-2-1."""
    light = np.clip(light, 0, 1)
    high = 1.055 * np.power(light, 1 / 2.4) - 0.055
    return (255 * np.where(light <= 0.0031308, 12.92 * light, high)).astype(np.float32)


def srgb_curve(samples: np.ndarray) -> np.ndarray:
    return parametric((2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0, 0))(samples)


def linear(samples: np.ndarray) -> np.ndarray:
    return samples


def gamma_curve(gamma: float) -> Curve:
    return lambda samples: np.power(np.maximum(samples, 0), np.float32(gamma))


def parametric(parameters: tuple[float, ...]) -> Curve:
    """(a x + b)^g + e from d on, c x + f below. ICC.1:2022, 10.18, with g, a, b, c, d, e, f."""
    g, a, b, c, d, e, f = map(np.float32, parameters)

    def curve(samples: np.ndarray) -> np.ndarray:
        high = np.power(np.maximum(a * samples + b, 0), g) + e
        return np.where(samples >= d, high, c * samples + f).astype(np.float32)

    return curve


def table_curve(values: np.ndarray) -> Curve:
    """Between values, 0..1, at equal distances."""
    places = np.linspace(0, 1, len(values))
    return lambda samples: np.interp(samples, places, values).astype(np.float32)


def space(curve: Curve, chromaticities: Chromaticities) -> ColorSpace | None:
    """The colour space of a curve and primaries; None if these span no colours."""
    matrix = matrix_to_srgb(chromaticities)
    return None if matrix is None else ColorSpace((curve, curve, curve), matrix)


def matrix_to_srgb(chromaticities: Chromaticities) -> np.ndarray | None:
    """The matrix [3, 3] from the light of these primaries to that of sRGB; white becomes white."""
    try:
        source, target = _to_xyz(chromaticities), _to_xyz(SRGB)
        cones = np.diag((_BRADFORD @ target.sum(1)) / (_BRADFORD @ source.sum(1)))
        adapted = np.linalg.solve(_BRADFORD, cones @ _BRADFORD @ source)
        matrix = np.linalg.solve(target, adapted)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).max() < 100 else None


def _to_xyz(chromaticities: Chromaticities) -> np.ndarray:
    """The matrix [3, 3] from light to CIE XYZ. SMPTE RP 177, 3.3."""
    pairs = [chromaticities[i : i + 2] for i in range(0, 8, 2)]
    white, *primaries = ((x / y, 1.0, (1 - x - y) / y) for x, y in pairs)
    colors = np.array(primaries).T
    return colors * np.linalg.solve(colors, np.array(white))
