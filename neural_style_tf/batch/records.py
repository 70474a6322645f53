"""Records: what a batch remembers of pictures without metadata, beside them: a checksum of the
settings and inputs, the losses, and the checksum of the picture. It names no input.
"""

import contextlib
import hashlib
import json
import os
from typing import Any

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files
from neural_style_tf.runs import provenance

_MOST_BYTES = 10_000
_LONGEST_NAME = 255  # bytes, in the file systems of Linux; no less elsewhere


def path_of(output: str) -> str:
    """The file of a picture's record. A name that would be too long for a file is shortened."""
    folder, name = os.path.split(output)
    own = f".{name}.made"
    if len(os.fsencode(own)) > _LONGEST_NAME:
        own = f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.made"
    return os.path.join(folder, own)


def keep(output: str, description: provenance.Description) -> None:
    """Writes the record of a picture that has just been written; with its losses if it is
    finished. Raises `UserError`."""
    losses = {"losses": dict(description["losses"])} if "losses" in description else {}
    record = {
        "picture": provenance.digest(output),
        provenance.FINGERPRINT: provenance.fingerprint(description),
        **losses,
    }
    files.write(path_of(output), json.dumps(record).encode())


def read(output: str) -> dict[str, Any]:
    """What `provenance.is_same` compares, and the losses; {} without a record of this very file."""
    with contextlib.suppress(UserError, OSError, ValueError, RecursionError):
        with files.open_to_read(path_of(output)) as file:
            record = json.loads(file.read(_MOST_BYTES))
        if isinstance(record, dict) and record.pop("picture", None) == provenance.digest(output):
            return record
    return {}
