"""Inputs: the pictures and masks that the command line names -> arrays at the size of the run.

NumPy and Pillow are imported late, as in neural_style.py.
"""

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

import stages
from options import option_name
from settings import Settings, UsageError

if TYPE_CHECKING:
    import numpy as np

    from stages import Stage

NO_MASK = "-"  # in the place of a style's
MASK_TOLERANCE = 0.02  # of its proportions against its picture's: they come in whole pixels


class Pictures(NamedTuple):
    """What is painted from what: [H, W, 3] float32 RGB, 0..255, at the size of the run."""

    content: "np.ndarray"
    alpha: "np.ndarray | None"  # the photo's own transparency, [H, W] float32, 0..1
    styles: "list[np.ndarray]"
    initial: "np.ndarray | None"
    masks: "dict[str, Any]"  # as `stylize` takes them
    plan: "list[Stage]"


def load(options: argparse.Namespace, settings: Settings) -> Pictures:
    """Reads them all. Raises `UserError` for one that cannot be read, or does not fit."""
    import images

    content, alpha = images.read(options.content, options.max_megapixels)
    height, width = images.target_size(*content.shape[:2], settings)
    images.check_output_size(options.output, height, width)
    plan = stages.plan(height, width, settings, has_initial=options.initial is not None)
    most = options.max_megapixels
    count = len(options.styles)
    scales = settings.style_scales or [1.0] * count
    regions = [
        load_mask(path, content, (height, width), most)
        for path in options.style_masks or [None] * count
    ]
    styles, sources = [], []
    of_sources = options.style_source_masks or [None] * count
    for path, scale, source in zip(options.styles, scales, of_sources, strict=True):
        style = images.read(path, most).pixels
        size = (height, width)
        if settings.style_fit == "keep":
            size = images.style_size(*style.shape[:2], width, scale)
        styles.append(images.resize(style, *size))
        sources.append(load_mask(source, style, size, most))
    initial = None
    if options.initial:
        initial = images.read(options.initial, most).pixels
        initial = images.resize(initial, height, width)
    masks = {
        "content_mask": load_mask(options.content_mask, content, (height, width), most),
        "style_masks": regions if options.style_masks else None,
        "style_source_masks": sources if options.style_source_masks else None,
    }
    return Pictures(
        images.resize(content, height, width),
        None if alpha is None else images.resize(alpha, height, width),
        styles,
        initial,
        masks,
        plan,
    )


def load_mask(
    path: str | None, picture: "np.ndarray", size: tuple[int, int], max_megapixels: float
) -> "np.ndarray | None":
    """The mask of a picture as its file has it, brought to a height and width; None without one.
    Raises `UserError` unless it has the picture's proportions, and something white."""
    import images

    if path is None or path == NO_MASK:
        return None
    mask = images.read_mask(path, max_megapixels)
    (height, width), (of_mask_height, of_mask_width) = picture.shape[:2], mask.shape
    if abs(of_mask_width * height / (of_mask_height * width) - 1) > MASK_TOLERANCE:
        raise UsageError(
            f"mask {path} is {of_mask_width}x{of_mask_height} and its picture {width}x{height}: "
            "give it the same proportions"
        )
    if not mask.any():
        raise UsageError(f"mask {path} is all black: paint white what counts")
    return images.resize(mask, *size)


def check_masks(options: argparse.Namespace) -> None:
    """Raises `UsageError` unless there is a mask a style."""
    for name in ("style_masks", "style_source_masks"):
        masks, count = getattr(options, name), len(options.styles)
        if masks is not None and len(masks) != count:
            raise UsageError(
                f"got {len(masks)} {option_name(name)} for {count} style{'s' * (count != 1)}: give "
                f"one a style, or {NO_MASK} for none"
            )


def mask_files(options: argparse.Namespace) -> list[str]:
    """The names of all masks."""
    named = [options.content_mask]
    named += [*(options.style_masks or []), *(options.style_source_masks or [])]
    return [name for name in named if name not in (None, NO_MASK)]
