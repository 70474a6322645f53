"""States: a run as it stands -> a file, and back. Named arrays and what JSON can hold, no pickle.

The content of a file is not trusted: nothing is allocated or unpacked before its size is known to
be right.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from neural_style_tf.errors import UserError, shortened
from neural_style_tf.pictures import files
from neural_style_tf.runs import signature

ABOUT = "about"  # the name of what is not an array: JSON, as bytes
MOST_ABOUT = 4_000_000  # bytes
MOST_ARRAYS = 10_000
KINDS = "fiub"  # of numbers that arrays hold, as NumPy calls them


def save(path: str | os.PathLike, state: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Writes a state as `stylize.Step.state` gives it (an .npz file), with what JSON can hold
    about it, signed. Arrays are fetched from the device one at a time. Raises `UserError`; an
    existing file is unchanged then."""
    signed = {**about, "signature": signature.sign(about)}
    text = np.frombuffer(json.dumps(signed).encode(), np.uint8)
    with files.writing(path) as file:
        arrays: dict[str, Any] = {ABOUT: text, **state}
        np.savez(file, **arrays)


class Saved(NamedTuple):
    state: dict[str, np.ndarray]
    about: dict[str, Any]  # "options" and "description", each of anything that JSON can hold
    is_ours: bool  # this user saved it here


def load(path: str | os.PathLike) -> Saved:
    """What is in a file that `save` wrote.

    Raises `UserError` for a file of anything else, before more is allocated than the file holds.
    """
    with files.open_to_read(path) as file:
        try:
            _check_members(file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                state = dict(arrays)
            about = json.loads(state.pop(ABOUT).tobytes())
            content = {name: about[name] for name in ("options", "description")}
            is_ours = signature.is_ours(content, about.get("signature"))
        except Exception as error:  # NumPy, zipfile and JSON raise anything on broken bytes
            reason = shortened(files.reason(error), 100)
            raise UserError(
                f"{path} is not a saved run, or a damaged one ({reason}): use a file written by "
                "--save-state"
            ) from error
    return Saved(state, content, is_ours)


def _check_members(file: BinaryIO) -> None:
    """Raises `ValueError` unless each array is stored as `np.savez` stores it, not packed, and is
    as large as it says."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_ARRAYS:
            raise ValueError(f"{len(members)} arrays")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("its arrays are larger than the file")
        for member in members:
            is_packed = member.compress_type != zipfile.ZIP_STORED
            if is_packed or member.compress_size != member.file_size:
                raise ValueError(f"{shortened(member.filename)} is packed")
            _check_member(archive, member)


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(stream)
        size = member.file_size - stream.tell()
    count = 1
    for length in shape:
        count *= length
    if dtype.kind not in KINDS or count * dtype.itemsize != size:
        raise ValueError(f"{shortened(member.filename)} has the wrong size or type")
    if member.filename == f"{ABOUT}.npy" and size > MOST_ABOUT:
        raise ValueError("its description is too long")
