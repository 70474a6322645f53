"""The options: `Settings` -> argparse. Explained in `--help`, checked where they are declared."""

import argparse
import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from neural_style_tf.errors import (
    UsageError,
    nearest,
    option_name,
    shortened,
)
from neural_style_tf.runs import recipe
from neural_style_tf.runs.access import OPTIONS, Option, is_remote
from neural_style_tf.settings import BUNDLED_NETWORK, MAX_MEGAPIXELS, Settings
from neural_style_tf.version import VERSION

GROUPS = {
    "size": "size",
    "balance": "balance of photo and painting",
    "losses": "network and losses",
    "run": "run",
    "progress": "checkpoints and progress",
}


# Settings that exclude each other: one given here stands in for the others' inherited ones.
RIVALS = (
    ({"size"}, {"width", "height"}),
    ({"stylization"}, {"style_weight"}),
    ({"content_layers"}, {"content_weight_blend"}),
    ({"style_layers"}, {"style_layer_weight_exp"}),
)


def parse(arguments: list[str], inherited: Mapping[str, Any]) -> argparse.Namespace:
    """The options of a command line. inherited: what those default to that a picture or a state
    has told already."""
    given = vars(given_options(arguments)) if inherited else {}
    rivals = set()
    for one, other in RIVALS:
        rivals |= (other if given.keys() & one else set()) | (
            one if given.keys() & other else set()
        )
    inherited = {name: value for name, value in inherited.items() if name not in rivals}
    parser = build_parser(paints={"--list-layers", "--clear-cache"}.isdisjoint(arguments))
    parser.set_defaults(**inherited)
    for action in parser._actions:
        action.required = action.required and action.dest not in inherited
    return parser.parse_args(arguments)


def given_options(arguments: list[str]) -> argparse.Namespace:
    """The options that a command line sets itself, without any default."""
    return _known(arguments)[0]


def expand(arguments: list[str]) -> recipe.Expanded:
    """The command line with its recipes read. What they may set is in access.py, unless the command
    line itself says --trust-recipes."""
    own = [argument for argument in arguments if not argument.startswith("@")]
    is_trusted = "--trust-recipes" in own
    return recipe.expand(arguments, (lambda _: None) if is_trusted else check_recipe)


def check_recipe(arguments: list[str]) -> None:
    """Raises `UsageError` for an option that a recipe may not set."""
    own = ", or pass --trust-recipes for a recipe of your own"
    _check_file(arguments, lambda option: option.recipe, "recipe", own)


def check_table(arguments: list[str]) -> None:
    """Raises `UsageError` for an option that the options column of a table may not set."""
    _check_file(arguments, lambda option: option.table, "table")


def _check_file(
    arguments: list[str], may_set: Callable[[Option], bool], kind: str, advice: str = ""
) -> None:
    """Raises `UsageError` for an option that a file of that kind may not set."""
    for name in _set_by_file(arguments):
        if name in OPTIONS and not may_set(OPTIONS[name]):
            raise UsageError(
                f"{option_name(name)} does not belong in a {kind}: set it on the command line"
                f"{advice}"
            )


def _set_by_file(arguments: list[str]) -> list[str]:
    """The names of the options that are set there. Raises `UsageError` for an unknown one, `--help`
    among them."""
    given, rest = _known(arguments)
    unknown = next((word for word in rest if word.startswith("-") and word != "--"), None)
    if unknown:
        raise UsageError(f"unknown option {shortened(unknown.partition('=')[0])}")
    if "network" in given and is_remote(str(given.network)):
        raise UsageError(
            f"--network {shortened(given.network)} is on another machine: copy it here"
        )
    return list(vars(given))


def _known(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = build_parser(paints=False, answers=False)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return parser.parse_known_args(arguments)


def build_parser(paints: bool = True, answers: bool = True) -> argparse.ArgumentParser:
    """The parser of the command line. paints: pictures must be named. answers: it has --help and
    --version, which print and end the process."""
    parser = Parser(
        prog="neural_style.py",
        description="Repaints a photo in the style of one or more paintings.",
        epilog="@FILE reads options from a file, as in @recipes/prisma.args; later options win. "
        "example: neural_style.py --content photo.jpg --styles painting.jpg "
        "--output out.jpg",
        add_help=answers,
    )
    add_file_options(parser.add_argument_group("pictures and files"), paints)
    groups = {key: parser.add_argument_group(title) for key, title in GROUPS.items()}
    for knob in dataclasses.fields(Settings):
        add_knob(groups[knob.metadata["group"]], knob)
    add_progress_options(groups["progress"])
    if answers:
        version = f"neural-style {VERSION}"
        groups["progress"].add_argument("--version", action="version", version=version)
    return parser


def add_file_options(group: Any, required: bool) -> None:
    group.add_argument("--content", metavar="FILE", required=required, help="the photo to repaint")
    group.add_argument(
        "--styles", metavar="FILE", required=required, nargs="+", help="one painting or more"
    )
    group.add_argument(
        "--output",
        metavar="FILE",
        required=required,
        help="the result; its extension says the format (.jpg .png .webp .tif .bmp)",
    )
    group.add_argument(
        "--initial", metavar="FILE", help="the picture to start from (default: the photo)"
    )
    group.add_argument(
        "--content-mask",
        metavar="FILE",
        help="grey picture in the photo's proportions: white is painted, black stays the photo",
    )
    group.add_argument(
        "--style-masks",
        metavar="FILE",
        nargs="+",
        help="one such mask per style: white where the style applies; - for everywhere",
    )
    group.add_argument(
        "--style-source-masks",
        metavar="FILE",
        nargs="+",
        help="one mask per style, in its proportions: white marks what is learnt; - for all of it",
    )
    group.add_argument(
        "--network",
        metavar="FILE",
        default=BUNDLED_NETWORK,
        help="VGG weights: a MatConvNet .mat, Keras .h5 or torchvision .pth file, or vgg19 or "
        "vgg16 for Keras's (default: the bundled VGG-19)",
    )
    group.add_argument(
        "--list-layers",
        action="store_true",
        help="print the names of the network's layers, and do nothing else",
    )
    group.add_argument(
        "--clear-cache",
        action="store_true",
        help="empty the cache of networks and of the measured precision, and do nothing else",
    )
    group.add_argument(
        "--settings-from",
        metavar="PICTURE",
        help="paint with the settings of a picture made here, and from its inputs, which are "
        "looked for here and beside it; explicit options override",
    )
    group.add_argument(
        "--save-settings", metavar="FILE", help="write the settings as a recipe, as in my.args"
    )
    group.add_argument(
        "--save-state",
        metavar="FILE",
        help="keep the whole run in FILE, so that --resume goes on with it: now and then, at the "
        "end and when it is stopped",
    )
    group.add_argument(
        "--state-iterations",
        metavar="N",
        type=positive,
        help="steps between two saves of the state (default: 20 saves per run)",
    )
    group.add_argument(
        "--resume",
        metavar="FILE",
        help="go on with the run in FILE, with its options, and more --iterations if you like",
    )
    group.add_argument(
        "--allow-changes",
        action="store_true",
        help="resume even with other settings or inputs than before",
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that exist")
    group.add_argument(
        "--trust-recipes",
        action="store_true",
        help="let @FILE name files and set any option; without this, a recipe only sets "
        "what shapes the picture",
    )
    group.add_argument(
        "--max-megapixels",
        metavar="N",
        type=positive_number,
        default=MAX_MEGAPIXELS,
        help=f"refuse larger input pictures (million pixels; default {MAX_MEGAPIXELS})",
    )


def add_progress_options(group: Any) -> None:
    group.add_argument(
        "--checkpoint-output",
        metavar="PATTERN",
        help="where checkpoints go, with a place for the step: step-%%d.jpg, step-%%05d.jpg "
        "or step-{:05}.jpg; {content} and {style} stand for the names of the pictures",
    )
    group.add_argument(
        "--checkpoint-full-size",
        action="store_true",
        help="enlarge the checkpoints of coarse stages to the size of the result",
    )
    group.add_argument(
        "--preview",
        metavar="PORT",
        nargs="?",
        const=0,
        type=int,
        help="show the run on a page in the browser, at this port or a free one; it stays until it "
        "is closed there (needs starlette and uvicorn)",
    )
    group.add_argument(
        "--preview-host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to serve the page on; with 0.0.0.0 other machines reach it, too, if they "
        "know the whole address that is printed (default: this machine only)",
    )
    group.add_argument("--open", action="store_true", help="open the page")
    group.add_argument(
        "--timelapse",
        metavar="FILE",
        help="make a film of the checkpoints, or of some 60 pictures (.gif .webp, or .mp4, which "
        "needs imageio-ffmpeg)",
    )
    group.add_argument(
        "--log-dir",
        metavar="FOLDER",
        help="write losses, pictures and settings there for TensorBoard (needs tensorboard)",
    )
    group.add_argument(
        "--progress-write",
        action="store_true",
        help="write the losses of every step beside the output, as OUTPUT-progress.csv",
    )
    group.add_argument(
        "--progress-plot",
        action="store_true",
        help="plot them, as OUTPUT-progress.png (needs matplotlib)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="CPU threads to use (default: all available ones)",
    )
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    group.add_argument(
        "--debug", action="store_true", help="show tracebacks and TensorFlow's own messages"
    )


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def positive_number(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")


def add_knob(group: Any, knob: dataclasses.Field) -> None:
    """The option of one field of `Settings`: its default and its help come from there."""
    rule = knob.metadata
    notes = [rule["unit"]] if "unit" in rule else []
    if knob.default is not None and rule["kind"] is not bool:
        number = f"{knob.default:g}" if rule["kind"] is float else knob.default
        notes.append(f"default {number}")
    text = f"{rule['text']} ({'; '.join(notes)})" if notes else rule["text"]
    if rule["kind"] is bool:
        action = argparse.BooleanOptionalAction
        group.add_argument(option_name(knob.name), action=action, default=knob.default, help=text)
        return
    if "flag" in rule:
        name = option_name(knob.name)
        group.add_argument(
            name,
            nargs="?",
            const=rule["flag"],
            metavar=metavar(rule),
            help=f"{text} (alone: {rule['flag']})",
        )
        group.add_argument(
            name.replace("--", "--no-", 1),
            dest=knob.name,
            action="store_const",
            const=None,
            help=argparse.SUPPRESS,
        )
        return
    group.add_argument(
        option_name(knob.name),
        type=str if rule["kind"] is dict else rule["kind"],
        nargs="+" if rule.get("many") or rule["kind"] is dict else None,
        default=knob.default,
        metavar=metavar(rule),
        help=text,
    )


def metavar(rule: Mapping[str, Any]) -> str:
    if "choices" in rule:
        return "|".join(rule["choices"])
    return rule.get("metavar") or ("LAYER" if rule["kind"] is dict else "N")


def knob_names() -> list[str]:
    return [knob.name for knob in dataclasses.fields(Settings)]


class Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            name = shortened(unknown[1].partition("=")[0])
            message = f"unknown option {name}{nearest(name, list(self._option_string_actions))}"
        raise UsageError(f"{message} (see --help)")
