"""Networks of PyTorch programs: every layout of the same weights gives the same features, whatever
the file is called; what is in a file is read and never obeyed."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import reference
from network_files import (
    KERAS_MEAN_PIXEL,
    TORCHVISION_DEVIATION,
    TORCHVISION_INDICES,
    TORCHVISION_MEAN,
    assert_features,
    error_of,
    save_safetensors,
    state_dict,
    torchvision_features,
)
from torch_writer import BFloat16, Module, Raw, archive, legacy

from neural_style_tf.network import state_dicts, torch_files, vgg, weights
from neural_style_tf.settings import BUNDLED_NETWORK

pytestmark = pytest.mark.usefixtures("quick_reader")

LAYOUTS = (
    "features.0.weight (torchvision, timm, Caffe's VGG), 0.weight (the layers alone) and "
    "conv1_1.weight (vgg_conv)"
)
BLOCKS = 2  # of the bundled network, which its filters are recognized in


@pytest.fixture(scope="module")
def bundled():
    """The first layers of the bundled network, [h, w, in, out] and [out], RGB."""
    layers = weights.read(BUNDLED_NETWORK).layers
    return {
        layer.name: (layer.kernel, layer.bias)
        for layer in layers
        if layer.kind == "conv" and int(layer.name[4]) <= BLOCKS
    }


@pytest.fixture
def as_torch(tmp_path):
    """A function that writes a `.pth` file."""

    def write(content, save=archive, **how):
        path = tmp_path / "network.pth"
        path.write_bytes(save(content, **how))
        return path

    return write


def bgr(values):
    kernel, bias = values["conv1_1"]
    return values | {"conv1_1": (kernel[:, :, ::-1], bias)}


def conv_names(values, kernel_name="weight"):
    state = {}
    for name, (kernel, bias) in values.items():
        is_torch = kernel_name == "weight"
        state[f"{name}.{kernel_name}"] = kernel.transpose(3, 2, 0, 1) if is_torch else kernel
        state[f"{name}.bias"] = bias
    return state


def features_state(values):
    return {name: array for name, array in state_dict(values).items() if "features" in name}


def numbered(values, step=2, first=0):
    """Convolutions by their place in a sequence: each takes `step`, and a pooling one more."""
    state, index, block = {}, first, "1"
    for name, (kernel, bias) in values.items():
        index += name[4] != block
        block = name[4]
        state[f"{index}.weight"], state[f"{index}.bias"] = kernel.transpose(3, 2, 0, 1), bias
        index += step
    return state


# The same weights in every layout


def with_prefix(state, prefix):
    return {f"{prefix}{name}": array for name, array in state.items()}


CAFFE_LAYOUTS = {
    "neural-style-pt": lambda values: features_state(bgr(values)),
    "vgg_conv": lambda values: conv_names(bgr(values)),
    "Keras's names": lambda values: {
        f"block{name[4]}_conv{name[6:]}": array for name, array in conv_names(bgr(values)).items()
    },
    "RGB, torchvision's features": features_state,
    "RGB, conv names": conv_names,
    "layers alone": lambda values: numbered(bgr(values)),
    "parallel": lambda values: with_prefix(features_state(bgr(values)), "module."),
    "slices": lambda values: {
        name.replace("features", "net.slice1" if int(name.split(".")[1]) < 5 else "net.slice2"): a
        for name, a in features_state(bgr(values)).items()
    },
    "checkpoint": lambda values: {
        "epoch": 3,
        "state_dict": features_state(bgr(values)),
        "optimizer": {"state": {0: {"momentum": np.ones(3, "f4")}}, "lr": [0.1]},
    },
    "whole module": lambda values: Module(
        features=Module(
            **{
                str(index): Module(weight=kernel.transpose(3, 2, 0, 1), bias=bias)
                for index, (kernel, bias) in zip(
                    TORCHVISION_INDICES[19], bgr(values).values(), strict=False
                )
            }
        )
    ),
}


@pytest.mark.parametrize("layout", CAFFE_LAYOUTS)
def test_the_weights_of_caffe_are_recognized_in_every_layout(as_torch, bundled, picture, layout):
    network = vgg.load(as_torch(CAFFE_LAYOUTS[layout](bundled)))
    expected = reference.features(bundled, picture(9, 12), "avg", mean_pixel=KERAS_MEAN_PIXEL)
    assert_features(network, expected, picture(9, 12))
    order = "RGB" if layout.startswith("RGB") else "BGR"
    assert network.title == f"the network network.pth (Caffe's VGG: {order}, 0..255)"
    assert (network.scale == 1).all()


def test_a_file_of_the_bundled_weights_gives_the_features_of_the_bundled_network(
    as_torch, bundled, picture
):
    own, other = vgg.load(), vgg.load(as_torch(features_state(bgr(bundled))))
    layers, image = other.names, picture(24, 32)[np.newaxis]
    of_own, of_other = (vgg.features(network, image, layers) for network in (own, other))
    for name in layers:
        np.testing.assert_allclose(of_other[name], of_own[name], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("save", [archive, legacy])
def test_the_weights_of_torchvision_take_what_torchvision_gives_them(as_torch, picture, save):
    values, image = reference.tiny_weights(), picture(19, 26)
    for state in (state_dict(values), numbered(values)):
        network = vgg.load(as_torch(state, save))
        assert_features(network, torchvision_features(values, image), image)
        assert network.title == "the network network.pth (torchvision's VGG: RGB, normalized)"


def test_a_normalized_network_of_caffe_is_recognized_by_the_directions_of_its_filters(
    as_torch, bundled, picture
):
    kernel, bias = bundled["conv1_1"]
    factors = np.random.default_rng(0).uniform(0.002, 0.05, 64).astype("f4")
    values = {"conv1_1": (kernel * factors, bias * factors)}
    network = vgg.load(as_torch(conv_names(bgr(values))))
    expected = reference.features(values, picture(9, 12), "avg", mean_pixel=KERAS_MEAN_PIXEL)
    assert_features(network, expected, picture(9, 12))


def test_a_network_that_was_trained_further_is_recognized(bundled):
    kernel = bundled["conv1_1"][0]
    noise = np.random.default_rng(0).normal(0, 0.02, kernel.shape).astype("f4")
    taken = state_dicts._recognized((kernel + noise)[:, :, ::-1], state_dicts.TORCHVISION)
    assert taken.title == "Caffe's VGG: BGR, 0..255"


@pytest.mark.parametrize(("scale", "factor"), [("normalized", TORCHVISION_DEVIATION), ("0..1", 1)])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_weights_of_caffe_for_smaller_numbers_are_recognized_by_their_size(
    as_torch, bundled, picture, scale, factor, order
):
    kernel, bias = bundled["conv1_1"]
    larger = kernel * (255 * factor * np.ones(3)).astype("f4")[:, np.newaxis]
    values = bundled | {"conv1_1": (larger, bias)}
    path = as_torch(features_state(values if order == "RGB" else bgr(values)))
    network, image = vgg.load(path), picture(9, 12)
    expected = reference.features(bundled, image, "avg", mean_pixel=255 * TORCHVISION_MEAN)
    assert_features(network, expected, image)
    assert network.title == f"the network network.pth (Caffe's VGG: {order}, {scale})"


def test_the_filters_that_recognize_caffe_are_the_bundled_ones(bundled):
    filters = bundled["conv1_1"][0].transpose(3, 0, 1, 2)
    assert state_dicts.likeness(filters) > 0.999
    assert state_dicts.likeness(filters[..., ::-1]) < 0.9
    random = np.random.default_rng(0).normal(size=filters.shape).astype("f4")
    assert state_dicts.likeness(random) < 0.6
    assert state_dicts.likeness(np.zeros_like(filters)) <= 0
    # published values of Caffe's VGG-16, the upper left of a filter as red, green, blue
    own = filters[[0, 1, 2, 61, 62, 63], 0, 0]
    sixteen = np.array(
        [[0.4800, 0.5504, 0.4295], [-0.1727, 0.0209, 0.1173], [0.0376, 0.0988, 0.0340],
         [-0.1271, -0.0848, -0.1322], [-0.0503, -0.0511, -0.0533], [0.0349, 0.0375, 0.0076]]
    )  # fmt: skip
    assert np.corrcoef(own.ravel(), sixteen.ravel())[0, 1] > 0.98


def test_batch_normalization_is_included_in_the_convolutions(as_torch, picture):
    values, image = reference.tiny_weights(channels=(4, 5)), picture(19, 26)
    random, state, whole = np.random.default_rng(0), {}, {}
    for name, (index, (kernel, bias)) in zip(
        values, ((int(k.split(".")[0]), values[n]) for k, n in zip(
            list(numbered(values, 3))[::2], values, strict=True)), strict=True
    ):  # fmt: skip
        mean, variance, factor, offset = random.uniform(0.5, 2, (4, len(bias))).astype("f4")
        state |= {
            f"features.{index}.weight": kernel.transpose(3, 2, 0, 1),
            f"features.{index}.bias": bias,
            f"features.{index + 1}.weight": factor,
            f"features.{index + 1}.bias": offset,
            f"features.{index + 1}.running_mean": mean,
            f"features.{index + 1}.running_var": variance,
            f"features.{index + 1}.num_batches_tracked": np.array(7, "i8"),
        }
        factor = factor / np.sqrt(variance + 1e-5)
        whole[name] = kernel * factor, (bias - mean) * factor + offset
    network = vgg.load(as_torch(state))
    assert_features(network, torchvision_features(whole, image), image)


def test_a_first_convolution_that_prepares_colours_is_included(as_torch, bundled, picture):
    # as vgg_normalised.pth of AdaIN: 1x1, then an edge, and an edge before each convolution
    matrix = np.zeros((3, 3, 1, 1), "f4")
    matrix[[0, 1, 2], [2, 1, 0]] = 255
    state = numbered(bgr(bundled), 3, 2)
    state |= {"0.weight": matrix, "0.bias": -np.array(KERAS_MEAN_PIXEL[::-1], "f4")}
    network = vgg.load(as_torch(state))
    image = picture(9, 12)
    assert_features(network, reference.features(bundled, image, "avg", mean_pixel=KERAS_MEAN_PIXEL),
                    image)  # fmt: skip


# What tensors may look like


@pytest.mark.parametrize("save", [archive, legacy])
def test_numbers_of_other_precisions_are_read(as_torch, save):
    values = reference.tiny_weights(channels=(2, 3))
    state = features_state(values)
    for change, tolerance in (
        (lambda array: array.astype("f8"), 0),
        (lambda array: array.astype("f2"), 1e-3),
        (BFloat16, 1e-2),
    ):
        path = as_torch({name: change(array) for name, array in state.items()}, save)
        layers = {layer.name: layer for layer in weights.read(path).layers}
        for name, (kernel, bias) in values.items():
            np.testing.assert_allclose(layers[name].kernel, kernel, rtol=tolerance)
            np.testing.assert_allclose(layers[name].bias, bias, rtol=tolerance)


def test_tensors_that_share_a_storage_or_are_turned_are_read(as_torch):
    values = reference.tiny_weights(channels=(2, 3))
    state, changed = features_state(values), {}
    together, place = np.concatenate([array.ravel() for array in state.values()]), 0
    for name, array in state.items():
        changed[name] = Raw(together, place, array.shape)
        place += array.size
    kernel = state["features.0.weight"]  # with its channels last in memory, as [out, h, w, in]
    last = np.ascontiguousarray(kernel.transpose(0, 2, 3, 1))
    changed["features.0.weight"] = Raw(last, 0, kernel.shape, (27, 1, 9, 3))
    layers = weights.read(as_torch(changed)).layers
    for layer in layers:
        if layer.kind == "conv":
            np.testing.assert_array_equal(layer.kernel, values[layer.name][0])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_every_protocol_that_torch_can_write_is_read(as_torch, protocol):
    values = reference.tiny_weights(channels=(2, 3))
    path = as_torch(state_dict(values), protocol=protocol)
    assert [layer.name for layer in weights.read(path).layers] == reference.layer_names(values)


def test_tensors_outside_of_dictionaries_do_not_keep_a_network_from_being_read(as_torch):
    values = reference.tiny_weights(channels=(2,))
    content = {**features_state(values), "losses": [np.arange(3.0), (np.arange(5, dtype="f2"),)]}
    for save in (archive, legacy):
        layers = weights.read(as_torch(content, save)).layers
        np.testing.assert_array_equal(layers[0].kernel, values["conv1_1"][0])


# Safetensors


def test_safetensors_of_every_layout_give_the_same_features(tmp_path, bundled, picture):
    path, image = tmp_path / "x.safetensors", picture(9, 12)
    expected = reference.features(bundled, image, "avg", mean_pixel=KERAS_MEAN_PIXEL)
    for layout in ("neural-style-pt", "vgg_conv", "RGB, torchvision's features"):
        state = CAFFE_LAYOUTS[layout](bundled)
        assert_features(vgg.load(save_safetensors(path, state, {"format": "pt"})), expected, image)


def test_safetensors_that_say_what_they_take_are_believed(tmp_path, picture):
    values, image = reference.tiny_weights(channels=(2, 3)), picture(9, 12)
    about = {"mean_pixel": "[120, 110, 100]", "scale": "[1, 1, 1]"}
    path = save_safetensors(tmp_path / "x.safetensors", conv_names(values, "kernel"), about)
    network = vgg.load(path)
    assert_features(network, reference.features(values, image, "avg"), image)
    assert network.title == "the network x.safetensors (normalized as its file says)"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"mean_pixel": "[1, 2, 3]", "scale": "[0, 1, 1]"}, "[1, 2, 3] and scale [0, 1, 1]"),
        ({"mean_pixel": "[1, 2, 3]", "scale": "[1, -1, 1]"}, "[1, 2, 3] and scale [1, -1, 1]"),
        (  # for pictures of 0..1
            {"mean_pixel": "[0.485, 0.456, 0.406]", "scale": "[0.229, 0.224, 0.225]"},
            "[0.485, 0.456, 0.406] and scale [0.229, 0.224, 0.225]",
        ),
        ({"mean_pixel": "[1, 2, 3]"}, "[1, 2, 3] and scale missing"),
        ({"scale": "[1, 1, 1]"}, "missing and scale [1, 1, 1]"),
        ({"mean_pixel": "[1, 2]", "scale": "[1, 1]"}, "[1, 2] and scale [1, 1]"),
        ({"mean_pixel": "[1, 2, 3", "scale": "[NaN, 1, 1]"}, "[1, 2, 3 and scale [NaN, 1, 1]"),
        (
            {"mean_pixel": "[1, 2, 3]", "scale": "[Infinity, 1, 1]"},
            "[1, 2, 3] and scale [Infinity, 1, 1]",
        ),
        ({"mean_pixel": "1" + "0" * 400, "scale": "{}"}, "1000000000000000000000000000000000"),
    ],
)
def test_safetensors_that_say_what_no_network_takes_are_refused(tmp_path, about, said):
    state = conv_names(reference.tiny_weights(channels=(2,)), "kernel")
    path = save_safetensors(tmp_path / "x.safetensors", state, about)
    message = error_of(weights.read, path)
    assert message.startswith(f"network {path} has mean_pixel {said}")
    assert message.endswith(
        " in its metadata: write three numbers each, RGB, for pictures of 0..255, where a scale is "
        "1 or more"
    )


def test_half_precision_safetensors_are_read(tmp_path):
    values = reference.tiny_weights(channels=(2,))
    state = features_state(values)
    short = {name: BFloat16(array).stored() for name, array in state.items()}
    for changed in (short, {name: array.astype("f2") for name, array in state.items()}):
        layers = weights.read(save_safetensors(tmp_path / "x.safetensors", changed)).layers
        np.testing.assert_allclose(layers[0].kernel, values["conv1_1"][0], rtol=1e-2)


def test_broken_safetensors_are_reported_in_one_line(tmp_path):
    path = save_safetensors(tmp_path / "x.safetensors", features_state(reference.tiny_weights()))
    whole = path.read_bytes()
    place = whole.index(b'"data_offsets": [0, ')
    changes = {
        "cut": whole[:-1],
        "cut in the header": whole[:300],
        "other shape": whole.replace(b'"shape": [4, 3, 3, 3]', b'"shape": [4, 3, 3, 9]', 1),
        "negative": whole.replace(b'"shape": [4, 3, 3, 3]', b'"shape":[-4, 3,-3, 3]', 1),
        "unknown type": whole.replace(b'"F32"', b'"F31"', 1),
        "begins within": whole[:place] + whole[place:].replace(b"[0, ", b"[9, ", 1),
        "not a table": (24).to_bytes(8, "little") + b'{"a": "b"}              ' + bytes(9),
        "huge": whole.replace(b'"shape": [4, 3, 3, 3]', b'"shape":[9999999,9,9]', 1),
    }
    for name, data in changes.items():
        assert data != whole, name
        path.write_bytes(data)
        message = error_of(weights.read, path)
        assert message.startswith(f"network {path} is truncated or not a .safetensors file ("), name
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}" + bytes(30))
    assert "has an unknown format" in error_of(weights.read, path)


# What is not a VGG, and what is broken


KERNEL, BIAS = np.zeros((4, 3, 3, 3), "f4"), np.zeros(4, "f4")
FIRST = {"features.0.weight": KERNEL, "features.0.bias": BIAS}
OTHERS = {
    "list": ([1, 2], "no tensors"),
    "nothing": ({}, "no tensors"),
    "numbers": ({"features.0.weight": 1, "features.0.bias": 2}, None),
    "one tensor": (KERNEL, "a single tensor"),
    "ResNet": ({"conv1.weight": KERNEL, "bn1.weight": BIAS}, "conv1.weight, bn1.weight"),
    "many": ({f"a{n}": BIAS for n in range(9)}, "a0, a1, a2 and 6 more"),
    "AlexNet": (
        {"features.0.weight": np.zeros((4, 3, 11, 11), "f4"), "features.0.bias": BIAS},
        "features.0.weight, features.0.bias",
    ),
    "SqueezeNet": (
        FIRST | {"features.3.squeeze.weight": KERNEL},
        "features.0.weight, features.0.bias, features.3.squeeze.weight",
    ),
    "two networks": (
        {f"{net}.{name}": array for net in "ab" for name, array in FIRST.items()},
        "a.features.0.weight, a.features.0.bias, b.features.0.weight and 1 more",
    ),
    "half a batch normalization": (
        FIRST | {"features.1.weight": BIAS, "features.1.bias": BIAS},
        "features.0.weight, features.0.bias, features.1.weight and 1 more",
    ),
    "no bias": ({"features.0.weight": KERNEL}, None),
    "not from the first": (
        {"features.1.weight": KERNEL, "features.1.bias": BIAS},
        "features.1.weight, features.1.bias",
    ),
    "only later": (
        {"conv2_1.weight": KERNEL, "conv2_1.bias": BIAS},
        "conv2_1.weight, conv2_1.bias",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_not_a_vgg_is_reported_in_one_line_with_what_it_has(as_torch, what):
    content, found = OTHERS[what]
    path = as_torch(content)
    if found is None:
        expected = (
            f"network {path} is not a PyTorch VGG network: choose a .pth file such as "
            "vgg19-dcbb9e9d.pth"
        )
    else:
        expected = (
            f"network {path} is not a VGG in a known layout: it has {found}; known are {LAYOUTS}: "
            "choose another file"
        )
    assert error_of(weights.read, path) == expected


class Attack:
    """What runs a program when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [archive, legacy])
def test_nothing_in_a_file_is_called(as_torch, tmp_path, save):
    values = reference.tiny_weights(channels=(2, 3))
    state = state_dict(values) | {"attack": Attack(tmp_path / "ran")}
    path = as_torch(state, save)
    assert [layer.name for layer in weights.read(path).layers] == reference.layer_names(values)
    state["features.0.bias"] = Attack(tmp_path / "ran")
    assert "is not a PyTorch VGG network" in error_of(weights.read, as_torch(state, save))
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Attack(tmp_path / "ran")))  # which it would have been
    assert (tmp_path / "ran").exists()


def test_tensors_that_are_not_within_their_storage_are_refused(as_torch):
    few = np.zeros(108, "f4")
    for tensor in (
        Raw(few, 1, (4, 3, 3, 3)),
        Raw(few, -1, (4, 3, 3, 3)),
        Raw(few, 0, (10**10, 3, 3, 3), (0, 0, 0, 0)),
        Raw(few, 0, (4, 3, 3, 3), (-27, 9, 3, 1)),
        Raw(few, 0, (-4, 3, 3, -3)),
        Raw(few, 0, (2, 3, 3, 3), (2**40, 9, 3, 1)),
    ):
        path = as_torch({"features.0.weight": tensor, "features.0.bias": BIAS})
        assert error_of(weights.read, path) == (
            f"network {path} is truncated or not a .pth file (ValueError): "
            "download it again or choose another network"
        )


@pytest.mark.parametrize("save", [archive, legacy])
def test_a_pth_file_that_is_cut_is_reported_in_one_line_wherever_it_ends(as_torch, save):
    path = as_torch(state_dict(reference.tiny_weights(channels=(2, 3))), save)
    whole = path.read_bytes()
    for length in [20, 50, *range(200, len(whole) - 1, len(whole) // 20)]:
        path.write_bytes(whole[:length])
        assert error_of(weights.read, path).startswith(
            f"network {path} is truncated or not a .pth file ("
        )


def test_dictionaries_that_hold_themselves_are_reported_in_one_line(as_torch, monkeypatch):
    circle = {"features.0.weight": KERNEL}
    circle["a"] = circle["b"] = circle
    monkeypatch.setattr(torch_files, "MOST_NAMES", 1000)
    for save in (archive, legacy):
        assert "is truncated or not a .pth file" in error_of(weights.read, as_torch(circle, save))


def test_a_zip_archive_that_torch_did_not_write_is_refused(tmp_path, as_torch):
    path = tmp_path / "network.pth"
    np.savez(tmp_path / "arrays.npz", kernel=np.zeros(3))
    path.write_bytes((tmp_path / "arrays.npz").read_bytes())
    assert error_of(weights.read, path).startswith(f"network {path} has an unknown format: choose ")
    path = as_torch({"x": np.zeros(10**5, "f4")}, compression=zipfile.ZIP_DEFLATED)  # a bomb
    assert error_of(weights.read, path) == (
        f"network {path} is truncated or not a .pth file (ValueError): "
        "download it again or choose another network"
    )
