"""Reading: a picture file -> [H, W, 3] float32 RGB, 0..255: upright, in sRGB, over white."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import ImageFile

from neural_style_tf.errors import UsageError
from neural_style_tf.machine import streams
from neural_style_tf.pictures import (
    color_coding,
    decoding,
    deep,
    frames,
    limits,
    opening,
    orientation,
    regions,
    resampling,
)
from neural_style_tf.pictures.files import StrPath
from neural_style_tf.pictures.sizes import Placement
from neural_style_tf.rules import names
from neural_style_tf.settings import MAX_MEGAPIXELS

MOST_COLOR_OF_MASK = 48  # levels between the channels of a pixel
# The height and width to read a picture at, or how it is brought to a size, from those of the file.
SizeOf = Callable[[int, int], tuple[int, int] | Placement]


class Picture(NamedTuple):
    pixels: np.ndarray  # [H, W, 3] float32 RGB, 0..255
    alpha: np.ndarray | None  # [H, W] float32, 0..1; None if all of it is opaque


def read(
    path: StrPath, max_megapixels: float = MAX_MEGAPIXELS, size_of: SizeOf | None = None
) -> Picture:
    """The picture in a file, upright, in sRGB, over white where it is transparent.

    Reads JPEG, PNG, WebP, TIFF, BMP and GIF (the first frame), in every mode that Pillow knows.
    A broken colour profile is ignored. With `size_of`, the picture is resized to the size that the
    function returns: bit for bit as `resize` does, but within 0.01 levels if the file has more than
    40 megapixels, of which only a band of rows at a time is held in float32.

    Raises `UserError` for a file that cannot be read, that has more than `max_megapixels`, or that
    takes more memory than is free or than a file of its length may (both by its header alone);
    `UsageError` if `max_megapixels` is not a finite number above 0; and whatever `size_of` raises.
    """
    pixels, alpha = _read(path, max_megapixels, size_of, _over_white, 255), None
    if pixels.shape[-1] in (2, 4):
        pixels, alpha = pixels[..., :-1], np.ascontiguousarray(pixels[..., -1])
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    return Picture(np.ascontiguousarray(pixels), alpha)


def size(path: StrPath) -> tuple[int, int]:
    """Height and width of the picture in a file, upright, without decoding it. Raises `UserError`
    for a file that is not a picture."""
    with opening.quiet_pillow(), opening.open_image(path) as image:
        return orientation.upright_size(image)


def bits(path: StrPath) -> int:
    """The bits of each colour, 8 or 16, by its header. Raises `UserError` for a file that is not a
    picture."""
    with opening.quiet_pillow(), opening.open_image(path) as image:
        return 8 if deep.of(image) is None else 16


def read_mask(
    path: StrPath, max_megapixels: float = MAX_MEGAPIXELS, size_of: SizeOf | None = None
) -> np.ndarray:
    """The mask in a file: [H, W] float32, 1 where it is white, 0 where black or transparent.

    Resizes and raises errors as `read` does, and `UsageError` for a picture that is not grey.
    """

    def whiteness(colors: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        return _whiteness(path, colors, alpha)

    return _read(path, max_megapixels, size_of, whiteness, 1)[..., 0]


def _read(
    path: StrPath, max_megapixels: float, size_of: SizeOf | None, join: decoding.Join, top: float
) -> np.ndarray:
    """The picture in a file, [H, W, C] float32, 0..`top`, in the channels that `join` returns."""
    limits.check_max_megapixels(max_megapixels)
    source = size(path)
    with opening.quiet_pillow(), opening.open_image(path, decodes=True) as image:
        limits.check_megapixels(path, image, max_megapixels)
        target = source if size_of is None else size_of(*source)
        placement = target if isinstance(target, Placement) else Placement(target)
        limits.check_memory(path, image, source, placement.full_size, max_megapixels)
        frames.report(path, image)
        coding, depth = color_coding.of(path, image), deep.of(image)
        _load(path, image, depth)
        with contextlib.ExitStack() as stack:
            low = None
            if depth is not None and not depth.is_grey:
                low = stack.enter_context(opening.open_image(path))
                _load(path, low, depth, low=True)
            decoded = decoding.Decoded(image, coding, depth, low)
            bands = decoding.bands(path, decoded, source, join)
            return resampling.placed(bands, source, placement, top)


def _load(
    path: StrPath, image: ImageFile.ImageFile, depth: deep.Depth | None, low: bool = False
) -> None:
    """Decodes a picture; of one with 16 bits, the high or the low bytes."""
    with (
        opening.reporting_broken(path),
        streams.silenced() if image.format == "TIFF" else contextlib.nullcontext(),
    ):
        if depth is not None:
            deep.keep(image, low)
        decoding.widen_transparent_level(image)
        image.load()


def _over_white(colors: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Colours over white, and alpha as a last channel where there is one."""
    if alpha is None:
        return colors
    return np.concatenate([colors * alpha + 255 * (1 - alpha), alpha], axis=-1)


def _whiteness(path: StrPath, colors: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """[r, W, 1] float32: 1 where a picture is white, 0 where it is black or transparent."""
    if alpha is not None:
        colors = _over_white(colors, alpha)[..., :-1]
    _check_grey(path, colors)
    red, green, blue = (colors[..., i % colors.shape[-1]] for i in range(3))
    white = ((red + green + blue) / 3 / 255)[..., np.newaxis]
    if alpha is not None:
        white -= 1 - alpha
    return np.clip(white, 0, 1).astype(np.float32)


def _check_grey(path: StrPath, colors: np.ndarray) -> None:
    """Raises `UsageError` for colours [r, W, 1 or 3] that are further from grey than the noise of
    a JPEG or a warm scan."""
    distance = np.ptp(colors, axis=-1)
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    if distance[row, column] > MOST_COLOR_OF_MASK:
        raise UsageError(
            f"mask {path} is in colour ({regions.in_hexadecimal(colors[row, column])}): use a grey "
            "picture; for maps with a colour per region use ",
            *names("content_regions", "style_regions"),
        )
