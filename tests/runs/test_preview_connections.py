"""The page of a run under requests that are malformed, slow, many or never read."""

import contextlib
import errno
import os
import socket

import pytest
from pages import Viewer, ask, connect, port_of, split
from shared import PATIENCE, wait_for

from neural_style_tf.runs.preview import listener, server

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


def send(preview, data):
    """All that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", port_of(preview)), PATIENCE) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


def test_malformed_requests_are_refused(preview):
    _, token = split(preview.address)
    query, host = f"?token={token}".encode(), b"Host: localhost\r\n"
    requests = {
        b"GET / HTTP/1.1\r\n\r\n": 400,
        b"GET / HTTP/1.0\r\n\r\n": 400,
        b"GET /%s HTTP/1.0\r\n%s\r\n" % (query, host): 200,
        b"GET /%s HTTP/1.1\r\n%s%s\r\n" % (query, host, host): 400,
        b"\x16\x03\x01\x02\0\x01\0": 400,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
        b"GET /\xff HTTP/1.1\r\n%s\r\n" % host: 400,
        b"GET /checkpoint/%s%s HTTP/1.1\r\n%s\r\n" % (b"9" * 5000, query, host): 404,
        b"GET /checkpoint/-1%s HTTP/1.1\r\n%s\r\n" % (query, host): 404,
        b"GET /checkpoint/%%D9%%A0%s HTTP/1.1\r\n%s\r\n" % (query, host): 404,
        b"GET /../../etc/passwd%s HTTP/1.1\r\n%s\r\n" % (query, host): 404,
        b"POST /stop HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nzz"
        % host: 403,
        b"OPTIONS *%s HTTP/1.1\r\n%sX-Token: %s\r\n\r\n" % (query, host, token.encode()): 404,
        b"GET /%s HTTP/1.1\r\n%sUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        % (query, host): 200,
    }
    for request, status in requests.items():
        assert send(preview, request).startswith(b"HTTP/1.1 %d " % status), request[:60]


def test_huge_headers_are_refused(preview):
    with pytest.raises(OSError):  # some of it is not even read
        for _ in range(100):
            answer = send(preview, b"GET / HTTP/1.1\r\nA: %s" % (b"a" * 10_000_000))
            assert answer in (b"", send(preview, b"nonsense\r\n\r\n"))
    assert ask(preview, "/photo")[0] == 200


def test_a_connection_has_one_answer(preview):
    """A second request on it, which somebody else may have put there, has none."""
    request = f"GET /photo?token={split(preview.address)[1]} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert send(preview, request.encode() * 3).count(b"HTTP/1.1 ") == 1


def connections_of(preview):
    return preview._server._listener._accepted


def test_connections_without_progress_are_closed(preview, monkeypatch):
    monkeypatch.setattr(listener, "SECONDS_WITHOUT_PROGRESS", 0.5)
    starts = b"", b"GET / HTTP/1.1\r\nHost: loc", b"POST /stop HTTP/1.1\r\nContent-Length: 9\r\n"
    for start_of_request in starts:
        with (
            socket.create_connection(("127.0.0.1", port_of(preview)), PATIENCE) as connection,
            contextlib.suppress(ConnectionError),  # it may be closed before anything is sent
        ):
            connection.sendall(start_of_request)
            assert connection.recv(1) == b""


def test_a_viewer_who_never_reads_is_left(preview, picture, monkeypatch):
    monkeypatch.setattr(server, "HEARTBEAT_SECONDS", 0.1)
    sleeper = socket.socket()
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.connect(("127.0.0.1", port_of(preview)))
    sleeper.sendall(f"GET /events?token={split(preview.address)[1]} HTTP/1.1\r\n".encode())
    sleeper.sendall(b"Host: localhost\r\n\r\n")
    wait_for(lambda: preview.viewers == 1)

    def is_left():
        preview.tell("x" * 200_000)
        return preview.viewers == 0

    with monkeypatch.context() as patch:  # for nobody else
        patch.setattr(listener, "SECONDS_WITHOUT_PROGRESS", 0.5)
        wait_for(is_left)
    sleeper.close()
    preview.tell("hello")
    assert Viewer(preview).next()["message"] == "hello"


def test_many_connections_leave_the_run_its_descriptors(preview, monkeypatch):
    """Those that wait are let in when others go."""
    monkeypatch.setattr(listener, "_first_reserved_descriptor", lambda: limit)
    accept, refused = listener.Listener.accept, []

    def noted(self):
        try:
            return accept(self)
        except OSError as error:
            if error.errno == errno.EMFILE:
                refused.append(error)
            raise

    monkeypatch.setattr(listener.Listener, "accept", noted)
    with open(os.devnull) as file:
        limit = file.fileno() + 40
    connections = []
    for _ in range(50):  # two descriptors each: theirs and ours
        connections.append(socket.create_connection(("127.0.0.1", port_of(preview)), PATIENCE))
        wait_for(lambda: connections_of(preview))  # the first, before ours use them up
    wait_for(lambda: refused)
    accepted = [each for each in connections_of(preview).values() if each.socket.fileno() != -1]
    assert 1 <= len(accepted) <= 40 and all(each.socket.fileno() < limit for each in accepted)
    for connection in connections:
        connection.close()

    def is_let_in():
        with contextlib.suppress(ConnectionError):  # until those before it have gone
            return ask(preview, "/photo")[0] == 200

    wait_for(is_let_in)


def test_more_connections_than_there_may_be_wait(preview, monkeypatch):
    monkeypatch.setattr(listener, "MOST_CONNECTIONS", 3)
    address = ("127.0.0.1", port_of(preview))
    connections = [socket.create_connection(address, PATIENCE) for _ in range(7)]
    late = connect(preview)
    late.request("GET", "/photo", headers={"X-Token": split(preview.address)[1]})
    assert len(connections_of(preview)) <= 3
    for connection in connections:
        connection.close()
    assert late.getresponse().status == 200


def test_connections_that_come_too_fast_wait(preview, monkeypatch):
    monkeypatch.setattr(listener, "BURST", 3)
    monkeypatch.setattr(listener, "MOST_PER_SECOND", 1e-9)
    for _ in range(3):
        assert ask(preview, "/photo")[0] == 200
    late = connect(preview)
    late.request("GET", "/photo", headers={"X-Token": split(preview.address)[1]})
    late.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        late.sock.recv(1)
    monkeypatch.setattr(listener, "MOST_PER_SECOND", 1e6)
    late.sock.settimeout(PATIENCE)
    assert late.getresponse().status == 200


def test_more_viewers_than_there_may_be_are_refused(preview, monkeypatch):
    monkeypatch.setattr(server, "MOST_VIEWERS", 2)
    viewers = [Viewer(preview) for _ in range(2)]
    for viewer in viewers:
        viewer.next()
    assert ask(preview, "/events") == (503, b"too many viewers")
    viewers[0].leave()
    preview.tell("")  # it is noticed that one has left
    wait_for(lambda: preview.viewers == 1)
    Viewer(preview).next()
