"""Portable: what file names mean on Windows and macOS, and files that another program has open.

Windows leaves patterns such as *.jpg to the programs, gives some names to devices, and refuses to
replace a file that is open elsewhere; there and on macOS, Photo.jpg and photo.jpg are one file.
"""

import glob
import ntpath
import os
import re
import sys
import time
import unicodedata

from neural_style_tf.errors import UsageError, UserError, shortened

StrPath = str | os.PathLike[str]

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)  # virus scanners and indexers let go within these


def is_windows() -> bool:
    return os.name == "nt"


def matching(path: str) -> list[str]:
    """The files that a pattern such as *.jpg matches, sorted; the path itself if it is not a
    pattern, or if a file has exactly that name. As in a shell, a star does not match the dot that a
    name begins with. Raises `UserError` if nothing matches."""
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    paths = sorted(glob.glob(path, recursive=True))
    if not paths:
        raise UserError(f"no file matches {shortened(path)}: check the name")
    return paths


def check_name(path: StrPath) -> None:
    """Raises `UsageError` for a path that Windows would take for a device, or refuse. Other systems
    allow all names."""
    if not is_windows():
        return
    for name in re.split(r"[\\/]", ntpath.splitdrive(os.fspath(path))[1]):
        problem = _problem(name)
        if problem:
            raise UsageError(f"{path}: {problem} on Windows: choose another name")


def _problem(name: str) -> str | None:
    """What is wrong with the name of a file or folder."""
    if name in ("", ".", ".."):
        return None
    if _DEVICE.fullmatch(name.partition(".")[0].rstrip(" ")):
        return f"{shortened(name)} is a device"
    if name.endswith((".", " ")):
        return f"a name cannot end in a {'dot' if name.endswith('.') else 'space'}"
    forbidden = _FORBIDDEN.search(name)
    return f"a name cannot contain {forbidden[0]!r}" if forbidden else None


def place(path: StrPath) -> str:
    """A text that is equal for two paths of one file, links followed: there may be no file yet."""
    real = os.path.realpath(path)
    return folded(real) if is_windows() or sys.platform == "darwin" else real


def folded(path: str) -> str:
    """The path with its case and its accents in one form, as Windows and macOS compare names."""
    return unicodedata.normalize("NFC", path).casefold()


def replace(source: StrPath, target: StrPath) -> None:
    """Moves a file over another. On Windows a target that another program has open is tried again
    for a moment. Raises `OSError`."""
    for pause in PAUSES_SECONDS if is_windows() else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)
