"""Writing: [H, W, 3] float RGB, 0..255 -> a picture file, whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import ExifTags, ImageFile

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.pictures import deep_files, files, formats, opening, profiles
from neural_style_tf.pictures.files import StrPath
from neural_style_tf.pictures.metadata import metadata_options
from neural_style_tf.pictures.photo_metadata import PhotoMetadata

JPEG_QUALITY = 95


def to_bytes(samples: np.ndarray) -> np.ndarray:
    """The samples rounded and clipped to uint8, 0..255; of any shape."""
    return _rounded(samples, np.uint8, 1)


def _rounded(samples: np.ndarray, dtype: type, factor: int) -> np.ndarray:
    result: np.ndarray = np.empty(samples.shape, dtype)
    scale, most = np.float32(factor), np.iinfo(dtype).max
    for rows, target in zip(samples, result, strict=True):  # pictures may be large
        target[:] = np.clip(np.rint(rows * scale), 0, most)
    return result


def check_output(path: StrPath, overwrite: bool = False, make_folder: bool = False) -> None:
    """Raises `UserError` if `save` could not write to `path`; meant for before the run.

    make_folder: its folder may be missing, the one above it may not.
    """
    if not os.path.isdir(path):
        formats.format_of(path)
    files.check_writable(path, overwrite, make_folder)


def check_ending(path: StrPath) -> None:
    """Raises `UsageError` unless the ending of `path` names a format that `save` writes."""
    formats.format_of(path)


def is_jpeg(path: StrPath) -> bool:
    return formats.FORMATS.get(Path(path).suffix.lower()) == "JPEG"


def most_bits(path: StrPath, bits: int) -> int:
    """`bits`, or as many as the format of `path` holds."""
    return bits if formats.format_of(path) in formats.DEEP else 8


def check_output_size(path: StrPath, height: int, width: int) -> None:
    """Raises `UsageError` if the format of `path` cannot hold a picture of this size."""
    name = formats.format_of(path)
    longest = formats.LONGEST_SIDES.get(name)
    if longest is not None and max(height, width) > longest:
        raise UsageError(
            f"{path} would be {width} wide and {height} high, but {name} holds at most {longest} "
            "a side: end the name in .png, or make the picture smaller"
        )


def check_bits(path: StrPath, bits: int) -> None:
    """Raises `UsageError` for other bits per colour than 8 and 16, and for more than the format of
    `path` holds."""
    name = formats.format_of(path)
    if bits not in (8, 16):
        raise UsageError(SettingName("bits"), f" is {bits}: use 8 or 16")
    if bits != 8 and name not in formats.DEEP:
        raise UsageError(
            SettingName("bits"),
            f" {bits} is for .png and .tif: {path} would be a {name} file, which holds 8",
        )


def save(
    path: StrPath,
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    metadata: dict[str, Any] | None = None,
    photo: PhotoMetadata | None = None,
    bits: int = 8,
    jpeg_quality: int | None = None,
) -> None:
    """Writes a picture, whole or not at all, in the format that the ending of `path` names.

    pixels: [H, W, 3] float RGB, 0..255, over white where alpha is under 1; rounded to 8 or 16 bits.
    alpha: [H, W] float, 0..1; left out in JPEG and BMP. metadata: a dictionary of JSON values;
    left out in BMP, and so is what the photo says of itself. jpeg_quality: 1 to 100, of a JPEG.
    Equal arguments write equal bytes. Raises `UsageError` for an unknown ending or one whose
    format has fewer bits, and `UserError` if the file cannot be written; an old file is then left
    as it was.
    """
    name = formats.format_of(path)
    check_bits(path, bits)
    dtype, factor = (np.uint16, 257) if bits == 16 else (np.uint8, 1)
    if alpha is None or name in formats.WITHOUT_ALPHA:
        samples = _rounded(pixels, dtype, factor)
    else:
        pixels = _off_white(pixels, alpha)
        samples = np.dstack(
            [_rounded(pixels, dtype, factor), _rounded(alpha * 255, dtype, factor)]
        )  # [H, W, 4]
    options = _encoder_options(path, name, metadata, photo, pixels.shape[:2], jpeg_quality)
    files.write(path, _encode(path, samples, options))


def _off_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours before they were put over white, so that edges do not fade with every save."""
    alpha = alpha[..., np.newaxis]
    return np.where(alpha > 0, (pixels - 255 * (1 - alpha)) / np.where(alpha > 0, alpha, 1), pixels)


def _encode(path: StrPath, samples: np.ndarray, options: dict[str, Any]) -> bytes:
    """The bytes of a picture [H, W, 3 or 4], uint8 or uint16, in the format that the ending of
    `path` names."""
    if formats.format_of(path) == "TIFF":
        return deep_files.tiff(samples, options["tags"])
    if samples.dtype == np.uint16:
        return deep_files.png(samples, options)
    extension = Path(path).suffix.lower()
    with opening.pillow_lock:
        block = ImageFile.MAXBLOCK
        if options.get("optimize"):
            # libjpeg optimizes what fits one block, and Pillow's guess is too small for noise:
            # "broken data stream". A coefficient takes 27 bits at most, under 4 bytes per sample.
            ImageFile.MAXBLOCK = max(block, 4 * samples.nbytes)
        try:
            return iio.imwrite(
                "<bytes>", samples, plugin="pillow", extension=extension, is_batch=False, **options
            )
        finally:
            ImageFile.MAXBLOCK = block


def _encoder_options(
    path: StrPath,
    name: str,
    metadata: dict[str, Any] | None,
    photo: PhotoMetadata | None = None,
    size: tuple[int, int] = (1, 1),
    jpeg_quality: int | None = None,
) -> dict[str, Any]:
    """The arguments for the encoder of a format. 95 is the highest quality that libjpeg's authors
    advise; 4:4:4 (subsampling 0) keeps the edges of saturated paint."""
    if name == "BMP":
        return {}
    text = None if metadata is None else json.dumps(metadata)
    options = metadata_options(path, name, text, photo, size)
    if name == "TIFF":
        options["tags"][ExifTags.Base.InterColorProfile] = profiles.srgb_profile()
        return options
    options["icc_profile"] = profiles.srgb_profile()
    if name == "JPEG":
        options |= {"quality": jpeg_quality or JPEG_QUALITY, "subsampling": 0, "optimize": True}
    elif name == "WebP":
        options |= {"quality": 95, "method": 4}
    return options
