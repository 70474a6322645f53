"""Images: file <-> array [H, W, 3] float32 RGB 0..255, resize, colour transfer. Prints nothing."""

import contextlib
import functools
import io
import json
import logging
import math
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as iio
import numpy as np
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

import files
from files import StrPath
from settings import (
    MAX_MEGAPIXELS,
    SMALLEST_SIDE,
    VERSION,
    SettingName,
    Settings,
    UsageError,
    UserError,
    nearest,
)

SOFTWARE = f"neural-style {VERSION}"

# What `read` takes, as Pillow calls it. More formats would mean more to trust: EPS runs programs.
READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")

# The endings that `save` writes, and the format of each.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
MOST_ENLARGED = 2  # times, of a painting, unless asked for: what is enlarged has no fine strokes
ALWAYS_AS_WIDE = 512  # pixels; up to here a painting is made as wide as the result, however small
READABLE_ENDINGS = (*FORMATS, ".gif")  # of the files that a folder is searched for
# JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h, WEBP_MAX_DIMENSION of libwebp's encode.h
LONGEST_SIDES = {"JPEG": 65_500, "WebP": 16_383}


class Picture(NamedTuple):
    pixels: np.ndarray  # [H, W, 3] float32 RGB, 0..255
    alpha: np.ndarray | None  # [H, W] float32, 0..1; None where all is opaque


def read(path: StrPath, max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """The picture in a file, upright, in sRGB, over white where it is transparent.

    Reads JPEG, PNG, WebP, TIFF, BMP and GIF (the first frame), in every mode that Pillow knows.
    A broken colour profile is ignored. Raises `UserError` for a file that cannot be read, and, from
    its header alone, for one of more than `max_megapixels`.
    """
    with _quiet_pillow(), _open_image(path) as image:
        _check_megapixels(path, image, max_megapixels)
        decoded = _decode(path, image)
    colors, alpha = _split_alpha(decoded)
    pixels = _to_srgb(colors, decoded.profile)
    if alpha is None or alpha.min() == 1:
        return Picture(pixels, None)
    return Picture(_over_white(pixels, alpha), alpha)


def size(path: StrPath) -> tuple[int, int]:
    """Height and width of the picture in a file, upright, from its header alone. Raises `UserError`
    for a file that is no picture."""
    with _quiet_pillow(), _open_image(path) as image:
        width, height = image.size
        with contextlib.suppress(*_BROKEN):
            if image.getexif().get(ExifTags.Base.Orientation, 1) > 4:
                return width, height
    return height, width


def read_mask(path: StrPath, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """The mask in a file: [H, W] float32, 1 where it is white, 0 where black or transparent.

    Raises `UserError` as `read` does.
    """
    pixels, alpha = read(path, max_megapixels)
    white = pixels.mean(-1) / 255
    if alpha is not None:
        white = white - (1 - alpha)  # `read` has laid it over white
    return np.clip(white, 0, 1).astype(np.float32)


def to_bytes(samples: np.ndarray) -> np.ndarray:
    """The samples rounded to 8 bits; beyond 0..255 they are clipped."""
    found = np.empty(samples.shape, np.uint8)
    for rows, made in zip(samples, found, strict=True):  # pictures may be large
        made[:] = np.clip(np.rint(rows), 0, 255)
    return found


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture or alpha at another size: Lanczos, antialiased where it shrinks.

    pixels: [H, W, 3] float32, 0..255, or [H, W] float32, 0..1. The result keeps to that range,
    which Lanczos would leave beside hard edges. Equal size returns `pixels` itself.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.ndim == 2:
        return np.clip(_resize_channel(pixels, height, width), 0, 1)
    channels = [_resize_channel(pixels[..., i], height, width) for i in range(pixels.shape[-1])]
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def bled(pixels: np.ndarray, bleed: int) -> np.ndarray:
    """The picture or mask with so many pixels more beyond each edge, mirrored."""
    if not bleed:
        return pixels
    return np.pad(pixels, [(bleed, bleed)] * 2 + [(0, 0)] * (pixels.ndim - 2), "symmetric")


def target_size(height: int, width: int, settings: Settings) -> tuple[int, int]:
    """Height and width of the result for a content of `height` by `width`.

    Raises `UsageError` if a side would be under `SMALLEST_SIDE`.
    """
    if settings.width is not None and settings.height is not None:
        return settings.height, settings.width
    if settings.width is not None:
        name, value, side = "width", settings.width, width
    elif settings.height is not None:
        name, value, side = "height", settings.height, height
    else:
        name, value, side = "size", settings.size, max(height, width)
    wanted = side if value is None else value
    result = max(1, _divide(height * wanted, side)), max(1, _divide(width * wanted, side))
    if min(result) < SMALLEST_SIDE:
        # The first whole value for which the short side rounds up to SMALLEST_SIDE.
        smallest = -(-(2 * SMALLEST_SIDE - 1) * side // (2 * min(height, width)))
        smallest = max(smallest, SMALLEST_SIDE)
        cause = ["the content"] if value is None else [SettingName(name), f" {value}"]
        advice = [": use ", SettingName(name), f" {smallest} or more"]
        raise UsageError(*cause, _too_small(*result), *advice)
    return result


def style_size(
    style_height: int, style_width: int, content_width: int, scale: float | None = None
) -> tuple[int, int]:
    """Height and width of a style that is `scale` times as wide as the content; without a scale as
    wide, but above `ALWAYS_AS_WIDE` no more than `MOST_ENLARGED` times as wide as it is.

    Raises `UsageError` if a side would be under `SMALLEST_SIDE`.
    """
    if scale is None:
        widest = max(MOST_ENLARGED * style_width, ALWAYS_AS_WIDE)
        scale = min(1.0, widest / content_width)
    scaled_width = scale * content_width
    scaled_height = scaled_width * style_height / style_width
    result = max(1, _round(scaled_height)), max(1, _round(scaled_width))
    if min(result) < SMALLEST_SIDE:
        short_per_scale = min(1, style_height / style_width) * content_width
        smallest = _round_up((SMALLEST_SIDE - 0.5) / short_per_scale)
        scales = SettingName("style_scales")
        advice = [": use ", scales, f" {smallest:g} or more"]
        raise UsageError(scales, f" {scale:g}", _too_small(*result), *advice)
    return result


def check_output(path: StrPath, overwrite: bool = False, make_folder: bool = False) -> None:
    """Raises `UserError` if `save` could not write to `path`; meant for before the run.

    make_folder: its folder need not be there, only the one above.
    """
    if not os.path.isdir(path):
        _format_of(path)
    files.check_writable(path, overwrite, make_folder)


def check_ending(path: StrPath) -> None:
    """Raises `UsageError` unless the ending of `path` names a format that `save` writes."""
    _format_of(path)


def check_output_size(path: StrPath, height: int, width: int) -> None:
    """Raises `UsageError` if the format of `path` cannot hold a picture of this size."""
    name = _format_of(path)
    longest = LONGEST_SIDES.get(name)
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
    alpha: [H, W] float, 0..1; JPEG and BMP do without. metadata: what JSON can hold; BMP does
    without. One input is one sequence of bytes. Raises `UsageError` for an unknown ending and
    `UserError` if the file cannot be written: then an old file is still what it was.
    """
    name = _format_of(path)
    if alpha is None or name in ("JPEG", "BMP"):
        samples = to_bytes(pixels)
    else:
        pixels = _off_white(pixels, alpha)
        samples = np.dstack([to_bytes(pixels), to_bytes(alpha * 255)])  # [H, W, 4]
    data = _encode(path, samples, _encoder_options(name, metadata))
    files.write(path, data)


def metadata(path: StrPath) -> dict[str, Any]:
    """The metadata that `save` put into a file; {} for a file from elsewhere.

    Raises `UserError` for a file that is no picture.
    """
    with _quiet_pillow(), _open_image(path) as image:
        try:
            software, text = _software_and_comment(image)
            found = json.loads(text)
        except _BROKEN:  # whatever another program has put there
            return {}
    ours = str(software).startswith("neural-style ") and isinstance(found, dict)
    return found if ours else {}


# Reading

# What Pillow's decoders raise for a file that is broken: SyntaxError for a bad chunk, the others
# wherever a number in the file leads them astray.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
)

# How a mode is decoded where its own samples would mean nothing to us. A palette may hold alpha.
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

# EXIF 2.32, tag 0x0112: where row 0 and column 0 lie; each entry turns the picture upright.
_UPRIGHT = {
    2: lambda samples: samples[:, ::-1],
    3: lambda samples: samples[::-1, ::-1],
    4: lambda samples: samples[::-1],
    5: lambda samples: samples.swapaxes(0, 1),
    6: lambda samples: samples.swapaxes(0, 1)[:, ::-1],
    7: lambda samples: samples.swapaxes(0, 1)[::-1, ::-1],
    8: lambda samples: samples.swapaxes(0, 1)[::-1],
}

# Pillow's limits are global: two threads at once would restore each other's.
_pillow_lock = threading.Lock()


class _Decoded(NamedTuple):
    samples: np.ndarray  # [H, W] or [H, W, channels], upright, in the dtype of the file
    mode: str  # Pillow's name for what the channels mean
    profile: bytes | None  # ICC
    key: int | None  # the grey level that means "transparent"


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow without its own size limit (ours is told from the header), warnings and log."""
    logger = logging.getLogger("PIL")
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, level = Image.MAX_IMAGE_PIXELS, logger.level
        Image.MAX_IMAGE_PIXELS = None
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            logger.setLevel(level)


@contextlib.contextmanager
def _open_image(path: StrPath) -> Iterator[Image.Image]:
    """The header of a picture, or a `UserError`.

    Pillow itself, since imageio's plugin for it fails where a picture has broken EXIF, and, before
    Pillow 13, for a BMP with a palette; its `rotate` mirrors the channels of what had a palette.
    """
    with files.open_to_read(path) as file:
        try:
            image = Image.open(file, formats=READABLE)
        except _BROKEN as error:
            raise UserError(
                f"{path} is not a picture, or a broken one: "
                "give a JPEG, PNG, WebP, TIFF, BMP or GIF file"
            ) from error
        with image:
            yield image


def _check_megapixels(path: StrPath, image: Image.Image, max_megapixels: float) -> None:
    """Raises `UserError` if the header tells of more; decodes nothing."""
    megapixels = image.height * image.width / 1e6
    if megapixels > max_megapixels:
        raise UserError(
            f"{path} has {megapixels:.1f} megapixels, more than {max_megapixels:g}: "
            "shrink it, or raise --max-megapixels"
        )


def _decode(path: StrPath, image: Image.Image) -> _Decoded:
    """The first picture of a file as it is stored, but upright."""
    try:
        image.load()
        mode, key = image.mode, image.info.get("transparency")
        decoded_as = _DECODED_AS.get(mode, mode)
        if key is not None:
            decoded_as = _DECODED_WITH_KEY_AS.get(mode, decoded_as)
        samples = np.asarray(image if decoded_as == mode else image.convert(decoded_as))
    except _BROKEN as error:
        raise UserError(
            f"{path} is broken or cut short ({files.reason(error)}): get a fresh copy"
        ) from error
    return _Decoded(_upright(samples, image), decoded_as, image.info.get("icc_profile"), key)


def _upright(samples: np.ndarray, image: Image.Image) -> np.ndarray:
    """Turned as EXIF says; asked after decoding, since Pillow turns a TIFF itself as it decodes."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        return samples
    turn = _UPRIGHT.get(orientation)
    return samples if turn is None else turn(samples)


def _split_alpha(decoded: _Decoded) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours: [H, W] float32 grey 0..255, [H, W, 3] uint8 RGB or [H, W, 4] uint8 CMYK; and alpha:
    [H, W] float32, 0..1, or None."""
    samples = decoded.samples
    if decoded.mode in ("LA", "RGBA"):
        alpha = samples[..., -1].astype(np.float32) / 255
        return (_levels(samples[..., 0]) if decoded.mode == "LA" else samples[..., :3]), alpha
    if samples.ndim == 3:
        return samples, None
    alpha = None if decoded.key is None else (samples != decoded.key).astype(np.float32)
    return _levels(samples), alpha


def _levels(samples: np.ndarray) -> np.ndarray:
    """Grey samples of any type as float32, 0..255. 16 bits keep their fractions."""
    if samples.dtype == np.uint8:
        return samples.astype(np.float32)
    white = 65_535
    if samples.dtype == np.float32:
        samples = np.nan_to_num(samples)
        # A file does not say which white its fractions have: 1, 255 or 65,535.
        white = next((white for white in (1, 255) if samples.max() <= white), white)
    elif samples.dtype == np.int32 and (samples.min() < 0 or samples.max() > white):
        samples, white = samples.view(np.uint32), 2**32 - 1  # Pillow gives them a sign
    return np.clip(samples * (255 / white), 0, 255).astype(np.float32)


def _to_srgb(colors: np.ndarray, profile: bytes | None) -> np.ndarray:
    """[H, W, 3] float32 sRGB, 0..255, from what `_split_alpha` calls colours."""
    if colors.ndim == 2:
        curve = _grey_curve(profile)
        grey = colors if curve is None else np.interp(colors, np.arange(256), curve)
        return np.repeat(grey.astype(np.float32)[..., np.newaxis], 3, axis=-1)
    mode = "RGB" if colors.shape[-1] == 3 else "CMYK"
    height, width = colors.shape[:2]
    image = Image.frombytes(mode, (width, height), colors.tobytes())
    return np.asarray(_through_profile(image, profile) or image.convert("RGB"), dtype=np.float32)


def _grey_curve(profile: bytes | None) -> np.ndarray | None:
    """The sRGB level of each of 256 grey levels; a curve keeps the fractions of 16 bits."""
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    converted = _through_profile(ramp, profile)
    if converted is None:  # a grey picture may carry the profile of its coloured siblings
        converted = _through_profile(ramp.convert("RGB"), profile)
    return None if converted is None else np.asarray(converted, dtype=np.float32)[0, :, 1]


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """The picture in sRGB; None if there is no profile, a broken one or one for other channels."""
    if not profile or (image.mode == "RGB" and profile == _srgb_profile()):
        return None
    from PIL import ImageCms  # late: a picture without a profile needs no colour management

    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if image.mode == "L":
        # The shortcut of Little CMS is 9 levels off in the dark of a linear grey profile; one row
        # of grey can do without. For colours it is right, and four times as fast.
        flags |= ImageCms.Flags.NOOPTIMIZE
    try:
        return ImageCms.profileToProfile(
            image,
            ImageCms.getOpenProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=flags,
        )
    except ImageCms.PyCMSError:
        return None


@functools.cache
def _srgb_profile() -> bytes:
    """The ICC profile of what we write."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2022, 7.2: bytes 24 to 35 are the moment of making. It is fixed, so that one picture
    # is one file: the first of January 2000.
    profile[24:36] = b"".join(number.to_bytes(2, "big") for number in (2000, 1, 1, 0, 0, 0))
    return bytes(profile)


def _over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = alpha[..., np.newaxis]
    return pixels * alpha + 255 * (1 - alpha)


# Sizes and colours


def _resize_channel(channel: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(channel, dtype=np.float32))  # mode F
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def _divide(dividend: int, divisor: int) -> int:
    """The nearest whole quotient, halves up; exact."""
    return (2 * dividend + divisor) // (2 * divisor)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _round_up(value: float) -> float:
    """The next number with three digits: short to type, and still enough."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


def _too_small(height: int, width: int) -> str:
    return (
        f" makes a picture {width} wide and {height} high, but a side needs {SMALLEST_SIDE} pixels"
    )


# Writing


def _format_of(path: StrPath) -> str:
    """The format that the ending of `path` names, or a `UsageError` with the known endings."""
    suffix = Path(path).suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    *others, last = FORMATS
    known = f"end it in {', '.join(others)} or {last}"
    if not suffix:
        raise UsageError(f"{path} has no ending that names a format: {known}")
    raise UsageError(f"{path} has an unknown ending{nearest(suffix, list(FORMATS))}: {known}")


def _off_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The inverse of `_over_white`, so that edges do not pale each time a picture is saved."""
    alpha = alpha[..., np.newaxis]
    return np.where(alpha > 0, (pixels - 255 * (1 - alpha)) / np.where(alpha > 0, alpha, 1), pixels)


def _encode(path: StrPath, samples: np.ndarray, options: dict[str, Any]) -> bytes:
    """The file of a picture [H, W, 3 or 4] uint8, in the format that the ending of `path` names."""
    extension = Path(path).suffix.lower()
    with _pillow_lock:
        block = ImageFile.MAXBLOCK
        if options.get("optimize"):
            # libjpeg optimizes what fits one block, and Pillow's guess is too small for noise:
            # "broken data stream". A coefficient takes 27 bits at most, less than 4 bytes a sample.
            ImageFile.MAXBLOCK = max(block, 4 * samples.nbytes)
        try:
            return iio.imwrite(
                "<bytes>", samples, plugin="pillow", extension=extension, is_batch=False, **options
            )
        finally:
            ImageFile.MAXBLOCK = block


def _encoder_options(name: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """What Pillow's encoder of the format is told. 95 is the best quality that libjpeg's authors
    advise; 4:4:4 (subsampling 0) keeps the edges of saturated paint."""
    if name == "BMP":
        return {}
    options: dict[str, Any] = {"icc_profile": _srgb_profile()}
    if name == "JPEG":
        options |= {"quality": 95, "subsampling": 0, "optimize": True}
    elif name == "WebP":
        options |= {"quality": 95, "method": 4}
    elif name == "TIFF":
        options |= {"compression": "tiff_adobe_deflate"}
    if metadata is not None:
        options |= _metadata_options(name, json.dumps(metadata))
    return options


def _metadata_options(name: str, text: str) -> dict[str, Any]:
    """The text where each format has a place for it. JSON escapes what is not ASCII: no reader can
    garble that, not even a file name that is no valid Unicode."""
    if name == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Software", SOFTWARE)
        chunks.add_text("Comment", text)
        return {"pnginfo": chunks}
    if name == "TIFF":
        tags = {ExifTags.Base.ImageDescription: text, ExifTags.Base.Software: SOFTWARE}
        return {"tiffinfo": tags}
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = SOFTWARE
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: _ASCII + text.encode("ascii")}
    # A JPEG segment holds 64 KiB: the picture is worth more than a longer list of its settings.
    return {"exif": exif} if len(exif.tobytes()) < 65_000 else {}


_ASCII = b"ASCII\0\0\0"  # EXIF 2.32, UserComment: the 8 bytes that name its character code


def _software_and_comment(image: Image.Image) -> tuple[Any, Any]:
    """What `_metadata_options` wrote, or None in its place. Decodes no pixels."""
    if image.format == "PNG":  # asked for EXIF, Pillow would decode it
        return image.info.get("Software"), image.info.get("Comment")
    exif = image.getexif()
    if image.format == "TIFF":
        comment = exif.get(ExifTags.Base.ImageDescription)
    else:
        comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
        comment = comment[len(_ASCII) :]
    return exif.get(ExifTags.Base.Software), comment
