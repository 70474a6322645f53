"""Needs: options that have an effect only together with others, and options that replace others.

A field of `Settings` or `RunOptions` says what it needs; `EXCLUSIVE` lists what replaces what. What
is set without effect is refused. Options come in layers, such as a recipe and the command line that
uses it: what an earlier layer sets and a later one leaves without effect is not used.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.rules import Rule, cannot_be_combined, names

Values = Mapping[str, Any]  # of options, by name

# Of each pair, one option of either side is used: it replaces those of the other side in an earlier
# layer. In the order in which a message names them.
EXCLUSIVE = (
    (("size",), ("width", "height")),
    (("style_size",), ("style_scales", "style_fit")),
    (("stroke_size",), ("style_scales", "style_size", "style_fit", "style_stages")),
    (("stylization",), ("style_weight",)),
    (("content_weight_blend",), ("content_layers",)),
    (("style_layer_weight_exp",), ("style_layers",)),
    (("style_masks",), ("content_regions", "style_regions")),
    (
        ("texture",),
        (
            *("content", "content_mask", "size", "width", "height", "fit"),
            *("content_weight", "content_weight_blend", "content_layers", "content_loss"),
            *("preserve_colors", "initial_noiseblend", "initial_colors"),
        ),
    ),
)


class Need(NamedTuple):
    """What an option needs to have an effect."""

    others: tuple[str, ...]  # the options that this depends on
    words: tuple[str, ...]  # what a message says after the option's name, in parts
    is_met: Callable[..., bool]  # by the values of these options


def all_of(*others: str) -> Need:
    """All of these options are set."""
    return Need(others, (" needs ", *names(*others)), lambda *values: all(map(is_set, values)))


def any_of(*others: str) -> Need:
    """One of these options is set."""
    words: list[str] = []
    for name in others:
        words += [" or "] * bool(words) + [SettingName(name)]
    return Need(others, (" needs ", *words), lambda *values: any(map(is_set, values)))


def one_of(other: str, *choices: str, or_none: bool = False) -> Need:
    """Another option has one of these values. or_none: or none, so that it is chosen."""
    words = " needs ", SettingName(other), f" {' or '.join(choices)}"
    return Need((other,), words, lambda value: value in choices or (or_none and value is None))


def either(first: Need, second: Need) -> Need:
    """One of two needs is met, each of which says what it "needs"."""
    count = len(first.others)
    return Need(
        (*first.others, *second.others),
        (*first.words, " or ", *second.words[1:]),
        lambda *values: first.is_met(*values[:count]) or second.is_met(*values[count:]),
    )


def above_zero(other: str) -> Need:
    """Another option is above 0, or not a number, which is reported elsewhere."""
    words = " needs ", SettingName(other), " above 0"
    return Need((other,), words, lambda value: not (_is_number(value) and value <= 0))


def below(other: str, bound: float) -> Need:
    """Another option is below a bound, or not a number."""
    words = " needs ", SettingName(other), f" below {bound:g}"
    return Need((other,), words, lambda value: not (_is_number(value) and value >= bound))


def none_of(other: str, values: Collection[Any], instead: str) -> Need:
    """Another option has none of these values. instead: those that it may have, in words."""
    return Need(
        (other,), (" needs ", SettingName(other), f" {instead}"), lambda value: value not in values
    )


def without(other: str) -> Need:
    """Another option is not set."""
    return Need(
        (other,), (" has no effect with ", SettingName(other)), lambda value: not is_set(value)
    )


def ending_in(endings: Collection[str], *others: str) -> Need:
    """One of these options names a file with one of these endings, the first of which a message
    names; or one that has no ending yet, as in a batch."""

    def is_met(*paths: Any) -> bool:
        found = {os.path.splitext(str(path))[1].lower() for path in paths if path is not None}
        return not found or not found.isdisjoint(("", *endings))

    ending = f" with the ending {next(iter(endings))}"
    return Need(others, (*any_of(*others).words, ending), is_met)


def is_set(value: Any) -> bool:
    """Whether an option with this value is set: a switch that is off is not."""
    return value is not None and value is not False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


class Layer(NamedTuple):
    """Options from one source, by name. is_strict: each has to have an effect, together with the
    layers before it or with all, as on a command line; a recipe may hold what only some command
    lines use."""

    values: Values
    is_strict: bool = True

    def names(self) -> set[str]:
        return {name for name, value in self.values.items() if is_set(value)}


def combined(layers: Iterable[Layer], rules: Mapping[str, Rule], defaults: Values) -> dict:
    """The values of all layers, later ones before earlier ones, without those that have no effect.

    rules: the metadata of the options. defaults: their values where no layer sets them.

    Raises `UsageError` for options of a strict layer that exclude each other or have no effect.
    """
    values: dict[str, Any] = {}
    strict: list[tuple[set[str], Values]] = []
    for layer in layers:
        values = {**without_excluded(values, layer.names()), **layer.values}
        if layer.is_strict:
            strict.append((layer.names(), values))
    for own, up_to_it in strict:
        used = {name for name in own if _has_effect(name, {**defaults, **values}, rules)}
        _check_exclusive(own)
        check(own - used, {**defaults, **up_to_it}, rules)
    unused = without_effect(values, rules, defaults)
    return {name: value for name, value in values.items() if name not in unused}


def check(own: Collection[str], values: Values, rules: Mapping[str, Rule]) -> None:
    """Raises `UsageError` for one of `own` that has no effect, or that excludes another of them.
    values: of all options; what depends on others is not checked."""
    _check_exclusive(own)
    for name in rules:  # in the order of the options, so that the message is always the same
        if name in own and not _has_effect(name, values, rules):
            raise UsageError(*names(name), *rules[name]["needs"].words)


def _check_exclusive(own: Collection[str]) -> None:
    for some, others in EXCLUSIVE:
        first, second = ([name for name in side if name in own] for side in (some, others))
        if first and second:
            raise _exclude_each_other(first[0], second[0])


def _exclude_each_other(first: str, second: str) -> UsageError:
    if first == "texture" and second != "content":
        return UsageError(*names(second), " has no effect with ", *names("texture"))
    if first != "size":
        return cannot_be_combined(first, second)
    return UsageError(
        *names("size"), " is the long side: use it alone, or use ", *names("width", "height")
    )


def without_excluded(values: Values, own: Collection[str]) -> dict[str, Any]:
    """The values without those that one of `own` replaces: `width` replaces `size`."""
    excluded: set[str] = set()
    for some, others in EXCLUSIVE:
        excluded |= set(others) if set(some) & set(own) else set()
        excluded |= set(some) if set(others) & set(own) else set()
    return {name: value for name, value in values.items() if name not in excluded}


def without_effect(values: Values, rules: Mapping[str, Rule], defaults: Values) -> set[str]:
    """The names of the values that have no effect: not even on others that have."""
    unused: set[str] = set()
    while True:
        used = {name: value for name, value in values.items() if name not in unused}
        more = {
            name
            for name, value in used.items()
            if is_set(value) and not _has_effect(name, {**defaults, **used}, rules)
        }
        if not more:
            return unused
        unused |= more


def _has_effect(name: str, values: Values, rules: Mapping[str, Rule]) -> bool:
    need = rules.get(name, {}).get("needs")
    if need is None or not all(other in values for other in need.others):
        return True
    return need.is_met(*(values[other] for other in need.others))
