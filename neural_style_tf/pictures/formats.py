"""Formats: the picture files that are read and written, by their endings and first bytes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from neural_style_tf.errors import UsageError, UserError, nearest
from neural_style_tf.pictures.files import StrPath

# The endings that `save` writes, and the format of each.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
DEEP = ("PNG", "TIFF")  # those that hold 16 bits per colour
# of the files that a folder is searched for
READABLE_ENDINGS = (*FORMATS, ".gif", ".avif", ".heic", ".heif")
# JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h, WEBP_MAX_DIMENSION of libwebp's encode.h
LONGEST_SIDES = {"JPEG": 65_500, "WebP": 16_383}
WITHOUT_ALPHA = ("JPEG", "BMP")


def _open_avif(file: BinaryIO) -> ImageFile.ImageFile:
    try:
        from PIL import AvifImagePlugin  # late: it loads a library of its own
    except ImportError:
        raise _needs(
            file, "an AVIF", "Pillow 11.3 or newer: pip install --upgrade pillow"
        ) from None
    if not AvifImagePlugin.SUPPORTED:
        raise _needs(file, "an AVIF", "a Pillow built with libavif: pip install --upgrade pillow")
    return AvifImagePlugin.AvifImageFile(file)


def _open_heic(file: BinaryIO) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        advice = "pillow-heif: pip install 'neural-style-tf[heif]'"
        raise _needs(file, "a HEIC", advice) from None
    return HeifImageFile(file)


def _needs(file: BinaryIO, what: str, advice: str) -> UserError:
    return UserError(f"{file.name} is {what} picture, which needs {advice}")


# The classes of Pillow that read each format, and how its files begin. They are called directly:
# `Image.open` would also try others, some of which run programs (EPS), and MPO for a JPEG.
READERS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "AVIF": _open_avif,
    "HEIF": _open_heic,
}
BEGINNING_BYTES = 64  # that tell a format
BEGINNINGS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "TIFF": re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"),  # with 32 or 64 bits
    "BMP": re.compile(rb"BM"),
    "GIF": re.compile(rb"GIF8[79]a"),
    # the main brand of a file, or one of those that it is compatible with
    "AVIF": re.compile(rb".{4}ftyp(?:avi[fs]|mif1.{4}(?:.{4}){0,8}?avif)", re.DOTALL),
    "HEIF": re.compile(rb".{4}ftyp(?:he[iv][cmsx]|mif1|msf1)", re.DOTALL),
}


def is_opaque(path: StrPath) -> bool:
    """Whether the format that the ending of `path` names has no transparency."""
    return format_of(path) in WITHOUT_ALPHA


def format_of(path: StrPath) -> str:
    """The format that the ending of `path` names, or a `UsageError` with the known endings."""
    suffix = Path(path).suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    *others, last = FORMATS
    known = f"end it in {', '.join(others)} or {last}"
    if not suffix:
        raise UsageError(f"{path} has no ending that names a format: {known}")
    raise UsageError(f"{path} has an unknown ending{nearest(suffix, list(FORMATS))}: {known}")
