"""The page that shows a run: what it shows, and to whom."""

import io
import re
import signal
import socket
import threading

import numpy as np
import pytest
from pages import STAGE, Viewer, answer, ask, port_of, split, step
from PIL import Image
from shared import PATIENCE, error_of

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import writing
from neural_style_tf.runs.preview import Preview, listener, server, state

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


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


def test_ctrl_c_ends_run_and_page(start):
    process = start("--preview", "--quiet")  # which keeps the token back from nobody
    address = process.stderr.readline()
    assert address.startswith("watch at http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 130
