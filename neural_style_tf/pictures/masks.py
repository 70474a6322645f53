"""Masks: where each style paints, what of a painting it is learnt from, what of the photo stays.

A mask is 1 where something counts, 0 where not, and in between at a soft edge. At a layer each
position counts by its share: the mask is averaged over the pixels that poolings join there. Gatys
et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer", section 4.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.pictures import resampling
from neural_style_tf.settings import Settings


class Masks(NamedTuple):
    """Those of a run or of a stage; None where there is none. float32, 0..1."""

    # [1, H, W, 1 or styles]: where all styles paint, or each
    regions: np.ndarray | None = None
    sources: list[np.ndarray | None] | None = None  # of each style [1, h, w, 1]: what is learnt

    def region(self, style: int) -> np.ndarray | None:
        """[H, W]: where a style paints; None for everywhere."""
        if self.regions is None:
            return None
        return self.regions[0, ..., style if self.regions.shape[-1] > 1 else 0]

    def source(self, style: int) -> np.ndarray | None:
        return self.sources[style] if self.sources else None

    def shares(self, settings: Settings, styles: int) -> list[float]:
        """What each style's loss counts. A region's Gram is a mean over the region: times its area
        a pixel is pulled as hard in a small one as it is without masks."""
        shares = settings.style_shares(styles)
        if self.regions is None:
            return shares
        areas = self.regions.mean((0, 1, 2), dtype=np.float64)
        each = np.broadcast_to(areas, styles)
        return [len(areas) * area * share for area, share in zip(each, shares, strict=True)]


NO_MASKS = Masks()


class GivenMasks(NamedTuple):
    """Those of a run as they were given, [H, W] float32, 0..1, at the size of their pictures."""

    styles: list[np.ndarray | None] | None  # where each paints
    content: np.ndarray | None  # what is painted at all
    sources: list[np.ndarray | None] | None  # what each style is learnt from

    @classmethod
    def checked(
        cls,
        photo: np.ndarray,
        paintings: Sequence[np.ndarray],
        styles: Sequence[np.ndarray | None] | None,
        content: np.ndarray | None,
        sources: Sequence[np.ndarray | None] | None,
    ) -> "GivenMasks":
        """Raises `UsageError` for a mask that is of another size than its picture, or empty."""
        if styles is not None:
            styles = _one_each("style_masks", styles, [photo] * len(paintings))
        if sources is not None:
            sources = _one_each("style_source_masks", sources, paintings)
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

    def bled(self, bleed: int) -> "GivenMasks":
        """Those of the photo with so many pixels more beyond each edge."""
        styles = self.styles and [
            None if mask is None else resampling.bled(mask, bleed) for mask in self.styles
        ]
        content = None if self.content is None else resampling.bled(self.content, bleed)
        return GivenMasks(styles, content, self.sources)

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


def _one_each(
    name: str, masks: Sequence[np.ndarray | None], pictures: Sequence[np.ndarray]
) -> list[np.ndarray | None]:
    if len(masks) != len(pictures):
        raise UsageError(
            f"got {len(masks)} {name} for {len(pictures)} style{'s' * (len(pictures) != 1)}: "
            "give one mask a style"
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
        raise UsageError(f"{name} is all 0: give a mask that leaves something")
    return mask
