"""Schema: the names of the settings and their defaults; `Settings` from what callers pass."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from neural_style_tf import needs
from neural_style_tf.errors import UsageError, nearest, shortened
from neural_style_tf.rules import names
from neural_style_tf.settings import Settings, setting_rules


def shapes_picture(field: dataclasses.Field) -> bool:
    """Whether a setting says what a run paints, rather than what it reports on the way."""
    return field.metadata["group"] != "progress"


def setting_defaults() -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(Settings)}


def settings_from_keywords(options: Mapping[str, Any]) -> Settings:
    """`Settings` from what a caller passes with pictures in memory: each has to have an effect,
    whatever its value."""
    for name in ("size", "width", "height"):
        if options.get(name) is not None:
            raise UsageError(*names(name), " is for files: resize the pictures, or use paint_file")
    layer = needs.Layer(options)
    return settings_from(needs.combined([layer], setting_rules(), setting_defaults()))


def settings_from(options: dict[str, Any]) -> Settings:
    """`Settings` from keyword arguments; an unknown name is answered with the nearest one."""
    known = setting_names()
    for name in options:
        if name not in known:
            raise UsageError(f"unknown setting {shortened(name)}{nearest(name, known)}")
    return Settings(**options)


def setting_names() -> list[str]:
    return [field.name for field in dataclasses.fields(Settings)]
