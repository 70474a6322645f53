"""The command line: options -> pictures -> run -> files -> exit status.

    python neural_style.py --content photo.jpg --styles painting.jpg --output out.jpg

NumPy, Pillow and TensorFlow are imported late: `--help` and every wrong input answer at once.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hardware
import inputs
from options import build_parser, in_option_names, knob_names
from settings import INTERRUPTED, Settings, UsageError, UserError, settings_from

if TYPE_CHECKING:
    import numpy as np

    from inputs import Pictures
    from progress import Progress
    from stages import Stage
    from stylize import Step

# %d, %05d, %s, {} or {:05}: where a checkpoint's name has its step
PLACEHOLDER = re.compile(r"%(0?\d*)[sd]|\{(?::(0?\d*)d?)?\}")
NOTHING_TO_SAVE = "interrupted before the first step: nothing to save"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line. Returns its exit status: 0 done, 1 failed, 2 wrong usage, 130
    interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    lists_layers = "--list-layers" in arguments
    options = build_parser(paints=not lists_layers).parse_args(arguments)
    try:
        if lists_layers:
            return list_layers(options)
        settings = settings_from({name: getattr(options, name) for name in knob_names()})
        settings.check_styles(len(options.styles))
        inputs.check_masks(options)
        check_files(options, settings)
        return paint(options, settings, inputs.load(options, settings))
    except UserError as error:
        if options.debug:
            raise
        print(f"error: {in_option_names(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(NOTHING_TO_SAVE, file=sys.stderr)
        return INTERRUPTED


def list_layers(options: argparse.Namespace) -> int:
    """Prints the names of the network's layers."""
    start_tensorflow(options.debug)
    import vgg

    print("\n".join(vgg.load(options.network).names))
    return 0


def paint(options: argparse.Namespace, settings: Settings, pictures: "Pictures") -> int:
    """Paints, and saves what comes out. Returns the exit status."""
    from progress import Progress
    from stopping import Stop

    device = start_tensorflow(options.debug, options.threads)
    import tiling
    import vgg
    from stylize import NotFiniteError, stylize, with_checked_layers

    network = vgg.load(options.network)
    settings = with_checked_layers(network, settings)
    precision = hardware.precision(settings.precision)
    sizes = [style.shape[:2] for style in pictures.styles]
    plan = tiling.in_tiles(pictures.plan, network, sizes, settings, precision)
    settings = dataclasses.replace(
        settings,
        precision=precision.name,
        scales=str(len(plan)),
        tile=str(plan[-1].tile or "off"),
    )
    keep_losses = options.progress_write or options.progress_plot
    with (
        Progress(settings, plan, options.quiet, keep_losses) as progress,
        Stop(progress.note) as stop,
    ):
        told = ", then ".join(map(stage_in_words, plan))
        progress.note(f"{told} on {device} in {precision.name} with {network.title}")
        results = Results(options, settings, pictures, network.title, progress)
        latest = None

        def on_step(step: "Step") -> None:
            nonlocal latest
            latest = step
            progress.show(step)
            stop.check()

        images = stylize(
            network,
            pictures.content,
            pictures.styles,
            initial=pictures.initial,
            **pictures.masks,
            on_step=on_step,
            plan=plan,
            **dataclasses.asdict(settings),
        )
        pictures.styles.clear()  # the run lets them go when it is done
        try:
            for iteration, image in images:
                if iteration is None:
                    results.save(image)
                elif options.checkpoint_output:
                    results.save_checkpoint(iteration, image)
        except KeyboardInterrupt:
            if latest is None:
                raise
            results.save(latest.image())
            return INTERRUPTED
        except NotFiniteError as error:
            if error.image is not None:
                results.save(error.image)
            raise
        return results.exit_status


def stage_in_words(stage: "Stage") -> str:
    """512x384 in tiles of 256 pixels"""
    tiles = f" in tiles of {stage.tile} pixels" if stage.tile else ""
    return f"{stage.width}x{stage.height}{tiles}"


class Results:
    """Saves the pictures of a run: checkpoints on a thread of its own, while the next steps run.
    One that cannot be saved is told, and the run goes on: `exit_status` says so at the end."""

    def __init__(
        self,
        options: argparse.Namespace,
        settings: Settings,
        pictures: "Pictures",
        network_title: str,
        progress: "Progress",
    ):
        self.exit_status = 0
        self._options, self._settings, self._pictures = options, settings, pictures
        self._metadata = metadata(options, settings, network_title)
        self._progress = progress
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future | None = None
        self._checkpoint_pattern = checkpoint_pattern(options)
        if self._checkpoint_pattern:
            Path(self._checkpoint_pattern).parent.mkdir(exist_ok=True)

    def save_checkpoint(self, iteration: int, image: "np.ndarray") -> None:
        """Begins to; waits for the one before, so that there is never more than one to hold."""
        self._finish_checkpoint()
        path = checkpoint_path(self._checkpoint_pattern, iteration)
        if self._options.checkpoint_full_size:
            image = self._at_full_size(image)
        self._writing = self._writer.submit(self._write, path, image)

    def _finish_checkpoint(self) -> None:
        writing, self._writing = self._writing, None
        try:
            if writing:
                writing.result()
        except UserError as error:
            self._tell(error)

    def save(self, image: "np.ndarray") -> None:
        """Saves the result, at full size whatever its stage; in the temporary folder if its own
        place is gone. Then the losses."""
        path, image = self._options.output, self._at_full_size(image)
        try:
            self._write(path, image)
        except UserError as error:
            self._tell(error)
            path = os.path.join(tempfile.mkdtemp(), os.path.basename(path))
            self._write(path, image)
            self._progress.tell_error(f"saved as {path} instead")
        self._progress.finish(path)
        self._finish_checkpoint()
        table, plot = loss_paths(self._options)
        if table:
            self._progress.save_table(table)
        if plot:
            self._progress.save_plot(plot)

    def _at_full_size(self, image: "np.ndarray") -> "np.ndarray":
        import images

        content, mask = self._pictures.content, self._pictures.masks["content_mask"]
        if image.shape == content.shape:
            return image
        image = images.resize(image, *content.shape[:2])
        if mask is None:
            return image
        mask = mask[..., None]  # what stays of the photo was as small as the rest
        return mask * image + (1 - mask) * content

    def _write(self, path: str, image: "np.ndarray") -> None:
        import colors
        import images

        height, width = image.shape[:2]
        if self._settings.preserve_colors == "luma":
            content = images.resize(self._pictures.content, height, width)
            image = colors.luma_only(image, content)
        alpha = self._pictures.alpha
        if alpha is not None:
            alpha = images.resize(alpha, height, width)
        images.save(path, image, alpha, self._metadata)

    def _tell(self, error: UserError) -> None:
        self._progress.tell_error(f"error: {in_option_names(str(error))}")
        self.exit_status = error.exit_status


def metadata(options: argparse.Namespace, settings: Settings, network_title: str) -> dict[str, Any]:
    """What made the picture, to be kept in its file: every setting, and the names of the inputs
    without their folders."""
    return {
        "content": os.path.basename(options.content),
        "styles": [os.path.basename(style) for style in options.styles],
        "initial": options.initial and os.path.basename(options.initial),
        "masks": [os.path.basename(name) for name in inputs.mask_files(options)],
        "network": network_title,
        **dataclasses.asdict(settings),
    }


def check_files(options: argparse.Namespace, settings: Settings) -> None:
    """Raises `UserError` for what could not be written, or would cost a picture."""
    import files
    import images
    import weights

    checkpoints = checkpoint_paths(options, settings)
    given = [options.content, *options.styles, *filter(None, [options.initial])]
    given += inputs.mask_files(options)
    for path in [options.output, *checkpoints]:
        if any(is_same_file(path, name) for name in given):
            raise UsageError(f"output {path} is an input picture: give another name")
    if options.output in checkpoints:
        raise UsageError(f"output {options.output} is a checkpoint's name too: give another")
    images.check_output(options.output, options.overwrite)
    for path in checkpoints[:1]:
        images.check_output(path, options.overwrite, make_folder=True)
    for path in checkpoints[1:]:
        files.check_free(path, options.overwrite)
    for path in filter(None, loss_paths(options)):
        files.check_writable(path, options.overwrite)
    if options.progress_plot and not importlib.util.find_spec("matplotlib"):
        raise UserError("--progress-plot needs matplotlib: pip install -r requirements-plot.txt")
    with contextlib.nullcontext() if options.debug else silence():
        network = weights.find(options.network)
    files.open_to_read(network).close()


def is_same_file(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def checkpoint_paths(options: argparse.Namespace, settings: Settings) -> list[str]:
    """The files that the checkpoints of a run will go to. Raises `UsageError` for a pattern that
    has no place for the step, or one that lacks its other option."""
    pattern, every = checkpoint_pattern(options), settings.checkpoint_iterations
    example = "--checkpoint-output step-%05d.jpg --checkpoint-iterations 50"
    if not pattern and not every:
        return []
    if not pattern or not every:
        given, lacking = ("output", "iterations") if pattern else ("iterations", "output")
        raise UsageError(f"--checkpoint-{given} needs --checkpoint-{lacking}, as in {example}")
    if len(PLACEHOLDER.findall(pattern)) != 1:
        raise UsageError(
            f"--checkpoint-output {pattern} needs one place for the step, as in {example}"
        )
    return [checkpoint_path(pattern, step) for step in range(0, settings.iterations, every)]


def checkpoint_pattern(options: argparse.Namespace) -> str | None:
    """The pattern with the names of the pictures in place of {content} and {style}."""
    if options.checkpoint_output is None:
        return None
    content, *styles = (Path(path).stem for path in [options.content, *options.styles])
    pattern = options.checkpoint_output.replace("{content}", content)
    return pattern.replace("{style}", "+".join(styles))


def checkpoint_path(pattern: str, iteration: int) -> str:
    """step-%05d.jpg -> step-00050.jpg; also %s, %d, {} and {:05}."""
    return PLACEHOLDER.sub(lambda match: format(iteration, match[1] or match[2] or ""), pattern)


def loss_paths(options: argparse.Namespace) -> tuple[str | None, str | None]:
    """Where the losses go, beside the output: the table and the plot, or None for each."""
    stem = os.path.splitext(options.output)[0]
    return (
        f"{stem}-progress.csv" if options.progress_write else None,
        f"{stem}-progress.png" if options.progress_plot else None,
    )


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
    """Has Ctrl-C end the process while there is no picture. An exception might be swallowed by one
    of the modules that are being imported then."""
    terminal = os.dup(2)  # which `silence` may have turned away

    def end(*_: object) -> None:
        os.write(terminal, f"{NOTHING_TO_SAVE}\n".encode())
        leave(INTERRUPTED)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, end)


if __name__ == "__main__":
    leave_on_interrupt()
    leave(main())
