"""Access: the names of files that a file may hold, which may come from a stranger."""

import ntpath
import posixpath
import re
from typing import Any

from neural_style_tf.errors import UserError, shortened

SHA256 = re.compile(r"[0-9a-f]{64}")
LONGEST_NAME = 255  # bytes of a file's name, on every usual file system


def base_name(value: Any, source: str) -> str:
    """The value, if it is the name of a file without any folder, on every system. Raises
    `UserError` for anything else that a file, `source`, may hold in the place of a name."""
    if not isinstance(value, str) or not _is_base_name(value):
        raise UserError(
            f"{source} names the file {shortened(repr(value))}: a plain file name was expected"
        )
    return value


def _is_base_name(name: str) -> bool:
    try:
        size = len(name.encode(errors="surrogateescape"))
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return (
        0 < size <= LONGEST_NAME
        and name not in (".", "..")
        and "\0" not in name
        and ntpath.basename(name) == posixpath.basename(name) == name
    )


def is_remote(path: str) -> bool:
    """Whether a path leads to another machine as soon as it is looked at (Windows: \\\\HOST)."""
    return path.replace("\\", "/").startswith("//")
