"""Metadata, saved runs, recipes and tables from strangers: a value or one line, nothing obeyed."""

import argparse
import atexit
import bz2
import contextlib
import functools
import io
import json
import os
import random
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from neural_style_tf.batch import jobs
from neural_style_tf.commands import batch, neural_style
from neural_style_tf.commands import parser as command_line
from neural_style_tf.errors import UserError, message_of
from neural_style_tf.machine import user_cache
from neural_style_tf.painting import continuing
from neural_style_tf.pictures import metadata
from neural_style_tf.runs import checks, outputs, provenance, recipe
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.runs.resume import Resumed
from neural_style_tf.schema import shapes_picture
from neural_style_tf.settings import Settings
from soak import ground, values
from soak.children import Child, Watch
from soak.engine import Soak

WANTED = 30_000
LONGEST = 600  # characters of a message
BOMB_MEGABYTES = 4000  # that a file of less than a megabyte unpacks to
SETTINGS = [field.name for field in fields(Settings)]
# Options that no file may set: what they do is not about the picture.
OF_THE_COMMAND_LINE = {
    *("overwrite", "save_settings", "preview", "preview_host", "open", "debug", "list_layers"),
    *("allow_changes", "settings_from", "resume", "version", "help", "clear_cache"),
}
NOT_OPTIONS = {"asked", "recipes"}
FILES = {"content", "styles", "initial", "content_mask", "style_masks", "style_source_masks"}
FILES |= {"content_regions", "style_regions"}
FILES |= {"network", "output", "save_state", "timelapse", "log_dir", "checkpoint_output"}


@dataclass
class Documents:
    """What the program itself has written, and what is made from it."""

    folder: Path
    metadata: dict[str, Any] = field(default_factory=dict)
    pixels: Any = None
    jpeg: bytes = b""
    about: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    state: bytes = b""
    recipe: str = ""
    bombs: list[bytes] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "Documents":
        """The documents of a ground that was painted in."""
        with np.load(folder / "run.npz") as file:
            arrays = dict(file)
        about = json.loads(arrays.pop("about").tobytes())
        for name in [name for name in arrays if arrays[name].size > 1000]:
            arrays[name] = np.zeros_like(arrays[name])  # so that files to replay are small
        return cls(
            folder,
            metadata.read(folder / "painted.png"),
            np.asarray(Image.open(folder / "painted.png")),
            (folder / "painted.jpg").read_bytes(),
            about,
            arrays,
            (folder / "run.npz").read_bytes(),
            (folder / "recipe.args").read_text(),
        )


def soak(soak: Soak) -> None:
    documents = prepare(soak.folder)
    judge = Judge(documents.folder)
    with Child(judge.wrong) as child:
        while soak.wants_more():
            generator = random.Random(soak.seed_of(soak.attempts))
            kind = generator.choice(sorted(MAKERS))
            data = MAKERS[kind](generator, documents)
            ending = ENDINGS[kind] if kind != "picture" or data[:2] != b"\xff\xd8" else ".jpg"
            wrong = child.attempt((data, ending))
            soak.count()
            if wrong:
                name, _, message = wrong.partition(": ")
                soak.fail(f"{kind} {name}", message, data, ending)
        soak.note(f"at most {child.most_megabytes:.0f} MB for one file")


def replay(path: Path) -> str | None:
    return replaying().attempt((path.read_bytes(), path.suffix))


@functools.cache  # a test replays many files
def replaying() -> Child:
    """The child that replays files, in a folder that stays as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="soak-texts-"))
    child = Child(Judge(prepare(folder).folder).wrong)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(child.end)
    return child


def prepare(folder: Path) -> Documents:
    """A folder `inner` with the ground, what a run leaves, and files that are not to be touched."""
    inner = folder / "inner"
    inner.mkdir()
    ground.make(inner)
    with ground.launcher() as launcher:
        ground.paint(inner, launcher)
    for name in ("victim.png", "../outside.png"):
        ground.picture(34, 45, 9).save(inner / name)
    (inner / "victim.txt").write_text("mine\n")
    return Documents.read(inner)


# What is tried


class Judge:
    """Reads a document as the program does, in the folder of the ground."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._watch: Watch | None = None

    def wrong(self, job: tuple[bytes, str]) -> str | None:
        """What is wrong with how the program takes a document, its bytes and ending."""
        data, ending = job
        if self._watch is None:
            os.chdir(self._folder)
            for left in [*Path().glob("document.*"), *Path().glob("again.args")]:
                left.unlink()  # left by a child that was ended
            self._watch = Watch()
            self._before = self._names()
        document = f"document{ending}"
        Path(document).write_bytes(data)
        generator = random.Random(zlib.crc32(data))
        try:
            problem = self._watched(document, READERS[ending], generator)
        finally:
            os.unlink(document)
        after = self._names()
        before, self._before = self._before, after
        if not problem and after != before:
            problem = f"files changed: {sorted(set(after) ^ set(before))}"
        return problem

    def _watched(self, document: str, read: Callable, generator: random.Random) -> str | None:
        printed, seen = io.StringIO(), []
        # a table and a recipe name files on their own, a picture and a state only those beside
        reads = [Path(), user_cache.folder()] if read in (read_picture, read_state) else None
        try:
            with (
                contextlib.redirect_stderr(printed),
                contextlib.redirect_stdout(printed),
                self._watch.watching(reads, [Path()], seen),
            ):
                problem = read(document, generator)
        except UserError as error:
            problem = wrong_message(f"error: {message_of(error)}\n")
        except SystemExit as error:
            problem = wrong_message(printed.getvalue())
            if error.code != 2:
                problem = f"exits with {error.code}: {printed.getvalue():.200}"
        return seen[0] if seen else problem

    def _names(self) -> list[tuple]:
        entries = [entry for place in (".", "..") for entry in os.scandir(place)]
        return sorted(
            (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns)
            for entry in entries
            if entry.is_file()
        )


def wrong_message(text: str) -> str | None:
    """What is wrong with what is printed for an expected failure."""
    if len(text.splitlines()) != 1 or not text.startswith("error: "):
        return f"not one line: {text[:LONGEST]!r}"
    if len(text) > LONGEST:
        return f"long message: {len(text)} characters: {text[:LONGEST]}"
    if not all(letter.isprintable() or "\ud800" <= letter <= "\udfff" for letter in text[:-1]):
        return f"control characters: {text!r}"
    return None


def read_picture(document: str, generator: random.Random) -> str | None:
    """As the picture of --settings-from, and as one in the output folder of a batch."""
    own = ["--output", "out.png"]
    if generator.random() < 0.6:
        own += ["--content", "photo.png"]
    if generator.random() < 0.6:
        own += ["--styles", "painting.png", "--network", "network.mat"]
    usual = command_line.parse([*ground.PAINT, "--output", document], {})
    with contextlib.suppress(UserError):
        jobs.existing(usual)
    options, resumed = neural_style.read_options(["--settings-from", document, *own])
    wrong = wrong_options(options, set(SETTINGS) | FILES, [*own, "--settings-from", document])
    return wrong or checked(options, resumed)


def read_state(document: str, generator: random.Random) -> str | None:
    """As the file of --resume."""
    own = ["--resume", document]
    own += ["--allow-changes"] * generator.choice((0, 1))
    own += ["--iterations", "9"] * generator.choice((0, 1))
    options, resumed = neural_style.read_options(own)
    kept = set(options.values()) - OF_THE_COMMAND_LINE
    wrong = wrong_options(options, kept, own) or checked(options, resumed)
    if not wrong:
        continuing.starting_point(resumed.state, options.settings)
    return wrong


def read_recipe(document: str, generator: random.Random) -> str | None:
    """As @FILE, before the options that are given or after them."""
    own = [*ground.PAINT, "--output", "out.png"]
    arguments = generator.choice(([f"@{document}", *own], [*own, f"@{document}"]))
    options, resumed = neural_style.read_options(arguments)
    allowed = set(options.values()) - OF_THE_COMMAND_LINE - FILES | {"network"}
    return wrong_options(options, allowed, own) or checked(options, resumed)


def read_table(document: str, generator: random.Random) -> str | None:
    """As the table of batch.py."""
    pairs, _ = batch.read(["--pairs", document, "--output-dir", "gallery"])
    inside = os.path.realpath("gallery") + os.sep
    for pair in pairs:
        for path in (pair.output, pair.options.save_state):
            if path and not os.path.realpath(path).startswith(inside):
                return f"writes outside: {path[:300]!r}"
    return None


READERS = {
    ".png": read_picture,
    ".jpg": read_picture,
    ".npz": read_state,
    ".args": read_recipe,
    ".csv": read_table,
}


def wrong_options(options: RunOptions, allowed: set[str], own: list[str]) -> str | None:
    """An option that a document has set although it may not."""
    # what is required is not what is asked here
    without = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    plain = command_line.parse([*without, *own], {}).values()
    for name, value in options.values().items():
        if name not in allowed | NOT_OPTIONS and repr(value) != repr(plain.get(name)):
            return f"obeyed {name}: {value!r:.300}"
    return None


def checked(options: RunOptions, resumed: Resumed | None) -> str | None:
    """What is wrong with options that were taken: that outputs would cost a file or lie elsewhere,
    or that their settings are not read back from the recipe that is written of them."""
    settings = options.settings
    run = checks.check(options, resumed)
    for path in outputs.paths(run.options):
        if not os.path.realpath(path).startswith(os.getcwd() + os.sep):
            return f"writes outside: {path[:300]!r}"
        if os.path.basename(path).startswith(("victim", "photo", "painting.", "network")):
            return f"overwrites a file: {path[:300]!r}"
    Path("again.args").write_text(recipe.text(settings, "out.png"))
    try:
        again = settings_of_recipe("again.args")
    finally:
        os.unlink("again.args")
    for name in (setting.name for setting in fields(Settings) if shapes_picture(setting)):
        if provenance.plain(getattr(settings, name)) != provenance.plain(getattr(again, name)):
            return f"recipe changes {name}: {getattr(settings, name)!r:.200}"
    return None


def settings_of_recipe(path: str) -> Settings:
    required = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    options = command_line.parse([*required, f"@{path}"], {})
    return options.settings


# What is made


def mutated(generator: random.Random, document: Any) -> Any:
    """A copy of a JSON document with some values replaced, removed, added or wrapped."""
    document = json.loads(json.dumps(document))
    for _ in range(generator.choice((1, 1, 1, 2, 3, 10))):
        holder = document
        while True:
            inner = [item for item in items(holder) if isinstance(item[1], dict | list) and item[1]]
            if not inner or generator.random() < 0.5:
                break
            holder = generator.choice(inner)[1]
        change(generator, holder)
    return document if generator.random() < 0.97 else values.value(generator)


def items(holder: dict | list) -> list[tuple[Any, Any]]:
    return list(holder.items() if isinstance(holder, dict) else enumerate(holder))


def change(generator: random.Random, holder: dict | list) -> None:
    """Changes one item of a dictionary or list."""
    kind = generator.random()
    key = generator.choice([key for key, _ in items(holder)] or [0])
    if kind < 0.6 and holder:
        holder[key] = values.value(generator)
    elif kind < 0.75 and holder:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(0, values.value(generator))
    else:
        names = [*SETTINGS, *FILES, *OF_THE_COMMAND_LINE, "sha256", "asked", "versions", "losses"]
        name = generator.choice(sorted(names)) if kind < 0.95 else values.text(generator)
        holder[name] = values.value(generator)


def text_of(generator: random.Random, document: Any) -> str:
    """A mutated document as JSON, rarely as something else."""
    kind = generator.random()
    if kind < 0.02:
        return generator.choice("[{") * generator.choice((900, 2000, 100_000))
    if kind < 0.04:
        return '{"sha256":' * 100_000
    text = json.dumps(mutated(generator, document))
    if kind < 0.1:
        return text[: generator.randrange(len(text))]
    if kind < 0.13:
        return values.noisy(generator, text.encode()).decode("latin-1")
    return text


def make_picture(generator: random.Random, documents: Documents) -> bytes:
    if generator.random() < 0.1:
        return values.noisy(generator, documents.jpeg)
    text = text_of(generator, documents.metadata)
    chunks = PngImagePlugin.PngInfo()
    is_zip = len(text) > 5000 or generator.random() < 0.1
    with contextlib.suppress(UnicodeEncodeError):
        chunks.add_text("Software", metadata.SOFTWARE)
        chunks.add_text("Comment", text.encode("ascii", "replace").decode(), zip=is_zip)
    file = io.BytesIO()
    Image.fromarray(documents.pixels).save(file, "PNG", pnginfo=chunks)
    data = file.getvalue()
    return data if generator.random() < 0.9 else values.noisy(generator, data)


def make_state(generator: random.Random, documents: Documents) -> bytes:
    kind = generator.random()
    if kind < 0.25:
        return values.noisy(generator, documents.state)
    if kind < 0.27:
        return generator.choice(bombs(documents))
    arrays = {name: array_file(array) for name, array in documents.arrays.items()}
    about = json.dumps(documents.about)
    if kind < 0.65:
        about = text_of(generator, documents.about)
    else:
        for _ in range(generator.choice((1, 1, 2, 4))):
            name = generator.choice(sorted(arrays))
            arrays[name] = changed_array(generator, arrays[name])
        if generator.random() < 0.3:
            del arrays[generator.choice(sorted(arrays))]
    arrays["about"] = array_file(np.frombuffer(about.encode("utf-8", "surrogatepass"), np.uint8))
    if generator.random() < 0.05:
        arrays["about"] = changed_array(generator, arrays["about"])
    packed = zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA
    is_packed = generator.random() < 0.15
    data = zip_of(arrays, generator.choice(packed) if is_packed else zipfile.ZIP_STORED)
    return data if generator.random() < 0.8 else values.noisy(generator, data)


def array_file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=True)
    return file.getvalue()


def zip_of(arrays: dict[str, bytes], way: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", way) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def changed_array(generator: random.Random, data: bytes) -> bytes:
    """The file of an array with another header, another type or other bytes."""
    kind = generator.randrange(6)
    if kind == 0:
        shape = generator.choice(
            ("(10000000000000,)", "(3, 10**9)", "(-1,)", "(2.5,)", "[5]", "()")
        )
        return re.sub(rb"\([\d, ]*\)", shape.encode(), data, count=1)
    if kind == 1:
        types = ("<f8", "|O", "<U9", "|V5", "<M8[s]", ">i2", "<c16", "|S3", "<f2", "|b1", "x" * 99)
        return re.sub(rb"'[<|>=][^']*'", f"'{generator.choice(types)}'".encode(), data, count=1)
    if kind == 2:
        return array_file(np.array(values.value(generator), object))
    if kind == 3:
        shapes = (0, 3, (1, 1), (2, 0), (34, 45, 3), (1, 34, 45, 4))
        filling = generator.choice((0, -1, 1e30, np.nan, np.inf))
        return array_file(np.full(generator.choice(shapes), filling))
    if kind == 4:
        return data[: generator.randrange(len(data))]
    return values.noisy(generator, data)


def bombs(documents: Documents) -> list[bytes]:
    """Files of less than a megabyte that unpack to gigabytes."""
    if not documents.bombs:
        count = BOMB_MEGABYTES * 1_000_000
        header = array_file(np.zeros(0)).replace(b"(0,)", f"({count // 8},)".encode())[:128]
        squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = squeezed.compress(header) + squeezed.flush(zlib.Z_FULL_FLUSH)
        part = squeezed.compress(bytes(10_000_000)) + squeezed.flush(zlib.Z_FULL_FLUSH)
        data += part * (count // 10_000_000) + squeezed.flush()
        small = bz2.compress(header + bytes(200_000_000))
        about = array_file(np.frombuffer(json.dumps(documents.about).encode(), np.uint8))
        for way, content in ((zipfile.ZIP_DEFLATED, data), (zipfile.ZIP_BZIP2, small)):
            for name in ("picture", "rows", "about"):
                documents.bombs.append(zip_of_bomb(name, content, count, way, about))
    return documents.bombs


def zip_of_bomb(name: str, data: bytes, count: int, way: int, about: bytes) -> bytes:
    """An archive whose array `name` has the compressed bytes `data`, which unpack to `count`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        if name != "about":
            archive.writestr("about.npy", about)
        archive.writestr(f"{name}.npy", data)
        place = archive.getinfo(f"{name}.npy")
        place.file_size, place.compress_type = count + 128, way  # goes to the directory at the end
    packed = bytearray(file.getvalue())
    packed[place.header_offset + 8] = way
    return bytes(packed)


def make_recipe(generator: random.Random, documents: Documents) -> bytes:
    kind = generator.random()
    if kind < 0.1:
        return values.noisy(generator, documents.recipe.encode())
    lines = documents.recipe.splitlines()
    actions = [action for action in command_line.build_parser()._actions if action.option_strings]
    for _ in range(generator.choice((1, 2, 3, 8))):
        place = generator.randrange(len(lines) + 1)
        lines.insert(place, recipe_line(generator, actions))
    ending = generator.choice(("\n", "\n", "\n", "\r\n", "\r", "\u2028"))
    text = ending.join(lines) + ending * generator.choice((0, 1))
    encoding = generator.choice(("utf-8",) * 6 + ("utf-8-sig", "latin-1", "utf-16", "utf-7"))
    data = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return data if generator.random() < 0.9 else values.noisy(generator, data)


def recipe_line(generator: random.Random, actions: list[argparse.Action]) -> str:
    kind = generator.random()
    if kind < 0.05:
        return generator.choice(
            ("@document.args", "@/dev/zero", "@/etc/passwd", "@", "@missing", "# don't", "# für")
        )
    if kind < 0.06:
        return "--content-weight " + "9" * 10_000_000
    if kind < 0.1:
        return values.text(generator)
    option = generator.choice(generator.choice(actions).option_strings)
    words = [values.value(generator, 3) for _ in range(generator.choice((0, 1, 1, 1, 2)))]
    quote = generator.choice(("", "", "'", '"'))
    joint = generator.choice((" ", " ", "=", "\t"))
    return joint.join([option, *(f"{quote}{word}{quote}" for word in words)])


def make_table(generator: random.Random, documents: Documents) -> bytes:
    columns = ["content", "styles", "output", "options"]
    for _ in range(generator.choice((0, 0, 0, 0, 1, 2))):
        if generator.random() < 0.5:
            columns.remove(generator.choice(columns))
        else:
            columns.insert(0, generator.choice(("content", "x", "", "Styles", "output\0")))
        columns = columns or ["content"]
    rows = [",".join(columns)]
    for number in range(generator.choice((0, 1, 2, 3, 30))):
        rows.append(",".join(table_field(generator, column, number) for column in columns))
    ending = generator.choice(("\n", "\n", "\r\n", "\r", "\n\n"))
    encoding = generator.choice(("utf-8",) * 6 + ("utf-8-sig", "latin-1", "utf-16", "utf-7"))
    text = ending.join(rows) + ending
    data = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return data if generator.random() < 0.8 else values.noisy(generator, data)


def table_field(generator: random.Random, column: str, number: int) -> str:
    usual = {
        "content": "photo.png",
        "styles": generator.choice(("painting.png", "painting.png;other.png")),
        "output": f"{number}.png",
        "options": generator.choice(("", "--tv-weight 5", "--size 32 --iterations 2")),
    }
    if generator.random() < 0.7:
        return usual.get(column, "")
    kind = generator.random()
    if kind < 0.4:
        actions = [action for action in batch.build_parser()._actions if action.option_strings]
        actions += [
            action for action in command_line.build_parser()._actions if action.option_strings
        ]
        option = generator.choice(generator.choice(actions).option_strings)
        return f"{option} {values.value(generator, 3)}"
    if kind < 0.5:
        return generator.choice(
            ("--help", "@document.csv", "=1+1", '"', "--version", "'", "x" * 200_000)
        )
    cell = values.text(generator)
    return cell if kind < 0.8 else '"' + cell.replace('"', '""') + '"'


MAKERS = {
    "picture": make_picture,
    "state": make_state,
    "recipe": make_recipe,
    "table": make_table,
}
ENDINGS = {"picture": ".png", "state": ".npz", "recipe": ".args", "table": ".csv"}
