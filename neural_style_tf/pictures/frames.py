"""Frames: whether a file holds several pictures, of which only the first is used."""

import contextlib

from PIL import ExifTags, ImageFile

from neural_style_tf.machine import streams
from neural_style_tf.pictures import opening
from neural_style_tf.pictures.files import StrPath

_NOT_A_PAGE = 1 | 4  # TIFF 6.0, NewSubfileType: a smaller copy, or a mask


def report(path: StrPath, image: ImageFile.ImageFile) -> None:
    """Logs that only the first frame or page of a file is used, once per process. image: not
    decoded yet."""
    several = "pages" if image.format == "TIFF" else "frames"
    with contextlib.suppress(*opening.BROKEN):
        if getattr(image, "is_animated", False) and (several == "frames" or _has_pages(path)):
            streams.warn_once(f"{path} has several {several}: only the first is used")


def _has_pages(path: StrPath) -> bool:
    with opening.open_image(path) as image:
        image.seek(1)
        return not image.getexif().get(ExifTags.Base.NewSubfileType, 0) & _NOT_A_PAGE
