"""The command line: options -> pictures -> run -> files -> exit status.

    python neural_style.py --content photo.jpg --styles painting.jpg --output out.jpg

NumPy, Pillow and TensorFlow are imported late: `--help` and every wrong input answer at once.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import math
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import hardware
import inputs
import provenance
from options import given_options, in_option_names, knob_names, option_name, parse
from settings import INTERRUPTED, Settings, UsageError, UserError, settings_from
from stopping import EXIT_STATUS, Stop

if TYPE_CHECKING:
    import numpy as np

    from inputs import Pictures
    from preview import Preview
    from stages import Stage
    from stylize import Step

NOTHING_TO_SAVE = "interrupted before the first step: nothing to save"
STATES_A_RUN = 20  # that are saved, unless told otherwise
FILMED_STEPS = 60  # of a run, likewise
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
        settings = settings_from({name: getattr(options, name) for name in knob_names()})
        if (options.timelapse or options.log_dir) and not settings.checkpoint_iterations:
            every = math.ceil(settings.iterations / FILMED_STEPS)
            settings = dataclasses.replace(settings, checkpoint_iterations=every)
        every = math.ceil(settings.iterations / STATES_A_RUN)
        options.state_iterations = options.state_iterations or every
        settings.check_styles(len(options.styles))
        inputs.check_masks(options)
        options.network = find_network(options)
        check_files(options, settings, resumed.files() if resumed else [])
        description = provenance.describe(options, settings)
        if resumed:
            resumed.check(options, description)
        preview = open_preview(options)
        pictures = inputs.load(options, settings)
        if options.save_settings:
            save_settings(options, settings)
        with contextlib.closing(preview) if preview else contextlib.nullcontext():
            status = paint(options, settings, pictures, description, resumed, preview)
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


def read_options(arguments: list[str]) -> tuple[argparse.Namespace, "Resumed | None"]:
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
        import states

        path = os.path.abspath(given["resume"])
        state, about = states.load(path)
        before = about["options"] | {"save_state": path, "asked": about["description"]["asked"]}
        resumed = Resumed(state, before, about["description"])
        settings = provenance.settings_in(resumed.description)
        return parse(arguments, before | settings), resumed
    if "settings_from" in given:
        inherited = provenance.options_of(given["settings_from"], given)
        return parse(arguments, inherited), None
    return parse(arguments, {}), None


class Resumed(NamedTuple):
    """A run to go on with."""

    state: "dict[str, np.ndarray]"
    options: dict[str, Any]
    description: provenance.Description

    def files(self) -> list[str]:
        """Those that it has written, or was to write."""
        import results

        options = argparse.Namespace(**self.options)
        return results.outputs(options, Settings(**provenance.settings_in(self.description)))

    def check(self, options: argparse.Namespace, description: provenance.Description) -> None:
        """Raises `UsageError` for anything that makes another picture, unless that is allowed."""
        changes = provenance.changes(self.description, description)
        if description["scales"] != self.description["scales"]:
            raise UsageError("a run keeps its stages: leave --scales as it was")
        if changes and not options.allow_changes:
            raise UsageError(
                f"the run in {options.resume} had other settings: {', '.join(changes)}: "
                "leave them, or give --allow-changes"
            )

    def is_replanned(self, settings: Settings) -> bool:
        """Whether so many steps at once would have been others: learning rates that fall over the
        run, and stages, hang on how many there are."""
        hangs = settings.optimizer == "adam" and settings.learning_rate_schedule == "cosine"
        before = self.description["iterations"]
        return settings.iterations != before and (hangs or len(self.state["plan"]) > 1)

    def plan(self, iterations: int) -> "list[Stage]":
        """Its stages, with so many steps in all."""
        import stages

        return stages.continued(self.state["plan"], iterations, self.done)

    @property
    def done(self) -> int:
        """Steps."""
        return int(self.state["iterations"])


def open_preview(options: argparse.Namespace) -> "Preview | None":
    """The page of a run, if it is to have one."""
    if options.preview is None:
        return None
    from preview import Preview

    preview = Preview(options.preview_host, options.preview, os.path.basename(options.output))
    if not options.quiet:
        print(f"watch at {preview.address}", file=sys.stderr, flush=True)
    if options.open:
        import webbrowser

        webbrowser.open(preview.address)
    return preview


def list_layers(options: argparse.Namespace) -> int:
    """Prints the names of the network's layers."""
    start_tensorflow(options.debug)
    import vgg

    print("\n".join(vgg.load(options.network).names))
    return 0


def paint(
    options: argparse.Namespace,
    settings: Settings,
    pictures: "Pictures",
    description: provenance.Description,
    resumed: Resumed | None,
    preview: "Preview | None",
) -> int:
    """Paints, and saves what comes out. Returns the exit status."""
    from progress import Progress
    from results import Results

    device = start_tensorflow(options.debug, options.threads)
    import tiling
    import vgg
    from stylize import NotFiniteError, stylize, with_checked_layers

    network = vgg.load(options.network)
    settings = with_checked_layers(network, settings)
    precision = hardware.precision(settings.precision)
    plan = resumed.plan(settings.iterations) if resumed else pictures.plan
    if not resumed or settings.tile != resumed.description["tile"]:
        sizes = [style.shape[:2] for style in pictures.styles]
        plan = tiling.in_tiles(plan, network, sizes, settings, precision)
    settings = dataclasses.replace(
        settings,
        precision=precision.name,
        scales=str(len(plan)),
        tile=str(plan[-1].tile or "off"),
    )
    description |= dataclasses.asdict(settings)
    description |= {"versions": provenance.versions(), "device": device}
    keep_losses = options.progress_write or options.progress_plot
    with (
        Progress(settings, plan, options.quiet, keep_losses) as progress,
        Stop(progress.note) as stop,
    ):
        told = ", then ".join(map(stage_in_words, plan))
        progress.note(f"{told} on {device} in {precision.name} with {network.title}")
        if resumed and resumed.is_replanned(settings):
            before = resumed.description["iterations"]
            progress.note(
                f"planned for {before} steps, goes on to {settings.iterations}: another picture "
                "than of as many at once"
            )
        first = 0
        if resumed:
            first = resumed.done
            progress.go_on(first, resumed.state["rows"])
        on_checkpoint = preview and preview.add_checkpoint
        results = Results(options, settings, pictures, description, progress, first, on_checkpoint)
        watchers = [progress.show, results.see]
        if options.log_dir:
            from logs import Logs

            logs = Logs(options.log_dir, description)
            watchers.append(lambda step: results.or_tell(logs.see, step))
        if preview:
            preview.begin(pictures.content, plan, stop.request, results.in_its_colors)
            watchers.append(preview.see)
        latest = None

        def on_step(step: "Step") -> None:
            nonlocal latest
            latest = step
            for watch in watchers:
                watch(step)
            if preview and step.iteration is not None and preview.save_is_asked_for():
                told = f"saved as {options.output} after step {step.iteration + 1}"
                results.save_meanwhile(step.image(), lambda: preview.tell(told))
            stop.check()

        def save(image: "np.ndarray") -> None:
            results.save(image)
            if preview:
                preview.show(results.in_its_colors(image))
                preview.tell(progress.last_words, "done")

        images = stylize(
            network,
            pictures.content,
            pictures.styles,
            initial=pictures.initial,
            **pictures.masks,
            on_step=on_step,
            plan=plan,
            resume=resumed and resumed.state,
            **dataclasses.asdict(settings),
        )
        pictures.styles.clear()  # the run lets them go when it is done
        if resumed:
            resumed.state.clear()
        try:
            for iteration, image in images:
                if iteration is None:
                    save(image)
                else:
                    results.save_checkpoint(iteration, image)
                    if options.log_dir:
                        image = results.in_its_colors(image)
                        results.or_tell(logs.add_picture, iteration, image)
        except KeyboardInterrupt:
            if latest is None:
                raise
            save(latest.image())
            results.save_state(latest)
            if options.save_state:
                command = ["python", sys.argv[0], "--resume", options.save_state]
                progress.note(f"to go on: {shlex.join(command)}")
            return stop.exit_status
        except NotFiniteError as error:
            if error.image is not None:
                save(error.image)
            raise
        return results.exit_status


def stage_in_words(stage: "Stage") -> str:
    """512x384 in tiles of 256 pixels"""
    tiles = f" in tiles of {stage.tile} pixels" if stage.tile else ""
    return f"{stage.width}x{stage.height}{tiles}"


def check_files(options: argparse.Namespace, settings: Settings, own: list[str]) -> None:
    """Raises `UserError` for what could not be read or written, or would cost a file. own: those
    of the run that goes on."""
    import files
    import results

    given = [options.content, *options.styles, *filter(None, [options.initial])]
    results.check(options, settings, given + inputs.mask_files(options), own)
    if options.progress_plot and not importlib.util.find_spec("matplotlib"):
        raise UserError("--progress-plot needs matplotlib: pip install -r requirements-plot.txt")
    if options.log_dir and not importlib.util.find_spec("tensorboard"):
        raise UserError("--log-dir needs tensorboard: pip install -r requirements-logs.txt")
    files.open_to_read(options.network).close()


def save_settings(options: argparse.Namespace, settings: Settings) -> None:
    import files

    title = f"The settings of {os.path.basename(options.output)}."
    files.write(options.save_settings, provenance.recipe(settings, title).encode())


def find_network(options: argparse.Namespace) -> str:
    """The file of the network."""
    import weights

    with contextlib.nullcontext() if options.debug else silence():
        return str(weights.find(options.network))


def start_tensorflow(debug: bool, threads: int | None = None) -> str:
    """Imports TensorFlow and makes it ready, for so many threads or as many as there are
    processors for us. Returns in words which device it runs on."""
    if threads:
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    else:
        threads = int(os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(hardware.threads())))
    # AddN adds up in an order that hangs on which other operation is done: so one at a time
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    with contextlib.nullcontext() if debug else silence(), without_keras():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_op_determinism()  # one seed, one picture
        tf.zeros(())  # the first tensor brings the rest of the start-up messages
    if gpus:
        names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
        return f"GPU ({names[0]})"
    return f"CPU ({threads} thread{'s' * (threads != 1)})"


@contextlib.contextmanager
def without_keras() -> Iterator[None]:
    """Keeps TensorFlow from importing Keras, half a second, which nothing here needs: asked for
    the old one, it does without where that is not installed."""
    name = "TF_USE_LEGACY_KERAS"
    given = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if given is not None:
            os.environ[name] = given


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps TensorFlow's start-up noise from the terminal. It comes from C++, so the file
    descriptor itself is turned away."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


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
