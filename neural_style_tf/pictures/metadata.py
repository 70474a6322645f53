"""Metadata: what a painted picture says about how it was painted."""

import json
import re
import struct
from typing import Any

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, PngImagePlugin

from neural_style_tf.errors import UserError
from neural_style_tf.machine import streams
from neural_style_tf.pictures import opening
from neural_style_tf.pictures.files import StrPath
from neural_style_tf.version import VERSION

SOFTWARE = f"neural-style {VERSION}"
MAX_BYTES = 1_000_000  # of JSON text; enough for a run with ten thousand paintings
MAX_LEVELS = 20  # of nested dictionaries and lists; ours have four


def read(path: StrPath) -> dict[str, Any]:
    """The metadata that `save` wrote into a file; {} for a file of another program.

    A dictionary of JSON values, at most `MAX_BYTES` long as text and nested at most `MAX_LEVELS`
    deep. Raises `UserError` for a file that is not a picture, and for one of ours whose metadata is
    damaged.
    """
    with opening.quiet_pillow(), opening.open_image(path) as image:
        try:
            software, text = _software_and_comment(image)
        except (*opening.BROKEN, MemoryError):  # whatever another program has written there
            return {}
    if not isinstance(software, str) or not software.startswith("neural-style ") or not text:
        return {}
    try:
        return _parsed(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"the metadata of {path} is damaged: paint the picture again, or use another one"
        ) from error


def metadata_options(path: StrPath, name: str, text: str) -> dict[str, Any]:
    """The arguments that have Pillow's encoder of a format write the text where others look for it.

    text: JSON, which escapes everything beyond ASCII: no reader garbles it, not even a file name
    that is not valid Unicode. One over `MAX_BYTES` is left out, and a warning is logged.
    """
    if len(text) > MAX_BYTES:
        streams.LOGGER.warning(
            "%s is saved without its settings, which are %.1f MB long: at most %.1f MB are read "
            "again, so that it cannot be painted again by --settings-from",
            *(path, len(text) / 1e6, MAX_BYTES / 1e6),
        )
        return {}
    if name == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Software", SOFTWARE)
        chunks.add_text("Comment", text)
        return {"pnginfo": chunks}
    if name == "TIFF":
        tags = {ExifTags.Base.ImageDescription: text, ExifTags.Base.Software: SOFTWARE}
        return {"tiffinfo": tags}
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = SOFTWARE
    if name == "JPEG" and len(text) > _MAX_SEGMENT_TEXT:
        return {"exif": exif, "extra": _comment_segments(text.encode("ascii"))}
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: _ASCII + text.encode("ascii")}
    return {"exif": exif}


_ASCII = b"ASCII\0\0\0"  # EXIF 2.32, UserComment: the 8 bytes that name its character code
# A segment of a JPEG holds 64 KiB, and EXIF has one segment. Longer text is written as comments
# (COM): each begins with its number and the number of them all.
_MAX_SEGMENT_TEXT = 64_800
_COMMENT = re.compile(rb"neural-style (\d+)/(\d+) ")


def _comment_segments(text: bytes) -> bytes:
    """The segments of a JPEG file that hold the text as comments."""
    parts = [
        text[start : start + _MAX_SEGMENT_TEXT] for start in range(0, len(text), _MAX_SEGMENT_TEXT)
    ]
    contents = (b"neural-style %d/%d " % (i, len(parts)) + part for i, part in enumerate(parts, 1))
    return b"".join(struct.pack(">HH", 0xFFFE, 2 + len(content)) + content for content in contents)


def _joined_comments(image: JpegImagePlugin.JpegImageFile) -> bytes:
    """The text that `_comment_segments` split; empty unless all of it is present."""
    parts, count = {}, 0
    for name, content in image.applist:
        if name == "COM" and (match := _COMMENT.match(content)):
            count = int(match[2])
            parts[int(match[1])] = content[match.end() :]
    if not parts or list(parts) != list(range(1, count + 1)):
        return b""
    return b"".join(parts.values())


def _software_and_comment(image: ImageFile.ImageFile) -> tuple[Any, Any]:
    """The two texts that `metadata_options` wrote, None where one is missing. Decodes nothing."""
    if image.format == "PNG":  # asked for EXIF, Pillow would decode it
        return image.info.get("Software"), image.info.get("Comment")
    exif = image.getexif()
    software = exif.get(ExifTags.Base.Software)
    if image.format == "TIFF":
        return software, exif.get(ExifTags.Base.ImageDescription)
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    if not comment and isinstance(image, JpegImagePlugin.JpegImageFile):
        return software, _joined_comments(image)
    return software, comment[len(_ASCII) :]


def _parsed(text: str | bytes) -> dict[str, Any]:
    """The dictionary in a JSON text. Raises `ValueError`, `TypeError` or `RecursionError` for any
    other text, and for one that is too long or nested too deeply."""
    if len(text) > MAX_BYTES:
        raise ValueError("too long")
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise ValueError("not a dictionary")
    values: list[Any] = [parsed]
    for _ in range(MAX_LEVELS):
        values = [
            inner
            for outer in values
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if values:
        raise ValueError("too deep")
    return parsed
