"""Surface: luma -> fine detail in flat regions, and overshoot beside edges. Touches no files."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter

FINE_DEVIATION = 1.5  # pixels: half of the amplitude passes at a period of 8 pixels
SHAPE_DEVIATION = 2.0  # pixels: texture finer than this does not count as an edge of a region
FLAT_FRACTION = 0.3  # of the positions are called flat
FLAT_DISTANCE = 5  # pixels around a flat position that are calm as well
ROUNDING = 0.5  # grey levels; finer detail than this is not a difference
EDGE_FRACTION = 0.05  # of the positions are called edges
NEAR = np.arange(2, 5)  # pixels from an edge, where a halo is
FAR = np.arange(7, 11)


def flat_detail(picture: np.ndarray, photo: np.ndarray, painting: np.ndarray) -> float:
    """How much fine detail the picture has where the photo is flat, in relation to the painting's
    where that is flat: 1 is the painting's own surface, more is mesh or noise.

    All are luma [H, W], 0..255; picture and photo of the same size. Detail is the root mean square
    in grey levels of what a Gaussian of `FINE_DEVIATION` removes. Flat are the calmest 30 % of each
    picture, whatever their texture.
    """
    ours, theirs = detail(picture, flat_regions(photo)), detail(painting, flat_regions(painting))
    return (ours + ROUNDING) / (theirs + ROUNDING)


def detail(luma: np.ndarray, where: np.ndarray) -> float:
    fine = luma - gaussian_filter(luma, FINE_DEVIATION)
    return float(np.sqrt((fine[where] ** 2).mean()))


def flat_regions(luma: np.ndarray) -> np.ndarray:
    """[H, W] bool: where nothing nearby changes but texture."""
    steepness = np.hypot(*np.gradient(gaussian_filter(luma, SHAPE_DEVIATION)))
    nearby = maximum_filter(steepness, 2 * FLAT_DISTANCE + 1)
    return nearby <= np.quantile(nearby, FLAT_FRACTION)


def halo(luma: np.ndarray) -> float:
    """How much brighter the bright side of an edge is beside it (2 to 4 pixels) than farther away
    (7 to 10), as a fraction of the edge's contrast; averaged over the steepest edges.

    luma: [H, W], 0..255. 0 for a clean step, negative for a soft one, positive for one with a pale
    line beside it.
    """
    smooth = gaussian_filter(luma, 1.0)
    rows, columns, down, right = edges(smooth)
    if not len(rows):
        return 0.0

    def mean_at(distances: np.ndarray) -> np.ndarray:
        positions = [
            rows[:, np.newaxis] + down[:, np.newaxis] * distances,
            columns[:, np.newaxis] + right[:, np.newaxis] * distances,
        ]
        return map_coordinates(luma, positions, order=1, mode="nearest").mean(1)

    near, far, dark = mean_at(NEAR), mean_at(FAR), mean_at(-NEAR)
    return float((near - far).sum() / max((near - dark).sum(), 1e-6))


def edges(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The steepest positions across edges, and the direction [down, right] of unit length towards
    the bright side; those within reach of the border are left out."""
    slopes = np.stack(np.gradient(luma))
    steepness = np.hypot(*slopes)
    margin = int(FAR[-1])
    inner = np.zeros(luma.shape, bool)
    inner[margin:-margin, margin:-margin] = True
    strong = inner & (steepness >= max(np.quantile(steepness, 1 - EDGE_FRACTION), 1.0))
    rows, columns = np.nonzero(strong)
    down, right = slopes[:, rows, columns] / steepness[rows, columns]
    here = steepness[rows, columns]
    is_ridge = np.ones(len(rows), bool)
    for side in (-1, 1):
        positions = [rows + side * down, columns + side * right]
        beside = map_coordinates(steepness, positions, order=1)
        is_ridge &= here >= beside * (1 - 1e-6)  # both sides of a step are equally steep
    return rows[is_ridge], columns[is_ridge], down[is_ridge], right[is_ridge]
