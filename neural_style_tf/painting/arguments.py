"""Arguments: the pictures and masks of a run as its caller passes them -> checked arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from neural_style_tf.errors import UsageError
from neural_style_tf.painting import stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.pictures import colors, resampling
from neural_style_tf.pictures.masks import InputMasks
from neural_style_tf.settings import SMALLEST_SIDE, Settings


class Pictures(NamedTuple):
    """What is painted, of what, and where. Pictures are [H, W, 3] float32 RGB, 0..255."""

    content: np.ndarray
    styles: list[np.ndarray]  # each of any size
    initial: np.ndarray | None  # the picture to start from, of the content's size
    masks: InputMasks

    def bled(self, pixels: int) -> "Pictures":
        """With that many pixels more beyond each edge of the content, mirrored."""
        initial = None if self.initial is None else resampling.with_bleed(self.initial, pixels)
        content = resampling.with_bleed(self.content, pixels)
        return Pictures(content, self.styles, initial, self.masks.with_bleed(pixels))

    def at_stage(self, stage: Stage, last: Stage, settings: Settings) -> list[np.ndarray]:
        """The content and the styles at the sizes that they have at a stage."""
        pictures = [resampling.resize(self.content, *stage.outer_size)]
        for style in self.styles:
            height, width = style.shape[:2]
            size = stages.style_size(height, width, stage, last, settings)
            pictures.append(resampling.resize(style, *size))
        return pictures


def checked(
    content: Any,
    styles: Sequence[Any],
    settings: Settings,
    *,
    initial: Any = None,
    style_masks: Sequence[np.ndarray | None] | None = None,
    content_mask: np.ndarray | None = None,
    style_source_masks: Sequence[np.ndarray | None] | None = None,
) -> Pictures:
    """The arguments of `stylize` as float32; the styles in the content's colours if the settings
    say so. Raises `UsageError` for a picture or mask that is missing, or of a wrong shape, size or
    range."""
    settings.check_styles(len(styles))
    content = _checked("content", content)
    styles = [_checked(f"style {number}", style) for number, style in enumerate(styles, 1)]
    if not styles:
        raise UsageError("got no style: pass at least one picture")
    if initial is not None:
        initial = _checked("initial", initial)
        if initial.shape != content.shape:
            raise UsageError(
                f"initial is {size_in_words(initial)} and content {size_in_words(content)}: "
                "pass pictures of equal size"
            )
    if settings.preserve_colors in ("match", "histogram"):
        styles = [colors.matched(style, content, settings.preserve_colors) for style in styles]
    masks = InputMasks.checked(content, styles, style_masks, content_mask, style_source_masks)
    return Pictures(content, styles, initial, masks)


def _checked(name: str, picture: Any) -> np.ndarray:
    """The picture as float32. Raises `UsageError` unless it is [H, W, 3], finite and big enough."""
    if picture is None:
        raise UsageError(f"got no {name}: pass a picture [height, width, 3]")
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise UsageError(f"{name} has shape {picture.shape}: use [height, width, 3]")
    if min(picture.shape[:2]) < SMALLEST_SIDE:
        raise UsageError(
            f"{name} is {size_in_words(picture)}: use at least {SMALLEST_SIDE} pixels per side"
        )
    picture = picture.astype(np.float32, copy=False)
    if not np.isfinite(picture).all():
        raise UsageError(f"{name} has values that are not finite: use RGB from 0 to 255")
    return picture


def size_in_words(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    return f"{width}x{height}"
