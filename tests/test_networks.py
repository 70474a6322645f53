"""The networks of Keras and torchvision: the same features as the .mat file of the same values.

Nothing is fetched, and torch need not be there: a stand-in loads what the tests give it.
"""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import reference
import tensorflow as tf

import settings
import vgg
import weights
from settings import UserError

KERAS_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_MEAN_PIXEL = (123.68, 116.779, 103.939)
TORCHVISION_MEAN = np.array([0.485, 0.456, 0.406])
TORCHVISION_DEVIATION = np.array([0.229, 0.224, 0.225])
# Where torchvision's VGGs keep their convolutions, from the published state dicts.
TORCHVISION_INDICES = {
    19: (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
    16: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
KERAS_PATHS = {
    "old": ("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"),
    "new": ("{0}/{0}/kernel:0", "{0}/{0}/bias:0"),
    "whole model": ("model_weights/{0}/{0}/kernel:0", "model_weights/{0}/{0}/bias:0"),
}
LEGACY_PTH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02"  # from vgg19-dcbb9e9d.pth


@pytest.fixture(params=[19, 16], ids=["VGG-19", "VGG-16"])
def depth(request):
    return request.param


@pytest.fixture
def torch(monkeypatch):
    """A stand-in for torch: `torch.state` is what it loads, or raises."""

    def load(file, map_location, weights_only):
        assert file.read(4) in (b"PK\x03\x04", LEGACY_PTH[:4])
        assert (map_location, weights_only) == ("cpu", True)
        if isinstance(torch.state, Exception):
            raise torch.state
        return torch.state

    torch = SimpleNamespace(load=load, state=None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


class Tensor:
    """As much of a `torch.Tensor` as is used."""

    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        return self.array


def save_h5(path, values, shape="old", top=False):
    """Writes Keras's file of such weights; the first kernel takes BGR there."""
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in values.items():
            if name == "conv1_1":
                kernel = kernel[:, :, ::-1]
            layer = "block" + name[4:].replace("_", "_conv")
            for place, array in zip(KERAS_PATHS[shape], (kernel, bias), strict=True):
                file[place.format(layer)] = array
        file.create_group("block1_pool")
        file.create_group("input_1")
        if top:
            file["fc1/fc1_W_1:0"], file["fc1/fc1_b_1:0"] = np.zeros((8, 3)), np.zeros(3)
        if shape == "whole model":  # the momentum of a layer, which is none of its weights
            file["optimizer_weights/block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 1))
    return path


def state_dict(values, depth=19):
    state = {}
    for index, (kernel, bias) in zip(TORCHVISION_INDICES[depth], values.values(), strict=True):
        state[f"features.{index}.weight"] = kernel.transpose(3, 2, 0, 1)  # [out, in, h, w]
        state[f"features.{index}.bias"] = bias
    return state | {"classifier.0.weight": np.zeros((4, 8)), "classifier.0.bias": np.zeros(4)}


def save_pth(path, torch, values, depth=19):
    """Writes a file that looks like torch's; the stand-in has what would be in it."""
    path.write_bytes(LEGACY_PTH)
    torch.state = {name: Tensor(array) for name, array in state_dict(values, depth).items()}
    return path


def assert_features(network, expected, image):
    found = vgg.features(network, tf.constant(image[np.newaxis]), network.names, "avg", "zero")
    assert list(found) == list(expected)
    for name, features in found.items():
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(features[0], expected[name], rtol=1e-4, atol=1e-4 * size)


def torchvision_features(values, image):
    """As torchvision feeds it: RGB 0..1, minus the mean, by the deviation."""
    kernel, bias = values["conv1_1"]
    by_deviation = kernel.astype(np.float64) / TORCHVISION_DEVIATION[:, np.newaxis]
    values = values | {"conv1_1": (by_deviation, bias)}
    return reference.features(values, image / 255, "avg", mean_pixel=TORCHVISION_MEAN)


def error_of(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    return str(error.value)


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


def test_torchvision_files_are_fed_what_torchvision_feeds_them(tmp_path, picture, depth, torch):
    values, image = reference.tiny_weights(depth), picture(19, 26)
    network = vgg.load(save_pth(tmp_path / "network.pth", torch, values, depth))
    assert_features(network, torchvision_features(values, image), image)
    np.testing.assert_allclose(network.mean_pixel, 255 * TORCHVISION_MEAN)


def test_without_normalization_the_bare_picture_goes_in_as_0_to_1(tmp_path, picture, torch):
    values, image = reference.tiny_weights(), picture(19, 26)
    network = vgg.load(save_pth(tmp_path / "network.pth", torch, values))
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
    assert "is truncated or no .pth file" in error_of(vgg.load, tmp_path / "x.pth")


def test_the_three_formats_agree_where_the_mean_pixel_does(tmp_path, picture, torch):
    values, image = reference.tiny_weights(), picture(19, 26)
    kernel, bias = values["conv1_1"]
    scaled = kernel * (255 * TORCHVISION_DEVIATION[:, np.newaxis]).astype("f4")
    pixel = 255 * TORCHVISION_MEAN
    networks = [
        vgg.load(reference.save_mat(tmp_path / "a.mat", values, mean_pixel=pixel)),
        vgg.load(save_h5(tmp_path / "a.h5", values))._replace(mean_pixel=pixel.astype("f4")),
        vgg.load(save_pth(tmp_path / "a.pth", torch, values | {"conv1_1": (scaled, bias)})),
    ]
    expected = reference.features(values, image, "avg", mean_pixel=pixel)
    for network in networks:
        assert_features(network, expected, image)


def test_the_content_says_the_format_whatever_the_name(tmp_path, torch):
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
    assert {name: settings.canonical(name) for name in names} == names


# What is broken


def test_without_torch_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    path.write_bytes(LEGACY_PTH)
    told = f"network {path} needs torch: pip install -r requirements-torch.txt"
    assert error_of(vgg.load, path) == told
    assert (Path(weights.PROGRAM_FOLDER) / "requirements-torch.txt").exists()


def test_only_a_torchvision_network_goes_without_normalization(network):
    assert error_of(vgg.without_normalization, network) == (
        "the network tiny.mat cannot go without normalization: give a torchvision .pth file"
    )


def test_a_file_of_unknown_format_is_told_which_ones_there_are(tmp_path):
    path = tmp_path / "photo.png"
    for content in (b"\x89PNG\r\n\x1a\n", b"hello " * 100, pickle.dumps({"features.0.weight": 1})):
        path.write_bytes(content)
        assert error_of(vgg.load, path) == (
            f"network {path} has no known format: give a MatConvNet .mat, a Keras VGG .h5 or a "
            "torchvision VGG .pth file"
        )


def test_a_truncated_h5_file_is_told_in_one_line_wherever_it_ends(tmp_path):
    path = save_h5(tmp_path / "broken.h5", reference.tiny_weights())
    whole = path.read_bytes()
    for length in [8, 9, 50, 600, *range(1000, len(whole) - 1, len(whole) // 20)]:
        path.write_bytes(whole[:length])
        assert error_of(vgg.load, path) == (
            f"network {path} is truncated or no .h5 file (OSError): "
            "fetch it again or give another --network"
        )


def test_an_h5_file_without_vgg_layers_is_told_in_one_line(tmp_path):
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
            f"network {path} is no Keras VGG network: give a .h5 file such as {KERAS_FILE}"
        )


def test_a_pth_file_that_torch_cannot_load_is_told_in_one_line(tmp_path, torch):
    path = tmp_path / "broken.pth"
    for signature in (b"PK\x03\x04", LEGACY_PTH):
        path.write_bytes(signature)
        for error in (RuntimeError("a\nb"), EOFError(), pickle.UnpicklingError("c")):
            torch.state = error
            assert error_of(vgg.load, path) == (
                f"network {path} is truncated or no .pth file ({type(error).__name__}): "
                "fetch it again or give another --network"
            )


def test_a_pth_file_that_is_no_vgg_is_told_in_one_line(tmp_path, torch):
    path = tmp_path / "other.pth"
    path.write_bytes(LEGACY_PTH)
    kernel, bias = Tensor(np.zeros((4, 3, 3, 3))), Tensor(np.zeros(4))
    first = {"features.0.weight": kernel, "features.0.bias": bias}
    cases = {
        "no dict": [1, 2],
        "nothing": {},
        "no tensors": {"features.0.weight": 1, "features.0.bias": 2},
        "ResNet": {"conv1.weight": kernel},
        "AlexNet": {"features.0.weight": Tensor(np.zeros((4, 3, 11, 11))), "features.0.bias": bias},
        "SqueezeNet": first | {"features.3.squeeze.weight": kernel},
        "batch normalization": first | {"features.1.weight": bias, "features.1.bias": bias},
        "no bias": {"features.0.weight": kernel},
        "not from the first": {"features.1.weight": kernel, "features.1.bias": bias},
    }
    for name, state in cases.items():
        torch.state = state
        assert error_of(vgg.load, path) == (
            f"network {path} is no torchvision VGG network: give a .pth file such as "
            "vgg19-dcbb9e9d.pth"
        ), name


def test_layers_that_do_not_fit_are_refused_in_every_format(tmp_path, torch):
    values = reference.tiny_weights()
    gray = values["conv1_1"][0][:, :, :1], values["conv1_1"][1]
    short = values["conv2_1"][0][:, :, :-1], values["conv2_1"][1]
    for name, bent in {"conv1_1": gray, "conv2_1": short}.items():
        for path in (
            save_h5(tmp_path / "bent.h5", values | {name: bent}),
            save_pth(tmp_path / "bent.pth", torch, values | {name: bent}),
        ):
            told = f"network {path}: layer {name} is broken, fetch the file again"
            assert error_of(vgg.load, path) == told


# Well-known names


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The program's folder, Keras's, and a `get_file` that must not be called."""
    program, keras = tmp_path / "program", tmp_path / "keras"
    program.mkdir()
    (keras / "models").mkdir(parents=True)
    monkeypatch.setattr(weights, "PROGRAM_FOLDER", program)
    monkeypatch.setenv("KERAS_HOME", str(keras))
    monkeypatch.setattr("keras.utils.get_file", lambda *_, **__: pytest.fail("fetched"))
    return program, keras / "models"


def test_anything_but_a_well_known_name_is_a_path(places):
    for path in ("photo.png", "./vgg19", "VGG19", Path("vgg19"), Path("a/vgg16")):
        assert vgg.find(path) is path


def test_well_known_networks_are_looked_up_beside_the_program_then_in_keras_folder(places):
    program, keras = places
    values = reference.tiny_weights(channels=(2, 3))
    in_cache = save_h5(keras / KERAS_FILE, values)
    assert vgg.find("vgg19") == in_cache
    beside = save_h5(program / KERAS_FILE, values)
    assert vgg.find("vgg19") == beside
    assert vgg.load("vgg19").names == reference.layer_names(values)
    sixteen = save_h5(keras / KERAS_FILE.replace("19", "16"), values)
    assert vgg.find("vgg16") == sixteen


def test_without_keras_home_the_folder_is_in_the_users_home(places, tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras" / "models").mkdir(parents=True)
    path = save_h5(tmp_path / ".keras" / "models" / KERAS_FILE, reference.tiny_weights())
    assert vgg.find("vgg19") == path


@pytest.mark.parametrize("name", ["vgg19", "vgg16"])
def test_what_is_nowhere_is_fetched_by_keras_with_its_checksum(places, monkeypatch, capsys, name):
    from keras.src.applications import vgg16, vgg19

    calls = []

    def get_file(*arguments, **named):
        print("Downloading")
        calls.append((arguments, named))
        return "/somewhere/it.h5"

    monkeypatch.setattr("keras.utils.get_file", get_file)
    assert vgg.find(name) == Path("/somewhere/it.h5")
    address = {"vgg19": vgg19, "vgg16": vgg16}[name].WEIGHTS_PATH_NO_TOP
    source = Path({"vgg19": vgg19, "vgg16": vgg16}[name].__file__).read_text()
    [(arguments, named)] = calls
    assert arguments == (KERAS_FILE.replace("vgg19", name), address)
    assert named["cache_subdir"] == "models" and f'"{named["file_hash"]}"' in source
    assert capsys.readouterr() == ("", "Downloading\n")


def test_out_of_reach_one_line_says_which_file_to_put_where(places, monkeypatch):
    program, keras = places
    address = f"{weights.KERAS_ADDRESS}/vgg19/{KERAS_FILE}"
    reasons = {"[Errno -2] Name unknown": f"URL fetch failure on {address}: None -- "}
    reasons["The file hash does not match"] = ""
    for reason, before in reasons.items():

        def get_file(file_name, *_, text=before + reason, **__):
            (keras / file_name).write_text("half")
            raise Exception(text)

        monkeypatch.setattr("keras.utils.get_file", get_file)
        assert error_of(vgg.load, "vgg19") == (
            f"network vgg19 is out of reach ({reason}): get {address} another way and put it "
            f"into {program}"
        )
        assert not (keras / KERAS_FILE).exists()
