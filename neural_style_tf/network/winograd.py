"""Winograd convolution: a 3x3 convolution in a quarter of the multiplications.

F(4x4, 3x3) of Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks": every tile
of 4x4 results comes from 6x6 values, by 36 products a channel pair instead of 144. Worth it with
many channels, on a CPU; a GPU's own library has it built in.
"""

from fractions import Fraction

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import cpu

TILE = 4
REACH = TILE + 2  # values a side that a tile of results is made from

# Where the polynomials are evaluated, besides infinity. The usual 0, 1, -1, 2, -2 lose two and a
# half times as many digits. As a set these are their own inverses, which `TRANSPOSED` rests on.
POINTS = (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2))

# From here on it is faster than TensorFlow's own convolution: half as fast again, and with 256
# channels more than twice as fast. With 64 it is a tenth faster, for half as much memory again.
FEWEST_CHANNELS = 128
# With so few channels either way the tiles of a larger picture would be the most that it holds.
MOST_PLACES = 1 << 16
# To compile the transforms for a size takes a tenth of a second: below, 100 steps hardly earn it.
FEWEST_PLACES = 320
# In bfloat16 it has half a digit less than TensorFlow's. A gradient can do without; of the features
# only the last: if all did, 150 steps would end at a loss that is 1.5 % higher.
FEWEST_CHANNELS_OF_FEATURES = 512


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T [6, 6], G [6, 3] and A^T [4, 6] of Lavin and Gray eq. 8, by Cook and Toom's method."""
    a = [[point**row for point in POINTS] + [Fraction(row == TILE - 1)] for row in range(TILE)]
    g, b = [], []
    for point in POINTS:
        others = [other for other in POINTS if other != point]
        norm = Fraction(np.prod([point - other for other in others]))
        g.append([point**power / norm for power in range(3)])
        b.append([*_polynomial(others), 0])
    g.append([0, 0, 1])
    b.append(_polynomial(POINTS))
    return tuple(np.array(matrix, np.float64) for matrix in (b, g, a))


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of (x - root) (x - root) ..., from that of x^0 on."""
    coefficients = [Fraction(1)]
    for root in roots:
        higher, lower = [0, *coefficients], [*coefficients, 0]
        coefficients = [high - root * low for high, low in zip(higher, lower, strict=True)]
    return coefficients


def _transposed(
    inputs: np.ndarray, outputs: np.ndarray, kernel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """B^T and A^T with which a transformed kernel serves as the same kernel turned by 180 degrees.

    k turned is x^2 k(1/x): its value at a point is k's at the inverse of the point, scaled.
    """
    inverse = [5, 3, 4, 1, 2, 0]  # of 0, 2/3, -2/3, 3/2, -3/2 and infinity
    turned = kernel[:, ::-1]
    scale = (turned * kernel[inverse]).sum(1) / (kernel[inverse] ** 2).sum(1)
    back = np.argsort(inverse)
    return (inputs * scale[:, np.newaxis])[back], outputs[:, back]


INPUTS, KERNEL, OUTPUTS = _matrices()
TRANSPOSED = _transposed(INPUTS, OUTPUTS, KERNEL)


def pays(shape: tf.TensorShape, kernel: tf.Tensor, is_backward: bool = False) -> bool:
    """Whether this is the better way for a convolution of [1, h, w, channels] with a kernel
    [h, w, in, out], forward or backward, in the type of the kernel."""
    places, fewest, most = shape[1] * shape[2], min(kernel.shape[2:]), max(kernel.shape[2:])
    is_worth_it = kernel.dtype == tf.float32
    if kernel.dtype == tf.bfloat16 and not cpu.multiplies_matrices():
        is_worth_it = is_backward or most >= FEWEST_CHANNELS_OF_FEATURES
    return (
        is_worth_it
        and not tf.config.list_logical_devices("GPU")
        and kernel.shape[:2] == (3, 3)
        and fewest >= FEWEST_CHANNELS
        and places >= FEWEST_PLACES
        and (places <= MOST_PLACES or most > FEWEST_CHANNELS)
    )


def transform_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """G k G^T of a kernel [3, 3, in, out] float32: [36, in, out]."""
    both = tf.constant(np.kron(KERNEL, KERNEL), tf.float32)  # [36, 9]
    transformed = both @ tf.reshape(kernel, (9, -1))
    return tf.reshape(transformed, (REACH**2, *kernel.shape[2:]))


def convolve(image: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """The convolution of [1, h, w, in], zeros beyond its edge: [1, h, w, out]; all of one type,
    float32 or bfloat16."""
    products = tf.matmul(_tiles_in(image, _tensor(INPUTS)), transformed)
    return _tiles_out(products, *image.shape[1:3], _tensor(OUTPUTS))


def convolve_transposed(image: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """The transposed convolution, which takes a gradient [1, h, w, out] back: [1, h, w, in]."""
    inputs, outputs = map(_tensor, TRANSPOSED)
    products = tf.matmul(_tiles_in(image, inputs), transformed, transpose_b=True)
    return _tiles_out(products, *image.shape[1:3], outputs)


def _tensor(matrix: np.ndarray) -> tf.Tensor:
    return tf.constant(matrix, tf.float32)


# XLA fuses each transform, in float32, into two passes over memory. To compile one takes longer
# than it runs in many steps: so they are given their matrix, and both ways of a convolution share
# them.


@tf.function(jit_compile=True, autograph=False)
def _tiles_in(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """B^T d B of every tile d of [1, h, w, channels]: [36, tiles, channels]; matrix: B^T."""
    height, width, channels = image.shape[1:]
    down, across = -(-height // TILE), -(-width // TILE)
    edges = [[1, TILE * (down + 1) - height - 1], [1, TILE * (across + 1) - width - 1], [0, 0]]
    rows = tf.pad(tf.cast(image[0], tf.float32), edges)
    rows = tf.reshape(rows, (down + 1, TILE, -1, channels))
    rows = tf.concat([rows[:-1], rows[1:, : REACH - TILE]], 1)  # [down, 6, width, channels]
    columns = tf.reshape(_combined(matrix, rows, 1), (REACH, down, across + 1, TILE, channels))
    columns = tf.concat([columns[:, :, :-1], columns[:, :, 1:, : REACH - TILE]], 3)
    tiles = _combined(matrix, columns, 3)  # [6, 6, down, across, channels], columns first
    tiles = tf.cast(tf.transpose(tiles, (1, 0, 2, 3, 4)), image.dtype)
    return tf.reshape(tiles, (REACH**2, down * across, channels))


@tf.function(jit_compile=True, autograph=False)
def _tiles_out(products: tf.Tensor, height: int, width: int, matrix: tf.Tensor) -> tf.Tensor:
    """A^T m A of every tile m of [36, tiles, channels], put together: [1, h, w, channels]; matrix:
    A^T."""
    channels = products.shape[-1]
    down, across = -(-height // TILE), -(-width // TILE)
    tiles = tf.cast(tf.reshape(products, (REACH, REACH, down, across, channels)), tf.float32)
    rows = _combined(matrix, tiles, 0)
    tiles = _combined(matrix, rows, 1)  # [4, 4, down, across, channels], columns first
    tiles = tf.transpose(tiles, (2, 1, 3, 0, 4))  # [down, 4, across, 4, channels]
    image = tf.reshape(tiles, (TILE * down, TILE * across, channels))[tf.newaxis, :height, :width]
    return tf.cast(image, products.dtype)


def _combined(matrix: tf.Tensor, terms: tf.Tensor, axis: int) -> tf.Tensor:
    """Matrix [m, n] times an axis of n terms: m first, then the other axes. As a product of
    matrices it would be slower."""
    shape = [1] * terms.shape.rank
    shape[axis] = matrix.shape[1]
    factors = tf.reshape(matrix, (-1, *shape))
    return tf.reduce_sum(factors * terms, axis + 1)
