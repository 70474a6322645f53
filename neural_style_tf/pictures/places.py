"""Places: folders for large temporary files, and for pictures that could not be saved as named."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from neural_style_tf.machine import user_cache
from neural_style_tf.pictures.files import StrPath

MOUNTS = Path("/proc/mounts")


def save_elsewhere(path: StrPath, save: Callable[[str], None]) -> str | None:
    """Saves a file of that name where there is room for it: in the temporary folder, the home
    folder or the cache. Returns where, or None if there is no such place. save: is called with a
    path, and raises whatever error it likes if it cannot be written."""
    for place in (_user_temporary, _home, _cache):
        folder = None
        try:
            folder = tempfile.mkdtemp(prefix="neural-style-", dir=place())
            found = os.path.join(folder, os.path.basename(path))
            save(found)
            return found
        except Exception:  # the next place may take it
            if folder is not None:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
    return None


def temporary_file(size: int) -> IO[bytes]:
    """A file for `size` bytes that is closed and removed with the object that holds it: on a disk,
    for where the temporary folder is memory, large files would take what they are to save. A folder
    that the user names in TMPDIR is taken as it is. Raises `OSError` if there is no room."""
    errors = []
    for folder in _temporary_folders():
        try:
            if shutil.disk_usage(folder).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
            return tempfile.TemporaryFile(prefix=".neural-style-", dir=folder)
        except OSError as error:
            errors.append(error)
    raise errors[0]


def temporary_folder() -> str:
    """The first choice of `temporary`, for messages."""
    return _temporary_folders()[0]


def _temporary_folders() -> list[str]:
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")):
        return [tempfile.gettempdir()]
    places = [_user_temporary, lambda: "/var/tmp", _cache]
    folders = []
    for place in places:
        with contextlib.suppress(OSError, RuntimeError):
            folders.append(place())
    folders = [folder for folder in folders if os.path.isdir(folder)]
    return sorted(folders, key=_is_in_memory) or [os.curdir]  # disks first, else in order


def _user_temporary() -> str:
    return tempfile.gettempdir()


def _home() -> str:
    return str(Path.home())


def _cache() -> str:
    folder = user_cache.folder()
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _is_in_memory(folder: str) -> bool:
    """Whether a folder is in memory rather than on a disk, as far as Linux says."""
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    except (OSError, ValueError):
        return False
    folder = os.path.realpath(folder)
    kinds = {
        mount: kind
        for _, mount, kind, *_ in mounts
        if folder == mount or folder.startswith(mount.rstrip("/") + "/")
    }
    return bool(kinds) and kinds[max(kinds, key=len)] in ("tmpfs", "ramfs")
