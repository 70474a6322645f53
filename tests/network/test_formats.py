"""Networks of Keras and torchvision: the same features as the .mat file of the same values, and
an error in one line for broken files."""

import pickle
import zipfile

import h5py
import numpy as np
import pytest
import reference
from network_files import (
    KERAS_FILE,
    KERAS_MEAN_PIXEL,
    KERAS_PATHS,
    LEGACY_PTH,
    TORCHVISION_DEVIATION,
    TORCHVISION_MEAN,
    assert_features,
    error_of,
    save_h5,
    save_pth,
    save_state,
    state_dict,
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


def test_torchvision_networks_take_what_torchvision_passes_to_them(tmp_path, picture, depth, torch):
    values, image = reference.tiny_weights(depth), picture(19, 26)
    network = vgg.load(save_pth(tmp_path / "network.pth", values, depth))
    assert_features(network, torchvision_features(values, image), image)
    np.testing.assert_allclose(network.mean_pixel, 255 * TORCHVISION_MEAN)


def test_without_normalization_the_network_takes_the_picture_as_0_to_1(tmp_path, picture, torch):
    values, image = reference.tiny_weights(), picture(19, 26)
    network = vgg.load(save_pth(tmp_path / "network.pth", values))
    bare = vgg.without_normalization(network)
    expected = reference.features(values, image / 255, "avg", mean_pixel=0)
    assert_features(bare, expected, image)
    assert not bare.mean_pixel.any()
    assert_features(vgg.without_normalization(bare), expected, image)
    assert_features(network, torchvision_features(values, image), image)


def test_a_real_pth_file_is_read_in_both_ways_torch_writes(tmp_path, picture):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    values, image = reference.tiny_weights(), picture(19, 26)
    state = {
        name: torch.tensor(np.ascontiguousarray(array))
        for name, array in state_dict(values).items()
    }
    for as_zip in (True, False):
        torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=as_zip)
        network = vgg.load(tmp_path / "x.pth")
        assert_features(network, torchvision_features(values, image), image)
    torch.save(torch.nn.ReLU(), tmp_path / "x.pth")
    assert "is truncated or not a .pth file" in error_of(vgg.load, tmp_path / "x.pth")


def test_the_three_formats_agree_where_the_mean_pixel_does(tmp_path, picture, torch):
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


def test_the_format_is_recognized_by_the_content_whatever_the_name(tmp_path, torch):
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


def test_without_torch_one_line_says_what_to_install(tmp_path, stand_in):
    stand_in('raise ModuleNotFoundError("No module named torch", name="torch")')
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    path.write_bytes(LEGACY_PTH)
    message = f"network {path} needs torch: pip install 'neural-style-tf[torch]'"
    assert error_of(vgg.load, path) == message


def test_a_torch_that_cannot_be_imported_is_reported_in_one_line(tmp_path, stand_in):
    stand_in('raise OSError("libcudart.so.12: cannot open shared object file")')
    path = save_state(tmp_path / "network.pth", {})
    assert error_of(vgg.load, path) == (
        f"network {path} needs torch, which cannot be imported here (libcudart.so.12: cannot open "
        "shared object file): install it again"
    )


@pytest.mark.parametrize("version", ["2.5.1+cu121", "1.13.0", "unknown"])
def test_a_torch_that_runs_code_from_files_is_refused_before_it_loads_one(
    tmp_path, stand_in, version
):
    ran = tmp_path / "ran"
    stand_in(f"__version__ = {version!r}\n\ndef load(*_, **__):\n    open({str(ran)!r}, 'w')")
    path = tmp_path / "network.pth"
    path.write_bytes(LEGACY_PTH)
    assert error_of(vgg.load, path) == (
        f"network {path} needs torch 2.6 or newer, and {version} is installed: "
        "pip install 'neural-style-tf[torch]'"
    )
    assert not ran.exists()


def test_only_a_torchvision_network_goes_without_normalization(network):
    assert error_of(vgg.without_normalization, network) == (
        "the network tiny.mat cannot be used without normalization: choose a torchvision .pth file"
    )


def test_a_file_of_unknown_format_is_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "photo.png"
    for content in (b"\x89PNG\r\n\x1a\n", b"hello " * 100, pickle.dumps({"features.0.weight": 1})):
        path.write_bytes(content)
        assert error_of(vgg.load, path) == (
            f"network {path} has an unknown format: choose a MatConvNet .mat, a Keras VGG .h5 or a "
            "torchvision VGG .pth file"
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


def test_a_pth_file_that_torch_cannot_load_is_reported_in_one_line(tmp_path, torch):
    path = tmp_path / "broken.pth"
    for error in (RuntimeError("a\nb"), EOFError(), pickle.UnpicklingError("c")):
        assert error_of(vgg.load, save_state(path, error)) == (
            f"network {path} is truncated or not a .pth file ({type(error).__name__}): "
            "download it again or choose another network"
        )


def test_a_pth_file_that_is_not_a_vgg_is_reported_in_one_line(tmp_path, torch):
    path = tmp_path / "other.pth"
    kernel, bias = np.zeros((4, 3, 3, 3)), np.zeros(4)
    first = {"features.0.weight": kernel, "features.0.bias": bias}
    cases = {
        "no dict": [1, 2],
        "nothing": {},
        "no names": {1: kernel},
        "no tensors": {"features.0.weight": 1, "features.0.bias": 2},
        "ResNet": {"conv1.weight": kernel},
        "AlexNet": {"features.0.weight": np.zeros((4, 3, 11, 11)), "features.0.bias": bias},
        "SqueezeNet": first | {"features.3.squeeze.weight": kernel},
        "batch normalization": first | {"features.1.weight": bias, "features.1.bias": bias},
        "no bias": {"features.0.weight": kernel},
        "not from the first": {"features.1.weight": kernel, "features.1.bias": bias},
    }
    for name, state in cases.items():
        assert error_of(vgg.load, save_state(path, state)) == (
            f"network {path} is not a torchvision VGG network: choose a .pth file such as "
            "vgg19-dcbb9e9d.pth"
        ), name


def test_a_zip_archive_that_torch_did_not_write_is_refused(tmp_path, torch):
    path = tmp_path / "archive.pth"
    np.savez(tmp_path / "arrays.npz", kernel=np.zeros(3))
    path.write_bytes((tmp_path / "arrays.npz").read_bytes())
    assert error_of(vgg.load, path).startswith(f"network {path} has an unknown format: choose a ")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb
        archive.writestr("archive/data.pkl", bytes(100_000))
    assert error_of(vgg.load, path) == (
        f"network {path} is truncated or not a .pth file (ValueError): "
        "download it again or choose another network"
    )
    path.write_bytes(path.read_bytes()[:100])
    assert f"network {path} is truncated or not a .pth file (BadZipFile)" in error_of(
        vgg.load, path
    )
