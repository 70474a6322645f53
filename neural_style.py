"""The command line: options -> run -> exit status.

    python neural_style.py --content photo.jpg --styles painting.jpg --output out.jpg

NumPy, Pillow and TensorFlow are imported late: `--help` and every wrong input answer at once.
"""

import argparse
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import hardware
import inputs
import provenance
import runs
from options import given_options, in_option_names, option_name, parse
from runs import Resumed
from settings import INTERRUPTED, Settings, UsageError, UserError
from stopping import EXIT_STATUS

if TYPE_CHECKING:
    from preview import Preview

NOTHING_TO_SAVE = "interrupted before the first step: nothing to save"
NEEDED = {  # by options that say nothing alone
    "state_iterations": {"save_state", "resume"},
    "allow_changes": {"resume"},
    "open": {"preview"},
    "preview_host": {"preview"},
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line. Returns its exit status: 0 done, 1 failed, 2 wrong usage, 130
    interrupted, 143 terminated."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        if {"-h", "--help"} & set(arguments):
            parse(arguments, {})  # prints it, and exits
        if "--list-layers" in arguments:
            return list_layers(parse(arguments, {}))
        options, resumed = read_options(arguments)
        run = runs.check(options, resumed)
        preview = open_preview(options)
        pictures = inputs.load(options, run.settings)
        if options.save_settings:
            save_settings(options, run.settings)
        with contextlib.closing(preview) if preview else contextlib.nullcontext():
            device = hardware.start_tensorflow(options.debug, options.threads)
            status = runs.paint(run, pictures, device, preview)
            if preview and (status in (0, 1) or preview.has_stopped_the_run):
                if not options.quiet:
                    print(f"{preview.address} stays until it is closed there", file=sys.stderr)
                preview.wait()
            return status
    except UserError as error:
        if debug:
            raise
        print(f"error: {in_option_names(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(NOTHING_TO_SAVE, file=sys.stderr)
        return INTERRUPTED


def read_options(arguments: list[str]) -> tuple[argparse.Namespace, Resumed | None]:
    """The options of a command line, and the run that it goes on with. What is not given comes
    from that run, or from the picture whose settings are asked for."""
    given = vars(given_options(arguments))
    if "resume" in given and "settings_from" in given:
        raise UsageError("--resume has its own settings: give it or --settings-from")
    for name, needed in NEEDED.items():
        if name in given and not needed & given.keys():
            wanted = " or ".join(map(option_name, sorted(needed)))
            raise UsageError(f"{option_name(name)} has no say without {wanted}")
    if "resume" in given:
        resumed = Resumed.load(given["resume"])
        settings = provenance.settings_in(resumed.description)
        return parse(arguments, resumed.options | settings), resumed
    if "settings_from" in given:
        inherited = provenance.options_of(given["settings_from"], given)
        return parse(arguments, inherited), None
    return parse(arguments, {}), None


def open_preview(options: argparse.Namespace) -> "Preview | None":
    """The page of a run, if it is to have one."""
    if options.preview is None:
        return None
    from preview import Preview

    preview = Preview(options.preview_host, options.preview, os.path.basename(options.output))
    if not (options.quiet and options.open):  # nobody else knows the token
        print(f"watch at {preview.address}", file=sys.stderr, flush=True)
    if options.open:
        import webbrowser

        webbrowser.open(preview.address)
    return preview


def list_layers(options: argparse.Namespace) -> int:
    """Prints the names of the network's layers."""
    hardware.start_tensorflow(options.debug)
    import vgg

    print("\n".join(vgg.load(options.network).names))
    return 0


def save_settings(options: argparse.Namespace, settings: Settings) -> None:
    import files

    title = f"The settings of {os.path.basename(options.output)}."
    files.write(options.save_settings, provenance.recipe(settings, title).encode())


def leave(status: int) -> None:
    """Ends the process at once: Python would take TensorFlow apart first, for most of a second."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def leave_on_interrupt() -> None:
    """Has Ctrl-C and SIGTERM end the process while there is no picture. An exception might be
    swallowed by one of the modules that are being imported then."""
    terminal = os.dup(2)  # which `silence` may have turned away

    def end(number: int, _: object) -> None:
        os.write(terminal, f"{NOTHING_TO_SAVE}\n".encode())
        leave(EXIT_STATUS[number])

    for number in EXIT_STATUS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


if __name__ == "__main__":
    leave_on_interrupt()
    leave(main())
