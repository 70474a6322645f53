"""Boxes: the header of an AVIF or HEIC file -> the codes of its colours.

ISO/IEC 23008-12: the properties of the main picture, among them its colours, are in the box `meta`.
"""

import os
import struct
from collections.abc import Iterator
from typing import IO

_MOST_BYTES = 1 << 20  # of `meta`; that of a phone's photo, in 50 tiles, has 4 kB


def color_codes(file: IO[bytes]) -> tuple[int, int] | None:
    """The primaries and the transfer of the main picture, codes of ITU-T H.273; None where the file
    has none. Raises `ValueError`, `IndexError` or `struct.error` for a broken file."""
    place = file.tell()
    try:
        meta = _meta(file)
    finally:
        file.seek(place)
    parts = dict(_each(meta, 4)) if meta else {}
    if not {b"pitm", b"iprp"} <= parts.keys():
        return None
    main = _number(parts[b"pitm"], 4, 2 if parts[b"pitm"][0] == 0 else 4)
    tables = dict(_each(parts[b"iprp"], 0))
    properties = list(_each(tables[b"ipco"], 0))
    for number in filter(None, _properties_of(main, tables[b"ipma"])):  # 0: no property
        name, content = properties[number - 1]
        if name == b"colr" and content[:4] == b"nclx":
            return _number(content, 4, 2), _number(content, 6, 2)
    return None


def _meta(file: IO[bytes]) -> bytes | None:
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        size = 8
        if length == 1:
            length, size = int.from_bytes(file.read(8), "big"), 16
        if name == b"meta":
            return file.read(min(_MOST_BYTES, length - size)) if length > size else None
        if length < size:  # 0: it reaches to the end
            return None
        file.seek(length - size, os.SEEK_CUR)
    return None


def _each(data: bytes, start: int) -> Iterator[tuple[bytes, bytes]]:
    """The name and the content of each box."""
    while start + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        if length < 8:
            return
        yield name, data[start + 8 : start + length]
        start += length


def _properties_of(item: int, table: bytes) -> list[int]:
    """The places of an item's properties, from 1, in the box `ipma`."""
    version, is_wide = table[0], table[3] & 1
    position, id_size, size = 8, 4 if version else 2, 2 if is_wide else 1
    for _ in range(_number(table, 4, 4)):
        found = _number(table, position, id_size)
        count = table[position + id_size]
        position += id_size + 1
        if found == item:
            values = (_number(table, position + i * size, size) for i in range(count))
            return [value & (0x7FFF if is_wide else 0x7F) for value in values]
        position += count * size
    return []


def _number(data: bytes, start: int, size: int) -> int:
    if start + size > len(data):
        raise ValueError("cut short")
    return int.from_bytes(data[start : start + size], "big")
