"""Rules: a value of a setting or an option -> the value, checked by the rule it was declared with.

A rule is the metadata of a dataclass field. Its keys: `kind` (int, float, str, bool, or dict for
weights by layer: the type of one value), `many` (several values), `unit`, `choices`, `flag` (what
the option alone, or True, means), `is_size` (text, WIDTHxHEIGHT), `pattern` (what text has to
match) with `wanted` (the same in words), and the bounds `at_least`, `above`, `at_most` and `below`.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from neural_style_tf.errors import SettingName, UsageError, nearest, shortened

Rule = Mapping[str, Any]

SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
LAYER_NAME = re.compile(r"[a-z0-9_]{1,64}")
LAYER_EXAMPLE = "relu4_2=0.5"
MOST_VALUES = 1000  # of a setting that has several


def checked(name: str, value: Any, rule: Rule) -> Any:
    """The value in the form in which it is kept: whole numbers as int, several values as a tuple,
    weights by layer as a dict. None stands for "not set" and passes. Raises `UsageError`."""
    if "flag" in rule and isinstance(value, bool):
        value = rule["flag"] if value else None
    if value is None:
        return None
    kind = rule["kind"]
    if kind is dict:
        weights = _layer_weights(name, value)
        for weight in weights.values():
            _check_number(name, weight, float, rule)
        return weights
    if rule.get("many"):
        return tuple(_checked_value(name, item, rule) for item in _values(name, value, kind))
    return _checked_value(name, value, rule)


def names(*settings: str) -> list[str]:
    """The names of settings as parts of a message: one, or two joined by "and"."""
    parts: list[str] = []
    for name in settings:
        parts += [" and "] * bool(parts) + [SettingName(name)]
    return parts


def cannot_be_combined(*settings: str) -> UsageError:
    return UsageError(*names(*settings), " cannot be combined: use one of them")


def canonical_layer(name: str) -> str:
    """The name that a layer has here: Keras's names are translated, all others returned unchanged.

    block1_pool is pool1. block1_conv1 is relu1_1: a convolution of Keras's VGG includes its ReLU,
    and its output is what comes after that.
    """
    name = re.sub(r"^block(\d+)_conv(\d+)$", r"relu\1_\2", name)
    return re.sub(r"^block(\d+)_pool$", r"pool\1", name)


def _checked_value(name: str, value: Any, rule: Rule) -> Any:
    kind = rule["kind"]
    if rule.get("is_size"):
        return _checked_size(name, value, rule)
    if kind is str:
        _check_text(name, value, rule)
        return value
    _check_number(name, value, kind, rule)
    # 300.0 is a whole number, too; of other numbers the type is left as it is
    return kind(value) if kind in (int, bool) else value


def sides(size: str) -> tuple[int, int]:
    """Height and width of a size in words, such as 512x384. Raises `ValueError`."""
    match = SIZE.fullmatch(size)
    if not match:
        raise ValueError(f"{size} is not a size")
    return int(match[2]), int(match[1])


def _checked_size(name: str, value: Any, rule: Rule) -> str:
    """The size in words, without superfluous zeros."""
    try:
        height, width = sides(str(value))
    except ValueError:
        height = width = 0
    if min(height, width) < rule["at_least"] or max(height, width) > rule["at_most"]:
        raise UsageError(
            *names(name),
            f" is {shortened(value)}: use WIDTHxHEIGHT in pixels, as in 512x384, each from "
            f"{rule['at_least']} to {rule['at_most']}",
        )
    return f"{width}x{height}"


def _check_text(name: str, value: Any, rule: Rule) -> None:
    if "choices" in rule:
        if not isinstance(value, str) or value not in rule["choices"]:
            choices = list(rule["choices"])
            raise UsageError(
                *names(name),
                f" {shortened(repr(value))} is unknown{nearest(str(value), choices)}: "
                f"{_choose(choices)}",
            )
    elif "pattern" in rule:
        if not (isinstance(value, str) and rule["pattern"].fullmatch(value)):
            raise UsageError(*names(name), f" is {shortened(value)}: use {rule['wanted']}")
    elif rule.get("is_path") and not isinstance(value, str):
        raise UsageError(*names(name), f" is {shortened(repr(value))}: use the name of a file")


def _choose(choices: Iterable[Any]) -> str:
    *others, last = map(str, choices)
    return f"choose {', '.join(others)} or {last}"


def _check_number(name: str, value: Any, kind: type, rule: Rule) -> None:
    if not _is_of_kind(value, kind):
        wanted = {int: "a whole number", float: "a finite number", bool: "True or False"}[kind]
        raise UsageError(*names(name), f" is {shortened(value)}: use {wanted}")
    if "choices" in rule and value not in rule["choices"]:
        raise UsageError(*names(name), f" is {shortened(value)}: {_choose(rule['choices'])}")
    bounds = (
        ("at_least", "or more", lambda bound: value >= bound),
        ("above", None, lambda bound: value > bound),
        ("at_most", "or less", lambda bound: value <= bound),
        ("below", None, lambda bound: value < bound),
    )
    for bound_name, words, holds in bounds:
        bound = rule.get(bound_name)
        if bound is not None and not holds(bound):
            wanted = f"{bound} {words}" if words else f"a number {bound_name} {bound}"
            raise UsageError(*names(name), f" is {shortened(value)}: use {wanted}")


def _is_of_kind(value: Any, kind: type) -> bool:
    """Whether it is such a number, of any number type; a bool is not a number."""
    is_bool = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
    if is_bool != (kind is bool):
        return False
    try:
        return bool(kind(value) == value and math.isfinite(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _values(name: str, values: Any, kind: type) -> tuple:
    """The values of a setting that has several. Raises `UsageError` for anything else."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        what = "names" if kind is str else "numbers"
        raise UsageError(*names(name), f" is {shortened(values)}: use a list of {what}")
    values = tuple(values)
    _check_count(name, values)
    return values


def _check_count(name: str, values: Collection) -> None:
    if not values or len(values) > MOST_VALUES:
        raise UsageError(*names(name), f" has {len(values)} values: use 1 to {MOST_VALUES}")


def _layer_weights(name: str, value: Any) -> dict[str, float]:
    """{"relu4_2": 0.5} from itself, or from ["relu4_2=0.5"]; a layer alone has weight 1. Raises
    `UsageError` for anything else."""
    if isinstance(value, Mapping):
        weights = {_layer(name, layer): weight for layer, weight in value.items()}
    elif isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(
            *names(name), f" is {shortened(value)}: use LAYER=WEIGHT, as in {LAYER_EXAMPLE}"
        )
    else:
        weights = dict(_layer_weight(name, item) for item in value)
    _check_count(name, weights)
    return weights


def _layer_weight(name: str, item: Any) -> tuple[str, float]:
    layer, _, weight = str(item).partition("=")
    try:
        return _layer(name, layer), float(weight or 1)
    except ValueError:
        raise UsageError(
            *names(name), f" {shortened(item)}: use LAYER=WEIGHT, as in {LAYER_EXAMPLE}"
        ) from None


def _layer(name: str, layer: Any) -> str:
    if not isinstance(layer, str) or not LAYER_NAME.fullmatch(layer):
        raise UsageError(
            *names(name),
            f" names the layer {shortened(repr(layer))}: use small letters, digits and "
            f"underscores, as in {LAYER_EXAMPLE}",
        )
    return canonical_layer(layer)
