"""Nearest: the search against brute force in NumPy, in full and by bounds; ties."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from neural_style_tf.network import device
from neural_style_tf.objective import all_cosines, nearest

CHANNELS = 24


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def like_features(count, seed):
    """Columns of which most lies in a few directions, as those of a network do."""
    directions = np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS))
    sizes = 0.7 ** np.arange(CHANNELS)
    values = np.random.default_rng(seed).normal(size=(count, CHANNELS))
    return (values * sizes @ directions).astype(np.float32)


def brute_force(queries, columns):
    """The greatest cosines in float64, and the first index of those that are equally great."""
    queries = queries.astype(np.float64) / np.linalg.norm(queries, axis=1, keepdims=True)
    cosines = queries @ columns.T.astype(np.float64)
    best = cosines.max(1)
    return best, (cosines >= best[:, np.newaxis] - nearest.EQUAL).argmax(1)


@pytest.fixture(params=["in full", "by bounds"])
def by_bounds(request, monkeypatch):
    """Whether columns are compared by bounds first; in several blocks, the last a shorter one."""
    return compared(request.param, monkeypatch)


@pytest.fixture(params=["in full", "by bounds", "as on a GPU"])
def each_way(request, monkeypatch):
    """The ways to compare columns, in several blocks."""
    with device.made_for(device.GPU if request.param == "as on a GPU" else device.CPU):
        yield compared(request.param, monkeypatch)


def compared(way, monkeypatch):
    monkeypatch.setattr(all_cosines, "BLOCK", 2500)
    monkeypatch.setattr(nearest, "BLOCK", 6000)
    monkeypatch.setattr(nearest, "KEYS", 130)
    monkeypatch.setattr(nearest, "PAIRS", 50)
    if way == "by bounds":
        monkeypatch.setattr(nearest, "MANY_COSINES", 0)
        monkeypatch.setattr(nearest, "DIRECTIONS", (7, 11))
        monkeypatch.setattr(nearest, "SAMPLE", 60)
    return way == "by bounds"


@pytest.mark.parametrize("share", [0, 1 / 64, 1])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16], ids=lambda d: d.name)
def test_the_search_finds_what_brute_force_finds(dtype, share, each_way, monkeypatch):
    monkeypatch.setattr(nearest, "SHARE_OF_PAIRS", share)  # from nearly always in full to never
    columns, queries = unit(like_features(600, 1)), like_features(101, 2)
    cosines, indices = nearest.nearest(queries, columns, dtype)
    expected, first = brute_force(queries, columns)
    assert (indices == first).all()
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_bounds_leave_few_columns_to_compare(by_bounds, monkeypatch):
    monkeypatch.setattr(nearest, "SHARE_OF_PAIRS", 1)
    among, left = nearest._among, []
    monkeypatch.setattr(
        nearest, "_among", lambda *of: left.append(len(of[2].rows) / len(of[0])) or among(*of)
    )
    columns = unit(like_features(600, 1))
    nearest.nearest(like_features(100, 2), columns, tf.float32)
    assert 1 <= max(left) < 2


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda d: d.name)
def test_the_nearest_may_be_on_the_other_side(dtype, each_way):
    queries, columns = -np.abs(like_features(50, 1)), unit(np.abs(like_features(300, 2)))
    queries[:20] = like_features(20, 3)  # and some may not be
    cosines, indices = nearest.nearest(queries, columns, dtype)
    best, expected = brute_force(queries, columns)
    assert (best[20:] < 0).all()
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(cosines, best, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda d: d.name)
def test_of_equally_near_columns_the_first_is_taken(dtype, each_way):
    columns = unit(like_features(40, 1))
    columns = np.concatenate([columns, columns[::-1], columns])
    _, indices = nearest.nearest(columns[:40], columns, dtype)
    assert indices.tolist() == list(range(40))


def test_where_all_is_flat_the_first_column_is_taken(each_way):
    noise = np.random.default_rng(1).normal(size=(500, CHANNELS)) * 1e-8
    flat = unit(like_features(1, 1) + noise)
    cosines, indices = nearest.nearest(np.tile(flat[:1], (50, 1)), flat, tf.float32)
    assert not indices.any()
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_a_query_without_anything_takes_the_first_column(each_way):
    queries = like_features(30, 2)
    queries[7] = 0
    cosines, indices = nearest.nearest(queries, unit(like_features(300, 1)), tf.float32)
    assert cosines[7] == indices[7] == 0
    assert indices.any() and np.isfinite(cosines).all()


@pytest.mark.parametrize("count", [1, 2, 129, 131])
@pytest.mark.parametrize("queries", [1, 45])
def test_few_columns_and_few_queries(count, queries, each_way):
    columns, queries = unit(like_features(count, 1)), like_features(queries, 2)
    cosines, indices = nearest.nearest(queries, columns, tf.bfloat16)
    expected, first = brute_force(queries, columns)
    assert indices.tolist() == first.tolist()
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_what_is_not_finite_does_not_end_the_search(each_way):
    queries = like_features(30, 2)
    queries[3] = np.nan
    _, indices = nearest.nearest(queries, unit(like_features(300, 1)), tf.float32)
    assert ((indices >= 0) & (indices < 300)).all()


def test_as_many_threads_search_as_tensorflow_has(by_bounds, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    seen = set()
    open_ = nearest._open
    monkeypatch.setattr(nearest, "_open", lambda *of: seen.add(threading.get_ident()) or open_(*of))
    nearest.nearest(like_features(300, 2), unit(like_features(300, 1)), tf.float32)
    assert len(seen) == 1


def test_threads_search_on_the_device_of_the_caller(by_bounds, monkeypatch):
    seen = []
    products = nearest._products
    monkeypatch.setattr(
        nearest, "_products", lambda *of: seen.append(tf.zeros(()).device) or products(*of)
    )
    with tf.device("CPU:0"):
        nearest.nearest(like_features(30, 2), unit(like_features(30, 1)), tf.float32)
    assert seen and all(device.endswith("CPU:0") for device in seen)


@pytest.mark.parametrize("way", [device.CPU, device.GPU])
def test_of_equally_near_candidates_the_first_column_is_taken(way):
    columns = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    columns[1] -= [0, 1e-7, 0]  # as rounding may leave it
    candidates = np.array([[3, 2, 1], [2, 3, 0], [3, 3, 3]])
    outside = np.array([[False] * 3, [True, False, True], [True] * 3])
    with device.made_for(way):
        cosines, indices = nearest.nearest_of(columns[[2, 2, 2]], columns, candidates, outside, 0)
    assert indices.tolist() == [1, 3, 0] and indices.dtype == np.int32
    np.testing.assert_allclose(cosines, [1, 0, -2], atol=1e-6)


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "no memory"),
        tf.errors.InternalError(None, None, "Failed copying: Dst tensor is not initialized."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_gpu_without_memory_for_all_cosines_compares_by_bounds(error, by_bounds, monkeypatch):
    def full(*_):
        raise error

    columns, queries = unit(like_features(300, 1)), like_features(40, 2)
    expected = nearest.nearest(queries, columns, tf.float32)
    monkeypatch.setattr(all_cosines, "nearest", full)
    with device.made_for(device.GPU):
        found = nearest.nearest(queries, columns, tf.float32)
    np.testing.assert_array_equal(found, expected)


def test_a_failure_on_a_gpu_is_not_hidden(monkeypatch):
    def broken(*_):
        raise tf.errors.InvalidArgumentError(None, None, "broken")

    monkeypatch.setattr(all_cosines, "nearest", broken)
    columns = unit(like_features(30, 1))
    with device.made_for(device.GPU), pytest.raises(tf.errors.InvalidArgumentError):
        nearest.nearest(columns, columns, tf.float32)
