"""Provenance: what a run is made of -> a description that can be kept, and back to options.

NumPy, Pillow and TensorFlow are imported late, as in neural_style.py.
"""

import argparse
import dataclasses
import functools
import hashlib
import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import files
from options import option_name
from settings import VERSION, Settings, UserError

# The options that name input files, one or a list.
PICTURES = ("content", "styles", "initial", "content_mask", "style_masks", "style_source_masks")
INPUTS = (*PICTURES, "network")
NO_FILE = (None, "-")
OUTPUTS = ("output", "checkpoint_output", "save_state", "timelapse", "log_dir")
# Options of one command, that the next one does not inherit.
NOT_KEPT = {
    *("resume", "settings_from", "save_settings", "allow_changes", "overwrite", "list_layers"),
    *("preview", "preview_host", "open", "quiet", "debug", "threads"),
}
# Settings that a run resolves for this machine and size; what was asked for is kept beside them.
RESOLVED = ("precision", "scales", "tile")

# Settings that say how far to go and what to tell, not what the picture is.
FREE = {
    "iterations",
    "max_evaluations",
    "max_seconds",
    "patience",
    "print_iterations",
    "checkpoint_iterations",
}

Description = dict[str, Any]


def shapes_pictures(field: dataclasses.Field) -> bool:
    """Whether a setting says what a run paints, rather than what it tells on the way."""
    return field.metadata["group"] != "progress"


def describe(options: argparse.Namespace, settings: Settings) -> Description:
    """What makes a picture: every setting, the names of the inputs without their folders, and
    their SHA-256. Raises `UserError` for one that cannot be read."""
    named = {name: getattr(options, name) for name in INPUTS}
    # painting a picture again, or going on, inherits what was asked at first
    asked = getattr(options, "asked", {name: getattr(settings, name) for name in RESOLVED})
    return {
        **{name: each(os.path.basename, value) for name, value in named.items()},
        "sha256": {name: each(digest, value) for name, value in named.items()},
        **dataclasses.asdict(settings),
        "asked": asked,
    }


def kept(options: argparse.Namespace) -> dict[str, Any]:
    """The options that are no settings, for the state of a run; files with their folders."""
    settings = {field.name for field in dataclasses.fields(Settings)}
    told = {name: value for name, value in vars(options).items() if name not in settings | NOT_KEPT}
    return told | {name: each(os.path.abspath, told[name]) for name in (*INPUTS, *OUTPUTS)}


def versions() -> dict[str, str]:
    import numpy
    import tensorflow

    return {
        "neural-style": VERSION,
        "tensorflow": tensorflow.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def digest(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal digits. Raises `UserError` if it cannot be read."""
    return _digest(*files.version(path))


@functools.lru_cache(maxsize=100_000)  # a batch asks for the same files again and again
def _digest(path: str, *_: int) -> str:
    with files.open_to_read(path) as file:
        found = hashlib.sha256()
        while part := file.read(1 << 20):
            found.update(part)
        return found.hexdigest()


def options_of(picture: str, given: Collection[str]) -> dict[str, Any]:
    """The settings and inputs that made a picture, as defaults of the options. The inputs that are
    not `given` are looked for by name, here and beside the picture. With another photo or size,
    what hangs on these is resolved anew.

    Raises `UserError` for a picture from elsewhere, and for an input that is not what it was.
    """
    import images

    description = images.metadata(picture)
    if "sha256" not in description:
        raise UserError(f"{picture} does not say what made it: give a picture of this program")
    folders = [Path(), Path(picture).parent]
    found = settings_in(description)
    for field in dataclasses.fields(Settings):
        if not shapes_pictures(field):
            del found[field.name]
    if {"content", "size", "width", "height"} & set(given):
        found |= description["asked"]
    else:
        found["asked"] = description["asked"]
    for name in INPUTS:
        if name not in given:
            names, digests, option = (
                description[name],
                description["sha256"][name],
                option_name(name),
            )
            if isinstance(names, list):
                each = zip(names, digests, strict=True)
                found[name] = [_find(option, *one, folders) for one in each]
            else:
                found[name] = _find(option, names, digests, folders)
    return found


def settings_in(description: Description) -> dict[str, Any]:
    """The settings of a description. Raises `UserError` for one that is unknown here."""
    known = {field.name for field in dataclasses.fields(Settings)}
    others = {*INPUTS, "sha256", "versions", "device", "asked", "losses"}
    unknown = description.keys() - known - others
    if unknown:
        version = description.get("versions", {}).get("neural-style", "another version")
        raise UserError(
            f"{sorted(unknown)[0]} is no setting of {VERSION}: take neural-style {version}"
        )
    return {name: description[name] for name in known if name in description}


def changes(before: Description, now: Description) -> list[str]:
    """What would make another picture of it, each in words."""
    told = []
    for name in INPUTS:
        if before["sha256"][name] != now["sha256"][name]:
            told.append(f"{option_name(name)} (another file than {before[name]})")
    for field in dataclasses.fields(Settings):
        was, is_now = before.get(field.name), now[field.name]
        if field.name not in FREE and plain(was) != plain(is_now):
            told.append(f"{option_name(field.name)} (was {was}, now {is_now})")
    return told


def is_same(found: Description, wanted: Description) -> bool:
    """Whether the picture that `found` is kept with is made as the one wanted; to its end, if it
    has losses."""
    if found.get("sha256") != wanted["sha256"]:
        return False
    found = settings_in(found) | found["asked"]
    shaping = filter(shapes_pictures, dataclasses.fields(Settings))
    return all(plain(found.get(one.name)) == plain(wanted[one.name]) for one in shaping)


def recipe(settings: Settings, title: str) -> str:
    """The settings that are no defaults as the text of a recipe, an option a line."""
    lines = [f"# {title}"]
    for field in dataclasses.fields(Settings):
        value, option = getattr(settings, field.name), option_name(field.name)
        if value == field.default or not shapes_pictures(field):
            continue
        if isinstance(value, bool):
            lines.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, Mapping):
            lines.append(" ".join([option, *(f"{name}={one!r}" for name, one in value.items())]))
        elif isinstance(value, tuple):
            lines.append(" ".join([option, *map(repr, value)]))
        else:
            lines.append(f"{option} {value}")
    return "\n".join(lines) + "\n"


def _find(option: str, file: str | None, sha256: str | None, folders: list[Path]) -> str | None:
    """The input of that name and digest."""
    if file in NO_FILE:
        return file
    candidates = [folder / file for folder in folders]
    if option == "--network":
        import weights

        candidates += [folder / file for folder in weights.folders()]
    there = [path for path in candidates if path.is_file()]
    for path in there:
        if digest(path) == sha256:
            return str(path)
    if there:
        raise UserError(f"{there[0]} is not the file that made the picture: give {option}")
    raise UserError(f"no file {file} here or beside the picture: give {option}")


def each(function: Any, value: Any) -> Any:
    """The function of a file, or of each in a list; where there is none, itself."""
    if isinstance(value, list):
        return [each(function, one) for one in value]
    return value if value in NO_FILE else function(value)


def plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
