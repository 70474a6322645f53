"""Sheets: pictures -> one picture that shows them side by side at 100 %."""

import itertools
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

LABEL_HEIGHT = 14


def labelled_rows(rows: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """The pictures of each row side by side below its label, and the rows below each other."""
    parts = [_labelled(label, side_by_side(pictures)) for label, pictures in rows.items()]
    whole = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)))
    tops = itertools.accumulate((part.height for part in parts), initial=0)
    for top, part in zip(tops, parts, strict=False):
        whole.paste(part, (0, top))
    return whole


def side_by_side(pictures: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(p.height for p in pictures)))
    lefts = itertools.accumulate((p.width + gap for p in pictures), initial=0)
    for left, picture in zip(lefts, pictures, strict=False):
        row.paste(picture.convert("RGB"), (left, 0))
    return row


def _labelled(label: str, picture: Image.Image) -> Image.Image:
    whole = Image.new("RGB", (picture.width, picture.height + LABEL_HEIGHT))
    whole.paste(picture, (0, LABEL_HEIGHT))
    ImageDraw.Draw(whole).text((2, 1), label, fill="white")
    return whole
