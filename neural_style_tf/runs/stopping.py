"""Stopping: Ctrl-C, a scheduler's SIGTERM, a closed terminal's SIGHUP or a button -> a run that
ends after its step, saved."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from neural_style_tf.errors import INTERRUPTED, TERMINATED
from neural_style_tf.machine import streams
from neural_style_tf.pictures import files

NOTHING_TO_SAVE = "interrupted before the first step: nothing to save"
HUNG_UP = 129  # exit status, after the terminal was closed
EXIT_STATUS: dict[int, int] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
if hasattr(signal, "SIGHUP"):  # not on Windows
    EXIT_STATUS[signal.SIGHUP] = HUNG_UP


def leave(status: int) -> NoReturn:
    """Ends the process at once: Python would first tear down TensorFlow, which takes most of a
    second."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    _leave_at_once(status)


def leave_on_signals() -> None:
    """Lets Ctrl-C and the like end the process while there is nothing to save yet. An exception
    could be swallowed by one of the modules that are imported then."""
    global _terminal
    _terminal = os.dup(2)  # which `silence` may have redirected
    for number in EXIT_STATUS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave_without_picture)


_terminal = 2


def _leave_without_picture(number: int, _: object) -> None:
    with contextlib.suppress(OSError):
        os.write(_terminal, f"{NOTHING_TO_SAVE}\n".encode())
    _leave_at_once(EXIT_STATUS[number])


def _leave_at_once(status: int) -> NoReturn:
    files.clear_up()
    streams.leave_in_peace()
    os._exit(status)


class Stop:
    """Ctrl-C, SIGTERM or SIGHUP: the next `check` raises `KeyboardInterrupt`, and `exit_status` is
    what the process should end with. Ctrl-C twice: it leaves at once.

    A step may keep Python waiting for seconds, and its signal handlers with it. The wakeup
    descriptor is written to all the same, so a thread that reads it can answer.

    say: called with a line that says what will happen. takes_signals: False leaves the
    signal handlers of the process as they are, and only `request` stops the run.
    """

    def __init__(self, say: Callable[[str], None], takes_signals: bool = True):
        self.exit_status = INTERRUPTED
        self._takes_signals = takes_signals
        self._say = say
        self._requested = threading.Event()
        self._reading: int | None = None

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if it was requested. The first call begins to listen: before
        the first step nothing can be saved, and Ctrl-C simply ends the process."""
        is_main = threading.current_thread() is threading.main_thread()
        if self._takes_signals and self._reading is None and is_main:
            self._listen()
        if self._requested.is_set():
            raise KeyboardInterrupt

    def request(self) -> None:
        """Does what the first Ctrl-C does, for a button."""
        if not self._requested.is_set():
            self._requested.set()
            self._say("stopping after this step (Ctrl-C again leaves at once)")

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the handlers of the signals. Signals that would have ended the process before
        the first picture are ignored from now on: the process has saved all and is about to end."""
        if self._reading is not None:
            signal.set_wakeup_fd(self._old_descriptor)
            for number, handler in self._old_handlers.items():
                is_over = handler is _leave_without_picture
                signal.signal(number, signal.SIG_IGN if is_over else handler)
            os.close(self._writing)  # ends the thread

    def _listen(self) -> None:
        self._reading, self._writing = os.pipe()
        if hasattr(os, "set_blocking"):  # Windows has it since Python 3.12, but does not need it
            os.set_blocking(self._writing, False)
        threading.Thread(target=self._watch, args=(self._reading,), daemon=True).start()
        self._old_descriptor = signal.set_wakeup_fd(self._writing)
        self._old_handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in EXIT_STATUS
            if signal.getsignal(number) != signal.SIG_IGN  # ignored by nohup or the like
        }

    def _watch(self, reading: int) -> None:
        had_ctrl_c = False
        while signals := os.read(reading, 1):
            number = signals[0]
            if number not in EXIT_STATUS:
                continue
            if not self._requested.is_set():
                self.exit_status = EXIT_STATUS[number]
                self.request()
            elif number == signal.SIGINT and had_ctrl_c:
                _leave_at_once(INTERRUPTED)
            had_ctrl_c |= number == signal.SIGINT
        os.close(reading)
