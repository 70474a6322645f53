"""States: a run as it stands -> a file, and back. Named arrays and their settings, no pickle."""

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import files
from settings import UserError

# what NumPy raises for files of anything else
_BROKEN = (
    *(OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError),
    zipfile.BadZipFile,
)
ABOUT = "about"  # the name of what is no array: JSON, as bytes


def save(path: str | os.PathLike, state: Mapping[str, ArrayLike], about: Mapping[str, Any]) -> None:
    """Writes a state as `stylize.Step.state` gives it (an .npz file), with what JSON can hold
    about it. Arrays are fetched from the device one at a time. Raises `UserError`; then an old
    file is still what it was."""
    told = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with files.writing(path) as file:
        np.savez(file, **{ABOUT: told}, **state)


def under(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state as a part of another: its names begin with the prefix."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def within(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a state that `under` put there."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state in a file, and what was told about it: its options and its description. Raises
    `UserError` for a file of anything else."""
    with files.open_to_read(path) as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                state = dict(arrays)
            about = json.loads(state.pop(ABOUT).tobytes())
            _ = about["options"], about["description"]
            return state, about
        except _BROKEN as error:
            raise UserError(
                f"{path} is no state of a run ({files.reason(error)}): give what --save-state wrote"
            ) from error
