"""Stacked: the direction of L-BFGS from all its pairs at once.

The two-loop recursion (Nocedal and Wright 2006, algorithm 7.4) is a chain of dot products, each of
which waits for the one before. Its scalars solve two triangular systems of the products s_i . y_j,
so that a few products of matrices serve all pairs. A GPU takes one kernel for each; a CPU, which is
limited by memory, would have to copy the pairs into a stack first.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def direction(
    displacements: tf.Tensor,
    changes: tf.Tensor,
    curvatures: tf.Tensor,
    gradient: tf.Tensor,
    precondition: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """The inverse Hessian times the gradient [1, H, W, 3].

    displacements, changes: [pairs, values] float32, the newest first. curvatures: [pairs], their
    dot products, 0 for an empty pair. precondition: the inverse Hessian without pairs, which takes
    and returns a picture.

    With D_ij = s_i . y_j where pair i is the older one, and the curvatures in its diagonal, the
    scalars of the first loop solve D a = S g, and those of the second D^T c = diag(D) a - Y r.
    """
    is_full = curvatures > 0
    products = tf.matmul(displacements, changes, transpose_b=True)
    both = is_full[:, tf.newaxis] & is_full
    products = tf.where(both, products, 0.0)
    diagonal = tf.where(is_full, curvatures, 1.0)
    products = tf.cast(tf.linalg.set_diag(products, diagonal), tf.float64)
    column = tf.reshape(gradient, (-1, 1))
    along = _full(is_full, tf.matmul(displacements, column))
    first = tf.linalg.triangular_solve(products, along)
    rest = column - tf.matmul(changes, tf.cast(first, tf.float32), transpose_a=True)
    scaled = precondition(tf.reshape(rest, tf.shape(gradient)))
    column = tf.reshape(scaled, (-1, 1))
    along = _full(is_full, tf.matmul(changes, column))
    right = tf.cast(diagonal, tf.float64)[:, tf.newaxis] * first - along
    second = tf.linalg.triangular_solve(products, right, adjoint=True)
    column += tf.matmul(displacements, tf.cast(second, tf.float32), transpose_a=True)
    return tf.reshape(column, tf.shape(gradient))


def _full(is_full: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """[pairs, 1] float64, 0 for empty pairs."""
    return tf.cast(tf.where(is_full[:, tf.newaxis], column, 0.0), tf.float64)


def with_pair(has_new: tf.Tensor, new: tf.Tensor, pictures: list[tf.Tensor]) -> tf.Tensor:
    """[pairs, 1, H, W, 3]: the pictures, the newest first; if there is a new one with that in front
    and without the oldest. A copy, for which nothing waits."""
    # int64, as TensorFlow keeps shorter indices on the host
    numbers = tf.range(len(pictures), dtype=tf.int64) + tf.cast(~has_new, tf.int64)
    return tf.gather(tf.stack([new, *pictures]), numbers)


def chosen(condition: tf.Tensor, first: Any, second: Any) -> Any:
    """One of two structures of tensors; a copy, for which nothing waits."""
    return tf.nest.map_structure(lambda *both: tf.where(condition, *both), first, second)


def taken(condition: tf.Tensor, first: Any, second: Any) -> Any:
    """The same without a copy; the host waits for the condition."""
    return tf.cond(condition, lambda: first, lambda: second)


def rows(stack: tf.Tensor) -> tf.Tensor:
    """[pairs, values] of a stack of pictures."""
    return tf.reshape(stack, (tf.shape(stack)[0], -1))
