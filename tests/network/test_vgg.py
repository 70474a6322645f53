"""The network: both MatConvNet layouts, broken files, and the bundled network.

The other formats are in test_formats.py.
"""

import hashlib

import numpy as np
import pytest
import reference
import scipy.io
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.network import vgg
from neural_style_tf.settings import BUNDLED_NETWORK

pytestmark = pytest.mark.usefixtures("quick_reader")

BUNDLED = BUNDLED_NETWORK
BUNDLED_SHA256 = "13f64d6bb9f2dd2d4577fa06b90617ec323db451df95c07bdb2c54f610e77bec"
VGG19_CHANNELS = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8


@pytest.mark.parametrize("layout", ["new", "beta16"])
@pytest.mark.parametrize("depth", [19, 16])
def test_both_layouts_of_both_depths_are_read(tmp_path, layout, depth):
    weights = reference.tiny_weights(depth)
    network = vgg.load(reference.save_mat(tmp_path / "network.mat", weights, layout))
    assert network.names == reference.layer_names(weights)
    np.testing.assert_allclose(network.mean_pixel, reference.MEAN_PIXEL, rtol=1e-6)
    for layer in network.layers:
        if layer.kind == "conv":
            np.testing.assert_array_equal(layer.kernel, weights[layer.name][0])
            np.testing.assert_array_equal(layer.bias, weights[layer.name][1])


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("padding", ["replicate", "zero", "wrap"])
def test_features_equal_a_plain_numpy_forward_pass(network, weights, picture, pooling, padding):
    image = picture(32, 48) if padding == "wrap" else picture(35, 46)
    expected = reference.features(weights, image, pooling, padding)
    by_name = vgg.features(network, tf.constant(image[np.newaxis]), network.names, pooling, padding)
    assert list(by_name) == network.names
    for name, features in by_name.items():
        np.testing.assert_allclose(features[0], expected[name], rtol=1e-4, atol=1e-3)


def test_net_returns_the_36_names_and_the_mean_pixel(tiny, weights, picture):
    image = picture()
    _, mean_pixel = vgg.net(tiny, tf.zeros((1, 16, 16, 3)))
    preprocessed = vgg.preprocess(image, mean_pixel)
    np.testing.assert_allclose(vgg.unprocess(preprocessed, mean_pixel), image, atol=1e-4)
    features, _ = vgg.net(tiny, tf.constant(preprocessed[np.newaxis]))
    assert len(features) == 36 and "conv1_1" in features
    assert list(features) == reference.layer_names(weights)
    expected = reference.features(weights, image)["relu5_4"]
    np.testing.assert_allclose(features["relu5_4"][0], expected, rtol=1e-4, atol=1e-3)


def test_the_graph_stops_at_the_last_wanted_layer(network):
    def run(image):
        return vgg.features(network, image, ["relu3_1", "relu1_1"])

    graph = tf.function(run).get_concrete_function(tf.TensorSpec((1, 32, 40, 3))).graph
    kinds = ("Conv2D", "Conv2DBackpropInput")  # either may be the faster one
    convolutions = [node for node in graph.get_operations() if node.type in kinds]
    assert len(convolutions) == 5


def test_a_missing_layer_is_named_with_the_nearest_one(network):
    with pytest.raises(UserError) as error:
        vgg.features(network, tf.zeros((1, 16, 16, 3)), ["relu4_9"])
    assert str(error.value) == (
        "the network has no layer relu4_9 (did you mean relu4_4?): it has conv1_1 to relu5_4"
    )


def test_a_network_that_ends_early_has_the_layers_it_has(tmp_path):
    weights = reference.tiny_weights(channels=(2, 3))
    network = vgg.load(reference.save_mat(tmp_path / "short.mat", weights))
    assert network.names[-1] == "relu2_2"
    with pytest.raises(UserError, match=r"no layer relu4_2 .*: it has conv1_1 to relu2_2"):
        vgg.check_layers(network, ["relu4_2"])


def test_a_truncated_file_is_reported_in_one_line_wherever_it_ends(tmp_path, tiny):
    whole = tiny.read_bytes()
    broken = tmp_path / "broken.mat"
    for length in [1, 50, 127, 130, *range(200, len(whole) - 1, len(whole) // 20)]:
        broken.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            vgg.load(broken)
        assert str(broken) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_file_that_is_not_a_network_is_reported_in_one_line(tmp_path):
    path = tmp_path / "other.mat"
    message = (
        f"network {path} is not a MatConvNet network: choose a .mat file such as "
        "imagenet-vgg-verydeep-19.mat"
    )
    layers = np.empty((1, 1), object)
    layers[0, 0] = {"name": "conv1_1", "type": "conv", "weights": 3.0}
    for content in ({"a": 1}, {"layers": np.zeros(3)}, {"layers": layers, "meta": {}}):
        scipy.io.savemat(path, content)
        with pytest.raises(UserError) as error:
            vgg.load(path)
        assert str(error.value) == message
    with pytest.raises(UserError, match=r"no file .*missing: check the name"):
        vgg.load(tmp_path / "missing")


def test_a_network_whose_layers_do_not_fit_is_refused(tmp_path, weights):
    for kernel in (weights["conv2_1"][0][:, :, :-1], weights["conv2_1"][0] * np.nan):
        bent = weights | {"conv2_1": (kernel, weights["conv2_1"][1])}
        path = reference.save_mat(tmp_path / "bent.mat", bent)
        with pytest.raises(UserError, match=r"layer conv2_1 is broken: download the file again$"):
            vgg.load(path)


def test_the_bundled_network_is_vgg19_with_256_levels_a_layer():
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() == BUNDLED_SHA256
    network = vgg.load(BUNDLED)
    assert network.title == "the bundled VGG-19"
    assert network.names == reference.layer_names(reference.tiny_weights())
    convolutions = [layer for layer in network.layers if layer.kind == "conv"]
    inputs = [3, *VGG19_CHANNELS[:-1]]
    for layer, before, after in zip(convolutions, inputs, VGG19_CHANNELS, strict=True):
        assert layer.kernel.shape == (3, 3, before, after) and layer.bias.shape == (after,)
        assert len(np.unique(layer.kernel)) <= 256
    np.testing.assert_allclose(network.mean_pixel, [123.68, 116.779, 103.939], rtol=1e-6)


def test_a_program_that_reads_by_position_reads_the_bundled_weights():
    """As programs written for the published file read it."""
    content = scipy.io.loadmat(BUNDLED)
    kernel, bias = content["layers"][0][0][0][0][2][0]
    assert kernel.shape == (3, 3, 3, 64) and bias.shape == (64, 1)
    mean_pixel = content["meta"]["normalization"][0][0][0][0][2][0][0]
    np.testing.assert_allclose(mean_pixel, [123.68, 116.779, 103.939], rtol=1e-6)
