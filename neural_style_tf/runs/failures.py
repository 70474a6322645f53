"""Failures: an exception -> one line, reported, with or without ending the run."""

import sys
from collections.abc import Callable
from typing import Any

from neural_style_tf.errors import UserError, message_of, one_line
from neural_style_tf.machine import memory
from neural_style_tf.pictures import files

LOWER_MEMORY = "choose a smaller --size or --tile, or --optimizer adam, which needs less"


class Failures:
    """Reports what fails beside the painting itself, such as a file that cannot be written, and
    lets the run continue. `exit_status` is what the process should end with, `messages` what was
    reported.

    show: called with each message, a line.
    """

    def __init__(self, show: Callable[[str], None]):
        self.exit_status = 0
        self.messages: list[str] = []
        self._show = show

    def report(self, message: str, exit_status: int = UserError.exit_status) -> None:
        """Shows an error, and sets the exit status."""
        self.messages.append(one_line(message))
        self._show(f"error: {self.messages[-1]}")
        self.exit_status = exit_status

    def note(self, message: str) -> None:
        """Shows what was done about the error before."""
        self._show(message)

    def attempt(self, name: str, write: Callable, *arguments: Any) -> bool:
        """Calls `write` and returns whether it succeeded; if not, the error is reported. name: what
        is written, for the message."""
        try:
            write(*arguments)
        except UserError as error:
            self.report(message_of(error), error.exit_status)
            return False
        except Exception as error:  # any other file can still be written
            self.report(f"{name} could not be written ({files.in_short(error)})")
            return False
        return True

    def fenced(self, name: str, watch: Callable, is_required: bool = False) -> Callable:
        """A watcher that the run can do without: its first failure is reported, and it is not
        called again. is_required: whether a requested file is missing then, which the exit status
        says. name: of the watcher, for the message."""
        is_broken = False

        def watch_unless_broken(*arguments: Any) -> None:
            nonlocal is_broken
            if is_broken:
                return
            try:
                watch(*arguments)
            except Exception as error:  # whatever it is, the picture is still painted
                is_broken = True
                if isinstance(error, UserError):
                    message = message_of(error)
                else:
                    message = f"{name} failed ({files.in_short(error)}): the run goes on without it"
                before = self.exit_status
                self.report(message)
                if not is_required:
                    self.exit_status = before

        return watch_unless_broken


def print_error(error: Exception) -> int:
    """Prints what ended a command, expected or not, in one line. Returns the exit status."""
    print(f"error: {in_words(error)}", file=sys.stderr)
    return getattr(error, "exit_status", UserError.exit_status)


def in_words(error: BaseException) -> str:
    """What ended a run, expected or not, in one line."""
    return message_of(error) if isinstance(error, UserError) else one_line(_unexpected(error))


def _unexpected(error: BaseException) -> str:
    if memory.ran_out(error):
        return f"out of memory: {LOWER_MEMORY}"
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{files.reason(error)} (--debug shows where)"
    return f"{files.in_short(error)} (--debug shows where)"
