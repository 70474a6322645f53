"""The page that shows a run: the server alone, then in a real browser."""

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image
from shared import PATIENCE, error_of, new_page, size_of, start, wait_for

from neural_style_tf.pictures import writing

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from neural_style_tf.errors import UserError
from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import Step
from neural_style_tf.runs.preview import Preview, listener, server, state

STAGE = Stage(1, 1, 30, 40, 100)
LOSSES = {"content": 1.0, "style": float("nan"), "tv": 3.0, "total": 4.0}


@pytest.fixture
def preview(picture, monkeypatch):
    monkeypatch.setattr(listener, "MOST_PER_SECOND", 1e6)  # a test has no time
    monkeypatch.setattr(listener, "SECONDS_WITHOUT_PROGRESS", PATIENCE)
    preview = Preview("127.0.0.1", 0, "<out>.png")
    stopped = []
    preview.begin(picture(30, 40), [STAGE], lambda: stopped.append(1), lambda image: image)
    preview.stopped = stopped
    yield preview
    preview.close()


def split(address):
    """The port and the token of a page."""
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{22})", address)
    return int(found[1]), found[2]


def port_of(preview):
    return split(preview.address)[0]


def connect(preview):
    return http.client.HTTPConnection("127.0.0.1", port_of(preview), timeout=PATIENCE)


def ask(preview, path, method="GET", **headers):
    """Status and bytes of an answer to somebody who knows the token."""
    return answer(preview, path, method, **{"X-Token": split(preview.address)[1]} | headers)[::2]


def answer(preview, path, method="GET", **headers):
    """Status, headers and bytes of an answer."""
    connection = connect(preview)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


class Viewer:
    """Reads what the page is latest."""

    def __init__(self, preview):
        self._connection = connect(preview)
        self._connection.request("GET", f"/events?token={split(preview.address)[1]}")
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def next(self):
        while True:
            line = self._answer.readline()
            assert line, "the page has closed"
            if line.startswith(b"data: {"):
                return json.loads(line[6:])

    def until(self, holds):
        while not holds(message := self.next()):
            pass
        return message

    def leave(self):
        self._answer.close()
        self._connection.close()


def step(iteration, image):
    return Step(iteration, 100, STAGE, iteration + 1.0, lambda: LOSSES, lambda: image, None)


def test_a_viewer_is_told_of_steps_and_gets_the_picture(preview, picture):
    viewer = Viewer(preview)
    viewer.next()
    image = picture(30, 40, seed=3)
    preview.see(step(0, image))
    message = viewer.until(lambda message: message["version"] and "iteration" in message)
    assert message["iteration"] == 1 and message["total"] == 100 and message["remaining"] == 99
    assert message["losses"] == {"content": 1, "style": None, "tv": 3, "total": 4}
    assert message["curves"] == [[1, 1, None, 3, 4]]
    status, data = ask(preview, "/picture")
    shown = np.asarray(Image.open(io.BytesIO(data)), float)
    assert status == 200 and shown.shape == (30, 40, 3) and np.abs(shown - image).mean() < 8


def test_pictures_are_fetched_only_while_somebody_looks(preview):
    def fetched():
        raise AssertionError("nobody looks")

    preview.see(step(0, None)._replace(image=fetched))
    assert ask(preview, "/picture") == ask(preview, "/photo")


def test_pictures_cost_a_fiftieth_of_the_time(preview, picture, monkeypatch):
    viewer = Viewer(preview)
    viewer.next()
    now, fetched = 0.0, 0

    def image():
        nonlocal now, fetched
        now, fetched = now + 0.5, fetched + 1
        return picture(30, 40)

    class Clock:
        monotonic = perf_counter = staticmethod(lambda: now)

    monkeypatch.setattr(state, "time", Clock)
    for iteration in range(1000):
        now += 0.5
        preview.see(step(iteration, None)._replace(image=image))
    assert 15 <= fetched <= 21


def test_viewers_come_and_go(preview, picture):
    viewers = [Viewer(preview) for _ in range(20)]
    for viewer in viewers[::2]:
        viewer.leave()
    late = Viewer(preview)
    preview.show(picture(30, 40))
    preview.tell("hello")
    for viewer in [*viewers[1::2], late]:
        viewer.until(lambda message: message["message"] == "hello")


def test_curves_stay_short(preview, monkeypatch):
    monkeypatch.setattr(state, "LOSSES_EVERY_SECONDS", 0)
    for iteration in range(3000):
        preview.see(step(iteration, None))
    curves = Viewer(preview).next()["curves"]
    assert 150 <= len(curves) <= 400
    assert curves[0][0] == 1 and curves[-1][0] > 2950
    gaps = np.diff([row[0] for row in curves])
    assert gaps.min() == gaps.max()


PATHS = ["/", "/picture", "/photo", "/checkpoint/0", "/events", "/nothing", "/stop"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(preview, path):
    _, token = split(preview.address)
    wrong = ["", "?token=", f"?token={token[:-1]}", "?token=%C3%A9%ff", f"?other={token}"]
    for query in wrong:
        for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT"):
            status, headers, data = answer(preview, path + query, method)
            assert status == 403 and headers["X-Content-Type-Options"] == "nosniff"
            assert data == (b"" if method == "HEAD" else server.FORBIDDEN.encode())
            assert headers["Content-Length"] == str(len(server.FORBIDDEN))
    assert "open the address that the run printed" in server.FORBIDDEN


def test_every_answer_is_protected(preview):
    for path in [*PATHS[:4], "/nothing"]:
        for method in ("GET", "HEAD", "DELETE"):
            _, headers, _ = answer(preview, path, method, **{"X-Token": split(preview.address)[1]})
            for name, value in server.HEADERS.items():
                assert headers.get_all(name) == [value], (path, name)


def test_the_token_in_the_address_is_enough_to_look(preview):
    query = f"?token={split(preview.address)[1]}"
    for path in ("/", "/picture", "/photo"):
        assert answer(preview, path + query)[0] == 200
    assert answer(preview, "/checkpoint/0" + query)[0] == 404
    assert answer(preview, "/events" + query, "HEAD")[0] == 200


def test_only_the_page_may_press_a_button(preview):
    port, token = split(preview.address)
    for name in ("/stop", "/save", "/close"):
        assert answer(preview, name, "POST")[0] == 403
        assert answer(preview, f"{name}?token={token}", "POST")[0] == 403  # as a form may send it
        assert ask(preview, name, "POST", **{"X-Token": token[:-1] + "é"})[0] == 403
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", ""):
            assert ask(preview, name, "POST", Origin=origin)[0] == 403
        assert ask(preview, name)[0] == 405
    assert not preview.stopped and not preview.save_is_asked_for()
    assert ask(preview, "/stop", "POST")[0] == 200
    assert ask(preview, "/save", "POST", Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert preview.stopped and preview.save_is_asked_for() and not preview.save_is_asked_for()


def test_only_who_calls_us_by_our_name_is_answered(preview):
    assert ask(preview, "/", Host="evil.example")[0] == 400
    assert ask(preview, "/events", Host="evil.example:80")[0] == 400
    assert ask(preview, "/", Host="")[0] == 400
    for host in ("127.0.0.1:80", "localhost", "[::1]:80", "192.168.0.7:80", socket.gethostname()):
        assert ask(preview, "/", Host=host)[0] == 200
    names = listener.names_of("My-Host")
    assert listener.is_ours("my-host:80", names) and not listener.is_ours("", names)


def test_no_name_is_looked_up_while_the_page_is_served(preview, monkeypatch):
    threads = []
    for name in ("getfqdn", "getaddrinfo", "gethostbyaddr"):
        look_up = getattr(socket, name)

        def noted(*arguments, look_up=look_up):
            threads.append(threading.current_thread())
            return look_up(*arguments)

        monkeypatch.setattr(socket, name, noted)
    assert ask(preview, "/", Host="localhost")[0] == 200
    assert ask(preview, "/", Host="evil.example")[0] == 400
    assert set(threads) == {threading.current_thread()}  # the client's own


def test_a_slow_name_server_delays_nothing_for_long(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(listener, "LOOKUP_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getfqdn", release.wait)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait())
    assert listener.names_of("127.0.0.1") >= {"127.0.0.1", "localhost"}
    with pytest.raises(UserError, match=r"'far' has no answer within 0\.1 seconds from"):
        Preview("far", 0, "out")
    release.set()


ADVICE = "use 127.0.0.1 for this machine only, or a name or an address of this machine"


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_refused(run, host):
    done = run("--preview", "--preview-host", host)
    assert error_of(done, 1) == f"--preview-host is empty: {ADVICE}"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "a\0b", "::zz"])
def test_an_unknown_host_is_refused(host, monkeypatch):
    monkeypatch.setattr(listener, "LOOKUP_SECONDS", PATIENCE)  # as a name server may take
    with pytest.raises(UserError) as caught:
        Preview(host, 0, "out")
    message = str(caught.value)
    assert message.startswith(f"--preview-host {host[:80]!r} is unknown (") and "\n" not in message
    assert message.endswith(f"): {ADVICE}")


def send(preview, data):
    """All that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", port_of(preview)), PATIENCE) as connection:
        connection.sendall(data)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                found += piece
        return found


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
            found = send(preview, b"GET / HTTP/1.1\r\nA: %s" % (b"a" * 10_000_000))
            assert found in (b"", send(preview, b"nonsense\r\n\r\n"))
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
    with open(os.devnull) as file:
        limit = file.fileno() + 40
    connections = []
    for _ in range(50):  # two descriptors each: theirs and ours
        connections.append(socket.create_connection(("127.0.0.1", port_of(preview)), PATIENCE))
        wait_for(lambda: connections_of(preview))  # the first, before ours use them up
    time.sleep(0.2)
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
    connections = [socket.create_connection(address, PATIENCE) for _ in range(20)]
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


def test_the_run_never_waits_for_a_picture_to_be_encoded(preview, picture, monkeypatch):
    begun, release, encoded = threading.Event(), threading.Event(), []

    def slowly(image):
        encoded.append(1)
        begun.set()
        assert release.wait(PATIENCE)
        return b"jpeg"

    monkeypatch.setattr(state, "_jpeg", slowly)
    preview.show(picture(30, 40))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(preview, "/picture")[1]))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(PATIENCE)
    preview.see(step(0, picture(30, 40)))  # hangs if it waits for what is being encoded
    preview.tell("goes on")
    assert not release.is_set()
    release.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [b"jpeg"] * 5 and len(encoded) == 1


def test_a_server_that_fails_leaves_the_run_alone(picture, monkeypatch, capfd):
    async def fail(*_, **__):
        raise RuntimeError("no page")

    monkeypatch.setattr("uvicorn.Server.serve", fail)
    preview = Preview("127.0.0.1", 0, "out")
    preview._server._thread.join(PATIENCE)
    preview.begin(picture(30, 40), [STAGE], lambda: None, lambda image: image)
    preview.see(step(0, picture(30, 40)))
    preview.tell("goes on")
    preview.close()
    assert capfd.readouterr() == ("", "")


def test_a_failure_is_shown(preview):
    viewer = Viewer(preview)
    preview.tell("out of memory", "failed")
    message = viewer.until(lambda message: message["status"] == "failed")
    assert message["message"] == "out of memory" and not message["closed"]
    preview.close()
    assert viewer.until(lambda message: message["closed"])["status"] == "failed"


def test_the_page_is_whole_and_the_title_no_code(preview):
    _, page = ask(preview, "/")
    text = page.decode()
    assert "&lt;out&gt;.png" in text and "<out>" not in text and "{{" not in text
    assert not re.search(r"https?://", text)


def test_checkpoints_are_served_from_their_files(preview, picture, tmp_path):
    path = tmp_path / "c.png"
    writing.save(path, picture(30, 40))
    preview.add_checkpoint(5, str(path))
    assert Image.open(io.BytesIO(ask(preview, "/checkpoint/0")[1])).size == (40, 30)
    assert ask(preview, "/checkpoint/1")[0] == 404
    assert ask(preview, "/checkpoint/0") == ask(preview, "/checkpoint/00")
    path.unlink()
    assert ask(preview, "/checkpoint/0")[0] == 404
    path.write_bytes(b"no picture")
    assert ask(preview, "/checkpoint/0") == (404, b"the checkpoint's file cannot be shown")


def test_a_port_that_is_taken_is_told(preview):
    port = port_of(preview)
    with pytest.raises(
        UserError, match=f"cannot listen at 127.0.0.1 port {port} .*: choose another"
    ):
        Preview("127.0.0.1", port, "two")


def test_missing_packages_are_told(monkeypatch):
    monkeypatch.setattr("neural_style_tf.runs.preview.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'neural-style-tf\[preview\]'"):
        Preview("127.0.0.1", 0, "out")


def test_a_wrong_port_is_told_before_the_run(run):
    assert error_of(run("--preview", 70000), 2) == "--preview is 70000: use 65535 or less"


# In a browser


@pytest.fixture
def watched(folder, browser):
    """Begins a run with its page open: process, page and address. The process's `told` grows by the
    lines that it prints."""
    processes = []

    def watch(*options, width=1000):
        process = start(folder, "--preview", *options)
        processes.append(process)
        address = re.match(r"watch at (http://127.0.0.1:\d+/\?\S+)$", process.stderr.readline())[1]
        process.told = []
        reader = threading.Thread(target=lambda: process.told.extend(process.stderr), daemon=True)
        reader.start()  # or the pipe fills
        page = new_page(browser, width, 800)
        page.goto(address)
        return process, page, address

    yield watch
    for process in processes:
        process.kill()
        process.wait()


def wait(page, expression):
    """Until it holds in the page, whose policy forbids Playwright's own way."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def test_a_browser_shows_the_run_and_its_button_stops_it(folder, watched):
    options = ["--checkpoint-output", "c-%04d.png", "--checkpoint-iterations", "200"]
    process, page, address = watched(*options)
    natural = "document.getElementById('picture').naturalWidth"
    wait(page, f"latest.version > 0 && {natural} == 45")
    # it changes
    version = page.evaluate("latest.version")
    source = page.get_attribute("#picture", "src")
    changed = f"$('picture').getAttribute('src') != {source!r}"  # once the new one has arrived
    wait(page, f"latest.version > {version} && {changed}")
    # curves, facts
    wait(page, "document.getElementById('curves').dataset.points > 3")
    drawn = page.evaluate(
        "[...$('curves').getContext('2d').getImageData(0, 0, 400, 200).data].some(x => x > 0)"
    )
    assert drawn and re.fullmatch(r"\d+ of 100000", page.inner_text("#step"))
    assert page.inner_text("#part") == "1 of 1, 45x34"
    # back through the checkpoints
    wait(page, "latest.checkpoints.length >= 2")
    page.evaluate("$('back').value = 1; $('back').oninput()")
    wait(page, f"$('picture').src.includes('/checkpoint/1?') && {natural} == 45")
    assert page.get_attribute("#picture", "src").startswith("checkpoint/1?token=")
    assert page.inner_text("#which") == "step 201"
    page.evaluate("$('back').value = $('back').max; $('back').oninput()")
    # the divider
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.up()
    wait(page, "Math.abs($('split').value - 50) <= 1 && $('photo').naturalWidth == 45")
    # save, then stop
    assert not (folder / "out.png").exists()
    page.click("#save")
    wait(page, "latest.message.startsWith('saved as out.png')")
    page.click("#stop")
    wait(page, "latest.status == 'done'")
    assert size_of(folder / "out.png") == (45, 34)
    assert process.poll() is None and page.inner_text("#message").startswith("out.png: ")
    page.click("#close")
    assert process.wait(timeout=PATIENCE) == 130
    own = address.partition("?")[0], "data:"
    assert page.errors == [] and all(url.startswith(own) for url in page.requests)


def test_the_page_fits_a_telephone_and_outlives_the_run(folder, watched):
    process, page, _ = watched("--iterations", "30", "--scales", "2", width=360)
    wait(page, "latest.status == 'done'")
    wait(page, "$('picture').naturalWidth == 45")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for name in ("#close", "#picture", "#curves"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert process.poll() is None and page.errors == []
    wait_for(lambda: any("stays until it is closed there" in line for line in process.told))
    page.reload()
    wait(page, "latest.status == 'done' && $('picture').naturalWidth == 45")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 0
    wait(page, "latest.closed && $('close').hidden")
    page.evaluate("shown = -1, show()")  # there is no server any more
    page.wait_for_timeout(300)
    assert page.evaluate("$('picture').naturalWidth") == 45
    assert page.inner_text("#message").startswith("out.png: ") and page.errors == []


def look(browser, preview):
    page = new_page(browser, 800, 600)
    page.goto(preview.address)
    wait(page, "latest.status == 'running'")
    return page


def says(page, text):
    wait(page, f"$('message').textContent == {text!r}")


@contextlib.contextmanager
def cut(preview):
    """Ends the server without a word, as an interrupted connection does. Meanwhile nobody else gets
    its port."""
    server = preview._server
    server._server.force_exit = server._server.should_exit = True
    server._thread.join(PATIENCE)
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", port_of(preview)))
        yield


def replaced(preview, monkeypatch, token):
    """Another server at the address of one that has been cut off."""
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: token)
    return Preview("127.0.0.1", port_of(preview), "out.png")


def test_an_interrupted_connection_is_no_end(browser, preview, picture, monkeypatch):
    page = look(browser, preview)
    with cut(preview):
        says(page, "connection lost, trying again")
        assert page.is_disabled("#stop") and page.is_disabled("#save")
        page.evaluate("lost -= 30000")
        says(page, "no connection: the run has ended or cannot be reached")
        same = replaced(preview, monkeypatch, split(preview.address)[1])
    with contextlib.closing(same):
        same.begin(picture(30, 40), [STAGE], lambda: None, lambda image: image)
        same.tell("goes on")
        says(page, "goes on")
        assert page.is_enabled("#stop")


def test_a_page_knows_another_run(browser, preview, monkeypatch):
    page = look(browser, preview)
    with cut(preview):
        other = replaced(preview, monkeypatch, "x" * 22)
    with contextlib.closing(other):
        says(page, "another run is at this address now: open the address that it printed")
        assert page.is_hidden("#stop")


def test_a_page_tells_of_a_failure_and_of_an_end(browser, preview):
    failing = look(browser, preview)
    preview.tell("out of memory", "failed")
    says(failing, "the run has failed: out of memory")
    assert failing.is_visible("#close") and failing.is_hidden("#stop")
    failing.reload()
    says(failing, "the run has failed: out of memory")
    preview.tell("")
    stopped = look(browser, preview)
    preview.close()
    says(stopped, "the run has ended")
    assert stopped.is_hidden("#close") and stopped.is_hidden("#stop")


def test_ctrl_c_ends_run_and_page(folder):
    process = start(folder, "--preview", "--quiet")  # which keeps the token back from nobody
    address = process.stderr.readline()
    assert address.startswith("watch at http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 130
