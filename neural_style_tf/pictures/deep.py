"""Deep pictures: 16 bits per channel, although Pillow's colours have 8.

Pillow can keep either byte of each sample, so such a file is decoded twice, for the high and the
low bytes. That needs no other library, and the checks of sizes and broken files are those
of every picture. Not tifffile or imagecodecs: the first unpacks compressed data without a limit,
the second is larger than all the other requirements of pictures together.
"""

import re
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

# How Pillow names samples of 16 bits in a file: the byte order, which says where the high byte is.
_ORDER = re.compile(r"^(RGB|RGBA|RGBX|RGBa|[RGBA]);16([LBN])$")
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if np.little_endian else "L"}
_GREY_AND_ALPHA = "LA;16B"
_SEPARATE_PLANES = 2  # TIFF 6.0, tag 284


class Depth(NamedTuple):
    """How the samples of 16 bits lie in a file."""

    is_grey: bool  # with alpha: all four bytes of a pixel are kept at once, as if RGBA
    is_premultiplied: bool  # its colours are multiplied by alpha


def of(image: ImageFile.ImageFile) -> Depth | None:
    """That of a picture that is not decoded yet; None unless its colours have 16 bits, and for grey
    without alpha, of which Pillow keeps all."""
    if _has_raw_planes(image):
        return Depth(False, False)
    modes = {_raw_mode(tile) for tile in image.tile}
    if not modes or not all(mode == _GREY_AND_ALPHA or _ORDER.match(mode) for mode in modes):
        return None
    mode = modes.pop()
    return Depth(mode == _GREY_AND_ALPHA, mode.startswith("RGBa"))


def keep(image: ImageFile.ImageFile, low: bool) -> None:
    """Has `load` keep the low or the high byte of each sample."""
    letter = "L" if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_little(image) else "B"
    planes = _has_raw_planes(image)
    before: Any = image.tile  # of tuples with names since Pillow 11
    tiles: list[Any] = []
    for tile in before:
        mode = _raw_mode(tile)
        if planes:  # Pillow takes them for planes of 8 bits
            mode = f"{mode};16{letter}"
        kept = _kept(mode, low)
        arguments = kept if isinstance(tile[3], str) else (kept, *(tile[3] or ())[1:])
        changed = (*tile[:3], arguments)
        tiles.append(tile._make(changed) if hasattr(tile, "_make") else changed)
    image.tile = tiles


def joined(
    depth: Depth, high: Image.Image, low: Image.Image | None, key: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours [r, w, 3], or grey [r, w], float32, 0..255 with fractions, and alpha [r, w, 1]
    float32, 0..1, or None. key: the colour that stands for transparent, of 16 bits per channel."""
    parts = np.asarray(high).astype(np.uint16)
    if depth.is_grey:
        parts, lower = parts[..., ::2], parts[..., 1::2]
    else:
        lower = np.asarray(low).astype(np.uint16)
    samples = parts * np.uint16(256) + lower
    colors, alpha = samples.astype(np.float32) / 257, None
    if depth.is_grey or samples.shape[-1] == 4:
        alpha = colors[..., -1:] / 255
        colors = colors[..., 0] if depth.is_grey else colors[..., :3]
        if depth.is_premultiplied:
            colors = np.minimum(colors / np.maximum(alpha, 1 / 65_535), 255)
    elif key is not None:
        alpha = (samples != np.asarray(key)).any(-1, keepdims=True).astype(np.float32)
    return colors, alpha


def _kept(mode: str, low: bool) -> str:
    if mode == _GREY_AND_ALPHA:
        return "RGBA"
    match = _ORDER.match(mode)
    if match is None:
        return mode
    order = _OTHER_ORDER[match[2]] if low else match[2]
    channels = match[1].replace("a", "A")  # else Pillow would divide by alpha, in 8 bits
    return f"{channels};16{order}"


def _raw_mode(tile: Any) -> str:
    """Pillow's name for how the samples of a tile lie in the file."""
    arguments = tile[3]
    if isinstance(arguments, tuple):
        arguments = arguments[0] if arguments else ""
    return arguments if isinstance(arguments, str) else ""


def _has_raw_planes(image: ImageFile.ImageFile) -> bool:
    """Whether it is an uncompressed TIFF of 16 bits, one channel after the other."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    tags = image.tag_v2
    planes = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _SEPARATE_PLANES
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, ())
    return planes and len(image.getbands()) > 2 and set(bits) == {16} and image.tile[0][0] == "raw"


def _is_little(image: TiffImagePlugin.TiffImageFile) -> bool:
    return image.tag_v2.prefix == TiffImagePlugin.II
