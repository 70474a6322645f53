"""Safetensors files: bytes -> arrays by name, and the text that the file holds about them.

The format (https://github.com/huggingface/safetensors): the length of a JSON header, the header,
and the numbers. Reading it executes nothing; names, shapes and places are checked here.
"""

import json
import math
from typing import Any, NamedTuple

import numpy as np

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 10_000_000  # a VGG-19 has 4,000
BEGINNING = b"{"  # of the header, after its length

TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


class Content(NamedTuple):
    arrays: dict[str, np.ndarray]
    about: dict[str, str]  # the metadata


def is_head(head: bytes) -> bool:
    """Whether a file that begins with these bytes may be of the format."""
    size = int.from_bytes(head[:LENGTH_BYTES], "little")
    return 2 <= size <= MOST_HEADER_BYTES and head[LENGTH_BYTES:].lstrip(b" ").startswith(BEGINNING)


def read(data: bytes) -> Content:
    """The arrays of a file, as views of its bytes, and its metadata. Raises `ValueError`,
    `TypeError`, `LookupError` or `RecursionError` for a file that is broken."""
    size = int.from_bytes(data[:LENGTH_BYTES], "little")
    if size > MOST_HEADER_BYTES:
        raise ValueError("the header is too long")
    numbers = memoryview(data)[LENGTH_BYTES + size :]
    header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + size])
    about = header.pop("__metadata__", {})
    arrays = {name: _array(entry, numbers) for name, entry in header.items()}
    return Content(arrays, about if isinstance(about, dict) else {})


def _array(entry: dict[str, Any], numbers: memoryview) -> np.ndarray:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    kind = np.dtype(TYPES[entry["dtype"]])
    if not all(type(value) is int and value >= 0 for value in (*shape, begin, end)):
        raise ValueError("not a shape")
    count = math.prod(shape)
    if end > len(numbers) or end - begin != count * kind.itemsize:
        raise ValueError("not as long as its shape says")
    array = np.frombuffer(numbers[begin:end], kind, count).reshape(shape)
    if entry["dtype"] == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
