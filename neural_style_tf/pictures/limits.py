"""Limits: how large a picture may be, in megapixels and in memory, judged from its header."""

import math
import os

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from neural_style_tf.errors import SettingName, UsageError, UserError
from neural_style_tf.machine import memory
from neural_style_tf.pictures import decoding, deep, opening, resampling
from neural_style_tf.pictures.files import StrPath

MAX_PIXELS_PER_SIDE = 500_000  # of an input picture
# The memory that decoding a file may take: 5 bytes per pixel of the limit, at least 1 GB, or 1000
# times the length of the file. Ordinary photos unpack to under 100 times their length.
_BYTES_PER_PIXEL_OF_LIMIT = 5
_ALWAYS_DECODED_BYTES = 1_000_000_000
_MAX_UNPACKED = 1000
_MAX_RUN_LENGTH_PIXELS = 30_000_000  # of a BMP: Pillow decodes them in Python, 10 per microsecond
_BAND_BYTES = 96 * decoding.BAND_PIXELS  # including all copies


def check_max_megapixels(max_megapixels: float) -> None:
    """Raises `UsageError` unless the limit is a finite number above 0."""
    if not (math.isfinite(max_megapixels) and max_megapixels > 0):
        raise UsageError(
            SettingName("max_megapixels"),
            f" is {max_megapixels:g}, which is not a finite number above 0: "
            "set it to the megapixels of your largest picture",
        )


def check_megapixels(path: StrPath, image: Image.Image, max_megapixels: float) -> None:
    """Raises `UserError` if the header says that the picture is too large; decodes nothing."""
    if max(image.size) > MAX_PIXELS_PER_SIDE:
        raise UserError(
            f"{path} is {image.width} pixels wide and {image.height} high, but a side may have "
            f"{MAX_PIXELS_PER_SIDE}: crop it"
        )
    megapixels = image.height * image.width / 1e6
    if megapixels > max_megapixels:
        raise UserError(
            f"{path} has {megapixels:.1f} megapixels, more than {max_megapixels:g}: "
            "shrink it, or raise ",
            SettingName("max_megapixels"),
        )
    if image.height * image.width > _MAX_RUN_LENGTH_PIXELS and _is_run_length_bmp(image):
        raise UserError(
            f"{path} is a BMP of {megapixels:.1f} megapixels with run-length encoding, which takes "
            "minutes to read: save it as PNG"
        )


def check_memory(
    path: StrPath,
    image: ImageFile.ImageFile,
    source: tuple[int, int],
    target: tuple[int, int],
    max_megapixels: float,
) -> None:
    """Raises `UserError` if decoding takes more memory than is free or than the file may."""
    with opening.reporting_broken(path):
        decoding, length = _decoding_bytes(image), os.stat(path).st_size
    always = max(_ALWAYS_DECODED_BYTES, _BYTES_PER_PIXEL_OF_LIMIT * 1e6 * max_megapixels)
    if decoding > max(always, _MAX_UNPACKED * length):
        raise UserError(
            f"{path} has only {length} bytes and takes {decoding / 1e9:.1f} GB of memory to "
            "decode: shrink it, or save it as PNG"
        )
    # `at_size` holds the result in float32, the source too unless that is resized by weights, and
    # copies of one channel of each.
    pixels = target[0] * target[1]
    if source[0] * source[1] <= resampling.MAX_RESIZED_BY_PILLOW and source != target:
        pixels += source[0] * source[1]
    held = 4 * (_channels(image) + 2) * pixels
    needed, free = decoding + held + _BAND_BYTES, memory.free_system_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{path} takes {needed / 1e9:.1f} GB of memory to read, and {free / 1e9:.1f} GB are "
            "free: shrink it, or close other programs"
        )


def _decoding_bytes(image: ImageFile.ImageFile) -> int:
    """An estimate of the memory that Pillow takes to decode, in bytes."""
    pixels = image.height * image.width
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    if deep.of(image) is not None:  # it is decoded twice
        stored *= 2
    if image.format in ("AVIF", "HEIF"):  # planes, colours of up to 16 bits, and two copies
        return (stored + 20) * pixels
    if image.format == "WEBP":  # two canvases, a copy, and the lossless decoder's own
        return (stored + 16) * pixels
    if image.format == "BMP" and _is_run_length_bmp(image):
        return 3 * pixels
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.info["scans"] > 1:
        return (stored + 2 * image.layers) * pixels  # libjpeg holds all coefficients, 16 bits each
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 2 * stored * pixels + _part_bytes(image)  # Pillow turns it upright
    return stored * pixels


def _is_run_length_bmp(image: Image.Image) -> bool:
    return image.format == "BMP" and image.info["compression"] in (1, 2)  # RLE8, RLE4


def _part_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """The size of a tile or strip of a TIFF, which libtiff decodes as a whole."""
    tags = image.tag_v2
    bits = sum(tags.get(ExifTags.Base.BitsPerSample, (8,)))
    if ExifTags.Base.TileWidth in tags:
        pixels = tags[ExifTags.Base.TileWidth] * tags.get(ExifTags.Base.TileLength, 0)
    else:
        width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        pixels = width * min(height, tags.get(ExifTags.Base.RowsPerStrip, height))
    return pixels * bits // 8


def _channels(image: Image.Image) -> int:
    """The most channels that `decoding.bands` yields."""
    return 4 if image.mode in ("P", "RGBA", "RGBa", "PA") or "transparency" in image.info else 3
