"""Downloads, from a server on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from network_files import (
    error_of,
)

from neural_style_tf.network import downloads


class Server(BaseHTTPRequestHandler):
    """Sends `CONTENT`, whole or in one of several wrong ways."""

    def do_GET(self):
        way = self.path.strip("/")
        if way == "missing":
            self.send_error(404)
        elif way.startswith("to-"):
            self.send_response(302)
            self.send_header(
                "Location", {"to-http": "/whole", "to-file": "file:///etc/passwd"}[way]
            )
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write({"cut": CONTENT[:-1], "other": CONTENT[::-1]}.get(way, CONTENT))

    def log_message(self, *_):
        pass


CONTENT = b"a network " * 1000
CHECKSUM = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_download_is_a_whole_file_with_the_users_mode(server, tmp_path, capsys):
    place = tmp_path / "keras" / "models" / "network.h5"
    downloads.fetch("network x", f"{server}/whole", place, CHECKSUM, 10_000)
    assert place.read_bytes() == CONTENT
    (tmp_path / "plain").touch()
    assert place.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert capsys.readouterr() == ("", f"downloading network x from {server}/whole\n")


@pytest.mark.parametrize(
    "way, most, reason",
    [
        ("missing", 10_000, "Not Found"),
        ("cut", 10_000, "it is damaged or not the published file"),
        ("other", 10_000, "it is damaged or not the published file"),
        ("whole", 9_999, "it is too large"),
        ("to-http", 10_000, "redirected to '{server}/whole'"),
        ("to-file", 10_000, "Found - Redirection to url 'file:///etc/passwd' is not allowed"),
    ],
)
def test_a_download_that_fails_is_reported_and_leaves_nothing(server, tmp_path, way, most, reason):
    place = tmp_path / "network.h5"
    address = f"{server}/{way}"
    assert error_of(downloads.fetch, "network x", address, place, CHECKSUM, most) == (
        f"cannot download network x ({reason.format(server=server)}): download {address} another "
        f"way and save it in {tmp_path}"
    )
    assert not list(tmp_path.iterdir())


def test_without_a_network_connection_one_line_says_what_to_do(tmp_path):
    address = "http://127.0.0.1:9/network.h5"
    assert error_of(downloads.fetch, "network x", address, tmp_path / "x", CHECKSUM, 1) == (
        f"cannot download network x (Connection refused): download {address} another way and save "
        f"it in {tmp_path}"
    )
