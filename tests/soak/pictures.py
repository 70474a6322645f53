"""Pictures: damaged and hostile files -> every reader of pictures, each within time and memory."""

import functools
import io
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, features
from samples import deep_noise, p3_profile, png_of, tiff_of

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import formats, metadata, opening, reading, writing
from soak import limits
from soak.engine import Soak

WANTED = 60_000
TOGETHER = 200  # attempts per process
SIDE = 64  # pixels of the size that is read
LONGEST = 1_000_000  # bytes of a file
SMALL = 1_000_000  # pixels; smaller pictures are also read whole
EDGES = (0, 1, 2, 3, 7, 8, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 2**31, 2**32 - 1)

Reader = Callable[[Path, reading.SizeOf | None], np.ndarray]
Mutation = Callable[[random.Random, bytes], bytes]


def soak(soak: Soak) -> None:
    while soak.wants_more():
        made = [(soak.random.choice(READERS), *mutated(soak.random)) for _ in range(TOGETHER)]
        for failure in limits.failures(made, functools.partial(read_with, soak.folder)):
            _, ending, data = made[failure.number]
            soak.fail(failure.kind, failure.message, data, ending)
        soak.count(TOGETHER)


def replay(path: Path) -> str | None:
    attempts = [(reader, path.suffix, path.read_bytes()) for reader in READERS]
    with tempfile.TemporaryDirectory() as folder:
        failures = [*limits.failures(attempts, functools.partial(read_with, Path(folder)))]
    return failures[0].message if failures else None


def read_with(folder: Path, attempt: tuple[Reader, str, bytes]) -> None:
    """Raises an error unless the reader, `size` and `metadata` return something, or one line."""
    reader, ending, data = attempt
    path = folder / f"attempt{ending}"
    path.write_bytes(data)

    def size_of(height: int, width: int) -> tuple[int, int]:
        scale = min(1, SIDE / max(height, width))
        return max(1, round(scale * height)), max(1, round(scale * width))

    outcome(lambda: metadata.read(path))
    size = outcome(lambda: reading.size(path))
    pixels = outcome(lambda: reader(path, size_of))
    if pixels is not None:
        assert pixels.shape[:2] == size_of(*size)
        assert np.isfinite(pixels).all()
    if size is not None and size[0] * size[1] <= SMALL:
        whole = outcome(lambda: reader(path, None))
        assert whole is None or whole.shape[:2] == size


def pixels_of(path: Path, size_of: reading.SizeOf | None) -> np.ndarray:
    return reading.read(path, size_of=size_of).pixels


def mask_of(path: Path, size_of: reading.SizeOf | None) -> np.ndarray:
    return reading.read_mask(path, size_of=size_of)


READERS: tuple[Reader, ...] = (pixels_of, mask_of)


def outcome(call: Callable[[], object]) -> object:
    """What a call returns, or None if it raises a one-line message for the user."""
    try:
        return call()
    except UserError as error:
        assert "\n" not in str(error), str(error)
        return None


# The pictures that are mutated


@functools.cache
def originals() -> list[tuple[str, bytes]]:
    """Small files of every format and mode, with their endings."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (24, 36, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65_536, (24, 36), np.uint16))
    soft = noise.copy()
    soft.putalpha(noise.getchannel("G"))
    frames = {"save_all": True, "append_images": [noise.rotate(90), noise.rotate(180)]}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "Another program"
    rich = {"icc_profile": profile, "exif": exif}
    files = [
        *[saved(noise.convert(mode), "PNG") for mode in ("1", "L", "P", "RGB")],
        *[saved(soft.convert(mode), "PNG") for mode in ("LA", "RGBA")],
        *[saved(soft, "PNG", **rich), saved(deep, "PNG", **rich), saved(noise, "PNG", **frames)],
        *[saved(noise, "PNG", pnginfo=texts()), saved(noise, "PNG", transparency=(1, 2, 3))],
        *[(".png", png_of(deep_noise(channels), *COLOR_CHUNKS)) for channels in (2, 3, 4)],
        (".png", png_of(deep_noise(3), (b"iCCP", b"p\0\0" + zlib.compress(p3_profile())))),
        *[(".tif", deep_tiff(order, *rest)) for order in "<>" for rest in ((1,), (8,), (1, True))],
        *[saved(image, "AVIF", **rich) for image in (noise, soft) if features.check("avif")],
        *[(".png", interlaced(depth, kind)) for depth, kind in ((8, 2), (16, 6), (1, 0), (4, 0))],
        *[saved(noise.convert(mode), "JPEG", **rich) for mode in ("L", "RGB", "CMYK")],
        *[saved(noise, "JPEG", progressive=True, comment=b"comment"), saved(noise, "JPEG")],
        *[saved(soft, "WEBP", lossless=lossless, **rich) for lossless in (False, True)],
        *[saved(noise, "WEBP"), saved(noise, "WEBP", **frames)],
        *[saved(noise, "TIFF", compression=name, **rich) for name in TIFF_COMPRESSIONS],
        *[saved(noise, "TIFF", **frames), saved(deep, "TIFF"), saved(soft, "TIFF")],
        *[saved(noise.convert(mode), "TIFF") for mode in ("1", "L", "P", "CMYK", "I", "F", "LAB")],
        *[saved(noise, "TIFF", big_tiff=True), (".tif", tiled_tiff())],
        (".tif", tiff({273: 400, 278: 24, 279: 864}, bytes(864), ">")),
        *[saved(noise.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")],
        *[saved(soft, "BMP"), (".bmp", run_length_bmp())],
        *[saved(noise.convert("P"), "GIF", **frames), saved(noise.convert("L"), "GIF")],
        saved(noise.convert("P"), "GIF", transparency=3, interlace=1, comment=b"comment"),
        *[ours(ending) for ending in (".png", ".jpg", ".webp", ".tif")],
    ]
    return files


COLOR_CHUNKS = (
    (b"cICP", bytes((12, 13, 0, 1))),
    (b"gAMA", struct.pack(">I", 60_000)),
    (b"cHRM", struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)),
)
TIFF_COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")


def saved(image: Image.Image, name: str, **options: object) -> tuple[str, bytes]:
    data = io.BytesIO()
    image.save(data, name, **options)
    return {"TIFF": ".tif", "JPEG": ".jpg"}.get(name, f".{name.lower()}"), data.getvalue()


def ours(ending: str) -> tuple[str, bytes]:
    """A picture with metadata, long enough for several segments of a JPEG."""
    options = writing._encoder_options("out", formats.FORMATS[ending], {"styles": ["x"] * 20_000})
    return ending, writing._encode(f"out{ending}", np.zeros((16, 24, 3), np.uint8), options)


def deep_tiff(order: str, compression: int, planes: bool = False) -> bytes:
    return tiff_of(deep_noise(3), order, compression, planes)


def texts() -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Comment", "{" * 50)
    chunks.add_text("Software", "neural-style 1.0.0", zip=True)
    chunks.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    return chunks


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def interlaced(depth: int, kind: int) -> bytes:
    header = struct.pack(">IIBBBBB", 36, 24, depth, kind, 0, 0, 1)
    return png([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(20_000))), (b"IEND", b"")])


def tiff(entries: dict[int, int], data: bytes, order: str = "<") -> bytes:
    """A grey TIFF of 36x24 pixels, 8 bits each; its pixels begin at byte 400."""
    entries = {256: 36, 257: 24, 258: 8, 259: 1, 262: 1, **entries}
    table = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())
    )
    name = b"II" if order == "<" else b"MM"
    header = struct.pack(f"{order}2sHIH", name, 42, 8, len(entries))
    return (header + table).ljust(400, b"\0") + data


def tiled_tiff(height: int = 16, width: int = 16) -> bytes:
    """A deflated TIFF all of whose tiles are the same bytes."""
    data = zlib.compress(bytes(256))
    count = -(-24 // height) * -(-36 // width)
    offsets = struct.pack("<I", 400) * count + struct.pack("<I", len(data)) * count
    tags = {259: 8, 322: width, 323: height, 324: 400, 325: len(data)}
    file = bytearray(tiff(tags, data.ljust(100, b"\0") + offsets))
    if count > 1:
        for tag, place in ((324, 500), (325, 500 + 4 * count)):
            entry = file.index(struct.pack("<HH", tag, 4))
            file[entry + 4 : entry + 12] = struct.pack("<II", count, place)
    return bytes(file)


def run_length_bmp() -> bytes:
    rows = bytes((36, 7, 0, 0)) * 20 + bytes((0, 2, 5, 1, 0, 4, 1, 2, 3, 4, 0, 1))
    header = struct.pack("<IiiHHIIiiII", 40, 36, 24, 1, 8, 1, len(rows), 0, 0, 256, 0)
    palette = bytes(range(256)) * 4
    start = 14 + len(header) + len(palette)
    return struct.pack("<2sIII", b"BM", start + len(rows), 0, start) + header + palette + rows


# Mutations


def mutated(rng: random.Random) -> tuple[str, bytes]:
    ending, data = rng.choice(originals())
    if rng.random() < 0.1:
        return with_mutated_part(rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        known = STRUCTURES.get(ending, numbers)
        data = (known if rng.random() < 0.6 else rng.choice(ANYWHERE))(rng, data)
    return ending, data[:LONGEST]


def noise(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(changed)


def numbers(rng: random.Random, data: bytes) -> bytes:
    """A number replaced somewhere, most often near the beginning."""
    if len(data) < 8:
        return data
    kind = rng.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    place = rng.randrange(min(len(data) - 4, rng.choice((64, 256, len(data)))))
    number = rng.choice(EDGES) % 256**size
    return data[:place] + struct.pack(kind, number) + data[place + size :]


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def moved(rng: random.Random, data: bytes) -> bytes:
    """A piece of the file removed, repeated or moved."""
    first, last, place = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    piece = data[first:last] * rng.choice((0, 1, 2, 50))
    return data[:first] + data[last:place] + piece + data[place:]


def spliced(rng: random.Random, data: bytes) -> bytes:
    other = rng.choice(originals())[1]
    return cut(rng, data) + other[rng.randrange(len(other)) :]


ANYWHERE: tuple[Mutation, ...] = (noise, numbers, cut, moved, spliced)


def shuffled(rng: random.Random, parts: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Named parts with one of them changed, repeated, moved or removed."""
    parts = list(parts)
    if not parts:
        return parts
    place = rng.randrange(len(parts))
    name, data = parts.pop(place)
    what = rng.randrange(6)
    if what == 0:
        return parts
    if what == 1:
        parts[place:place] = [(name, data)] * rng.choice((2, 3, 300))
    elif what == 2:
        parts.insert(rng.randrange(len(parts) + 1), (name, data))
    elif what == 3 and parts:
        parts.insert(place, (rng.choice(parts)[0], data))
    else:
        parts.insert(place, (name, rng.choice((noise, numbers, cut, moved))(rng, data)))
    return parts


def chunks_of(data: bytes, order: str) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG (">", after its signature) or a RIFF file ("<")."""
    chunks, place = [], 8 if order == ">" else 12
    while place + 8 <= len(data):
        if order == ">":
            length, name = struct.unpack(">I4s", data[place : place + 8])
            step = length + 12
        else:
            name, length = struct.unpack("<4sI", data[place : place + 8])
            step = length + length % 2 + 8
        chunks.append((name, data[place + 8 : place + 8 + length]))
        place += step
    return chunks


def png_structure(rng: random.Random, data: bytes) -> bytes:
    """Its CRCs are right: Pillow goes on to what the chunks hold."""
    chunks = shuffled(rng, chunks_of(data, ">"))
    if rng.random() < 0.3:
        bomb = zlib.compress(bytes(rng.choice((10_000, 3_000_000))))
        name = rng.choice(
            (b"zTXtComment\0\0", b"iCCPicc\0\0", b"iTXtComment\0\1\0\0\0", b"eXIfII*\0")
        )
        chunks.insert(rng.randrange(len(chunks) + 1), (name[:4], name[4:] + bomb))
    return png(chunks)


def webp_structure(rng: random.Random, data: bytes) -> bytes:
    chunks = shuffled(rng, chunks_of(data, "<"))
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def jpeg_structure(rng: random.Random, data: bytes) -> bytes:
    segments, last = [], 2
    for _, start, end in opening.jpeg_segments(data):
        segments.append((data[last:start], data[start:end]))
        last = end
    rest = data[last:]
    made = b"".join(
        name[:-2] + struct.pack(">H", (len(content) + 2) % 65_536) + content
        for name, content in shuffled(rng, segments)
    )
    return data[:2] + made + rest


def tiff_structure(rng: random.Random, data: bytes) -> bytes:
    """Another tag, type, count or value in one entry of its first directory."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 10:
        return data
    place = struct.unpack(f"{order}I", data[4:8])[0]
    if place + 2 > len(data):
        return noise(rng, data)
    count = struct.unpack(f"{order}H", data[place : place + 2])[0]
    entry = place + 2 + 12 * rng.randrange(max(1, min(count, 200)))
    if entry + 12 > len(data):
        return noise(rng, data)
    at, kind = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
    number = rng.choice((*EDGES, *range(254, 340), len(data)))
    packed = struct.pack(order + kind, number % (65_536 if kind == "H" else 2**32))
    return data[: entry + at] + packed + data[entry + at + len(packed) :]


STRUCTURES: dict[str, Mutation] = {
    ".png": png_structure,
    ".webp": webp_structure,
    ".jpg": jpeg_structure,
    ".tif": tiff_structure,
}


def with_mutated_part(rng: random.Random) -> tuple[str, bytes]:
    """A valid picture with an invalid profile, EXIF block or size."""
    image = Image.new(rng.choice(("L", "RGB")), (36, 24), 77)
    name = rng.choice(("PNG", "JPEG", "WEBP", "TIFF"))
    if rng.random() < 0.02:
        side = rng.choice((1000, 5000, 14_000))
        height = rng.choice((1, 100, side))
        return saved(Image.new(rng.choice(("1", "L", "RGB")), (side, height)), "PNG")
    if rng.random() < 0.5 and name != "TIFF":
        exif = Image.Exif()
        exif[0x0112], exif[0x0131], exif[0x8769] = (
            6,
            "neural-style 1.0.0",
            {0x9286: b"ASCII\0\0\0{}"},
        )
        return saved(image, name, exif=rng.choice(ANYWHERE)(rng, exif.tobytes())[:60_000])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return saved(image, name, icc_profile=rng.choice((noise, numbers, moved))(rng, profile))
