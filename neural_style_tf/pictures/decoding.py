"""Decoding: a decoded picture of any mode -> bands of rows, float32 sRGB, upright."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import deep, matrix_profiles, opening, orientation, profiles
from neural_style_tf.pictures.color_coding import Coding
from neural_style_tf.pictures.files import StrPath

# The mode that a picture is converted to if the samples of its own are not colours. A palette may
# hold alpha.
_DECODED_AS = {
    "1": "L",
    "P": "RGBA",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "LAB": "RGB",
}
# The same where one colour of the file stands for "transparent".
_DECODED_WITH_KEY_AS = {"1": "LA", "L": "LA", "RGB": "RGBA"}
# Samples of a grey PNG that Pillow widens to 8 bits, but not the level that is transparent.
_WIDENED = {"L;2": 2, "L;4": 4}
BAND_PIXELS = 1 << 20  # in float32 at a time
# Colours [r, W, 1 or 3] and alpha [r, W, 1] -> the channels to keep.
Join = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


class Decoded(NamedTuple):
    """A decoded picture, and what is to be known for its colours."""

    image: ImageFile.ImageFile
    coding: Coding
    depth: deep.Depth | None = None  # of 16 bits
    low: ImageFile.ImageFile | None = None  # the low bytes of colours of 16 bits


def widen_transparent_level(image: ImageFile.ImageFile) -> None:
    """Brings the transparent level of a picture that is not decoded yet to the range of its
    samples as they are decoded."""
    level = image.info.get("transparency")
    bits = _WIDENED.get(str(image.tile[0][3])) if image.format == "PNG" and image.tile else None
    if bits is not None and isinstance(level, int):
        most = (1 << bits) - 1
        image.info["transparency"] = (level & most) * (255 // most)


def bands(
    path: StrPath, decoded: Decoded, size: tuple[int, int], join: Join
) -> Iterator[np.ndarray]:
    """The rows of a decoded picture, upright, in bands [r, W, C] float32, with the channels of
    `join`. Raises `UserError` for a file that is broken, or was changed while it was read."""
    height, width = size
    image, low = decoded.image, decoded.low
    turned = orientation.of_image(image)
    sideways = turned in orientation.SIDEWAYS
    wanted = (height, width) if sideways else (width, height)
    if image.size != wanted or (low is not None and low.size != wanted):
        raise UserError(f"{path} is broken, or was changed as it was read: get a fresh copy")
    with opening.reporting_broken(path):
        samples_of = _sampler(decoded)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first, last = top, bottom
        if turned in orientation.FROM_THE_END:
            first, last = height - bottom, height - top
        box = (first, 0, last, width) if sideways else (0, first, width, last)
        with opening.reporting_broken(path):
            colors, alpha = samples_of(image.crop(box), None if low is None else low.crop(box))
        turn = orientation.UPRIGHT[turned]
        yield join(turn(colors), None if alpha is None else turn(alpha))
    for part in (image, low):  # frees memory for the caller
        if part is not None:
            part.close()


# A part of the picture, and its low bytes if it has 16 bits, to colours and alpha.
_Sampler = Callable[[Image.Image, Image.Image | None], tuple[np.ndarray, np.ndarray | None]]
# Colours in the space of a file, float32, 0..255, to sRGB.
_Convert = Callable[[np.ndarray], np.ndarray]


def _sampler(decoded: Decoded) -> _Sampler:
    """A function from a part of a picture to its colours, [r, w, 1 or 3] float32 sRGB, 0..255, and
    its alpha, [r, w, 1] float32, 0..1, or None."""
    image, coding, depth, _ = decoded
    key = image.info.get("transparency")
    if depth is not None:
        return _deep_sampler(depth, coding, key)
    mode = _DECODED_AS.get(image.mode, image.mode)
    if key is not None:
        mode = _DECODED_WITH_KEY_AS.get(image.mode, mode)
    if mode in ("RGB", "RGBA", "CMYK"):
        return _color_sampler(mode, coding)
    return _grey_sampler(mode, coding, image, key)


def _color_sampler(mode: str, coding: Coding) -> _Sampler:
    inks = "CMYK" if mode == "CMYK" else "RGB"
    transform = profiles.to_srgb(inks, coding.profile)
    is_srgb = transform is not None or coding.space is None or inks == "CMYK"

    def sample(part: Image.Image, _: Image.Image | None) -> tuple[np.ndarray, np.ndarray | None]:
        part, alpha = part.convert(mode), None
        if mode == "RGBA":
            alpha = np.asarray(part.getchannel("A"), np.float32)[..., np.newaxis] / 255
        part = part.convert(inks)
        part = part.convert("RGB") if transform is None else transform.apply(part)
        colors = np.asarray(part, dtype=np.float32)
        return colors if is_srgb or not coding.space else coding.space.to_srgb(colors), alpha

    return sample


def _deep_sampler(depth: deep.Depth, coding: Coding, key: Any) -> _Sampler:
    convert = _grey_to_srgb(coding) if depth.is_grey else _deep_to_srgb(coding)

    def sample(high: Image.Image, low: Image.Image | None) -> tuple[np.ndarray, np.ndarray | None]:
        colors, alpha = deep.joined(depth, high, low, key)
        colors = convert(colors)
        return colors[..., np.newaxis] if depth.is_grey else colors, alpha

    return sample


def _deep_to_srgb(coding: Coding) -> _Convert:
    """The conversion of colours with fractions. A profile with tables is applied to 8 bits."""
    profile = coding.profile
    space = coding.space
    if profile and profile != profiles.srgb_profile():
        read = matrix_profiles.read(profile)
        transform = None if read else profiles.to_srgb("RGB", profile)
        if transform is not None:
            return lambda colors: profiles.applied(transform, colors)
        space = read or space
    return space.to_srgb if space else lambda colors: colors


def _grey_to_srgb(coding: Coding) -> _Convert:
    """A grey picture may carry the profile of its coloured siblings."""
    profile, space = coding.profile, coding.space
    if profile:
        read = matrix_profiles.read_grey(profile) or matrix_profiles.read(profile)
        curve = None if read else profiles.grey_curve(profile)
        if curve is not None:
            return lambda grey: np.interp(grey, np.arange(256), curve).astype(np.float32)
        space = read or space
    return space.grey_to_srgb if space else lambda grey: grey


def _grey_sampler(mode: str, coding: Coding, image: Image.Image, key: Any) -> _Sampler:
    white = _white(image)
    convert, is_negative = _grey_to_srgb(coding), _is_negative(image)

    def sample(part: Image.Image, _: Image.Image | None) -> tuple[np.ndarray, np.ndarray | None]:
        samples, alpha = np.asarray(part if mode == part.mode else part.convert(mode)), None
        if mode == "LA":
            alpha, samples = samples[..., 1:].astype(np.float32) / 255, samples[..., 0]
        elif key is not None:
            alpha = (samples != key).astype(np.float32)[..., np.newaxis]
        grey = _levels(samples, white)
        return convert(255 - grey if is_negative else grey)[..., np.newaxis], alpha

    return sample


def _white(image: Image.Image) -> int:
    """The value of white in a grey picture."""
    if image.mode not in ("F", "I"):
        if not image.mode.startswith("I;16"):
            return 255
        return 4095 if _tag(image, ExifTags.Base.BitsPerSample) == (12,) else 65_535
    rows = max(1, BAND_PIXELS // image.width)
    darkest, lightest = math.inf, -math.inf
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(image.height, top + rows)))
        samples = np.nan_to_num(np.asarray(part))
        darkest, lightest = min(darkest, samples.min()), max(lightest, samples.max())
    if image.mode == "I":
        return 65_535 if darkest >= 0 and lightest <= 65_535 else 2**32 - 1
    # A file does not say which white its fractions have: 1, 255 or 65,535.
    return next((white for white in (1, 255) if lightest <= white), 65_535)


def _is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a grey TIFF: Pillow turns round samples of up to 8 bits alone."""
    is_wide = image.mode in ("F", "I") or image.mode.startswith("I;16")
    return is_wide and _tag(image, ExifTags.Base.PhotometricInterpretation) == 0


def _tag(image: Image.Image, tag: int) -> Any:
    """The value of a TIFF's tag; None if it has none or is not a TIFF."""
    return image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def _levels(samples: np.ndarray, white: int) -> np.ndarray:
    """Grey samples of any type as float32, 0..255. 16 bits keep their fractions."""
    if samples.dtype == np.uint8:
        return samples.astype(np.float32)
    if samples.dtype == np.float32:
        samples = np.nan_to_num(samples)
    elif white > 65_535:
        samples = samples.view(np.uint32)  # Pillow reads them as signed
    return np.clip(samples * (255 / white), 0, 255).astype(np.float32)
