"""Downloads: an address -> a file that arrived whole, or none."""

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

TIMEOUT_SECONDS = 30.0  # without a byte
BLOCK_BYTES = 1 << 20


def fetch(what: str, address: str, place: Path, md5: str, most: int) -> None:
    """Downloads a file to `place`, which appears only once its MD5 sum is right; makes its folder.

    what: for messages, such as "network vgg19". most: bytes. Raises `UserError` if it fails.
    """
    print(f"downloading {what} from {address}", file=sys.stderr, flush=True)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {place.parent} ({files.reason(error)}): set KERAS_HOME to a folder that "
            "can be written"
        ) from error
    with files.writing(place) as file:
        try:
            _transfer(address, file, md5, most)
        except (OSError, http.client.HTTPException) as error:
            reason = files.reason(getattr(error, "reason", None) or error)
            raise UserError(
                f"cannot download {what} ({reason}): download {address} another way and put it "
                f"into {place.parent}"
            ) from error


def _transfer(address: str, file: BinaryIO, md5: str, most: int) -> None:
    """Raises `OSError` or `HTTPException`, also if what arrives is not the file."""
    opener = urllib.request.build_opener(_OnlyHttps)
    request = urllib.request.Request(address, headers={"User-Agent": f"neural-style/{VERSION}"})
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        while block := response.read(BLOCK_BYTES):
            size += len(block)
            if size > most:
                raise OSError("it does not end")
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != md5:
        raise OSError("it arrived broken or changed")


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirected to {newurl[:100]!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
