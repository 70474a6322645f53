"""Winograd convolution: a 3x3 convolution in a quarter of the multiplications.

F(4x4, 3x3) of Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks": each tile
of 4x4 outputs is computed from 6x6 inputs with 36 products per pair of channels instead of 144. It
pays with many channels on a CPU; GPU libraries have their own.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import compilation, cpu
from neural_style_tf.network import device

TILE = 4
INPUT_TILE = TILE + 2  # side of the square of inputs that a tile of outputs depends on

# Where the polynomials are evaluated, besides infinity. The usual 0, 1, -1, 2, -2 have a rounding
# error 2.5 times as large. The set contains the inverse of each, which `TRANSPOSED` relies on.
POINTS = (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2))

# Measured: benchmarks/winograd.py. With 64 channels it is hardly faster than TensorFlow's own
# convolution and takes half as much memory again; with 128 it is clearly faster.
MIN_CHANNELS = 128
# With 128 channels the tiles of a larger picture would dominate the memory of the whole step.
MAX_POSITIONS = 1 << 16
# Compiling the transforms for a size takes about 0.1 s, more than 100 smaller steps would save.
MIN_POSITIONS = 320
# In bfloat16 it loses half a decimal digit more than TensorFlow's convolution. Gradients tolerate
# that, but of the features only those of the last layers do: otherwise 150 steps end at a loss that
# is 1.5 % higher (benchmarks/precision.py).
MIN_CHANNELS_BFLOAT16_FEATURES = 512


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T [6, 6], G [6, 3] and A^T [4, 6] float64 of Lavin and Gray eq. 8, by the method of Toom
    and Cook."""
    a = [[point**row for point in POINTS] + [Fraction(row == TILE - 1)] for row in range(TILE)]
    g: list[list[Fraction]] = []
    b: list[list[Fraction]] = []
    for point in POINTS:
        others = [other for other in POINTS if other != point]
        norm = math.prod((point - other for other in others), start=Fraction(1))
        g.append([point**power / norm for power in range(3)])
        b.append([*_polynomial(others), Fraction(0)])
    g.append([Fraction(0), Fraction(0), Fraction(1)])
    b.append(_polynomial(POINTS))
    return np.array(b, np.float64), np.array(g, np.float64), np.array(a, np.float64)


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the product of all (x - root), that of x^0 first."""
    coefficients = [Fraction(1)]
    for root in roots:
        higher, lower = [Fraction(0), *coefficients], [*coefficients, Fraction(0)]
        coefficients = [high - root * low for high, low in zip(higher, lower, strict=True)]
    return coefficients


def _transposed(
    inputs: np.ndarray, outputs: np.ndarray, kernel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """B^T and A^T that make a transformed kernel act as the kernel rotated by 180 degrees.

    As a polynomial the rotated kernel is x^2 k(1/x): its value at a point is that of k at the
    inverse of the point, times a factor.
    """
    inverse = [5, 3, 4, 1, 2, 0]  # of 0, 2/3, -2/3, 3/2, -3/2 and infinity
    rotated = kernel[:, ::-1]
    scale = (rotated * kernel[inverse]).sum(1) / (kernel[inverse] ** 2).sum(1)
    back = np.argsort(inverse)
    return (inputs * scale[:, np.newaxis])[back], outputs[:, back]


INPUTS, KERNEL, OUTPUTS = _matrices()
TRANSPOSED = _transposed(INPUTS, OUTPUTS, KERNEL)


def pays(shape: tf.TensorShape, kernel: tf.Tensor, is_backward: bool = False) -> bool:
    """Whether it is the faster way to convolve features of this shape, [1, h, w, channels], with a
    kernel [3, 3, in, out] in the kernel's type; is_backward: for a gradient [1, h, w, out]."""
    positions, fewest, most = shape[1] * shape[2], min(kernel.shape[2:]), max(kernel.shape[2:])
    is_worth_it = kernel.dtype == tf.float32
    if kernel.dtype == tf.bfloat16 and not cpu.multiplies_matrices():
        is_worth_it = is_backward or most >= MIN_CHANNELS_BFLOAT16_FEATURES
    return (
        is_worth_it
        and not device.is_gpu()
        and kernel.shape[:2] == (3, 3)
        and fewest >= MIN_CHANNELS
        and positions >= MIN_POSITIONS
        and (positions <= MAX_POSITIONS or most > MIN_CHANNELS)
    )


def transform_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """G k G^T [36, in, out] float32 of a kernel [3, 3, in, out] float32."""
    both = tf.constant(np.kron(KERNEL, KERNEL), tf.float32)  # [36, 9]
    transformed = both @ tf.reshape(kernel, (9, -1))
    return tf.reshape(transformed, (INPUT_TILE**2, *kernel.shape[2:]))


def convolve(image: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """The convolution of features [1, h, w, in] with zeros beyond the edge: [1, h, w, out].

    transformed: from `transform_kernel`, [36, in, out]; all are float32, or all bfloat16.
    """
    products = tf.matmul(_tiles_in(image, _tensor(INPUTS)), transformed)
    return _tiles_out(products, *image.shape[1:3], _tensor(OUTPUTS))


def convolve_transposed(image: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """The transposed convolution: the gradient of the output [1, h, w, out] -> that of the input
    [1, h, w, in]; transformed: the same as for `convolve`."""
    inputs, outputs = map(_tensor, TRANSPOSED)
    products = tf.matmul(_tiles_in(image, inputs), transformed, transpose_b=True)
    return _tiles_out(products, *image.shape[1:3], outputs)


def _tensor(matrix: np.ndarray) -> tf.Tensor:
    return tf.constant(matrix, tf.float32)


# XLA fuses each transform, in float32, into two passes over memory. Compiling one takes longer than
# it runs in many steps: the matrix is an argument so that forward and backward share a transform.


@compilation.compiled
def _tiles_in(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """B^T d B of every tile d of an image [1, h, w, channels]: [36, tiles, channels]; matrix:
    B^T."""
    height, width, channels = image.shape[1:]
    down, across = -(-height // TILE), -(-width // TILE)
    edges = [[1, TILE * (down + 1) - height - 1], [1, TILE * (across + 1) - width - 1], [0, 0]]
    rows = tf.pad(tf.cast(image[0], tf.float32), edges)
    rows = tf.reshape(rows, (down + 1, TILE, -1, channels))
    rows = tf.concat([rows[:-1], rows[1:, : INPUT_TILE - TILE]], 1)  # [down, 6, width, channels]
    columns = tf.reshape(_combined(matrix, rows, 1), (INPUT_TILE, down, across + 1, TILE, channels))
    columns = tf.concat([columns[:, :, :-1], columns[:, :, 1:, : INPUT_TILE - TILE]], 3)
    tiles = _combined(matrix, columns, 3)  # [6, 6, down, across, channels], columns first
    tiles = tf.cast(tf.transpose(tiles, (1, 0, 2, 3, 4)), image.dtype)
    return tf.reshape(tiles, (INPUT_TILE**2, down * across, channels))


@compilation.compiled
def _tiles_out(products: tf.Tensor, height: int, width: int, matrix: tf.Tensor) -> tf.Tensor:
    """A^T m A of every tile m of products [36, tiles, channels], joined to an image
    [1, h, w, channels]; matrix: A^T."""
    channels = products.shape[-1]
    down, across = -(-height // TILE), -(-width // TILE)
    tiles = tf.reshape(products, (INPUT_TILE, INPUT_TILE, down, across, channels))
    tiles = tf.cast(tiles, tf.float32)
    rows = _combined(matrix, tiles, 0)
    tiles = _combined(matrix, rows, 1)  # [4, 4, down, across, channels], columns first
    tiles = tf.transpose(tiles, (2, 1, 3, 0, 4))  # [down, 4, across, 4, channels]
    image = tf.reshape(tiles, (TILE * down, TILE * across, channels))[tf.newaxis, :height, :width]
    return tf.cast(image, products.dtype)


def _combined(matrix: tf.Tensor, terms: tf.Tensor, axis: int) -> tf.Tensor:
    """A matrix [m, n] times the axis of n terms: [m, the other axes]. `tf.matmul` would be
    slower."""
    shape = [1] * terms.shape.rank
    shape[axis] = matrix.shape[1]
    factors = tf.reshape(matrix, (-1, *shape))
    return tf.reduce_sum(factors * terms, axis + 1)
