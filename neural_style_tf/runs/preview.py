"""Preview: a run -> a page in the browser that shows it as it grows.

A server on a thread of its own (Starlette, uvicorn). It holds the newest picture only, and asks the
run for one no more often than costs it a fiftieth of its time, and only while somebody looks. All
that it serves needs the token in the page's address, so that it is for those who know that.
"""

import asyncio
import contextlib
import functools
import html
import importlib.util
import io
import json
import logging
import os
import secrets
import signal
import threading
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from neural_style_tf.errors import UserError
from neural_style_tf.painting import stages
from neural_style_tf.pictures import images
from neural_style_tf.runs import listener
from neural_style_tf.runs.progress import LOSSES
from neural_style_tf.runs.stopping import EXIT_STATUS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from neural_style_tf.painting.stages import Stage
    from neural_style_tf.painting.stylize import Step

PAGE = Path(__file__).with_name("preview.html")
SHARE = 0.02  # of the run's time, for its pictures
PICTURE_EVERY = 1.0  # seconds, at the most often
LOSSES_EVERY = 0.25  # seconds: a look at them waits for the device
MOST_POINTS = 400  # of the curves; from then on every other one goes
LONGEST_SIDE = 2048  # pixels, of a picture on the page
CHECKPOINTS_KEPT = 16  # that are encoded for the page
MOST_VIEWERS = 32  # at a time
PAUSE_PER_VIEWER = 0.02  # seconds between messages: so many viewers cost what one costs
HEARTBEAT = 10.0  # seconds: page and server notice when the other one is no longer there
SHUTDOWN = 1  # seconds, for the last answers
CHUNK = 64 << 10  # bytes of a picture that are sent at a time
MOST_HEADER_BYTES = 16 << 10  # of a request
HEADERS = {  # of every answer: nothing from elsewhere, in nobody's frame, kept nowhere
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",  # one request per connection
}
HEARTBEAT_MESSAGE = "event: heartbeat\ndata: null\n\n"
FORBIDDEN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Preview</title>
<p>This page needs its token: open the address that the run printed."""


class Preview:
    """A page for one run, from the moment it is made until `wait` returns.

    Raises `UserError` if the packages are missing, the host is unknown, or the port is not free.
    """

    def __init__(self, host: str, port: int, title: str):
        """port: 0 for a free one."""
        missing = [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]
        if missing:
            raise UserError(f"--preview needs {missing[0]}: pip install 'neural-style-tf[preview]'")
        self._listener = listener.listen(host, port)
        self._names = listener.names_of(host)
        self._token = secrets.token_urlsafe(16)
        shown = listener.address_shown(host, self._listener)
        self.address = f"http://{shown}/?token={self._token}"
        self._page = _page(title, self._token)
        self._plan: list[Stage] = []
        self._photo = self._picture = b""
        self._newest: np.ndarray | None = None  # not yet a file
        self._version = 0  # of the picture
        self._state: dict[str, Any] = {"status": "starting", "message": "starting", "closed": False}
        self._curves: list[list[float | None]] = []
        self._looks, self._look_every = 0, 1  # at the losses; of which one is a point
        self._checkpoints: list[tuple[int, str]] = []
        self._viewers = 0
        self._looked = self._taken = -np.inf
        self._cost = 0.0  # seconds, of the last picture
        self._lock = threading.Lock()  # held for moments only: the run waits for it
        self._encoding = threading.Lock()  # held while a picture is made a file
        self._checkpoint_file = functools.lru_cache(CHECKPOINTS_KEPT)(_file)
        self._publications, self._text = 0, (-1, "")  # the last message, and of which publication
        self._stopping, self._saving, self._closing = (threading.Event() for _ in range(3))
        self._serve()

    # What the run calls

    def begin(
        self,
        photo: np.ndarray,
        plan: "list[Stage]",
        stop: Callable[[], None],
        as_saved: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Shows the photo, [H, W, 3] RGB 0..255, until there is a picture. stop: asks the run to
        stop; called on another thread. as_saved: a picture -> what its file would show."""
        self._plan, self._photo = plan, _jpeg(photo)
        self._stop, self._as_saved = stop, as_saved
        self._publish(status="running", message="")

    def see(self, step: "Step") -> None:
        """Takes a step in."""
        now = time.monotonic()
        if step.iteration is not None and now - self._looked >= LOSSES_EVERY:
            self._looked = now
            self._take_losses(step)
        pause = max(PICTURE_EVERY, self._cost / SHARE)
        if self._viewers and now - self._taken >= pause:
            began = time.perf_counter()
            self.show(self._as_saved(step.image()))
            self._cost = time.perf_counter() - began

    def show(self, picture: np.ndarray) -> None:
        """Shows a picture, [H, W, 3] RGB 0..255, now."""
        with self._lock:
            self._newest = picture
        self._taken = time.monotonic()
        self._version += 1
        self._publish(width=picture.shape[1], height=picture.shape[0])

    def add_checkpoint(self, iteration: int, path: str) -> None:
        """Offers a checkpoint's file in the slider."""
        self._checkpoints.append((iteration, path))
        self._publish()

    def save_is_asked_for(self) -> bool:
        """Whether the button was pressed since the last time."""
        asked = self._saving.is_set()
        self._saving.clear()
        return asked

    def tell(self, message: str, status: str = "running") -> None:
        """Shows a line. status: running; done or failed once the run is over."""
        self._publish(message=message, status=status)

    @property
    def has_stopped_the_run(self) -> bool:
        return self._stopping.is_set()

    def wait(self) -> None:
        """Goes on serving until the page asks to close, or Ctrl-C, or SIGTERM."""
        handlers = {
            number: signal.signal(number, lambda *_: self._closing.set()) for number in EXIT_STATUS
        }
        try:
            while not self._closing.wait(0.2):
                pass
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def close(self) -> None:
        """Ends the server."""
        self._closing.set()
        self._publish(closed=True)
        self._server.should_exit = True
        self._thread.join(SHUTDOWN + 2)

    def _take_losses(self, step: "Step") -> None:
        losses = {name: _short(loss) for name, loss in step.losses().items()}
        done = stages.work_done(self._plan, step.iteration + 1)
        if self._looks % self._look_every == 0:
            self._curves.append([step.iteration + 1, *(losses[name] for name in LOSSES)])
        self._looks += 1
        if len(self._curves) >= MOST_POINTS:
            self._curves = self._curves[::2]
            self._look_every *= 2
        self._publish(
            iteration=step.iteration + 1,
            total=step.total,
            stage=f"{step.stage.number} of {step.stage.count}",
            size=f"{step.stage.width}x{step.stage.height}",
            seconds=step.seconds,
            left=step.seconds / done * (1 - done),
            losses=losses,
        )

    def _publish(self, **changes: Any) -> None:
        """Sends every viewer what is new."""
        with self._lock:
            self._state = self._state | changes
            self._publications += 1
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # The server

    def _serve(self) -> None:
        import uvicorn

        self._loop = asyncio.SelectorEventLoop()  # the one that asks `Listener.accept` everywhere
        self._loop.set_exception_handler(lambda *_: None)  # whatever a connection died of
        self._news = asyncio.Event()
        config = uvicorn.Config(
            self._checked(self._application()),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            date_header=False,
            headers=list(HEADERS.items()),
            backlog=listener.QUEUE,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            timeout_graceful_shutdown=SHUTDOWN,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True, name="preview")
        self._thread.start()

    def _run(self) -> None:
        """The thread's life. Whatever happens to the server, the run goes on."""
        asyncio.set_event_loop(self._loop)
        with contextlib.suppress(Exception, SystemExit):
            self._loop.run_until_complete(self._served())
        self._listener.end()
        self._loop.close()

    async def _served(self) -> None:
        watching = asyncio.create_task(self._close_idle())
        await self._server.serve(sockets=[self._listener])
        watching.cancel()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._listener.close_idle()

    def _application(self) -> Callable:
        from starlette.applications import Starlette
        from starlette.responses import HTMLResponse
        from starlette.routing import Route

        async def page(_) -> "Response":
            return HTMLResponse(self._page)

        async def newest(request) -> "Response":
            return self._jpeg_response(request, await asyncio.to_thread(self._newest_file))

        async def photo(request) -> "Response":
            return self._jpeg_response(request, self._photo)

        return Starlette(
            routes=[
                Route("/", page),
                Route("/picture", newest),
                Route("/photo", photo),
                Route("/checkpoint/{number}", self._answer_checkpoint),
                Route("/events", self._answer_events),
                _button("/stop", self._press_stop),
                _button("/save", self._saving.set),
                _button("/close", self._closing.set),
            ]
        )

    def _checked(self, application: Callable) -> Callable:
        """The application for those who may use it."""
        from starlette.responses import HTMLResponse, PlainTextResponse

        async def checked(scope, receive, send) -> None:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            host = headers.get(b"host", "")
            # a page elsewhere, whose name leads here (DNS rebinding), calls us by that name
            if not listener.is_ours(host, self._names):
                answer = PlainTextResponse("unknown host", 400)
            elif not _is_same_origin(headers.get(b"origin"), host) or not self._has_token(
                scope["method"], scope["query_string"], headers
            ):
                answer = HTMLResponse(FORBIDDEN, 403)
            else:
                self._listener.keep(scope["client"])
                answer = application
            await answer(scope, receive, send)

        return checked

    def _has_token(self, method: str, query: bytes, headers: dict[bytes, str]) -> bool:
        """Whether a request knows the token: in its address, or, as any that changes something
        has to, in a header that no page elsewhere can send."""
        found = headers.get(b"x-token", "")
        if not found and method in ("GET", "HEAD"):
            words = urllib.parse.parse_qs(query.decode("latin-1"))
            found = words.get("token", [""])[0]
        return secrets.compare_digest(found.encode(errors="replace"), self._token.encode())

    async def _answer_checkpoint(self, request: "Request") -> "Response":
        from starlette.responses import PlainTextResponse

        number = request.path_params["number"]
        is_number = number.isascii() and number.isdecimal() and len(number) < 10
        if not is_number or int(number) >= len(self._checkpoints):
            return PlainTextResponse("no such checkpoint", 404)
        path = self._checkpoints[int(number)][1]
        try:
            return self._jpeg_response(request, await asyncio.to_thread(self._encoded, path))
        except Exception:  # whatever is wrong with a file that others may change
            return PlainTextResponse("the checkpoint's file cannot be shown", 404)

    async def _answer_events(self, request: "Request") -> "Response":
        from starlette.responses import PlainTextResponse, Response, StreamingResponse

        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._viewers >= MOST_VIEWERS:
            return PlainTextResponse("too many viewers", 503)
        return StreamingResponse(self._events(request.client), media_type="text/event-stream")

    def _jpeg_response(self, request: "Request", data: bytes) -> "Response":
        from starlette.responses import StreamingResponse

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), CHUNK):
                yield data[start : start + CHUNK]  # waits while a slow viewer reads
                self._listener.keep(request.client)

        length = {"Content-Length": str(len(data))}
        return StreamingResponse(chunks(), media_type="image/jpeg", headers=length)

    def _press_stop(self) -> None:
        if self._state["status"] == "running":
            self._stopping.set()
            self._stop()

    async def _events(self, client: Any) -> AsyncIterator[str]:
        """What a viewer is sent: all there is at first, then what is new."""
        self._viewers += 1
        self._taken = -np.inf  # a picture for them, soon
        try:
            last = None
            while True:
                news = self._news
                number, text = self._message()
                yield f"data: {text}\n\n" if number != last else HEARTBEAT_MESSAGE
                self._listener.keep(client)
                last = number
                if self._state["closed"] and number == self._publications:
                    return
                await asyncio.sleep(PAUSE_PER_VIEWER * self._viewers)
                with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(news.wait(), HEARTBEAT)
        finally:
            self._viewers -= 1

    def _message(self) -> tuple[int, str]:
        """The number of the newest publication and its text, made once for all viewers."""
        with self._lock:
            number, state = self._publications, self._state
        if self._text[0] != number:
            message = state | {
                "version": self._version,
                "checkpoints": [iteration for iteration, _ in self._checkpoints],
                "curves": list(self._curves),
            }
            self._text = number, json.dumps(message)
        return self._text

    def _newest_file(self) -> bytes:
        """The newest picture as a file, made when the first viewer asks for it."""
        with self._encoding:
            with self._lock:
                picture, self._newest = self._newest, None
            if picture is not None:
                self._picture = _jpeg(picture)
            return self._picture or self._photo

    def _encoded(self, path: str) -> bytes:
        """A checkpoint's file as a JPEG."""
        with self._encoding:
            return self._checkpoint_file(path, os.stat(path).st_mtime_ns)


def _page(title: str, token: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    for name, value in (("TITLE", html.escape(title)), ("TOKEN", token)):
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _button(path: str, act: Callable[[], None]) -> "Route":
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def press(_) -> "Response":
        act()
        return PlainTextResponse("")

    return Route(path, press, methods=["POST"])


def _is_same_origin(origin: str | None, host: str) -> bool:
    """Whether an Origin header, which not every request has, names the page at this host."""
    return origin is None or origin.partition("://")[2].lower() == host.lower()


def _short(loss: float) -> float | None:
    """Four digits of it; JSON has no number that is not finite."""
    return float(f"{loss:.4g}") if np.isfinite(loss) else None


def _jpeg(picture: np.ndarray) -> bytes:
    """A file of a picture [H, W, 3] RGB 0..255, of at most `LONGEST_SIDE`."""
    image = Image.fromarray(images.to_bytes(picture))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def _file(path: str, _: int) -> bytes:
    """A picture's file, changed at a time, as a JPEG of at most `LONGEST_SIDE`."""
    return _jpeg(images.read(path).pixels)
