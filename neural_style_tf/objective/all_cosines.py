"""All cosines: `nearest` and `nearest_of` of nearest.py for a GPU.

It computes all of them in less time than bounds take on the host, and only the result goes there.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import precision

BLOCK = 2**25  # numbers that are held at a time, a few times over

Found = tuple[tf.Tensor, tf.Tensor]  # cosines and indices, [n] float32 and [n] int32


def nearest(
    queries: np.ndarray, columns: np.ndarray, equal: float
) -> tuple[np.ndarray, np.ndarray]:
    """See nearest.py. equal: cosines that differ by less are equal."""
    keys = tf.constant(columns)
    count = len(columns)

    def look_up(part: slice) -> Found:
        cosines = tf.matmul(_of_length_1(queries[part]), keys, transpose_b=True)
        best = tf.reduce_max(cosines, 1, keepdims=True)
        first = tf.reduce_min(tf.where(cosines >= best - equal, tf.range(count), count), 1)
        # of a query that is not finite no column is nearest
        return tf.where(first < count, best[:, 0], 0.0), first % count

    return _by_parts(look_up, len(queries), count)


def nearest_of(
    queries: np.ndarray,
    columns: np.ndarray,
    candidates: np.ndarray,
    outside: np.ndarray,
    equal: float,
) -> tuple[np.ndarray, np.ndarray]:
    """See nearest.py, but candidates that are outside are columns, too."""
    keys = tf.constant(columns)

    def look_up(part: slice) -> Found:
        own = tf.constant(candidates[part], tf.int32)
        cosines = tf.einsum("qc,qkc->qk", _of_length_1(queries[part]), tf.gather(keys, own))
        cosines = tf.where(outside[part], -2.0, cosines)
        best = tf.reduce_max(cosines, 1, keepdims=True)
        first = tf.reduce_min(tf.where(cosines >= best - equal, own, len(columns)), 1)
        return best[:, 0], first

    return _by_parts(look_up, len(queries), candidates.shape[1] * columns.shape[1])


def _by_parts(
    look_up: Callable[[slice], Found], queries: int, values: int
) -> tuple[np.ndarray, np.ndarray]:
    """What is found for each query, as many at a time as `BLOCK` allows, with so many values each.
    In float32: with factors in TF32 other columns would be equal."""
    size = max(1, BLOCK // values)
    parts = [slice(first, first + size) for first in range(0, queries, size)]
    with precision.without_tf32():
        found = [[each.numpy() for each in look_up(part)] for part in parts]
    cosines, indices = zip(*found, strict=True)
    return np.concatenate(cosines), np.concatenate(indices)


def _of_length_1(queries: np.ndarray) -> tf.Tensor:
    own = tf.constant(queries)
    squares = tf.reduce_sum(tf.square(own), 1, keepdims=True)
    return own / tf.sqrt(tf.maximum(squares, 1e-12))
