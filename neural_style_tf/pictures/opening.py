"""Opening: a picture file -> its header, checked, with every way of being broken a `UserError`."""

import contextlib
import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import ExifTags, Image, ImageFile

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files, formats
from neural_style_tf.pictures.files import StrPath

# What Pillow's decoders raise for a broken file: SyntaxError for a bad chunk, the others wherever a
# number in the file misleads them.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
# Progressive JPEGs have about ten scans. Each takes as long to decode as a picture, but may be
# a few bytes long.
_MAX_SCANS = 30
_HEADER_BYTES = 1 << 16  # of a JPEG: in most, the pixels begin within them
_MAX_EXIF_SEGMENTS = 64  # of 64 KiB; the standard has one
# Pillow's limits are global: two threads would restore each other's. Reentrant, since `size_of` may
# read another picture.
pillow_lock = threading.RLock()


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Switches off Pillow's warnings, log and size limit; ours is checked from the header."""
    logger = logging.getLogger("PIL")
    with pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, level = Image.MAX_IMAGE_PIXELS, logger.level
        Image.MAX_IMAGE_PIXELS = None
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            logger.setLevel(level)


@contextlib.contextmanager
def open_image(path: StrPath, decodes: bool = False) -> Iterator[ImageFile.ImageFile]:
    """Opens a picture and reads its header. Raises `UserError` for a file that is not a picture.

    decodes: whether the pixels will be read too, so that all scans of a JPEG are counted.

    It uses Pillow directly, since imageio's plugin fails for broken EXIF and, before Pillow 13, for
    a BMP with a palette, and its `rotate` mirrors the channels of pictures that had a palette.
    """
    with files.open_to_read(path) as file, _enough_memory(path):
        try:
            beginning = file.read(formats.BEGINNING_BYTES)
            file.seek(0)
            beginnings = formats.BEGINNINGS.items()
            name = next(name for name, known in beginnings if known.match(beginning))
            scans = _scans(path, file, decodes) if name == "JPEG" else 0
            image = formats.READERS[name](file)
            image.info["scans"] = scans
            is_raw = name == "TIFF" and _is_raw(image, beginning)
        except (StopIteration, *BROKEN) as error:
            raise UserError(f"{path} {_why_unreadable(error)}") from error
        with image:
            if is_raw:
                raise UserError(
                    f"{path} is a camera's raw file: develop it, and save it as TIFF, PNG or JPEG"
                )
            yield image


_DNG_VERSION = 50_706


def _is_raw(image: ImageFile.ImageFile, beginning: bytes) -> bool:
    """Whether a TIFF is a camera's raw file: its first picture is a small preview then."""
    tags = getattr(image, "tag_v2", {})
    is_preview = tags.get(ExifTags.Base.NewSubfileType, 0) == 1
    sensor = ExifTags.Base.SubIFDs in tags and ExifTags.Base.Make in tags
    is_canon = beginning[8:10] == b"CR"
    return _DNG_VERSION in tags or is_canon or (is_preview and sensor)


def _why_unreadable(error: Exception) -> str:
    if str(error) == "unknown pixel mode":  # as Pillow says of a TIFF
        return (
            "is a TIFF of a kind that is not read, such as 32 bits per colour or a camera's raw "
            "file: save it with 8 or 16 bits"
        )
    return (
        "is not a picture, or a broken one: "
        "use a JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC file"
    )


@contextlib.contextmanager
def _enough_memory(path: StrPath) -> Iterator[None]:
    """Raises `UserError` in place of `MemoryError`."""
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"{path} takes more memory than is free: shrink it, or close other programs"
        ) from error


@contextlib.contextmanager
def reporting_broken(path: StrPath) -> Iterator[None]:
    """Raises `UserError` in place of what Pillow raises for a broken file."""
    try:
        yield
    except BROKEN as error:
        raise UserError(
            f"{path} is broken or cut short ({files.reason(error)}): get a fresh copy"
        ) from error


# The marker of a segment of a JPEG. ITU T.81, table B.1: others have no content.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG file: the marker of each, and where its content begins and ends."""
    position = 2
    while (match := _MARKER.search(data, position)) and match[1][0] != _END_OF_IMAGE:
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        position = match.end() + max(2, length)
        yield match[1][0], match.end() + 2, position


def _scans(path: StrPath, file: BinaryIO, all_of_them: bool) -> int:
    """How many scans a JPEG file has; only whether it has one unless `all_of_them` are counted.
    Raises `UserError` for a file that is small but takes minutes to read."""
    length = -1 if all_of_them else _HEADER_BYTES
    while True:
        data = file.read(length)
        file.seek(0)
        scans = _count_segments(path, data)
        if scans or len(data) != length:
            return scans
        length *= 4  # a header that is longer


def _count_segments(path: StrPath, data: bytes) -> int:
    """The number of scans in the data of a JPEG file. Raises `UserError` for too many segments."""
    scans = exif = 0
    for marker, start, _ in jpeg_segments(data):
        scans += marker == _START_OF_SCAN
        exif += marker == _APP1 and data.startswith(b"Exif", start)
        if scans > _MAX_SCANS or exif > _MAX_EXIF_SEGMENTS:
            raise UserError(
                f"{path} has more than {_MAX_SCANS} scans or {_MAX_EXIF_SEGMENTS} segments of "
                "EXIF: save it again as JPEG or PNG"
            )
    return scans
