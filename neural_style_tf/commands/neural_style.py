"""The command line: options -> run -> exit status.

    python neural_style.py --content photo.jpg --styles painting.jpg --output out.jpg

NumPy, Pillow and TensorFlow are imported late: `--help` and every wrong input answer at once.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from neural_style_tf.commands import parser
from neural_style_tf.errors import INTERRUPTED, SettingName, UsageError
from neural_style_tf.machine import streams, tensorflow_setup
from neural_style_tf.machine.streams import logged
from neural_style_tf.runs import checks, failures, inputs, recipe
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.runs.painting_run import PaintingRun
from neural_style_tf.runs.resume import Resumed, inherited_by
from neural_style_tf.runs.stopping import NOTHING_TO_SAVE, leave, leave_on_signals
from neural_style_tf.settings import BUNDLED_NETWORK

if TYPE_CHECKING:
    from neural_style_tf.runs.preview import Preview


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line. Returns its exit status: 0 done, 1 failed, 2 wrong usage, 130
    interrupted, 143 terminated, 129 when the terminal was closed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if {"-h", "--help", "--help-all", "--version"} & set(arguments):
            parser.build_parser().parse_args(arguments)  # prints it, and exits
        if ACTIONS.keys().isdisjoint(arguments):
            return paint(arguments)
        expanded = parser.expand(arguments)
        own = parser.known_options(expanded.arguments)
        option, act = next(item for item in ACTIONS.items() if item[0] in arguments)
        check_alone(parser.given_options(expanded.own), option.removeprefix("--").replace("-", "_"))
        return act(own)
    except KeyboardInterrupt:
        print(NOTHING_TO_SAVE, file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # whatever it is, it is one line
        if "--debug" in arguments:
            raise
        return failures.print_error(error)


def paint(arguments: list[str]) -> int:
    """Paints the picture of a command line. Returns the exit status."""
    options, resumed = read_options(arguments)
    run = checks.check(options, resumed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(logged(lambda text: show(text, options.quiet)))
        stack.enter_context(checks.claiming(options))
        checks.check_device(options)
        preview = open_preview(options)
        if preview:
            stack.enter_context(contextlib.closing(preview))
            stack.enter_context(failure_shown(preview))
        pictures = inputs.load(run.options)
        if options.save_settings:
            recipe.save(options.save_settings, run.settings, options.output)
        device = tensorflow_setup.start(options.debug, options.threads, options.device)
        status = PaintingRun(run, pictures, device, preview).paint()
        if preview and (status in (0, 1) or preview.has_stopped_the_run):
            if not options.quiet:
                print(f"{preview.address} stays until it is closed there", file=sys.stderr)
            preview.wait()
        return status


def show(text: str, is_quiet: bool) -> None:
    if not is_quiet:
        print(text, file=sys.stderr)


@contextlib.contextmanager
def failure_shown(preview: "Preview") -> Iterator[None]:
    """Has the page say why the run failed, before it is closed."""
    try:
        yield
    except Exception as error:
        preview.tell(failures.in_words(error), "failed")
        raise


def read_options(arguments: list[str]) -> tuple[RunOptions, Resumed | None]:
    """The options of a command line, and the run that it continues. What is not set there comes
    from that run, or from the picture that --settings-from names."""
    expanded = parser.expand(arguments)
    inherited, resumed = inherited_by(parser.given_options(expanded.arguments))
    options = parser.parse(expanded.arguments, inherited, expanded.own)
    return dataclasses.replace(options, recipes=tuple(expanded.recipes)), resumed


def open_preview(options: RunOptions) -> "Preview | None":
    """The page of a run, if it is to have one."""
    if options.preview is None:
        return None
    from neural_style_tf.runs.preview import Preview

    preview = Preview(options.preview_host, options.preview, os.path.basename(options.output))
    if not (options.quiet and options.open):  # nobody else knows the token
        print(f"watch at {preview.address}", file=sys.stderr, flush=True)
    if options.open:
        import webbrowser

        webbrowser.open(preview.address)
    return preview


def check_alone(own: Mapping[str, Any], action: str) -> None:
    """Raises `UsageError` for an option that has no effect on what is done instead of painting."""
    for name in own:
        if name not in (action, "network", "debug", "trust_recipes"):
            raise UsageError(SettingName(name), " has no effect with ", SettingName(action))


def list_layers(own: Mapping[str, Any]) -> int:
    """Prints the names of the network's layers. own: the options that are set."""
    tensorflow_setup.start(own.get("debug", False))
    from neural_style_tf.network import vgg

    print("\n".join(vgg.load(own.get("network", BUNDLED_NETWORK)).names))
    return 0


def list_devices(own: Mapping[str, Any]) -> int:
    """Prints what TensorFlow can paint on here, each line beginning with a value of --device. own:
    the options that are set."""
    with logged(lambda text: show(text, is_quiet=False)):
        print("\n".join(tensorflow_setup.listed_devices(own.get("debug", False))))
    return 0


def clear_cache(_: Mapping[str, Any]) -> int:
    """Removes what is kept for faster starts, and prints how much that was."""
    from neural_style_tf.network import cache

    folder, count, size = cache.clear()
    print(f"removed {count} file{'s' * (count != 1)} ({size / 1e6:.1f} MB) from {folder}")
    return 0


# what to do instead of painting
ACTIONS: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "--list-layers": list_layers,
    "--list-devices": list_devices,
    "--clear-cache": clear_cache,
}


def start(arguments: list[str] | None = None) -> NoReturn:
    """The life of a process that is nothing but one command line."""
    streams.guard()
    leave_on_signals()
    try:
        status = main(arguments)
    except SystemExit as error:  # of `--help` and the like
        status = int(error.code or 0)
    leave(status or streams.lost_output())
