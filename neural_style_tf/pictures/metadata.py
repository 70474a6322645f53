"""Metadata: what a painted picture says about how it was painted."""

import json
import re
import struct
from typing import Any

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, PngImagePlugin

from neural_style_tf.errors import UserError
from neural_style_tf.machine import streams
from neural_style_tf.pictures import opening, photo_metadata
from neural_style_tf.pictures.files import StrPath
from neural_style_tf.pictures.photo_metadata import PhotoMetadata
from neural_style_tf.version import VERSION

SOFTWARE = f"{photo_metadata.PROGRAM}{VERSION}"
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
    if not isinstance(software, str) or not software.startswith(photo_metadata.PROGRAM) or not text:
        return {}
    try:
        return _parsed(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"the metadata of {path} is damaged: paint the picture again, or use another one"
        ) from error


def metadata_options(
    path: StrPath,
    name: str,
    text: str | None,
    photo: PhotoMetadata | None = None,
    size: tuple[int, int] = (1, 1),
) -> dict[str, Any]:
    """The arguments that have the encoder of a format write metadata where others look for it.

    text: JSON, which escapes everything beyond ASCII: no reader garbles it, not even a file name
    that is not valid Unicode. One over `MAX_BYTES` is left out, and a warning is logged. photo:
    what is passed on of the photo. size: of the picture, height and width.
    """
    if text is not None and len(text) > MAX_BYTES:
        streams.LOGGER.warning(
            "%s is saved without its settings, which are %.1f MB long: at most %.1f MB are read "
            "again, so that it cannot be painted again by --settings-from",
            *(path, len(text) / 1e6, MAX_BYTES / 1e6),
        )
        text = None
    photo = photo or photo_metadata.NONE
    exif = photo.exif(*size)
    options: dict[str, Any] = {"dpi": photo.dpi} if photo.dpi and name in ("PNG", "JPEG") else {}
    if name == "PNG":
        return options | _png_options(exif, text, photo)
    if text is not None:
        exif[ExifTags.Base.Software] = SOFTWARE
    if name == "TIFF":
        return {"tags": _tiff_tags(exif, text, photo)}
    if name == "JPEG":
        return options | _jpeg_options(path, exif, text, photo)
    if text is not None:
        _add_comment(exif, text)
    options |= {"xmp": photo.xmp} if photo.xmp else {}
    return options | ({"exif": exif} if len(exif) else {})


def _png_options(exif: Image.Exif, text: str | None, photo: PhotoMetadata) -> dict[str, Any]:
    chunks = PngImagePlugin.PngInfo()
    if text is not None:
        chunks.add_text("Software", SOFTWARE)
        chunks.add_text("Comment", text)
    if photo.xmp:
        chunks.add_itxt(photo_metadata.XMP_TEXT, photo.xmp.decode())
    return {"pnginfo": chunks, **({"exif": exif} if len(exif) else {})}


def _tiff_tags(exif: Image.Exif, text: str | None, photo: PhotoMetadata) -> dict[int, Any]:
    """A TIFF has the tags of EXIF in its own directory. Our text takes the place of a description
    that the photo has."""
    tags = {tag: exif[tag] for tag in exif if tag not in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
    if text is not None:
        tags[ExifTags.Base.ImageDescription] = text
    if photo.xmp:
        tags[photo_metadata.XMP_TAG] = photo.xmp
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if part in exif:
            tags[part] = exif[part]
    return tags


def _jpeg_options(
    path: StrPath, exif: Image.Exif, text: str | None, photo: PhotoMetadata
) -> dict[str, Any]:
    """EXIF and XMP have one segment each. What does not fit is left out, and a warning logged; our
    text is written as comments then."""
    if not _fits(exif):
        _warn(path, "EXIF", len(exif.tobytes()))
        exif = Image.Exif()
        if text is not None:
            exif[ExifTags.Base.Software] = SOFTWARE
    segments = b""
    if photo.xmp and len(photo.xmp) > _MAX_SEGMENT_TEXT:
        _warn(path, "XMP", len(photo.xmp))
    elif photo.xmp:
        segments += _segment(0xFFE1, photo_metadata.XMP_HEAD + photo.xmp)
    if text is not None:
        with_comment = Image.Exif()
        with_comment.update(exif)
        _add_comment(with_comment, text)
        if _fits(with_comment):
            exif = with_comment
        else:
            segments += _comment_segments(text.encode("ascii"))
    return ({"exif": exif} if len(exif) else {}) | ({"extra": segments} if segments else {})


def _add_comment(exif: Image.Exif, text: str) -> None:
    part = exif.get(ExifTags.IFD.Exif) or {}
    exif[ExifTags.IFD.Exif] = {
        **part,
        ExifTags.Base.UserComment: _ASCII + text.encode("ascii"),
    }


def _fits(exif: Image.Exif) -> bool:
    return len(exif.tobytes()) <= _MAX_EXIF


def _warn(path: StrPath, what: str, size: int) -> None:
    streams.warn_once(
        f"{path} is saved without the {what} of the photo, which has {size / 1000:.0f} kB: "
        "a JPEG holds 64 kB"
    )


_ASCII = b"ASCII\0\0\0"  # EXIF 2.32, UserComment: the 8 bytes that name its character code
# A segment of a JPEG holds 64 KiB, and EXIF has one segment. Longer text is written as comments
# (COM): each begins with its number and the number of them all.
_MAX_SEGMENT_TEXT = 64_800
_MAX_EXIF = 65_533
_COMMENT = re.compile(rb"neural-style (\d+)/(\d+) ")


def _comment_segments(text: bytes) -> bytes:
    """The segments of a JPEG file that hold the text as comments."""
    parts = [
        text[start : start + _MAX_SEGMENT_TEXT] for start in range(0, len(text), _MAX_SEGMENT_TEXT)
    ]
    contents = (b"neural-style %d/%d " % (i, len(parts)) + part for i, part in enumerate(parts, 1))
    return b"".join(_segment(0xFFFE, content) for content in contents)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", marker, 2 + len(content)) + content


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
