"""Profiles: ICC colour profiles -> sRGB."""

import functools
import io
import re
from typing import Any

import numpy as np
from PIL import Image


def grey_curve(profile: bytes | None) -> np.ndarray | None:
    """The sRGB level, 0..255, of each of 256 grey levels; None without a usable profile."""
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    transform = to_srgb("L", profile)
    if transform is None:  # a grey picture may carry the profile of its coloured siblings
        ramp, transform = ramp.convert("RGB"), to_srgb("RGB", profile)
    if transform is None:
        return None
    return np.asarray(transform.apply(ramp), dtype=np.float32)[0, :, 1]


def to_srgb(mode: str, profile: bytes | None) -> Any:
    """The transform from pictures of `mode` to sRGB; None if the profile is missing, broken or for
    other channels."""
    if not profile or (mode == "RGB" and profile == srgb_profile()):
        return None
    from PIL import ImageCms  # late: a picture without a profile needs no colour management

    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":
        # The optimization of Little CMS is wrong by up to 9 levels in the dark of a linear grey
        # profile, and one row of grey is fast without. For colours it is right, and 4 times faster.
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


def applied(transform: Any, colors: np.ndarray) -> np.ndarray:
    """The colours, [H, W, 3] float32, 0..255, converted with 8 bits."""
    image = Image.fromarray(np.rint(colors).astype(np.uint8))
    return np.asarray(transform.apply(image), dtype=np.float32)


def _without_programs(profile: bytes) -> bytes:
    """The profile without its multi-process elements (ICC.1:2022, 9.2.16 to 9.2.23, D2B0 to B2D3).

    These are chains of any length, and every colour passes through the whole chain: a megabyte
    of it takes minutes. They are an alternative: by the standard every profile has tables or a
    matrix as well, of five steps at most, which take the same time for every file.
    """
    if len(profile) < 132:
        return profile
    result = bytearray(profile)
    count = int.from_bytes(profile[128:132], "big")
    for position in range(132, min(len(profile), 132 + 12 * count), 12):
        if re.match(rb"D2B\d|B2D\d", profile[position : position + 4]):
            result[position : position + 4] = b"none"
    return bytes(result)


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile of the pictures that `writing.save` writes."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2022, 7.2: bytes 24 to 35 are the date of creation. It is fixed to 1 January 2000, so
    # that one picture is one file.
    profile[24:36] = b"".join(number.to_bytes(2, "big") for number in (2000, 1, 1, 0, 0, 0))
    return bytes(profile)
