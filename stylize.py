"""The run: pictures and settings -> better and better pictures. Prints nothing."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import hardware
import tiling
import vgg
from objective import Evaluation, Objective
from optimizers import LBFGS, LBFGSB, Adam, Optimizer
from settings import SMALLEST_SIDE, Settings, UsageError, UserError, settings_from

NOISE_DEVIATION = 0.256  # grey levels; the published program's start, see initial_picture
LOOK_EVERY = 10  # steps between two looks at whether the loss is still finite: a look waits


class Step(NamedTuple):
    """What `on_step` is told. Only who calls `losses` or `image` waits for the device."""

    iteration: int | None  # from 0; None at the end, when the best picture has been chosen
    total: int
    seconds: float  # since the first step began
    losses: Callable[[], dict[str, float]]  # of the picture that the step set out from
    image: Callable[[], np.ndarray]  # the picture as it stands, [H, W, 3] float32 RGB, 0..255


class NotFiniteError(UserError):
    """The loss stopped being a number. `image` is the last good picture, or None."""

    def __init__(self, message: str, image: np.ndarray | None):
        super().__init__(message)
        self.image = image


def stylize(
    network: str | Path | vgg.Network,
    content: np.ndarray,
    styles: Sequence[np.ndarray],
    *,
    initial: np.ndarray | None = None,
    on_step: Callable[[Step], None] | None = None,
    **options: Any,
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Repaints a photo in the style of one or more paintings (Gatys, Ecker and Bethge 2016).

    network: a weights file, or what `vgg.load` made of one.
    content, styles, initial: [H, W, 3] RGB, 0..255, of any number type. Styles may have any size
        (the larger a style against the content, the larger its strokes); `initial`, the picture
        to start from, has the content's.
    on_step: called after every step with a `Step`, and once more at the end.
    options: the fields of `settings.Settings` by name, for instance `iterations`,
        `content_weight`, `checkpoint_iterations`.

    Yields `(iteration, image)` after every step whose number, from 0, is a multiple of
    `checkpoint_iterations`: the picture as it stands; and last `(None, image)`: the picture with
    the lowest loss of all. Images are [H, W, 3] float32 RGB, 0..255.

    Raises `UserError` for a wrong argument when called, not at the first picture, and
    `NotFiniteError` during the run.
    """
    settings = settings_from(options)
    settings.check_styles(len(styles))
    content = _checked("content", content)
    styles = [_checked(f"style {number}", style) for number, style in enumerate(styles, 1)]
    if not styles:
        raise UsageError("got no style: give one picture or more")
    if initial is not None:
        initial = _checked("initial", initial)
        if initial.shape != content.shape:
            raise UsageError(
                f"initial is {_size(initial)} and content {_size(content)}: give equal sizes"
            )
    if not isinstance(network, vgg.Network):
        network = vgg.load(network)
    if not settings.normalization:
        network = vgg.without_normalization(network)
    settings = with_checked_layers(network, settings)
    return _paint(network, content, styles, initial, on_step, settings)


def initial_picture(
    content: np.ndarray, initial: np.ndarray | None, mean_pixel: np.ndarray, settings: Settings
) -> np.ndarray:
    """The picture to start from, [H, W, 3] float32 RGB, 0..255: `initial` (or the content)
    blended with noise around the network's mean pixel."""
    blend = settings.noise_share(initial is not None)
    generator = np.random.default_rng(settings.seed)
    if settings.noise_range is None:
        noise = mean_pixel + NOISE_DEVIATION * generator.standard_normal(content.shape)
    else:
        noise = mean_pixel + generator.uniform(*settings.noise_range, content.shape)
    base = content if initial is None else initial
    return ((1 - blend) * base + blend * noise).astype(np.float32)


def with_checked_layers(network: vgg.Network, settings: Settings) -> Settings:
    """The settings with layers named as the network names them. Raises `UserError` for one that it
    has not."""
    named = {
        name: {vgg.canonical(layer): weight for layer, weight in weights.items()}
        for name in ("content_layers", "style_layers")
        if (weights := getattr(settings, name)) is not None
    }
    settings = dataclasses.replace(settings, **named)
    vgg.check_layers(network, [*settings.content_layer_weights(), *settings.style_layer_weights()])
    return settings


def _paint(
    network: vgg.Network,
    content: np.ndarray,
    styles: list[np.ndarray],
    initial: np.ndarray | None,
    on_step: Callable[[Step], None] | None,
    settings: Settings,
) -> Iterator[tuple[int | None, np.ndarray]]:
    precision = hardware.precision(settings.precision)
    sizes = [picture.shape[:2] for picture in (content, *styles)]
    tile = tiling.choose_size(network, sizes, settings, precision)
    batch = [_tensor(picture) for picture in (content, *styles)]
    objective, losses = tiling.make_objective(
        network, batch[0], batch[1:], settings, precision, tile
    )
    optimizer = _optimizer(settings)
    start = _tensor(initial_picture(content, initial, network.mean_pixel, settings))
    for iteration, scored, picture, seconds in _descend(objective, optimizer, start, settings):
        if on_step is not None:
            if iteration is None and precision != tf.float32:
                scored = _Scored(picture, losses(picture))
            on_step(_step(iteration, scored, picture, seconds, settings.iterations))
        every = settings.checkpoint_iterations
        if iteration is None or (every and iteration % every == 0):
            yield iteration, _image(picture)


def _optimizer(settings: Settings) -> Optimizer:
    if settings.optimizer == "lbfgs":
        low, high = (0.0, 255.0) if settings.clip else (-np.inf, np.inf)
        return LBFGS(low=low, high=high)
    if settings.optimizer == "l-bfgs-b":
        return LBFGSB(settings.evaluations, bounds=settings.clip)
    return Adam(
        learning_rate=settings.learning_rate,
        beta1=settings.beta1,
        beta2=settings.beta2,
        eps=settings.eps,
        schedule=settings.learning_rate_schedule,
        total=settings.iterations,
        decay_every=settings.decay_every,
        decay_factor=settings.decay_factor,
        clip=settings.clip,
    )


class _Scored(NamedTuple):
    """A picture with its losses."""

    picture: tf.Tensor
    losses: dict[str, tf.Tensor]


def _descend(
    objective: Objective, optimizer: Optimizer, picture: tf.Tensor, settings: Settings
) -> Iterator[tuple[int | None, _Scored, tf.Tensor, float]]:
    """After every step: its number, the picture it set out from, the one it made, and the seconds
    so far. At the end: None, and twice the picture with the lowest loss of all."""
    state = optimizer.init(picture)
    best = None
    objective = _Counted(objective)
    limits = _Limits(settings)
    began = time.monotonic()
    for iteration in range(settings.iterations):
        made, state, evaluation = optimizer.step(objective, picture, state)
        scored = _Scored(picture, evaluation.losses)
        best = scored if best is None else _lower(best, scored)
        if iteration % LOOK_EVERY == 0:
            _check_finite(iteration, optimizer, scored, best, settings)
        picture = made
        seconds = time.monotonic() - began
        yield iteration, scored, picture, seconds
        if limits.reached(iteration, scored, objective.evaluations, seconds):
            break
    scored = _Scored(picture, objective(picture).losses)
    best = _lower(best, scored)
    _check_finite(iteration + 1, optimizer, scored, best, settings)
    yield None, best, best.picture, time.monotonic() - began


class _Counted:
    """An objective that counts how often it was asked."""

    def __init__(self, objective: Objective):
        self._objective = objective
        self.evaluations = 0

    def __call__(self, picture: tf.Tensor) -> Evaluation:
        self.evaluations += 1
        return self._objective(picture)


class _Limits:
    """What ends a run before its last iteration."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._lowest, self._fell = np.inf, 0

    def reached(self, iteration: int, scored: _Scored, evaluations: int, seconds: float) -> bool:
        settings = self._settings
        return (
            (settings.max_evaluations is not None and evaluations >= settings.max_evaluations)
            or (settings.max_seconds is not None and seconds >= settings.max_seconds)
            or (settings.patience is not None and self._is_stuck(iteration, scored))
        )

    def _is_stuck(self, iteration: int, scored: _Scored) -> bool:
        total = float(scored.losses["total"])
        if total < self._lowest:
            self._lowest, self._fell = total, iteration
        return iteration - self._fell >= self._settings.patience


@tf.function
def _lower(best: _Scored, other: _Scored) -> _Scored:
    """Whichever has the lower loss, chosen on the device. A NaN never wins."""
    wins = other.losses["total"] < best.losses["total"]
    return tf.nest.map_structure(lambda ours, theirs: tf.where(wins, theirs, ours), best, other)


def _check_finite(
    iteration: int, optimizer: Optimizer, scored: _Scored, best: _Scored, settings: Settings
) -> None:
    """Raises `NotFiniteError` with the best picture so far if a loss is no finite number, and the
    optimizer would not find back by itself."""
    checked = best if optimizer.recovers else scored
    broken = [name for name, loss in checked.losses.items() if not np.isfinite(float(loss))]
    if not broken:
        return
    weights = [f"{name}_weight" for name in broken if name != "total"]
    weights = weights or ["content_weight", "style_weight", "tv_weight"]
    lower = " or ".join(f"{name} (now {getattr(settings, name):g})" for name in weights)
    image = _image(best.picture) if np.isfinite(float(best.losses["total"])) else None
    raise NotFiniteError(
        f"the loss is no finite number after {iteration} steps: lower {lower}", image
    )


def _step(
    iteration: int | None, scored: _Scored, picture: tf.Tensor, seconds: float, total: int
) -> Step:
    return Step(
        iteration,
        total,
        seconds,
        lambda: {name: float(loss) for name, loss in scored.losses.items()},
        lambda: _image(picture),
    )


def _checked(name: str, picture: Any) -> np.ndarray:
    """The picture as float32. Raises `UsageError` unless it is [H, W, 3], finite and big enough."""
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise UsageError(f"{name} has shape {picture.shape}: give [height, width, 3]")
    if min(picture.shape[:2]) < SMALLEST_SIDE:
        raise UsageError(f"{name} is {_size(picture)}: give {SMALLEST_SIDE} pixels or more a side")
    picture = picture.astype(np.float32)
    if not np.isfinite(picture).all():
        raise UsageError(f"{name} holds values that are no finite numbers: give RGB from 0 to 255")
    return picture


def _size(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    return f"{width}x{height}"


def _tensor(picture: np.ndarray) -> tf.Tensor:
    return tf.constant(picture[np.newaxis])  # [1, H, W, 3]


def _image(picture: tf.Tensor) -> np.ndarray:
    return picture.numpy()[0]
