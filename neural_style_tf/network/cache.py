"""Cache: networks that were read before, in a form that loads at once.

A compressed `.mat` file has to be unpacked each time it is read; its entry in the cache, of about
80 MB for a VGG-19, is not compressed. The cache holds the four networks used last. An entry is
ignored if it is damaged (each has a digest) or was not made from exactly the requested file.
"""

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from neural_style_tf.errors import UserError
from neural_style_tf.machine import user_cache
from neural_style_tf.network import packed, weights
from neural_style_tf.network.weights import Weights
from neural_style_tf.pictures import files

SMALLEST = 5_000_000  # bytes of a network's file: smaller ones are read as fast
MAX_NETWORKS = 4
MAX_BYTES = 2_500_000_000  # of an entry

FORMAT = b"neural-style network 3\n"  # in version 2, all .pth files were read as torchvision's
DIGEST_BYTES = hashlib.sha256().digest_size
_FORMER = re.compile(r"[0-9a-f]{16}\.npz")  # how version 1 named its files


class Cleared(NamedTuple):
    """What `clear` removed."""

    folder: Path
    files: int
    bytes: int


def read(path: str | Path) -> Weights:
    """What `weights.read` returns, from the cache if possible; otherwise it is read and kept there.

    Raises `UserError` as `weights.read` does, also for a file that is missing though its network is
    in the cache.
    """
    with weights.open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size < SMALLEST:
        return weights.read(path)
    name, origin = _name(path), _origin(path)
    network = _load(name, origin)
    if network is None:
        network = weights.read(path)
        if user_cache.write(name, _sealed(origin + packed.pack(network))):
            _remove_oldest()
    return network


def clear() -> Cleared:
    """Removes everything that was kept to save time: networks, and the precision that measured
    fastest. The key that signs saved runs stays, and so does what another process is writing.

    Raises `UserError` if a file cannot be removed.
    """
    folder, count, size = user_cache.folder(), 0, 0
    try:
        if folder.exists() and user_cache.private_folder():
            for path in _entries(folder):
                size += path.lstat().st_size
                path.unlink()
                count += 1
    except OSError as error:
        raise UserError(f"cannot clear the cache {folder} ({files.reason(error)})") from error
    return Cleared(folder, count, size)


def _entries(folder: Path) -> list[Path]:
    """All files that `clear` removes."""
    remembered = folder.glob("*.txt")
    paths = [*_networks(folder), *_former(folder), *remembered, *user_cache.unfinished(folder)]
    return [path for path in paths if not path.is_dir()]


def _networks(folder: Path) -> list[Path]:
    return list(folder.glob("*.network"))


def _former(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.npz") if _FORMER.fullmatch(path.name)]


def _remove_oldest() -> None:
    """Removes all networks but the ones used last, and those that an older version kept."""
    folder = user_cache.folder()
    with contextlib.suppress(OSError):  # another process may be doing the same
        networks = sorted(_networks(folder), key=os.path.getmtime, reverse=True)
        for path in [*networks[MAX_NETWORKS:], *_former(folder)]:
            path.unlink(missing_ok=True)


def _load(name: str, origin: bytes) -> Weights | None:
    """The network kept under a name, if it is intact and was read from the file with that
    origin."""
    entry = user_cache.read(name, MAX_BYTES)
    if entry is None:
        return None
    begin = len(FORMAT) + DIGEST_BYTES + len(origin)
    head, content = entry[:begin], memoryview(entry)[len(FORMAT) + DIGEST_BYTES :]
    if head != FORMAT + hashlib.sha256(content).digest() + origin:
        return None
    with contextlib.suppress(OSError):
        os.utime(user_cache.folder() / name)  # its time of last use
    with contextlib.suppress(ValueError):  # from a version that packed differently
        return packed.unpack(entry[begin:])
    return None


def _sealed(content: bytes) -> bytes:
    """The content, preceded by its digest."""
    return FORMAT + hashlib.sha256(content).digest() + content


def _name(path: str | Path) -> str:
    """The name of a file's entry: there is one entry per path."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:16] + ".network"


def _origin(path: str | Path) -> bytes:
    """A digest that changes when the file changes."""
    _, *version = weights.version(path)
    return hashlib.sha256(repr(version).encode()).digest()
