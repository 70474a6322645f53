"""Writing: [H, W, 3] float RGB, 0..255 -> a picture file, whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import ImageFile

from neural_style_tf.errors import UsageError
from neural_style_tf.pictures import files, formats, opening, profiles
from neural_style_tf.pictures.files import StrPath
from neural_style_tf.pictures.metadata import metadata_options


def to_bytes(samples: np.ndarray) -> np.ndarray:
    """The samples rounded and clipped to uint8, 0..255; of any shape."""
    result = np.empty(samples.shape, np.uint8)
    for rows, target in zip(samples, result, strict=True):  # pictures may be large
        target[:] = np.clip(np.rint(rows), 0, 255)
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


def check_output_size(path: StrPath, height: int, width: int) -> None:
    """Raises `UsageError` if the format of `path` cannot hold a picture of this size."""
    name = formats.format_of(path)
    longest = formats.LONGEST_SIDES.get(name)
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
    alpha: [H, W] float, 0..1; left out in JPEG and BMP. metadata: a dictionary of JSON values;
    left out in BMP. Equal arguments write equal bytes. Raises `UsageError` for an unknown ending
    and `UserError` if the file cannot be written; an old file is then left as it was.
    """
    name = formats.format_of(path)
    if alpha is None or name in formats.WITHOUT_ALPHA:
        samples = to_bytes(pixels)
    else:
        pixels = _off_white(pixels, alpha)
        samples = np.dstack([to_bytes(pixels), to_bytes(alpha * 255)])  # [H, W, 4]
    data = _encode(path, samples, _encoder_options(path, name, metadata))
    files.write(path, data)


def _off_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours before they were put over white, so that edges do not fade with every save."""
    alpha = alpha[..., np.newaxis]
    return np.where(alpha > 0, (pixels - 255 * (1 - alpha)) / np.where(alpha > 0, alpha, 1), pixels)


def _encode(path: StrPath, samples: np.ndarray, options: dict[str, Any]) -> bytes:
    """The bytes of a picture [H, W, 3 or 4] uint8 in the format that the ending of `path` names."""
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


def _encoder_options(path: StrPath, name: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments for Pillow's encoder of a format. 95 is the highest quality that libjpeg's
    authors advise; 4:4:4 (subsampling 0) keeps the edges of saturated paint."""
    if name == "BMP":
        return {}
    options: dict[str, Any] = {"icc_profile": profiles.srgb_profile()}
    if name == "JPEG":
        options |= {"quality": 95, "subsampling": 0, "optimize": True}
    elif name == "WebP":
        options |= {"quality": 95, "method": 4}
    elif name == "TIFF":
        options |= {"compression": "tiff_adobe_deflate"}
    if metadata is not None:
        options |= metadata_options(path, name, json.dumps(metadata))
    return options
