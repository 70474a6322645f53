"""Matrix profiles: ICC profiles of three primaries with a curve each -> colour spaces.

Little CMS converts pictures of 8 bits, by profiles of every kind. Pillow passes it no colours of
16 bits, so for these the common kind of profile is read here. ICC.1:2022.
"""

import re
import struct
from collections.abc import Iterator

import numpy as np

from neural_style_tf.pictures import color_spaces
from neural_style_tf.pictures.color_spaces import ColorSpace, Curve

# The light of sRGB's primaries as its profile has it, adapted to D50. IEC 61966-2-1, amendment 1.
_SRGB = np.array(
    [(0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410)]
)
_MOST_TAGS = 100
_PARAMETERS = (1, 3, 4, 5, 7)  # of each kind of parametric curve
_HDR_NAME = re.compile(
    rb"\b(PQ|HLG|(?:SMPTE )?ST ?2084|(?:BT|Rec)[. ]{0,2}2100\w*|\w+_(?:PQ|HLG|ST2084))\b"
)
_OF_SCREENS = (b"mntr", b"spac")  # classes; a printer's profile may name a paper PQ


def read(profile: bytes | None) -> ColorSpace | None:
    """The colour space of a profile for RGB; None if it is broken, or has tables instead."""
    tags = _tags(profile)
    if _kind(profile) != b"RGB XYZ " or any(re.match(rb"[AD]2B\d", name) for name in tags):
        return None
    try:
        curves = tuple(_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
        colorants = [_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    except (KeyError, ValueError, struct.error):
        return None
    matrix = np.linalg.solve(_SRGB, np.array(colorants).T)
    return ColorSpace(curves, matrix)  # type: ignore[arg-type]


def read_grey(profile: bytes | None) -> ColorSpace | None:
    """The same of a profile for grey: a curve alone."""
    tags = _tags(profile)
    if _kind(profile) != b"GRAYXYZ ":
        return None
    try:
        curve = _curve(tags[b"kTRC"])
    except (KeyError, ValueError, struct.error):
        return None
    return ColorSpace((curve, curve, curve), np.eye(3))


def hdr_kind(profile: bytes | None) -> int | None:
    """The transfer of ITU-T H.273 that a profile for high dynamic range has: 16 for PQ, 18 for HLG;
    None for every other profile."""
    tags = _tags(profile)
    coding = tags.get(b"cicp", b"")
    if coding[:4] == b"cicp" and len(coding) >= 10:
        return coding[9] if coding[9] in (16, 18) else None
    name = _HDR_NAME.search(tags.get(b"desc", b"")[:1000].replace(b"\0", b""))
    if not profile or profile[12:16] not in _OF_SCREENS or not name:
        return None
    return 18 if b"HLG" in name[0] else 16


def _kind(profile: bytes | None) -> bytes:
    """The colours that a profile is for, and those that it leads to."""
    return profile[16:24] if profile else b""


def _tags(profile: bytes | None) -> dict[bytes, bytes]:
    """The content of each tag of a profile; none of a broken one."""
    if not profile or len(profile) < 132:
        return {}
    return dict(_each_tag(profile))


def _each_tag(profile: bytes) -> Iterator[tuple[bytes, bytes]]:
    count = min(_MOST_TAGS, int.from_bytes(profile[128:132], "big"))
    for position in range(132, min(132 + 12 * count, len(profile) - 11), 12):
        name, start, length = struct.unpack_from(">4sII", profile, position)
        yield name, profile[start : start + length]


def _xyz(tag: bytes) -> list[float]:
    if tag[:4] != b"XYZ ":
        raise ValueError("not a colour")
    return [value / 65_536 for value in struct.unpack_from(">3i", tag, 8)]


def _curve(tag: bytes) -> Curve:
    """10.6 and 10.18. Raises `ValueError` or `struct.error` for anything else."""
    if tag[:4] == b"para":
        kind = int.from_bytes(tag[8:10], "big")
        if kind >= len(_PARAMETERS):
            raise ValueError("an unknown curve")
        parameters = struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)
        return _parametric(kind, [value / 65_536 for value in parameters])
    if tag[:4] != b"curv":
        raise ValueError("not a curve")
    count = int.from_bytes(tag[8:12], "big")
    if count == 0:
        return color_spaces.linear
    if count == 1:
        return color_spaces.gamma_curve(int.from_bytes(tag[12:14], "big") / 256)
    values = np.frombuffer(tag[12 : 12 + 2 * count], ">u2")
    if len(values) != count:
        raise ValueError("a curve that is cut short")
    return color_spaces.table_curve(values / 65_535)


def _parametric(kind: int, values: list[float]) -> Curve:
    """Table 68, each kind as the last one: with g, a, b, c, d, e, f."""
    g, a, b, c, d, e, f = [*values, *[0.0] * (7 - len(values))]
    if kind == 0:
        a, d = 1.0, 0.0
    elif kind in (1, 2):
        if a == 0:
            raise ValueError("a curve without slope")
        # -b/a is where it begins; below that it has the value c, or 0
        offset = c if kind == 2 else 0.0
        c, d, e, f = 0.0, -b / a, offset, offset
    return color_spaces.parametric((g, a, b, c, d, e, f))
