"""Inputs: the pictures and masks that the command line names -> arrays at the size of the run.

NumPy and Pillow are imported late, as in neural_style.py.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.errors import SettingName, UsageError, UserError
from neural_style_tf.machine import memory, recent
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
        self.content = None  # type: ignore[assignment]  # nobody looks at it after this
        self.alpha = self.initial = None
        self.styles, self.masks = [], {}


def load(options: RunOptions) -> Pictures:
    """Reads them all. Raises `UserError` for one that cannot be read, or does not fit."""
    settings = options.settings
    content = _load_content(options)
    size = height, width = content.pixels.shape[:2]
    plan = stages.plan(height, width, settings, has_initial=options.initial is not None)
    styles, sources = _load_styles(options, size)
    masks = {
        "content_mask": load_mask(options.content_mask, content.size, size, options.max_megapixels),
        "style_masks": options.style_masks
        and [
            load_mask(path, content.size, size, options.max_megapixels)
            for path in options.style_masks
        ],
        "style_source_masks": sources if options.style_source_masks else None,
    }
    initial = _load_initial(options, size)
    return Pictures(content.pixels, content.alpha, styles, initial, masks, plan)


def _load_content(options: RunOptions) -> "_Read":
    """The photo, at the size of the result, which is checked before anything is enlarged to it."""
    from neural_style_tf.pictures import sizes, writing

    settings = options.settings

    def size_of_result(height: int, width: int) -> tuple[int, int]:
        size = sizes.target_size(height, width, settings)
        writing.check_output_size(options.output, *size)
        _check_memory(*size)
        return size

    extension = os.path.splitext(options.output)[1]
    key = settings.size, settings.width, settings.height, extension
    return _read(options.content, options.max_megapixels, size_of_result, key)


def _load_styles(
    options: RunOptions, size: tuple[int, int]
) -> "tuple[list[np.ndarray], list[np.ndarray | None]]":
    """The paintings, each at its size in the run, and the masks of what is learnt of them. size:
    height and width of the result."""
    from neural_style_tf.pictures import sizes

    settings, count = options.settings, len(options.styles)
    scales = settings.style_scales or [None] * count
    mask_paths = options.style_source_masks or [None] * count
    styles, sources = [], []
    for path, scale, mask_path in zip(options.styles, scales, mask_paths, strict=True):

        def size_of_style(height: int, width: int, scale: float | None = scale) -> tuple[int, int]:
            if settings.style_fit == "stretch":
                return size
            return sizes.style_size(height, width, size[1], scale)

        key = size if settings.style_fit == "stretch" else (size[1], scale)
        style = _read(path, options.max_megapixels, size_of_style, key)
        styles.append(style.pixels)
        shape = style.pixels.shape[:2]
        sources.append(load_mask(mask_path, style.size, shape, options.max_megapixels))
    return styles, sources


def _load_initial(options: RunOptions, size: tuple[int, int]) -> "np.ndarray | None":
    from neural_style_tf.pictures import reading

    if not options.initial:
        return None
    return reading.read(options.initial, options.max_megapixels, lambda *_: size).pixels


def _check_memory(height: int, width: int) -> None:
    """Raises `UserError` for a result that this machine cannot hold, however it is painted."""
    free, least = memory.free_system_memory(), PICTURES_HELD * 12 * height * width
    if free is not None and least > free:
        raise UserError(
            f"{width}x{height} pixels take {least / 1e9:.1f} GB of memory at least, and "
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
    depends_on: tuple,
) -> _Read:
    """A picture brought to the size that `size` makes of its own. depends_on: all that `size`
    depends on: pictures that a batch reads again are found by it."""
    from neural_style_tf.pictures import reading

    def read() -> _Read:
        return _Read(*reading.read(path, max_megapixels, size), reading.size(path))

    key = (*files.version(path), max_megapixels, *depends_on)
    return recent.pictures.get(key, read, lambda picture: picture.pixels.nbytes)


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
