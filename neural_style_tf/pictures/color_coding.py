"""Colour coding: what a file says about its colours, other than by a profile -> a colour space.

PNG has chunks for it (PNG, third edition, 11.3.2), AVIF and HEIC the codes of ITU-T H.273, and
cameras mark Adobe RGB in EXIF. Of several statements the first counts: codes of PNG, a profile,
other codes, sRGB, gamma and chromaticities, EXIF.
"""

import contextlib
import os
import struct
from typing import NamedTuple

from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import boxes, color_spaces, matrix_profiles, opening
from neural_style_tf.pictures.color_spaces import ColorSpace, Curve
from neural_style_tf.pictures.files import StrPath

# ITU-T H.273, table 2: the white and the primaries of each code. 2: not specified.
_C = (0.310, 0.316)
PRIMARIES: dict[int, color_spaces.Chromaticities] = {
    1: color_spaces.SRGB,
    2: color_spaces.SRGB,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*color_spaces.D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*color_spaces.D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*color_spaces.D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*color_spaces.D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*color_spaces.D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*color_spaces.D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
# Table 3: the curve of each code. Those of video (1, 6, 14, 15) are read as sRGB's, as browsers do:
# they are for a camera, and screens show them with a gamma of their own.
TRANSFERS: dict[int, Curve] = {
    **dict.fromkeys((1, 2, 6, 13, 14, 15), color_spaces.srgb_curve),
    4: color_spaces.gamma_curve(2.2),
    5: color_spaces.gamma_curve(2.8),
    8: color_spaces.linear,
}
HDR = {16: "PQ", 18: "HLG"}
_SRGB_CODES = [(primaries, transfer) for primaries in (1, 2) for transfer in (1, 2, 6, 13, 14, 15)]
# gAMA 45455 is written for sRGB by programs that know no better; libpng's limit is 5 %.
_SRGB_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.002
_CHROMATICITY_TOLERANCE = 0.002


class Coding(NamedTuple):
    """The colours of a file."""

    profile: bytes | None = None  # ICC; it counts if it can be used
    space: ColorSpace | None = None  # otherwise; None for sRGB


def of(path: StrPath, image: ImageFile.ImageFile) -> Coding:
    """The colours of a picture that is not decoded yet. Raises `UserError` for colours of high
    dynamic range, and for codes that are unknown."""
    profile = image.info.get("icc_profile")
    codes = None
    with contextlib.suppress(*opening.BROKEN):
        codes = _codes(image)
    if codes and isinstance(image, PngImagePlugin.PngImageFile):
        return Coding(None, _from_codes(path, *codes))
    if profile:
        kind = matrix_profiles.hdr_kind(profile)
        if kind:
            raise _is_hdr(path, kind)
        return Coding(profile, _declared(image))
    return Coding(None, _from_codes(path, *codes) if codes else _declared(image))


def _from_codes(path: StrPath, primaries: int, transfer: int) -> ColorSpace | None:
    if transfer in HDR:
        raise _is_hdr(path, transfer)
    if primaries not in PRIMARIES or transfer not in TRANSFERS:
        raise UserError(
            f"{path} has colours that are not known (primaries {primaries}, transfer {transfer} of "
            "ITU-T H.273): convert it to sRGB"
        )
    if (primaries, transfer) in _SRGB_CODES:
        return None
    return color_spaces.space(TRANSFERS[transfer], PRIMARIES[primaries])


def _is_hdr(path: StrPath, transfer: int) -> UserError:
    return UserError(
        f"{path} has high dynamic range ({HDR[transfer]}), which a painting cannot have: "
        "save it for ordinary screens (SDR), in sRGB or Display P3"
    )


def _codes(image: ImageFile.ImageFile) -> tuple[int, int] | None:
    """The codes of the primaries and the transfer; None if there are none."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        return _png_codes(image)
    nclx = image.info.get("nclx_profile")  # pillow-heif has read it
    if nclx:
        return nclx["color_primaries"], nclx["transfer_characteristics"]
    return boxes.color_codes(image.fp) if image.format == "AVIF" and image.fp else None


def _png_codes(image: PngImagePlugin.PngImageFile) -> tuple[int, int] | None:
    """Those in the chunk cICP, which Pillow does not read."""
    file = image.fp
    if file is None:
        return None
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND"):
                return None
            if name == b"cICP" and length == 4:
                primaries, transfer = file.read(2)
                return primaries, transfer
            file.seek(length + 4, os.SEEK_CUR)
        return None
    finally:
        file.seek(place)


def _declared(image: ImageFile.ImageFile) -> ColorSpace | None:
    """What the chunks of a PNG or the EXIF of a camera say; None for sRGB, or nothing."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        if "srgb" in image.info:
            return None
        gamma = image.info.get("gamma")
        return _from_gamma(gamma, image.info.get("chromaticity"))
    return _ADOBE_RGB if _is_adobe_rgb(image) else None


_ADOBE_RGB = color_spaces.space(
    color_spaces.gamma_curve(color_spaces.ADOBE_GAMMA), color_spaces.ADOBE_RGB
)


def _from_gamma(gamma: float | None, chromaticities: tuple[float, ...] | None) -> ColorSpace | None:
    """gamma: of the file, 1/2.2 for that of most screens."""
    if not gamma or abs(gamma - _SRGB_GAMMA) < _GAMMA_TOLERANCE or not 0.01 <= gamma <= 100:
        curve = None
    else:
        curve = color_spaces.gamma_curve(1 / gamma)
    if chromaticities and len(chromaticities) == 8:
        pairs = zip(chromaticities, color_spaces.SRGB, strict=True)
        if all(abs(is_now - srgb) < _CHROMATICITY_TOLERANCE for is_now, srgb in pairs):
            chromaticities = None
    if curve is None and not chromaticities:
        return None
    return color_spaces.space(
        curve or color_spaces.srgb_curve, tuple(chromaticities or color_spaces.SRGB)
    )


def _is_adobe_rgb(image: ImageFile.ImageFile) -> bool:
    """Whether EXIF says so: DCF 2.0 marks it as interoperability R03."""
    with contextlib.suppress(*opening.BROKEN):
        exif = Image.Image.getexif(image)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
        return isinstance(index, str) and index.strip("\0 ") == "R03"
    return False
