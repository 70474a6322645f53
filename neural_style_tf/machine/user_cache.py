"""User cache: files that belong to this user alone, in the platform's cache folder.

The folder may be deleted at any time. Another user could write a file with a valid digest, so file
and folder must belong to this user, and nobody else may have write access. Without such a folder
nothing is read and nothing is kept.
"""

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

LONGEST_CHOICE = 100  # bytes
UNFINISHED_SECONDS = 3600  # older temporary files were left by a process that was killed


def folder() -> Path:
    """This program's folder among the user's caches; it may not exist yet. For a user without a
    home, as in a container, it is a folder of their own among the temporary files."""
    import platformdirs  # late: `--help` does not need it

    with contextlib.suppress(RuntimeError):  # from platformdirs, depending on its version
        path = platformdirs.user_cache_path("neural-style", appauthor=False, opinion=False)
        if path.is_absolute():
            return path
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir(), f"neural-style-{user}")


def private_folder() -> Path | None:
    """The folder, created if it is missing; None if other users could write to it.

    Raises `OSError` if it cannot be created.
    """
    path = folder()
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = os.stat(path)
    if hasattr(os, "geteuid") and status.st_uid == os.geteuid() and not _is_private(status):
        os.chmod(path, 0o700)  # created when the umask let the group write
        status = os.stat(path)
    return path if _is_private(status) else None


def read(name: str, max_bytes: int) -> bytes | None:
    """The content of a file in the folder; None if it is missing, larger than `max_bytes`, not a
    plain file, or if another user could have written it."""
    try:
        path = folder()
        if not _is_private(os.stat(path)):
            return None
        # follows no link and does not wait for a pipe; Windows has neither flag
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path / name, os.O_RDONLY | getattr(os, "O_BINARY", 0) | flags)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            is_ours = stat.S_ISREG(status.st_mode) and _is_private(status)
            return file.read() if is_ours and status.st_size <= max_bytes else None
    except (OSError, ValueError):
        return None


def write(name: str, data: bytes) -> bool:
    """Writes a file in the folder, whole or not at all. Returns whether it was written: not if the
    disk is full, the home is read-only, or the folder is another user's."""
    with contextlib.suppress(OSError):
        path = private_folder()
        if path is None:
            return False
        descriptor, temporary = tempfile.mkstemp(".tmp", "", path)  # only this user may read it
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path / name)
        except BaseException:
            os.unlink(temporary)
            raise
        _remove_unfinished(path)
        return True
    return False


def unfinished(path: Path) -> list[Path]:
    """Temporary files in the folder whose process was killed before it could rename them."""
    oldest = time.time() - UNFINISHED_SECONDS
    return [file for file in path.glob("*.tmp") if os.path.getmtime(file) < oldest]


def _remove_unfinished(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process may be doing the same
        for file in unfinished(path):
            file.unlink(missing_ok=True)


def remembered(name: str, choices: Collection[str], find: Callable[[], str]) -> str:
    """One of a few words: what `find` returned under this name before; otherwise it is called now,
    and its answer is kept."""
    file = f"{name}.txt"
    known = _choice(file, choices)
    if known:
        return known
    answer = find()
    # another process that asked at the same time may have been faster: both use its answer
    known = _choice(file, choices)
    if known:
        return known
    write(file, answer.encode())
    return answer


def _choice(file: str, choices: Collection[str]) -> str | None:
    content = read(file, LONGEST_CHOICE)
    return next((choice for choice in choices if content == choice.encode()), None)


def _is_private(status: os.stat_result) -> bool:
    """Whether it belongs to this user and nobody else may write to it. On Windows the permissions
    of the user's profile already ensure that."""
    if not hasattr(os, "geteuid"):
        return True
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.geteuid() and not status.st_mode & others
