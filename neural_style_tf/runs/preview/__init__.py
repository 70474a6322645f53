"""Preview: a run -> a page in the browser that shows the picture as it is painted.

The page's state (state.py) holds the newest picture only. It asks the run for one at most so often
that this costs a fiftieth of the run's time, and only while somebody is looking. A server on a
thread of its own (server.py; Starlette and uvicorn) shows it to those who know the token in the
page's address.
"""

import importlib.util
import secrets
import signal

from neural_style_tf.errors import UserError
from neural_style_tf.runs.preview import listener
from neural_style_tf.runs.preview.server import Server
from neural_style_tf.runs.preview.state import PageState
from neural_style_tf.runs.stopping import EXIT_STATUS


class Preview(PageState):
    """The page of a run, served from when it is made until `close`.

    Raises `UserError` if the packages are missing, the host is unknown, or the port is not free.
    """

    def __init__(self, host: str, port: int, title: str):
        """port: 0 for a free one."""
        super().__init__()
        missing = [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]
        if missing:
            raise UserError(f"--preview needs {missing[0]}: pip install 'neural-style-tf[preview]'")
        connections = listener.listen(host, port)
        token = secrets.token_urlsafe(16)
        self.address = f"http://{listener.address_shown(host, connections)}/?token={token}"
        self._server = Server(self, connections, listener.names_of(host), token, title)
        self.on_change = self._server.wake

    def wait(self) -> None:
        """Continues serving until the page asks to close, or Ctrl-C, or SIGTERM."""
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
        self._server.end()
