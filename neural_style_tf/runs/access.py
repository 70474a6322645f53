"""Access: which options a file may set. One row per option that is not a setting of the picture.

A picture, a saved run, a recipe or a table may come from a stranger. What they may say is listed
here and nowhere else: everything that is not listed is refused.
"""

import ntpath
import posixpath
import re
from typing import Any, NamedTuple

from neural_style_tf.errors import UserError, shortened

NO_FILE = (None, "-")  # in place of an input: there is none
SHA256 = re.compile(r"[0-9a-f]{64}")
LONGEST_NAME = 255  # bytes of a file's name, on every usual file system


class Option(NamedTuple):
    """What an option is, and who may set it besides the command line.

    Settings of the picture may be set by all four: each value is checked by its own rule.
    """

    role: str  # "input", "output" or "behaviour"
    record: bool = False  # a run that this user saved (see resumed.py)
    recipe: bool = False  # a recipe, without --trust-recipes
    table: bool = False  # the options column of a batch's table
    batch: bool = True  # batch.py has it
    needs: frozenset[str] = frozenset()  # it has an effect only together with one of these


def _input(recipe: bool = False, table: bool = True, batch: bool = True) -> Option:
    return Option("input", record=True, recipe=recipe, table=table, batch=batch)


def _output(batch: bool = False) -> Option:
    return Option("output", record=True, batch=batch)


def _behaviour(
    *needs: str, record: bool = False, recipe: bool = False, batch: bool = True
) -> Option:
    return Option("behaviour", record, recipe, recipe, batch, frozenset(needs))


OPTIONS = {
    "content": _input(table=False, batch=False),
    "styles": _input(table=False),
    "initial": _input(),
    "content_mask": _input(),
    "style_masks": _input(),
    "style_source_masks": _input(),
    "network": _input(recipe=True),
    "output": _output(),
    "checkpoint_output": _output(batch=True),
    "save_state": _output(),
    "timelapse": _output(),
    "log_dir": _output(),
    "save_settings": Option("output", batch=False),
    "list_layers": _behaviour(batch=False),
    "clear_cache": _behaviour(batch=False),
    "settings_from": Option("input", batch=False),
    "resume": Option("input", batch=False),
    "state_iterations": _behaviour("save_state", "resume", record=True),
    "allow_changes": _behaviour("resume", batch=False),
    "overwrite": _behaviour(),
    "trust_recipes": _behaviour(),
    "max_megapixels": _behaviour(record=True),
    "checkpoint_full_size": _behaviour(record=True, recipe=True),
    "preview": _behaviour(batch=False),
    "preview_host": _behaviour("preview", batch=False),
    "open": _behaviour("preview", batch=False),
    "progress_write": _behaviour(record=True),
    "progress_plot": _behaviour(record=True),
    "threads": _behaviour(record=True),
    "quiet": _behaviour(recipe=True),
    "debug": _behaviour(),
}

RECORDED_INPUTS = tuple(
    name for name, option in OPTIONS.items() if option.role == "input" and option.record
)
PICTURES = tuple(name for name in RECORDED_INPUTS if name != "network")
RECORDED = tuple(name for name, option in OPTIONS.items() if option.record)
OUTPUTS = tuple(name for name in RECORDED if OPTIONS[name].role == "output")
LISTS = ("styles", "style_masks", "style_source_masks")  # options of several files


def base_name(value: Any, source: str) -> str:
    """The value, if it is the name of a file without any folder, on every system. Raises
    `UserError` for anything else that a file, `source`, may hold in the place of a name."""
    if not isinstance(value, str) or not _is_base_name(value):
        raise UserError(
            f"{source} names the file {shortened(repr(value))}: a plain file name was expected"
        )
    return value


def _is_base_name(name: str) -> bool:
    try:
        size = len(name.encode(errors="surrogateescape"))
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return (
        0 < size <= LONGEST_NAME
        and name not in (".", "..")
        and "\0" not in name
        and ntpath.basename(name) == posixpath.basename(name) == name
    )


def is_remote(path: str) -> bool:
    """Whether a path leads to another machine as soon as it is looked at (Windows: \\\\HOST)."""
    return path.replace("\\", "/").startswith("//")
