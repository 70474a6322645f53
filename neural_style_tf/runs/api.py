"""The command as a function: `paint_file`; and files of pictures as arrays."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.errors import INTERRUPTED, SettingName, UsageError, UserError
from neural_style_tf.needs import Layer
from neural_style_tf.painting.step import Step
from neural_style_tf.runs import checks, inputs, recipe
from neural_style_tf.runs.keywords import StrPath
from neural_style_tf.runs.options import RunOptions, combined
from neural_style_tf.runs.resume import inherited_by
from neural_style_tf.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Unpack

    from neural_style_tf.runs.keywords import RunKeywords

COMMAND_ONLY = ("preview", "preview_host", "open")  # the page belongs to a process of its own


class PaintedFile(NamedTuple):
    """What `paint_file` has made."""

    path: Path
    losses: dict[str, float]  # weighted: content, style, tv and their sum, total
    steps: int
    seconds: float  # from the first step to the last


def paint_file(
    content: StrPath | None,
    styles: StrPath | Sequence[StrPath],
    output: StrPath,
    *,
    on_step: Callable[[Step], None] | None = None,
    settings: Settings | None = None,
    **options: "Unpack[RunKeywords]",
) -> PaintedFile:
    """Paints the photo in a file in the style of the paintings in others, as the command does.

        paint_file("photo.jpg", ["painting.jpg"], "out.jpg", size=512, iterations=50)

    content: the photo; None with `texture="512x384"`. styles: the paintings, or one of them.
    output: the file to write; it is replaced only with `overwrite=True`.
    on_step: called with a `Step` after each step, and once more at the end. An exception that it
        raises ends the run: the picture is saved as it is, then the exception is raised.
    settings: what shapes the picture; options that are set, too, override it.
    options: those of the command, `--style-weight 3000` as `style_weight=3000`, except for the
        preview page. `quiet=False` shows the progress in the terminal. In a notebook the picture
        and a bar are shown as they grow, unless `quiet=True`.

    Ctrl-C saves the picture as it is, and raises `KeyboardInterrupt`. Signal handlers of the
    process are left alone.

    Raises `UsageError` for a wrong option and `UserError` for what fails, such as a file that
    cannot be read or written; what was painted until then is saved.
    """
    from neural_style_tf.machine import tensorflow_setup
    from neural_style_tf.runs.painting_run import PaintingRun

    run_options, resumed = _options(content, styles, output, settings, dict(options))
    watch, run_options = _watch(on_step, run_options, bool(options.get("quiet")))
    run = checks.check(run_options, resumed)
    with checks.claiming(run.options):
        checks.check_device(run.options)
        pictures = inputs.load(run.options)
        if run.options.save_settings:
            recipe.save(run.options.save_settings, run.settings, run.options.output)
        device = tensorflow_setup.start(run.options.debug, run.options.threads, run.options.device)
        painting = PaintingRun(run, pictures, device, watch=watch.see, takes_signals=False)
        status = painting.paint()
    if watch.error:
        raise watch.error
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if painting.failures:
        raise UserError("; ".join(painting.failures))
    return PaintedFile(Path(output), watch.losses, watch.steps, watch.seconds)


def _watch(
    on_step: Callable[[Step], None] | None, options: RunOptions, is_quiet: bool
) -> "tuple[_Watch, RunOptions]":
    """What watches the run; in a notebook it is shown, unless that is to be quiet."""
    from neural_style_tf.runs import notebook

    watchers = [on_step] if on_step else []
    if notebook.is_running() and not is_quiet:
        watchers.append(notebook.NotebookDisplay())
        # no bar of the terminal beside that of the notebook
        options = dataclasses.replace(options, quiet=True)
    return _Watch(watchers), options


def read_picture(path: StrPath, transparency: bool = False) -> "np.ndarray":
    """The picture in a file: [H, W, 3] float32 RGB, 0..255, upright, in sRGB, over white where it
    is transparent.

    transparency: whether to return [H, W, 4] for a picture that is transparent somewhere, with its
        alpha, 0..255, and colours that are not over white, as `stylize` takes it.

    Raises `UserError` if it cannot be read.
    """
    import numpy as np

    from neural_style_tf.pictures import reading
    from neural_style_tf.pictures.transparency import filled

    pixels, alpha = reading.read(path)
    if alpha is None or not transparency:
        return pixels
    return np.dstack([filled(pixels, alpha), 255 * alpha])


def save_picture(path: StrPath, image: "np.ndarray", bits: int = 8) -> None:
    """Writes a picture, [H, W, 3] RGB, 0..255, or with an alpha, 0..255, [H, W, 4], in the format
    that the name ends with, over a file that has the name. What is transparent is white in formats
    without transparency, JPEG and BMP. bits: of each colour; 16 for PNG and TIFF. Raises
    `UsageError` for arrays of other shapes and other bits, and `UserError` if that fails."""
    import numpy as np

    from neural_style_tf.pictures import writing
    from neural_style_tf.pictures.transparency import over_white

    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise UsageError(
            f"the picture has shape {image.shape}: use [height, width, 3], or 4 with transparency"
        )
    if image.shape[2] == 4:
        alpha = np.clip(image[..., 3].astype(np.float32) / 255, 0, 1)
        opaque = over_white(image[..., :3].astype(np.float32), alpha)
        writing.save(path, opaque, alpha, bits=bits)
    else:
        writing.save(path, image, bits=bits)


def _options(
    content: StrPath | None,
    styles: StrPath | Sequence[StrPath],
    output: StrPath,
    settings: Settings | None,
    options: dict[str, Any],
) -> "tuple[RunOptions, Any]":
    """The options of a run, and the saved run that it continues."""
    for name in COMMAND_ONLY:
        if options.get(name) is not None and options[name] is not False:  # 0 is a port
            raise UsageError(SettingName(name), " is an option of the command alone")
    paths = [styles] if isinstance(styles, str | os.PathLike) else styles
    own = {
        **options,
        "content": None if content is None else os.fspath(content),
        "styles": tuple(os.fspath(path) for path in paths),
        "output": os.fspath(output),
    }
    inherited, resumed = inherited_by(own)
    whole = dataclasses.asdict(settings) if settings else {}
    lower = (Layer(values, is_strict=False) for values in (inherited, {"quiet": True}, whole))
    return RunOptions.of(combined(*lower, Layer(own))), resumed


class _Watch:
    """Passes each step on, and remembers what `PaintedFile` says of the last one."""

    def __init__(self, watchers: list[Callable[[Step], None]]):
        self._watchers = watchers
        self.error: Exception | None = None
        self.losses: dict[str, float] = {}
        self.steps, self.seconds = 0, 0.0

    def see(self, step: Step) -> None:
        self.seconds = step.seconds
        if step.iteration is None:
            self.losses = step.losses()
        else:
            self.steps = step.iteration + 1
        try:
            for watch in self._watchers:
                watch(step)
        except Exception as error:
            self.error = error
            raise KeyboardInterrupt from None  # ends the run, which saves its picture
