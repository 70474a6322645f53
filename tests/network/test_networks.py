"""The networks of Keras and torchvision: the same features as the .mat file of the same values.

Nothing is downloaded from elsewhere, and torch need not be there: a stand-in loads what the tests
write.
"""

import hashlib
import os
import pickle
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
import reference
import scipy.io
import scipy.sparse
import tensorflow as tf

from neural_style_tf import rules
from neural_style_tf.batch import dask_cluster
from neural_style_tf.commands.parser import parse
from neural_style_tf.errors import UserError
from neural_style_tf.network import cache, downloads, reader, vgg, weights
from neural_style_tf.runs import provenance
from neural_style_tf.runs.options import recorded_inputs
from neural_style_tf.settings import BUNDLED_NETWORK

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


STAND_IN_FOR_TORCH = """
import pickle

__version__ = "2.6.0+cpu"


class Tensor:
    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def float(self):
        return Tensor(self.array.astype("f4"))

    def numpy(self):
        return self.array


def load(file, map_location, weights_only):
    assert (map_location, weights_only) == ("cpu", True)
    state = pickle.loads(file.read()[SKIPPED:])
    if isinstance(state, Exception):
        raise state
    if not isinstance(state, dict):
        return state
    return {name: Tensor(item) if hasattr(item, "dtype") else item for name, item in state.items()}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A function that makes a Python module what is imported as torch."""

    def make(code):
        package = tmp_path / "packages" / "torch"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(package.parent)

    return make


@pytest.fixture
def torch(stand_in):
    """A stand-in for torch, which loads what `save_state` writes."""
    stand_in(STAND_IN_FOR_TORCH.replace("SKIPPED", str(len(LEGACY_PTH))))


def save_state(path, state):
    """Writes a file that looks like torch's; the stand-in returns the state, or raises it."""
    path.write_bytes(LEGACY_PTH + pickle.dumps(state))
    return path


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


def save_pth(path, values, depth=19):
    return save_state(path, state_dict(values, depth))


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
    network = vgg.load(save_pth(tmp_path / "network.pth", values, depth))
    assert_features(network, torchvision_features(values, image), image)
    np.testing.assert_allclose(network.mean_pixel, 255 * TORCHVISION_MEAN)


def test_without_normalization_the_bare_picture_goes_in_as_0_to_1(tmp_path, picture, torch):
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
    assert {name: rules.canonical_layer(name) for name in names} == names


# What is broken


def test_without_torch_one_line_says_what_to_install(tmp_path, stand_in):
    stand_in('raise ModuleNotFoundError("No module named torch", name="torch")')
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    path.write_bytes(LEGACY_PTH)
    told = f"network {path} needs torch: pip install 'neural-style-tf[torch]'"
    assert error_of(vgg.load, path) == told


def test_a_torch_that_cannot_be_imported_is_told_in_one_line(tmp_path, stand_in):
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


def test_a_file_of_unknown_format_is_told_which_ones_there_are(tmp_path):
    path = tmp_path / "photo.png"
    for content in (b"\x89PNG\r\n\x1a\n", b"hello " * 100, pickle.dumps({"features.0.weight": 1})):
        path.write_bytes(content)
        assert error_of(vgg.load, path) == (
            f"network {path} has an unknown format: choose a MatConvNet .mat, a Keras VGG .h5 or a "
            "torchvision VGG .pth file"
        )


def test_a_truncated_h5_file_is_told_in_one_line_wherever_it_ends(tmp_path):
    path = save_h5(tmp_path / "broken.h5", reference.tiny_weights())
    whole = path.read_bytes()
    for length in [8, 9, 50, 600, *range(1000, len(whole) - 1, len(whole) // 20)]:
        path.write_bytes(whole[:length])
        assert error_of(vgg.load, path) == (
            f"network {path} is truncated or not a .h5 file (OSError): "
            "download it again or choose another network"
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
            f"network {path} is not a Keras VGG network: choose a .h5 file such as {KERAS_FILE}"
        )


def test_a_pth_file_that_torch_cannot_load_is_told_in_one_line(tmp_path, torch):
    path = tmp_path / "broken.pth"
    for error in (RuntimeError("a\nb"), EOFError(), pickle.UnpicklingError("c")):
        assert error_of(vgg.load, save_state(path, error)) == (
            f"network {path} is truncated or not a .pth file ({type(error).__name__}): "
            "download it again or choose another network"
        )


def test_a_pth_file_that_is_no_vgg_is_told_in_one_line(tmp_path, torch):
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


# What breaks the libraries


BEHAVIOURS = {
    "crash": ("os.kill(os.getpid(), 11)", "the reader of .pth files crashed on it (SIGSEGV)"),
    "end": ("os._exit(3)", "the reader of .pth files crashed on it (exit status 3)"),
    "lie": ("os.write(OUTPUT, b'W' + bytes(8)); os._exit(0)", "the reader of .pth files crashed on "
            "it (exit status 0)"),
    "promise": ("os.write(OUTPUT, b'W' + b'\\xff' * 8); os._exit(0)",
                "the reader of .pth files crashed on it (exit status 0)"),
    "work": ("while True: pass", "reading it takes more than 2 s"),
    "wait": ("time.sleep(600)", "reading it takes more than 2 s"),
}  # fmt: skip


@pytest.mark.parametrize("what", BEHAVIOURS)
def test_whatever_the_library_does_is_told_in_one_line(tmp_path, stand_in, monkeypatch, what):
    code, message = BEHAVIOURS[what]
    if what in ("work", "wait"):  # a crash is told as one, however long it takes
        monkeypatch.setattr(reader, "SECONDS", 0.5)
        monkeypatch.setattr(reader, "WAIT_SECONDS", 1.5)
    else:
        monkeypatch.setattr(reader, "WAIT_SECONDS", 60)
    code = code.replace("OUTPUT", "3")  # the first descriptor that is free in the child
    stand_in(f"import os, time\n__version__ = '2.6'\ndef load(*_, **__):\n    {code}\n")
    path = save_state(tmp_path / "network.pth", {})
    began = time.monotonic()
    assert error_of(weights.read, path) == (
        f"network {path} is broken: {message}: download it again or choose another network"
    )
    assert time.monotonic() - began < 60


def test_a_file_may_take_memory_in_proportion_to_its_size(tmp_path, stand_in):
    stand_in("__version__ = '2.6'\ndef load(*_, **__):\n    bytearray(10**9)\n")
    path = save_state(tmp_path / "network.pth", {})
    assert error_of(weights.read, path) == (
        f"network {path} is broken (it unpacks to far more than a VGG has): download it again or "
        "choose another network"
    )


def test_the_library_writes_no_file_and_may_print(tmp_path, stand_in):
    code = STAND_IN_FOR_TORCH.replace("SKIPPED", str(len(LEGACY_PTH)))
    stand_in(code.replace("    state =", "    print('hello')\n    state ="))
    path = save_pth(tmp_path / "network.pth", reference.tiny_weights())
    assert len(weights.read(path).layers) == 36
    file = tmp_path / "written"
    write = f"with open({str(file)!r}, 'w') as file: file.write('x')"
    stand_in(f"__version__ = '2.6'\ndef load(*_, **__):\n    {write}")
    path = save_state(path, {})
    assert "not a .pth file (OSError)" in error_of(weights.read, path)
    assert not file.exists() or not file.read_text()


def test_a_network_is_read_from_any_folder_and_once_for_equal_files(tmp_path, monkeypatch):
    values = reference.tiny_weights(seed=5)
    path = reference.save_mat(tmp_path / "network.mat", values)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "formats.py").write_text("raise Exception")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    first = weights.read("network.mat")
    monkeypatch.setattr(reader, "read", lambda *_: pytest.fail("read again"))
    (tmp_path / "copy.mat").write_bytes(path.read_bytes())
    again = weights.read("copy.mat")
    assert (first.title, again.title) == ("the network network.mat", "the network copy.mat")
    assert again.layers is first.layers


def test_without_a_second_process_one_line_says_so(tmp_path, monkeypatch):
    path = reference.save_mat(tmp_path / "network.mat", reference.tiny_weights(seed=6))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert error_of(weights.read, path) == (
        f"cannot start the reader of network {path} (No such file or directory): "
        "close other programs"
    )


def test_an_h5_file_that_declares_more_than_it_has_is_refused(tmp_path):
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:
        shape = 3, 3, 3, 10**9
        file.create_dataset("block1_conv1/kernel:0", shape, "f4", chunks=(3, 3, 3, 100))
    assert path.stat().st_size < 20_000
    began = time.monotonic()
    assert error_of(weights.read, path) == (
        f"network {path} is broken (it unpacks to far more than a VGG has): download it again or "
        "choose another network"
    )
    assert time.monotonic() - began < 60


def test_an_h5_file_does_not_lead_to_other_files(tmp_path):
    path, secret = tmp_path / "network.h5", tmp_path / "secret"
    secret.write_bytes(np.arange(12, dtype="f4").tobytes())
    message = f"network {path} is truncated or not a .h5 file (ValueError)"
    with h5py.File(path, "w") as file:
        name, shape = "block1_conv1/kernel:0", (3, 4)
        file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 48)])
    assert message in error_of(weights.read, path)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(str(secret), "x", shape)
        file.create_virtual_dataset(name, layout)
    assert message in error_of(weights.read, path)
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
    assert f"network {path} is not a Keras VGG network" in error_of(weights.read, path)


def test_what_is_not_a_file_of_a_plausible_size_is_refused_at_once(tmp_path):
    pipe, large = tmp_path / "pipe", tmp_path / "large.mat"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.write(b"MATLAB 5.0 MAT-file")
        file.truncate(100_000_000_000)
    for read in (weights.read, cache.read, vgg.load):
        for path in (pipe, "/dev/zero"):
            assert error_of(read, path) == f"network {path} is a device or a pipe: choose a file"
        assert error_of(read, large) == (
            f"network {large} has 100.0 GB: choose a VGG network, which has at most 2 GB"
        )
        assert error_of(read, tmp_path) == f"{tmp_path} is a folder: name a file inside it"
        assert error_of(read, "a\0b") == "no file 'a\\x00b' (embedded null byte): check the name"


def test_a_matlab_7_3_file_is_told_how_to_save_it(tmp_path):
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    assert error_of(weights.read, path) == (
        f"network {path} is a MATLAB 7.3 file: save it again with the option -v7"
    )


# What is no VGG, though it is whole


@pytest.fixture
def mat(tmp_path):
    """A function that writes a .mat file of a tiny network whose layers were changed: by record's
    name, the fields that are to differ."""

    def write(changes, meta=None):
        path = reference.save_mat(tmp_path / "network.mat", reference.tiny_weights())
        content = scipy.io.loadmat(path, simplify_cells=True)
        layers = np.empty((1, len(content["layers"])), object)
        layers[0, :] = content["layers"]
        for record in content["layers"]:
            if "weights" in record:
                cell = np.empty((1, 2), object)
                cell[0, :] = list(record["weights"])
                record["weights"] = cell
            record |= changes.get(record["name"], {})
        scipy.io.savemat(path, {"layers": layers, "meta": meta or content["meta"]})
        return path

    return write


def pair(kernel, bias):
    cell = np.empty((1, 2), object)
    cell[0, :] = [kernel, bias]
    return {"weights": cell}


KERNEL, BIAS = np.ones((3, 3, 3, 4), "f4"), np.ones((4, 1), "f4")
NOT_VGG = {
    "a weight that is a word": {"weights": "word"},
    "a weight that is a struct": {"weights": {"a": 1}},
    "one weight": {"weights": [1.0]},
    "a kernel of words": pair("kernel", BIAS),
    "a kernel of cells": pair(np.array([["a", 1.0]], object), BIAS),
    "a sparse kernel": pair(scipy.sparse.eye_array(4, format="csc"), BIAS),
    "a complex kernel": pair(KERNEL * 1j, BIAS),
    "a flat kernel": pair(KERNEL[0, 0], BIAS),
    "no bias": pair(KERNEL, "bias"),
    "another type": {"type": "pool"},
    "a type that is a number": {"type": 3.0},
    "a name that is a cell": {"name": np.array([["a", "b"]], object)},
}


@pytest.mark.parametrize("what", NOT_VGG)
def test_a_layer_of_another_structure_is_told_in_one_line(mat, what):
    path = mat({"conv1_1": NOT_VGG[what]})
    assert error_of(weights.read, path) == (
        f"network {path} is not a MatConvNet network: choose a .mat file such as "
        "imagenet-vgg-verydeep-19.mat"
    )


BROKEN = {
    "endless kernel": pair(KERNEL * np.inf, BIAS),
    "kernel too large for float32": pair(KERNEL.astype("f8") * 1e300, BIAS),
    "endless bias": pair(KERNEL, BIAS * np.nan),
    "bias too short": pair(KERNEL, BIAS[:2]),
    "kernel of another size": pair(np.ones((5, 5, 3, 4), "f4"), BIAS),
    "kernel that is not square": pair(np.ones((1, 3, 3, 4), "f4"), BIAS),
    "kernel without channels": pair(np.ones((3, 3, 3, 0), "f4"), BIAS[:0]),
    "more channels than a VGG has": pair(np.ones((3, 3, 3, 5000), "f4"), np.ones((5000, 1), "f4")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_layer_that_no_vgg_has_is_told_in_one_line(mat, what):
    path = mat({"conv1_1": BROKEN[what]})
    if what == "kernel without channels":  # MATLAB's files keep nothing of it
        assert "\n" not in error_of(weights.read, path)
    else:
        assert error_of(weights.read, path) == (
            f"network {path}: layer conv1_1 is broken: download the file again"
        )


@pytest.mark.parametrize("name", ["conv1_1\n", "conv1_" + "1" * 300, "conv\u0661_1", "CONV1_1"])
def test_a_layer_of_another_name_ends_the_network_there(mat, name):
    assert len(weights.read(mat({"conv3_1": {"name": name}})).layers) == 9
    path = mat({"conv1_1": {"name": name}})
    assert error_of(weights.read, path) == (
        f"network {path} has no layer conv1_1: choose a VGG network"
    )


def test_layers_in_another_order_or_twice_are_told_in_one_line(mat):
    path = mat({"conv1_1": {"name": "relu9_9", "type": "relu"}})
    assert error_of(weights.read, path) == (
        f"network {path} has no layer conv1_1: choose a VGG network"
    )
    path = mat({"relu1_2": {"name": "relu1_1"}})
    assert error_of(weights.read, path) == (
        f"network {path} has layers that no VGG has: choose a VGG network"
    )


def test_a_mean_pixel_that_is_none_is_told_in_one_line(mat):
    for average, message in {
        "word": "is not a MatConvNet network",
        np.nan: ": the mean pixel is broken: download the file again",
    }.items():
        average = np.full((1, 1, 3), average)
        path = mat({}, {"normalization": {"averageImage": average}})
        assert message in error_of(weights.read, path)


def test_layers_that_do_not_fit_are_refused_in_every_format(tmp_path, torch):
    values = reference.tiny_weights()
    gray = values["conv1_1"][0][:, :, :1], values["conv1_1"][1]
    short = values["conv2_1"][0][:, :, :-1], values["conv2_1"][1]
    for name, bent in {"conv1_1": gray, "conv2_1": short}.items():
        for path in (
            save_h5(tmp_path / "bent.h5", values | {name: bent}),
            save_pth(tmp_path / "bent.pth", values | {name: bent}),
        ):
            told = f"network {path}: layer {name} is broken: download the file again"
            assert error_of(vgg.load, path) == told


# Well-known names


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The current folder and Keras's; and a download that must not happen."""
    current, keras = tmp_path / "current", tmp_path / "keras"
    current.mkdir()
    (keras / "models").mkdir(parents=True)
    monkeypatch.chdir(current)
    monkeypatch.setenv("KERAS_HOME", str(keras))
    monkeypatch.setattr(downloads, "fetch", lambda *_: pytest.fail("downloaded"))
    return current, keras / "models"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A function that writes a network under a well-known name, which is then the published one."""
    source = save_h5(tmp_path / "source.h5", reference.tiny_weights(channels=(2, 3)))
    data = source.read_bytes()
    for name, (address, _) in weights.PUBLISHED.items():
        monkeypatch.setitem(weights.PUBLISHED, name, (address, hashlib.md5(data).hexdigest()))

    def write(path):
        path.write_bytes(data)
        return path

    return write


def test_anything_but_a_well_known_name_is_a_path(places):
    for path in ("photo.png", "./vgg19", "VGG19", Path("vgg19"), Path("a/vgg16")):
        assert weights.find(path) is path


def test_well_known_networks_are_searched_for_in_the_current_folder_then_in_keras_folder(
    places, published
):
    current, keras = places
    in_keras_folder = published(keras / KERAS_FILE)
    assert weights.find("vgg19") == in_keras_folder
    in_current_folder = published(current / KERAS_FILE)
    assert weights.find("vgg19").resolve() == in_current_folder
    assert vgg.load("vgg19").names[-1] == "relu2_2"
    sixteen = published(keras / KERAS_FILE.replace("19", "16"))
    assert weights.find("vgg16") == sixteen


def test_without_keras_home_the_folder_is_in_the_users_home(
    places, published, tmp_path, monkeypatch
):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras" / "models").mkdir(parents=True)
    path = published(tmp_path / ".keras" / "models" / KERAS_FILE)
    assert weights.find("vgg19") == path


@pytest.mark.parametrize("place", ["current folder", "Keras's folder"])
def test_a_file_of_a_well_known_name_that_is_another_is_refused(places, published, place):
    folder = {"current folder": Path(), "Keras's folder": places[1]}[place]
    path = published(folder / KERAS_FILE)
    assert weights.find("vgg19") == path
    save_h5(path, reference.tiny_weights(seed=3))
    assert error_of(vgg.load, "vgg19") == (
        f"network vgg19: {path} is not the published file: delete it to have it downloaded again, "
        f"or choose it with --network {path}"
    )
    assert vgg.load(path).names[-1] == "relu5_4"


def test_the_bundled_network_is_found_by_its_name_from_every_folder(places):
    current, _ = places
    name = BUNDLED_NETWORK.name
    assert weights.find(name) == BUNDLED_NETWORK
    assert vgg.load(name) is vgg.load(BUNDLED_NETWORK)
    recorded = {"network": name, "sha256": {"network": provenance.digest(BUNDLED_NETWORK)}}
    others = set(recorded_inputs()) - {"network"}
    inputs = provenance.inputs_of(recorded, others, [current])  # of a picture that it made
    assert inputs == {"network": str(BUNDLED_NETWORK)}
    own = reference.save_mat(current / name, reference.tiny_weights())
    assert Path(weights.find(name)).resolve() == own  # a file of that name comes first


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_bundled_network_is_found_by_its_name_on_a_cluster(folder, monkeypatch, is_shared):
    monkeypatch.chdir(folder)
    files = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    options = parse([*files, "--network", BUNDLED_NETWORK.name], {})
    parcel = dask_cluster.pack(options, is_shared)
    monkeypatch.chdir("/")  # where a worker may run
    assert weights.find(parcel.options.network) == BUNDLED_NETWORK


def test_the_bundled_network_is_loaded_by_its_name_from_every_folder(run):
    result = run("--network", BUNDLED_NETWORK.name, "--content-layers", "relu9_9")
    assert result.returncode == 1
    assert result.stderr.startswith("error: the network has no layer relu9_9 ")


@pytest.mark.parametrize("name", ["vgg19", "vgg16"])
def test_what_is_nowhere_is_downloaded_with_kerass_own_checksum(places, monkeypatch, name):
    from keras.src.applications import vgg16, vgg19

    calls = []
    monkeypatch.setattr(downloads, "fetch", lambda *arguments: calls.append(arguments))
    place = places[1] / KERAS_FILE.replace("vgg19", name)
    assert weights.find(name) == place
    module = {"vgg19": vgg19, "vgg16": vgg16}[name]
    [(what, address, target, md5, most)] = calls
    assert (what, address, target) == (f"network {name}", module.WEIGHTS_PATH_NO_TOP, place)
    assert f'"{md5}"' in Path(module.__file__).read_text() and most == weights.MAX_BYTES


# Downloads


class Server(BaseHTTPRequestHandler):
    """Sends `CONTENT`, whole or in one of several wrong ways."""

    def do_GET(self):
        way = self.path.strip("/")
        if way == "missing":
            self.send_error(404)
        elif way.startswith("to-"):
            self.send_response(302)
            self.send_header(
                "Location", {"to-http": "/whole", "to-file": "file:///etc/passwd"}[way]
            )
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write({"cut": CONTENT[:-1], "other": CONTENT[::-1]}.get(way, CONTENT))

    def log_message(self, *_):
        pass


CONTENT = b"a network " * 1000
CHECKSUM = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_download_is_a_whole_file_with_the_users_mode(server, tmp_path, capsys):
    place = tmp_path / "keras" / "models" / "network.h5"
    downloads.fetch("network x", f"{server}/whole", place, CHECKSUM, 10_000)
    assert place.read_bytes() == CONTENT
    (tmp_path / "plain").touch()
    assert place.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert capsys.readouterr() == ("", f"downloading network x from {server}/whole\n")


@pytest.mark.parametrize(
    "way, most, reason",
    [
        ("missing", 10_000, "Not Found"),
        ("cut", 10_000, "it is damaged or not the published file"),
        ("other", 10_000, "it is damaged or not the published file"),
        ("whole", 9_999, "it is too large"),
        ("to-http", 10_000, "redirected to '{server}/whole'"),
        ("to-file", 10_000, "Found - Redirection to url 'file:///etc/passwd' is not allowed"),
    ],
)
def test_a_download_that_fails_is_told_and_leaves_nothing(server, tmp_path, way, most, reason):
    place = tmp_path / "network.h5"
    address = f"{server}/{way}"
    assert error_of(downloads.fetch, "network x", address, place, CHECKSUM, most) == (
        f"cannot download network x ({reason.format(server=server)}): download {address} another "
        f"way and save it in {tmp_path}"
    )
    assert not list(tmp_path.iterdir())


def test_without_a_network_connection_one_line_says_what_to_do(tmp_path):
    address = "http://127.0.0.1:9/network.h5"
    assert error_of(downloads.fetch, "network x", address, tmp_path / "x", CHECKSUM, 1) == (
        f"cannot download network x (Connection refused): download {address} another way and save "
        f"it in {tmp_path}"
    )
