"""Provenance: what a run is made of -> a description that can be kept, and back to options.

A description that is read from a file is data from a stranger: `checked` takes nothing but what
`describe` and a run put there, each part by its own rule.

NumPy, Pillow and TensorFlow are imported late, as in neural_style.py.
"""

import dataclasses
import functools
import hashlib
import json
import os
import platform
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeGuard

from neural_style_tf import needs
from neural_style_tf.errors import SettingName, UserError, nearest, shortened
from neural_style_tf.machine import streams
from neural_style_tf.pictures import files
from neural_style_tf.runs import options as described
from neural_style_tf.runs.names import SHA256, base_name
from neural_style_tf.runs.options import NO_FILE, RunOptions, recorded_inputs
from neural_style_tf.schema import setting_defaults, settings_from, shapes_picture
from neural_style_tf.settings import STYLIZATION_RANGE, Settings, setting_rules
from neural_style_tf.usual import ADAM_DEFAULTS
from neural_style_tf.version import VERSION

MOST_FILES = 1000  # of an option

FINGERPRINT = "fingerprint"  # in the place of a description that is too long

Description = dict[str, Any]


def describe(options: RunOptions) -> Description:
    """What makes a picture: every setting, the names of the inputs without their folders, and
    their SHA-256. Raises `UserError` for one that cannot be read."""
    paths = {name: getattr(options, name) for name in recorded_inputs()}
    asked = options.asked
    if asked is None:
        asked = {name: getattr(options.settings, name) for name in resolved_settings()}
    return {
        **{name: each(os.path.basename, value) for name, value in paths.items()},
        "sha256": {name: each(digest, value) for name, value in paths.items()},
        **dataclasses.asdict(options.settings),
        "asked": dict(asked),
    }


def record(options: RunOptions) -> dict[str, Any]:
    """The options that are not settings and that a saved run keeps; files with their folders."""
    values = {name: getattr(options, name) for name in described.recorded()}
    paths = described.recorded_paths()
    return values | {name: each(os.path.abspath, values[name]) for name in paths}


def kept(description: Description) -> Description:
    """What a picture keeps of a description: all of it, or, if that is too long to be read again,
    what tells whether it is the same, and the losses."""
    from neural_style_tf.pictures import metadata

    length = len(json.dumps(description))
    if length <= metadata.MAX_BYTES:
        return description
    picture = shortened(description["content"] or "a texture")
    streams.warn_once(
        f"the settings of {picture} have {length / 1e6:.1f} MB: only a "
        "checksum of them is kept in the picture, which --settings-from cannot use"
    )
    losses = {"losses": description["losses"]} if "losses" in description else {}
    return {FINGERPRINT: fingerprint(description), **losses}


def fingerprint(description: Description) -> str:
    """A checksum of all that `is_same` compares."""
    settings = settings_in(description) | description["asked"]
    shaping = (field.name for field in dataclasses.fields(Settings) if shapes_picture(field))
    values = {name: _comparable(settings.get(name)) for name in shaping}
    text = json.dumps([description["sha256"], values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _comparable(value: Any) -> Any:
    """A value of a setting, equal as text if it is equal."""
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    return float(value) if isinstance(value, int | float) else value


def _is_fingerprint(description: Description) -> bool:
    value = description.get(FINGERPRINT)
    is_checksum = isinstance(value, str) and bool(SHA256.fullmatch(value))
    return is_checksum and description.keys() <= {FINGERPRINT, "losses"}


def resolved_settings() -> list[str]:
    """The settings that a run resolves for this machine and size; what was asked for is kept
    beside them."""
    fields = dataclasses.fields(Settings)
    return [field.name for field in fields if field.metadata.get("resolved")]


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
        sha256 = hashlib.sha256()
        while part := file.read(1 << 20):
            sha256.update(part)
        return sha256.hexdigest()


def options_of(picture: str, explicit: Collection[str]) -> dict[str, Any]:
    """The settings and inputs that made a picture, as defaults of the options. Inputs that are not
    `explicit` are searched for by name, here and beside the picture. With another photo or size,
    what depends on these is resolved again.

    Raises `UserError` for a picture from elsewhere, for metadata that holds anything else, and for
    an input that is not what it was.
    """
    from neural_style_tf.pictures import metadata

    description = metadata.read(picture)
    if not description:
        raise UserError(
            f"{picture} has no neural-style metadata: use a picture made by this program"
        )
    description = checked(description, picture)
    if FINGERPRINT in description:
        raise UserError(
            f"the settings of {picture} were too long to be kept in it: pass those that made it"
        )
    inherited = settings_in(description)
    for field in dataclasses.fields(Settings):
        if not shapes_picture(field):
            inherited.pop(field.name, None)
    if {"content", "size", "width", "height", "texture"} & set(explicit):
        inherited |= description["asked"]
    else:
        inherited["asked"] = description["asked"]
    unused = ["content", "content_mask"] if "texture" in explicit else []
    folders = [Path(), Path(picture).parent]
    return inherited | inputs_of(description, {*explicit, *unused}, folders)


def inputs_of(
    description: Description, explicit: Collection[str], folders: list[Path]
) -> dict[str, Any]:
    """The inputs of a description that are not `explicit`, searched for by name in some folders.
    Raises `UserError` for one that is missing, or is not what it was."""
    inputs: dict[str, Any] = {}
    for name in set(recorded_inputs()) - set(explicit):
        names, digests = description[name], description["sha256"][name]
        if isinstance(names, list):
            pairs = zip(names, digests, strict=True)
            inputs[name] = [_find(name, *pair, folders) for pair in pairs]
        else:
            inputs[name] = _find(name, names, digests, folders)
    return inputs


def checked(description: Any, source: str) -> Description:
    """A description from a file, `source`, with every part that it should have.

    Raises `UserError`, in one line, for anything that is unknown or of the wrong type.
    """
    if not isinstance(description, dict):
        raise _damaged(source, "not a description of a picture")
    if _is_fingerprint(description):
        _check_values(source, "losses", description.get("losses", {}), _is_number)
        return description
    _check_known(description, source)
    description = _with_present_weights(_with_present_names(description))
    digests = description.get("sha256")
    if not isinstance(digests, dict) or digests.keys() - set(recorded_inputs()):
        raise _damaged(source, f"sha256 is {shortened(digests)}")
    named = {
        name: _checked_input(source, name, description.get(name), digests.get(name))
        for name in recorded_inputs()
    }
    for name in (*described.required(values=description), "network"):
        if name in named and named[name][0] is None:
            raise _damaged(source, f"{name} is missing")
    asked = description.get("asked", {})
    if not isinstance(asked, dict) or asked.keys() - set(resolved_settings()):
        raise _damaged(source, f"asked is {shortened(asked)}")
    _check_settings(description, asked, source)
    _check_values(source, "losses", description.get("losses", {}), _is_number)
    _check_values(source, "versions", description.get("versions", {}), _is_text)
    _check_values(source, "device", {"": description.get("device", "")}, _is_text)
    names = {name: value for name, (value, _) in named.items()}
    sums = {name: value for name, (_, value) in named.items()}
    return description | names | {"sha256": sums, "asked": asked}


def _damaged(source: str, what: str) -> UserError:
    return UserError(f"the metadata of {source} is damaged ({what}): use another file")


def _with_present_names(description: Description) -> Description:
    """What an earlier version wrote, before there was `fit`, in the words of this one: `style_fit`
    "keep" made a painting as wide as the result, a photo was stretched to `width` and `height`, and
    settings without effect, such as Adam's of another optimizer, were accepted."""
    if "fit" in description:
        return description
    changed: Description = {}
    if description.get("style_fit") == "keep":
        changed["style_fit"] = "width"
    if None not in map(description.get, ("width", "height")):
        changed["fit"] = "stretch"
    for name, default in ADAM_DEFAULTS.items():
        if description.get(name) == default:
            changed[name] = None
    settings, defaults = settings_in(description | changed), setting_defaults()
    unused = needs.without_effect(
        {name: value for name, value in settings.items() if value != defaults[name]},
        setting_rules(),
        {**defaults, **settings},
    )
    return description | changed | {name: defaults[name] for name in unused}


def _with_present_weights(description: Description) -> Description:
    """What an earlier version wrote, when `stylization` multiplied a `style_weight` of its own,
    whatever the painting, as that weight."""
    weight, balance = description.get("style_weight"), description.get("stylization")
    if not (_is_number(weight) and _is_number(balance)):
        return description
    if description.get("style_loss") == "neighbors":
        return description | {"style_weight": None}
    if not 0 <= balance <= 1:  # `_check_settings` says so
        return description
    strength = weight * STYLIZATION_RANGE ** (2 * balance - 1)
    return description | {"style_weight": strength, "stylization": None}


def _check_known(description: Description, source: str) -> None:
    known = {field.name for field in dataclasses.fields(Settings)}
    known |= {*recorded_inputs(), "sha256", "versions", "device", "asked", "losses"}
    unknown = sorted(map(str, description.keys() - known))
    if unknown:
        versions = description.get("versions")
        version = versions.get("neural-style") if isinstance(versions, dict) else None
        by = f", made by version {shortened(version, 20)}," if version else ""
        raise UserError(
            f"{source}{by} has the unknown setting {shortened(unknown[0])}"
            f"{nearest(unknown[0], sorted(known))}: nothing of it was used"
        )


def _check_settings(description: Description, asked: dict[str, Any], source: str) -> None:
    """Each value by its own rule, and all together; those that were asked for, too."""
    try:
        settings = settings_from(settings_in(description))
        dataclasses.replace(settings, **asked)
    except UserError as error:
        raise UserError(f"{source}: ", *error.args) from error


def _checked_input(source: str, name: str, names: Any, digests: Any) -> tuple[Any, Any]:
    """The names of an input's files, without folders, and their checksums: one, or two lists."""
    if described.is_list(name) and names is not None:
        right = isinstance(names, list) and isinstance(digests, list)
        if not right or None in names or not 0 < len(names) == len(digests) <= MOST_FILES:
            raise _damaged(source, f"{name} is {shortened(names)}")
        pairs = [_checked_file(source, *pair) for pair in zip(names, digests, strict=True)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return _checked_file(source, names, digests)


def _checked_file(source: str, name: Any, digest: Any) -> tuple[str | None, str | None]:
    if name is None or name == "-":
        return name, name
    if not isinstance(digest, str) or not SHA256.fullmatch(digest):
        raise _damaged(source, f"sha256 holds {shortened(digest)}")
    return base_name(name, source), digest


def _check_values(source: str, name: str, values: Any, is_right: Callable[[Any], bool]) -> None:
    """Raises `UserError` for anything but values by name that are all right."""
    right = isinstance(values, dict) and len(values) <= MOST_FILES
    if not right or not all(map(is_right, values.values())):
        raise _damaged(source, f"{name} is {shortened(values)}")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 63)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def settings_in(description: Description) -> dict[str, Any]:
    """The settings of a description."""
    names = (field.name for field in dataclasses.fields(Settings))
    return {name: description[name] for name in names if name in description}


def changes(before: Description, now: Description) -> list[str]:
    """What would make another picture of it: parts of a message, with commas between them."""
    parts: list[str] = []
    for name in recorded_inputs():
        if before["sha256"][name] != now["sha256"][name]:
            what = shortened(before[name])
            parts += [SettingName(name), f" (another file than {what})", ", "]
    for field in dataclasses.fields(Settings):
        was, is_now = before.get(field.name), now[field.name]
        if not field.metadata.get("free") and plain(was) != plain(is_now):
            values = f" (was {shortened(was)}, now {shortened(is_now)})"
            parts += [SettingName(field.name), values, ", "]
    return parts[:-1]


def is_same(description: Description, wanted: Description) -> bool:
    """Whether a picture with this description is made as the one wanted; to its end, if it has
    losses."""
    if FINGERPRINT in description:
        return description[FINGERPRINT] == fingerprint({**wanted, "asked": {}})
    if description["sha256"] != wanted["sha256"]:
        return False
    settings = settings_in(description) | description["asked"]
    shaping = filter(shapes_picture, dataclasses.fields(Settings))
    return all(
        plain(settings.get(field.name)) == plain(wanted.get(field.name)) for field in shaping
    )


def _find(option: str, file: str | None, sha256: str | None, folders: list[Path]) -> str | None:
    """The input of that name and digest."""
    if file in NO_FILE:
        return file
    if option == "network":
        from neural_style_tf.network import weights

        folders = [*folders, *weights.folders()]
    existing = [path for folder in folders if (path := folder / file).is_file()]
    for path in existing:
        if digest(path) == sha256:
            return str(path)
    if existing:
        raise UserError(
            f"{existing[0]} is not the file that made the picture: pass ", SettingName(option)
        )
    raise UserError(f"no file {file} here or beside the picture: pass ", SettingName(option))


def each(function: Callable[[str], Any], value: Any) -> Any:
    """The function of a file, or a list with that of each; where there is none, itself."""
    if isinstance(value, list | tuple):
        return [each(function, item) for item in value]
    return value if value in NO_FILE else function(value)


def plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
