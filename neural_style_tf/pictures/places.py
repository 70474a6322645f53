"""Places: folders for large temporary files, and for pictures that could not be saved as named."""

import contextlib
import errno
import itertools
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
    """Saves a file in the first place that takes it: beside the path, under a new name, or under
    the same name in the temporary folder, the home folder or the cache. Returns its path, or None
    if all of them failed.

    save: writes to the path that it is called with; it may raise any error.
    """
    with contextlib.suppress(Exception):  # the next place may take it
        beside = _beside(path)
        save(beside)
        return beside
    for place in (_user_temporary, _home, _cache):
        folder = None
        try:
            folder = tempfile.mkdtemp(prefix="neural-style-", dir=place())
            other = os.path.join(folder, os.path.basename(path))
            save(other)
            return other
        except Exception:  # the next place may take it
            if folder is not None:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
    return None


def _beside(path: StrPath) -> str:
    """A path in the same folder that no file has: out-2.png for out.png."""
    stem, ending = os.path.splitext(os.fspath(path))
    numbered = (f"{stem}-{number}{ending}" for number in itertools.count(2))
    return next(other for other in numbered if not os.path.lexists(other))


def temporary_file(size: int) -> IO[bytes]:
    """A file for `size` bytes, which is removed when it is closed.

    It is on a disk: a temporary folder may be in memory, which large files are there to save. A
    folder that the user names in TMPDIR is used in any case. Raises `OSError` without room.
    """
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
    """The first choice of `temporary_file`, for messages."""
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
    return sorted(folders, key=_is_in_memory) or [os.curdir]  # disks first, otherwise in order


def _user_temporary() -> str:
    return tempfile.gettempdir()


def _home() -> str:
    return str(Path.home())


def _cache() -> str:
    folder = user_cache.folder()
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _is_in_memory(folder: str) -> bool:
    """Whether a folder is in memory rather than on a disk; only Linux says so."""
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
