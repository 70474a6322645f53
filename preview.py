"""Preview: a run -> a page in the browser that shows it as it grows.

A server on a thread of its own (Starlette, uvicorn). It holds the newest picture only, and asks the
run for one no more often than costs it a fiftieth of its time, and only while somebody looks.
"""

import asyncio
import contextlib
import html
import importlib.util
import io
import ipaddress
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import files
import images
import stages
from progress import LOSSES
from settings import UserError
from stopping import EXIT_STATUS

if TYPE_CHECKING:
    from stages import Stage
    from stylize import Step

PAGE = Path(__file__).with_name("preview.html")
SHARE = 0.02  # of the run's time, for its pictures
PICTURE_EVERY = 1.0  # seconds, at the most often
LOSSES_EVERY = 0.25  # seconds: a look at them waits for the device
MOST_POINTS = 400  # of the curves; from then on every other one goes
LONGEST_SIDE = 2048  # pixels, of a picture on the page
HEARTBEAT = 10.0  # seconds: a viewer that has gone is noticed
SHUTDOWN = 1  # seconds, for the last answers


class Preview:
    """A page for one run, from the moment it is made until `wait` returns.

    Raises `UserError` if the packages are missing, or the port is not to be had.
    """

    def __init__(self, host: str, port: int, title: str):
        """port: 0 for a free one."""
        missing = [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]
        if missing:
            raise UserError(
                f"--preview needs {missing[0]}: pip install -r requirements-preview.txt"
            )
        self._socket = _listen(host, port)
        self.address = "http://{}:{}/".format(*_shown(host, self._socket.getsockname()[1]))
        self._host, self._title = host, title
        self._token = secrets.token_urlsafe(16)
        self._plan: list[Stage] = []
        self._photo = self._picture = b""
        self._newest: np.ndarray | None = None  # not yet a file
        self._version = 0  # of the picture
        self._told: dict[str, Any] = {"status": "starting", "message": "starting"}
        self._curves: list[list[float | None]] = []
        self._looks, self._look_every = 0, 1  # at the losses; of which one is a point
        self._checkpoints: list[tuple[int, str]] = []
        self._viewers = 0
        self._looked = self._taken = -np.inf
        self._cost = 0.0  # seconds, of the last picture
        self._lock = threading.Lock()
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
        """Shows a line. status: running, or done once it is over."""
        self._publish(message=message, status=status)

    @property
    def has_stopped_the_run(self) -> bool:
        return self._stopping.is_set()

    def wait(self) -> None:
        """Goes on serving until the page is told to close, or Ctrl-C, or SIGTERM."""
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
        self._publish(status="closed", message="closed")
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

    def _publish(self, **told: Any) -> None:
        """Has every viewer told what is new."""
        with self._lock:
            self._told = self._told | told
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # The server

    def _serve(self) -> None:
        import uvicorn

        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()
        config = uvicorn.Config(
            self._application(),
            log_level="critical",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=SHUTDOWN,
        )
        self._server = uvicorn.Server(config)

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._server.serve(sockets=[self._socket]))

        self._thread = threading.Thread(target=run, daemon=True, name="preview")
        self._thread.start()

    def _application(self) -> Callable:
        from starlette.applications import Starlette
        from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
        from starlette.routing import Route

        fresh = {"Cache-Control": "no-store"}

        def picture(data: bytes) -> Response:
            return Response(data, media_type="image/jpeg", headers=fresh)

        async def page(_) -> Response:
            text = PAGE.read_text(encoding="utf-8")
            for name, value in (("TITLE", html.escape(self._title)), ("TOKEN", self._token)):
                text = text.replace(f"{{{{{name}}}}}", value)
            # nothing from elsewhere, and in nobody's frame
            policy = (
                "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
                "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
            )
            return HTMLResponse(text, headers=fresh | {"Content-Security-Policy": policy})

        async def newest(_) -> Response:
            return picture(await asyncio.to_thread(self._newest_file))

        async def photo(_) -> Response:
            return picture(self._photo)

        async def checkpoint(request) -> Response:
            number = request.path_params["number"]
            if number >= len(self._checkpoints):
                return PlainTextResponse("no such checkpoint", 404)
            try:
                return picture(await asyncio.to_thread(_file, self._checkpoints[number][1]))
            except (OSError, Image.DecompressionBombError):
                return PlainTextResponse("the checkpoint is gone", 404)

        async def events(_) -> Response:
            return StreamingResponse(self._events(), media_type="text/event-stream", headers=fresh)

        def button(act: Callable[[], None]) -> Callable:
            async def press(request) -> Response:
                token = request.headers.get("X-Token", "").encode()
                if not secrets.compare_digest(token, self._token.encode()):
                    return PlainTextResponse("only the page of this run may do this", 403)
                act()
                return PlainTextResponse("")

            return press

        application = Starlette(
            routes=[
                Route("/", page),
                Route("/picture", newest),
                Route("/photo", photo),
                Route("/checkpoint/{number:int}", checkpoint),
                Route("/events", events),
                Route("/stop", button(self._press_stop), methods=["POST"]),
                Route("/save", button(self._saving.set), methods=["POST"]),
                Route("/close", button(self._closing.set), methods=["POST"]),
            ]
        )

        async def checked(scope, receive, send) -> None:
            """Answers only who calls us by our own name: a page elsewhere whose name leads here
            (DNS rebinding) does not."""
            if scope["type"] == "http":
                headers = dict(scope["headers"])
                if not _is_ours(headers.get(b"host", b"").decode("latin-1"), self._host):
                    return await PlainTextResponse("unknown host", 400)(scope, receive, send)
            return await application(scope, receive, send)

        return checked

    def _press_stop(self) -> None:
        if self._told["status"] == "running":
            self._stopping.set()
            self._stop()

    async def _events(self) -> AsyncIterator[str]:
        """What a viewer is told: all there is at first, then what is new."""
        self._viewers += 1
        self._taken = -np.inf  # a picture for them, soon
        try:
            last = None
            while True:
                news = self._news
                message = self._told | {
                    "version": self._version,
                    "checkpoints": [iteration for iteration, _ in self._checkpoints],
                    "curves": self._curves,
                }
                text = json.dumps(message)
                if text != last:
                    last = text
                    yield f"data: {text}\n\n"
                else:
                    yield ": still here\n\n"
                if self._told["status"] == "closed":
                    return
                with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(news.wait(), HEARTBEAT)
        finally:
            self._viewers -= 1

    def _newest_file(self) -> bytes:
        """The newest picture as a file, made when somebody asks for it."""
        with self._lock:
            picture, self._newest = self._newest, None
            if picture is not None:
                self._picture = _jpeg(picture)
            return self._picture or self._photo


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen()  # at once, who comes early waits
    except (OSError, OverflowError) as error:
        found.close()
        raise UserError(
            f"cannot listen at {host} port {port} ({files.reason(error)}): "
            "give --preview another port, or none"
        ) from error
    return found


def _shown(host: str, port: int) -> tuple[str, int]:
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return (f"[{host}]" if ":" in host else host), port


def _is_ours(host: str, own: str) -> bool:
    """Whether a Host header names us: by address, or as we and this machine are called."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        ours = {"localhost", own.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        return name in ours


def _short(loss: float) -> float | None:
    """Four digits of it; JSON has no number that is not finite."""
    return float(f"{loss:.4g}") if np.isfinite(loss) else None


def _jpeg(picture: np.ndarray) -> bytes:
    """A file of it, of at most `LONGEST_SIDE`."""
    found = io.BytesIO()
    image = Image.fromarray(images.to_bytes(picture))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    image.save(found, "JPEG", quality=90)
    return found.getvalue()


def _file(path: str) -> bytes:
    """A picture's file as a JPEG."""
    if os.path.splitext(path)[1].lower() in (".jpg", ".jpeg"):
        return Path(path).read_bytes()
    with Image.open(path) as image:
        return _jpeg(np.asarray(image.convert("RGB")))
