"""Backpropagation written out, against GradientTape; and Winograd convolution."""

import numpy as np
import pytest
import tensorflow as tf
from variants import MORE_VARIANTS, apart, untraced

from benchmarks import plain
from neural_style_tf.machine import compilation, cpu, tensorflow_setup
from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.network import device, fused, winograd
from neural_style_tf.network.backprop import Passes
from neural_style_tf.objective import graphs
from neural_style_tf.objective.objective import make_losses, make_objective, measure_targets
from neural_style_tf.settings import Settings

TOLERANCES = {tf.float32: 1e-5, tf.bfloat16: 0.2, tf.float16: 0.05}


@pytest.fixture(scope="module", params=MORE_VARIANTS.values(), ids=MORE_VARIANTS)
def variant(request, shallow, picture):
    """The arguments of `assert_alike` for an objective."""
    return example(shallow, picture, request.param, (33, 46))


@pytest.fixture(autouse=True)
def new_graphs(monkeypatch):
    """An empty cache: a graph traced with other limits of Winograd would serve here as well."""
    monkeypatch.setattr(graphs, "_store", LRUCache(20))


@pytest.mark.parametrize("channels", [1, 1000], ids=["winograd", "direct"])
def test_the_gradient_equals_gradient_tapes(variant, channels, monkeypatch):
    monkeypatch.setattr(winograd, "MIN_CHANNELS", channels)
    monkeypatch.setattr(winograd, "MIN_POSITIONS", 1)
    assert_alike(*variant, tf.float32)


@pytest.mark.parametrize(
    "size, limits, expected",
    [
        ((35, 46), {"MIN_CHANNELS": 1, "MIN_POSITIONS": 18 * 23}, {(35, 46), (18, 23)}),
        ((37, 46), {"MIN_CHANNELS": 4, "MAX_POSITIONS": 37 * 46 - 1}, {(19, 23), (10, 12)}),
    ],
    ids=["few places", "many places, few channels"],
)
def test_where_winograd_does_not_pay_the_convolution_is_direct(
    network, picture, size, limits, expected, monkeypatch
):
    monkeypatch.setattr(winograd, "MIN_POSITIONS", 9 * 12)
    for name, limit in limits.items():
        monkeypatch.setattr(winograd, name, limit)
    sizes, convolve = [], winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *x: sizes.append(x[0].shape) or convolve(*x))
    assert_like_gradient_tape(network, picture, Settings(style_loss="moments"), size, tf.float32)
    assert {tuple(shape[1:3]) for shape in sizes} == expected


@pytest.mark.parametrize("size", [(32, 48), (16, 16), (17, 51)], ids=str)
@pytest.mark.parametrize("pooling", ["max", "avg", "l2"])
def test_the_gradient_at_any_size(shallow, picture, pooling, size):
    settings = Settings(pooling=pooling, style_loss="mean")
    assert_like_gradient_tape(shallow, picture, settings, size, tf.float32)


@pytest.mark.parametrize("pooling, channels", [("avg", 1), ("max", 1000)])
def test_the_gradient_where_opposite_edges_meet(shallow, picture, pooling, channels, monkeypatch):
    monkeypatch.setattr(winograd, "MIN_CHANNELS", channels)
    monkeypatch.setattr(winograd, "MIN_POSITIONS", 1)
    settings = Settings(style_loss="moments", padding="wrap", pooling=pooling)
    assert_like_gradient_tape(shallow, picture, settings, (32, 48), tf.float32)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16], ids=lambda dtype: dtype.name)
def test_gradients_in_low_precision_are_close(variant, dtype):
    assert_alike(*variant, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.name)
def test_gradients_of_graphs_made_for_a_gpu(shallow, picture, dtype):
    """Compiled passes, Gram matrices by blocks with a remainder, masks of outputs."""
    arguments = example(shallow, picture, Settings(style_loss="moments"), (33, 46))
    with device.made_for(device.GPU):
        assert_alike(*arguments, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_gradients_of_all_losses_made_for_a_gpu(variant, dtype):
    with device.made_for(device.GPU):
        assert_alike(*variant, dtype)


def test_without_xla_graphs_made_for_a_gpu_are_plain(shallow, picture, monkeypatch):
    arguments = example(shallow, picture, Settings(style_loss="moments"), (33, 46))
    monkeypatch.setattr(compilation, "works", lambda: False)
    with device.made_for(device.GPU):
        assert_alike(*arguments, tf.float32)


@pytest.mark.parametrize(
    "settings",  # not with max pooling: which is the largest may turn with the last digit
    [
        Settings(style_loss="moments"),
        Settings(style_loss="mean", padding="zero"),
        MORE_VARIANTS["one layer for both"],
    ],
    ids=["default", "zero padding", "one layer for both"],
)
def test_winograd_in_low_precision(network, picture, settings, monkeypatch):
    monkeypatch.setattr(cpu, "multiplies_matrices", lambda: False)
    for limit in ("MIN_CHANNELS", "MIN_POSITIONS"):
        monkeypatch.setattr(winograd, limit, 1)
    monkeypatch.setattr(winograd, "MIN_CHANNELS_BFLOAT16_FEATURES", 7)  # the last two blocks
    convolved = []
    for name in ("convolve", "convolve_transposed"):
        convolve = getattr(winograd, name)
        monkeypatch.setattr(
            winograd, name, lambda *x, run=convolve: convolved.append(x[0].dtype) or run(*x)
        )
    assert_like_gradient_tape(network, picture, settings, (34, 47), tf.bfloat16)
    assert len(convolved) > 3 and set(convolved) == {tf.bfloat16}


def assert_like_gradient_tape(network, picture, settings, size, dtype):
    assert_alike(*example(network, picture, settings, size), dtype)


def example(network, picture, settings, size):
    """A network, a picture of a size, targets and settings, and what is expected of them."""
    ours = tf.constant(picture(*size, seed=2)[np.newaxis])
    arrays = picture(*size, seed=22), picture(40, 37, seed=42), picture(21, 50, seed=43)
    content, *styles = (tf.constant(array[np.newaxis]) for array in arrays)
    styles = styles[: len(settings.style_blend_weights or [1])]
    with untraced():
        targets = measure_targets(network, content, styles, settings)
        expected = plain.make_objective(network, content, styles, settings)(ours)
    return network, ours, targets, settings, expected


def assert_alike(network, ours, targets, settings, expected, dtype):
    try:
        evaluation = make_objective(network, targets, settings, dtype)(ours)
    except tf.errors.OpError as error:
        pytest.skip(f"this processor has no {dtype.name} ({type(error).__name__})")
    assert apart(evaluation.gradient, expected.gradient) < TOLERANCES[dtype]
    assert evaluation.gradient.dtype == tf.float32 and list(evaluation.losses) == list(
        expected.losses
    )
    for name, loss in evaluation.losses.items():
        np.testing.assert_allclose(loss, expected.losses[name], rtol=TOLERANCES[dtype])


def test_reported_losses_are_computed_in_float32(network, picture):
    content, style = (tf.constant(picture(seed=seed)[np.newaxis]) for seed in (1, 2))
    settings = Settings(style_loss="moments")
    targets = measure_targets(network, content, [style], settings)
    reported = make_losses(network, targets, settings)(style)
    expected = plain.make_objective(network, content, [style], settings)(style).losses
    for name in ("content", "tv", "total"):  # the style equals its target, except for rounding
        np.testing.assert_allclose(reported[name], expected[name], rtol=1e-5)


def test_convolutions_and_gradients_serve_both_ways(network, picture, monkeypatch):
    image = tf.constant(picture()[np.newaxis])
    results = {}
    for by_gradient, operation in ((True, "Conv2DBackpropInput"), (False, "Conv2D")):
        monkeypatch.setattr(tensorflow_setup, "uses_onednn", lambda value=by_gradient: value)
        passes = Passes(network.layers, ["relu3_1"])

        @tf.function
        def both(image, passes=passes):
            features, memory = passes.forward(image)
            gradient = passes.backward(memory, {"relu3_1": lambda: [features["relu3_1"]]})
            return features["relu3_1"], gradient

        graph = both.get_concrete_function(image).graph
        # except for the first convolution, which is an ordinary one both ways
        assert [op.type for op in graph.get_operations()].count(operation) == 9
        results[operation] = both(image)
    for ours, theirs in zip(*results.values(), strict=True):
        assert np.abs(theirs).max() > 0 and apart(ours, theirs) < TOLERANCES[tf.float32]
    with tf.GradientTape() as tape:
        tape.watch(image)
        squares = tf.reduce_sum(passes.features(image)["relu3_1"] ** 2) / 2
    assert apart(both(image)[1], tape.gradient(squares, image)) < TOLERANCES[tf.float32]


@pytest.mark.parametrize("layers", [["relu1_2"], ["relu2_1"], ["relu1_2", "relu2_1"]], ids=str)
def test_relus_below_a_pooling_are_differentiated_on_a_gpu(network, picture, layers):
    """With a gradient of their own, with that of the pooling, and with both."""
    image = tf.constant(picture(33, 46)[np.newaxis])
    with device.made_for(device.GPU), fused.compiling():
        wanted = ["relu1_2", "relu2_1"]
        passes = Passes(network.layers, wanted, "avg", pooling_rescale=True, often=True)

        @tf.function
        def differentiate(image):
            features, memory = passes.forward(image)
            at_layers = {name: lambda name=name: [features[name]] for name in layers}
            return passes.backward(memory, at_layers)

        gradient = differentiate(image)
    with tf.GradientTape() as tape:
        tape.watch(image)
        features = passes.features(image)
        squares = sum(tf.reduce_sum(features[name] ** 2) / 2 for name in layers)
    assert apart(gradient, tape.gradient(squares, image)) < TOLERANCES[tf.float32]


def test_passes_that_run_once_are_not_compiled(network, picture):
    """To compile one takes a GPU a tenth of a second or more; the features are the same."""
    image = tf.constant(picture(33, 46)[np.newaxis])
    wanted = ["relu1_2", "relu2_1"]
    compiled, features = {}, {}
    for often in (False, True):
        with device.made_for(device.GPU), fused.compiling(often):
            passes = Passes(network.layers, wanted, often=often)
            run = tf.function(passes.features, autograph=False)
            graph = run.get_concrete_function(image).graph
        functions = graph.as_graph_def().library.function
        compiled[often] = sum(function.attr["_XlaMustCompile"].b for function in functions)
        features[often] = run(image)
    assert compiled == {False: 0, True: 3}  # the first input, and ReLUs of two shapes
    for name in wanted:
        assert apart(features[False][name], features[True][name]) < TOLERANCES[tf.float32]


@pytest.mark.parametrize("size", [(8, 8), (13, 30), (1, 5), (4, 3)], ids=str)
def test_winograd_convolution_is_the_convolution(size):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 6, 7))
    image, gradient = random.normal(size=(1, *size, 6)), random.normal(size=(1, *size, 7))
    transformed = winograd.transform_kernel(tf.constant(kernel, tf.float32))
    forward = winograd.convolve(tf.constant(image, tf.float32), transformed)
    backward = winograd.convolve_transposed(tf.constant(gradient, tf.float32), transformed)
    expected = tf.nn.conv2d(image, kernel, 1, "SAME")
    np.testing.assert_allclose(forward, expected, rtol=1e-4, atol=1e-4)
    expected = tf.nn.conv2d_transpose(gradient, kernel, image.shape, 1, "SAME")
    np.testing.assert_allclose(backward, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("has_matrix_units", [False, True])
def test_where_winograd_pays(monkeypatch, has_matrix_units):
    monkeypatch.setattr(cpu, "multiplies_matrices", lambda: has_matrix_units)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: [])
    shape = tf.TensorShape([1, 64, 64, 7])

    def pays(channels, dtype, side=3, **direction):
        return winograd.pays(shape, tf.zeros((side, side, *channels), dtype), **direction)

    for channels, expected in (((64, 128), False), ((128, 128), True), ((256, 512), True)):
        for is_backward in (False, True):
            assert pays(channels, tf.float32, is_backward=is_backward) == expected
    assert not pays((512, 512), tf.float32, side=1) and not pays((512, 512), tf.float16)
    low = (pays((256, 512), tf.bfloat16), pays((256, 256), tf.bfloat16, is_backward=True))
    assert low == (not has_matrix_units,) * 2
    assert not pays((256, 256), tf.bfloat16)  # too few digits for features
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: ["a GPU"])
    assert not pays((512, 512), tf.float32) and not pays((512, 512), tf.bfloat16)


def test_winograds_transforms_are_exact():
    """A^T ((G k) * (B^T d)) is the correlation of d with k, in one dimension."""
    kernel, values = np.array([2.0, -3, 5]), np.array([1.0, 4, -2, 0.5, 3, -7])
    expected = np.correlate(values, kernel, "valid")
    inputs, outputs = winograd.INPUTS, winograd.OUTPUTS
    result = outputs @ ((winograd.KERNEL @ kernel) * (inputs @ values))
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    inputs, outputs = winograd.TRANSPOSED  # with the same transformed kernel
    result = outputs @ ((winograd.KERNEL @ kernel) * (inputs @ values))
    np.testing.assert_allclose(result, np.correlate(values, kernel[::-1], "valid"), rtol=1e-12)


@pytest.mark.parametrize("dtype, most", [(tf.float32, 2e-6), (tf.bfloat16, 0.015)])
def test_winograd_loses_few_digits_with_many_channels(dtype, most):
    random = np.random.default_rng(0)
    image = tf.constant(np.maximum(random.normal(size=(1, 16, 16, 256)), 0), dtype)
    kernel = random.normal(size=(3, 3, 256, 256)) / 48
    transformed = winograd.transform_kernel(tf.constant(kernel, tf.float32))
    result = winograd.convolve(image, tf.cast(transformed, dtype))
    expected = tf.nn.conv2d(tf.cast(image, tf.float64), kernel, 1, "SAME")
    assert result.dtype == dtype
    assert apart(result.numpy().astype(float), expected.numpy()) < most
