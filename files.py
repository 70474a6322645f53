"""Files: bytes -> a whole file or none; and whether a file can be read or written, told early."""

import contextlib
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from settings import UserError, nearest

StrPath = str | os.PathLike[str]


def check_writable(path: StrPath, overwrite: bool = False, make_folder: bool = False) -> None:
    """Raises `UserError` if `write` could not write to `path`; meant for before the run.

    make_folder: its folder need not be there, only the one above.
    """
    path = Path(path)
    if make_folder and not os.path.exists(path.parent):
        path = path.parent
    if os.path.isdir(path):  # not `path.is_dir()`, which raises for a name that is too long
        raise UserError(f"{path} is a folder: add a file name")
    check_free(path, overwrite)
    target = _target_of(path)
    _check_folder(target.parent, path.name, "create it")
    try:
        _try_to_write(target)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({reason(error)}): choose another name or folder"
        ) from error


def check_free(path: StrPath, overwrite: bool = False) -> None:
    """Raises `UserError` if there is a file that may not be replaced."""
    if os.path.exists(path) and not overwrite:
        raise UserError(f"{path} exists: give another name, or --overwrite to replace it")


def open_to_read(path: StrPath) -> BinaryIO:
    """A file that has something in it, or a `UserError` that says why not."""
    path = Path(path)
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder: give a file inside it")
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
    """What is another when the file is: its whole name, size, time and number. Raises `UserError`
    if it cannot be read."""
    open_to_read(path).close()
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ino


def write(path: StrPath, data: bytes) -> None:
    """Writes a file with `writing`."""
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: StrPath) -> Iterator[BinaryIO]:
    """A file to write to, which is beside `path`; then it is moved over that, with the mode of the
    old file.

    A link stays a link: what it points to is replaced. Raises `UserError` if that fails; then an
    old file is still what it was.
    """
    target = _target_of(path)
    temporary = target.parent / _temporary_name()
    try:
        try:
            with open(temporary, "xb") as file:  # not `tempfile`, which ignores the umask
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    shutil.copymode(target, temporary)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({reason(error)}): make room there or give another name"
        ) from error


def remove_unfinished(folder: StrPath, process: int) -> None:
    """Removes what a process of this machine that was ended had begun to write in a folder."""
    for temporary in Path(folder).glob(f"{_temporaries_of(process)}*"):
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def claim(path: StrPath) -> Iterator[bool]:
    """Whether nobody else has a claim on `path`, here or on a machine that shares the folder. A
    claim ends with its process; where the system has no locks, everybody has it."""
    lock = Path(path).parent / f".{Path(path).name}.lock"
    descriptor = _locked(lock)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(descriptor)


def _locked(lock: Path) -> int | None:
    """The locked file's descriptor; None if another has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return os.open(os.devnull, os.O_RDONLY)
    while True:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise UserError(
                f"cannot write {lock} ({reason(error)}): make room there or give another folder"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                return descriptor
        except FileNotFoundError:
            pass  # its owner was done, and took it away
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a disk without locks
            return descriptor
        os.close(descriptor)


def reason(error: BaseException) -> str:
    """Why, in one line: 'Permission denied'."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]


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

    Tried, since permissions know nothing of read-only disks and, for root, nothing at all.
    """
    trial = target.parent / _temporary_name()
    trial.touch(exist_ok=False)
    trial.unlink()
    with contextlib.suppress(FileNotFoundError):
        target.stat()


def _temporary_name() -> str:
    """Hidden, and unique among processes and machines that share a folder."""
    return f"{_temporaries_of(os.getpid())}{secrets.token_hex(4)}.tmp"


def _temporaries_of(process: int) -> str:
    """How the names of its temporary files begin."""
    return f".neural-style-{platform.node()[:64]}-{process}-"
