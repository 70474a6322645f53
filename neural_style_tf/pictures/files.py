"""Files: bytes -> a whole file or none; whether a file can be read or written is checked early.

Files that are being written have names of our own and are locked. The next run that writes to the
same folder can thus tell what a killed run left there from what is still being written.
"""

import contextlib
import errno
import hashlib
import os
import platform
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from neural_style_tf.errors import SettingName, UserError, nearest
from neural_style_tf.pictures import portable
from neural_style_tf.pictures.portable import StrPath

LOCK = ".neural-style-claim-"  # how the names of claims' files begin
OLD_SECONDS = 24 * 3600.0  # no file takes this long to be written
CLEAR_UP_SECONDS = 1.0  # that the end of a process may wait for a file that is being created
_held: set[Path] = set()  # what this process is writing, and its claims
_creating = threading.Lock()  # held by whoever creates a temporary file


def check_writable(path: StrPath, overwrite: bool = False, make_folder: bool = False) -> None:
    """Raises `UserError` if `write` could not write to `path`; meant for before the run.

    make_folder: its folder may be missing, the one above it may not.
    """
    portable.check_name(path)
    path = Path(path)
    if make_folder and not os.path.exists(path.parent):
        path = path.parent
    if os.path.isdir(path):  # not `path.is_dir()`, which raises for a name that is too long
        raise UserError(f"{path} is a folder: add a file name")
    check_free(path, overwrite)
    if _is_special(path):
        raise UserError(f"{path} is not a regular file: choose another name")
    target = _target_of(path)
    _check_folder(target.parent, path.name, "create it")
    remove_left_behind(target.parent)
    try:
        _try_to_write(target)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({reason(error)}): choose another name or folder"
        ) from error


def check_free(path: StrPath, overwrite: bool = False) -> None:
    """Raises `UserError` if the file exists and may not be replaced."""
    if os.path.exists(path) and not overwrite:
        advice = ": choose another name, or ", SettingName("overwrite"), " to replace it"
        raise UserError(f"{path} exists", *advice)


def open_to_read(path: StrPath) -> BinaryIO:
    """Opens a file for reading. Raises `UserError` for one that is missing, empty or unreadable."""
    portable.check_name(path)
    path = Path(path)
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder: name a file inside it")
    _check_folder(path.parent, path.name, "check it")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty: get a fresh copy")
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"no file {path}{_nearest_file(path)}: check the name") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({reason(error)}): check the file") from error


def version(path: StrPath) -> tuple[str, int, int, int]:
    """The file's absolute path, size, time of change and inode: different once the file is. Raises
    `UserError` if it cannot be read."""
    open_to_read(path).close()
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ino


def write(path: StrPath, data: bytes) -> None:
    """Writes a file with `writing`."""
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: StrPath) -> Iterator[BinaryIO]:
    """A temporary file beside `path` to write to, which is moved over it when the context ends. It
    takes the mode of the file that it replaces.

    A link stays a link: what it points to is replaced. Raises `UserError` if writing fails; an old
    file is then left as it was.
    """
    try:
        target = _target_of(path)
        if _is_special(target):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        with _temporary_beside(target) as file:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                shutil.copymode(target, file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if portable.is_windows():  # it cannot move an open file
                file.close()
            portable.replace(file.name, target)
    except OSError as error:
        is_open = portable.is_windows() and isinstance(error, PermissionError)
        advice = "close the program that has it open" if is_open else "make room there"
        raise UserError(
            f"cannot write {path} ({reason(error)}): {advice} or choose another name"
        ) from error


def _is_special(path: StrPath) -> bool:
    """Whether the path is a device, a pipe or the like, which a file would replace."""
    return os.path.exists(path) and not os.path.isfile(path)


@contextlib.contextmanager
def _temporary_beside(target: Path) -> Iterator[BinaryIO]:
    """A new locked file in the folder of `target`, removed at the end if it still exists."""
    while True:
        path = target.parent / _temporary_name()
        try:
            with _creating:
                _held.add(path)
                file = open(path, "xb")  # noqa: SIM115 (not `tempfile`, which ignores the umask)
            with file:
                # another process may have removed it before it was locked
                is_locked = portable.is_windows() or _lock(file.fileno()) is not False
                if is_locked and _is_at(file, path):
                    yield file
                    return
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
            _held.discard(path)


def remove_unfinished(folder: StrPath, process: int) -> None:
    """Removes what a process of this machine, which was killed, had begun to write in a folder."""
    for temporary in Path(folder).glob(f"{_temporaries_of(process)}*"):
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_left_behind(folder: StrPath) -> None:
    """Removes what ended processes of this machine left in a folder: claims, and files that they
    had begun to write. Those of running processes are locked, and stay."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_ours = entry.name.startswith((_temporaries_of(), LOCK))
            if is_ours and entry.name.endswith((".tmp", ".lock")):
                with contextlib.suppress(OSError):
                    _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    if portable.is_windows():  # it cannot remove an open file
        _remove_old(path)
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        is_locked = _lock(descriptor)
        if is_locked is None:
            _remove_old(path)
        elif is_locked and _is_at(descriptor, path):
            path.unlink()
    finally:
        os.close(descriptor)


def _remove_old(path: Path) -> None:
    """Removes a file that is too old to be in use: for disks without locks."""
    if time.time() - path.stat().st_mtime > OLD_SECONDS:
        path.unlink()


def clear_up() -> None:
    """Removes what this process is writing: for one that is about to end in the middle of it, and
    may begin to write nothing more."""
    _creating.acquire(timeout=CLEAR_UP_SECONDS)  # or the thread that was interrupted has it
    for path in list(_held):
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def claim(path: StrPath) -> Iterator[bool]:
    """Claims `path` for this process: False if another has it, here or on a machine that shares the
    folder. A claim ends with its process. On a disk without locks every claim succeeds.

    Not by filelock: it keeps the files of its locks, and on a disk without locks the file of a
    killed process would stay locked.
    """
    target = _target_of(path)
    name = os.path.basename(portable.place(target))
    lock = target.parent / f"{LOCK}{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.lock"
    descriptor = _locked(lock)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            if portable.is_windows():  # it cannot remove an open file
                os.close(descriptor)
            with contextlib.suppress(OSError):
                lock.unlink()
            _held.discard(lock)
            if not portable.is_windows():
                os.close(descriptor)


def _locked(lock: Path) -> int | None:
    """The descriptor of the lock file, locked; None if another process has it."""
    while True:
        try:
            # a link with the name of a lock would have us create a file elsewhere
            flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(lock, flags, 0o666)
        except OSError as error:
            raise UserError(
                f"cannot write {lock} ({reason(error)}): make room there or choose another folder"
            ) from error
        is_locked = _lock(descriptor)
        if is_locked is False:
            os.close(descriptor)
            return None
        if is_locked is None or _is_at(descriptor, lock):
            _held.add(lock)
            return descriptor
        os.close(descriptor)  # its owner has finished and removed it


def _lock(descriptor: int) -> bool | None:
    """Locks a file until it is closed or this process ends. Returns whether it did, or None on a
    disk without locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None


def _is_at(file: BinaryIO | int, path: Path) -> bool:
    """Whether an open file still has this path."""
    descriptor = file if isinstance(file, int) else file.fileno()
    try:
        return portable.is_windows() or os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


class Output:
    """An output under the name that the user chose, even if the current folder changes later."""

    def __init__(self, path: StrPath, folder: str = ""):
        """folder: the one that a relative path starts from; by default the current one."""
        self._name = os.fspath(path)
        self._path = os.path.abspath(os.path.join(folder, path))

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._name


def reason(error: BaseException) -> str:
    """The cause of an error in one line: 'Permission denied'."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0]


def in_short(error: BaseException) -> str:
    """An unexpected error in one line: its type and its cause."""
    return f"{type(error).__name__}: {reason(error)}"


def _check_folder(folder: Path, name: str, advice: str) -> None:
    if not os.path.isdir(folder):
        raise UserError(f"no folder {folder} for {name}{_nearest_file(folder)}: {advice}")


def _nearest_file(path: Path) -> str:
    """' (did you mean ...?)' for the name most like `path` in its folder, or nothing."""
    try:
        return nearest(path.name, sorted(os.listdir(path.parent)))
    except OSError:
        return ""


def _target_of(path: StrPath) -> Path:
    """The file itself, where `path` is a link to it: the link stays."""
    return Path(os.path.realpath(path))


def _try_to_write(target: Path) -> None:
    """Raises `OSError` unless a file can be made beside `target`, and `target` can be its name.

    It is tried out: permissions say nothing about read-only disks and, to root, nothing at all.
    """
    with _temporary_beside(target):
        pass
    with contextlib.suppress(FileNotFoundError):
        target.stat()


def _temporary_name() -> str:
    """A hidden name, unique among the processes and machines that share a folder."""
    return f"{_temporaries_of(os.getpid())}{secrets.token_hex(4)}.tmp"


def _temporaries_of(process: int | None = None) -> str:
    """How the names of a process's temporary files begin, or those of all on this machine."""
    machine = f".neural-style-{platform.node()[:64]}-"
    return machine if process is None else f"{machine}{process}-"
