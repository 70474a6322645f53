"""Sheet: small pictures in rows and columns -> one picture of them all. Reads no files."""

import contextlib
import functools
import io
import itertools
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

LONGEST_SIDE = 256  # pixels, of a field
MEGAPIXELS = 32  # of four bytes each, in Pillow
SHEET_SIDE = 65_500  # pixels: JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h
NAME_WIDTH = 180  # pixels, of a row's name, at most
FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")  # Pillow's own lacks most alphabets
PAPER, GREY, INK, FAINT = "#f6f5f2", "#d8d5ce", "#222222", "#777777"

# JPEG or PNG files to be shown side by side; None for one that failed. May be empty.
Field = Sequence[bytes | None]


def draw(
    columns: Sequence[tuple[str, Field]],
    rows: Sequence[tuple[str, Field]],
    fields: Sequence[Sequence[Field]],
) -> Image.Image:
    """The columns' own fields, then the rows: each its own field and those of the columns. Names
    are above the columns and beside the rows.

    A row is as high as its own field. No picture grows or is stretched; all shrink where a JPEG
    file or the memory would not hold the sheet.
    """
    side = _side(1 + len(rows), 1 + len(columns))
    gap, font = _gap(side), _font(side)
    heads = [_joined(field, side, side) for _, field in columns]
    firsts = [_joined(field, side, side) for _, field in rows]
    names = [_shortened(name, NAME_WIDTH, font) for name, _ in rows]

    left = math.ceil(max(map(font.getlength, names), default=0)) + 3 * gap
    top = sum(font.getmetrics()) + 3 * gap
    head = max((picture.height for picture in heads), default=0)
    # columns and rows begin a gap further off than they are apart
    lefts = [left + gap + i * (side + gap) for i in range(1, 1 + len(columns))]
    steps = (first.height + gap for first in firsts)
    *tops, bottom = itertools.accumulate(steps, initial=top + head + 2 * gap)

    sheet = Image.new("RGB", (max([left, *lefts]) + side + 2 * gap, bottom + gap), PAPER)
    pen = ImageDraw.Draw(sheet)
    for (full_name, _), picture, x in zip(columns, heads, lefts, strict=True):
        name = _shortened(full_name, side - 2 * gap, font)
        pen.text((x + side / 2, 2 * gap), name, INK, font, anchor="ma")
        _put(picture, sheet, top, x, head, side)
    for name, first, row, y in zip(names, firsts, fields, tops, strict=True):
        pen.text((left - gap, y + first.height / 2), name, INK, font, anchor="rm")
        _put(first, sheet, y, left, first.height, side)
        for field, x in zip(row, lefts, strict=True):
            _put(_joined(field, first.height, side), sheet, y, x, first.height, side)
    return sheet


def _side(rows: int, columns: int) -> int:
    """The side of a field, so that the sheet is not too large."""
    pitch = math.isqrt(MEGAPIXELS * 1_000_000 // (rows * columns))
    pitch = min(pitch, (SHEET_SIDE - 2 * NAME_WIDTH) // max(rows, columns))
    return max(1, min(LONGEST_SIDE, pitch - _gap(pitch)))


def _gap(side: int) -> int:
    return max(1, min(side, LONGEST_SIDE) // 25)


def _joined(field: Field, height: int, width: int) -> Image.Image:
    """The pictures of a field, in so much room."""
    if not field:
        return Image.new("RGB", (0, 0))
    pictures = [
        Image.open(io.BytesIO(one), formats=["JPEG", "PNG"]) if one else _failed(height, width)
        for one in field
    ]
    gap = _gap(width)
    room = max(1, width - gap * (len(pictures) - 1))
    total, highest = sum(one.width for one in pictures), max(one.height for one in pictures)
    scale = min(1, room / total, height / highest)
    pictures = [one.resize([max(1, round(scale * x)) for x in one.size]) for one in pictures]
    lefts = list(itertools.accumulate((one.width + gap for one in pictures), initial=0))
    joined = Image.new("RGB", (lefts[-1] - gap, max(one.height for one in pictures)), PAPER)
    for one, left in zip(pictures, lefts, strict=False):
        joined.paste(one, (left, (joined.height - one.height) // 2))
    return joined


def _put(
    picture: Image.Image, sheet: Image.Image, top: int, left: int, height: int, width: int
) -> None:
    """Amid a field of the sheet."""
    place = (left + (width - picture.width) // 2, top + (height - picture.height) // 2)
    sheet.paste(picture, place)


def _failed(height: int, width: int) -> Image.Image:
    """The word on grey."""
    field, font = Image.new("RGB", (width, height), GREY), _font(width)
    text = _shortened("failed", width, font)
    ImageDraw.Draw(field).text((width / 2, height / 2), text, FAINT, font, anchor="mm")
    return field


@functools.cache
def _font(side: int) -> ImageFont.FreeTypeFont:
    """For fields of such a side."""
    size = min(14, max(9, side // 14))
    for name in FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """With dots for its middle, where it would be wider than so many pixels."""
    shown, kept = text, len(text)
    while kept and font.getlength(shown) > width:
        kept -= 1
        shown = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
    return shown
