"""Nearest: queries and columns -> which column is nearest to each query, by cosine; exactly.

Most of a column lies in a few directions. The product of two columns of length 1 is that of their
coordinates in these, and at most the product of the lengths of what remains (Cauchy and Schwarz)
more. So with the length as one more coordinate, a product over a seventh of the values is an upper
bound, and one over a third of them is a closer one. The cosine with any column is a lower bound of
the best; only columns whose upper bounds reach it, about ten of 10,000 or 40,000, are compared in
full.

Cosines that differ by less than `EQUAL` are equal: rounding may make them so, and it differs
between machines, sizes of blocks and precisions. The first of equally near columns is taken.

A GPU compares all columns in full, which should take less time there (all_cosines.py).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from neural_style_tf.machine import cpu, memory, tensorflow_setup
from neural_style_tf.network import device
from neural_style_tf.objective import all_cosines

BLOCK = 2**22  # cosines that are compared at a time
KEYS = 4096  # columns of a block: many queries at a time make the product of matrices faster
EQUAL = 2**-18  # about ten times what rounding in float32 makes of a cosine
# With fewer cosines, columns are compared in full, which takes no longer.
MANY_COSINES = 2**25
# Of the bounds of all, and of the closer ones of those that these leave. With the rest they have
# 256 and 512 coordinates: odd numbers of them take longer.
DIRECTIONS = (255, 511)
SAMPLE = 2048  # of the queries, and of the columns, which these directions fit best
STEP = 4  # every fourth column is compared first, which tells what the others have to reach
ROWS = 4096  # of a product that are computed at a time
ROUNDS = 2  # of finding them
MOST_THREADS = 4  # each holds a block, and its pairs
PAIRS = 512  # of columns that are compared at a time, so that they stay in the processor's cache
# From this share of all columns on, it is quicker to compare a query with all of them than by
# closer bounds, and takes less memory.
SHARE_OF_PAIRS = 1 / 16
# What a GPU rounds the factors of a product in float32 to, relative to their size.
ROUNDED = 2**-11
SMALLEST_REST = 1e-6  # added to squared lengths in float32, so that they are not too small

Result = TypeVar("Result")


class Pairs(NamedTuple):
    """Queries and columns to compare, in the order of the queries."""

    rows: np.ndarray  # [n] integers, which query
    keys: np.ndarray  # [n] integers, which column

    def where(self, chosen: np.ndarray) -> "Pairs":
        """Those that are chosen: [n] bool, or their positions."""
        return Pairs(self.rows[chosen], self.keys[chosen])

    def first(self) -> np.ndarray:
        """The position of each query's first pair."""
        return np.flatnonzero(np.diff(self.rows, prepend=-1))

    def greatest(self, values: np.ndarray) -> np.ndarray:
        """The position of each query's greatest value, the first of equal ones. values: [n]."""
        starts = self.first()
        best = np.repeat(np.maximum.reduceat(values, starts), np.diff(starts, append=len(values)))
        at = np.flatnonzero(values >= best)
        return at[self.where(at).first()]


def nearest(
    queries: np.ndarray, columns: np.ndarray, dtype: tf.DType
) -> tuple[np.ndarray, np.ndarray]:
    """The cosine of each query [n, channels] with the nearest of the columns [m, channels], which
    have length 1, and its index; the first of equally near ones. [n] float32 and [n] int32.

    dtype: of the bounds. Whatever it is, the result is the same.
    """
    found = _on_gpu(columns, lambda: all_cosines.nearest(_of_length_1(queries), columns, EQUAL))
    return found or _by_bounds(queries, columns, dtype)


def _on_gpu(columns: np.ndarray, search: Callable[[], Result]) -> Result | None:
    """What the search returns; None without a GPU, and if the columns exceed its memory, or their
    values what 32 bits can count."""
    if not device.is_gpu() or columns.size > np.iinfo(np.int32).max:
        return None
    try:
        return search()
    except Exception as error:
        if not memory.ran_out(error):
            raise
    return None


def _by_bounds(
    queries: np.ndarray, columns: np.ndarray, dtype: tf.DType
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest`; see above."""
    dtype = dtype if dtype == tf.bfloat16 else tf.float32  # sums in float16 are too rough
    directions = _directions(queries, columns)
    close = _coordinates(columns, directions)
    rough, error_of_keys = _rounded(_shortened(close, directions), dtype)
    keys = _keys(rough)
    step = 1 if directions is None else STEP
    some = _keys(rough[::step])
    cosines, indices = np.zeros(len(queries), np.float32), np.zeros(len(queries), np.int32)

    def look_up(part: slice) -> None:
        block = _of_length_1(queries[part])
        own = _coordinates(block, directions)
        coordinates, error = _rounded(_shortened(own, directions), dtype)
        first = step * _with_greatest_bound(coordinates, some)
        reached = _products(block, columns, Pairs(np.arange(len(block)), first))
        # the product is rounded, too
        margin = EQUAL + error + error_of_keys + max(ROUNDED, _roundoff(dtype))
        pairs, many = _open(coordinates, keys, reached - margin, SHARE_OF_PAIRS * len(columns))
        if directions is not None and len(pairs.rows):
            bounds = _products(own, close, pairs)
            best = pairs.where(pairs.greatest(bounds))
            reached[best.rows] = np.maximum(reached[best.rows], _products(block, columns, best))
            pairs = pairs.where(bounds >= reached[pairs.rows] - 4 * EQUAL)
        cosines[part], indices[part] = _among(block, columns, pairs, many)

    _each(look_up, _parts(len(queries), max(1, BLOCK // min(KEYS, len(columns)))))
    return cosines, indices


def _keys(coordinates: tf.Tensor) -> list[tf.Tensor]:
    """Coordinates of columns, `KEYS` columns at a time; transposed once, and not for each block."""
    return [tf.transpose(coordinates[part]) for part in _parts(len(coordinates), KEYS)]


def _with_greatest_bound(coordinates: tf.Tensor, keys: list[tf.Tensor]) -> np.ndarray:
    """The index of the column with the greatest bound, for each query."""
    queries = np.arange(len(coordinates))
    greatest, indices, before = [], [], 0
    for part in keys:
        bounds = _in_order(tf.matmul(coordinates, part))
        at = bounds.argmax(-1)
        greatest.append(bounds[queries, at])
        indices.append(before + at)
        before += part.shape[1]
    return np.stack(indices)[np.argmax(greatest, 0), queries]


def _in_order(bounds: tf.Tensor) -> np.ndarray:
    """Numbers that are in the same order as the positive ones of these, and below them elsewhere.
    NumPy compares bfloat16 one at a time, and the integers with the same bits many at a time."""
    values = np.asarray(bounds)  # not `.numpy()`, which is a copy
    return values.view(np.int16) if bounds.dtype == tf.bfloat16 else values


def _least_in_order(wanted: np.ndarray, dtype: tf.DType) -> np.ndarray:
    """The least that a bound of that type, `_in_order`, has to be to reach what is wanted, [n]
    float32. Any is enough for what is not positive, and none for what is not a number."""
    if dtype != tf.bfloat16:
        return wanted
    rounded_up = -(-wanted.astype(np.float32).view(np.int32) >> 16)
    limits = np.iinfo(np.int16)
    least = np.where(np.isnan(wanted), limits.max, np.minimum(rounded_up, limits.max))
    return np.where(wanted <= 0, limits.min, least).astype(np.int16)


def _open(
    coordinates: tf.Tensor, keys: list[tf.Tensor], wanted: np.ndarray, most: float
) -> tuple[Pairs, np.ndarray]:
    """The columns whose bounds reach what is wanted, [queries]; and which queries have more than
    `most` of these, [queries] bool, of which no pairs are listed.

    coordinates: [queries, directions]. keys: those of the columns, [directions, n] each.
    """
    counts = np.zeros(len(wanted), int)
    rows, columns, before = [], [], 0
    least = _least_in_order(wanted, coordinates.dtype)
    beyond_reach = np.inf if least.dtype == np.float32 else np.iinfo(np.int16).max
    for part in keys:
        bounds = _in_order(tf.matmul(coordinates, part))
        is_open = bounds >= np.where(counts > most, beyond_reach, least)[:, np.newaxis]
        row, column = np.divmod(np.flatnonzero(is_open), part.shape[1])
        counts += np.bincount(row, minlength=len(wanted))
        rows.append(row.astype(np.int32))
        columns.append((column + before).astype(np.int32))
        before += part.shape[1]
    pairs = Pairs(np.concatenate(rows), np.concatenate(columns))
    many = counts > most
    pairs = pairs.where(~many[pairs.rows])
    return pairs.where(np.argsort(pairs.rows, kind="stable")), many


def _each(function: Callable[[slice], None], parts: list[slice]) -> None:
    """Calls the function with each part, several at a time: most of its time is spent in NumPy,
    which uses one thread."""
    own = tf.config.threading.get_intra_op_parallelism_threads()  # if a script has set it
    count = own or tensorflow_setup.threads_of_environment() or cpu.threads()
    device = tf.zeros(()).device  # which a new thread does not inherit

    def on_device(part: slice) -> None:
        with tf.device(device):
            function(part)

    pool = ThreadPoolExecutor(min(count, MOST_THREADS))
    try:
        for _ in pool.map(on_device, parts):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


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
    found = _on_gpu(
        columns,
        lambda: all_cosines.nearest_of(_of_length_1(queries), columns, candidates, outside, EQUAL),
    )
    if found:
        return found
    cosines, indices = np.empty(len(queries), np.float32), np.empty(len(queries), np.int32)

    def look_up(part: slice) -> None:
        block = _of_length_1(queries[part])
        near = np.einsum("qc,qkc->qk", block, columns[candidates[part]])
        near = np.where(outside[part], -2.0, near)
        cosines[part] = near.max(1)
        is_near = near >= cosines[part, np.newaxis] - EQUAL
        indices[part] = np.where(is_near, candidates[part], len(columns)).min(1)

    _each(look_up, _parts(len(queries), max(1, BLOCK // (candidates.shape[1] * columns.shape[1]))))
    return cosines, indices


def _parts(number: int, size: int) -> list[slice]:
    """A number of rows in parts of at most that size."""
    return [slice(first, first + size) for first in range(0, number, size)]


def _directions(queries: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    """Orthogonal directions [channels, n] in which most of queries and columns lies, most of all in
    the first of them; None if these are compared in full. Halko et al. 2011, "Finding Structure
    with Randomness", algorithm 4.4."""
    channels, count = columns.shape[1], DIRECTIONS[1]
    if len(queries) * len(columns) < MANY_COSINES or channels < 2 * count:
        return None
    some = [_of_length_1(each[:: -(-len(each) // SAMPLE)]) for each in (queries, columns)]
    sample = np.concatenate([each / np.sqrt(np.float32(len(each))) for each in some])
    directions = np.random.default_rng(0).normal(size=(channels, count)).astype(np.float32)
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


def _shortened(coordinates: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
    """The coordinates in the first directions alone, and the length of all the rest."""
    if directions is None:
        return coordinates
    few, rest = np.split(coordinates, DIRECTIONS[:1], axis=1)
    return np.concatenate([few, np.sqrt(_squares(rest))[:, np.newaxis]], 1)


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
        for rows in _parts(len(left), ROWS):
            result[rows] = np.asarray(tf.matmul(tf.constant(left[rows]), factors))
    return result


def _of_length_1(columns: np.ndarray) -> np.ndarray:
    return columns / np.sqrt(np.maximum(_squares(columns), 1e-12))[:, np.newaxis]


def _squares(columns: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nc->n", columns, columns)


def _products(queries: np.ndarray, columns: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Of pairs of a query and a column, [n]."""
    parts = _parts(len(pairs.rows), PAIRS)
    if not parts:
        return np.zeros(0, np.float32)
    some = ((queries[pairs.rows[part]], columns[pairs.keys[part]]) for part in parts)
    return np.concatenate([np.einsum("nc,nc->n", *pair) for pair in some])


def _among(
    queries: np.ndarray, columns: np.ndarray, pairs: Pairs, many: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest`, among the columns of these pairs, of queries of length 1. many: which queries are
    compared with all columns instead, [n] bool."""
    cosines, indices = np.zeros(len(queries), np.float32), np.zeros(len(queries), np.int32)
    # where the picture is flat, as much of the painting may be
    for part in _parts(int(many.sum()), max(1, 2 * BLOCK // len(columns))):
        rows = np.flatnonzero(many)[part]
        products = _product(columns, queries[rows].T).T
        cosines[rows] = products.max(1)
        indices[rows] = (products >= cosines[rows, np.newaxis] - EQUAL).argmax(1)
    if len(pairs.rows):
        products = _products(queries, columns, pairs)
        best = pairs.greatest(products)
        cosines[pairs.rows[best]] = products[best]
        near = pairs.where(products >= cosines[pairs.rows] - EQUAL)
        nearest_of_each = near.where(near.first())
        indices[nearest_of_each.rows] = nearest_of_each.keys
    return cosines, indices
