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
import tempfile
from collections.abc import Mapping
from typing import Any

from neural_style_tf.machine import user_cache

KEY = "signing.key"
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
    """The user's key. make: whether a missing one is made."""
    key = user_cache.read(KEY, KEY_BYTES)
    if key is None and make:
        with contextlib.suppress(OSError):
            _make_key()
        key = user_cache.read(KEY, KEY_BYTES)
    return key if key and len(key) == KEY_BYTES and not _others_may_read() else None


def _make_key() -> None:
    """Writes a key, whole or not at all. If two processes do so at once, the first one wins."""
    place = user_cache.private_folder()
    if place is None:
        return
    descriptor, temporary = tempfile.mkstemp(".tmp", "", place)  # for this user alone
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, place / KEY)
    finally:
        os.unlink(temporary)


def _others_may_read() -> bool:
    """As far as the permissions say; Windows has none of these."""
    with contextlib.suppress(OSError):
        return hasattr(os, "getuid") and bool(os.stat(user_cache.folder() / KEY).st_mode & 0o077)
    return True
