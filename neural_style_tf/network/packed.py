"""Packed: a network's layers <-> bytes, in a format that can contain nothing else.

The bytes are the length of a JSON header, the header with names and shapes, and the values of all
kernels and biases in order. Reading them executes, decompresses and opens nothing. The format
resembles safetensors, which keeps no order of layers and no metadata other than text, so that using
it would take as much code. NumPy's `.npz` is a zip archive, which has more ways to be damaged.
"""

import json
import math

import numpy as np

from neural_style_tf.network import layers
from neural_style_tf.network.layers import Layer, Weights

ALIGNMENT = 64  # bytes: the values begin at a multiple of this
LENGTH_BYTES = 4


def pack(network: Weights) -> bytes:
    """The bytes of a network whose layers hold NumPy arrays, for `unpack`."""
    convolutions = [layer for layer in network.layers if layer.kind == "conv"]
    about = {
        "title": network.title,
        "mean_pixel": [float(value) for value in network.mean_pixel],
        "scale": [float(value) for value in network.scale],
        "layers": [(layer.name, layer.kind) for layer in network.layers],
        "shapes": [(layer.kernel.shape, layer.bias.shape) for layer in convolutions],
    }
    header = json.dumps(about).encode()
    header += b" " * (-(LENGTH_BYTES + len(header)) % ALIGNMENT)
    arrays = [array for layer in convolutions for array in (layer.kernel, layer.bias)]
    numbers = [np.ascontiguousarray(array, "<f4").tobytes() for array in arrays]
    return b"".join([len(header).to_bytes(LENGTH_BYTES, "little"), header, *numbers])


def unpack(data: bytes) -> Weights:
    """The network in bytes from `pack`. Its arrays are read-only views of them.

    Raises `ValueError` for any other bytes.
    """
    size = int.from_bytes(data[:LENGTH_BYTES], "little")
    begin = LENGTH_BYTES + size
    try:
        about = json.loads(data[LENGTH_BYTES:begin])
        arrays = _arrays(data, begin, [shape for pair in about["shapes"] for shape in pair])
        found = [
            Layer(str(name), "conv", arrays.pop(0), arrays.pop(0))
            if kind == "conv"
            else Layer(str(name), str(kind))
            for name, kind in about["layers"]
        ]
        if arrays:
            raise ValueError("arrays without a layer")
        mean_pixel, scale = layers.pixel(about["mean_pixel"]), layers.pixel(about["scale"])
        return Weights(found, mean_pixel, scale, str(about["title"]))
    except (LookupError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"not a packed network: {error}") from error


def _arrays(data: bytes, begin: int, shapes: list[list[int]]) -> list[np.ndarray]:
    """Arrays of these shapes, which fill the bytes from `begin` to the end exactly."""
    arrays = []
    for shape in shapes:
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError(f"{shape} is not a shape")
        count = math.prod(shape)
        if count > len(data) // 4:
            raise ValueError("too short")
        arrays.append(np.frombuffer(data, "<f4", count, begin).reshape(shape))
        begin += 4 * count
    if begin != len(data):
        raise ValueError("not as long as the shapes say")
    return arrays
