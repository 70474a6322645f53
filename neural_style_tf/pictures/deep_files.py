"""Deep files: samples of 8 or 16 bits -> the bytes of a PNG or TIFF, which Pillow writes with 8.

Everything but the pixels is still Pillow's: the chunks of a PNG, and the directory of a TIFF.
PNG, third edition; TIFF 6.0.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from neural_style_tf.errors import UserError

_LEVEL = 6  # of zlib
_PART_BYTES = 1 << 22  # of a picture, filtered at a time
_MOST_TIFF_BYTES = 2**32 - 1
_BASE = ExifTags.Base
_DEFLATE, _HORIZONTAL, _RGB, _UNASSOCIATED = 8, 2, 2, 2  # values of TIFF's tags
_PAETH = 4
# In the place of the strips' offsets: Pillow would add where the directory ends to these, since it
# writes the pixels behind it.
_OFFSETS = 275  # between 273, their own, and 277: no tag has it


def png(samples: np.ndarray, options: dict[str, Any]) -> bytes:
    """The bytes of a PNG. samples: [H, W, 3 or 4] uint16. options: as Pillow's encoder has them."""
    height, width, channels = samples.shape
    pixel = io.BytesIO()
    Image.new("RGB" if channels == 3 else "RGBA", (1, 1)).save(pixel, "PNG", **options)
    result = io.BytesIO()
    result.write(pixel.getvalue()[:8])
    for name, content in _chunks(pixel.getvalue()):
        if name == b"IHDR":
            content = struct.pack(">II", width, height) + bytes([16]) + content[9:]
        parts = _compressed(samples) if name == b"IDAT" else [content]
        for part in parts:
            result.write(struct.pack(">I4s", len(part), name) + part)
            result.write(struct.pack(">I", zlib.crc32(part, zlib.crc32(name))))
    return result.getvalue()


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and content of each chunk of a PNG."""
    position = 8
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, data[position + 8 : position + 8 + length]
        position += length + 12


def _compressed(samples: np.ndarray) -> Iterator[bytes]:
    """The contents of the chunks of pixels. 9.2 and 9.4: every byte minus what Paeth's predictor
    makes of those left, above and left above."""
    width, channels = samples.shape[1:]
    pack, size = zlib.compressobj(_LEVEL), 2 * channels
    above = np.zeros((1, width + 1, size), np.int16)
    for part in _parts(samples):
        rows = samples[part].astype(">u2").view(np.uint8).reshape(-1, width, size)
        padded = np.pad(rows.astype(np.int16), [(0, 0), (1, 0), (0, 0)])
        before = np.concatenate([above, padded[:-1]])
        filtered = (padded - _paeth(padded, before))[:, 1:].astype(np.uint8)
        lines = filtered.reshape(len(rows), -1)
        kinds = np.full((len(rows), 1), _PAETH, np.uint8)
        yield pack.compress(np.concatenate([kinds, lines], 1).tobytes())
        above = padded[-1:]
    yield pack.flush()


def _paeth(rows: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The prediction of each byte but those of the first column. [r, 1 + W, size] int16."""
    left, up, corner = rows[:, :-1], above[:, 1:], above[:, :-1]
    away_left, away_up = np.abs(up - corner), np.abs(left - corner)
    away_corner = np.abs(left + up - 2 * corner)
    nearest = np.where(away_up <= away_corner, up, corner)
    is_left = (away_left <= away_up) & (away_left <= away_corner)
    result = np.zeros_like(rows)
    result[:, 1:] = np.where(is_left, left, nearest)
    return result


def tiff(samples: np.ndarray, tags: dict[int, Any]) -> bytes:
    """The bytes of a TIFF, compressed without loss. samples: [H, W, 3 or 4] uint8 or uint16. tags:
    others than those of the pixels, in a dictionary each for EXIF and GPS. Raises `UserError` for
    more than a TIFF holds."""
    height, width, channels = samples.shape
    strips = [_strip(samples[part]) for part in _parts(samples)]
    offsets = np.cumsum([8, *map(len, strips)]).tolist()
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    values: dict[int, Any] = {
        **tags,
        _BASE.ImageWidth: width,
        _BASE.ImageLength: height,
        _BASE.BitsPerSample: (8 * samples.dtype.itemsize,) * channels,
        _BASE.Compression: _DEFLATE,
        _BASE.PhotometricInterpretation: _RGB,
        _OFFSETS: tuple(offsets[:-1]),
        _BASE.SamplesPerPixel: channels,
        _BASE.RowsPerStrip: _rows(samples),
        _BASE.StripByteCounts: tuple(map(len, strips)),
        _BASE.PlanarConfiguration: 1,
        _BASE.Predictor: _HORIZONTAL,
        **({_BASE.ExtraSamples: _UNASSOCIATED} if channels == 4 else {}),
    }
    directory.tagtype[_OFFSETS] = TiffTags.LONG
    for tag, value in values.items():
        directory[tag] = value
    end = offsets[-1] + offsets[-1] % 2
    _check_length(end)  # before numbers that 32 bits do not hold are packed
    listed = directory.tobytes(end)
    _check_length(end + len(listed))
    entry = 2 + 12 * sorted(values).index(_OFFSETS)  # 12 bytes each, sorted by tag
    listed = listed[:entry] + struct.pack("<H", _BASE.StripOffsets) + listed[entry + 2 :]
    header = struct.pack("<2sHI", b"II", 42, end)
    return b"".join([header, *strips, bytes(end - offsets[-1]), listed])


def _check_length(length: int) -> None:
    if length > _MOST_TIFF_BYTES:
        raise UserError(
            f"a TIFF holds 4 GB, and the picture takes {length / 1e9:.1f}: end its name in .png"
        )


def _strip(samples: np.ndarray) -> bytes:
    """Section 14: every sample minus the one before it in its row and channel."""
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    little = differences.astype(differences.dtype.newbyteorder("<"))
    return zlib.compress(little.tobytes(), _LEVEL)


def _rows(samples: np.ndarray) -> int:
    return min(len(samples), max(1, _PART_BYTES // samples[0].nbytes))


def _parts(samples: np.ndarray) -> Iterator[slice]:
    rows = _rows(samples)
    for top in range(0, len(samples), rows):
        yield slice(top, top + rows)
