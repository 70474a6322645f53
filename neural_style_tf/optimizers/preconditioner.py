"""Preconditioner: the inverse Hessian that L-BFGS starts from, by frequency and colour.

Starting from a multiple of the identity, large shapes take many steps to appear. A low-pass filter
corrects for that in advance; how curved the loss really is shows in the pairs of steps and gradient
changes, for each band of frequencies and each of three opponent colours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

BANDS = 16  # of frequencies, on a logarithmic scale
PAIRS_TO_LEARN = 3  # until then only the low-pass is used: fewer pairs leave bands empty
# rows: grey, red against blue, green against both; orthonormal
COLORS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


@dataclass(frozen=True)
class Preconditioner:
    """Multiplies each frequency and opponent colour of a picture [1, H, W, 3] by a gain.

    The gain is that of a low-pass filter, 1 / sqrt(1 + (f / corner)^2), to the power of 1 - learnt,
    times sqrt(|s|^2 / |y|^2) to the power of learnt. |s|^2 and |y|^2 are the energies of the steps
    s and gradient changes y so far, band by band, where each pair counts `fading` times as much as
    the next. Only ratios of gains matter: L-BFGS scales the result.
    """

    corner: float  # of the low-pass, cycles per pixel
    learnt: float  # weight of the pairs, 0 to 1
    fading: float

    def init(self) -> dict[str, tf.Tensor]:
        """The statistics before the first pair."""
        energies = tf.zeros([BANDS, 3])
        return {"steps": energies, "changes": energies, "pairs": tf.zeros(())}

    def grid(self, height: int, width: int) -> dict[str, tf.Tensor]:
        """Constants for a size of picture, each [H, W // 2 + 1] or [1, W // 2 + 1]: the low-pass,
        the band of each frequency, and how often each column of the spectrum counts."""
        frequencies = _frequencies(height, width)
        columns = np.arange(width // 2 + 1)
        is_alone = (columns == 0) | (2 * columns == width)  # real pictures have the others twice
        return {
            "low_pass": tf.constant(1 / np.sqrt(1 + (frequencies / self.corner) ** 2), tf.float32),
            "bands": tf.constant(_bands(frequencies), tf.int32),
            "counts": tf.constant(np.where(is_alone, 1, 2)[np.newaxis], tf.float32),
        }

    def learn(
        self, statistics: dict[str, tf.Tensor], step: tf.Tensor, change: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The statistics after one more pair, both [1, H, W, 3]. Here and below `statistics` also
        holds the constants of `grid`."""
        return {
            "steps": self.fading * statistics["steps"] + _energies(statistics, step),
            "changes": self.fading * statistics["changes"] + _energies(statistics, change),
            "pairs": statistics["pairs"] + 1,
        }

    def apply(self, statistics: dict[str, tf.Tensor], picture: tf.Tensor) -> tf.Tensor:
        """The preconditioned picture, [1, H, W, 3]."""
        gain, size = self._gain(statistics), tf.shape(picture)[1:3]

        def filtered(spectrum: tf.Tensor, color: int) -> tf.Tensor:
            spectrum *= tf.cast(gain(color), tf.complex64)
            return tf.raw_ops.IRFFT2D(input=spectrum, fft_length=size)

        opponent = tf.stack(_by_color(filtered, picture))  # [3, H, W]
        return tf.einsum("khw,kc->hwc", opponent, _colors())[tf.newaxis]

    def norm(self, statistics: dict[str, tf.Tensor], picture: tf.Tensor) -> tf.Tensor:
        """The dot product of a picture with its preconditioned self, by Parseval's theorem."""
        gain = self._gain(statistics)
        sums = _by_color(
            lambda spectrum, color: tf.reduce_sum(_power(statistics, spectrum) * gain(color)),
            picture,
        )
        return tf.add_n(sums) / tf.reduce_prod(tf.cast(tf.shape(picture)[1:3], tf.float32))

    def _gain(self, statistics: dict[str, tf.Tensor]) -> Callable[[int], tf.Tensor]:
        """A function that returns the gain [H, W // 2 + 1] of an opponent colour."""
        low_pass = statistics["low_pass"]
        if not self.learnt:
            return lambda _: low_pass
        steps, changes = statistics["steps"], statistics["changes"]
        # without the bands that the picture does not have, or that nothing moved in
        has_energy = (steps > 0) & (changes > 0)
        ratios = tf.where(
            has_energy, 0.5 * tf.math.log(tf.where(has_energy, steps / changes, 1.0)), 0.0
        )
        bands = tf.maximum(1.0, tf.reduce_sum(tf.cast(has_energy, tf.float32)))
        mean = tf.reduce_sum(ratios) / bands
        learnt = tf.exp(self.learnt * tf.where(has_energy, ratios - mean, 0.0))  # [bands, colours]
        is_early = statistics["pairs"] < PAIRS_TO_LEARN
        power = tf.where(is_early, 1.0, 1 - self.learnt)
        learnt = tf.unstack(tf.where(is_early, 1.0, learnt), len(COLORS), axis=1)
        return lambda color: low_pass**power * tf.gather(learnt[color], statistics["bands"])


def _by_color(
    function: Callable[[tf.Tensor, int], tf.Tensor], picture: tf.Tensor
) -> list[tf.Tensor]:
    """The function of the spectrum [H, W // 2 + 1] and number of each opponent colour; one after
    another, because spectra are large."""
    size = tf.shape(picture)[1:3]
    results: list[tf.Tensor] = []
    for number, color in enumerate(tf.unstack(_colors())):
        with tf.control_dependencies(results[-1:]):
            plane = tf.linalg.matvec(picture[0], color)
            results.append(function(tf.raw_ops.RFFT2D(input=plane, fft_length=size), number))
    return results


def _colors() -> tf.Tensor:
    return tf.constant(COLORS, tf.float32)


def _power(grid: dict[str, tf.Tensor], spectrum: tf.Tensor) -> tf.Tensor:
    """[H, W // 2 + 1], |X|^2."""
    return tf.square(tf.abs(spectrum)) * grid["counts"]


def _energies(grid: dict[str, tf.Tensor], picture: tf.Tensor) -> tf.Tensor:
    """[bands, colours], the sums of |X|^2."""
    bands = tf.reshape(grid["bands"], [-1])

    def energies(spectrum: tf.Tensor, _: int) -> tf.Tensor:
        power = tf.reshape(_power(grid, spectrum), [-1])
        return tf.math.unsorted_segment_sum(power, bands, BANDS)

    return tf.stack(_by_color(energies, picture), axis=1)


def _frequencies(height: int, width: int) -> np.ndarray:
    """[H, W // 2 + 1], cycles per pixel."""
    return np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))


def _bands(frequencies: np.ndarray) -> np.ndarray:
    """The band of each frequency, 0 to BANDS - 1; the lowest holds everything below two periods
    per side."""
    lowest = 2 / max(frequencies.shape[0], 2 * frequencies.shape[1] - 2, 8)
    return np.searchsorted(np.geomspace(lowest, math.sqrt(0.5), BANDS)[:-1], frequencies, "right")
