"""Inputs: the pictures and masks that the command line names -> arrays at the size of the run.

NumPy and Pillow are imported late, as in neural_style.py.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.errors import SettingName, UsageError, UserError
from neural_style_tf.machine import kept, memory
from neural_style_tf.painting import stages
from neural_style_tf.pictures import files
from neural_style_tf.runs.options import RunOptions

if TYPE_CHECKING:
    import numpy as np

    from neural_style_tf.painting.stages import Stage

NO_MASK = "-"  # in the place of a style's
PICTURES_HELD = 6  # of the result's size, [H, W, 3] float32, by a run that makes do with the least
MASK_TOLERANCE = 0.02  # of its proportions against its picture's: they come in whole pixels


@dataclass
class Pictures:
    """What is painted from what: [H, W, 3] float32 RGB, 0..255, at the size of the run."""

    content: "np.ndarray"
    alpha: "np.ndarray | None"  # the photo's own transparency, [H, W] float32, 0..1
    styles: "list[np.ndarray]"
    initial: "np.ndarray | None"
    masks: "dict[str, Any]"  # as `stylize` takes them
    plan: "list[Stage]"

    def let_go(self) -> None:
        """Of all pictures: the run that has them lets each go when it is done with it."""
        self.content = self.alpha = self.initial = None
        self.styles, self.masks = [], {}


def load(options: RunOptions) -> Pictures:
    """Reads them all. Raises `UserError` for one that cannot be read, or does not fit."""
    from neural_style_tf.pictures import reading, sizes, writing

    settings, most = options.settings, options.max_megapixels

    def size_of_result(height: int, width: int) -> tuple[int, int]:
        """Checked before anything is enlarged to it."""
        size = sizes.target_size(height, width, settings)
        writing.check_output_size(options.output, *size)
        _check_memory(*size)
        return size

    asked = settings.size, settings.width, settings.height, os.path.splitext(options.output)[1]
    content = _read(options.content, most, size_of_result, asked)
    height, width = content.pixels.shape[:2]
    plan = stages.plan(height, width, settings, has_initial=options.initial is not None)
    count = len(options.styles)
    scales = settings.style_scales or [None] * count
    regions = [
        load_mask(path, content.size, (height, width), most)
        for path in options.style_masks or [None] * count
    ]
    styles, sources = [], []
    of_sources = options.style_source_masks or [None] * count
    for path, scale, source in zip(options.styles, scales, of_sources, strict=True):
        if settings.style_fit == "keep":
            style = _read(
                path,
                most,
                lambda *size, scale=scale: sizes.style_size(*size, width, scale),
                (width, scale),
            )
        else:
            style = _read(path, most, lambda *_: (height, width), (height, width))
        styles.append(style.pixels)
        sources.append(load_mask(source, style.size, style.pixels.shape[:2], most))
    initial = None
    if options.initial:
        initial = reading.read(options.initial, most, lambda *_: (height, width)).pixels
    masks = {
        "content_mask": load_mask(options.content_mask, content.size, (height, width), most),
        "style_masks": regions if options.style_masks else None,
        "style_source_masks": sources if options.style_source_masks else None,
    }
    return Pictures(content.pixels, content.alpha, styles, initial, masks, plan)


def _check_memory(height: int, width: int) -> None:
    """Raises `UserError` for a result that this machine cannot hold, however it is painted."""
    free, least = memory.free_system_memory(), PICTURES_HELD * 12 * height * width
    if free is not None and least > free:
        raise UserError(
            f"{width}x{height} pixels take {least / 1e9:.1f} GB of memory at the very least, and "
            f"{free / 1e9:.1f} GB are free: make the picture smaller"
        )


class _Read(NamedTuple):
    pixels: "np.ndarray"  # [H, W, 3] float32 RGB, 0..255, at the size of the run
    alpha: "np.ndarray | None"  # [H, W] float32, 0..1
    size: tuple[int, int]  # height and width that the file has


def _read(
    path: str,
    max_megapixels: float,
    size: Callable[[int, int], tuple[int, int]],
    asked: tuple,
) -> _Read:
    """A picture brought to the size that `size` makes of its own; asked: what `size` depends on."""
    from neural_style_tf.pictures import reading

    def read() -> _Read:
        return _Read(*reading.read(path, max_megapixels, size), reading.size(path))

    key = (*files.version(path), max_megapixels, *asked)
    return kept.pictures.get(key, read, lambda found: found.pixels.nbytes)


def load_mask(
    path: str | None, of: tuple[int, int], size: tuple[int, int], max_megapixels: float
) -> "np.ndarray | None":
    """The mask of a picture whose file has height and width `of`, brought to `size`; None without
    one.
    Raises `UserError` unless it has the picture's proportions, and something white."""
    from neural_style_tf.pictures import reading

    if path is None or path == NO_MASK:
        return None

    def size_of(mask_height: int, mask_width: int) -> tuple[int, int]:
        height, width = of
        if abs(mask_width * height / (mask_height * width) - 1) > MASK_TOLERANCE:
            raise UsageError(
                f"mask {path} is {mask_width}x{mask_height} and its picture {width}x{height}: "
                "give it the same proportions"
            )
        return size

    mask = reading.read_mask(path, max_megapixels, size_of)
    if not mask.any():
        raise UsageError(f"mask {path} is all black: paint white what counts")
    return mask


def check_masks(options: RunOptions) -> None:
    """Raises `UsageError` unless there is one mask per style."""
    for name in ("style_masks", "style_source_masks"):
        masks, count = getattr(options, name), len(options.styles)
        if masks is not None and len(masks) != count:
            raise UsageError(
                f"got {len(masks)} ",
                SettingName(name),
                f" for {count} style{'s' * (count != 1)}: pass one per style, {NO_MASK} for none",
            )
