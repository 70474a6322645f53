"""Recipes: files of options (@FILE) -> arguments, and settings -> a recipe.

A recipe may come from a stranger: what it may set is in the descriptions of `RunOptions`. It has
one option and its values per line; quotes hold together what has spaces, `#` begins a comment, and
a backslash is a backslash.
"""

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from neural_style_tf import needs
from neural_style_tf.errors import UsageError, UserError, nearest, one_line, shortened
from neural_style_tf.pictures import files
from neural_style_tf.runs import names
from neural_style_tf.schema import setting_defaults, shapes_picture
from neural_style_tf.settings import Settings, setting_rules

MOST_BYTES = 1_000_000
MOST_NESTED = 8  # recipes that a recipe reads, one within the other
_PACKAGE = Path(__file__).resolve().parents[1]
BUNDLED_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")  # installed; in a checkout

Check = Callable[[list[str]], None]  # raises `UsageError` for arguments that a recipe may not hold


class Expanded(NamedTuple):
    """A command line with the arguments of its recipes in their places."""

    arguments: list[str]
    recipes: list[str]  # the files that were read
    own: list[str]  # the arguments that no recipe holds


def expand(arguments: list[str], check: Check) -> Expanded:
    """Puts the arguments of each @FILE and each `--recipe NAME` in its place. Raises `UserError`
    for a file that cannot be read, and `UsageError`, with file and line, for one that is not a
    recipe."""
    read: list[str] = []
    arguments = bundled_as_files(arguments)
    own = [argument for argument in arguments if not _is_file(argument)]
    return Expanded(_expand(arguments, check, read, ()), read, own)


def _expand(arguments: list[str], check: Check, read: list[str], within: tuple) -> list[str]:
    expanded = []
    for argument in arguments:
        if _is_file(argument):
            expanded += _arguments_of(argument[1:], check, read, within)
        else:
            expanded.append(argument)
    return expanded


def _is_file(argument: str) -> bool:
    return argument.startswith("@") and len(argument) > 1


def _arguments_of(name: str, check: Check, read: list[str], within: tuple) -> list[str]:
    path = _path_of(name)
    if within and names.is_remote(path):
        raise UsageError(f"recipe {within[-1]} reads {shortened(path)}: that is another machine")
    place = os.path.realpath(path)
    if place in within:
        raise UsageError(f"recipe {path} reads itself: remove its @ line")
    if len(within) == MOST_NESTED:
        raise UsageError(f"recipe {path} is the {MOST_NESTED + 1}th within another: use fewer")
    arguments = bundled_as_files(
        argument
        for number, line in enumerate(_text(path).splitlines(), 1)
        for argument in _split(line, path, number)
    )
    read.append(path)
    try:
        check([argument for argument in arguments if not argument.startswith("@")])
    except UsageError as error:
        raise UsageError(f"recipe {path}: ", *error.args) from error
    return _expand(arguments, check, read, (*within, place))


def bundled_as_files(arguments: Iterable[str]) -> list[str]:
    """The arguments with `@FILE` in place of each `--recipe NAME`. Raises `UsageError` for a name
    that no bundled recipe has."""
    files_named, remaining = [], iter(arguments)
    for argument in remaining:
        option, equals, name = argument.partition("=")
        if option == "--recipe" and (name := name if equals else next(remaining, "")):
            argument = f"@{bundled(name)}"
        files_named.append(argument)
    return files_named


def bundled(name: str) -> str:
    """The file of a bundled recipe. Raises `UsageError` for an unknown name."""
    names = bundled_names()
    if name not in names:
        raise UsageError(
            f"unknown recipe {shortened(name)}{nearest(name, names)}: "
            f"use one of {', '.join(names)}, or @FILE for a file of options"
        )
    return str(_bundled_folder() / f"{name}.args")


def bundled_names() -> list[str]:
    return sorted(path.stem for path in _bundled_folder().glob("*.args"))


def _bundled_folder() -> Path:
    return next(folder for folder in BUNDLED_FOLDERS if folder.is_dir())


def _path_of(name: str) -> str:
    """The file that @NAME stands for: the bundled one for `recipes/prisma.args`, where no file has
    that name."""
    path = Path(name)
    is_bundled = path.parent == Path("recipes") and path.suffix == ".args"
    return bundled(path.stem) if is_bundled and not os.path.lexists(path) else name


def _text(path: str) -> str:
    with files.open_to_read(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UserError(f"recipe {path} is larger than {MOST_BYTES // 1000} kB: check the file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(
            f"recipe {path}, line {line}: not UTF-8 text: save the file as UTF-8"
        ) from error


def _split(line: str, path: str, number: int) -> list[str]:
    """The arguments in a line of a recipe."""
    if "\0" in line:
        raise UsageError(f"recipe {path}, line {number}: holds a null byte: check the file")
    try:
        return split(line)
    except ValueError:
        raise UsageError(
            f"recipe {path}, line {number}: a quote is not closed: put a value that holds one "
            "between quotes of the other kind"
        ) from None


def split(line: str) -> list[str]:
    """Words as a shell has them, but a backslash is itself (C:\\nets\\vgg.mat). Raises `ValueError`
    for a quote that is not closed."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.escape = True, ""
    return list(lexer)


def save(path: str, settings: Settings, output: str) -> None:
    """Writes the settings as a recipe. output: the picture that they paint. Raises `UserError`."""
    title = f"The settings of {os.path.basename(output)}."
    files.write(path, text(settings, title).encode())


def text(settings: Settings, title: str) -> str:
    """The settings that are not defaults, and have an effect, as the text of a recipe, one option
    per line: read back, it paints the same picture."""
    lines = [f"# {one_line(title)}"]
    # a command line that names these is refused, as with a style loss at style weight 0
    unused = needs.without_effect(vars(settings), setting_rules(), setting_defaults())
    for field in dataclasses.fields(Settings):
        value = getattr(settings, field.name)
        if value != field.default and shapes_picture(field) and field.name not in unused:
            lines.append(" ".join(map(shlex.quote, _option(field.name, value))))
    return "\n".join(lines) + "\n"


def _option(name: str, value: object) -> list[str]:
    """A setting as arguments."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, Mapping):
        return [option, *(f"{layer}={weight!r}" for layer, weight in value.items())]
    if isinstance(value, tuple):
        return [option, *map(_number, value)]
    return [option, _number(value) if isinstance(value, float) else str(value)]


def _number(value: float) -> str:
    """All digits, and no exponent: a parser takes -1e-05 for an option."""
    return f"{Decimal(repr(value)):f}"
