"""Stopping: Ctrl-C -> a run that ends after its step, with its picture saved."""

import os
import signal
import threading
from collections.abc import Callable

from settings import INTERRUPTED


class Stop:
    """Ctrl-C once: the next `check` raises `KeyboardInterrupt`. Twice: the process leaves at once.

    A step may keep Python waiting for seconds, and its signal handlers with it. The wakeup
    descriptor is written to all the same, so a thread that reads it can answer.

    say: is told in words what will happen.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._requested = threading.Event()
        self._reading: int | None = None

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if Ctrl-C was pressed. The first call begins to listen:
        before the first step there is no picture to save, and Ctrl-C ends the process plainly."""
        if self._reading is None:
            self._listen()
        if self._requested.is_set():
            raise KeyboardInterrupt

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *_: object) -> None:
        """Gives Ctrl-C back."""
        if self._reading is not None:
            signal.set_wakeup_fd(self._old_descriptor)
            signal.signal(signal.SIGINT, self._old_handler)
            os.close(self._writing)  # ends the thread

    def _listen(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._old_handler = signal.signal(signal.SIGINT, lambda *_: None)
        self._old_descriptor = signal.set_wakeup_fd(self._writing)
        threading.Thread(target=self._watch, args=(self._reading,), daemon=True).start()

    def _watch(self, reading: int) -> None:
        while signals := os.read(reading, 1):
            if signals[0] != signal.SIGINT:
                continue
            if self._requested.is_set():
                os._exit(INTERRUPTED)
            self._requested.set()
            self._say("stopping after this step (Ctrl-C again leaves at once)")
        os.close(reading)
