"""Surface: pixels -> fine detail in flat regions, and overshoot beside edges. Touches no files."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter

from neural_style_tf.pictures import colors

FINE_DEVIATION = 1.5  # pixels: half of the amplitude passes at a period of 8 pixels
SHAPE_DEVIATION = 2.0  # pixels: texture finer than this does not count as an edge of a region
FLAT_FRACTION = 0.3  # of the positions are called flat
FLAT_DISTANCE = 5  # pixels around a flat position that are calm as well
ROUNDING = 0.5  # grey levels; finer detail than this is not a difference
EDGE_DEVIATION = 1.0
EDGE_FRACTION = 0.05  # of the positions are called edges
NEAR = np.arange(2, 5)  # pixels from an edge, where a halo is
FAR = np.arange(7, 11)
CALM = np.arange(5, 11)  # here the photo must be calm
CALM_FRACTION = 0.2  # of the steepness of the edge


def flat_detail(picture: np.ndarray, photo: np.ndarray, painting: np.ndarray) -> float:
    """How much fine detail the picture has where the photo is flat, in relation to the painting's
    where that is flat: 1 is the painting's own surface, more is mesh or noise.

    All are RGB [H, W, 3], 0..255; picture and photo of the same size. Detail is the root mean
    square, in grey levels, of what a Gaussian of `FINE_DEVIATION` removes. Flat are the calmest
    30 % of each picture, whatever their texture.
    """
    ours = detail(picture, flat_regions(colors.luma(photo)))
    theirs = detail(painting, flat_regions(colors.luma(painting)))
    return (ours + ROUNDING) / (theirs + ROUNDING)


def detail(image: np.ndarray, where: np.ndarray) -> float:
    coarse = gaussian_filter(image.astype(np.float64), (FINE_DEVIATION, FINE_DEVIATION, 0))
    return float(np.sqrt(((image - coarse)[where] ** 2).mean()))


def flat_regions(luma: np.ndarray) -> np.ndarray:
    """[H, W] bool: where nothing nearby changes but texture."""
    nearby = maximum_filter(steepness_of(luma, SHAPE_DEVIATION), 2 * FLAT_DISTANCE + 1)
    return nearby <= np.quantile(nearby, FLAT_FRACTION)


def halo(picture: np.ndarray, photo: np.ndarray) -> float:
    """How much the picture overshoots beside edges of the photo, as a fraction of the contrast
    across them: of a calm side, what is near (2 to 4 pixels) beyond what is farther away (7 to 10).

    picture, photo: luma [H, W], 0..255. Positive if a dark shape has a pale band beside it, or a
    pale one a dark band; 0 for a clean step; negative where edges are soft. 0 if no edge has a calm
    side.
    """
    rows, columns, down, right, steepness = edges(photo)
    slope = steepness_of(photo, SHAPE_DEVIATION)

    def at(image: np.ndarray, distances: np.ndarray) -> np.ndarray:
        positions = [
            rows[:, np.newaxis] + down[:, np.newaxis] * distances,
            columns[:, np.newaxis] + right[:, np.newaxis] * distances,
        ]
        return map_coordinates(image, positions, order=1, mode="nearest")

    overshoot, contrast = 0.0, 0.0
    for side in (-1, 1):
        is_calm = at(slope, side * CALM).max(1) < CALM_FRACTION * steepness
        near, far, beyond = (
            at(picture, side * distances)[is_calm].mean(1) for distances in (NEAR, FAR, -NEAR)
        )
        step = (near + far) / 2 - beyond
        overshoot += ((near - far) * np.sign(step)).sum()
        contrast += np.abs(step).sum()
    return float(overshoot / contrast) if contrast else 0.0


def edges(luma: np.ndarray) -> tuple[np.ndarray, ...]:
    """The steepest positions across edges, as rows and columns; the direction of unit length, down
    and right, towards the bright side; and how steep they are. [edges] each; those within reach of
    the border are left out."""
    slopes = np.stack(np.gradient(gaussian_filter(luma, EDGE_DEVIATION)))
    steepness = np.hypot(*slopes)
    margin = int(FAR[-1])
    inner = np.zeros(luma.shape, bool)
    inner[margin:-margin, margin:-margin] = True
    strong = inner & (steepness >= max(np.quantile(steepness, 1 - EDGE_FRACTION), 1.0))
    rows, columns = np.nonzero(strong)
    here = steepness[rows, columns]
    down, right = slopes[:, rows, columns] / here
    is_ridge = np.ones(len(rows), bool)
    for side in (-1, 1):
        positions = [rows + side * down, columns + side * right]
        beside = map_coordinates(steepness, positions, order=1)
        is_ridge &= here >= beside * (1 - 1e-6)  # both sides of a step are equally steep
    return tuple(values[is_ridge] for values in (rows, columns, down, right, here))


def steepness_of(luma: np.ndarray, deviation: float) -> np.ndarray:
    return np.hypot(*np.gradient(gaussian_filter(luma, deviation)))
