"""The parser: the descriptions in `RunOptions` and `Settings` -> argparse -> `RunOptions`."""

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from neural_style_tf.errors import UsageError, nearest, option_name, shortened
from neural_style_tf.needs import Layer, check, is_set
from neural_style_tf.runs import options, recipe
from neural_style_tf.runs.names import is_remote
from neural_style_tf.settings import Settings
from neural_style_tf.version import VERSION

GROUPS = {
    "files": "pictures and files",
    "size": "size",
    "balance": "balance of photo and painting",
    "losses": "network and losses",
    "run": "run",
    "progress": "checkpoints and progress",
}
DESCRIPTION = "Repaints a photo in the style of one or more paintings."
EXAMPLE = "--content photo.jpg --styles painting.jpg --output out.jpg"
VERSION_TEXT = f"neural-style {VERSION}"
MODULE_CALL = "python -m neural_style_tf"


def parse(
    arguments: list[str], inherited: Mapping[str, Any], own: list[str] | None = None
) -> options.RunOptions:
    """The options of a command line, whose recipes have been read. inherited: values by name that a
    picture or a saved run contributes, which the command line overrides. own: the arguments that no
    recipe holds, each of which has to have an effect; by default all.

    Raises `UsageError`; prints and exits for --help, --help-all and --version.
    """
    given = vars(_known(arguments)[0])
    required = set(options.required(values={**inherited, **given})) - inherited.keys()
    above = layers(arguments, arguments if own is None else own, required)
    return options.RunOptions.of(options.combined(Layer(inherited, is_strict=False), *above))


def layers(
    arguments: list[str], own: list[str], required: Collection[str] = ()
) -> tuple[Layer, Layer]:
    """What the recipes of a command line set, and what it sets itself: `own`, among all its
    arguments. Raises as `parse` does."""
    values = with_files(vars(build_parser(set(required)).parse_args(arguments)))
    for name in ACTIONS:
        values.pop(name, None)
    names = given_options(own)
    of_recipes = {name: value for name, value in values.items() if name not in names}
    own_values = {name: value for name, value in values.items() if name in names}
    return Layer(of_recipes, is_strict=False), Layer(own_values)


def given_options(arguments: list[str]) -> dict[str, Any]:
    """The options that a command line sets itself, without any default."""
    return with_files(vars(_known(arguments)[0]))


def with_files(own: dict[str, Any], names: Collection[str] | None = None) -> dict[str, Any]:
    """The options with the files that patterns such as *.jpg match in their place: not every
    system's shell expands them. names: of the options, by default all inputs of a picture.

    Raises `UserError` for a pattern that matches nothing, or several files where one is taken.
    """
    from neural_style_tf.pictures import portable  # late: `--help` does not need it

    for name in own.keys() & set(options.inputs_of_users() if names is None else names):
        value = own[name]
        if not isinstance(value, str):
            own[name] = [path for item in value for path in portable.matching(item)]
            continue
        paths = portable.matching(value)
        if len(paths) > 1:
            raise UsageError(
                f"{option_name(name)} {shortened(value)} matches {len(paths)} files "
                f"({shortened(paths[0])}, {shortened(paths[1])} ...): name one of them"
            )
        own[name] = paths[0]
    return own


def known_options(arguments: list[str]) -> dict[str, Any]:
    """The same, where no picture has to be named. Raises `UsageError` for an unknown option."""
    return vars(build_parser().parse_args(arguments))


def expand(arguments: list[str]) -> recipe.Expanded:
    """The command line with its recipes read. What they may set is in the descriptions of the
    options, unless the command line itself says --trust-recipes. Raises `UsageError` if it says so
    and names no recipe."""
    own = [argument for argument in arguments if not argument.startswith("@")]
    is_trusted = "--trust-recipes" in own
    expanded = recipe.expand(arguments, (lambda _: None) if is_trusted else check_recipe)
    if is_trusted and not expanded.recipes:
        raise UsageError("--trust-recipes needs a recipe, as in @my.args")
    return expanded


def check_recipe(arguments: list[str]) -> None:
    """Raises `UsageError` for an option that a recipe may not set."""
    _check_file(arguments, "recipe", ", or pass --trust-recipes for a recipe of your own")
    own = {name: value for name, value in given_options(arguments).items() if is_set(value)}
    check(own, own, options.all_rules())  # what depends on other options may come from elsewhere


def check_table(arguments: list[str]) -> None:
    """Raises `UsageError` for an option that the options column of a table may not set."""
    _check_file(arguments, "table")


def program_name(script: str, command: str) -> str:
    """How the user calls the program: by its script in a checkout, by its command, or as
    `python -m neural_style_tf`."""
    name = os.path.basename(sys.argv[0])
    if name == MODULE_CALL:
        return name
    return command if name in (command, f"{command}.exe") else script


def _check_file(arguments: list[str], kind: str, advice: str = "") -> None:
    for name in _set_by_file(arguments):
        if not options.may_be_set_by(kind, name):
            raise UsageError(
                f"{option_name(name)} does not belong in a {kind}: set it on the command line"
                f"{advice}"
            )


def _set_by_file(arguments: list[str]) -> list[str]:
    """The names of the options that are set there. Raises `UsageError` for an unknown one, `--help`
    among them."""
    own, rest = _known(arguments)
    unknown = next((word for word in rest if word.startswith("-") and word != "--"), None)
    if unknown:
        raise UsageError(f"unknown option {shortened(unknown.partition('=')[0])}")
    network = getattr(own, "network", None)
    if network is not None and is_remote(network):
        raise UsageError(f"--network {shortened(network)} is on another machine: copy it here")
    return list(vars(own))


def _known(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    return build_parser(has_help=False).parse_known_args(arguments)


def build_parser(
    required: set[str] | None = None, has_help: bool = True, is_brief: bool = False
) -> argparse.ArgumentParser:
    """The parser of one picture's command line; what it parses has only what is set there.

    required: options that have to be set. has_help: it answers --help and --version. is_brief: its
    help has only the options that most people need.
    """
    prog = program_name("neural_style.py", "neural-style")
    parser = Parser(
        prog=prog,
        description=DESCRIPTION,
        epilog=f"example: {prog} {EXAMPLE}" + ("" if is_brief else RECIPES_HELP),
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=HelpFormatter,
        usage=f"{prog} --content FILE --styles FILE [FILE ...] --output FILE [options]",
    )
    if is_brief:
        add_brief(parser.add_argument_group("the options that most people need"))
    else:
        add_all(parser, required or set())
    if has_help:
        add_answers(parser.add_argument_group("help"))
    return parser


def add_brief(group: Any) -> None:
    """The options that most people need, as --help shows them."""
    for field in fields():
        if "brief" in field.metadata:
            rule = field.metadata
            metavar = rule.get("metavar", "HOW" if "choices" in rule else "N")
            metavar += " ..." if rule.get("many") else ""
            shape = {"action": "store_true"} if rule["kind"] is bool else {"metavar": metavar}
            shape |= {"nargs": "?"} if "flag" in rule else {}
            group.add_argument(option_name(field.name), help=rule["brief"], **shape)
    group.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)


def add_all(parser: argparse.ArgumentParser, required: set[str]) -> None:
    groups = {key: parser.add_argument_group(title) for key, title in GROUPS.items()}
    for field in fields():
        add_option(groups[field.metadata["group"]], field, required)
    for name, text in ACTIONS.items():
        groups["files"].add_argument(option_name(name), action="store_true", help=text)
    groups["files"].add_argument("--recipe", metavar="NAME", type=_spelled_out, help=RECIPE_HELP)


def fields() -> tuple[dataclasses.Field, ...]:
    """What describes the options, in the order of --help-all."""
    return (*options.described(), *dataclasses.fields(Settings))


ACTIONS = {  # options that are not a run's: what to do instead, or how to read the command line
    "list_layers": "print the names of the network's layers and exit",
    "list_devices": "print what TensorFlow can paint on here, the values of --device, and exit",
    "clear_cache": "empty the cache (networks and the measured precision) and exit",
    "trust_recipes": "let a recipe (@FILE) name files and set any option",
}
RECIPE_HELP = "settings of a published program, such as prisma"
RECIPES_HELP = (
    ". @FILE reads options from a file, as in @recipes/prisma.args; later options override."
)


def _spelled_out(name: str) -> NoReturn:
    """Recipes are read before options are parsed: what is still here was abbreviated."""
    raise UsageError(f"write --recipe {shortened(name)} without abbreviating it")


def add_answers(group: Any) -> None:
    """The options that print something and exit."""
    brief = {"is_brief": True, "help": "show this help and exit"}
    group.add_argument("-h", "--help", action=ShowHelp, **brief)
    group.add_argument("--help-all", action=ShowHelp, help="show all options and exit")
    group.add_argument("--version", action="version", version=VERSION_TEXT, help="show the version")


def add_option(group: Any, field: dataclasses.Field, required: set[str]) -> None:
    """The option of one field of `RunOptions` or `Settings`: its text and rule come from there."""
    rule, name = field.metadata, option_name(field.name)
    text = _text(field).replace("%", "%%")
    if rule["kind"] is bool:
        # settings can be switched off, too: a recipe may have switched them on
        is_setting = "role" not in rule
        action = argparse.BooleanOptionalAction if is_setting else "store_true"
        group.add_argument(name, action=action, help=text)
        return
    if "flag" in rule:
        _add_flag(group, field, text)
        return
    group.add_argument(
        name,
        type=_reader(rule["kind"]),
        nargs=rule.get("count") or ("+" if rule.get("many") or rule["kind"] is dict else None),
        metavar=_metavar(rule),
        help=text,
        **({"required": True} if field.name in required else {}),
    )


def _add_flag(group: Any, field: dataclasses.Field, text: str) -> None:
    """An option that may stand alone, without a value."""
    rule, name = field.metadata, option_name(field.name)
    group.add_argument(
        name,
        nargs="?",
        const=rule["flag"],
        type=_reader(rule["kind"]),
        metavar=_metavar(rule),
        help=text,
    )
    if "role" in rule:
        return
    off = name.replace("--", "--no-", 1)
    group.add_argument(
        off, dest=field.name, action="store_const", const=None, help=argparse.SUPPRESS
    )


def _reader(kind: type) -> Callable[[str], Any]:
    """What makes a value of a word: text that is not a number stays text, which the rule of the
    option then reports."""

    def read(word: str) -> Any:
        try:
            return kind(word) if kind in (int, float) else word
        except ValueError:
            return word

    return read


def _text(field: dataclasses.Field) -> str:
    """What --help-all says about an option: with its unit and its default."""
    rule = field.metadata
    notes = [rule["unit"]] if "unit" in rule else []
    has_default = field.default is not None and field.default is not dataclasses.MISSING
    if has_default and rule["kind"] is not bool and not rule.get("is_path"):
        number = f"{field.default:g}" if rule["kind"] is float else field.default
        if "(default" not in rule["text"]:
            notes.append(f"default {number}")
    if rule.get("flag"):
        notes.append(f"alone: {rule['flag']}")
    return f"{rule['text']} ({'; '.join(notes)})" if notes else rule["text"]


def _metavar(rule: Mapping[str, Any]) -> str:
    if "choices" in rule:
        return "|".join(map(str, rule["choices"]))
    return rule.get("metavar") or ("LAYER" if rule["kind"] is dict else "N")


class HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28)


class ShowHelp(argparse.Action):
    """Prints the help, the brief one or all of it, and ends the process."""

    def __init__(self, option_strings: Any, dest: str, is_brief: bool = False, **more: Any):
        super().__init__(option_strings, dest, nargs=0, **more)
        self._is_brief = is_brief

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        build_parser(is_brief=self._is_brief).print_help()
        parser.exit()


class Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            name = shortened(unknown[1].partition("=")[0])
            message = f"unknown option {name}{nearest(name, list(self._option_string_actions))}"
        raise UsageError(f"{message} (see --help)")
