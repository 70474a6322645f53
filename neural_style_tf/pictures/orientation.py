"""Orientation: which way up a picture is, as EXIF says."""

import contextlib
import os

from PIL import ExifTags, Image, ImageFile, PngImagePlugin, TiffImagePlugin

from neural_style_tf.pictures import opening

# EXIF 2.32, tag 0x0112: where row 0 and column 0 lie; each entry turns the picture upright.
UPRIGHT = {
    1: lambda samples: samples,
    2: lambda samples: samples[:, ::-1],
    3: lambda samples: samples[::-1, ::-1],
    4: lambda samples: samples[::-1],
    5: lambda samples: samples.swapaxes(0, 1),
    6: lambda samples: samples.swapaxes(0, 1)[:, ::-1],
    7: lambda samples: samples.swapaxes(0, 1)[::-1, ::-1],
    8: lambda samples: samples.swapaxes(0, 1)[::-1],
}
SIDEWAYS = (5, 6, 7, 8)  # what are rows upright, are columns in the file
FROM_THE_END = (3, 4, 7, 8)  # and the first of them is the last in the file


def upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Height and width, from the header of a picture that is not decoded yet."""
    width, height = image.size
    if isinstance(
        image, TiffImagePlugin.TiffImageFile
    ):  # Pillow 13 has turned its size already, but not for every tag
        width, height = (
            image.tag_v2[ExifTags.Base.ImageWidth],
            image.tag_v2[ExifTags.Base.ImageLength],
        )
    if isinstance(image, PngImagePlugin.PngImageFile) and "exif" not in image.info:
        with contextlib.suppress(*opening.BROKEN):
            _skip_pixels(image)
    return (width, height) if of_image(image) in SIDEWAYS else (height, width)


def _skip_pixels(image: PngImagePlugin.PngImageFile) -> None:
    """Reads what stands behind the pixels, and decodes none; up to a second frame, as `load`."""
    file, chunks = image.fp, image.png
    if file is None or chunks is None:  # closed
        return
    file.seek(-8, os.SEEK_CUR)  # to the first chunk of pixels
    while True:
        name, start, length = chunks.read()
        if name in (b"IEND", b"fcTL"):
            return
        if name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            chunks.call(name, start, length)
        file.seek(start + length + 4)  # behind its checksum


def of_image(image: ImageFile.ImageFile) -> int:
    """As EXIF says. Asked for after decoding, it is what remains to be done: Pillow turns a TIFF
    as it decodes it."""
    with contextlib.suppress(*opening.BROKEN):
        # Not the method of PNG, which decodes the picture to find EXIF behind it.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        return found if found in UPRIGHT else 1
    return 1
