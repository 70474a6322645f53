"""Regions: maps with one flat colour per region -> which style paints where, and what it learns.

The same colour in the photo's map and in that of a painting means the same region. Such maps are
those of Champandard 2016, "Semantic Style Transfer and Turning Two-Bit Doodles into Fine Artworks".
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.pictures import resampling
from neural_style_tf.pictures.sizes import Placement
from neural_style_tf.rules import cannot_be_combined

MOST_REGIONS = 16
# Levels of each channel that two colours of a noisy map may differ by and be the same.
NOISE = 24
# A colour of a noisy map is that of a region if this share of its pixels, and this share of the
# map, lies within flat areas. Measured on JPEG files of quality 40 to 95: regions 0.5 and more, the
# colours of their edges 0.25 and less.
FLAT_SHARE, LEAST_SHARE = 0.3, 0.0005
MOST_CLUSTERS = 256  # of colours; a map has fewer, a photo more
# Of a map of more pixels, whole rows and columns are left out: a pixel takes 90 bytes to look at,
# and a file of some kilobytes may hold hundreds of millions.
MOST_PIXELS = 16_000_000

Color = tuple[int, int, int]


class RegionMap(NamedTuple):
    """A map of regions."""

    labels: np.ndarray  # [H, W] uint8, the number of each pixel's colour
    colors: list[Color]
    is_exact: bool  # whether its pixels have no other colours than these

    def placed(self, placement: Placement) -> "RegionMap":
        """The map brought to another size, by nearest neighbours."""
        return self._replace(labels=resampling.nearest(self.labels, placement))


class Part(NamedTuple):
    """A region of the photo, painted like a region of a painting."""

    style: int  # the number of the painting, from 0
    region: int  # the number of the region, from 0
    source: np.ndarray | None  # [h, w] bool, where it is learnt; None for all of the painting
    share: float  # of the region; those of a region sum to 1


def region_map(name: str, picture: np.ndarray) -> RegionMap:
    """The regions of a map.

    picture: [H, W, 3], 0..255, or [H, W], the number of the region of each pixel, 0..255. name:
        what the map is called in messages.

    In a noisy map, as JPEG makes them, colours that differ by at most `NOISE` are one, and what
    lies between flat areas belongs to the nearest of them. Of a picture of more than `MOST_PIXELS`
    the map has every second row and column, or fewer. Raises `UsageError` for a picture that has
    more than `MOST_REGIONS` flat colours, or none.
    """
    colors = _as_colors(name, _thinned(np.asarray(picture)))
    packed = colors @ np.array([1 << 16, 1 << 8, 1])
    values, indices, counts = np.unique(packed, return_inverse=True, return_counts=True)
    indices = indices.reshape(packed.shape)
    solid = np.unique(indices[_is_flat(indices)])
    if 3 * len(solid) >= 2 * len(values):  # at most some thin lines are not solid
        _check_count(name, len(values))
        return RegionMap(indices.astype(np.uint8), [_unpacked(value) for value in values], True)
    labels, found = _without_noise(name, indices, values, counts)
    return RegionMap(labels, found, False)


def parts(
    content: RegionMap,
    styles: Sequence[RegionMap | None],
    shares: Sequence[float],
    painted: np.ndarray | None,
    learnt: Sequence[np.ndarray | None],
    name: str = "content_regions",
) -> tuple[list[np.ndarray], list[Part]]:
    """The regions of the photo, each [H, W] bool, and what each is painted like.

    A painting without a map is learnt whole and has a part in every region; where several have the
    colour of a region, they share it.

    styles: one map per painting, or None. shares: of the paintings. painted: where the photo is
    painted at all, [H, W], or None; learnt: the same of each painting. name: of the photo's map.

    Raises `UsageError` if no painting has the colour of a region.
    """
    regions: list[np.ndarray] = []
    found: list[Part] = []
    missing: list[tuple[Color, float]] = []
    for number, color in enumerate(content.colors):
        region = content.labels == number
        seen = region if painted is None else region & (painted > 0)
        if not seen.any():
            continue
        own = []
        for style, (of_style, share) in enumerate(zip(styles, shares, strict=True)):
            source = _source(color, content, of_style, learnt[style])
            if share > 0 and (of_style is None or source is not None):
                own.append(Part(style, len(regions), source, share))
        if not own:
            missing.append((color, seen.mean()))
        total = sum(part.share for part in own)
        found += [part._replace(share=part.share / total) for part in own]
        regions.append(region)
    if missing:
        raise _missing(name, missing)
    return regions, found


def parts_of_each(parts: Sequence[Part]) -> list[list[int]]:
    """The numbers of the parts of each painting. One that is learnt whole has the colours of
    another region in each of its parts: these stay apart."""
    whole = [[number] for number, part in enumerate(parts) if part.source is None]
    styles = sorted({part.style for part in parts if part.source is not None})
    return whole + [
        [
            number
            for number, part in enumerate(parts)
            if part.style == style and part.source is not None
        ]
        for style in styles
    ]


def check_given(
    content_regions: object, style_regions: Sequence | None, style_masks: object, count: int
) -> None:
    """Raises `UsageError` unless there are maps of the photo and of the paintings, one each and not
    all empty, or neither; and no style masks besides."""
    names = SettingName("content_regions"), SettingName("style_regions")
    if content_regions is None and style_regions is None:
        return
    if content_regions is None or style_regions is None:
        own, other = names if style_regions is None else reversed(names)
        raise UsageError(own, " requires ", other)
    if style_masks is not None:
        raise cannot_be_combined("style_masks", "content_regions")
    if len(style_regions) != count:
        raise UsageError(
            f"got {len(style_regions)} ",
            names[1],
            f" for {count} style{'s' * (count != 1)}: pass one per style, - for none",
        )
    if all(
        of_style is None or (isinstance(of_style, str) and of_style == "-")
        for of_style in style_regions
    ):
        raise UsageError(names[1], " has no map: pass that of one painting at least")


def _thinned(picture: np.ndarray) -> np.ndarray:
    """The picture with at most `MOST_PIXELS`; colours stay as they are."""
    step = math.ceil(math.sqrt(math.prod(picture.shape[:2]) / MOST_PIXELS))
    return picture[::step, ::step] if step > 1 and picture.ndim > 1 else picture


def _as_colors(name: str, picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] int64, 0..255."""
    picture = np.asarray(picture)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., np.newaxis], 3, -1)
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise UsageError(f"{name} has shape {picture.shape}: use [height, width, 3]")
    colors = np.rint(picture)
    if not (colors.min() >= 0 and colors.max() <= 255):
        raise UsageError(f"{name} goes from {colors.min():g} to {colors.max():g}: use 0 to 255")
    return colors.astype(np.int64)


def _is_flat(labels: np.ndarray) -> np.ndarray:
    """[H, W] bool: the pixels whose neighbours all have the same label."""
    from scipy import ndimage  # late: only maps need it

    lowest, highest = (
        of_square(labels, 3, mode="nearest")
        for of_square in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    return lowest == highest


def _without_noise(
    name: str, indices: np.ndarray, values: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, list[Color]]:
    """The labels [H, W] uint8 and colours of a noisy map. indices: [H, W], of each pixel's colour
    in `values`, which occur `counts` times."""
    from scipy import ndimage

    clusters, centers = _clustered(values, counts)
    labels = clusters[indices]
    flat = _is_flat(labels) & (labels >= 0)
    of_flat = np.bincount(labels[flat], minlength=len(centers))
    of_all = np.bincount(labels[labels >= 0], minlength=len(centers))
    is_region = of_flat >= np.maximum(FLAT_SHARE * of_all, LEAST_SHARE * labels.size)
    is_region &= of_flat > 0
    kept = flat & is_region[labels]
    if 2 * kept.sum() < labels.size:
        raise UsageError(f"{name} is not a map of regions: give each region one flat colour")
    _check_count(name, is_region.sum())
    nearest = ndimage.distance_transform_edt(~kept, return_distances=False, return_indices=True)
    numbers = np.cumsum(is_region) - 1
    return numbers[labels[tuple(nearest)]].astype(np.uint8), [
        _unpacked(center) for center in np.array(centers)[is_region]
    ]


def _clustered(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The number of the cluster of each colour, -1 for none, and the centers of the clusters: the
    most frequent colours that are further than `NOISE` from more frequent ones. values: in order,
    so that those of similar red are beside each other."""
    colors = np.array([values >> 16, values >> 8 & 255, values & 255], np.int16)
    clusters, free = np.full(len(values), -1), np.ones(len(values), bool)
    centers: list[int] = []
    for index in np.argsort(-counts, kind="stable"):
        if not free[index]:
            continue
        color = colors[:, index, np.newaxis]
        reds = int(color[0, 0] - NOISE) << 16, int(color[0, 0] + NOISE + 1) << 16
        part = slice(*np.searchsorted(values, reds))
        near = free[part] & (np.abs(colors[:, part] - color) <= NOISE).all(0)
        clusters[part][near] = len(centers)
        free[part] &= ~near
        centers.append(int(values[index]))
        if len(centers) == MOST_CLUSTERS or not free.any():
            break
    return clusters, centers


def _check_count(name: str, count: int) -> None:
    if count > MOST_REGIONS:
        raise UsageError(f"{name} has {count} flat colours: use at most {MOST_REGIONS} regions")


def _unpacked(value: int) -> Color:
    return int(value) >> 16, int(value) >> 8 & 255, int(value) & 255


def _source(
    color: Color, content: RegionMap, style: RegionMap | None, learnt: np.ndarray | None
) -> np.ndarray | None:
    """[h, w] bool: where a painting has a colour of the photo's map; None for nowhere."""
    if style is None:
        return None
    distances = np.abs(np.array(style.colors) - color).max(1)
    number = distances.argmin()
    if distances[number] > _tolerance(content, style):
        return None
    source = style.labels == number
    is_seen = source if learnt is None else source & (learnt > 0)
    return source if is_seen.any() else None


def _tolerance(content: RegionMap, style: RegionMap) -> int:
    """How far two colours of these maps may be apart and be the same. Numbers of regions, which
    differ by 1, have to be equal."""
    if content.is_exact and style.is_exact and min(_gap(content), _gap(style)) <= 2 * NOISE:
        return 0
    return NOISE


def _gap(map_: RegionMap) -> int:
    """The distance of the two nearest colours of a map; 0 if it has a single one."""
    colors = np.array(map_.colors)
    distances = np.abs(colors[:, np.newaxis] - colors).max(-1)
    return int(distances[~np.eye(len(colors), dtype=bool)].min(initial=255)) * (len(colors) > 1)


def _missing(name: str, colors: list[tuple[Color, float]]) -> UsageError:
    parts = [
        f"{in_hexadecimal(color)} ({max(100 * share, 0.1):.1f} % of the picture)"
        for color, share in colors
    ]
    return UsageError(
        f"{name} has {', '.join(parts)}, which no map of ",
        SettingName("style_regions"),
        " has: use the same colours in both",
    )


def in_hexadecimal(color: Sequence[float] | np.ndarray) -> str:
    """A colour [3], 0..255, as #rrggbb."""
    return "#" + "".join(f"{round(float(level)):02x}" for level in color)
