"""Torch files: the bytes of a `.pth` file -> its tensors by name. Needs no torch.

Such a file is a program for Python's `pickle`, which could run anything. It is not unpickled: of
the operations of that format, those that build lists, dictionaries and tensors are followed here,
names of functions stay text, and nothing is imported or called. The arrays are views of the bytes.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

ZIP_HEAD = b"PK\x03\x04"  # since torch 1.6
LEGACY_HEAD = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # before; a number that torch chose
MOST_OPERATIONS = 1_000_000  # a VGG-19 with its optimizer has 5,000
DEEPEST = 20  # dictionaries within each other
MOST_NAMES = 100_000

# Storage classes of torch, by name, and how their numbers are stored
TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class NotTorchError(ValueError):
    """A zip archive that torch did not write."""


class _Name(NamedTuple):
    """What the file calls a function or class, which stays text."""

    text: str


class _Storage(NamedTuple):
    key: str
    kind: str
    numbers: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Object:
    """Anything that is neither a tensor nor a collection, such as a module that was saved whole.
    `state` holds its attributes."""

    def __init__(self, name: str):
        self.name = name
        self.state: Any = None


def read(data: bytes) -> dict[str, Any]:
    """The tensors in a file as arrays, and whatever else is in it, by name: those of a dictionary
    in the file's are called `outer.inner`, and so are those of a module that was saved whole. The
    name of the whole content is empty if it is not a dictionary.

    Raises `NotTorchError` for another zip archive, and exceptions of other kinds for a file that is
    broken.
    """
    content, storages = _from_zip(data) if data.startswith(ZIP_HEAD) else _from_legacy(data)
    named: dict[str, Any] = {}
    _flatten("", content, named, DEEPEST)
    return {
        name: _array(item, storages[item.storage.key]) if isinstance(item, _Tensor) else item
        for name, item in named.items()
    }


def _flatten(name: str, item: Any, named: dict[str, Any], deepest: int) -> None:
    if len(named) > MOST_NAMES:
        raise ValueError("too many names")
    inner = [item] if isinstance(item, dict) else _parts(item)
    if not inner or not deepest:
        named[name] = item
    for part in inner if deepest else []:
        for key, value in part.items():
            _flatten(f"{name}.{key}" if name else str(key), value, named, deepest - 1)


def _parts(item: Any) -> list[dict]:
    """The dictionaries in which a module has its tensors, and the modules within it."""
    state = item.state if isinstance(item, Object) else None
    if not isinstance(state, dict):
        return []
    parts = [state.get(name) for name in ("_parameters", "_buffers", "_modules")]
    return [part for part in parts if isinstance(part, dict)]


def _from_zip(data: bytes) -> tuple[Any, Mapping[str, memoryview]]:
    """What the archive holds, and the bytes of each storage. torch compresses nothing."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        program = next((m for m in members if m.filename.endswith("/data.pkl")), None)
        if program is None:
            raise NotTorchError
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed")
        if sum(member.file_size for member in members) > len(data):
            raise ValueError("members overlap")
        folder = program.filename.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("big-endian")
        content = _follow(io.BytesIO(archive.read(program)), [])
        storages = {
            member.filename.removeprefix(f"{folder}data/"): memoryview(archive.read(member))
            for member in members
            if member.filename.startswith(f"{folder}data/")
        }
    return content, storages


def _from_legacy(data: bytes) -> tuple[Any, Mapping[str, memoryview]]:
    """The same in the format before torch 1.6: five programs, then each storage's length and its
    numbers."""
    file = io.BytesIO(data)
    made: list[_Storage] = []
    _, _, system, content, keys = (_follow(file, made) for _ in range(5))
    if not system.get("little_endian", True):
        raise ValueError("big-endian")
    sizes = {item.key: np.dtype(_stored(item.kind)).itemsize for item in made}
    storages, view, place = {}, memoryview(data), file.tell()
    for key in keys:
        end = place + 8 + sizes[key] * int.from_bytes(view[place : place + 8], "little")
        storages[key] = view[place + 8 : end]
        place = end
    return content, storages


def _stored(kind: str) -> str:
    return "<u2" if kind == "bfloat16" else kind


def _array(tensor: _Tensor, data: memoryview) -> np.ndarray:
    """A view of a storage, unless it is of bfloat16, which NumPy lacks. Raises `ValueError` for one
    that is not within the storage."""
    kind = np.dtype(_stored(tensor.storage.kind))
    numbers = np.frombuffer(data, kind, len(data) // kind.itemsize)
    shape, strides = tensor.shape, tensor.strides
    sides = zip(shape, strides, strict=True)
    last = tensor.offset + sum((side - 1) * stride for side, stride in sides)
    if min((tensor.offset, *shape, *strides)) < 0 or math.prod(shape) > len(numbers):
        raise ValueError("not a tensor of its storage")
    if 0 in shape:
        return np.zeros(shape, kind)
    if last >= len(numbers):
        raise ValueError("beyond its storage")
    steps = [stride * kind.itemsize for stride in strides]
    array = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, steps, writeable=False)
    if tensor.storage.kind == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


# The operations of the pickle format


def _follow(file: io.BytesIO, made: list[_Storage]) -> Any:
    """The value that a program builds; the file is read to its end, and no further. Every storage
    that it names is added to `made`. Raises exceptions of many kinds for what torch does not
    write."""
    stack: list[Any] = []
    marks: list[int] = []
    known: dict[int, Any] = {}  # values that the program refers to again

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        name = operation.name
        if count == MOST_OPERATIONS:
            raise ValueError("too long")
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("PROTO", "FRAME"):
            continue
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            known[len(known) if argument is None else int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(known[int(argument or 0)])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _FROM_STACK:
            inputs, build = _FROM_STACK[name]
            values = [stack.pop() for _ in range(inputs)][::-1]
            stack.append(build(argument, *values))
            if isinstance(stack[-1], _Storage):
                made.append(stack[-1])
        elif name in _FROM_MARK:
            items = since_mark()
            target = () if name == "TUPLE" else (stack.pop(),)
            stack.append(_FROM_MARK[name](items, *target))
        else:
            raise ValueError(f"{name} is not in a file of tensors")
    raise EOFError


def _with_items(items: list[Any], target: Any) -> Any:
    """A dictionary with more items. What is not a dictionary stays as it is."""
    if isinstance(target, dict):
        target.update(zip(items[::2], items[1::2], strict=True))
    return target


def _with_values(items: list[Any], target: Any) -> Any:
    if isinstance(target, list):
        target.extend(items)
    return target


def _called(_: Any, function: Any, arguments: Any) -> Any:
    """What torch's functions would return for tensors; any other function stays uncalled."""
    name = function.text
    if name in ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"):
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, _Storage) or not _are_counts(offset, *shape, *strides):
            raise ValueError("not a tensor")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))
    if name.startswith("torch._utils _rebuild_parameter"):
        return arguments[0]
    if name == "collections OrderedDict":
        return dict(*arguments)
    if name.endswith(" _reconstructor"):  # of Python 2
        name = arguments[0].text
    return Object(name)


def _with_state(_: Any, target: Any, state: Any) -> Any:
    if isinstance(target, Object):
        target.state = state
    return target


def _are_counts(*values: Any) -> bool:
    return all(type(value) is int for value in values)


def _stored_elsewhere(_: Any, about: Any) -> Any:
    """A storage: ("storage", class, key, device, count), and in older files a view of it; or the
    class of a module: ("module", class, its file, its source)."""
    if about[0] == "module":
        return about[1]
    kind, name, key, _, count, *view = about
    if kind != "storage" or any(view) or not isinstance(key, str) or not _are_counts(count):
        raise ValueError("not a storage of tensors")
    return _Storage(key, TYPES[name.text.removeprefix("torch ")], count)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
}
# By operation: how many values it takes from the stack, and what it makes of them
_FROM_STACK: dict[str, tuple[int, Callable[..., Any]]] = {
    "GLOBAL": (0, lambda text: _Name(text)),
    "STACK_GLOBAL": (2, lambda _, module, name: _Name(f"{module} {name}")),
    "TUPLE1": (1, lambda _, *values: values),
    "TUPLE2": (2, lambda _, *values: values),
    "TUPLE3": (3, lambda _, *values: values),
    "REDUCE": (2, _called),
    "NEWOBJ": (2, _called),
    "BUILD": (2, _with_state),
    "SETITEM": (3, lambda _, target, *item: _with_items(list(item), target)),
    "APPEND": (2, lambda _, target, *item: _with_values(list(item), target)),
    "BINPERSID": (1, _stored_elsewhere),
}
_FROM_MARK: dict[str, Callable[..., Any]] = {
    "TUPLE": tuple,
    "SETITEMS": _with_items,
    "APPENDS": _with_values,
}
