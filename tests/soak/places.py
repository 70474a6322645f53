"""Places that fail and odd names: full disks, folders that vanish, no home, names of every kind."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from launcher import ROOT, Launcher
from PIL import Image

from soak import ground
from soak.engine import Soak

SECONDS = 90  # that a command may take
LONG_NAME = "x" * 251 + ".png"  # 255 bytes, the most that file systems take
NAMES = {  # of a photo, and of what is painted from it
    "a newline": "a\nb.png",
    "255 bytes": LONG_NAME,
    "255 bytes of UTF-8": "é" * 125 + "x.png",
    "a leading dash": "-x.png",
    "two leading dashes": "--size.png",
    "spaces": "  a  b  .png",
    "quotes": 'it\'s "so".png',
    "bytes that are not UTF-8": "\udcff\udce9.png",
    "reserved characters": "a:b*c?d<e>f|g.png",
    "brackets": "[bold]a[bold]{0}%d.png",
    "an escape sequence": "\x1b[31mred.png",
    "a name of a setting": "size.png",
    "an at sign": "@x.png",
    "Cyrillic and emoji": "фото😀.png",
    "a backslash": "a\\b.png",
    "dots": "...png",
}


class Result(NamedTuple):
    status: int | None  # None: it took too long
    errors: str


class Place:
    """A folder with the ground in it, for one case."""

    def __init__(self, folder: Path, launcher: Launcher):
        self.folder, self._launcher = folder, launcher
        self.temporary = folder / "temporary"
        self.environment: dict[str, str | None] = {
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": None,
            "TMPDIR": str(self.temporary),
        }
        folder.mkdir()
        ground.make(folder)
        self.temporary.mkdir()
        (folder / "home").mkdir()
        self.before = ground.contents(folder)
        self.outputs = ["out.png"]

    def paint(self, *more: str, **named: str) -> Result:
        """Runs neural_style.py here. named: content, styles and output, where not the usual."""
        arguments = self.arguments(*more, **named)
        try:
            result = self._launcher.run(
                arguments, self.folder, SECONDS, environment=self.environment
            )
        except subprocess.TimeoutExpired:
            return Result(None, "")
        return Result(result.returncode, result.stderr)

    def paint_alone(self, *more: str, **named: str) -> Result:
        """The same in a process of its own, which begins with the environment of the case."""
        environment = os.environ | self.environment | {"PYTHONUNBUFFERED": "1"}
        environment = {name: value for name, value in environment.items() if value is not None}
        command = [sys.executable, str(ROOT / "neural_style.py"), *self.arguments(*more, **named)]
        try:
            result = subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return Result(None, "")
        return Result(result.returncode, result.stderr.decode(errors="replace"))

    def arguments(self, *more: str, **named: str) -> list[str]:
        names = {"content": "photo.png", "styles": "painting.png", "output": "out.png"} | named
        self.outputs = [names["output"]]
        own = [f"--{name}={path}" for name, path in names.items()]
        return [*own, "--network=network.mat", *ground.QUICK, "--iterations=3", *more]

    def wrong(self, result: Result) -> str | None:
        """What is wrong with how a command ended."""
        if result.status is None:
            return f"hang: longer than {SECONDS} s"
        if result.status not in (0, 1, 2):
            return f"status {result.status}: {result.errors[-1000:]}"
        if "Traceback" in result.errors:
            return f"traceback: {result.errors[-1500:]}"
        reasons = [line for line in result.errors.splitlines() if "error: " in line]
        if result.status and not reasons:
            return f"no reason: {result.errors!r}"
        if result.status == 2 and len(result.errors.splitlines()) != 1:
            return f"not one line: {result.errors!r}"
        return self._wrong_files()

    def _wrong_files(self) -> str | None:
        after = ground.contents(self.folder)
        for name, data in self.before.items():
            if after.get(name, data) != data:
                return f"input changed: {name!r}"
            if name not in after and self.folder.joinpath("photo.png").exists():
                return f"input gone: {name!r}"
        left = [name for name in after if ".tmp" in name or name.endswith(".lock")]
        return f"left over: {left}" if left else None


Case = Callable[[Place], str | None]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Makes a function the case of that name: it returns what is wrong, or None."""

    def add(function: Case) -> Case:
        CASES[name] = function
        return function

    return add


class NotHereError(Exception):
    """A case cannot be tried on this machine; the message says why."""


def soak(soak: Soak) -> None:
    with ground.launcher() as launcher:
        for number, name in enumerate(CASES):
            if not soak.wants_more():
                break
            soak.count()
            try:
                wrong = attempt(name, soak.folder / str(number), launcher)
            except NotHereError as error:
                soak.note(f"{name}: not tried, {error}")
                continue
            if wrong:
                kind = wrong.partition(":")[0]
                soak.fail(f"{name} {kind}", wrong, json.dumps({"case": name}).encode())


def replay(path: Path) -> str | None:
    name = json.loads(path.read_text())["case"]
    with tempfile.TemporaryDirectory() as folder, ground.launcher() as launcher:
        try:
            return attempt(name, Path(folder) / "case", launcher)
        except NotHereError:
            return None


def attempt(name: str, folder: Path, launcher: Launcher) -> str | None:
    """What is wrong with a case, or None."""
    place = Place(folder, launcher)
    try:
        return CASES[name](place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Disks and folders


@contextlib.contextmanager
def disk(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own at a folder. Raises `NotHereError` where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        raise NotHereError(f"mounting is not allowed ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full(folder: Path) -> Any:
    """A disk without free space."""
    return disk(folder, "-t", "tmpfs", "-o", "size=4k", "tmpfs")


def small(folder: Path, kilobytes: int) -> Any:
    return disk(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")


def saved_elsewhere(place: Place, result: Result) -> str | None:
    """Wrong, unless the picture is in the temporary folder, and that is said."""
    wrong = place.wrong(result)
    if wrong or result.status == 0:
        return wrong
    pictures = list(place.temporary.rglob("*.png"))
    if not pictures:
        return f"picture lost: {result.errors!r}"
    with Image.open(pictures[0]) as image:
        image.load()
    return None if str(pictures[0]) in result.errors else f"place not reported: {result.errors!r}"


FULL = {  # what is written to a full disk, and the options for it
    "result": {"output": "full/out.png"},
    "state": {"save-state": "full/run.npz"},
    "checkpoints": {"checkpoint-output": "full/%d.png", "checkpoint-iterations": "1"},
    "film": {"timelapse": "full/film.gif"},
    "recipe": {"save-settings": "full/my.args"},
    "logs": {"log-dir": "full/logs"},
}


def on_full_disk(options: dict[str, str]) -> Case:
    def run(place: Place) -> str | None:
        for kilobytes in (4, 8):  # room for nothing, or only for a name
            with small(place.folder / "full", kilobytes):
                (place.folder / "full/filler").write_bytes(bytes(4096 * (kilobytes // 4 - 1)))
                named = {name: path for name, path in options.items() if name == "output"}
                more = [f"--{name}={path}" for name, path in options.items() if name not in named]
                result = place.paint("--overwrite", *more, **named)
                wrong = place.wrong(result)
                if not wrong and not named and result.status == 1:
                    wrong = kept_result(place, result)
                if not wrong and list(place.folder.glob("full/*.tmp")):
                    wrong = "left over: a temporary file on the full disk"
            if wrong:
                return wrong
        return None

    return run


def kept_result(place: Place, result: Result) -> str | None:
    """Wrong, if a run that began has lost its result along with something else."""
    began = "45x34 on" in result.errors
    if began and not (place.folder / "out.png").exists():
        return f"picture lost: {result.errors!r}"
    return None


for what, options in FULL.items():
    case(f"disk full: {what}")(on_full_disk(options))


@case("disk fills up during the run: result")
def disk_fills_up(place: Place) -> str | None:
    with small(place.folder / "disk", 64) as folder:
        with during(place, lambda: fill(folder)):
            result = place.paint("--checkpoint-output=first-%d.png", *LONG, output="disk/out.png")
        return saved_elsewhere(place, result)


@case("disk fills up during the run: state")
def disk_fills_up_for_the_state(place: Place) -> str | None:
    with small(place.folder / "disk", 600) as folder:
        more = ["--save-state=disk/run.npz", "--state-iterations=1"]
        with during(place, lambda: fill(folder)):
            result = place.paint("--checkpoint-output=first-%d.png", *LONG, *more)
        return place.wrong(result) or kept_result(place, result)


@case("no file may be larger than a few bytes")
def file_size_limit(place: Place) -> str | None:
    code = "import resource, runpy, sys, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    code += f"sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = 'neural_style.py'\n"
    code += f"runpy.run_path({str(ROOT / 'neural_style.py')!r}, run_name='__main__')"
    environment = {name: value for name, value in place.environment.items() if value}
    done = subprocess.run(
        [sys.executable, "-c", code, *place.arguments("--save-state=run.npz")],
        cwd=place.folder, env=os.environ | environment, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    return place.wrong(Result(done.returncode, done.stderr.decode(errors="replace")))


LONG = ["--iterations=60", "--checkpoint-iterations=60"]  # enough for the first step to be noticed


@contextlib.contextmanager
def during(place: Place, act: Callable[[], None]) -> Iterator[None]:
    """Acts once, when the first checkpoint of the run exists."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            if (place.folder / "first-0.png").exists():
                act()
                return
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@case("folder of the result vanishes during the run")
def folder_vanishes(place: Place) -> str | None:
    (place.folder / "gone").mkdir()
    with during(place, lambda: shutil.rmtree(place.folder / "gone")):
        result = place.paint("--checkpoint-output=first-%d.png", *LONG, output="gone/out.png")
    return saved_elsewhere(place, result)


@case("folder of checkpoints and state vanishes during the run")
def folder_of_checkpoints_vanishes(place: Place) -> str | None:
    (place.folder / "gone").mkdir()
    more = ["--save-state=gone/run.npz", "--state-iterations=1", "--timelapse=gone/film.gif"]
    with during(place, lambda: shutil.rmtree(place.folder / "gone")):
        result = place.paint("--checkpoint-output=first-%d.png", *LONG, *more)
    return place.wrong(result) or kept_result(place, result)


@case("current folder vanishes during the run")
def current_folder_vanishes(place: Place) -> str | None:
    names = [path.name for path in place.folder.iterdir() if path.name not in ("temporary", "home")]

    def remove() -> None:
        for name in names:
            (place.folder / name).unlink()

    with during(place, remove):
        result = place.paint("--checkpoint-output=first-%d.png", *LONG, "--progress-write")
    return place.wrong(result)


@case("inputs vanish during the run")
def inputs_vanish(place: Place) -> str | None:
    def remove() -> None:
        for name in ("photo.png", "painting.png", "network.mat"):
            (place.folder / name).unlink()

    with during(place, remove):
        result = place.paint("--checkpoint-output=first-%d.png", *LONG, "--save-state=run.npz")
    return place.wrong(result) or kept_result(place, result)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A folder that not even root can write to."""
    with disk(folder, "--bind", str(folder)):
        again = ["mount", "-o", "remount,ro,bind", str(folder)]
        if subprocess.run(again, capture_output=True).returncode:
            raise NotHereError("mounting read-only is not allowed")
        yield folder


READ_ONLY = {
    "output": "locked/out.png",
    "save-state": "locked/run.npz",
    "save-settings": "locked/my.args",
    "timelapse": "locked/film.gif",
    "log-dir": "locked/logs",
    "checkpoint-output": "locked/%d.png",
}


def in_read_only_folder(name: str, path: str) -> Case:
    def run(place: Place) -> str | None:
        (place.folder / "locked").mkdir()
        with read_only(place.folder / "locked"):
            more = ["--checkpoint-iterations=1"] if name == "checkpoint-output" else []
            if name == "output":
                result = place.paint(output=path)
            else:
                result = place.paint(f"--{name}={path}", *more)
        if result.status == 0:
            return "status 0: although nothing could be written"
        return place.wrong(result)

    return run


for name, path in READ_ONLY.items():
    case(f"folder read-only: {name}")(in_read_only_folder(name, path))


@case("folder read-only: the current one, with the result elsewhere")
def current_folder_read_only(place: Place) -> str | None:
    with tempfile.TemporaryDirectory() as other:
        place.environment["TMPDIR"] = place.environment["HOME"] = other
        with read_only(place.folder):
            result = place.paint(output=os.path.join(other, "out.png"))
        return place.wrong(result) or must_be_done(result)


def must_be_done(result: Result) -> str | None:
    return None if result.status == 0 else f"status {result.status}: {result.errors!r}"


# Home and temporary folder


@case("home read-only")
def home_read_only(place: Place) -> str | None:
    with read_only(place.folder / "home"):
        result = place.paint()
    return place.wrong(result) or must_be_done(result)


HOMES = {
    "none": {"HOME": None},
    "pointing nowhere": {"HOME": "/nowhere/at/all"},
    "empty": {"HOME": ""},
    "not absolute": {"HOME": "somewhere"},
    "a file": {"HOME": "/dev/null"},
    "a cache that is a file": {"XDG_CACHE_HOME": "/dev/null"},
    "a cache that is not absolute": {"XDG_CACHE_HOME": "cache"},
    "no temporary folder": {"TMPDIR": "/nowhere/at/all"},
    "a temporary folder that is a file": {"TMPDIR": "/dev/null"},
    "an empty number of threads": {"TF_NUM_INTRAOP_THREADS": ""},
    "odd flags of TensorFlow": {"TF_ENABLE_ONEDNN_OPTS": "yes", "TF_CPP_MIN_LOG_LEVEL": "x"},
    "a terminal that is unknown": {"TERM": "nonsense", "COLUMNS": "x", "LINES": "-1"},
}


REFUSED = {
    "no number of threads": {"TF_NUM_INTRAOP_THREADS": "auto", "TF_NUM_INTEROP_THREADS": "x"},
    "a negative number of threads": {"TF_NUM_INTRAOP_THREADS": "-1"},
}


def with_environment(environment: dict[str, str | None], is_refused: bool) -> Case:
    def run(place: Place) -> str | None:
        place.environment |= environment
        result = place.paint()
        return place.wrong(result) or (None if is_refused else must_be_done(result))

    return run


for name, environment in (HOMES | REFUSED).items():
    case(f"environment: {name}")(with_environment(environment, name in REFUSED))


@case("temporary folder read-only")
def temporary_read_only(place: Place) -> str | None:
    with read_only(place.temporary):
        result = place.paint("--timelapse=film.gif")
    return place.wrong(result) or must_be_done(result)


@case("temporary folder full, with a film")
def temporary_full(place: Place) -> str | None:
    with full(place.temporary):
        result = place.paint("--timelapse=film.gif")
        return place.wrong(result) or kept_result(place, result)


LOCALES = {
    "LANG=C": {"LANG": "C", "LC_ALL": "C"},
    "POSIX without UTF-8": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "an unknown locale": {"LC_ALL": "xx_YY.KOI8-R", "PYTHONUTF8": "0"},
    "output in Latin-1": {"PYTHONIOENCODING": "latin-1"},
    "output in ASCII, strict": {"PYTHONIOENCODING": "ascii:strict"},
}


def in_locale(environment: dict[str, str]) -> Case:
    def run(place: Place) -> str | None:
        place.environment |= environment
        photo, result = "фото é.png", "gemälde.png"
        shutil.copy(place.folder / "photo.png", place.folder / photo)
        done = place.paint_alone("--save-settings=für.args", content=photo, output=result)
        wrong = place.wrong(done) or must_be_done(done)
        if wrong:
            return wrong
        refused = place.paint_alone(content="fehlt-ö.png", output="другой.png")
        return place.wrong(refused) or (None if refused.status == 1 else f"status {refused}")

    return run


for name, environment in LOCALES.items():
    case(f"locale: {name}")(in_locale(environment))


# Names


def with_name(name: str) -> Case:
    def run(place: Place) -> str | None:
        shutil.copy(place.folder / "photo.png", place.folder / name)
        output = (
            name if len(name.encode(errors="surrogateescape")) > 200 else f"{name[:-4]}-out.png"
        )
        if output == name:
            (place.folder / "results").mkdir()
            output = f"results/{name}"
        place.before = ground.contents(place.folder)
        done = place.paint("--progress-write", content=name, styles=name, output=output)
        wrong = place.wrong(done)
        if done.status == 0 and not wrong:
            with Image.open(place.folder / output) as image:
                image.load()
            again = place.paint(f"--settings-from={output}", output=f"{output}.jpg"[-200:])
            wrong = place.wrong(again)
        missing = place.wrong(place.paint(content=f"no{name}"[:254]))
        taken = place.wrong(place.paint(output=name))
        lines = place.paint(content=f"no{name}"[:254]).errors.splitlines()
        return wrong or missing or taken or (None if len(lines) == 1 else f"not one line: {lines}")

    return run


for what, name in NAMES.items():
    case(f"name: {what}")(with_name(name))


@case("name: longer than a file system takes")
def name_too_long(place: Place) -> str | None:
    for named in ({"output": "x" * 300 + ".png"}, {"content": "x" * 300 + ".png"}):
        result = place.paint(**named)
        if wrong := place.wrong(result) or (None if result.status else "status 0: cannot be"):
            return wrong
    return None


@case("name: a path longer than the system takes")
def path_too_long(place: Place) -> str | None:
    for named in ({"output": "x/" * 3000 + "x.png"}, {"content": "x/" * 3000 + "x.png"}):
        result = place.paint(**named)
        if wrong := place.wrong(result) or (None if result.status else "status 0: cannot be"):
            return wrong
        if len(result.errors) > 700:
            return f"long message: {len(result.errors)} characters"
    return None


# Links, devices


def linked(make: Callable[[Path], Any], **named: str) -> Case:
    """A case of a name that is made first; it is refused, or taken."""

    def run(place: Place) -> str | None:
        make(place.folder)
        place.before = ground.contents(place.folder)
        return place.wrong(place.paint(**named)) or place.wrong(place.paint("--overwrite", **named))

    return run


def loop(folder: Path) -> None:
    (folder / "loop.png").symlink_to("loop.png")


def hard_link(folder: Path) -> None:
    os.link(folder / "photo.png", folder / "same.png")


def dangling(folder: Path) -> None:
    (folder / "dangling.png").symlink_to("nowhere/x.png")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "fifo.png")


def devices(folder: Path) -> None:
    """Devices of our own, because a bug would replace the system's. Only root can make them."""
    for name, number in (("null.png", 3), ("full.png", 7)):
        with contextlib.suppress(PermissionError):
            os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, number))


case("link: a loop as input")(linked(loop, content="loop.png"))
case("link: a loop as output")(linked(loop, output="loop.png"))
case("link: one to nowhere as output")(linked(dangling, output="dangling.png"))
case("link: one to nowhere as input")(linked(dangling, content="dangling.png"))
case("link: a hard link of the photo as output")(linked(hard_link, output="same.png"))
case("a FIFO as input")(linked(fifo, content="fifo.png"))
case("a FIFO as style")(linked(fifo, styles="fifo.png"))
case("a FIFO as output")(linked(fifo, output="fifo.png"))
case("the photo as output")(linked(lambda folder: None, output="photo.png"))
case("the photo as output, by another path")(
    linked(lambda folder: None, output="./home/../photo.png")
)
for device in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/proc/self/mem", "/", "."):
    case(f"{device} as input")(linked(lambda folder: None, content=device))
    case(f"{device} as network")(linked(lambda folder: None, network=device))
for output in ("null.png", "full.png", "/proc/self/mem", "/", "."):
    case(f"{output} as output")(linked(devices, output=output))


@case("link: output is a link to another file")
def output_is_a_link(place: Place) -> str | None:
    (place.folder / "target.png").write_bytes(b"old")
    (place.folder / "link.png").symlink_to("target.png")
    result = place.paint("--overwrite", output="link.png")
    if wrong := place.wrong(result) or must_be_done(result):
        return wrong
    with Image.open(place.folder / "target.png") as image:
        image.load()
    return None if (place.folder / "link.png").is_symlink() else "link replaced: by a file"


@case("link: output is a link to the photo")
def output_is_a_link_to_the_photo(place: Place) -> str | None:
    (place.folder / "link.png").symlink_to("photo.png")
    result = place.paint("--overwrite", output="link.png")
    return place.wrong(result) or (None if result.status else "status 0: the photo was replaced")


@case("FIFO, device and folder as state, recipe and picture of settings")
def odd_documents(place: Place) -> str | None:
    fifo(place.folder)
    for path in ("fifo.png", "/dev/zero", "/dev/null", "home", "photo.png"):
        for more in (f"--settings-from={path}", f"@{path}", f"--content-mask={path}"):
            result = place.paint(more)
            if result.status is None:
                return f"hang: {more}"
            if path != "photo.png" and (wrong := place.wrong(result)):
                return f"{wrong.partition(':')[0]}: {more}: {wrong}"
    return None


for option in ("save-state", "save-settings", "timelapse", "log-dir", "checkpoint-output"):

    def output_of_another_kind(place: Place, option: str = option) -> str | None:
        devices(place.folder)
        for path in ("null.png", "full.png", "/proc/x", "photo.png", "network.mat", "home"):
            result = place.paint(f"--{option}={path}", "--overwrite")
            if wrong := place.wrong(result):
                return f"{wrong.partition(':')[0]}: --{option}={path}: {wrong}"
        return None

    case(f"odd file as {option}")(output_of_another_kind)

WANTED = len(CASES)
