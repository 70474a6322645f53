"""Counts of known graphs: which operations launch a kernel on a GPU, and the bytes they move."""

import pytest
import tensorflow as tf

from benchmarks import graph
from neural_style_tf.network import vgg
from neural_style_tf.settings import Settings

FEATURES = tf.zeros([1, 6, 10, 8], tf.bfloat16)
SIZE = 6 * 10 * 8 * 2  # bytes


def counted(function, *arguments):
    """By operation, the bytes that each of its kernels moves."""
    result = {}
    for kernel in graph.count(function, arguments).kernels:
        result.setdefault(kernel.operation, []).append(kernel.bytes_moved)
    return result


def test_a_layer_of_a_network_is_three_kernels_each_with_its_inputs_and_outputs():
    def layer(features, kernel, bias):
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(features, kernel, 1, "SAME"), bias))

    kernel, bias = tf.zeros([3, 3, 8, 8], tf.bfloat16), tf.zeros([8], tf.bfloat16)
    assert counted(layer, FEATURES, kernel, bias) == {
        "Conv2D": [2 * SIZE + 9 * 8 * 8 * 2],
        "BiasAdd": [2 * SIZE + 8 * 2],
        "Relu": [2 * SIZE],
    }


def test_views_constants_and_sizes_launch_nothing():
    def views(features):
        rows = tf.reshape(features, (6, 80))[2:4]
        first, second = tf.split(tf.reshape(rows, (2, 80)), 2)
        columns = features[:, :, 1:3]  # the only copy
        return first, second, columns, tf.shape(features)

    assert counted(views, FEATURES) == {"StridedSlice": [2 * (6 * 2 * 8 * 2)]}


def test_a_product_with_itself_reads_its_features_once():
    def product(features):
        positions = tf.reshape(features, (-1, 8))
        return tf.matmul(positions, positions, transpose_a=True)

    assert counted(product, FEATURES) == {"MatMul": [SIZE + 8 * 8 * 2]}


def test_functions_that_are_compiled_or_called_count_as_what_they_hold():
    compiled = tf.function(lambda x: 3 * x + 1, jit_compile=True)
    called = tf.function(tf.nn.relu, experimental_attributes={"_noinline": True})
    values = tf.zeros([64, 32])
    found = counted(lambda values: compiled(called(values)), values)
    assert found == {"XLA": [2 * 64 * 32 * 4], "Relu": [2 * 64 * 32 * 4]}


def test_a_choice_of_the_host_is_a_wait():
    def choice(values):
        return tf.cond(values[0] > 0, lambda: values + 1, lambda: values)

    def choice_on_the_device(values):
        return tf.where(values[0] > 0, values + 1, values)

    for function, waits in ((choice, 1), (choice_on_the_device, 0)):
        assert graph.count(function, (tf.zeros([9]),)).waits == waits


@pytest.mark.slow
def test_a_step_is_counted(network, monkeypatch):
    monkeypatch.setattr(vgg, "load", lambda: network)
    counts = {}
    for optimizer, style_loss in (("adam", "moments"), ("lbfgs", "moments"), ("adam", "neighbors")):
        settings = Settings(optimizer=optimizer, style_loss=style_loss)
        step = graph.step_of(settings, 32, 48, "bfloat16")
        result = graph.count(*step)
        operations = [kernel.operation for kernel in result.kernels]
        assert operations.count("Conv2D") + operations.count("Conv2DBackpropInput") == 26
        assert all(kernel.bytes_moved > 0 for kernel in result.kernels)
        counts[optimizer, style_loss] = len(result.kernels)
    assert counts["adam", "neighbors"] > counts["adam", "moments"]  # the columns are compared, too


@pytest.mark.slow
def test_the_table_has_a_line_per_kind_and_a_total(network, monkeypatch, capsys):
    monkeypatch.setattr(vgg, "load", lambda: network)
    monkeypatch.setattr("sys.argv", ["graph.py", "--size", "32", "--precision", "float32", "--ops"])
    graph.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A step of adam at 32x32 in float32, style loss moments."
    assert any(line.startswith("| convolutions | 26 |") for line in lines)
    assert "Branches whose predicate the host waits for: 0" in lines
    total = next(line for line in lines if line.startswith("| **all**"))
    listed = lines[lines.index("| operation | bytes per pixel | name |") + 2 :]
    assert int(total.split("**")[3]) == len(listed)
