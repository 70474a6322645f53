"""Listener: an address -> connections: never too many, and none that is idle for long.

Connections to the page must not be able to harm the run: file descriptors are reserved for it, and
a connection that neither sends nor reads is closed.
"""

import concurrent.futures
import contextlib
import errno
import ipaddress
import math
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files

MOST_CONNECTIONS = 64  # at a time; others wait in the system's queue
MOST_PER_SECOND = 30.0  # each costs about a millisecond: all together 3 % of a processor
BURST = 64  # may come faster
QUEUE = 128  # connections that wait
RESERVED_DESCRIPTORS = 128  # for the run; if there are few, half of them
SECONDS_WITHOUT_PROGRESS = 30.0  # of a connection; then it is closed
SEND_BUFFER_BYTES = 256 << 10  # what the system holds for a viewer who reads slowly
LOOKUP_SECONDS = 3.0  # for the name of a host


class Listener(socket.socket):
    """A socket that listens, for an event loop of asyncio.

    While there are `MOST_CONNECTIONS`, or they come too fast, or file descriptors run short,
    `accept` fails as it does when the process has no descriptor left. asyncio answers that by
    trying again a second later.
    """

    def __init__(self, family: int):
        super().__init__(family, socket.SOCK_STREAM)
        self._accepted: dict[Any, _Connection] = {}  # by the other side's address and port
        self._allowed, self._counted = float(BURST), time.monotonic()  # connections, at a time

    def accept(self) -> tuple[socket.socket, Any]:
        self._forget_closed()
        if len(self._accepted) >= MOST_CONNECTIONS:
            raise OSError(errno.EMFILE, "too many connections")
        now = time.monotonic()
        self._allowed = min(BURST, self._allowed + MOST_PER_SECOND * (now - self._counted))
        self._counted = now
        if self._allowed < 1:
            raise OSError(errno.EMFILE, "too many connections per second")
        connection, address = super().accept()
        self._allowed -= 1
        # the system gives out the lowest free number, so at least as many are in use
        if connection.fileno() >= _first_reserved_descriptor():
            connection.close()
            raise OSError(errno.EMFILE, "few file descriptors are left")
        self._accepted[address[:2]] = _Connection(connection, now)
        return connection, address

    def keep(self, address: Any) -> None:
        """Notes that a connection makes progress: (address, port) of the other side."""
        connection = self._accepted.get(tuple(address))
        if connection:
            self._accepted[tuple(address)] = connection._replace(progress=time.monotonic())

    def close_idle(self) -> None:
        """Closes the connections that have made no progress for too long."""
        self._end_those(time.monotonic() - SECONDS_WITHOUT_PROGRESS)

    def end(self) -> None:
        """Closes all connections and stops listening."""
        self._end_those(math.inf)
        self.close()

    def _end_those(self, before: float) -> None:
        """Ends the connections whose last progress was before a time."""
        self._forget_closed()
        for connection in self._accepted.values():
            if connection.progress < before:
                with contextlib.suppress(OSError):  # the other side has closed it
                    # drop what nobody reads instead of keeping it in the system
                    linger = struct.pack("ii", 1, 0)
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    connection.socket.shutdown(socket.SHUT_RDWR)

    def _forget_closed(self) -> None:
        self._accepted = {
            address: connection
            for address, connection in self._accepted.items()
            if connection.socket.fileno() != -1
        }


class _Connection(NamedTuple):
    socket: socket.socket
    progress: float  # when there was any last, by the monotonic clock


def listen(host: str, port: int) -> Listener:
    """Listens at a host's address. port: 0 for a free one. Raises `UserError`."""
    address = _address_of(host)
    listener = Listener(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    # without the first, Windows lets another program take the same port
    exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
    listener.setsockopt(socket.SOL_SOCKET, exclusive or socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    try:
        listener.bind((address[0], port, *address[2:]))
        listener.listen(QUEUE)  # at once: early connections wait
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"cannot listen at {host} port {port} ({files.reason(error)}): "
            "choose another port for --preview, or leave the port out for a free one"
        ) from error
    return listener


def address_shown(host: str, listener: Listener) -> str:
    """HOST:PORT for a browser: of a listener at all addresses, this machine's name."""
    address, port = listener.getsockname()[:2]
    if ipaddress.ip_address(address).is_unspecified:
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def names_of(host: str) -> frozenset[str]:
    """The names by which a browser may call this machine, in lower case. Looks one of them up,
    within `LOOKUP_SECONDS`."""
    names = {"localhost", host, socket.gethostname()}
    with contextlib.suppress(OSError, concurrent.futures.TimeoutError):
        names.add(_in_time(socket.getfqdn))
    return frozenset(name.lower() for name in names)


def is_ours(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header has an IP address, or one of our names."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return bool(name) and name in names


def _address_of(host: str) -> tuple:
    """A host's address as sockets take it. Raises `UserError` if it has none."""
    advice = "use 127.0.0.1 for this machine only, or a name or an address of this machine"
    if not host.strip():
        raise UserError(f"--preview-host is empty: {advice}")
    try:
        addresses = _in_time(lambda: socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))
    except concurrent.futures.TimeoutError as error:
        raise UserError(
            f"--preview-host {host[:80]!r} has no answer within {LOOKUP_SECONDS:g} seconds "
            f"from the name server: {advice}"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"--preview-host {host[:80]!r} is unknown ({files.reason(error)}): {advice}"
        ) from error
    return addresses[0][4]


def _in_time(look_up: Callable[[], Any]) -> Any:
    """What a look-up returns or raises; raises `concurrent.futures.TimeoutError` where it takes
    too long."""
    answer: concurrent.futures.Future = concurrent.futures.Future()

    def work() -> None:
        try:
            answer.set_result(look_up())
        except (OSError, ValueError) as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True, name="look-up").start()
    return answer.result(LOOKUP_SECONDS)


def _first_reserved_descriptor() -> int:
    """The number from which file descriptors are kept for the run."""
    try:
        import resource
    except ImportError:  # Windows, where a connection takes none
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return limit - min(RESERVED_DESCRIPTORS, limit // 2)
