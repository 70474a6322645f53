"""Files that are intact but not a VGG, and networks that are found by a well-known name."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import reference
import scipy.io
import scipy.sparse
from network_files import (
    KERAS_FILE,
    error_of,
    save_h5,
    save_pth,
)

from neural_style_tf.batch import parcels
from neural_style_tf.commands.parser import parse
from neural_style_tf.network import downloads, vgg, weights
from neural_style_tf.runs import provenance
from neural_style_tf.runs.options import recorded_inputs
from neural_style_tf.settings import BUNDLED_NETWORK

pytestmark = pytest.mark.usefixtures("quick_reader")

# Intact files that are not a VGG


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
def test_a_layer_of_another_structure_is_reported_in_one_line(mat, what):
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
def test_a_layer_that_no_vgg_has_is_reported_in_one_line(mat, what):
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


def test_layers_in_another_order_or_twice_are_reported_in_one_line(mat):
    path = mat({"conv1_1": {"name": "relu9_9", "type": "relu"}})
    assert error_of(weights.read, path) == (
        f"network {path} has no layer conv1_1: choose a VGG network"
    )
    path = mat({"relu1_2": {"name": "relu1_1"}})
    assert error_of(weights.read, path) == (
        f"network {path} has layers that no VGG has: choose a VGG network"
    )


def test_an_invalid_mean_pixel_is_reported_in_one_line(mat):
    for average, message in {
        "word": "is not a MatConvNet network",
        np.nan: ": the mean pixel is broken: download the file again",
    }.items():
        average = np.full((1, 1, 3), average)
        path = mat({}, {"normalization": {"averageImage": average}})
        assert message in error_of(weights.read, path)


def test_layers_that_do_not_fit_are_refused_in_every_format(tmp_path):
    values = reference.tiny_weights()
    gray = values["conv1_1"][0][:, :, :1], values["conv1_1"][1]
    short = values["conv2_1"][0][:, :, :-1], values["conv2_1"][1]
    for name, bent in {"conv1_1": gray, "conv2_1": short}.items():
        for path in (
            save_h5(tmp_path / "bent.h5", values | {name: bent}),
            save_pth(tmp_path / "bent.pth", values | {name: bent}),
        ):
            message = f"network {path}: layer {name} is broken: download the file again"
            assert error_of(vgg.load, path) == message


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
    parcel = parcels.pack(options, is_shared)
    monkeypatch.chdir("/")  # where a worker may run
    assert weights.find(parcel.network) == BUNDLED_NETWORK


def test_the_bundled_network_is_loaded_by_its_name_from_every_folder(run):
    result = run("--network", BUNDLED_NETWORK.name, "--content-layers", "relu9_9")
    assert result.returncode == 1
    assert result.stderr.startswith("error: the network has no layer relu9_9 ")


@pytest.mark.parametrize("name", ["vgg19", "vgg16"])
def test_a_missing_network_is_downloaded_with_the_checksum_of_keras(places, monkeypatch, name):
    from keras.src.applications import vgg16, vgg19

    calls = []
    monkeypatch.setattr(downloads, "fetch", lambda *arguments: calls.append(arguments))
    place = places[1] / KERAS_FILE.replace("vgg19", name)
    assert weights.find(name) == place
    module = {"vgg19": vgg19, "vgg16": vgg16}[name]
    [(what, address, target, md5, most)] = calls
    assert (what, address, target) == (f"network {name}", module.WEIGHTS_PATH_NO_TOP, place)
    assert f'"{md5}"' in Path(module.__file__).read_text() and most == weights.MAX_BYTES
