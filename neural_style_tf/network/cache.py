"""Cache: a network that was read once, in a form that loads at once; and what was measured once.

Lies in the platform's cache folder and may be deleted at any time. It holds the four networks that
were used last, of about 80 MB each. What does not belong to exactly the file that was read is
ignored, and so is what is damaged: every network is kept with a digest. The digest does not protect
from other users, who could write one themselves; what does is that file and folder have to belong
to this user, and that nobody else may write them. Without such a folder nothing is cached.
"""

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

import platformdirs

from neural_style_tf.network import packed, weights
from neural_style_tf.network.weights import Weights

SMALLEST = 5_000_000  # bytes of a network's file: smaller ones are read as fast
MOST_NETWORKS = 4
MOST_BYTES = 2_500_000_000  # of a network that is kept
MOST_WORD = 100  # bytes
UNFINISHED_SECONDS = 3600  # after which a temporary file is one of a process that was ended

FORMAT = b"neural-style network 2\n"
DIGEST_BYTES = hashlib.sha256().digest_size
_FORMER = re.compile(r"[0-9a-f]{16}\.npz")  # how version 1 named its files


def read(path: str | Path) -> Weights:
    """What `weights.read` gives, from the cache if it has it; else it is read and kept there."""
    with weights.open_to_read(path) as file:  # raises for a file that is missing
        size = os.fstat(file.fileno()).st_size
    if size < SMALLEST:
        return weights.read(path)
    name, origin = _name(path), _origin(path)
    kept = _load(name, origin)
    if kept is None:
        kept = weights.read(path)
        _keep(name, _sealed(origin + packed.pack(kept)))
    return kept


def word(name: str, among: Collection[str], find: Callable[[], str]) -> str:
    """The one of a few words that was found under this name before; else found now, and kept."""
    name = f"{name}.txt"
    known = _word(name, among)
    if known:
        return known
    found = find()
    known = _word(name, among)  # of who looked at the same time and was faster: they shall agree
    if known:
        return known
    _keep(name, found.encode())
    return found


def folder() -> Path:
    """The folder of this program among the user's caches, which need not be there. For a user
    without a home, as in a container, it is one of their own among the temporary files."""
    with contextlib.suppress(RuntimeError):  # from platformdirs, depending on its version
        path = platformdirs.user_cache_path("neural-style", appauthor=False, opinion=False)
        if path.is_absolute():
            return path
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir(), f"neural-style-{user}")


def _word(name: str, among: Collection[str]) -> str | None:
    kept = private_bytes(name, MOST_WORD)
    return next((word for word in among if kept == word.encode()), None)


def _load(name: str, origin: bytes) -> Weights | None:
    """The network that is kept under a name, if it came from there and is whole."""
    kept = private_bytes(name, MOST_BYTES)
    if kept is None:
        return None
    begin = len(FORMAT) + DIGEST_BYTES + len(origin)
    head, content = kept[:begin], memoryview(kept)[len(FORMAT) + DIGEST_BYTES :]
    if head != FORMAT + hashlib.sha256(content).digest() + origin:
        return None
    with contextlib.suppress(OSError):
        os.utime(folder() / name)  # it was used
    with contextlib.suppress(ValueError):  # of a version that packed otherwise
        return packed.unpack(kept[begin:])
    return None


def _sealed(content: bytes) -> bytes:
    """The content, after what tells that it is whole."""
    return FORMAT + hashlib.sha256(content).digest() + content


def _name(path: str | Path) -> str:
    """What a file's network is kept as: there is one of each path."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:16] + ".network"


def _origin(path: str | Path) -> bytes:
    """What changes when the file does."""
    _, *version = weights.version(path)
    return hashlib.sha256(repr(version).encode()).digest()


def private_bytes(name: str, most: int) -> bytes | None:
    """What is kept under a name, if that and the folder are this user's alone."""
    try:
        place = folder()
        if not _is_private(os.stat(place)):
            return None
        # no link, and no waiting for a pipe; Windows has neither flag
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(place / name, os.O_RDONLY | getattr(os, "O_BINARY", 0) | flags)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            is_ours = stat.S_ISREG(status.st_mode) and _is_private(status)
            return file.read() if is_ours and status.st_size <= most else None
    except (OSError, ValueError):
        return None


def _is_private(status: os.stat_result) -> bool:
    """Whether it belongs to this user, and nobody else may write it. Windows has its own rules,
    under which the user's caches are theirs."""
    if not hasattr(os, "geteuid"):
        return True
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.geteuid() and not status.st_mode & others


def _keep(name: str, data: bytes) -> None:
    """Keeps it, unless the disk is full, the home read-only, or the folder another user's."""
    with contextlib.suppress(OSError):
        place = private_folder()
        if place is None:
            return
        descriptor, temporary = tempfile.mkstemp(".tmp", "", place)  # for this user alone
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, place / name)
        except BaseException:
            os.unlink(temporary)
            raise
        _tidy(place)


def private_folder() -> Path | None:
    """The folder, made if it is missing; None if it is not this user's alone."""
    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    status = os.stat(place)
    if hasattr(os, "geteuid") and status.st_uid == os.geteuid() and not _is_private(status):
        os.chmod(place, 0o700)  # made when the umask let the group write
        status = os.stat(place)
    return place if _is_private(status) else None


def _tidy(place: Path) -> None:
    """Removes networks beyond the last few, and what processes that were ended left."""
    networks = sorted(place.glob("*.network"), key=os.path.getmtime, reverse=True)
    old = time.time() - UNFINISHED_SECONDS
    unfinished = [path for path in place.glob("*.tmp") if os.path.getmtime(path) < old]
    former = [path for path in place.glob("*.npz") if _FORMER.fullmatch(path.name)]
    for path in [*networks[MOST_NETWORKS:], *unfinished, *former]:
        path.unlink(missing_ok=True)
