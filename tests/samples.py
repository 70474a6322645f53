"""Samples: small pictures and files of every kind, for tests of pictures."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import reading

HEIGHT, WIDTH = 40, 56


ENDINGS = [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"]


METADATA = {
    "content": "Müllers Katze.jpg",
    "styles": ["神奈川沖浪裏.png", "né à \udcff"],
    "size": None,
    "tv_weight": 0.5,
}


def picture(height=HEIGHT, width=WIDTH):
    """[height, width, 3] uint8: a smooth slope of its own in each channel."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = (rows * 255 / height, columns * 255 / width, 255 - rows * 200 / height)
    return np.stack(channels, axis=-1).astype(np.uint8)


def grey_picture():
    return picture()[..., 1]


def noise(height=HEIGHT, width=WIDTH, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def stacked(grey):
    """A grey picture [H, W] as `read` returns it."""
    return np.repeat(np.asarray(grey, dtype=np.float32)[..., np.newaxis], 3, axis=-1)


def write(path, samples, mode=None, **options):
    image = samples if isinstance(samples, Image.Image) else Image.fromarray(samples)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def pixels_of(path, **options):
    """The pixels of an opaque file, [H, W, 3] float32, which is checked."""
    pixels, alpha = reading.read(path, **options)
    assert alpha is None
    assert pixels.dtype == np.float32
    assert pixels.ndim == 3 and pixels.shape[2] == 3
    return pixels


def png(bits, color_type, rows, height, width, transparent=None, more=()):
    """The bytes of a PNG of any kind, also of those that Pillow cannot write. more: chunks, each
    its name and content."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)), *more]
    if transparent is not None:
        chunks.append((b"tRNS", transparent))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def png_of(samples, *more, **options):
    """The bytes of a PNG with these samples: [H, W, 1 to 4], uint8 or uint16."""
    height, width, channels = samples.shape
    bits, color_type = 8 * samples.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    big = samples.astype(samples.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big)
    return png(bits, color_type, rows, height, width, more=more, **options)


def deep_noise(channels=3, seed=0):
    """[H, W, channels] uint16: every bit of it counts."""
    random = np.random.default_rng(seed)
    return random.integers(0, 65_536, (HEIGHT, WIDTH, channels), dtype=np.uint16)


UNASSOCIATED = {338: 2}  # the sample after the colours is alpha


def tiff_of(samples, order="<", compression=1, planes=False, more=None):
    """The bytes of a TIFF with these samples, [H, W, C], in one strip, or in one per channel.
    more: tags of one short number each."""
    height, width, channels = samples.shape
    data = samples.astype(samples.dtype.newbyteorder(order))
    strips = [data.tobytes()]
    if planes:
        strips = [data[..., channel].tobytes() for channel in range(channels)]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    offsets = np.cumsum([8, *map(len, strips)]).tolist()
    end = offsets[-1] + offsets[-1] % 2
    kinds = {2: "H", 4: "I"}
    bits, form = 8 * samples.dtype.itemsize, {"f": 3, "u": 1}[samples.dtype.kind]
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [compression]),
        262: (3, [2 if channels > 2 else 1]),
        273: (4, offsets[:-1]),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [*map(len, strips)]),
        284: (3, [2 if planes else 1]),
        339: (3, [form] * channels),
        **{tag: (3, [value]) for tag, value in (more or {}).items()},
    }
    entries, behind, place = b"", b"", end + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{kinds[{3: 2, 4: 4}[kind]]}", *values)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values))
        if len(content) > 4:
            entries += struct.pack(f"{order}I", place + len(behind))
            behind += content
        else:
            entries += content.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, end)
    body = b"".join(strips).ljust(end - 8, b"\0")
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind


def error_of(call, *arguments, kind=UserError, **options):
    """The message of the error that a call ends in, which is a single line."""
    with pytest.raises(kind) as raised:
        call(*arguments, **options)
    assert raised.type is kind
    message = str(raised.value)
    assert "\n" not in message
    return message


def rgba_picture():
    """Colours with an alpha of 0, soft and 1; and the same over white."""
    alpha = np.linspace(-0.2, 1.2, WIDTH).clip(0, 1) * np.ones((HEIGHT, 1))
    samples = np.dstack([noise(), np.rint(alpha * 255)]).astype(np.uint8)
    share = samples[..., 3:] / 255
    return samples, samples[..., :3] * share + 255 * (1 - share)


# Colorants adapted to D50, a column each: Display P3, as Apple writes it, and sRGB.
P3 = np.array(
    [(0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407)]
)


def number(value):
    return struct.pack(">i", round(value * 65_536))  # s15Fixed16Number


def gamma_curve(gamma):
    return b"curv" + struct.pack(">IIHxx", 0, 1, round(gamma * 256))


def xyz(values):
    return b"XYZ " + bytes(4) + b"".join(number(value) for value in values)


def icc(device_class, space, connection, tags):
    """The bytes of an ICC profile, version 2.4."""
    tags = {b"wtpt": xyz((0.9642, 1, 0.8249)), **tags}
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, offset + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">II", offset + len(data), 0) + bytes((2, 0x40, 0, 0))
    header += device_class + space + connection + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp"
    header = header.ljust(68, b"\0") + xyz((0.9642, 1, 0.8249))[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def p3_profile():
    colorants = {name: xyz(P3[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_curve(2.2))
    return icc(b"mntr", b"RGB ", b"XYZ ", colorants | curves)
