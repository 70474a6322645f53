"""Signature: whether this user wrote a file, by a key that lies in the user's own cache folder.

A saved run says where its inputs lie and what it writes where. From a stranger that could be any
file, so it is believed only if its signature is right (HMAC, RFC 2104, with SHA-256).
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cache

KEY_BYTES = 32


def sign(content: Mapping[str, Any]) -> str | None:
    """The signature of what JSON can hold, in hexadecimal digits; None where no key can be kept."""
    key = _key(make=True)
    return None if key is None else _signature(content, key)


def is_ours(content: Mapping[str, Any], signature: Any) -> bool:
    """Whether `sign` gave this signature for this content, here and to this user."""
    key = _key(make=False)
    if key is None or not isinstance(signature, str) or not signature.isascii():
        return False
    return hmac.compare_digest(signature, _signature(content, key))


def _signature(content: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key(make: bool) -> bytes | None:
    """The user's key. make: where there is none yet, it is made."""
    path = cache.folder() / "signing.key"
    with contextlib.suppress(OSError):
        if make and not path.exists():
            _make_key(path)
        key = path.read_bytes()
        if len(key) == KEY_BYTES and _is_private(path):
            return key
    return None


def _make_key(path: Path) -> None:
    """Whole or not at all; of two processes that make one at a time, the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def _is_private(path: Path) -> bool:
    """Whether only this user can read or write it, as far as the system says."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o077
