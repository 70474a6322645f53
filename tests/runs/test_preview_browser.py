"""The page of a run, in a real browser."""

import contextlib
import re
import signal
import socket
import threading
import time

import pytest
from pages import STAGE, port_of, split
from shared import PATIENCE, new_page, size_of, wait_for

from neural_style_tf.runs.preview import Preview

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture
def watched(start, browser):
    """Begins a run with its page open: process, page and address. The process's `lines` grows by
    those that it prints."""

    def watch(*options, width=1000):
        process = start("--preview", *options)
        address = re.match(r"watch at (http://127.0.0.1:\d+/\?\S+)$", process.stderr.readline())[1]
        process.lines = []
        reader = threading.Thread(target=lambda: process.lines.extend(process.stderr), daemon=True)
        reader.start()  # or the pipe fills
        page = new_page(browser, width, 800)
        page.goto(address)
        return process, page, address

    return watch


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
    wait_for(lambda: any("stays until it is closed there" in line for line in process.lines))
    page.reload()
    wait(page, "latest.status == 'done' && $('picture').naturalWidth == 45")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 0
    wait(page, "latest.closed && $('close').hidden")
    with page.expect_event("requestfailed"):  # the server has ended
        page.evaluate("latest.version++, show()")
    wait_for(lambda: page.evaluate("1") and page.errors)
    assert page.evaluate("$('picture').naturalWidth") == 45
    assert page.inner_text("#message").startswith("out.png: ")
    (error,) = page.errors
    assert "ERR_CONNECTION_REFUSED" in error


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
