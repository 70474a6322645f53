"""Downloads: an address -> a complete file, or none.

`pooch` has neither a limit on the size nor one on the protocol of redirects, and it leaves files
that only their owner can read; with a downloader of our own for that, it would save no code.
"""

import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files
from neural_style_tf.version import VERSION

TIMEOUT_SECONDS = 30.0  # without receiving a byte
BLOCK_BYTES = 1 << 20


def fetch(what: str, address: str, path: Path, md5: str, max_bytes: int) -> None:
    """Downloads a file to `path`, which only appears once its MD5 sum was checked. Creates the
    folder.

    what: for messages, such as "network vgg19". Raises `UserError` if the download fails.
    """
    print(f"downloading {what} from {address}", file=sys.stderr, flush=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path.parent} ({files.reason(error)}): set KERAS_HOME to a folder that "
            "you can write to"
        ) from error
    with files.writing(path) as file:
        try:
            _transfer(address, file, md5, max_bytes)
        except (OSError, http.client.HTTPException) as error:
            reason = files.reason(getattr(error, "reason", None) or error)
            raise UserError(
                f"cannot download {what} ({reason}): download {address} another way and save it "
                f"in {path.parent}"
            ) from error


def _transfer(address: str, file: BinaryIO, md5: str, max_bytes: int) -> None:
    """Raises `OSError` or `HTTPException`, also if something other than the file arrives."""
    opener = urllib.request.build_opener(_OnlyHttps)
    request = urllib.request.Request(address, headers={"User-Agent": f"neural-style/{VERSION}"})
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        while block := response.read(BLOCK_BYTES):
            size += len(block)
            if size > max_bytes:
                raise OSError("it is too large")
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != md5:
        raise OSError("it is damaged or not the published file")


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTPS only."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirected to {newurl[:100]!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
