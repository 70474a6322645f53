"""Files as `torch.save` and safetensors write them, without these: arrays stand for tensors."""

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}
STORAGES = {
    "<f8": "DoubleStorage",
    "<f4": "FloatStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "|u1": "ByteStorage",
}


class BFloat16:
    """An array that is stored with the first 16 bits of its float32 numbers."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array, "<f4")

    def stored(self):
        return (self.array.view("<u4") >> 16).astype("<u2")


class Raw:
    """A tensor whose shape and strides are of any kind."""

    def __init__(self, array, offset=0, shape=None, strides=None):
        self.array, self.offset = array, offset
        self.shape = array.shape if shape is None else shape
        self.strides = strides


class Module:
    """What stands for a module that was saved whole: its tensors, and modules within it."""

    def __init__(self, **parts):
        tensors = (np.ndarray, Raw, BFloat16)
        is_tensor = {name: isinstance(part, tensors) for name, part in parts.items()}
        self._parameters = OrderedDict((name, parts[name]) for name in parts if is_tensor[name])
        self._modules = OrderedDict((name, parts[name]) for name in parts if not is_tensor[name])
        self.training = True


def archive(content, folder="archive", compression=zipfile.ZIP_STORED, protocol=2):
    """The bytes of a file of torch 1.6 or newer."""
    program, storages = _pickled(content, protocol)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr(f"{folder}/data.pkl", program)
        file.writestr(f"{folder}/byteorder", "little")
        for key, array in storages.items():
            file.writestr(f"{folder}/data/{key}", array.tobytes())
        file.writestr(f"{folder}/version", "3\n")
    return buffer.getvalue()


def legacy(content):
    """The bytes of a file of an older torch."""
    program, storages = _pickled(content, 2)
    parts = [pickle.dumps(item, 2) for item in (MAGIC, PROTOCOL, SYSTEM)]
    parts += [program, pickle.dumps(list(storages), 2)]
    for array in storages.values():
        parts += [array.size.to_bytes(8, "little"), array.tobytes()]
    return b"".join(parts)


def safetensors(arrays, about=None):
    """The bytes of a safetensors file. about: its metadata."""
    header, numbers = {"__metadata__": about} if about else {}, b""
    kinds = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<u2": "BF16"}
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        place = [len(numbers), len(numbers) + len(data)]
        kind = kinds[array.dtype.str]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": place}
        numbers += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + numbers


def _pickled(content, protocol):
    """The program that builds the content, and the arrays of its storages by key."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils = utils

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    kinds = {}
    for kind in [*STORAGES.values(), "BFloat16Storage"]:
        kinds[kind] = type(kind, (), {"__module__": "torch"})
        setattr(torch, kind, kinds[kind])
    storages = {}

    class Storage:
        def __init__(self, kind, array):
            self.kind, self.array, self.key = kind, array, str(len(storages))
            storages[self.key] = array

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if isinstance(item, Storage):
                return "storage", kinds[item.kind], item.key, "cpu", item.array.size
            return None

        def reducer_override(self, item):
            if isinstance(item, BFloat16):
                storage, item = Storage("BFloat16Storage", item.stored()), Raw(item.array)
            elif isinstance(item, np.ndarray | Raw):
                item = Raw(item) if isinstance(item, np.ndarray) else item
                array = np.ascontiguousarray(item.array)
                storage = Storage(STORAGES[array.dtype.str], array)
            else:
                return NotImplemented
            strides = item.strides
            if strides is None:
                strides = [int(np.prod(item.shape[side + 1 :])) for side in range(len(item.shape))]
            about = storage, item.offset, tuple(item.shape), tuple(strides), False, OrderedDict()
            return _rebuild_tensor_v2, about

    buffer = io.BytesIO()
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        Pickler(buffer, protocol).dump(content)
    return buffer.getvalue(), storages
