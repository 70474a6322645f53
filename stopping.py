"""Stopping: Ctrl-C, a scheduler's SIGTERM or a button -> a run that ends after its step, saved."""

import os
import signal
import threading
from collections.abc import Callable

from settings import INTERRUPTED, TERMINATED

EXIT_STATUS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Stop:
    """Ctrl-C or SIGTERM: the next `check` raises `KeyboardInterrupt`, and `exit_status` is what the
    process should end with. Ctrl-C twice: it leaves at once.

    A step may keep Python waiting for seconds, and its signal handlers with it. The wakeup
    descriptor is written to all the same, so a thread that reads it can answer.

    say: is told in words what will happen.
    """

    def __init__(self, say: Callable[[str], None]):
        self.exit_status = INTERRUPTED
        self._say = say
        self._requested = threading.Event()
        self._reading: int | None = None

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if it was asked for. The first call begins to listen:
        before the first step there is no picture to save, and Ctrl-C ends the process plainly."""
        if self._reading is None and threading.current_thread() is threading.main_thread():
            self._listen()
        if self._requested.is_set():
            raise KeyboardInterrupt

    def request(self) -> None:
        """What Ctrl-C does the first time, for a button."""
        if not self._requested.is_set():
            self._requested.set()
            self._say("stopping after this step (Ctrl-C again leaves at once)")

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back."""
        if self._reading is not None:
            signal.set_wakeup_fd(self._old_descriptor)
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            os.close(self._writing)  # ends the thread

    def _listen(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._old_handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in EXIT_STATUS
            if signal.getsignal(number) != signal.SIG_IGN  # who started us will not have it
        }
        self._old_descriptor = signal.set_wakeup_fd(self._writing)
        threading.Thread(target=self._watch, args=(self._reading,), daemon=True).start()

    def _watch(self, reading: int) -> None:
        while signals := os.read(reading, 1):
            number = signals[0]
            if number not in EXIT_STATUS:
                continue
            if not self._requested.is_set():
                self.exit_status = EXIT_STATUS[number]
                self.request()
            elif number == signal.SIGINT:
                os._exit(INTERRUPTED)
        os.close(reading)
