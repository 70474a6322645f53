"""The options: `Settings` -> argparse. Told in `--help`, checked where they are declared."""

import argparse
import dataclasses
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from settings import MAX_MEGAPIXELS, VERSION, Settings, UsageError, nearest

NETWORK = Path(__file__).resolve().with_name("imagenet-vgg-verydeep-19.mat")
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
    parser = build_parser(paints="--list-layers" not in arguments)
    parser.set_defaults(**inherited)
    for action in parser._actions:
        action.required = action.required and action.dest not in inherited
    return parser.parse_args(arguments)


def given_options(arguments: list[str]) -> argparse.Namespace:
    """The options that a command line names itself, without any default."""
    parser = build_parser(paints=False)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return parser.parse_known_args(arguments)[0]


def build_parser(paints: bool = True) -> argparse.ArgumentParser:
    """The parser of the command line; only a run that paints must name pictures."""
    parser = Parser(
        prog="neural_style.py",
        description="Repaints a photo in the style of one or more paintings.",
        fromfile_prefix_chars="@",
        epilog="@FILE reads options from a file, as in @recipes/prisma.args; later options win. "
        "example: neural_style.py --content photo.jpg --styles painting.jpg "
        "--output out.jpg",
    )
    add_file_options(parser.add_argument_group("pictures and files"), paints)
    groups = {key: parser.add_argument_group(title) for key, title in GROUPS.items()}
    for knob in dataclasses.fields(Settings):
        add_knob(groups[knob.metadata["group"]], knob)
    add_progress_options(groups["progress"])
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
        help="one such mask a style: white is painted in it; - for a style that is everywhere",
    )
    group.add_argument(
        "--style-source-masks",
        metavar="FILE",
        nargs="+",
        help="one mask a style, in its proportions: what is white is learnt; - for all of it",
    )
    group.add_argument(
        "--network",
        metavar="FILE",
        default=NETWORK,
        help="VGG weights: a MatConvNet .mat, Keras .h5 or torchvision .pth file, or vgg19 or "
        "vgg16 for Keras's (default: the VGG-19 that comes along)",
    )
    group.add_argument(
        "--list-layers",
        action="store_true",
        help="print the names of the network's layers, and do nothing else",
    )
    group.add_argument(
        "--settings-from",
        metavar="PICTURE",
        help="paint with the settings of a picture made here, and from its inputs, which are "
        "looked for here and beside it; options given win",
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
        help="how often (steps; default: twenty times a run)",
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
        "--max-megapixels",
        metavar="N",
        type=float,
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
        help="where the page is to be had; with 0.0.0.0 others may watch the run, and stop it "
        "(default: this machine only)",
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
        help="processors to use (default: all that this process may)",
    )
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    group.add_argument(
        "--debug", action="store_true", help="show tracebacks and TensorFlow's own messages"
    )
    group.add_argument("--version", action="version", version=f"neural-style {VERSION}")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no count: give 1 or more")
    return int(text)


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


def option_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def in_option_names(message: str) -> str:
    """The message with the names of settings as the command line spells them."""
    names = knob_names()

    def spelled(match: re.Match) -> str:
        told = "_" in match[0] or match.start() == 0
        return option_name(match[0]) if told and match[0] in names else match[0]

    return re.sub(r"[a-z]\w*", spelled, message)


class Parser(argparse.ArgumentParser):
    """Reads recipes, and tells a wrong option in one line, with the nearest right one."""

    def convert_arg_line_to_args(self, line: str) -> list[str]:
        """A line of a recipe: an option and its values, or a comment."""
        return shlex.split(line, comments=True)

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            name = unknown[1].partition("=")[0]
            message = f"unknown option {name}{nearest(name, list(self._option_string_actions))}"
        self.exit(UsageError.exit_status, f"error: {message} (see --help)\n")
