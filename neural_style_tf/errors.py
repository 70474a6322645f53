"""Errors: what can go wrong -> one line that says what, the value and what to do."""

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

INTERRUPTED = 130  # exit status of a command that Ctrl-C ended
TERMINATED = 143  # and of one that SIGTERM ended
LONGEST_MESSAGE = 500  # characters of an error


class SettingName(str):
    """The name of a setting in the message of an error: the command line spells it as an option."""


class UserError(Exception):
    """An expected failure, reported in one line: what, the value, what to do.

    parts: the message; a `SettingName` among them stands for a setting. In Python it reads
    `style_weight`, on the command line `--style-weight` (`message_of`).
    """

    exit_status = 1

    def __init__(self, *parts: str):
        super().__init__(*parts)

    def __str__(self) -> str:
        return "".join(self.args)

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the settings that the message is about."""
        return tuple(str(part) for part in self.args if isinstance(part, SettingName))


class UsageError(UserError):
    """A wrong or missing option."""

    exit_status = 2


def option_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def message_of(error: UserError) -> str:
    """What went wrong in one line, with settings spelled as options."""
    return one_line(
        "".join(option_name(part) if isinstance(part, SettingName) else part for part in error.args)
    )


def one_line(text: str) -> str:
    """The text without line breaks and other control characters, and without its middle where it
    is long: a message may quote whatever was in a file."""
    text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in shortened(text, LONGEST_MESSAGE)
    )
    return shortened(text, LONGEST_MESSAGE)


def shortened(value: Any, longest: int = 60) -> str:
    """The value as text of at most `longest` characters, the middle left out if need be."""
    text = str(value)
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 3]}...{text[-end:]}"


def nearest(word: str, choices: list[str]) -> str:
    """' (did you mean ...?)' for the choice most like `word`, or nothing."""
    match = difflib.get_close_matches(shortened(word), choices, n=1)
    return f" (did you mean {match[0]}?)" if match else ""


class NotFiniteError(UserError):
    """The loss stopped being a number. `image` is the last good picture, or None."""

    def __init__(self, *parts: str, image: "np.ndarray | None"):
        super().__init__(*parts)
        self.image = image
