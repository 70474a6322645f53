"""Formats: the picture files that are read and written, by their endings and first bytes."""

import re
from pathlib import Path

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from neural_style_tf.errors import UsageError, nearest
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
READABLE_ENDINGS = (*FORMATS, ".gif")  # of the files that a folder is searched for
# JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h, WEBP_MAX_DIMENSION of libwebp's encode.h
LONGEST_SIDES = {"JPEG": 65_500, "WebP": 16_383}
# The classes of Pillow that read each format, and how its files begin. They are called directly:
# `Image.open` would also try others, some of which run programs (EPS), and MPO for a JPEG.
READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
BEGINNINGS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "TIFF": re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"),  # with 32 or 64 bits
    "BMP": re.compile(rb"BM"),
    "GIF": re.compile(rb"GIF8[79]a"),
}


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
