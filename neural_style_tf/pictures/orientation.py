"""Orientation: which way up a picture is, as EXIF says."""

import contextlib
import os

from PIL import ExifTags, Image, ImageFile, PngImagePlugin, TiffImagePlugin

from neural_style_tf.pictures import opening

# EXIF 2.32, tag 0x0112: where row 0 and column 0 are; each entry turns the picture upright.
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
SIDEWAYS = (5, 6, 7, 8)  # the upright picture's rows are the file's columns
FROM_THE_END = (3, 4, 7, 8)  # its first row is the file's last row or column


def upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Height and width of the upright picture, from its header, before it is decoded."""
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
            read_all_chunks(image)
    return (width, height) if of_image(image) in SIDEWAYS else (height, width)


def read_all_chunks(image: PngImagePlugin.PngImageFile) -> None:
    """Reads the chunks after the pixels, which are not decoded, up to a second frame, as `load`."""
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
        file.seek(start + length + 4)  # after its checksum


def of_image(image: ImageFile.ImageFile) -> int:
    """The orientation in EXIF, 1 to 8. After decoding it is the one that remains to be applied:
    Pillow turns a TIFF upright as it decodes it."""
    with contextlib.suppress(*opening.BROKEN):
        # Not PNG's own method, which decodes the picture to find EXIF after it.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        return value if value in UPRIGHT else 1
    return 1
