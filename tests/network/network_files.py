"""What tests of several network formats share: files of Keras, torchvision and safetensors, written
from the values of a tiny network."""

import h5py
import numpy as np
import pytest
import reference
import tensorflow as tf
import torch_writer

from neural_style_tf.errors import UserError
from neural_style_tf.network import vgg

KERAS_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_MEAN_PIXEL = (123.68, 116.779, 103.939)
TORCHVISION_MEAN = np.array([0.485, 0.456, 0.406])
TORCHVISION_DEVIATION = np.array([0.229, 0.224, 0.225])
# The indices of the convolutions in torchvision's VGGs, from the published state dicts.
TORCHVISION_INDICES = {
    19: (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
    16: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
KERAS_PATHS = {
    "old": ("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"),
    "new": ("{0}/{0}/kernel:0", "{0}/{0}/bias:0"),
    "whole model": ("model_weights/{0}/{0}/kernel:0", "model_weights/{0}/{0}/bias:0"),
}
H5_HEAD = b"\x89HDF\r\n\x1a\n"
# A stand-in for h5py, of which only the code that opens a file matters.
STAND_IN_FOR_H5PY = """
import os, time

class Dataset: pass

class File:
    def __init__(self, file, mode):
        CODE
"""


def save_broken_h5(path):
    """Writes a file that begins like those of Keras."""
    path.write_bytes(H5_HEAD + bytes(1000))
    return path


def save_h5(path, values, shape="old", top=False):
    """Writes weights as Keras does; there the first kernel takes BGR."""
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
        if shape == "whole model":  # the momentum of a layer, which is not one of its weights
            file["optimizer_weights/block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 1))
    return path


def state_dict(values, depth=19):
    state = {}
    for index, (kernel, bias) in zip(TORCHVISION_INDICES[depth], values.values(), strict=False):
        state[f"features.{index}.weight"] = kernel.transpose(3, 2, 0, 1)  # [out, in, h, w]
        state[f"features.{index}.bias"] = bias
    return state | {"classifier.0.weight": np.zeros((4, 8), "f4")}


def save_pth(path, values, depth=19):
    path.write_bytes(torch_writer.archive(state_dict(values, depth)))
    return path


def save_safetensors(path, arrays, about=None):
    path.write_bytes(torch_writer.safetensors(arrays, about))
    return path


def assert_features(network, expected, image):
    by_name = vgg.features(network, tf.constant(image[np.newaxis]), network.names, "avg", "zero")
    assert list(by_name) == list(expected)
    for name, features in by_name.items():
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(features[0], expected[name], rtol=1e-4, atol=1e-4 * size)


def torchvision_features(values, image):
    """The features of what torchvision passes to a network: (RGB 0..1 - mean) / deviation."""
    kernel, bias = values["conv1_1"]
    by_deviation = kernel.astype(np.float64) / TORCHVISION_DEVIATION[:, np.newaxis]
    values = values | {"conv1_1": (by_deviation, bias)}
    return reference.features(values, image / 255, "avg", mean_pixel=TORCHVISION_MEAN)


def error_of(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    return str(error.value)
