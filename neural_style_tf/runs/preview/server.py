"""Server of the preview page: what the page shows -> answers over HTTP, on a thread of its own.

All that it serves needs the token in the page's address, so that only those see it who know that.
"""

import asyncio
import contextlib
import html
import logging
import secrets
import threading
import urllib.parse
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_style_tf.runs.preview import listener
from neural_style_tf.runs.preview.state import PageState

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

PAGE = Path(__file__).with_name("page.html")
MOST_VIEWERS = 32  # at a time
SECONDS_PER_VIEWER = 0.02  # between messages: N viewers cost what one costs
HEARTBEAT_SECONDS = 10.0  # page and server notice when the other one has vanished
SHUTDOWN_SECONDS = 1  # for the last answers
CHUNK_BYTES = 64 << 10  # of a picture that are sent at a time
MOST_HEADER_BYTES = 16 << 10  # of a request
HEADERS = {  # of every answer: nothing from other sites, in no frame, never cached
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


class Server:
    """Serves a page from when it is made until `end`.

    connections: where it listens. names: by which a browser may call this machine. Whatever happens
    to the server, the run continues.
    """

    def __init__(
        self,
        page: PageState,
        connections: listener.Listener,
        names: frozenset[str],
        token: str,
        title: str,
    ):
        import uvicorn

        self._page, self._listener, self._names, self._token = page, connections, names, token
        self._html = _page_html(title, token)
        self._loop = asyncio.SelectorEventLoop()  # on Windows, too: it calls `Listener.accept`
        self._loop.set_exception_handler(lambda *_: None)  # of a connection that failed
        self._changed = asyncio.Event()
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
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True, name="preview")
        self._thread.start()

    def wake(self) -> None:
        """Sends every viewer what has changed. For any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake)

    def end(self) -> None:
        """Ends the thread, after the last answers."""
        self._server.should_exit = True
        self._thread.join(SHUTDOWN_SECONDS + 2)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.suppress(Exception, SystemExit):
            self._loop.run_until_complete(self._serve())
        self._listener.end()
        self._loop.close()

    async def _serve(self) -> None:
        closing = asyncio.create_task(self._close_idle())
        await self._server.serve(sockets=[self._listener])
        closing.cancel()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._listener.close_idle()

    # Who may ask

    def _checked(self, application: Callable) -> Callable:
        """The application for those who may use it."""
        from starlette.responses import HTMLResponse, PlainTextResponse

        async def checked(scope: Any, receive: Any, send: Any) -> None:
            answer: Callable
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            host = headers.get(b"host", "")
            # another site whose name leads to this machine (DNS rebinding) sends its own name
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
        """Whether a request has the token: in its address or, as is required of any that changes
        something, in a header, which pages of other sites cannot send."""
        token = headers.get(b"x-token", "")
        if not token and method in ("GET", "HEAD"):
            words = urllib.parse.parse_qs(query.decode("latin-1"))
            token = words.get("token", [""])[0]
        return secrets.compare_digest(token.encode(errors="replace"), self._token.encode())

    # Answers

    def _application(self) -> Callable:
        from starlette.applications import Starlette
        from starlette.responses import HTMLResponse
        from starlette.routing import Route

        page = self._page

        async def html_page(_: Any) -> "Response":
            return HTMLResponse(self._html)

        async def newest(request: Any) -> "Response":
            return self._jpeg_response(request, await asyncio.to_thread(page.newest_file))

        async def photo(request: Any) -> "Response":
            return self._jpeg_response(request, page.photo)

        return Starlette(
            routes=[
                Route("/", html_page),
                Route("/picture", newest),
                Route("/photo", photo),
                Route("/checkpoint/{number}", self._answer_checkpoint),
                Route("/events", self._answer_events),
                _button("/stop", page.press_stop),
                _button("/save", page.press_save),
                _button("/close", page.press_close),
            ]
        )

    async def _answer_checkpoint(self, request: "Request") -> "Response":
        from starlette.responses import PlainTextResponse

        number = request.path_params["number"]
        is_number = number.isascii() and number.isdecimal() and len(number) < 10
        path = self._page.checkpoint_path(int(number)) if is_number else None
        if path is None:
            return PlainTextResponse("no such checkpoint", 404)
        try:
            file = await asyncio.to_thread(self._page.checkpoint_file, path)
        except Exception:  # whatever is wrong with a file that others may change
            return PlainTextResponse("the checkpoint's file cannot be shown", 404)
        return self._jpeg_response(request, file)

    def _jpeg_response(self, request: "Request", data: bytes) -> "Response":
        from starlette.responses import StreamingResponse

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), CHUNK_BYTES):
                yield data[start : start + CHUNK_BYTES]  # waits while a slow viewer reads
                self._listener.keep(request.client)

        length = {"Content-Length": str(len(data))}
        return StreamingResponse(chunks(), media_type="image/jpeg", headers=length)

    async def _answer_events(self, request: "Request") -> "Response":
        from starlette.responses import PlainTextResponse, Response, StreamingResponse

        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._page.viewers >= MOST_VIEWERS:
            return PlainTextResponse("too many viewers", 503)
        return StreamingResponse(self._events(request.client), media_type="text/event-stream")

    async def _events(self, client: Any) -> AsyncIterator[str]:
        """What a viewer is sent: at first everything, then what has changed."""
        page = self._page
        page.viewer_comes()
        try:
            sent = None
            while True:
                changed = self._changed
                number, text = page.message()
                yield f"data: {text}\n\n" if number != sent else HEARTBEAT_MESSAGE
                self._listener.keep(client)
                sent = number
                if page.is_closed and number == page.changes:
                    return
                await asyncio.sleep(SECONDS_PER_VIEWER * page.viewers)
                with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
        finally:
            page.viewer_leaves()


def _page_html(title: str, token: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    for name, value in (("TITLE", html.escape(title)), ("TOKEN", token)):
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _button(path: str, act: Callable[[], None]) -> "Route":
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def press(_: Any) -> "Response":
        act()
        return PlainTextResponse("")

    return Route(path, press, methods=["POST"])


def _is_same_origin(origin: str | None, host: str) -> bool:
    """Whether an Origin header, which not every request has, names the page at this host."""
    return origin is None or origin.partition("://")[2].lower() == host.lower()
