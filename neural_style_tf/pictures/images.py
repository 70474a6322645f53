"""Images: file <-> array [H, W, 3] float32 RGB 0..255, resize, colour transfer. Prints nothing."""

import contextlib
import functools
import io
import itertools
import json
import logging
import math
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import imageio.v3 as iio
import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from neural_style_tf.errors import SettingName, UsageError, UserError, nearest
from neural_style_tf.machine import hardware, streams
from neural_style_tf.pictures import files
from neural_style_tf.pictures.files import StrPath
from neural_style_tf.settings import MAX_MEGAPIXELS, SMALLEST_SIDE, Settings
from neural_style_tf.version import VERSION

if TYPE_CHECKING:
    import scipy.sparse

SOFTWARE = f"neural-style {VERSION}"

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
MOST_ENLARGED = 2  # times, of a painting, unless asked for: what is enlarged has no fine strokes
ALWAYS_AS_WIDE = 512  # pixels; up to here a painting is made as wide as the result, however small
READABLE_ENDINGS = (*FORMATS, ".gif")  # of the files that a folder is searched for
# JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h, WEBP_MAX_DIMENSION of libwebp's encode.h
LONGEST_SIDES = {"JPEG": 65_500, "WebP": 16_383}


MOST_PIXELS_A_SIDE = 500_000  # of an input picture
MOST_METADATA_BYTES = 1_000_000  # of JSON text: the inputs of a run with ten thousand paintings
MOST_METADATA_LEVELS = 20  # of dictionaries and lists in each other; ours have four

# Height and width that are wanted, from those of the file.
SizeOf = Callable[[int, int], tuple[int, int]]


class Picture(NamedTuple):
    pixels: np.ndarray  # [H, W, 3] float32 RGB, 0..255
    alpha: np.ndarray | None  # [H, W] float32, 0..1; None where all is opaque


def read(
    path: StrPath, max_megapixels: float = MAX_MEGAPIXELS, size_of: SizeOf | None = None
) -> Picture:
    """The picture in a file, upright, in sRGB, over white where it is transparent.

    Reads JPEG, PNG, WebP, TIFF, BMP and GIF (the first frame), in every mode that Pillow knows.
    A broken colour profile is ignored. With `size_of`, the picture is brought to the size that it
    returns: the same to the bit as by `resize`, but to 0.01 levels where the file has more than 40
    megapixels. Of these only a band of rows at a time is held in float32.

    Raises `UserError` for a file that cannot be read, and, from its header alone, for one of more
    than `max_megapixels` or one that takes more memory than is free or than a file of its length
    may; `UsageError` for a limit that is not a finite number above 0; and what `size_of` raises.
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
    with _quiet_pillow(), _open_image(path) as image:
        return _upright_size(image)


def read_mask(
    path: StrPath, max_megapixels: float = MAX_MEGAPIXELS, size_of: SizeOf | None = None
) -> np.ndarray:
    """The mask in a file: [H, W] float32, 1 where it is white, 0 where black or transparent.

    Is brought to another size, and raises errors, as `read` does.
    """
    return _read(path, max_megapixels, size_of, _whiteness, 1)[..., 0]


def to_bytes(samples: np.ndarray) -> np.ndarray:
    """The samples rounded to 8 bits; beyond 0..255 they are clipped."""
    found = np.empty(samples.shape, np.uint8)
    for rows, made in zip(samples, found, strict=True):  # pictures may be large
        made[:] = np.clip(np.rint(rows), 0, 255)
    return found


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture or alpha at another size: Lanczos, antialiased where it shrinks.

    pixels: [H, W, 3] float32, 0..255, or [H, W] float32, 0..1. The result keeps to that range,
    which Lanczos would leave beside hard edges. Equal size returns `pixels` itself.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.ndim == 2:
        return np.clip(_resize_channel(pixels, height, width), 0, 1)
    channels = [_resize_channel(pixels[..., i], height, width) for i in range(pixels.shape[-1])]
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def bled(pixels: np.ndarray, bleed: int) -> np.ndarray:
    """The picture or mask with so many pixels more beyond each edge, mirrored."""
    if not bleed:
        return pixels
    return np.pad(pixels, [(bleed, bleed)] * 2 + [(0, 0)] * (pixels.ndim - 2), "symmetric")


def target_size(height: int, width: int, settings: Settings) -> tuple[int, int]:
    """Height and width of the result for a content of `height` by `width`.

    Raises `UsageError` if a side would be under `SMALLEST_SIDE`.
    """
    if settings.width is not None and settings.height is not None:
        return settings.height, settings.width
    if settings.width is not None:
        name, value, side = "width", settings.width, width
    elif settings.height is not None:
        name, value, side = "height", settings.height, height
    else:
        name, value, side = "size", settings.size, max(height, width)
    wanted = side if value is None else value
    result = max(1, _divide(height * wanted, side)), max(1, _divide(width * wanted, side))
    if min(result) < SMALLEST_SIDE:
        # The first whole value for which the short side rounds up to SMALLEST_SIDE.
        smallest = -(-(2 * SMALLEST_SIDE - 1) * side // (2 * min(height, width)))
        smallest = max(smallest, SMALLEST_SIDE)
        cause = ["the content"] if value is None else [SettingName(name), f" {value}"]
        advice = [": use ", SettingName(name), f" {smallest} or more"]
        raise UsageError(*cause, _too_small(*result), *advice)
    return result


def style_size(
    style_height: int, style_width: int, content_width: int, scale: float | None = None
) -> tuple[int, int]:
    """Height and width of a style that is `scale` times as wide as the content; without a scale as
    wide, but above `ALWAYS_AS_WIDE` no more than `MOST_ENLARGED` times as wide as it is.

    Raises `UsageError` if a side would be under `SMALLEST_SIDE`.
    """
    if scale is None:
        widest = max(MOST_ENLARGED * style_width, ALWAYS_AS_WIDE)
        scale = min(1.0, widest / content_width)
    scaled_width = scale * content_width
    scaled_height = scaled_width * style_height / style_width
    result = max(1, _round(scaled_height)), max(1, _round(scaled_width))
    if min(result) < SMALLEST_SIDE:
        short_per_scale = min(1, style_height / style_width) * content_width
        smallest = _round_up((SMALLEST_SIDE - 0.5) / short_per_scale)
        scales = SettingName("style_scales")
        advice = [": use ", scales, f" {smallest:g} or more"]
        raise UsageError(scales, f" {scale:g}", _too_small(*result), *advice)
    return result


def check_output(path: StrPath, overwrite: bool = False, make_folder: bool = False) -> None:
    """Raises `UserError` if `save` could not write to `path`; meant for before the run.

    make_folder: its folder need not be there, only the one above.
    """
    if not os.path.isdir(path):
        _format_of(path)
    files.check_writable(path, overwrite, make_folder)


def check_ending(path: StrPath) -> None:
    """Raises `UsageError` unless the ending of `path` names a format that `save` writes."""
    _format_of(path)


def check_output_size(path: StrPath, height: int, width: int) -> None:
    """Raises `UsageError` if the format of `path` cannot hold a picture of this size."""
    name = _format_of(path)
    longest = LONGEST_SIDES.get(name)
    if longest is not None and max(height, width) > longest:
        raise UsageError(
            f"{path} would be {width} wide and {height} high, but {name} holds at most {longest} "
            "a side: end the name in .png, or make the picture smaller"
        )


def save(
    path: StrPath,
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes a picture, whole or not at all, in the format that the ending of `path` names.

    pixels: [H, W, 3] float RGB, 0..255, over white where alpha is under 1; rounded to 8 bits.
    alpha: [H, W] float, 0..1; JPEG and BMP do without. metadata: what JSON can hold; BMP does
    without. One input is one sequence of bytes. Raises `UsageError` for an unknown ending and
    `UserError` if the file cannot be written: then an old file is still what it was.
    """
    name = _format_of(path)
    if alpha is None or name in ("JPEG", "BMP"):
        samples = to_bytes(pixels)
    else:
        pixels = _off_white(pixels, alpha)
        samples = np.dstack([to_bytes(pixels), to_bytes(alpha * 255)])  # [H, W, 4]
    data = _encode(path, samples, _encoder_options(path, name, metadata))
    files.write(path, data)


def metadata(path: StrPath) -> dict[str, Any]:
    """The metadata that `save` put into a file; {} for a file from elsewhere.

    What is found is a dictionary of JSON values, at most `MOST_METADATA_BYTES` long as text and
    `MOST_METADATA_LEVELS` deep. Raises `UserError` for a file that is not a picture, and for one
    whose metadata is ours but damaged.
    """
    with _quiet_pillow(), _open_image(path) as image:
        try:
            software, text = _software_and_comment(image)
        except (*_BROKEN, MemoryError):  # whatever another program has put there
            return {}
    if not isinstance(software, str) or not software.startswith("neural-style ") or not text:
        return {}
    try:
        return _parsed(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"the metadata of {path} is damaged: paint the picture again, or use another one"
        ) from error


# Reading: what is taken, and how much of it

# The classes of Pillow that read each format, and how its files begin. They are called directly:
# `Image.open` would also try others, some of which run programs (EPS), and MPO for a JPEG.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
_BEGINNINGS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "TIFF": re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"),  # with 32 or 64 bits
    "BMP": re.compile(rb"BM"),
    "GIF": re.compile(rb"GIF8[79]a"),
}

# What Pillow's decoders raise for a file that is broken: SyntaxError for a bad chunk, the others
# wherever a number in the file leads them astray.
_BROKEN = (
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

# What decoding a file may take: 5 bytes for each pixel of the limit, 1 GB at least, or a thousand
# times the length of the file. Honest photos unpack to less than a hundred times their length.
_BYTES_PER_PIXEL_OF_LIMIT = 5
_ALWAYS_DECODED_BYTES = 1_000_000_000
_MOST_UNPACKED = 1000
# Progressive JPEGs have ten scans or so; each costs the time of a picture, and only a few bytes.
_MOST_SCANS = 30
_HEADER_BYTES = 1 << 16  # of a JPEG, in which its pixels mostly begin
_MOST_EXIF_SEGMENTS = 64  # of 64 KiB; the standard has one
_MOST_RUN_LENGTH_PIXELS = (
    30_000_000  # in a BMP; Pillow decodes these in Python, at 10 a microsecond
)
_MOST_RESIZED_BY_PILLOW = 40_000_000  # pixels
_BAND_PIXELS = 1 << 20  # held in float32 at a time
_BAND_BYTES = 64 * _BAND_PIXELS  # with all copies

# Pillow's limits are global: two threads at once would restore each other's. The same thread may
# come again, from `size_of`.
_pillow_lock = threading.RLock()


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow without its own size limit (ours is checked from the header), warnings and log."""
    logger = logging.getLogger("PIL")
    with _pillow_lock, warnings.catch_warnings():
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
def _open_image(path: StrPath, decodes: bool = False) -> Iterator[ImageFile.ImageFile]:
    """The header of a picture, or a `UserError`.

    Pillow itself, since imageio's plugin for it fails where a picture has broken EXIF, and, before
    Pillow 13, for a BMP with a palette; its `rotate` mirrors the channels of what had a palette.
    """
    with files.open_to_read(path) as file, _enough_memory(path):
        try:
            beginning = file.read(16)
            file.seek(0)
            name = next(name for name, known in _BEGINNINGS.items() if known.match(beginning))
            scans = _scans(path, file, decodes) if name == "JPEG" else 0
            image = _READERS[name](file)
            image.info["scans"] = scans
        except (StopIteration, *_BROKEN) as error:
            raise UserError(
                f"{path} is not a picture, or a broken one: "
                "use a JPEG, PNG, WebP, TIFF, BMP or GIF file"
            ) from error
        with image:
            yield image


@contextlib.contextmanager
def _enough_memory(path: StrPath) -> Iterator[None]:
    """A `UserError` where the memory is not enough."""
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"{path} takes more memory than is free: shrink it, or close other programs"
        ) from error


@contextlib.contextmanager
def _broken(path: StrPath) -> Iterator[None]:
    """A `UserError` where Pillow stumbles over what a file says."""
    try:
        yield
    except _BROKEN as error:
        raise UserError(
            f"{path} is broken or cut short ({files.reason(error)}): get a fresh copy"
        ) from error


# The marker of a segment of a JPEG. ITU T.81, table B.1: others have no content.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG file: marker, and where its content begins and ends."""
    position = 2
    while (match := _MARKER.search(data, position)) and match[1][0] != _END_OF_IMAGE:
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        position = match.end() + max(2, length)
        yield match[1][0], match.end() + 2, position


def _scans(path: StrPath, file: BinaryIO, all_of_them: bool) -> int:
    """How many scans a JPEG file has, of which only the first is looked for unless `all_of_them`
    are wanted. Raises `UserError` for one that takes minutes to read though it is small."""
    length = -1 if all_of_them else _HEADER_BYTES
    while True:
        data = file.read(length)
        file.seek(0)
        scans = _count_segments(path, data)
        if scans or len(data) != length:
            return scans
        length *= 4  # a header that is longer


def _count_segments(path: StrPath, data: bytes) -> int:
    """The scans that begin in the data of a JPEG file. Raises `UserError` for too many segments."""
    scans = exif = 0
    for marker, start, _ in _segments(data):
        scans += marker == _START_OF_SCAN
        exif += marker == _APP1 and data.startswith(b"Exif", start)
        if scans > _MOST_SCANS or exif > _MOST_EXIF_SEGMENTS:
            raise UserError(
                f"{path} has more than {_MOST_SCANS} scans or {_MOST_EXIF_SEGMENTS} segments of "
                "EXIF: save it again as JPEG or PNG"
            )
    return scans


def _check_limit(max_megapixels: float) -> None:
    """Raises `UsageError` for a limit that would never be reached, or always."""
    if not (math.isfinite(max_megapixels) and max_megapixels > 0):
        raise UsageError(
            f"--max-megapixels is {max_megapixels:g}, which is not a finite number above 0: "
            "set it to the megapixels of your largest picture"
        )


def _check_megapixels(path: StrPath, image: Image.Image, max_megapixels: float) -> None:
    """Raises `UserError` if the header tells of more than can be read; decodes nothing."""
    if max(image.size) > MOST_PIXELS_A_SIDE:
        raise UserError(
            f"{path} is {image.width} pixels wide and {image.height} high, but a side may have "
            f"{MOST_PIXELS_A_SIDE}: crop it"
        )
    megapixels = image.height * image.width / 1e6
    if megapixels > max_megapixels:
        raise UserError(
            f"{path} has {megapixels:.1f} megapixels, more than {max_megapixels:g}: "
            "shrink it, or raise --max-megapixels"
        )
    if image.height * image.width > _MOST_RUN_LENGTH_PIXELS and _is_run_length_bmp(image):
        raise UserError(
            f"{path} is a BMP of {megapixels:.1f} megapixels with run-length encoding, which takes "
            "minutes to read: save it as PNG"
        )


def _check_memory(
    path: StrPath,
    image: ImageFile.ImageFile,
    source: tuple[int, int],
    target: tuple[int, int],
    max_megapixels: float,
) -> None:
    """Raises `UserError` if decoding takes more than is free, or than a file of its length may."""
    with _broken(path):
        decoding, length = _decoding_bytes(image), os.stat(path).st_size
    always = max(_ALWAYS_DECODED_BYTES, _BYTES_PER_PIXEL_OF_LIMIT * 1e6 * max_megapixels)
    if decoding > max(always, _MOST_UNPACKED * length):
        raise UserError(
            f"{path} has only {length} bytes and takes {decoding / 1e9:.1f} GB of memory to "
            "decode: shrink it, or save it as PNG"
        )
    # `_at_size` holds the result and, unless that is by weights, the whole source in float32; and
    # copies of a channel of each.
    pixels = target[0] * target[1]
    if source[0] * source[1] <= _MOST_RESIZED_BY_PILLOW and source != target:
        pixels += source[0] * source[1]
    held = 4 * (_channels(image) + 2) * pixels
    needed, free = decoding + held + _BAND_BYTES, hardware.free_system_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{path} takes {needed / 1e9:.1f} GB of memory to read, and {free / 1e9:.1f} GB are "
            "free: shrink it, or close other programs"
        )


def _decoding_bytes(image: ImageFile.ImageFile) -> int:
    """An estimate of what Pillow holds while it decodes."""
    pixels = image.height * image.width
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    if image.format == "WEBP":  # two canvases, a copy, and what the lossless decoder holds
        return (stored + 16) * pixels
    if image.format == "BMP" and _is_run_length_bmp(image):
        return 3 * pixels
    if image.info["scans"] > 1:
        return (stored + 2 * image.layers) * pixels  # libjpeg holds all coefficients, 16 bits each
    if image.format == "TIFF":
        return 2 * stored * pixels + _part_bytes(image)  # turned upright, by Pillow
    return stored * pixels


def _is_run_length_bmp(image: Image.Image) -> bool:
    return image.format == "BMP" and image.info["compression"] in (1, 2)  # RLE8, RLE4


def _part_bytes(image: ImageFile.ImageFile) -> int:
    """Of a tile or a strip of a TIFF, which libtiff decodes at once."""
    tags = image.tag_v2
    bits = sum(tags.get(ExifTags.Base.BitsPerSample, (8,)))
    if ExifTags.Base.TileWidth in tags:
        pixels = tags[ExifTags.Base.TileWidth] * tags.get(ExifTags.Base.TileLength, 0)
    else:
        width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        pixels = width * min(height, tags.get(ExifTags.Base.RowsPerStrip, height))
    return pixels * bits // 8


def _channels(image: Image.Image) -> int:
    """How many `_bands` has, at most."""
    return 4 if image.mode in ("P", "RGBA", "RGBa", "PA") or "transparency" in image.info else 3


# Reading: decoding, and bands of what is decoded

# How a mode is decoded where its own samples would mean nothing to us. A palette may hold alpha.
_DECODED_AS = {
    "1": "L",
    "P": "RGBA",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "LAB": "RGB",
}
# The same where one colour of the file stands for "transparent".
_DECODED_WITH_KEY_AS = {"1": "LA", "L": "LA", "RGB": "RGBA"}

# EXIF 2.32, tag 0x0112: where row 0 and column 0 lie; each entry turns the picture upright.
_UPRIGHT = {
    1: lambda samples: samples,
    2: lambda samples: samples[:, ::-1],
    3: lambda samples: samples[::-1, ::-1],
    4: lambda samples: samples[::-1],
    5: lambda samples: samples.swapaxes(0, 1),
    6: lambda samples: samples.swapaxes(0, 1)[:, ::-1],
    7: lambda samples: samples.swapaxes(0, 1)[::-1, ::-1],
    8: lambda samples: samples.swapaxes(0, 1)[::-1],
}
_SIDEWAYS = (5, 6, 7, 8)  # what are rows upright, are columns in the file
_FROM_THE_END = (3, 4, 7, 8)  # and the first of them is the last in the file

# Colours [r, W, 1 or 3] and alpha [r, W, 1] -> the channels that are wanted of them.
_Join = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def _read(
    path: StrPath, max_megapixels: float, size_of: SizeOf | None, join: _Join, top: float
) -> np.ndarray:
    """What `join` makes of the picture in a file: [H, W, C] float32, 0..`top`."""
    _check_limit(max_megapixels)
    source = size(path)
    with _quiet_pillow(), _open_image(path, decodes=True) as image:
        _check_megapixels(path, image, max_megapixels)
        target = source if size_of is None else size_of(*source)
        _check_memory(path, image, source, target, max_megapixels)
        with (
            _broken(path),
            streams.silenced() if image.format == "TIFF" else contextlib.nullcontext(),
        ):
            image.load()
        return _at_size(_bands(path, image, source, join), source, target, top)


def _upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Height and width, from the header of a picture that is not decoded yet."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow 13 has turned its size already, but not for every tag
        width, height = (
            image.tag_v2[ExifTags.Base.ImageWidth],
            image.tag_v2[ExifTags.Base.ImageLength],
        )
    if image.format == "PNG" and "exif" not in image.info:
        with contextlib.suppress(*_BROKEN):
            _skip_pixels(image)
    return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def _skip_pixels(image: PngImagePlugin.PngImageFile) -> None:
    """Reads what stands behind the pixels, and decodes none; up to a second frame, as `load`."""
    image.fp.seek(-8, os.SEEK_CUR)  # to the first chunk of pixels
    while True:
        name, start, length = image.png.read()
        if name in (b"IEND", b"fcTL"):
            return
        if name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            image.png.call(name, start, length)
        image.fp.seek(start + length + 4)  # behind its checksum


def _orientation(image: ImageFile.ImageFile) -> int:
    """As EXIF says. Asked for after decoding, it is what remains to be done: Pillow turns a TIFF
    as it decodes it."""
    with contextlib.suppress(*_BROKEN):
        # Not the method of PNG, which decodes the picture to find EXIF behind it.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        return found if found in _UPRIGHT else 1
    return 1


def _bands(
    path: StrPath, image: ImageFile.ImageFile, size: tuple[int, int], join: _Join
) -> Iterator[np.ndarray]:
    """What `join` makes of the rows of a decoded picture, upright: [r, W, C] float32 each."""
    height, width = size
    orientation = _orientation(image)
    sideways = orientation in _SIDEWAYS
    if (image.width, image.height) != ((height, width) if sideways else (width, height)):
        raise UserError(f"{path} is broken, or was changed as it was read: get a fresh copy")
    with _broken(path):
        samples_of = _sampler(image)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first, last = top, bottom
        if orientation in _FROM_THE_END:
            first, last = height - bottom, height - top
        box = (first, 0, last, width) if sideways else (0, first, width, last)
        with _broken(path):
            colors, alpha = samples_of(image.crop(box))
        turn = _UPRIGHT[orientation]
        yield join(turn(colors), None if alpha is None else turn(alpha))
    image.close()  # what follows needs the memory


_Sampler = Callable[[Image.Image], tuple[np.ndarray, np.ndarray | None]]


def _sampler(image: Image.Image) -> _Sampler:
    """A function that takes a part of a picture to its colours, [r, w, 1 or 3] float32 sRGB,
    0..255, and alpha, [r, w, 1] float32, 0..1, or None."""
    profile, key = image.info.get("icc_profile"), image.info.get("transparency")
    mode = _DECODED_AS.get(image.mode, image.mode)
    if key is not None:
        mode = _DECODED_WITH_KEY_AS.get(image.mode, mode)
    if mode in ("RGB", "RGBA", "CMYK"):
        return _color_sampler(mode, profile)
    return _grey_sampler(mode, profile, _white(image), key)


def _color_sampler(mode: str, profile: bytes | None) -> _Sampler:
    inks = "CMYK" if mode == "CMYK" else "RGB"
    transform = _transform(inks, profile)

    def sample(part: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
        part, alpha = part.convert(mode), None
        if mode == "RGBA":
            alpha = np.asarray(part.getchannel("A"), np.float32)[..., np.newaxis] / 255
        part = part.convert(inks)
        part = part.convert("RGB") if transform is None else transform.apply(part)
        return np.asarray(part, dtype=np.float32), alpha

    return sample


def _grey_sampler(mode: str, profile: bytes | None, white: float, key: Any) -> _Sampler:
    curve = _grey_curve(profile)

    def sample(part: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
        samples, alpha = np.asarray(part if mode == part.mode else part.convert(mode)), None
        if mode == "LA":
            alpha, samples = samples[..., 1:].astype(np.float32) / 255, samples[..., 0]
        elif key is not None:
            alpha = (samples != key).astype(np.float32)[..., np.newaxis]
        grey = _levels(samples, white)
        if curve is not None:
            grey = np.interp(grey, np.arange(256), curve).astype(np.float32)
        return grey[..., np.newaxis], alpha

    return sample


def _white(image: Image.Image) -> int:
    """The sample that is white, in a grey picture."""
    if image.mode not in ("F", "I"):
        return 65_535 if image.mode.startswith("I;16") else 255
    rows = max(1, _BAND_PIXELS // image.width)
    darkest, lightest = math.inf, -math.inf
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(image.height, top + rows)))
        samples = np.nan_to_num(np.asarray(part))
        darkest, lightest = min(darkest, samples.min()), max(lightest, samples.max())
    if image.mode == "I":
        return 65_535 if darkest >= 0 and lightest <= 65_535 else 2**32 - 1
    # A file does not say which white its fractions have: 1, 255 or 65,535.
    return next((white for white in (1, 255) if lightest <= white), 65_535)


def _levels(samples: np.ndarray, white: int) -> np.ndarray:
    """Grey samples of any type as float32, 0..255. 16 bits keep their fractions."""
    if samples.dtype == np.uint8:
        return samples.astype(np.float32)
    if samples.dtype == np.float32:
        samples = np.nan_to_num(samples)
    elif white > 65_535:
        samples = samples.view(np.uint32)  # Pillow gives them a sign
    return np.clip(samples * (255 / white), 0, 255).astype(np.float32)


def _grey_curve(profile: bytes | None) -> np.ndarray | None:
    """The sRGB level of each of 256 grey levels; a curve keeps the fractions of 16 bits."""
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    transform = _transform("L", profile)
    if transform is None:  # a grey picture may carry the profile of its coloured siblings
        ramp, transform = ramp.convert("RGB"), _transform("RGB", profile)
    if transform is None:
        return None
    return np.asarray(transform.apply(ramp), dtype=np.float32)[0, :, 1]


def _transform(mode: str, profile: bytes | None) -> Any:
    """Takes a picture of `mode` to sRGB; None if there is no profile, a broken one or one for other
    channels."""
    if not profile or (mode == "RGB" and profile == _srgb_profile()):
        return None
    from PIL import ImageCms  # late: a picture without a profile needs no colour management

    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":
        # The shortcut of Little CMS is 9 levels off in the dark of a linear grey profile; one row
        # of grey can do without. For colours it is right, and four times as fast.
        flags |= ImageCms.Flags.NOOPTIMIZE
    try:
        return ImageCms.buildTransform(
            ImageCms.getOpenProfile(io.BytesIO(_without_programs(profile))),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=flags,
        )
    except ImageCms.PyCMSError:
        return None


def _without_programs(profile: bytes) -> bytes:
    """The profile without its multi-process elements (ICC.1:2022, 9.2.16 to 9.2.23, D2B0 to B2D3).

    These are chains of any length, and all of a chain is worked out for every colour: a megabyte
    of it takes minutes. They are an alternative: by the standard every profile has tables or a
    matrix as well, of five steps at most, whose time does not depend on what the file says.
    """
    if len(profile) < 132:
        return profile
    found = bytearray(profile)
    count = int.from_bytes(profile[128:132], "big")
    for position in range(132, min(len(profile), 132 + 12 * count), 12):
        if re.match(rb"D2B\d|B2D\d", profile[position : position + 4]):
            found[position : position + 4] = b"none"
    return bytes(found)


@functools.cache
def _srgb_profile() -> bytes:
    """The ICC profile of what we write."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2022, 7.2: bytes 24 to 35 are the moment of making. It is fixed, so that one picture
    # is one file: the first of January 2000.
    profile[24:36] = b"".join(number.to_bytes(2, "big") for number in (2000, 1, 1, 0, 0, 0))
    return bytes(profile)


def _over_white(colors: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Colours over white, and alpha as a last channel where there is one."""
    if alpha is None:
        return colors
    return np.concatenate([colors * alpha + 255 * (1 - alpha), alpha], axis=-1)


def _whiteness(colors: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """[r, W, 1] float32: 1 where a picture is white, 0 where it is black or transparent."""
    if alpha is not None:
        colors = _over_white(colors, alpha)[..., :-1]
    red, green, blue = (colors[..., i % colors.shape[-1]] for i in range(3))
    white = ((red + green + blue) / 3 / 255)[..., np.newaxis]
    if alpha is not None:
        white -= 1 - alpha
    return np.clip(white, 0, 1).astype(np.float32)


def _at_size(
    bands: Iterator[np.ndarray], source: tuple[int, int], target: tuple[int, int], top: float
) -> np.ndarray:
    """The picture that the bands make up, [H, W, C] float32, 0..`top`, at another size, as `resize`
    makes it of the whole. Its alpha, the last of two or four channels, is left out where all of it
    is 1."""
    opaque = True

    def looked_through() -> Iterator[np.ndarray]:
        nonlocal opaque
        for band in bands:
            opaque = opaque and band.shape[-1] in (2, 4) and band[..., -1].min() == 1
            yield band

    if source == target:
        found = _whole(looked_through(), source)
    else:
        is_large = source[0] * source[1] > _MOST_RESIZED_BY_PILLOW
        resized = _by_weights if is_large else _by_pillow
        found = resized(looked_through(), source, target)
        # Lanczos leaves the range beside hard edges.
        np.clip(found, 0, top, out=found)
        if found.shape[-1] in (2, 4):
            np.clip(found[..., -1], 0, 1, out=found[..., -1])
    return found[..., :-1] if opaque else found


def _whole(bands: Iterator[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    first = next(bands)
    found = np.empty((*size, first.shape[-1]), np.float32)
    top = 0
    for band in itertools.chain([first], bands):
        found[top : top + len(band)] = band
        top += len(band)
    return found


def _by_pillow(
    bands: Iterator[np.ndarray], source: tuple[int, int], target: tuple[int, int]
) -> np.ndarray:
    """The same to the bit: Pillow sees a whole channel at a time."""
    whole = _whole(bands, source)
    found = np.empty((*target, whole.shape[-1]), np.float32)
    for channel in range(whole.shape[-1]):
        found[..., channel] = _resize_channel(whole[..., channel], *target)
    return found


def _by_weights(
    bands: Iterator[np.ndarray], source: tuple[int, int], target: tuple[int, int]
) -> np.ndarray:
    """To rounding, in a tenth of the time, and holding no more than the result and a band."""
    across, down = _lanczos_weights(source[1], target[1]), _lanczos_weights(source[0], target[0])
    found, top = None, 0
    for band in bands:
        height, width, channels = band.shape
        if found is None:
            found = np.zeros((target[0], target[1] * channels), np.float32)
        columns = across @ band.transpose(1, 0, 2).reshape(width, height * channels)
        rows = columns.reshape(target[1], height, channels).transpose(1, 0, 2)  # [r, w, C]
        part = down[:, top : top + height]
        reached = np.flatnonzero(np.diff(part.tocsr().indptr))
        reached = slice(reached[0], reached[-1] + 1) if len(reached) else slice(0)
        found[reached] += part[reached] @ rows.reshape(height, -1)
        top += height
    return found.reshape(*target, -1)


def _lanczos_weights(length: int, new_length: int) -> "scipy.sparse.csc_array":
    """What each of `length` samples adds to each of `new_length`: Lanczos with three lobes,
    stretched where it shrinks, as in precompute_coeffs of Pillow's Resample.c."""
    import scipy.sparse  # late: few pictures are as large

    scale = length / new_length
    stretch = max(scale, 1)
    centers = (np.arange(new_length) + 0.5) * scale
    first = np.maximum(centers - 3 * stretch + 0.5, 0).astype(int)
    last = np.minimum(centers + 3 * stretch + 0.5, length).astype(int)
    samples = first[:, np.newaxis] + np.arange((last - first).max())
    inside = samples < last[:, np.newaxis]
    distances = (samples - centers[:, np.newaxis] + 0.5) / stretch
    weights = np.sinc(distances) * np.sinc(distances / 3) * (np.abs(distances) < 3) * inside
    weights /= weights.sum(-1, keepdims=True)
    rows = np.broadcast_to(np.arange(new_length)[:, np.newaxis], samples.shape)
    places = rows[inside], samples[inside]
    shape = new_length, length
    return scipy.sparse.csc_array((weights[inside].astype(np.float32), places), shape)


# Sizes and colours


def _resize_channel(channel: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(channel, dtype=np.float32))  # mode F
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def _divide(dividend: int, divisor: int) -> int:
    """The nearest whole quotient, halves up; exact."""
    return (2 * dividend + divisor) // (2 * divisor)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _round_up(value: float) -> float:
    """The next number with three digits: short to type, and still enough."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


def _too_small(height: int, width: int) -> str:
    return (
        f" makes a picture {width} wide and {height} high, but a side needs {SMALLEST_SIDE} pixels"
    )


# Writing


def _format_of(path: StrPath) -> str:
    """The format that the ending of `path` names, or a `UsageError` with the known endings."""
    suffix = Path(path).suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    *others, last = FORMATS
    known = f"end it in {', '.join(others)} or {last}"
    if not suffix:
        raise UsageError(f"{path} has no ending that names a format: {known}")
    raise UsageError(f"{path} has an unknown ending{nearest(suffix, list(FORMATS))}: {known}")


def _off_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The inverse of `_over_white`, so that edges do not pale each time a picture is saved."""
    alpha = alpha[..., np.newaxis]
    return np.where(alpha > 0, (pixels - 255 * (1 - alpha)) / np.where(alpha > 0, alpha, 1), pixels)


def _encode(path: StrPath, samples: np.ndarray, options: dict[str, Any]) -> bytes:
    """The file of a picture [H, W, 3 or 4] uint8, in the format that the ending of `path` names."""
    extension = Path(path).suffix.lower()
    with _pillow_lock:
        block = ImageFile.MAXBLOCK
        if options.get("optimize"):
            # libjpeg optimizes what fits one block, and Pillow's guess is too small for noise:
            # "broken data stream". A coefficient takes 27 bits at most, less than 4 bytes a sample.
            ImageFile.MAXBLOCK = max(block, 4 * samples.nbytes)
        try:
            return iio.imwrite(
                "<bytes>", samples, plugin="pillow", extension=extension, is_batch=False, **options
            )
        finally:
            ImageFile.MAXBLOCK = block


def _encoder_options(path: StrPath, name: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """What is passed to Pillow's encoder of the format. 95 is the best quality that libjpeg's
    authors advise; 4:4:4 (subsampling 0) keeps the edges of saturated paint."""
    if name == "BMP":
        return {}
    options: dict[str, Any] = {"icc_profile": _srgb_profile()}
    if name == "JPEG":
        options |= {"quality": 95, "subsampling": 0, "optimize": True}
    elif name == "WebP":
        options |= {"quality": 95, "method": 4}
    elif name == "TIFF":
        options |= {"compression": "tiff_adobe_deflate"}
    if metadata is not None:
        options |= _metadata_options(path, name, json.dumps(metadata))
    return options


# Metadata


def _metadata_options(path: StrPath, name: str, text: str) -> dict[str, Any]:
    """The text where each format has a place for it. JSON escapes what is not ASCII: no reader can
    garble that, not even a file name that is no valid Unicode."""
    if len(text) > MOST_METADATA_BYTES:
        streams.LOGGER.warning(
            "%s is saved without its settings, which are %.1f MB long: at most %.1f MB are read "
            "again, so that it cannot be painted again by --settings-from",
            *(path, len(text) / 1e6, MOST_METADATA_BYTES / 1e6),
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
    if name == "JPEG" and len(text) > _MOST_SEGMENT_TEXT:
        return {"exif": exif, "extra": _comment_segments(text.encode("ascii"))}
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: _ASCII + text.encode("ascii")}
    return {"exif": exif}


_ASCII = b"ASCII\0\0\0"  # EXIF 2.32, UserComment: the 8 bytes that name its character code
# A segment of a JPEG holds 64 KiB, and EXIF has one. What is longer is in comments (COM): each
# begins with its number and how many there are.
_MOST_SEGMENT_TEXT = 64_800
_COMMENT = re.compile(rb"neural-style (\d+)/(\d+) ")


def _comment_segments(text: bytes) -> bytes:
    parts = [
        text[start : start + _MOST_SEGMENT_TEXT]
        for start in range(0, len(text), _MOST_SEGMENT_TEXT)
    ]
    contents = (b"neural-style %d/%d " % (i, len(parts)) + part for i, part in enumerate(parts, 1))
    return b"".join(struct.pack(">HH", 0xFFFE, 2 + len(one)) + one for one in contents)


def _joined_comments(image: JpegImagePlugin.JpegImageFile) -> bytes:
    """The text that `_comment_segments` took apart; empty unless all of it is there."""
    parts, count = {}, 0
    for name, content in image.applist:
        if name == "COM" and (match := _COMMENT.match(content)):
            count = int(match[2])
            parts[int(match[1])] = content[match.end() :]
    if not parts or list(parts) != list(range(1, count + 1)):
        return b""
    return b"".join(parts.values())


def _software_and_comment(image: ImageFile.ImageFile) -> tuple[Any, Any]:
    """What `_metadata_options` wrote, or None in its place. Decodes no pixels."""
    if image.format == "PNG":  # asked for EXIF, Pillow would decode it
        return image.info.get("Software"), image.info.get("Comment")
    exif = image.getexif()
    software = exif.get(ExifTags.Base.Software)
    if image.format == "TIFF":
        return software, exif.get(ExifTags.Base.ImageDescription)
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    if not comment and image.format == "JPEG":
        return software, _joined_comments(image)
    return software, comment[len(_ASCII) :]


def _parsed(text: str | bytes) -> dict[str, Any]:
    """The dictionary that a text of JSON holds. Raises `ValueError`, `TypeError` or
    `RecursionError` for another text, and for one that is too long or too deep."""
    if len(text) > MOST_METADATA_BYTES:
        raise ValueError("too long")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not a dictionary")
    values = [found]
    for _ in range(MOST_METADATA_LEVELS):
        values = [
            inner
            for outer in values
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if values:
        raise ValueError("too deep")
    return found
