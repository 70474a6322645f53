"""Contact sheet: small pictures in rows and columns -> one picture of them all. Reads no files."""

import contextlib
import functools
import io
import itertools
import math
from collections.abc import Sequence
from typing import cast

from PIL import Image, ImageDraw, ImageFont

LONGEST_SIDE = 256  # pixels of a field
MEGAPIXELS = 32  # of four bytes each, in Pillow
SHEET_SIDE = 65_500  # pixels: JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h
MAX_NAME_WIDTH = 180  # pixels of a row's name
FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")  # Pillow's own lacks most alphabets
PAPER, GREY, INK, FAINT = "#f6f5f2", "#d8d5ce", "#222222", "#777777"

# JPEG or PNG files that are shown side by side; None for a picture that failed. May be empty.
Field = Sequence[bytes | None]


def draw(
    columns: Sequence[tuple[str, Field]],
    rows: Sequence[tuple[str, Field]],
    fields: Sequence[Sequence[Field]],
) -> Image.Image:
    """The first row has the columns' own fields. Each other row has its own field and then one per
    column. Names are above the columns and beside the rows.

    A row is as high as its own field. No picture is enlarged or stretched; all are reduced if the
    sheet would be too large for a JPEG file or for memory.
    """
    side = _side(1 + len(rows), 1 + len(columns))
    gap, font = _gap(side), _font(side)
    heads = [_joined(field, side, side) for _, field in columns]
    firsts = [_joined(field, side, side) for _, field in rows]
    names = [_shortened(name, MAX_NAME_WIDTH, font) for name, _ in rows]

    left = math.ceil(max(map(font.getlength, names), default=0)) + 3 * gap
    top = sum(font.getmetrics()) + 3 * gap
    head = max((picture.height for picture in heads), default=0)
    # one gap more separates columns and rows from their own fields
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
    """The longest side of a field with which the sheet is not too large, in pixels."""
    pitch = math.isqrt(MEGAPIXELS * 1_000_000 // (rows * columns))
    pitch = min(pitch, (SHEET_SIDE - 2 * MAX_NAME_WIDTH) // max(rows, columns))
    return max(1, min(LONGEST_SIDE, pitch - _gap(pitch)))


def _gap(side: int) -> int:
    return max(1, min(side, LONGEST_SIDE) // 25)


def _joined(field: Field, height: int, width: int) -> Image.Image:
    """The pictures of a field side by side, reduced to this height and width if need be."""
    if not field:
        return Image.new("RGB", (0, 0))
    pictures = [
        Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) if data else _failed(height, width)
        for data in field
    ]
    gap = _gap(width)
    room = max(1, width - gap * (len(pictures) - 1))
    total = sum(picture.width for picture in pictures)
    scale = min(1, room / total, height / max(picture.height for picture in pictures))
    pictures = [
        picture.resize([max(1, round(scale * side)) for side in picture.size])
        for picture in pictures
    ]
    *lefts, end = itertools.accumulate((picture.width + gap for picture in pictures), initial=0)
    joined = Image.new("RGB", (end - gap, max(picture.height for picture in pictures)), PAPER)
    for picture, left in zip(pictures, lefts, strict=True):
        joined.paste(picture, (left, (joined.height - picture.height) // 2))
    return joined


def _put(
    picture: Image.Image, sheet: Image.Image, top: int, left: int, height: int, width: int
) -> None:
    """Pastes a picture into the middle of a field of the sheet."""
    place = (left + (width - picture.width) // 2, top + (height - picture.height) // 2)
    sheet.paste(picture, place)


def _failed(height: int, width: int) -> Image.Image:
    """The word "failed" on grey."""
    field, font = Image.new("RGB", (width, height), GREY), _font(width)
    text = _shortened("failed", width, font)
    ImageDraw.Draw(field).text((width / 2, height / 2), text, FAINT, font, anchor="mm")
    return field


@functools.cache
def _font(side: int) -> ImageFont.FreeTypeFont:
    """The font for fields with this longest side, in pixels."""
    size = min(14, max(9, side // 14))
    for name in FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text with dots for its middle if it would be wider than this, in pixels."""
    shown, kept = text, len(text)
    while kept and font.getlength(shown) > width:
        kept -= 1
        shown = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
    return shown
