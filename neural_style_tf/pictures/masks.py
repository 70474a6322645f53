"""Masks: where each style paints, which part of a painting it is learnt from, which part of the
photo is painted.

A mask is 1 where a pixel counts, 0 where it does not, and in between at a soft edge. At a layer it
is averaged over the pixels that the poolings join. Gatys et al. 2017, "Controlling Perceptual
Factors in Neural Style Transfer", section 4.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.pictures import resampling
from neural_style_tf.pictures.regions import Part
from neural_style_tf.settings import Settings


class Masks(NamedTuple):
    """The masks of a stage, float32, 0..1; None for those that are not set."""

    # [1, H, W, regions]: one where all styles paint, or one for each, or those of `painted_in`
    regions: np.ndarray | None = None
    sources: list[np.ndarray | None] | None = None  # per style [1, h, w, 1]: where it is learnt
    painted_in: list[int] | None = None  # per style, the number of the region that it paints
    blend: list[float] | None = None  # per style, its share of that region; None: the settings say

    def region(self, style: int) -> np.ndarray | None:
        """[H, W]: where a style paints, counted from 0; None for everywhere."""
        return None if self.regions is None else self.regions[0, ..., self.numbers(style + 1)[-1]]

    def numbers(self, styles: int) -> list[int]:
        """The number of the region that each style paints, from 0."""
        if self.painted_in is not None:
            return self.painted_in[:styles]
        is_shared = self.regions is None or self.regions.shape[-1] == 1
        return [0] * styles if is_shared else list(range(styles))

    def source(self, style: int) -> np.ndarray | None:
        """[1, h, w, 1]: where a style is learnt from its painting; None for everywhere."""
        return self.sources[style] if self.sources else None

    def blends(self, settings: Settings, styles: int) -> list[float]:
        """The share of each style where it paints."""
        return settings.style_shares(styles) if self.blend is None else self.blend

    def shares(self, settings: Settings, styles: int) -> list[float]:
        """The weight of each style's loss. A region's Gram matrix is a mean over the region, so its
        loss is multiplied by its area: a pixel then has the same gradient in a small region as it
        has without masks."""
        shares = self.blends(settings, styles)
        if self.regions is None:
            return shares
        areas = self.regions.mean((0, 1, 2), dtype=np.float64)
        each = [areas[number] for number in self.numbers(styles)]
        times = len(areas) if self.blend is None else 1  # equal shares of the settings sum to 1
        return [times * area * share for area, share in zip(each, shares, strict=True)]


NO_MASKS = Masks()


class InputMasks(NamedTuple):
    """The masks that a run was called with, [H, W] float32, 0..1, at the size of their pictures."""

    # where each style paints; with `painted_in` the regions, which may be bool
    styles: list[np.ndarray | None] | None
    content: np.ndarray | None  # where the photo is painted at all
    sources: list[np.ndarray | None] | None  # where each style is learnt; may be bool
    painted_in: list[int] | None = None  # as in `Masks`
    blend: list[float] | None = None

    @classmethod
    def checked(
        cls,
        photo: np.ndarray,
        paintings: Sequence[np.ndarray],
        styles: Sequence[np.ndarray | None] | None,
        content: np.ndarray | None,
        sources: Sequence[np.ndarray | None] | None,
    ) -> "InputMasks":
        """The masks, once they are checked.

        Raises `UsageError` for a mask that differs in size from its picture, leaves 0..1, is empty
        or does not overlap the content mask, and for a number of masks other than that of styles.
        """
        if styles is not None:
            styles = _checked_per_style("style_masks", styles, [photo] * len(paintings))
        if sources is not None:
            sources = _checked_per_style("style_source_masks", sources, paintings)
        if content is not None:
            content = _checked("content_mask", content, photo)
        return cls(styles, None, None).within(content, sources or [None] * len(paintings))

    def within(
        self, content: np.ndarray | None, sources: Sequence[np.ndarray | None]
    ) -> "InputMasks":
        """The masks joined with others, such as alpha: of the photo, and of each painting.

        Raises `UsageError` if that leaves nothing to paint of the photo, or in the region of a
        style, or nothing to learn.
        """
        painted = joined(self.content, content)
        learnt = [
            joined(*pair)
            for pair in zip(self.sources or [None] * len(sources), sources, strict=True)
        ]
        _check_left("content_mask", "content", painted)
        for number, mask in enumerate(learnt, 1):
            _check_left(f"style_source_masks {number}", f"style {number}", mask)
        for number, mask in enumerate(self.styles or [], 1):
            if mask is not None and painted is not None and not (mask * painted).any():
                raise UsageError(
                    SettingName("style_masks"),
                    f" {number} covers nothing that is painted: let it overlap ",
                    SettingName("content_mask"),
                    " and what is opaque of the photo",
                )
        has_sources = any(mask is not None for mask in learnt)
        return self._replace(content=painted, sources=learnt if has_sources else None)

    def with_regions(self, regions: Sequence[np.ndarray], parts: Sequence[Part]) -> "InputMasks":
        """The masks of styles that each are a part of a painting, in place of those of the
        paintings."""
        sources = [joined(part.source, self.source(part.style)) for part in parts]
        return self._replace(
            styles=list(regions),
            sources=sources if any(source is not None for source in sources) else None,
            painted_in=[part.region for part in parts],
            blend=[part.share for part in parts],
        )

    def with_bleed(self, bleed: int) -> "InputMasks":
        """The masks with `bleed` more pixels beyond each edge of the photo, mirrored."""
        styles = self.styles and [
            None if mask is None else resampling.with_bleed(mask, bleed) for mask in self.styles
        ]
        content = None if self.content is None else resampling.with_bleed(self.content, bleed)
        return self._replace(styles=styles, content=content)

    def at(
        self, photo: np.ndarray, paintings: Sequence[np.ndarray]
    ) -> tuple[Masks, np.ndarray | None]:
        """The masks at the size of a stage's pictures, each [1, H, W, 3]; and where the photo is
        painted at all, [1, H, W, 1], or None for everywhere."""
        painted, regions, sources = None, None, None
        if self.styles is not None:
            everywhere = np.ones(photo.shape[1:3], np.float32)
            each = (everywhere if mask is None else mask for mask in self.styles)
            regions = np.concatenate([_at(mask, photo) for mask in each], -1)
        if self.content is not None:
            painted = _at(self.content, photo)
            regions = painted if regions is None else regions * painted
        if self.sources is not None:
            sources = [
                None if mask is None else _at(mask, painting)
                for mask, painting in zip(self.sources, paintings, strict=True)
            ]
        return Masks(regions, sources, self.painted_in, self.blend), painted

    def source(self, style: int) -> np.ndarray | None:
        """[h, w] float32: where a style is learnt, counted from 0; None for everywhere."""
        source = self.sources[style] if self.sources else None
        return None if source is None else source.astype(np.float32, copy=False)

    def region(self, style: int) -> np.ndarray | None:
        """[H, W] float32: where a style paints at all, counted from 0; None for everywhere."""
        mask = None
        if self.styles is not None:
            mask = self.styles[style if self.painted_in is None else self.painted_in[style]]
        if mask is None or self.content is None:
            return self.content if mask is None else mask.astype(np.float32)
        return mask * self.content


def joined(mask: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """What two masks [H, W] leave together; None for everywhere. A mask that repeats the soft edge
    of a picture's alpha leaves that edge as it is."""
    if mask is None or other is None:
        return other if mask is None else mask
    return np.minimum(mask, other)


def _check_left(name: str, picture: str, mask: np.ndarray | None) -> None:
    if mask is not None and not mask.any():
        raise UsageError(
            f"{name} leaves nothing of {picture} that is opaque: pass a mask that is above 0 there"
        )


def _at(mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    resized = resampling.resize(mask.astype(np.float32, copy=False), *picture.shape[1:3])
    return resized[np.newaxis, ..., np.newaxis]


def _checked_per_style(
    name: str, masks: Sequence[np.ndarray | None], pictures: Sequence[np.ndarray]
) -> list[np.ndarray | None]:
    if len(masks) != len(pictures):
        raise UsageError(
            f"got {len(masks)} {name} for {len(pictures)} style{'s' * (len(pictures) != 1)}: "
            "pass one mask per style"
        )
    return [
        None if mask is None else _checked(f"{name} {number}", mask, picture)
        for number, (mask, picture) in enumerate(zip(masks, pictures, strict=True), 1)
    ]


def _checked(name: str, mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask, np.float32)
    if mask.shape != picture.shape[:2]:
        raise UsageError(
            f"{name} has shape {mask.shape} and its picture {picture.shape[:2]}: give equal sizes"
        )
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise UsageError(f"{name} goes from {mask.min():g} to {mask.max():g}: give 0 to 1")
    if not mask.any():
        raise UsageError(f"{name} is all 0: pass a mask that is above 0 somewhere")
    return mask
