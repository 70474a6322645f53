"""Nearest: queries and columns -> which column is nearest to each query, by cosine; exactly.

Most of a column lies in a few directions. The product of two columns of length 1 is that of their
coordinates in these, and at most the product of the lengths of what remains (Cauchy and Schwarz)
more. So with the length as one more coordinate, a product of a seventh of the values is an upper
bound. The cosine with the column of the greatest bound is a lower bound of the best; only the
columns whose upper bound reaches it, ten to thirty of 10,000 or 40,000, are compared in full.

Cosines that differ by less than `EQUAL` are equal: rounding may make them so, and it differs
between machines, sizes of blocks and precisions. The first of equally near columns is taken.
"""

import numpy as np
import tensorflow as tf

BLOCK = 2**23  # cosines that are compared at a time
EQUAL = 2**-18  # about ten times what rounding in float32 makes of a cosine
# With fewer cosines, columns are compared in full, which takes no longer.
MANY_COSINES = 2**25
DIRECTIONS = 255  # with the rest 256 coordinates: odd numbers of them take longer
SAMPLE = 2048  # of the queries, and of the columns, which these directions fit best
ROWS = 4096  # of a product that are computed at a time
ROUNDS = 2  # of finding them
PAIRS = 512  # of columns that are compared at a time, so that they stay in the processor's cache
# From this share of all columns on, it is quicker to compare a query with all of them.
SHARE_OF_PAIRS = 1 / 64
# What a GPU rounds the factors of a product in float32 to, relative to their size.
ROUNDED = 2**-11
SMALLEST_REST = 1e-6  # added to squared lengths in float32, so that they are not too small


def nearest(
    queries: np.ndarray, columns: np.ndarray, dtype: tf.DType
) -> tuple[np.ndarray, np.ndarray]:
    """The cosine of each query [n, channels] with the nearest of the columns [m, channels], which
    have length 1, and its index; the first of equally near ones. [n] float32 and [n] int32.

    dtype: of the bounds. Whatever it is, the result is the same.
    """
    dtype = dtype if dtype == tf.bfloat16 else tf.float32  # sums in float16 are too rough
    directions = _directions(queries, columns)
    keys, error_of_keys = _rounded(_coordinates(columns, directions), dtype)
    keys = tf.transpose(keys)  # once, and not for each block
    rows = max(1, BLOCK // len(columns))
    cosines, indices = np.empty(len(queries), np.float32), np.empty(len(queries), np.int32)
    for first in range(0, len(queries), rows):
        part = slice(first, first + rows)
        block = _of_length_1(queries[part])
        coordinates, error = _rounded(_coordinates(block, directions), dtype)
        bounds = tf.cast(tf.matmul(coordinates, keys), tf.float32)
        greatest = tf.argmax(bounds, -1).numpy()
        reached = _products(block, columns, np.arange(len(block)), greatest)
        # the product is rounded, too
        reached -= EQUAL + error + error_of_keys + max(ROUNDED, _roundoff(dtype))
        is_open = bounds >= reached[:, np.newaxis]
        cosines[part], indices[part] = _among(block, columns, is_open.numpy())
    return cosines, indices


def nearest_of(
    queries: np.ndarray,
    columns: np.ndarray,
    candidates: np.ndarray,
    outside: np.ndarray,
    otherwise: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest`, of each query's own candidates [n, candidates]. outside: which of them do not
    count. otherwise: the index for a query that has none."""
    candidates = np.where(outside, otherwise, candidates).astype(np.int32)
    rows = max(1, BLOCK // (candidates.shape[1] * columns.shape[1]))
    cosines, indices = [], []
    for first in range(0, len(queries), rows):
        part = slice(first, first + rows)
        block = _of_length_1(queries[part])
        near = np.einsum("qc,qkc->qk", block, columns[candidates[part]])
        near = np.where(outside[part], -2.0, near)
        best = near.max(1)
        is_near = near >= best[:, np.newaxis] - EQUAL
        cosines.append(best)
        indices.append(np.where(is_near, candidates[part], len(columns)).min(1))
    return np.concatenate(cosines), np.concatenate(indices)


def _directions(queries: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    """Orthogonal directions [channels, DIRECTIONS] in which most of queries and columns lies; None
    if these are compared in full. Halko et al. 2011, "Finding Structure with Randomness",
    algorithm 4.4."""
    channels = columns.shape[1]
    if len(queries) * len(columns) < MANY_COSINES or channels < 2 * DIRECTIONS:
        return None
    some = [_of_length_1(each[:: -(-len(each) // SAMPLE)]) for each in (queries, columns)]
    sample = np.concatenate([each / np.sqrt(np.float32(len(each))) for each in some])
    directions = np.random.default_rng(0).normal(size=(channels, DIRECTIONS)).astype(np.float32)
    for _ in range(ROUNDS):
        directions = np.linalg.qr(_product(sample.T, _product(sample, directions))).Q
    return directions


def _coordinates(columns: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
    """Of columns [n, channels] in these directions, and the length of the rest of each,
    [n, directions + 1]; without directions the columns."""
    if directions is None:
        return columns
    result = np.empty((len(columns), directions.shape[1] + 1), np.float32)
    _product(columns, directions, result[:, :-1])
    rest = _squares(columns) - _squares(result[:, :-1])
    result[:, -1] = np.sqrt(np.maximum(rest, 0) + SMALLEST_REST)
    return result


def _rounded(coordinates: np.ndarray, dtype: tf.DType) -> tuple[tf.Tensor, float]:
    """Coordinates in that type, and how far they are from what they were, at most."""
    exact = tf.constant(coordinates)
    low = tf.cast(exact, dtype)
    error = tf.reduce_max(tf.norm(tf.cast(low, tf.float32) - exact, axis=-1))
    return low, max(float(error), ROUNDED)


def _roundoff(dtype: tf.DType) -> float:
    return 2**-8 if dtype == tf.bfloat16 else 2**-24


def _product(left: np.ndarray, right: np.ndarray, result: np.ndarray | None = None) -> np.ndarray:
    """Of two matrices, in `result` if there is one. Some rows of the left one at a time, since
    TensorFlow copies them; on the CPU, as GPUs round their factors."""
    if result is None:
        result = np.empty((len(left), right.shape[1]), np.float32)
    with tf.device("CPU"):
        factors = tf.constant(right)
        for first in range(0, len(left), ROWS):
            rows = slice(first, first + ROWS)
            result[rows] = np.asarray(tf.matmul(tf.constant(left[rows]), factors))
    return result


def _of_length_1(columns: np.ndarray) -> np.ndarray:
    return columns / np.sqrt(np.maximum(_squares(columns), 1e-12))[:, np.newaxis]


def _squares(columns: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nc->n", columns, columns)


def _products(
    queries: np.ndarray, columns: np.ndarray, rows: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Of pairs of a query and a column, [n]; rows, keys: [n], their indices."""
    parts = [slice(first, first + PAIRS) for first in range(0, len(rows), PAIRS)]
    pairs = ((queries[rows[part]], columns[keys[part]]) for part in parts)
    return np.concatenate([np.einsum("nc,nc->n", *pair) for pair in pairs])


def _among(
    queries: np.ndarray, columns: np.ndarray, is_open: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest`, among the columns that are open for a query, [n, m] bool. queries: of length 1."""
    cosines, indices = np.empty(len(queries), np.float32), np.empty(len(queries), np.int32)
    rows, keys = np.divmod(np.flatnonzero(is_open), len(columns))
    counts = np.bincount(rows, minlength=len(queries))
    many = counts > max(1, SHARE_OF_PAIRS * len(columns))
    if many.any():  # where the picture is flat, as much of the painting may be
        products = _product(columns, queries[many].T).T
        cosines[many] = products.max(1)
        near = products >= cosines[many, np.newaxis] - EQUAL
        indices[many] = near.argmax(1)
    if not many.all():
        few = ~many[rows]
        rows, keys, counts = rows[few], keys[few], counts[~many]
        products = _products(queries, columns, rows, keys)
        cosines[~many] = np.maximum.reduceat(products, np.cumsum(counts) - counts)
        near = products >= cosines[rows] - EQUAL
        rows, first = np.unique(rows[near], return_index=True)
        indices[rows] = keys[near][first]
    return cosines, indices
