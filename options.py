"""The options: `Settings` -> argparse. Told in `--help`, checked where they are declared."""

import argparse
import dataclasses
import re
from pathlib import Path
from typing import Any, NoReturn

from settings import MAX_MEGAPIXELS, VERSION, Settings, UsageError, nearest

NETWORK = Path(__file__).resolve().with_name("imagenet-vgg-verydeep-19.mat")
GROUPS = {
    "size": "size",
    "balance": "balance of photo and painting",
    "run": "run",
    "progress": "checkpoints and progress",
}


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="neural_style.py",
        description="Repaints a photo in the style of one or more paintings.",
        epilog="example: neural_style.py --content photo.jpg --styles painting.jpg "
        "--output out.jpg",
    )
    add_file_options(parser.add_argument_group("pictures and files"))
    groups = {key: parser.add_argument_group(title) for key, title in GROUPS.items()}
    for knob in dataclasses.fields(Settings):
        add_knob(groups[knob.metadata["group"]], knob)
    add_progress_options(groups["progress"])
    return parser


def add_file_options(group: Any) -> None:
    group.add_argument("--content", metavar="FILE", required=True, help="the photo to repaint")
    group.add_argument(
        "--styles", metavar="FILE", required=True, nargs="+", help="one painting or more"
    )
    group.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="the result; its extension says the format (.jpg .png .webp .tif .bmp)",
    )
    group.add_argument(
        "--initial", metavar="FILE", help="the picture to start from (default: the photo)"
    )
    group.add_argument(
        "--network",
        metavar="FILE",
        default=NETWORK,
        help="VGG weights, a MatConvNet .mat file (default: the VGG-19 that comes along)",
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that exist")
    group.add_argument(
        "--max-megapixels",
        metavar="N",
        type=float,
        default=MAX_MEGAPIXELS,
        help="refuse larger input pictures (million pixels; default %(default)s)",
    )


def add_progress_options(group: Any) -> None:
    group.add_argument(
        "--checkpoint-output",
        metavar="PATTERN",
        help="where checkpoints go, with a place for the step: step-%%d.jpg, step-%%05d.jpg "
        "or step-{:05}.jpg",
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
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    group.add_argument(
        "--debug", action="store_true", help="show tracebacks and TensorFlow's own messages"
    )
    group.add_argument("--version", action="version", version=f"neural-style {VERSION}")


def add_knob(group: Any, knob: dataclasses.Field) -> None:
    """The option of one field of `Settings`: its default and its help come from there."""
    rule = knob.metadata
    if rule["kind"] is bool:
        group.add_argument(option_name(knob.name), action="store_true", help=rule["text"])
        return
    notes = [rule["unit"]] if "unit" in rule else []
    if knob.default is not None:
        notes.append(
            f"default {knob.default:g}" if rule["kind"] is float else f"default {knob.default}"
        )
    group.add_argument(
        option_name(knob.name),
        type=rule["kind"],
        nargs="+" if rule.get("many") else None,
        default=knob.default,
        metavar="|".join(rule["choices"]) if "choices" in rule else "N",
        help=f"{rule['text']} ({'; '.join(notes)})" if notes else rule["text"],
    )


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


class _Parser(argparse.ArgumentParser):
    """Tells a wrong option in one line, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            name = unknown[1].partition("=")[0]
            message = f"unknown option {name}{nearest(name, list(self._option_string_actions))}"
        self.exit(UsageError.exit_status, f"error: {message} (see --help)\n")
