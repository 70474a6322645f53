"""Arguments: the pictures and masks of a run as its caller passes them -> checked arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from neural_style_tf.errors import UsageError
from neural_style_tf.painting import stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.pictures import colors, regions, resampling, strokes, transparency
from neural_style_tf.pictures.colors import Palette
from neural_style_tf.pictures.masks import InputMasks
from neural_style_tf.pictures.regions import RegionMap
from neural_style_tf.pictures.sizes import Placement
from neural_style_tf.rules import cannot_be_combined, names
from neural_style_tf.settings import SMALLEST_SIDE, Settings

GREY = 127.5


class Pictures(NamedTuple):
    """What is painted, of what, and where. Pictures are [H, W, 3] float32 RGB, 0..255."""

    content: np.ndarray
    styles: list[np.ndarray]  # each of any size
    initial: np.ndarray | None  # the picture to start from, of the content's size
    masks: InputMasks
    # the widths of the styles' strokes, where the settings ask for a size of strokes
    strokes: list[float | None]

    def bled(self, pixels: int) -> "Pictures":
        """With that many pixels more beyond each edge of the content, mirrored."""
        initial = None if self.initial is None else resampling.with_bleed(self.initial, pixels)
        content = resampling.with_bleed(self.content, pixels)
        masks = self.masks.with_bleed(pixels)
        return self._replace(content=content, initial=initial, masks=masks)

    def at_stage(self, stage: Stage, last: Stage, settings: Settings) -> list[np.ndarray]:
        """The content and the styles at the sizes that they have at a stage."""
        resized: dict[int, np.ndarray] = {}  # by id: a painting has a part in several regions
        for style, stroke in zip(self.styles, self.strokes, strict=True):
            if id(style) not in resized:
                height, width = style.shape[:2]
                size = stages.style_size(height, width, stage, last, settings, stroke)
                resized[id(style)] = resampling.resize(style, *size)
        content = resampling.resize(self.content, *stage.outer_size, wraps=settings.wraps)
        return [content, *(resized[id(style)] for style in self.styles)]


def checked(
    content: Any,
    styles: Sequence[Any],
    settings: Settings,
    *,
    initial: Any = None,
    style_masks: Sequence[np.ndarray | None] | None = None,
    content_mask: np.ndarray | None = None,
    style_source_masks: Sequence[np.ndarray | None] | None = None,
    content_regions: np.ndarray | RegionMap | None = None,
    style_regions: Sequence[np.ndarray | RegionMap | None] | None = None,
) -> Pictures:
    """The arguments of `stylize` as float32; the styles in the content's colours if the settings
    say so. What is transparent joins the masks. With regions, each part of a painting is a style.
    Raises `UsageError` for a picture or mask that is missing, or of a wrong shape, size or range.
    """
    settings.check_styles(len(styles))
    if settings.texture is not None:
        content = _without_photo(content, content_mask, settings)
    content, opaque = _checked("content", content)
    pairs = [_checked(f"style {number}", style) for number, style in enumerate(styles, 1)]
    if not pairs:
        raise UsageError("got no style: pass at least one picture")
    styles, opaque_styles = (list(part) for part in zip(*pairs, strict=True))
    if initial is not None:
        initial = _checked_initial(initial, content)
    masks = InputMasks.checked(content, styles, style_masks, content_mask, style_source_masks)
    masks = masks.within(opaque, opaque_styles)
    regions.check_given(content_regions, style_regions, style_masks, len(styles))
    # of each picture that is recoloured as a whole: the numbers of the styles that are parts of it
    groups = [[number] for number in range(len(styles))]
    if content_regions is not None and style_regions is not None:
        maps = checked_maps(content, styles, content_regions, style_regions)
        shares = settings.style_shares(len(styles))
        found, parts = regions.parts(
            *maps, shares, masks.content, masks.sources or [None] * len(styles)
        )
        masks = masks.with_regions(found, parts)
        styles = [styles[part.style] for part in parts]
        groups = regions.parts_of_each(parts)
    if settings.wraps:
        content = resampling.tiling(content)
        initial = None if initial is None else resampling.tiling(initial)
    if settings.preserve_colors in ("match", "histogram"):
        styles = _recolored(styles, content, masks, groups, settings.preserve_colors)
    return Pictures(content, styles, initial, masks, _strokes_of(styles, settings))


def _strokes_of(styles: list[np.ndarray], settings: Settings) -> list[float | None]:
    if settings.stroke_size is None:
        return [None] * len(styles)
    different = {id(style): style for style in styles}  # it may have a part in several regions
    widths = {key: strokes.width(style) for key, style in different.items()}
    return [widths[id(style)] for style in styles]


def _without_photo(content: Any, content_mask: np.ndarray | None, settings: Settings) -> np.ndarray:
    """What stands for the content of a texture. Raises `UsageError` for a content that is passed
    besides, and for a mask of it."""
    if content is not None:
        raise cannot_be_combined("texture", "content")
    if content_mask is not None:
        raise UsageError(*names("content_mask"), " has no effect with ", *names("texture"))
    return nothing(settings)


def nothing(settings: Settings) -> np.ndarray:
    """The picture that stands for the photo of a texture: grey, [H, W, 3] float32."""
    size = settings.texture_size()
    assert size is not None  # callers ask only then
    return np.broadcast_to(np.float32(GREY), (*size, 3))


def checked_maps(
    content: np.ndarray,
    styles: Sequence[np.ndarray],
    content_regions: np.ndarray | RegionMap,
    style_regions: Sequence[np.ndarray | RegionMap | None],
) -> tuple[RegionMap, list[RegionMap | None]]:
    """The maps of the photo and of the paintings at the sizes of these. Raises `UsageError`."""
    names = [f"style_regions {number}" for number in range(1, len(styles) + 1)]
    of_styles = [
        None if of_style is None else _map_of(name, of_style, style)
        for name, of_style, style in zip(names, style_regions, styles, strict=True)
    ]
    return _map_of("content_regions", content_regions, content), of_styles


def _map_of(name: str, map_: np.ndarray | RegionMap, picture: np.ndarray) -> RegionMap:
    if not isinstance(map_, RegionMap):
        map_ = regions.region_map(name, map_)
    return map_.placed(Placement(picture.shape[:2]))


def _recolored(
    styles: list[np.ndarray],
    content: np.ndarray,
    masks: InputMasks,
    groups: list[list[int]],
    kind: str,
) -> list[np.ndarray]:
    """The styles in the content's colours, each in those of the region that it paints. groups: the
    numbers of those that are parts of one picture."""
    result = list(styles)
    for group in groups:
        palettes = [
            Palette(1, masks.source(number), content, masks.region(number)) for number in group
        ]
        picture = colors.by_region(styles[group[0]], palettes, kind)
        for number in group:
            result[number] = picture
    return result


def _checked_initial(initial: Any, content: np.ndarray) -> np.ndarray:
    """The picture to start from; where it is transparent, the content."""
    initial, alpha = _checked("initial", initial)
    if initial.shape != content.shape:
        raise UsageError(
            f"initial is {size_in_words(initial)} and content {size_in_words(content)}: "
            "pass pictures of equal size"
        )
    if alpha is None:
        return initial
    share = alpha[..., np.newaxis]
    return share * initial + (1 - share) * content


def _checked(name: str, picture: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The picture as float32 [H, W, 3], and its alpha [H, W], 0..1, if it has any that is not 1.
    Raises `UsageError` unless it is [H, W, 3] or [H, W, 4], finite and big enough."""
    if picture is None:
        raise UsageError(f"got no {name}: pass a picture [height, width, 3]")
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] not in (3, 4):
        raise UsageError(
            f"{name} has shape {picture.shape}: use [height, width, 3], or 4 with transparency"
        )
    if min(picture.shape[:2]) < SMALLEST_SIDE:
        raise UsageError(
            f"{name} is {size_in_words(picture)}: use at least {SMALLEST_SIDE} pixels per side"
        )
    picture = picture.astype(np.float32, copy=False)
    if not np.isfinite(picture).all():
        raise UsageError(f"{name} has values that are not finite: use RGB from 0 to 255")
    return _separated(name, picture)


def _separated(name: str, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The colours, filled where nothing is to be seen, and alpha."""
    colors, alpha = picture[..., :3], picture[..., 3:]
    if not alpha.size or alpha.min() >= 255:
        return colors, None
    if not (alpha.min() >= 0 and 0 < alpha.max() <= 255):
        raise UsageError(
            f"{name} has an alpha from {alpha.min():g} to {alpha.max():g}: use 0 to 255, not 0 "
            "everywhere"
        )
    share = alpha / 255
    over_white = colors * share + 255 * (1 - share)
    return transparency.filled(over_white, share[..., 0]), share[..., 0]


def size_in_words(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    return f"{width}x{height}"
