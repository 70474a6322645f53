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
from neural_style_tf.settings import Settings


class Masks(NamedTuple):
    """The masks of a stage, float32, 0..1; None for those that are not set."""

    # [1, H, W, 1 or styles]: where all styles paint, or where each does
    regions: np.ndarray | None = None
    sources: list[np.ndarray | None] | None = None  # per style [1, h, w, 1]: where it is learnt

    def region(self, style: int) -> np.ndarray | None:
        """[H, W]: where a style paints, counted from 0; None for everywhere."""
        if self.regions is None:
            return None
        return self.regions[0, ..., style if self.regions.shape[-1] > 1 else 0]

    def source(self, style: int) -> np.ndarray | None:
        """[1, h, w, 1]: where a style is learnt from its painting; None for everywhere."""
        return self.sources[style] if self.sources else None

    def shares(self, settings: Settings, styles: int) -> list[float]:
        """The weight of each style's loss. A region's Gram matrix is a mean over the region, so its
        loss is multiplied by its area: a pixel then has the same gradient in a small region as it
        has without masks."""
        shares = settings.style_shares(styles)
        if self.regions is None:
            return shares
        areas = self.regions.mean((0, 1, 2), dtype=np.float64)
        each = np.broadcast_to(areas, styles)
        return [len(areas) * area * share for area, share in zip(each, shares, strict=True)]


NO_MASKS = Masks()


class InputMasks(NamedTuple):
    """The masks that a run was called with, [H, W] float32, 0..1, at the size of their pictures."""

    styles: list[np.ndarray | None] | None  # where each style paints
    content: np.ndarray | None  # where the photo is painted at all
    sources: list[np.ndarray | None] | None  # where each style is learnt

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
        if styles is not None and content is not None:
            for number, mask in enumerate(styles, 1):
                if mask is not None and not (mask * content).any():
                    raise UsageError(
                        SettingName("style_masks"),
                        f" {number} does not overlap ",
                        SettingName("content_mask"),
                    )
        return cls(styles, content, sources)

    def with_bleed(self, bleed: int) -> "InputMasks":
        """The masks with `bleed` more pixels beyond each edge of the photo, mirrored."""
        styles = self.styles and [
            None if mask is None else resampling.with_bleed(mask, bleed) for mask in self.styles
        ]
        content = None if self.content is None else resampling.with_bleed(self.content, bleed)
        return InputMasks(styles, content, self.sources)

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
        return Masks(regions, sources), painted


def _at(mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    return resampling.resize(mask, *picture.shape[1:3])[np.newaxis, ..., np.newaxis]


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
