"""Cache: a network that was read once, in a form that loads at once; and what was measured once.

Lies in the platform's cache folder, may be deleted at any time, and is never trusted: what does not
belong to the very file that was read is ignored.
"""

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

import files
import weights
from settings import UserError
from weights import Layer, Weights

FORMAT = 1  # of the files here
SMALLEST = 5_000_000  # bytes of a network's file: smaller ones are read as fast


def read(path: str | Path) -> Weights:
    """What `weights.read` gives, from the cache if it has it; else it is read and kept there."""
    files.open_to_read(path).close()  # raises for a file that is gone
    if os.path.getsize(path) < SMALLEST:
        return weights.read(path)
    place = folder() / f"{hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:16]}.npz"
    origin = _origin(path)
    kept = _load(place, origin)
    if kept is None:
        kept = weights.read(path)
        _keep(place, _bytes(kept, origin))
    return kept


def word(name: str, among: Collection[str], find: Callable[[], str]) -> str:
    """The one of a few words that was found under this name before; else found now, and kept."""
    place = folder() / f"{name}.txt"
    known = _word(place, among)
    if known:
        return known
    found = find()
    known = _word(place, among)  # of who looked at the same time and was faster: they shall agree
    if known:
        return known
    _keep(place, found.encode())
    return found


def _word(place: Path, among: Collection[str]) -> str | None:
    try:
        kept = place.read_text()
    except (OSError, ValueError):
        return None
    return kept if kept in among else None


def _keep(place: Path, data: bytes) -> None:
    with contextlib.suppress(OSError, UserError):  # a full disk, or a home that is read-only
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write(place, data)


def folder() -> Path:
    """The folder of this program among the user's caches."""
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():  # a container's user without a home
        home = Path(tempfile.gettempdir())
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return caches / "neural-style"


def _origin(path: str | Path) -> np.ndarray:
    """What changes when the file does."""
    _, size, time, number = files.version(path)
    return np.array([FORMAT, size, time, number % 2**63])


def _bytes(kept: Weights, origin: np.ndarray) -> bytes:
    arrays = {"origin": origin, "mean_pixel": kept.mean_pixel, "scale": kept.scale}
    arrays["title"] = np.array(kept.title)
    arrays["layers"] = np.array([(layer.name, layer.kind) for layer in kept.layers])
    for layer in kept.layers:
        if layer.kernel is not None:
            arrays |= {f"{layer.name}/kernel": layer.kernel, f"{layer.name}/bias": layer.bias}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _load(place: Path, origin: np.ndarray) -> Weights | None:
    """What is kept at `place`, if it came from there and is whole."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            if not np.array_equal(arrays["origin"], origin):
                return None
            layers = [
                Layer(name, kind, arrays[f"{name}/kernel"], arrays[f"{name}/bias"])
                if kind == "conv"
                else Layer(name, kind)
                for name, kind in arrays["layers"].tolist()
            ]
            title = str(arrays["title"])
            return Weights(layers, arrays["mean_pixel"], arrays["scale"], title)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
