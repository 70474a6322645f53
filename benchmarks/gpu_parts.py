"""The parts of benchmarks/gpu.py, each in a process of its own: options -> rows.

A row is a dictionary with `what`, and usually `size`, `value`, `unit` and `note`. Each is measured
on its own: one that fails says why, and the next is measured.
"""

import argparse
import contextlib
import gc
import hashlib
import math
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.card import (
    MOST_CALLS,
    TIMED_SECONDS,
    copy_rate,
    driver,
    forget_peak,
    gpus,
    matrix_rate,
    peak,
    time_of,
    versions,
    wait_for,
)
from benchmarks.step import MOMENTS, pictures, seconds
from neural_style_tf.machine import streams, tensorflow_setup

Emit = Callable[[dict[str, Any]], None]

COMPARED_STEPS = 20  # of the picture whose bytes are compared
WARM_UP = 10  # steps before the clock starts
CALLS_OF_LARGE = 3
SOURCE_SIZE = 512  # larger pictures repeat the pixels of one of this size
# Rows whose values are equal if pictures are: of short runs, and of runs that compile on a GPU.
SAME_BYTES, SAME_BYTES_COMPILED = "digest", "digest after Adam steps"
LONG = 1000  # steps that are planned where some are timed: short stages compile nothing on a GPU


class Rows:
    """Measures row after row, as long as there is time."""

    def __init__(self, options: argparse.Namespace, emit: Emit):
        self.options, self.emit = options, emit
        self._end = time.monotonic() + options.seconds

    def measure(self, what: str, call: Callable[[], Any], unit: str = "", **more: Any) -> Any:
        """Emits a row with what the call returns, and returns that; None if it failed."""
        row = {"what": what, "unit": unit, **more}
        if time.monotonic() > self._end:
            self.emit(row | {"note": "skipped: no time left"})
            return None
        try:
            value = call()
        except Exception as error:  # whatever it is, the other rows are measured
            self.emit(row | {"note": in_short(error)})
            value = None
        else:
            self.emit(row | {"value": value})
        gc.collect()  # graphs are in reference cycles
        return value


def in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def run(options: argparse.Namespace, emit: Emit) -> None:
    """Measures the rows of `options.part`."""
    part = {"start": start, "steps": steps, "large": large}[options.part]
    try:
        part(options, emit)
    except Exception as error:  # a GPU that cannot be opened, for instance
        emit({"what": options.part, "note": in_short(error)})


def start(options: argparse.Namespace, emit: Emit) -> None:
    """The start of a run, and what further pictures of the process take."""
    rows, size = Rows(options, emit), options.sizes[0]
    rows.measure("importing TensorFlow", lambda: seconds(tensorflow_setup.load), "s")
    began = time.perf_counter()
    photo_and_painting: list[np.ndarray] = []
    painted: list[np.ndarray] = []

    def first_step() -> float:
        ended: list[float] = []

        def note(step: Any) -> None:
            if not ended:
                step.losses()  # waits for the device
                ended.append(time.perf_counter() - began)

        tensorflow_setup.start()
        photo_and_painting[:] = images(size)
        painted.append(paint(options, photo_and_painting, note, iterations=COMPARED_STEPS))
        return ended[0]

    def again(steps: int, **settings: Any) -> float:
        return seconds(
            lambda: painted.append(paint(options, photo_and_painting, iterations=steps, **settings))
        )

    rows.measure("until the first step has ended, without import", first_step, "s", size=size)
    what = f"{COMPARED_STEPS} L-BFGS steps, not the first"
    rows.measure(what, lambda: again(COMPARED_STEPS), "s", size=size)
    for picture in painted:
        rows.measure(SAME_BYTES, lambda picture=picture: digest(picture), size=size)
    for what in ("the first", "not the first"):
        call = lambda: again(options.steps, optimizer="adam")  # noqa: E731
        rows.measure(f"{options.steps} Adam steps, {what}", call, "s", size=size)
        rows.measure(SAME_BYTES_COMPILED, lambda: digest(painted[-1]), size=size)


def steps(options: argparse.Namespace, emit: Emit) -> None:
    """What the card can do, and a step at each size."""
    rows = Rows(options, emit)
    device = tensorflow_setup.start()
    describe(rows, device)
    for size in options.sizes:
        try:
            measure_size(rows, images(size))
        except Exception as error:
            emit({"what": "a step", "size": size, "note": in_short(error)})
    size = options.sizes[0]
    call = lambda: digest(paint(options, images(size), iterations=COMPARED_STEPS))  # noqa: E731
    rows.measure(SAME_BYTES, call, size=size, note="in another process")


def describe(rows: Rows, device: str) -> None:
    """The device, its libraries, and its rates."""
    rows.measure("device", lambda: device)
    if gpus():
        rows.measure("driver and memory", driver)
    rows.measure("versions", versions)
    rows.measure("precision", lambda: dtype_of(rows.options).name)
    side, count = (8192, 1 << 28) if gpus() else (512, 1 << 20)
    for precision in dict.fromkeys((dtype_of(rows.options).name, "float32")):
        what = f"matrix product {side}^3 in {precision}"
        rows.measure(what, lambda name=precision: matrix_rate(side, name), "TFLOP/s")
    rows.measure("copy, bytes read and written", lambda: copy_rate(count), "GB/s")


def measure_size(rows: Rows, photo_and_painting: list[np.ndarray]) -> None:
    """The rows of a step at the size of the pictures."""
    from neural_style_tf.network import fused

    options, size = rows.options, len(photo_and_painting[0])
    forget_peak()

    def step(optimizer: str, **settings: Any) -> float:
        return 1e3 * time_of_step(options, photo_and_painting, optimizer=optimizer, **settings)

    call = lambda: 1e3 * time_of_objective(options, photo_and_painting)  # noqa: E731
    rows.measure("objective", call, "ms", size=size)
    adam = rows.measure("Adam step", lambda: step("adam"), "ms", size=size)
    rows.measure("L-BFGS step", lambda: step("lbfgs"), "ms", size=size)
    rows.measure("peak memory", peak, "MB", size=size)
    call = lambda: 1e3 * time_of_convolutions(options, size)  # noqa: E731
    alone = rows.measure("convolutions alone", call, "ms", size=size)
    if adam and alone:
        share = 100 * alone / adam
        rows.measure("share of convolutions", lambda: share, "%", size=size, note="of Adam's step")
    forget_peak()
    call = lambda: step("adam", style_loss="neighbors")  # noqa: E731
    rows.measure("Adam step with neighbours", call, "ms", size=size)
    rows.measure("peak memory with neighbours", peak, "MB", size=size)
    with mock.patch.object(fused, "WORTH_COMPILING", math.inf):
        note = "nothing is compiled, as in a short stage"
        rows.measure("Adam step with neighbours", call, "ms", size=size, note=note)


def time_of_objective(options: argparse.Namespace, photo_and_painting: list[np.ndarray]) -> float:
    """Seconds of an evaluation with `MOMENTS`, of many in a row."""
    import tensorflow as tf

    evaluate = make_objective(options, photo_and_painting, None)
    picture = tf.constant(photo_and_painting[1][np.newaxis])
    return time_of(lambda: evaluate(picture).gradient)


def make_objective(
    options: argparse.Namespace, photo_and_painting: list[np.ndarray], tile: int | None
) -> Callable:
    """The objective as a run makes it; with that tile only, or `ExhaustedError` is raised."""
    from neural_style_tf.network import vgg
    from neural_style_tf.objective import memory

    photo, painting = (image[np.newaxis] for image in photo_and_painting)
    network = vgg.load(options.network)
    evaluate, _ = memory.make_objective(
        network, photo, [painting], MOMENTS, dtype_of(options), tile
    )

    def evaluate_or_raise(picture: Any) -> Any:
        with streams.logged(raise_exhausted):
            return evaluate(picture)

    return evaluate_or_raise


class ExhaustedError(Exception):
    """A run would continue in smaller tiles here."""


def raise_exhausted(message: str) -> None:
    raise ExhaustedError(message)


def time_of_step(
    options: argparse.Namespace, photo_and_painting: list[np.ndarray], **settings: Any
) -> float:
    """Seconds of a step of `stylize` in one stage, of many in a row."""
    moments: list[tuple[int, float]] = []

    def note(step: Any) -> None:
        if step.iteration is None or step.iteration < WARM_UP or step.iteration % 10:
            return
        step.losses()  # waits for the device
        moments.append((step.iteration, time.perf_counter()))
        is_last = step.iteration >= WARM_UP + MOST_CALLS
        if is_last or moments[-1][1] - moments[0][1] > TIMED_SECONDS:
            raise EnoughError

    settings |= {"scales": 1, "iterations": LONG}
    with contextlib.suppress(EnoughError):
        paint(options, photo_and_painting, note, **settings)
    (first, began), (last, ended) = moments[0], moments[-1]
    return (ended - began) / (last - first)


class EnoughError(Exception):
    """Enough steps have been timed."""


def time_of_convolutions(options: argparse.Namespace, size: int) -> float:
    """Seconds of the convolutions of a step, forward and backward, as TensorFlow's own operations
    and with nothing between them."""
    import tensorflow as tf

    from neural_style_tf.network import vgg

    dtype, side, inputs = dtype_of(options), size, []
    for layer in layers_of(vgg.load(options.network)):
        if layer.kind == "pool":
            side = -(-side // 2)
        elif layer.kind == "conv":
            kernel = tf.cast(layer.kernel, dtype)
            shapes = [(1, side, side, channels) for channels in kernel.shape[2:]]
            inputs.append((kernel, *(tf.ones(shape, dtype) for shape in shapes)))

    @tf.function(autograph=False)
    def convolve(inputs: list[tuple]) -> list:
        forward = [tf.nn.conv2d(image, kernel, 1, "SAME") for kernel, image, _ in inputs]
        backward = [
            tf.nn.conv2d_transpose(gradient, kernel, image.shape, 1, "SAME")
            for kernel, image, gradient in inputs
        ]
        return [*forward, *backward]

    return time_of(lambda: convolve(inputs)[-1])


def layers_of(network: Any) -> list:
    """The layers up to the last one that counts."""
    wanted, layers = set(MOMENTS.layers()), []
    for layer in network.layers:
        if not wanted:
            break
        wanted.discard(layer.name)
        layers.append(layer)
    return layers


def large(options: argparse.Namespace, emit: Emit) -> None:
    """An evaluation of large pictures, in one piece and in tiles."""
    rows = Rows(options, emit)
    tensorflow_setup.start()
    sizes = options.large
    if sizes is None:
        sizes = [4096, 8192] if gpus() else []
    if not sizes:
        emit({"what": "large pictures", "note": "skipped: no GPU"})
    # the largest in one piece is the most likely to end the process: last
    order = [(size, tile) for size in sizes for tile in (None, options.tile)]
    for size, tile in sorted(order, key=lambda row: row == (max(sizes), None)):
        forget_peak()
        manner = f"in tiles of {tile}" if tile else "in one piece"
        call = lambda size=size, tile=tile: time_of_large(options, size, tile)  # noqa: E731
        rows.measure(f"objective {manner}", call, "s", size=size)
        rows.measure(f"peak memory {manner}", peak, "MB", size=size)


def time_of_large(options: argparse.Namespace, size: int, tile: int | None) -> float:
    """The median seconds of a few evaluations. Raises `ExhaustedError` when memory runs out."""
    import tensorflow as tf

    photo_and_painting = images(size)
    with streams.logged(raise_exhausted):
        evaluate = make_objective(options, photo_and_painting, tile)
    picture = tf.constant(photo_and_painting[1][np.newaxis])
    wait_for(evaluate(picture).gradient)

    def once() -> float:
        return seconds(lambda: wait_for(evaluate(picture).gradient))

    durations = [once()]
    while len(durations) < CALLS_OF_LARGE and sum(durations) < 5 * TIMED_SECONDS:
        durations.append(once())
    return statistics.median(durations)


def images(size: int) -> list[np.ndarray]:
    """A photo and a painting, each [size, size, 3] float32 RGB, 0..255. Large ones repeat pixels,
    which is sooner done."""
    times = max(1, size // SOURCE_SIZE)
    if size % times:
        times = 1
    small = [image.numpy()[0] for image in pictures(size // times, size // times)[:2]]
    return [image.repeat(times, 0).repeat(times, 1) for image in small]


def paint(
    options: argparse.Namespace,
    photo_and_painting: list[np.ndarray],
    on_step: Callable[[Any], None] | None = None,
    **settings: Any,
) -> np.ndarray:
    """The picture [H, W, 3] that `stylize` paints."""
    from neural_style_tf.network import vgg
    from neural_style_tf.painting.stylize import stylize

    photo, painting = photo_and_painting
    network = vgg.load(options.network)
    settings = {"precision": options.precision, "style_loss": MOMENTS.style_loss, **settings}
    for _, image in stylize(network, photo, [painting], on_step=on_step, **settings):
        picture = image
    return picture


def digest(picture: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(picture).tobytes(), digest_size=8).hexdigest()


def dtype_of(options: argparse.Namespace) -> Any:
    from neural_style_tf.network.precision import feature_dtype

    return feature_dtype(options.precision)
