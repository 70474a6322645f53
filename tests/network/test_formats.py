"""Networks of Keras and torchvision: the same features as the .mat file of the same values, and
an error in one line for broken files."""

import pickle

import h5py
import numpy as np
import pytest
import reference
from network_files import (
    KERAS_FILE,
    KERAS_MEAN_PIXEL,
    KERAS_PATHS,
    TORCHVISION_DEVIATION,
    TORCHVISION_MEAN,
    assert_features,
    error_of,
    save_h5,
    save_pth,
    torchvision_features,
)

from neural_style_tf import rules
from neural_style_tf.network import vgg

pytestmark = pytest.mark.usefixtures("quick_reader")


@pytest.fixture(params=[19, 16], ids=["VGG-19", "VGG-16"])
def depth(request):
    return request.param


# Each format


@pytest.mark.parametrize("top", [False, True], ids=["no top", "with top"])
@pytest.mark.parametrize("shape", KERAS_PATHS)
def test_keras_files_give_the_features_of_a_plain_numpy_pass(tmp_path, picture, depth, shape, top):
    values, image = reference.tiny_weights(depth), picture(19, 26)
    network = vgg.load(save_h5(tmp_path / "keras.h5", values, shape, top))
    expected = reference.features(values, image, "avg", mean_pixel=KERAS_MEAN_PIXEL)
    assert_features(network, expected, image)
    np.testing.assert_allclose(network.mean_pixel, KERAS_MEAN_PIXEL)
    assert network.title == "the network keras.h5"


def test_torchvision_networks_take_what_torchvision_passes_to_them(tmp_path, picture, depth):
    values, image = reference.tiny_weights(depth), picture(19, 26)
    network = vgg.load(save_pth(tmp_path / "network.pth", values, depth))
    assert_features(network, torchvision_features(values, image), image)
    np.testing.assert_allclose(network.mean_pixel, 255 * TORCHVISION_MEAN)


def test_without_normalization_the_network_takes_the_picture_as_0_to_1(tmp_path, picture):
    values, image = reference.tiny_weights(), picture(19, 26)
    network = vgg.load(save_pth(tmp_path / "network.pth", values))
    bare = vgg.without_normalization(network)
    expected = reference.features(values, image / 255, "avg", mean_pixel=0)
    assert_features(bare, expected, image)
    assert not bare.mean_pixel.any()
    assert_features(vgg.without_normalization(bare), expected, image)
    assert_features(network, torchvision_features(values, image), image)


def test_the_formats_agree_where_the_mean_pixel_does(tmp_path, picture):
    values, image = reference.tiny_weights(), picture(19, 26)
    kernel, bias = values["conv1_1"]
    scaled = kernel * (255 * TORCHVISION_DEVIATION[:, np.newaxis]).astype("f4")
    pixel = 255 * TORCHVISION_MEAN
    networks = [
        vgg.load(reference.save_mat(tmp_path / "a.mat", values, mean_pixel=pixel)),
        vgg.load(save_h5(tmp_path / "a.h5", values))._replace(mean_pixel=pixel.astype("f4")),
        vgg.load(save_pth(tmp_path / "a.pth", values | {"conv1_1": (scaled, bias)})),
    ]
    expected = reference.features(values, image, "avg", mean_pixel=pixel)
    for network in networks:
        assert_features(network, expected, image)


def test_the_format_is_recognized_by_the_content_whatever_the_name(tmp_path):
    values = reference.tiny_weights(channels=(2, 3))
    expected = reference.layer_names(values)
    assert vgg.load(save_h5(tmp_path / "network.mat", values)).names == expected
    path = reference.save_mat(tmp_path / "network.pth", values)
    assert vgg.load(path).names == expected


def test_keras_names_are_aliases():
    names = {
        "block1_conv1": "relu1_1",
        "block5_conv4": "relu5_4",
        "block3_pool": "pool3",
        "conv1_1": "conv1_1",
        "relu1_1": "relu1_1",
        "block1_conv": "block1_conv",
        "my_block1_pool": "my_block1_pool",
    }
    assert {name: rules.canonical_layer(name) for name in names} == names


# What is broken


def test_only_a_torchvision_network_goes_without_normalization(network):
    assert error_of(vgg.without_normalization, network) == (
        "the network tiny.mat cannot be used without normalization: choose a torchvision .pth file"
    )


def test_a_file_of_unknown_format_is_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "photo.png"
    for content in (b"\x89PNG\r\n\x1a\n", b"hello " * 100, pickle.dumps({"features.0.weight": 1})):
        path.write_bytes(content)
        assert error_of(vgg.load, path) == (
            f"network {path} has an unknown format: choose a MatConvNet .mat, a Keras VGG .h5, a "
            "PyTorch VGG .pth or a safetensors VGG .safetensors file"
        )


def test_a_truncated_h5_file_is_reported_in_one_line_wherever_it_ends(tmp_path):
    path = save_h5(tmp_path / "broken.h5", reference.tiny_weights())
    whole = path.read_bytes()
    for length in [8, 9, 50, 600, *range(1000, len(whole) - 1, len(whole) // 20)]:
        path.write_bytes(whole[:length])
        assert error_of(vgg.load, path) == (
            f"network {path} is truncated or not a .h5 file (OSError): "
            "download it again or choose another network"
        )


def test_an_h5_file_without_vgg_layers_is_reported_in_one_line(tmp_path):
    path = tmp_path / "other.h5"
    values = reference.tiny_weights()
    one_by_one = np.zeros((1, 1, 3, 4)), np.zeros(4)
    cases = [
        {"dense/kernel:0": np.zeros((3, 4))},
        {"block1_conv1/kernel:0": np.zeros((3, 3, 3, 4))},
        {"block1_conv1/kernel:0": np.zeros((3, 4)), "block1_conv1/bias:0": np.zeros(4)},
        {"block1_conv1/kernel:0": one_by_one[0], "block1_conv1/bias:0": one_by_one[1]},
        {"block1_conv2/kernel:0": values["conv1_2"][0], "block1_conv2/bias:0": np.zeros(4)},
    ]
    for case in cases:
        with h5py.File(path, "w") as file:
            for name, array in case.items():
                file[name] = array
        assert error_of(vgg.load, path) == (
            f"network {path} is not a Keras VGG network: choose a .h5 file such as {KERAS_FILE}"
        )
