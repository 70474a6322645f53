"""Many pictures: every photo in every style, here or on a cluster.

    python batch.py --contents photos/ --styles paintings/ --output-dir gallery/

Takes most options of neural_style.py, recipes too. NumPy, Pillow and TensorFlow are imported late,
as there.
"""

import argparse
import dataclasses
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from neural_style_tf import needs
from neural_style_tf.batch import batches, gallery, pairs, tables
from neural_style_tf.batch.options import BatchOptions
from neural_style_tf.batch.pairs import Pair
from neural_style_tf.commands import parser as single
from neural_style_tf.errors import (
    INTERRUPTED,
    UsageError,
    option_name,
)
from neural_style_tf.machine import streams
from neural_style_tf.needs import Layer, is_set
from neural_style_tf.runs import failures
from neural_style_tf.runs.options import RunOptions, all_rules, combined
from neural_style_tf.runs.stopping import EXIT_STATUS
from neural_style_tf.schema import setting_names

PLACEHOLDERS = {"content": "content", "styles": ("style",), "output": "output"}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line. Returns its exit status: 0 done, 1 if any picture failed, 2 wrong
    usage, 130 interrupted, 143 terminated, 129 when the terminal was closed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if threading.current_thread() is threading.main_thread():
        end_on_signals()
    try:
        return batches.run(*read(arguments))
    except Exception as error:  # whatever it is, it is one line
        if "--debug" in arguments:
            raise
        return failures.print_error(error)
    except KeyboardInterrupt as interruption:
        return getattr(interruption, "exit_status", INTERRUPTED)


def end_on_signals() -> None:
    """Has SIGTERM and SIGHUP end a batch as Ctrl-C does."""

    def end(number: int, _: object) -> NoReturn:
        interruption = batches.Interrupted()
        interruption.exit_status = EXIT_STATUS[number]
        raise interruption

    for number in EXIT_STATUS.keys() - {signal.SIGINT}:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, end)


def read(arguments: list[str]) -> tuple[list[Pair], BatchOptions]:
    """What a command line asks for. Raises `UserError` for what is wrong, before anything starts;
    prints and exits for --help and --version."""
    expanded = single.expand(arguments)
    own, rest = build_parser().parse_known_args(expanded.arguments)
    options = BatchOptions(**single.with_files(vars(own), ["pairs"]))
    check_needs(vars(own))
    common = layers(rest, [word for word in expanded.own if word in rest])
    if options.save_states:  # each picture gets a file of its own
        common = (Layer({"save_state": f"{PLACEHOLDERS['output']}.state.npz"}), *common)
    listed = pairs.read(options, common, pairs.Readers(read_options, read_row))
    pairs.check_names(listed)
    other_inputs = [*expanded.recipes, *filter(None, [options.pairs])]
    pairs.check_inputs(listed, other_inputs, gallery.files_in(options.output_dir))
    options.check_pictures([pair.options for pair in listed])
    return listed, options


def check_rest(arguments: Sequence[str], own: Sequence[str]) -> None:
    """Raises `UsageError` for an option of one run only. own: the arguments that no recipe holds;
    a recipe may say what is printed on the way, which a batch does not do."""
    names, own_names = (single.given_options(list(words)) for words in (arguments, own))
    unavailable = [name for name, rule in all_rules().items() if not rule.get("batch", True)]
    reports = [name for name in setting_names() if all_rules()[name]["group"] == "progress"]
    for name in ("list_layers", "list_devices", "clear_cache", *unavailable):
        if name in own_names or (name in names and name not in reports):
            raise UsageError(f"{option_name(name)} is not available in batch.py")


def check_needs(own: Mapping[str, Any]) -> None:
    """Raises `UsageError` for an option of the batch that has no effect."""
    fields = dataclasses.fields(BatchOptions)
    defaults = {field.name: field.default for field in fields}
    rules = {field.name: field.metadata for field in fields}
    needs.check([name for name in own if is_set(own[name])], {**defaults, **own}, rules)


def layers(arguments: list[str], own: list[str]) -> tuple[Layer, ...]:
    """What recipes set, and what is set beside them, of a command line or a row: options of its
    pictures. own: the arguments that no recipe holds."""
    check_rest(arguments, own)
    return single.layers(arguments, own)


def read_options(layers: Sequence[Layer]) -> RunOptions:
    """The options of pictures whose files are still to be named."""
    return RunOptions.of(combined(Layer(PLACEHOLDERS), *layers))


def read_row(text: str) -> tuple[Layer, ...]:
    expanded = tables.own_options(text, single.check_table, single.check_recipe)
    return layers(expanded.arguments, expanded.own)


def build_parser() -> argparse.ArgumentParser:
    prog = single.program_name("batch.py", "neural-style-batch")
    parser = single.Parser(
        prog=prog,
        description="Repaints every photo in the style of every painting. Takes most options of "
        f"{'neural_style.py' if prog == 'batch.py' else 'neural-style'}, too.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        epilog=f"example: {prog} --contents photos/ --styles paintings/ --output-dir gallery/ "
        "--size 512",
    )
    for field in dataclasses.fields(BatchOptions):
        single.add_option(parser, field, required={"output_dir"})
    parser.add_argument(
        "--version", action="version", version=single.VERSION_TEXT, help="show the version"
    )
    return parser


def start() -> NoReturn:
    """The life of a process that is nothing but one command line."""
    streams.guard()
    sys.exit(main())
