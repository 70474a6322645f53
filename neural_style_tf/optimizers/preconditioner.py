"""Filters: the inverse Hessian that L-BFGS sets out from, by frequency and colour.

Large shapes are slow to come from a multiple of the identity. A low-pass filter knows that much
beforehand; how curved the loss really is shows in the pairs of steps and gradient changes, band by
band of frequencies and for each of three opponent colours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

BANDS = 16  # of frequencies, on a logarithmic scale
PAIRS_TO_LEARN = 3  # before what was learnt counts
# rows: grey, red against blue, green against both; orthonormal
COLORS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


@dataclass(frozen=True)
class Filter:
    """Pictures [1, H, W, 3] -> theirs with each frequency and opponent colour times a gain.

    The gain is that of a low-pass filter, 1 / sqrt(1 + (f / corner)^2), to the power of 1 - learnt,
    times the root of |s|^2 / |y|^2 to that of learnt: of the steps s and gradient changes y so far,
    band by band, each `fading` times the next. Its scale means nothing.
    """

    corner: float  # cycles a pixel
    learnt: float  # share of what the pairs say, 0 to 1
    fading: float

    def init(self) -> dict[str, tf.Tensor]:
        """What is known before the first pair."""
        energies = tf.zeros([BANDS, 3])
        return {"steps": energies, "changes": energies, "pairs": tf.zeros(())}

    def grid(self, height: int, width: int) -> dict[str, tf.Tensor]:
        """What has to be known besides, and hangs on nothing but the size of the pictures: the
        low-pass, each frequency's band, how often each column counts."""
        frequencies = _frequencies(height, width)
        columns = np.arange(width // 2 + 1)
        is_alone = (columns == 0) | (2 * columns == width)  # real pictures have the others twice
        return {
            "low_pass": tf.constant(1 / np.sqrt(1 + (frequencies / self.corner) ** 2), tf.float32),
            "bands": tf.constant(_bands(frequencies), tf.int32),
            "counts": tf.constant(np.where(is_alone, 1, 2)[np.newaxis], tf.float32),
        }

    def learn(
        self, known: dict[str, tf.Tensor], step: tf.Tensor, change: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """What is known after one more pair."""
        return {
            "steps": self.fading * known["steps"] + _energies(known, step),
            "changes": self.fading * known["changes"] + _energies(known, change),
            "pairs": known["pairs"] + 1,
        }

    def apply(self, known: dict[str, tf.Tensor], picture: tf.Tensor) -> tf.Tensor:
        """The filtered picture."""
        gain, size = self._gain(known), tf.shape(picture)[1:3]

        def filtered(spectrum: tf.Tensor, color: int) -> tf.Tensor:
            spectrum *= tf.cast(gain(color), tf.complex64)
            return tf.raw_ops.IRFFT2D(input=spectrum, fft_length=size)

        opponent = tf.stack(_by_color(filtered, picture))
        return tf.einsum("khw,kc->hwc", opponent, _colors())[tf.newaxis]

    def norm(self, known: dict[str, tf.Tensor], picture: tf.Tensor) -> tf.Tensor:
        """The product of a picture with itself filtered, by Parseval's theorem."""
        gain = self._gain(known)
        sums = _by_color(
            lambda spectrum, color: tf.reduce_sum(_power(known, spectrum) * gain(color)), picture
        )
        return tf.add_n(sums) / tf.reduce_prod(tf.cast(tf.shape(picture)[1:3], tf.float32))

    def _gain(self, known: dict[str, tf.Tensor]) -> Callable[[int], tf.Tensor]:
        """The gain [H, W // 2 + 1] of each colour."""
        low_pass = known["low_pass"]
        if not self.learnt:
            return lambda _: low_pass
        steps, changes = known["steps"], known["changes"]
        there = (steps > 0) & (changes > 0)  # bands that the picture has, and something moved in
        ratios = tf.where(there, 0.5 * tf.math.log(tf.where(there, steps / changes, 1.0)), 0.0)
        mean = tf.reduce_sum(ratios) / tf.maximum(1.0, tf.reduce_sum(tf.cast(there, tf.float32)))
        learnt = tf.exp(self.learnt * tf.where(there, ratios - mean, 0.0))  # [bands, colours]
        is_early = known["pairs"] < PAIRS_TO_LEARN
        # early nothing is learnt, and the low-pass is all there is
        power = tf.where(is_early, 1.0, 1 - self.learnt)
        learnt = tf.unstack(tf.where(is_early, 1.0, learnt), len(COLORS), axis=1)
        return lambda color: low_pass**power * tf.gather(learnt[color], known["bands"])


def _by_color(find: Callable[[tf.Tensor, int], tf.Tensor], picture: tf.Tensor) -> list[tf.Tensor]:
    """What is found of the spectrum [H, W // 2 + 1] of each opponent colour; of one after another,
    for spectra are large."""
    size, found = tf.shape(picture)[1:3], []
    for number, color in enumerate(tf.unstack(_colors())):
        with tf.control_dependencies(found[-1:]):
            plane = tf.linalg.matvec(picture[0], color)
            found.append(find(tf.raw_ops.RFFT2D(input=plane, fft_length=size), number))
    return found


def _colors() -> tf.Tensor:
    return tf.constant(COLORS, tf.float32)


def _power(known: dict[str, tf.Tensor], spectrum: tf.Tensor) -> tf.Tensor:
    """[H, W // 2 + 1], |X|^2."""
    return tf.square(tf.abs(spectrum)) * known["counts"]


def _energies(known: dict[str, tf.Tensor], picture: tf.Tensor) -> tf.Tensor:
    """[bands, colours]"""
    bands = tf.reshape(known["bands"], [-1])

    def energies(spectrum: tf.Tensor, _: int) -> tf.Tensor:
        power = tf.reshape(_power(known, spectrum), [-1])
        return tf.math.unsorted_segment_sum(power, bands, BANDS)

    return tf.stack(_by_color(energies, picture), axis=1)


def _frequencies(height: int, width: int) -> np.ndarray:
    """[H, W // 2 + 1], cycles a pixel."""
    return np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))


def _bands(frequencies: np.ndarray) -> np.ndarray:
    """The band of each frequency, 0 to BANDS - 1: from two periods a side up, and all below."""
    lowest = 2 / max(frequencies.shape[0], 2 * frequencies.shape[1] - 2, 8)
    return np.searchsorted(np.geomspace(lowest, math.sqrt(0.5), BANDS)[:-1], frequencies, "right")
