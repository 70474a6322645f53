"""All cosines: `nearest` and `nearest_of` of nearest.py for a GPU.

It should compute all of them in less time than bounds take on the host. Only the result goes there.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import precision

BLOCK = 2**25  # numbers that are held at a time, a few times over

# Cosines and indices, [n] float32: TensorFlow compares integers of 32 bits on the host. There are
# fewer than 2^24 columns.
Found = tuple[tf.Tensor, tf.Tensor]


def nearest(
    queries: np.ndarray, columns: np.ndarray, equal: float
) -> tuple[np.ndarray, np.ndarray]:
    """See nearest.py. queries: of length 1. equal: cosines that differ by less are equal."""
    keys, count = tf.constant(columns), len(columns)
    positions = tf.range(count, dtype=tf.float32)

    def look_up(part: slice) -> Found:
        cosines = tf.matmul(tf.constant(queries[part]), keys, transpose_b=True)
        best, first = _first_of_best(cosines, positions, count, equal)
        is_found = first < count  # not if the query is not finite
        return tf.where(is_found, best, 0.0), tf.where(is_found, first, 0.0)

    return _by_parts(look_up, len(queries), max(columns.shape))


def nearest_of(
    queries: np.ndarray,
    columns: np.ndarray,
    candidates: np.ndarray,
    outside: np.ndarray,
    equal: float,
) -> tuple[np.ndarray, np.ndarray]:
    """See nearest.py. queries: of length 1. candidates: those that are outside are indices, too,
    but do not count."""
    keys = tf.constant(columns)

    def look_up(part: slice) -> Found:
        near = tf.gather(keys, tf.constant(candidates[part]))
        cosines = tf.einsum("qc,qkc->qk", tf.constant(queries[part]), near)
        cosines = tf.where(outside[part], -2.0, cosines)
        own = tf.constant(candidates[part], tf.float32)
        return _first_of_best(cosines, own, len(columns), equal)

    return _by_parts(look_up, len(queries), candidates.shape[1] * columns.shape[1])


def _first_of_best(cosines: tf.Tensor, indices: tf.Tensor, count: int, equal: float) -> Found:
    """The greatest cosine of each query, and the lowest index of those that are equal to it;
    `count` if none is. cosines: [n, columns]. indices: of these, [columns] or [n, columns]."""
    best = tf.reduce_max(cosines, 1, keepdims=True)
    return best[:, 0], tf.reduce_min(tf.where(cosines >= best - equal, indices, float(count)), 1)


def _by_parts(
    look_up: Callable[[slice], Found], queries: int, values: int
) -> tuple[np.ndarray, np.ndarray]:
    """What is found for each query. values: that one of them takes; `BLOCK` limits how many are
    looked up at a time. In float32: with factors in TF32 other columns would be equal."""
    size = max(1, BLOCK // values)
    parts = [slice(first, first + size) for first in range(0, queries, size)]
    with precision.without_tf32():
        found = [[each.numpy() for each in look_up(part)] for part in parts]
    cosines, indices = zip(*found, strict=True)
    return np.concatenate(cosines), np.concatenate(indices).astype(np.int32)
