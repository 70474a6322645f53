"""Streams: standard output and error that may be closed, full or lost without ending the run; and
the messages that are logged for the user, shown there."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

LOGGER = logging.getLogger("neural_style_tf")  # messages for the user; the core prints nothing


_said: set[str] = set()
_MOST_SAID = 10_000


def warn_once(message: str) -> None:
    """Logs a warning for the user, unless this process has logged it before."""
    if message not in _said and len(_said) < _MOST_SAID:
        _said.add(message)
        LOGGER.warning("%s", message)


class Tolerant:
    """A text stream that can always be written to. After the first write that fails, all others
    are ignored; `error` is the cause."""

    def __init__(self, stream: TextIO | None):
        """stream: None if it was closed when the process began, as in `sys.stdout`."""
        self._stream = stream if stream is not None else open(os.devnull, "w")  # noqa: SIM115
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Callable[[], Any]) -> None:
        if self.error is not None:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # a closed one raises ValueError
            self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tolerant(stream: TextIO | None) -> TextIO:
    """The stream as one that can always be written to."""
    return cast(TextIO, stream if isinstance(stream, Tolerant) else Tolerant(stream))


def guard() -> None:
    """Makes the standard streams of this process safe to write to, even if they are closed.

    A closed descriptor is opened to the null device. Otherwise the next file that is opened would
    get its number, and what C++ libraries write to standard error would end up in that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)


def lost_output() -> bool:
    """Whether output was lost for another reason than a reader that closed its pipe."""
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    return error is not None and not isinstance(error, BrokenPipeError)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Discards what C and C++ libraries write to standard error, for the duration of the context:
    they write to the file descriptor itself, which leads to the null device."""
    with open(os.devnull, "w") as null, _redirected(null.fileno()):
        yield


@contextlib.contextmanager
def kept() -> Iterator[Callable[[], str]]:
    """Keeps what is written to standard error, for the duration of the context, by C and C++
    libraries too: it goes to a temporary file. Yields a function that returns it as text.

    If the process dies meanwhile, as TensorFlow's does on a processor that it is not built for, the
    terminal shows what was kept.
    """
    import tempfile

    try:
        file = tempfile.NamedTemporaryFile("w+", errors="replace", delete=False)  # noqa: SIM115
    except OSError:  # no place for it
        with silenced():
            yield lambda: ""
        return
    try:
        with file, _shown_after_death(file.name), _redirected(file.fileno()):
            yield lambda: Path(file.name).read_text(errors="replace")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(file.name)


@contextlib.contextmanager
def _redirected(descriptor: int) -> Iterator[None]:
    """Standard error leads to another descriptor."""
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


# Reads a line from the process that it watches. Without one, that process has died.
WATCH = 'read -r _ || cat "$1" >&2; rm -f "$1"'
_watched: list[int] = []  # descriptors that the shells read from


@contextlib.contextmanager
def _shown_after_death(path: str) -> Iterator[None]:
    """Has a shell show a file on standard error if this process dies within the context."""
    import subprocess

    try:
        reading, writing = os.pipe()
        with open(reading) as its_input:
            command = ["/bin/sh", "-c", WATCH, "sh", path]
            shell = subprocess.Popen(command, stdin=its_input, stdout=subprocess.DEVNULL)
    except OSError:  # Windows
        yield
        return
    _watched.append(writing)
    try:
        yield
    finally:
        leave_in_peace()
        shell.wait()


def leave_in_peace() -> None:
    """Says that this process is about to end as it should: nothing is shown of what was kept."""
    while _watched:
        writing = _watched.pop()
        with contextlib.suppress(OSError):
            os.write(writing, b"\n")
            os.close(writing)


class _Shown(logging.Handler):
    """Passes messages to a function."""

    def __init__(self, show: Callable[[str], None]):
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


@contextlib.contextmanager
def logged(show: Callable[[str], None]) -> Iterator[None]:
    """Passes what is logged for the user to `show`, and to no other handler, for the duration of
    the context."""
    before = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    LOGGER.handlers, LOGGER.propagate = [_Shown(show)], False
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.handlers, level, LOGGER.propagate = before
        LOGGER.setLevel(level)
