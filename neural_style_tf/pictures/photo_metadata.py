"""Photo metadata: what a photo says about itself -> what its painting passes on.

EXIF without what holds for the photo's file alone (orientation, sizes, thumbnail, maker's notes),
XMP likewise, and the resolution for printing. A photo may come from a stranger: every value has a
known kind and a limited length.
"""

import contextlib
from typing import Any, NamedTuple

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from neural_style_tf.pictures import opening, orientation, xmp
from neural_style_tf.pictures.files import StrPath

_Base = ExifTags.Base
# EXIF 2.32, 4.6: of the picture itself
_KEPT = (
    *(_Base.ImageDescription, _Base.Make, _Base.Model, _Base.DateTime, _Base.Artist),
    *(_Base.HostComputer, _Base.Copyright, _Base.Rating, _Base.RatingPercent),
    *(_Base.XPTitle, _Base.XPComment, _Base.XPAuthor, _Base.XPKeywords, _Base.XPSubject),
)
# Of how it was taken, all but these: sizes and colours are other ones now.
_LEFT_OUT = (
    *(_Base.MakerNote, _Base.UserComment, _Base.ColorSpace, _Base.Gamma, _Base.SubIFDs),
    *(_Base.ExifImageWidth, _Base.ExifImageHeight, _Base.ExifInteroperabilityOffset),
    *(_Base.ComponentsConfiguration, _Base.CompressedBitsPerPixel, _Base.RelatedSoundFile),
)
# Where XMP is in a PNG, a TIFF and a JPEG. XMP specification, part 3.
XMP_TEXT, XMP_TAG, XMP_HEAD = "XML:com.adobe.xmp", 700, b"http://ns.adobe.com/xap/1.0/\0"
PROGRAM = "neural-style "  # how `Software` begins in our own pictures
_SRGB = 1  # ColorSpace
_INCHES = 2  # ResolutionUnit
_LONGEST_VALUE = 2000  # characters, bytes or numbers
_MOST_TAGS = 200
_MOST_DPI = 65_535  # that a JPEG holds

# The texts of a PNG, and the records of IPTC-IIM, that stand for a tag which EXIF lacks.
_PNG_TEXTS = {
    "Copyright": _Base.Copyright,
    "Author": _Base.Artist,
    "Description": _Base.ImageDescription,
}
_IPTC = {(2, 116): _Base.Copyright, (2, 80): _Base.Artist, (2, 120): _Base.ImageDescription}


class PhotoMetadata(NamedTuple):
    """What is passed on."""

    tags: dict[int, Any]  # of EXIF, by tag
    taken: dict[int, Any]  # of its part about how the photo was taken
    position: dict[int, Any]  # of its part about where
    dpi: tuple[float, float] | None = None  # across and down
    xmp: bytes | None = None

    def exif(self, height: int, width: int) -> Image.Exif:
        """EXIF for a painting of this size."""
        exif = Image.Exif()
        exif.update(self.tags)
        if self.dpi:
            exif[_Base.XResolution], exif[_Base.YResolution] = self.dpi
            exif[_Base.ResolutionUnit] = _INCHES
        if self.taken:
            sizes = {_Base.ExifImageWidth: width, _Base.ExifImageHeight: height}
            exif[ExifTags.IFD.Exif] = {**self.taken, **sizes, _Base.ColorSpace: _SRGB}
        if self.position:
            exif[ExifTags.IFD.GPSInfo] = dict(self.position)
        return exif


NONE = PhotoMetadata({}, {}, {})


def read(path: StrPath) -> PhotoMetadata:
    """What a photo passes on; nothing of what is broken. Raises `UserError` for a file that is not
    a picture."""
    with opening.quiet_pillow(), opening.open_image(path) as image:
        if isinstance(image, PngImagePlugin.PngImageFile):
            with contextlib.suppress(*opening.BROKEN):
                orientation.read_all_chunks(image)
        tags: dict[int, Any] = {}
        taken: dict[int, Any] = {}
        position: dict[int, Any] = {}
        broken = (*opening.BROKEN, MemoryError)
        with contextlib.suppress(*broken):
            exif = Image.Image.getexif(image)
            tags = _sound({tag: exif[tag] for tag in _KEPT if tag in exif})
            if str(exif.get(_Base.Software)).startswith(PROGRAM):  # a TIFF's are our settings
                tags.pop(_Base.ImageDescription, None)
            taken = _sound(exif.get_ifd(ExifTags.IFD.Exif), _LEFT_OUT)
            position = _sound(exif.get_ifd(ExifTags.IFD.GPSInfo))
        with contextlib.suppress(*broken):
            tags = {**_sound(_other_texts(image)), **tags}
        dpi, packet = None, None
        with contextlib.suppress(*broken):
            dpi = _dpi(image)
        with contextlib.suppress(*broken):
            packet = _xmp(image)
        result = PhotoMetadata(tags, taken, position, dpi, packet)
        with contextlib.suppress(*broken):
            result.exif(1, 1).tobytes()
            return result
        return NONE._replace(dpi=dpi, xmp=packet)  # values that EXIF cannot hold


def _sound(values: dict[int, Any], left_out: tuple[int, ...] = ()) -> dict[int, Any]:
    """The values whose kind is known, and that are not too long."""
    sound = {
        tag: _as_written(value)
        for tag, value in values.items()
        if tag not in left_out and _is_sound(value)
    }
    return sound if len(sound) <= _MOST_TAGS else {}


def _is_sound(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return 0 < len(value) <= _LONGEST_VALUE
    if isinstance(value, tuple):
        return len(value) <= _LONGEST_VALUE and all(
            isinstance(item, int | float | IFDRational) for item in value
        )
    return isinstance(value, int | float | IFDRational)


def _as_written(value: Any) -> Any:
    """Pillow reads text as Latin-1, whatever it is, and writes ASCII; bytes stay as they are."""
    return value if not isinstance(value, str) or value.isascii() else value.encode("latin-1")


def _other_texts(image: ImageFile.ImageFile) -> dict[int, Any]:
    """What a PNG's texts or IPTC-IIM say."""
    if image.format == "PNG":
        texts = {tag: image.info.get(name) for name, tag in _PNG_TEXTS.items()}
    else:
        records = IptcImagePlugin.getiptcinfo(image) or {}
        texts = {tag: records.get(record) for record, tag in _IPTC.items()}
    return {tag: _encoded(text) for tag, text in texts.items() if text}


def _encoded(text: Any) -> Any:
    """In UTF-8, as most programs read EXIF's text."""
    text = text[0] if isinstance(text, list) and text else text
    return str(text).encode() if isinstance(text, str) else text


def _dpi(image: ImageFile.ImageFile) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if dpi is None:
        exif = Image.Image.getexif(image)
        dpi = exif[_Base.XResolution], exif[_Base.YResolution]
        if exif.get(_Base.ResolutionUnit, _INCHES) != _INCHES:
            return None
    across, down = (float(value) for value in dpi)
    return (across, down) if min(across, down) > 1 and max(across, down) < _MOST_DPI else None


def _xmp(image: ImageFile.ImageFile) -> bytes | None:
    packet = image.info.get("xmp") or _older_pillows_xmp(image)
    return xmp.for_painting(packet) if isinstance(packet, bytes) else None


def _older_pillows_xmp(image: ImageFile.ImageFile) -> Any:
    """Where it is before Pillow 11, which does not name it for every format."""
    if image.format == "PNG":
        return str(image.info.get(XMP_TEXT, "")).encode()
    if image.format == "TIFF":
        return Image.Image.getexif(image).get(XMP_TAG)
    segments = getattr(image, "applist", [])
    return next((data[len(XMP_HEAD) :] for _, data in segments if data.startswith(XMP_HEAD)), None)
