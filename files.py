"""Files: bytes -> a whole file or none; and whether a file can be read or written, told early."""

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from settings import UserError, nearest

StrPath = str | os.PathLike[str]


def check_writable(path: StrPath, overwrite: bool = False) -> None:
    """Raises `UserError` if `write` could not write to `path`; meant for before the run."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: add a file name")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: give another name, or --overwrite to replace it")
    folder = _target_of(path).parent
    if not folder.is_dir():
        raise UserError(f"no folder {folder} for {path.name}{nearest_file(folder)}: create it")
    _check_folder(folder)


def check_readable(path: StrPath) -> None:
    """Raises `UserError` unless `path` is a file with something in it that can be read."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file inside it")
    if not path.parent.is_dir():
        folder = path.parent
        raise UserError(f"no folder {folder} for {path.name}{nearest_file(folder)}: check it")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(f"{path} is empty: get a fresh copy")
    except FileNotFoundError:
        raise UserError(f"no file {path}{nearest_file(path)}: check the name") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({reason(error)}): check its permissions") from error


def write(path: StrPath, data: bytes) -> None:
    """Writes beside `path`, then moves over it, with the mode of the old file.

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
                file.write(data)
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


def nearest_file(path: Path) -> str:
    """' (did you mean ...?)' for the name most like `path` in its folder, or nothing."""
    try:
        return nearest(path.name, sorted(os.listdir(path.parent)))
    except OSError:
        return ""


def reason(error: BaseException) -> str:
    """Why, in one line: 'Permission denied'."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]


def _target_of(path: StrPath) -> Path:
    """The file itself, where `path` is a link to it: the link stays."""
    return Path(os.path.realpath(path))


def _check_folder(folder: Path) -> None:
    """Raises `UserError` unless a file can be made in `folder`. Tried, since permissions alone
    know nothing of read-only disks and, for root, nothing at all."""
    trial = folder / _temporary_name()
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write in {folder} ({reason(error)}): choose another folder"
        ) from error


def _temporary_name() -> str:
    """Hidden, and unique among processes and machines that share a folder."""
    return f".neural_style-{os.getpid()}-{secrets.token_hex(4)}.tmp"
