"""The page that shows a run: the server alone, then in a real browser."""

import http.client
import io
import json
import re
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image
from test_command_line import error_of, size_of, start

import images

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from preview import Preview, _is_ours
from settings import UserError
from stages import Stage
from stylize import Step

STAGE = Stage(1, 1, 30, 40, 100)
LOSSES = {"content": 1.0, "style": float("nan"), "tv": 3.0, "total": 4.0}


@pytest.fixture
def preview(picture):
    preview = Preview("127.0.0.1", 0, "<out>.png")
    stopped = []
    preview.begin(picture(30, 40), [STAGE], lambda: stopped.append(1), lambda image: image)
    preview.stopped = stopped
    yield preview
    preview.close()


def ask(preview, path, method="GET", **headers):
    port = int(preview.address.rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


class Viewer:
    """Reads what the page is told."""

    def __init__(self, preview):
        port = int(preview.address.rstrip("/").rpartition(":")[2])
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()

    def next(self):
        while True:
            line = self._answer.readline()
            if line.startswith(b"data: "):
                return json.loads(line[6:])

    def until(self, holds):
        while not holds(message := self.next()):
            pass
        return message

    def leave(self):
        self._connection.sock.close()


def step(iteration, image):
    return Step(iteration, 100, STAGE, iteration + 1.0, lambda: LOSSES, lambda: image, None)


def test_a_viewer_is_told_of_steps_and_gets_the_picture(preview, picture):
    viewer = Viewer(preview)
    viewer.next()
    image = picture(30, 40, seed=3)
    preview.see(step(0, image))
    message = viewer.until(lambda message: message["version"])
    assert message["iteration"] == 1 and message["total"] == 100 and message["left"] == 99
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
    import preview as module

    viewer = Viewer(preview)
    viewer.next()
    now, fetched = 0.0, 0

    def image():
        nonlocal now, fetched
        now, fetched = now + 0.5, fetched + 1
        return picture(30, 40)

    class Clock:
        monotonic = perf_counter = staticmethod(lambda: now)

    monkeypatch.setattr(module, "time", Clock)
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
    monkeypatch.setattr("preview.LOSSES_EVERY", 0)
    for iteration in range(3000):
        preview.see(step(iteration, None))
    curves = Viewer(preview).next()["curves"]
    assert 150 <= len(curves) <= 400
    assert curves[0][0] == 1 and curves[-1][0] > 2950
    gaps = np.diff([row[0] for row in curves])
    assert gaps.min() == gaps.max()


def test_only_the_page_may_press_a_button(preview):
    _, page = ask(preview, "/")
    token = re.search(r'"X-Token": "(.+?)"', page.decode())[1]
    for name in ("/stop", "/save", "/close"):
        assert ask(preview, name, "POST")[0] == 403
        assert ask(preview, name, "POST", **{"X-Token": token[:-1] + "é"})[0] == 403
        assert ask(preview, name)[0] == 405
    assert not preview.stopped and not preview.save_is_asked_for()
    assert ask(preview, "/stop", "POST", **{"X-Token": token})[0] == 200
    assert ask(preview, "/save", "POST", **{"X-Token": token})[0] == 200
    assert preview.stopped and preview.save_is_asked_for() and not preview.save_is_asked_for()


def test_only_who_calls_us_by_our_name_is_answered(preview):
    assert ask(preview, "/", Host="evil.example")[0] == 400
    assert ask(preview, "/events", Host="evil.example:80")[0] == 400
    for host in ("127.0.0.1:80", "localhost", "[::1]:80", "192.168.0.7:80"):
        assert ask(preview, "/", Host=host)[0] == 200
    assert _is_ours("my-host:80", "my-host") and not _is_ours("", "127.0.0.1")


def test_the_page_is_whole_and_the_title_no_code(preview):
    _, page = ask(preview, "/")
    text = page.decode()
    assert "&lt;out&gt;.png" in text and "<out>" not in text and "{{" not in text
    assert not re.search(r"https?://", text)


def test_checkpoints_are_served_from_their_files(preview, picture, tmp_path):
    path = tmp_path / "c.png"
    images.save(path, picture(30, 40))
    preview.add_checkpoint(5, str(path))
    assert Image.open(io.BytesIO(ask(preview, "/checkpoint/0")[1])).size == (40, 30)
    assert ask(preview, "/checkpoint/1")[0] == 404
    path.unlink()
    assert ask(preview, "/checkpoint/0")[0] == 404


def test_a_port_that_is_taken_is_told(preview):
    port = int(preview.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1 port {port}"):
        Preview("127.0.0.1", port, "two")


def test_missing_packages_are_told(monkeypatch):
    monkeypatch.setattr("preview.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -r requirements-preview\.txt"):
        Preview("127.0.0.1", 0, "out")


def test_a_wrong_port_is_told_before_the_run(run):
    assert error_of(run("--preview", 70000), 1).startswith("cannot listen at 127.0.0.1 port 70000")


# In a browser


@pytest.fixture
def watched(folder, browser):
    """Begins a run with its page open: process, page and address. The page has `errors` and
    `requests`."""
    processes = []

    def watch(*options, width=1000):
        process = start(folder, "--preview", *options, iterations=4000)
        processes.append(process)
        address = re.match(r"watch at (http://127.0.0.1:\d+/)$", process.stderr.readline())[1]
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or the pipe fills
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.errors, page.requests = [], []
        page.on("console", lambda message: page.errors.append(message.text))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(address)
        return process, page, address

    yield watch
    for process in processes:
        process.kill()
        process.wait()


def wait(page, expression):
    """Until it holds in the page, whose policy forbids Playwright's own way."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def test_a_browser_shows_the_run_and_its_button_stops_it(folder, watched):
    options = ["--checkpoint-output", "c-%04d.png", "--checkpoint-iterations", "200"]
    process, page, address = watched(*options)
    natural = "document.getElementById('picture').naturalWidth"
    wait(page, f"told.version > 0 && {natural} == 45")
    # it changes
    version = page.evaluate("told.version")
    source = page.get_attribute("#picture", "src")
    wait(page, f"told.version > {version}")
    assert page.get_attribute("#picture", "src") != source
    # curves, facts
    wait(page, "document.getElementById('curves').dataset.points > 3")
    drawn = page.evaluate(
        "[...$('curves').getContext('2d').getImageData(0, 0, 400, 200).data].some(x => x > 0)"
    )
    assert drawn and re.fullmatch(r"\d+ of 4000", page.inner_text("#step"))
    assert page.inner_text("#part") == "1 of 1, 45x34"
    # back through the checkpoints
    wait(page, "told.checkpoints.length >= 2")
    page.evaluate("$('back').value = 1; $('back').oninput()")
    wait(page, f"$('picture').complete && {natural} == 45")
    assert page.get_attribute("#picture", "src") == "checkpoint/1"
    assert page.inner_text("#which") == "step 201"
    page.evaluate("$('back').value = $('back').max; $('back').oninput()")
    # the divider
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.up()
    assert abs(float(page.input_value("#split")) - 50) <= 1
    assert page.evaluate("$('photo').naturalWidth") == 45
    # save, then stop
    assert not (folder / "out.png").exists()
    page.click("#save")
    wait(page, "told.message.startsWith('saved as out.png')")
    page.click("#stop")
    wait(page, "told.status == 'done'")
    assert size_of(folder / "out.png") == (45, 34)
    assert process.poll() is None and page.inner_text("#message").startswith("out.png: ")
    page.click("#close")
    assert process.wait(timeout=60) == 130
    assert page.errors == [] and all(url.startswith((address, "data:")) for url in page.requests)


def test_the_page_fits_a_telephone_and_outlives_the_run(folder, watched):
    process, page, _ = watched("--iterations", "30", "--scales", "2", width=360)
    wait(page, "told.status == 'done'")
    wait(page, "$('picture').naturalWidth == 45")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for name in ("#close", "#picture", "#curves"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert process.poll() is None and page.errors == []
    page.reload()
    wait(page, "told.status == 'done' && $('picture').naturalWidth == 45")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert page.errors in ([], page.errors[:1])


def test_ctrl_c_ends_run_and_page(folder):
    process = start(folder, "--preview")
    address = process.stderr.readline()
    assert address.startswith("watch at http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
