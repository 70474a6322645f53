"""Networks: broken files of every format, and broken caches, through their readers.

Most attempts call what the program runs in a child process, in a child that makes many of them. One
that ends this child is made again the way the program does it, where it has to be one line; and
some go that way in any case.
"""

import functools
import io
import multiprocessing
import os
import random
import resource
import struct
import time
import traceback
import zipfile
import zlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import reference
import scipy.io
import scipy.sparse
import torch_writer

from neural_style_tf.errors import UserError
from neural_style_tf.machine import user_cache
from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.network import cache, formats, packed, reader, torch_files, weights
from soak import limits
from soak.engine import Soak

WANTED = 20_000
IN_ONE_CHILD = 400  # attempts, after which the other kinds have their turn:
WHOLE_WAY = 10
CACHES = 90
MOST_SECONDS = 10.0
MOST_MEGABYTES = 1000
MOST_LETTERS = 1000  # of a message
CRASH = "crash"  # what is wrong with an attempt whose child died
INTERESTING = (0, 1, 2, 3, 5, 14, 15, 127, 128, 255, 2**15, 2**16 - 1, 2**24, 2**30, 2**31 - 1)
INTERESTING += (2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
OF_HDF5 = (b"TREE", b"HEAP", b"SNOD", b"OHDR", b"OCHK", b"GCOL", b"FRHP", b"\x89HDF")


def soak(soak: Soak) -> None:
    """Makes attempts while there is time."""
    kinds = _write_sources(soak.folder)
    soak.note(f"formats: {' '.join(kinds)}")
    seed, first, crashes = soak.random.randrange(10**9), 0, 0
    before = _peak_of_children()
    while soak.wants_more():
        for index, problem in _in_child(soak.folder, seed, first):
            data, ending = _mutated(soak.folder, seed, index)
            if problem == CRASH:
                crashes += 1
                problem = _whole_way(soak.folder, data, ending)
            _count(soak, problem, data, ending)
            if not soak.wants_more():
                break
        first += IN_ONE_CHILD
        for index in range(first, first + WHOLE_WAY):
            data, ending = _mutated(soak.folder, seed, index)
            _count(soak, _whole_way(soak.folder, data, ending), data, ending)
        for _ in range(CACHES):
            data = _mutated_cache(soak.folder, soak.random)
            _count(soak, _cached(soak.folder, data), data, ".network")
    _report(soak, crashes, before)


def replay(path: Path) -> str | None:
    """Repeats a saved attempt."""
    with Soak("networks", 0, 1, 1.0, path.parent) as soak:
        if path.suffix == ".network":
            _write_sources(soak.folder)
            return _cached(soak.folder, path.read_bytes())
        return _whole_way(soak.folder, path.read_bytes(), path.suffix)


def _count(soak: Soak, problem: str | None, data: bytes, ending: str) -> None:
    if problem:
        soak.fail(problem.partition(":")[0], problem, data, ending)
    soak.count()


def _report(soak: Soak, crashes: int, before: float) -> None:
    peak = _peak_of_children()
    # what a process forks counts what that process itself held
    if peak > max(MOST_MEGABYTES, before, limits.peak_megabytes()):
        soak.fail("memory", f"a child took {peak:.0f} MB")
    soak.note(f"{crashes} ended the child that reads, which took at most {peak:.0f} MB")


def _peak_of_children() -> float:
    """The peak memory in megabytes of the largest child of this process."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


# The three kinds of attempts


def _in_child(folder: Path, seed: int, first: int) -> Iterator[tuple[int, str | None]]:
    """The numbers of `IN_ONE_CHILD` attempts, and what is wrong with each."""
    index, end = first, first + IN_ONE_CHILD
    while index < end:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        arguments = folder, seed, index, end, theirs
        child = multiprocessing.get_context("spawn").Process(target=_serve, args=arguments)
        child.start()
        theirs.close()
        try:
            while index < end:
                problem = ours.recv() if ours.poll(60) else "hang: the child does not answer"
                index += 1
                yield index - 1, problem
        except EOFError:
            index += 1
            yield index - 1, CRASH
        finally:
            child.kill()
            child.join()


def _serve(folder: Path, seed: int, first: int, end: int, connection: Connection) -> None:
    """What the child does: makes attempts within the program's limits, and sends what is wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for form in formats.FORMATS:
        if any(folder.glob(f"*{form.extension}")):
            formats.import_library("", form)
    attempts = [_mutated(folder, seed, index) for index in range(first, end)]
    reader._limit(reader.SECONDS, reader.MEMORY_BYTES)
    for data, _ in attempts:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(usage.ru_utime + usage.ru_stime + reader.SECONDS) + 1
        most = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))
        connection.send(_problem(functools.partial(_parse, data)))


def _parse(data: bytes) -> None:
    """What becomes of a file in the program's child, and then in the program."""
    network = formats.read("it", data)
    weights._check("it", packed.unpack(packed.pack(network)))


def _problem(attempt: Any) -> str | None:
    """What is wrong with an attempt: None if it succeeds or ends in a one-line message."""
    try:
        attempt()
    except UserError as error:
        message = str(error)
        if "\n" in message or len(message) > MOST_LETTERS:
            return f"message: {message[:200]!r}"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(frame.filename).name} {frame.lineno}: {error}"
    return None


def _whole_way(folder: Path, data: bytes, ending: str) -> str | None:
    """What is wrong with reading a file as the program does."""
    path = folder / f"attempt{ending}"
    path.write_bytes(data)
    before, began = limits.begin_peak(), time.monotonic()
    with mock.patch.object(weights, "_recent", LRUCache(0)):
        problem = _problem(lambda: weights.read(path))
    seconds = time.monotonic() - began
    peak = limits.peak_megabytes() - before
    if seconds > MOST_SECONDS:
        return f"hang: {seconds:.0f} s"
    if peak > MOST_MEGABYTES:
        return f"memory: {peak:.0f} MB"
    return problem


def _cached(folder: Path, data: bytes) -> str | None:
    """What is wrong with reading a network whose cache holds the data: it has to be the network,
    or what the cache says if its digest is right."""
    source, caches = _source(folder), folder / "caches"
    place = caches / cache._name(source)
    with (
        mock.patch.multiple(user_cache, folder=lambda: caches),
        mock.patch.object(cache, "SMALLEST", 0),
    ):
        place.unlink(missing_ok=True)
        expected = packed.pack(cache.read(source))
        content = data[len(cache.FORMAT) + cache.DIGEST_BYTES :]
        is_sealed = data == cache._sealed(content)
        place.write_bytes(data)
        results = []
        problem = _problem(lambda: results.append(packed.pack(cache.read(source))))
        (caches / "word.txt").write_bytes(data[:9])
        words = ("float32", "bfloat16")
        choice = ("word", words, lambda: "float32")
        problem = problem or _problem(lambda: user_cache.remembered(*choice))
    if problem is None and not is_sealed and results != [expected]:
        return "cache: another network"
    return problem


# Sources


def _source(folder: Path) -> Path:
    return folder / "new.mat"


def _write_sources(folder: Path) -> list[str]:
    """Writes a tiny network in every format; returns the files' names."""
    values = reference.tiny_weights(channels=(2, 3))
    for layout in ("new", "beta16"):
        path = reference.save_mat(folder / f"{layout}.mat", values, layout)
        content = scipy.io.loadmat(path)
        content = {name: item for name, item in content.items() if not name.startswith("__")}
        scipy.io.savemat(folder / f"{layout}-plain.mat", content)
    for number, options in enumerate([{}, {"libver": "latest"}]):
        _write_h5(folder / f"{number}.h5", values, {}, **options)
    _write_h5(folder / "packed.h5", values, {"compression": "gzip", "shuffle": True})
    arrays = {f"{name}_{index}": array for name, pair in values.items()
              for index, array in enumerate(pair)}  # fmt: skip
    np.savez(folder / "arrays.npz", **arrays)
    state = _state(values)
    about = {"mean_pixel": "[1,2,3]", "scale": "[1,1,1]"}
    (folder / "a.safetensors").write_bytes(torch_writer.safetensors(state))
    (folder / "b.safetensors").write_bytes(torch_writer.safetensors(state, about))
    (folder / "zip.pth").write_bytes(torch_writer.archive(state))
    (folder / "legacy.pth").write_bytes(torch_writer.legacy({"state_dict": state}))
    return sorted(path.name for path in folder.iterdir())


def _write_h5(path: Path, values: dict, options: dict, **file_options: Any) -> None:
    with h5py.File(path, "w", **file_options) as file:
        for name, pair in values.items():
            layer = "block" + name[4:].replace("_", "_conv")
            for kind, array in zip(("kernel:0", "bias:0"), pair, strict=True):
                place = f"model_weights/{layer}/{layer}/{kind}"
                file.create_dataset(place, data=array, **options)
                file[place].attrs["note"] = "text"


def _state(values: dict) -> dict[str, Any]:
    """A tiny network as torchvision names its arrays."""
    state = {}
    for index, (kernel, bias) in zip((0, 2, 5, 7), values.values(), strict=True):
        state[f"features.{index}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"features.{index}.bias"] = bias
    return state


# Mutations


def _mutated(folder: Path, seed: int, index: int) -> tuple[bytes, str]:
    """An attempt by its number: a broken file, and the ending of its name."""
    chance = random.Random(f"{seed} {index}")
    sources = [path for path in folder.iterdir() if path.is_file() and path.stem != "attempt"]
    path = chance.choice(sorted(sources))
    bend = {".mat": _bent_mat, ".h5": _bent_h5, ".pth": _bent_pth}.get(path.suffix)
    if bend and chance.random() < 0.2:
        return bend(chance, path), path.suffix
    data = path.read_bytes()
    within = {".mat": _in_mat, ".h5": _in_h5, ".pth": _in_archive, ".npz": _in_archive}
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if path.suffix in within and chance.random() < 0.7:
            data = within[path.suffix](chance, data)
        else:
            data = _noise(chance, data)
    return data, path.suffix


def _mutated_cache(folder: Path, chance: random.Random) -> bytes:
    """A cache's file that is broken; half of them have the right digest."""
    source = _source(folder)
    content = cache._origin(source) + packed.pack(weights.read(source))
    if chance.random() < 0.5:
        return _noise(chance, cache._sealed(content))
    start = len(cache._origin(source))
    return cache._sealed(content[:start] + _noise(chance, content[start:]))


def _noise(chance: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut, doubled or moved anywhere."""
    place, other = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    match chance.randrange(7):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[other:]
        case 2:
            return data[:other] + data[place:]
        case 3:
            return data[:place] + chance.randbytes(chance.randrange(64)) + data[place:]
        case 4:
            return data[:place] + bytes(min(64, other - place)) + data[place + 64 :]
        case 5:
            return _number(chance, data, place)
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 4, 32])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _number(chance: random.Random, data: bytes, place: int) -> bytes:
    """A number at that place replaced by an interesting one."""
    size = chance.choice([1, 2, 4, 8])
    value = chance.choice(INTERESTING) % 256**size
    return data[:place] + value.to_bytes(size, "little") + data[place + size :]


def _in_mat(chance: random.Random, data: bytes) -> bytes:
    """A tag or a size of a MATLAB file changed, within what is compressed, too."""
    elements, place = [], 128
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, place)
        elements.append((kind, data[place + 8 : place + 8 + size]))
        place += 8 + size
    if not elements:
        return _noise(chance, data)
    index = chance.randrange(len(elements))
    kind, content = elements[index]
    try:
        inner = zlib.decompress(content) if kind == 15 else content
    except zlib.error:
        return _noise(chance, data)
    if chance.random() < 0.8:
        inner = _number(chance, inner, 4 * chance.randrange(len(inner) // 4 + 1))
    else:
        inner = _noise(chance, inner)
    elements[index] = kind, zlib.compress(inner) if kind == 15 else inner
    packed_elements = [struct.pack("<II", kind, len(part)) + part for kind, part in elements]
    return data[:128] + b"".join(packed_elements)


def _in_h5(chance: random.Random, data: bytes) -> bytes:
    """A number of a structure of HDF5 changed."""
    signature = chance.choice(OF_HDF5)
    places = [place for place in range(len(data)) if data.startswith(signature, place)]
    if not places:
        return _noise(chance, data)
    return _number(chance, data, chance.choice(places) + chance.randrange(4, 200))


def _in_archive(chance: random.Random, data: bytes) -> bytes:
    """A member of a zip archive changed, or how it is written."""
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(item.filename, archive.read(item)) for item in archive.infolist()]
    except Exception:  # broken already, or torch's former format: a pickle
        return _noise(chance, data[:1000]) + data[1000:]
    index = chance.randrange(len(members))
    name, content = members[index]
    pickles = [place for place, (name, _) in enumerate(members) if name.endswith("data.pkl")]
    if pickles and chance.random() < 0.8:
        index = pickles[0]
        name, content = members[index]
    members[index] = name, _noise(chance, content)
    method = chance.choice([zipfile.ZIP_STORED] * 6 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


# Whole files of another structure


def _value(chance: random.Random) -> Any:
    """A value of another kind."""
    shape = tuple(chance.choice([0, 1, 2, 3, 4, 5]) for _ in range(chance.randrange(6)))
    kind = chance.choice(["f4", "f8", "f2", "i8", "u1", "c8", "?", "U3"])
    cell = np.empty((1, 2), object)
    cell[0, :] = ["word", 3.0]
    return chance.choice(
        [
            *(0.0, -1.5, float("nan"), float("inf"), 1e300, 2**53),
            *("", "conv1_1", "conv1_1\n", "a" * 300, "relu", "\u0661"),
            *([], {}, {"a": 1.0}, {"a": {"b": {"c": "d"}}}, [[1.0], "b"], cell),
            *(np.zeros(shape, kind), np.ones(shape, kind), scipy.sparse.eye_array(3, format="csc")),
        ]
    )


def _bent_mat(chance: random.Random, path: Path) -> bytes:
    """A MATLAB file with another value in some of its fields."""
    content = scipy.io.loadmat(path, simplify_cells=True)
    content = {name: item for name, item in content.items() if not name.startswith("__")}
    holders = [content, *(item for item in content.values() if isinstance(item, dict))]
    layers = [layer for layer in content["layers"] if isinstance(layer, dict)]
    for layer in layers:
        if "weights" in layer:
            cell = np.empty((1, 2), object)
            cell[0, :] = list(layer["weights"])
            layer["weights"] = cell
            if chance.random() < 0.1:
                cell[0, chance.randrange(2)] = _value(chance)
    for _ in range(chance.randrange(1, 4)):
        holder = chance.choice([chance.choice(holders), *layers[:8]])
        if holder:
            name = chance.choice(sorted(holder))
            holder[name] = _value(chance)
            if chance.random() < 0.2:
                del holder[name]
    return _written(lambda buffer: scipy.io.savemat(buffer, _with_cells(content)), path)


def _with_cells(content: dict) -> dict:
    """The content with its layers in a cell array again, as they were."""
    layers = content.get("layers")
    if isinstance(layers, list | np.ndarray) and len(layers):
        cells = np.empty((1, len(layers)), object)
        for index, layer in enumerate(layers):
            cells[0, index] = layer
        return content | {"layers": cells}
    return content


def _bent_h5(chance: random.Random, path: Path) -> bytes:
    """An HDF5 file whose first arrays are of another kind, size or place."""

    def write(buffer: io.BytesIO) -> None:
        with h5py.File(buffer, "w", libver=chance.choice(["earliest", "latest"])) as file:
            for number in (1, 2):
                for kind, shape in (("kernel:0", (3, 3, 3, 3)), ("bias:0", (3,))):
                    place = f"block1_conv{number}/{kind}"
                    if chance.random() < 0.4:
                        _bend_array(chance, file, place)
                    else:
                        file[place] = np.ones(shape, "f4")

    return _written(write, path)


def _bend_array(chance: random.Random, file: h5py.File, place: str) -> None:
    match chance.randrange(7):
        case 0:
            sides = tuple(chance.choice([1, 3, 1000, 10**6]) for _ in range(chance.choice([1, 4])))
            file.create_dataset(place, sides, "f4", chunks=tuple(min(3, side) for side in sides))
        case 1:
            file[place] = h5py.SoftLink(chance.choice(["/", "/nowhere", f"/{place}"]))
        case 2:
            file[place] = h5py.ExternalLink("/dev/zero", "/")
        case 3:
            file.create_dataset(place, (3,), "f4", external=[("/dev/zero", 0, 12)])
        case 4:
            file.create_dataset(place, data=h5py.Empty("f4"))
        case 5:
            file.create_group(place)["self"] = file["/"]
        case 6:
            value = _value(chance)
            file.create_dataset(place, data=value if isinstance(value, float | str) else 3)


def _bent_pth(chance: random.Random, path: Path) -> bytes:
    """A state of torch with other tensors, or none."""
    state: dict[Any, Any] = torch_files.read(path.read_bytes())
    for _ in range(chance.randrange(1, 4)):
        name = chance.choice(sorted(map(str, state)))
        shape = chance.choice([(), (3,), (3, 3, 3, 3), (2, 3, 3, 3), (0, 3, 3, 3)])
        tensor = np.ones(shape, chance.choice(["f8", "f4", "f2", "i8", "u1"]))
        huge = torch_writer.Raw(tensor, 0, (chance.choice([10**6, 10**10]), 3, 3, 3), (0, 0, 0, 0))
        far = torch_writer.Raw(tensor, chance.choice(INTERESTING), (1, 1), (-1, 2**62))
        short = torch_writer.BFloat16(tensor)
        value = chance.choice([tensor, short, huge, far, 3, "word", None, {}, [tensor], state])
        state[chance.choice([name, name + "x", 7, "features.1.weight"])] = value
    write = chance.choice([torch_writer.archive, torch_writer.legacy])
    return _written(lambda buffer: buffer.write(write(state)), path)


def _written(write: Any, path: Path) -> bytes:
    """What a library writes; the file as it was, if it refuses to write that."""
    buffer = io.BytesIO()
    try:
        write(buffer)
    except Exception:  # the libraries write less than they read
        return path.read_bytes()
    return buffer.getvalue()
