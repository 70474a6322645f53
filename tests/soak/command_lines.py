"""Random command lines, good and bad values mixed: documented statuses, one line, no file lost."""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from launcher import Launcher

from neural_style_tf.commands import batch
from neural_style_tf.commands import parser as command_line
from soak import ground, values
from soak.engine import Soak

WANTED = 5_000
SECONDS = 60  # that a command may take
MEGABYTES = 2000
LONGEST = 600  # characters of an error
PICTURES = ["photo.png", "painting.png", "other.png", "painted.png", "painted.jpg"]
MISSING = ["missing.png", "no/folder.png", "", "x" * 300, "a\nb.png", "\udcff.png", "--size", "-"]
ODD_FILES = [
    *("broken.png", "empty.png", "folder", "fifo", "dangling.png", "loop.png", "/dev/null"),
    *("/dev/zero", "/dev/full", "/", ".", "network.mat", "run.npz", "recipe.args", "pairs.csv"),
    *("broken.npz", "broken.args", "/etc/passwd", "/proc/self/mem", "*.png", "folder/"),
]
OUTPUTS = ["out.png", "out.jpg", "out.tif", "out.webp", "out.bmp", "new/out.png", "out", "out.xyz"]
FILE_OPTIONS = {  # valid values of each option
    "content": PICTURES,
    "styles": PICTURES,
    "initial": PICTURES,
    "content_mask": ["mask.png"],
    "style_masks": ["mask.png", "-"],
    "style_source_masks": ["mask.png", "-"],
    "content_regions": ["mask.png"],
    "style_regions": ["mask.png", "-"],
    "network": ["network.mat"],
    "output": OUTPUTS[:6],
    "settings_from": ["painted.png", "painted.jpg"],
    "save_settings": ["new.args"],
    "save_state": ["new.npz"],
    "resume": ["run.npz"],
    "checkpoint_output": ["step-%d.png", "{content}-{style}-%d.jpg", "new/{:05}.png"],
    "timelapse": ["film.gif", "film.webp"],
    "log_dir": ["logs"],
    "contents": [*PICTURES, "photos"],
    "pairs": ["pairs.csv"],
    "output_dir": ["gallery"],
    "name": ["{content}-{style}.png", "{content_file}.jpg"],
}
WRITTEN = {"output", "save_settings", "save_state", "checkpoint_output", "timelapse", "log_dir"}
WRITTEN |= {"output_dir", "name"}
SMALL = {  # values instead of valid ones that would take long
    "size": (16, 24, 40), "width": (16, 24, 40), "height": (16, 24, 40),
    "iterations": (1, 2, 3), "evaluations": (1, 2), "threads": (1, 2), "device": ("auto", "cpu"),
    "tile": ("auto", "off", 64),
    "style_scales": (0.5, 1, 1.5), "stroke_size": (0.1, 1, 50),
    "scales": ("auto", "off", 1, 2), "workers": ("auto", 1),
    "texture": ("32x32", "48x16"), "state_iterations": (1, 2), "preview": (-1, 70_000),
    "cluster": ("nonsense", "tcp://"),
}  # fmt: skip
NEVER = {"open", "help"}  # a browser; help is printed by `HELP`
WRONG = ["0", "-1", "nan", "inf", "-inf", "1e400", "", "x", "1.5", "٣", "0x10", "a\nb", "9" * 5000]


def soak(soak: Soak) -> None:
    with Bench(soak.folder) as bench:
        most = 0.0
        while soak.wants_more():
            case = command(random.Random(soak.seed_of(soak.attempts)))
            wrong, megabytes = bench.attempt(case)
            most = max(most, megabytes)
            soak.count()
            if wrong:
                kind, _, message = wrong.partition(": ")
                soak.fail(kind, f"{case}: {message}", json.dumps(case).encode())
        soak.note(f"{bench.painted} of them painted; at most {most:.0f} MB")


def replay(path: Path) -> str | None:
    with tempfile.TemporaryDirectory() as folder, Bench(Path(folder)) as bench:
        return bench.attempt(json.loads(path.read_text()))[0]


class Bench:
    """A folder for every attempt, and the process that they are forked from."""

    def __init__(self, folder: Path):
        self._ground, self._place = folder / "ground", folder / "here"
        self._launcher = ground.launcher()
        self.painted = 0

    def __enter__(self) -> "Bench":
        self._launcher.__enter__()
        prepare(self._place, self._launcher)
        self._place.rename(self._ground)  # a run stores absolute paths: those of the copies
        self._before = ground.contents(self._ground)
        return self

    def __exit__(self, *error: object) -> None:
        self._launcher.__exit__(*error)

    def attempt(self, case: dict) -> tuple[str | None, float]:
        """What is wrong with what a command line does, and the megabytes that it took."""
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self._ground, self._place, symlinks=True, copy_function=copy_any)
        environment = {"HOME": str(self._place), "TMPDIR": str(self._place / "temporary")}
        (self._place / "temporary").mkdir()
        try:
            result = self._launcher.run(
                case["arguments"], self._place, SECONDS, case["program"], environment
            )
        except subprocess.TimeoutExpired:
            return f"hang {case['program']}: longer than {SECONDS} s", 0
        self.painted += result.returncode == 0
        wrong = wrong_result(result, case) or self._wrong_files(case, result)
        if not wrong and result.megabytes > MEGABYTES:
            wrong = f"memory: {result.megabytes:.0f} MB"
        return wrong, result.megabytes

    def _wrong_files(self, case: dict, result: subprocess.CompletedProcess) -> str | None:
        after = ground.contents(self._place)
        changed = [name for name, data in self._before.items() if after.get(name) != data]
        for name in changed:
            if not may_change(name, case["arguments"]):
                return f"file lost: {name}"
        left = [name for name in after if ".tmp" in name or name.endswith(".lock")]
        left += [name for name in after if name.startswith("temporary/")]
        if left and "instead" not in result.stderr:
            return f"left over: {left}"
        return None


def copy_any(source: str, target: str) -> None:
    """Copies a file, and makes a FIFO where there is one."""
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target)


def prepare(folder: Path, launcher: Launcher) -> None:
    """The ground, what a run leaves, and files and folders that are odd or broken."""
    folder.mkdir()
    ground.make(folder)
    ground.paint(folder, launcher)
    whole = (folder / "photo.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "broken.npz").write_bytes((folder / "run.npz").read_bytes()[:5000])
    (folder / "broken.args").write_bytes(b"--tv-weight '5\n\xff\0--sizes 5\n")
    (folder / "pairs.csv").write_text(
        "content,styles,output,options\nphoto.png,painting.png,a.png,\n"
        "other.png,painting.png;photo.png,b.jpg,--iterations 2\n"
    )
    (folder / "folder").mkdir()
    (folder / "photos").mkdir()
    for name in PICTURES[:2]:
        shutil.copy(folder / name, folder / "photos")
    os.symlink("nowhere.png", folder / "dangling.png")
    os.symlink("loop.png", folder / "loop.png")


def may_change(name: str, arguments: list[str]) -> bool:
    """Whether a file may be replaced: by --overwrite where an output is named so, and nothing
    else is; or as what the run that goes on has written itself."""
    options = parsed(arguments)
    written = {path for option in WRITTEN for path in options.get(option, [])}
    read = {path for option, paths in options.items() if option not in WRITTEN for path in paths}
    if "run.npz" in options.get("resume", []) and name in ("run.npz", "painted.png"):
        return True
    is_asked = any("--overwrite".startswith(word) and len(word) > 3 for word in arguments)
    names = {os.path.normpath(path) for path in written}
    stem = name.partition("-progress")[0]
    is_named = name in names or any(os.path.splitext(path)[0] == stem for path in names)
    return is_asked and is_named and name not in read


def parsed(arguments: list[str]) -> dict[str, list[str]]:
    """The values after each option, roughly as argparse takes them."""
    options: dict[str, list[str]] = {}
    name = ""
    for word in arguments:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            options.setdefault(name, []).extend([value] * bool(value))
        else:
            options.setdefault(name, []).append(word.lstrip("@"))
    return options


def wrong_result(result: subprocess.CompletedProcess, case: dict) -> str | None:
    """What is wrong with exit status and messages."""
    status, errors = result.returncode, result.stderr
    program = case["program"]
    if status not in (0, 1, 2):
        return f"{program} status {status}: {errors[-500:]}"
    if "Traceback" in errors and "--debug" not in case["arguments"]:
        last = errors.strip().splitlines()[-1]
        return f"{program} traceback {last.partition(':')[0][:60]}: {errors[-1500:]}"
    if "--debug" in case["arguments"]:
        return None
    lines = errors.splitlines()
    if status == 2 and (len(lines) != 1 or not lines[0].startswith("error: ")):
        return f"{program} usage is not one line: {errors[:1500]!r}"
    if status == 1 and not any("error: " in line for line in lines):
        return f"{program} fails without a word: {errors[:1500]!r}"
    long = [line for line in lines if "error: " in line and len(line) > LONGEST]
    if long:
        return f"{program} long message: {len(long[0])} characters: {long[0][:300]!r}"
    if any(not (letter.isprintable() or letter == "\n") for letter in errors):
        return f"{program} control characters: {errors[:1000]!r}"
    return None


# What is tried


def command(generator: random.Random) -> dict:
    """A command line: the program and its arguments."""
    program = "batch" if generator.random() < 0.25 else "neural_style"
    actions = actions_of(program)
    bad = generator.choice((0, 0, 0.03, 0.2, 0.6))  # share of bad values
    arguments = required(generator, program, bad)
    many = generator.choice((0, 1, 2, 3, 5, 8))
    for action in generator.choices(sorted(actions, key=lambda action: action.dest), k=many):
        if action.dest not in NEVER:
            arguments.append(option(generator, action, bad))
    if bad and generator.random() < 0.1:
        arguments.append([values.text(generator)])
    if generator.random() < 0.1:
        arguments.append(
            [generator.choice(("@recipe.args", "@broken.args", "@missing", "@folder"))]
        )
    if generator.random() < 0.3:
        arguments.append(["--overwrite"])
    if bad and generator.random() < 0.5:
        generator.shuffle(arguments)
    words = [word for words in arguments for word in words if "\0" not in word]
    return {"program": program, "arguments": harmless(words[:200])}


def harmless(words: list[str]) -> list[str]:
    """The words of a command that replaces files at most in its own folder: the soak may be run
    by root, and a file of the system may be the output."""
    if not any(word.startswith("--ov") for word in words):
        return words
    return [re.sub(r"(^|=)(/|~|\.\.)[^=]*", r"\1victim.png", word) for word in words]


def required(generator: random.Random, program: str, bad: float) -> list[list[str]]:
    """Options without which nothing is painted; some may be missing."""
    dests = ["content", "styles", "output", "network"]
    if program == "batch":
        dests = ["contents", "styles", "output_dir", "network"]
        if generator.random() < 0.2:
            dests = ["pairs", "output_dir", "network"]
    elif generator.random() < 0.15:
        dests = ["resume"]
    elif generator.random() < 0.15:
        dests = ["settings_from", "output"]
    dests = [dest for dest in dests if generator.random() >= bad / 4]
    actions = {action.dest: action for action in actions_of(program)}
    chosen = [option(generator, actions[dest], bad / 2) for dest in dests]
    quick = generator.choice((ground.QUICK, ground.QUICK, ["--precision", "float32"]))
    if dests != ["resume"]:
        chosen += [["--iterations", str(generator.randrange(1, 4))], ["--size", "40"], [*quick]]
    return chosen


def actions_of(program: str) -> list[argparse.Action]:
    actions = {action.dest: action for action in command_line.build_parser()._actions}
    if program == "batch":
        actions |= {action.dest: action for action in batch.build_parser()._actions}
    return [action for action in actions.values() if action.option_strings]


def option(generator: random.Random, action: argparse.Action, bad: float) -> list[str]:
    """An option and its values, as words of a command line."""
    name = generator.choice(action.option_strings)
    if generator.random() < bad / 5:
        name = name[: generator.randrange(2, len(name) + 1)]
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return [name] if generator.random() >= bad / 3 else [name, "x"]
    count = 1
    if action.nargs == "+":
        count = generator.choice((1, 1, 1, 2))
    if generator.random() < bad / 3:
        count = generator.choice((0, 0, 2, 5))
    words = [
        bad_value(generator, action) if generator.random() < bad else good_value(generator, action)
        for _ in range(count)
    ]
    if len(words) == 1 and generator.random() < 0.15:
        return [f"{name}={words[0]}"]
    return [name, *words]


def good_value(generator: random.Random, action: argparse.Action) -> str:
    """A value that is valid on its own."""
    dest = action.dest
    rules = {field.name: field.metadata for field in command_line.fields()}
    if dest in SMALL:
        return str(generator.choice(SMALL[dest]))
    if dest in FILE_OPTIONS:
        return generator.choice(FILE_OPTIONS[dest])
    rule = rules.get(dest)
    if rule is None or (rule["kind"] is str and "choices" not in rule):
        return str(generator.choice((1, 2, "127.0.0.1", 100.0)))
    if "choices" in rule:
        return generator.choice(rule["choices"])
    if rule["kind"] is dict:
        layer = generator.choice(("relu1_1", "conv2_1", "relu3_1", "pool1", "relu4_2", "conv5_2"))
        return layer + generator.choice(("", "=1", "=0.5", "=2"))
    low = max(rule.get("at_least", 0), rule.get("above", 0))
    high = min(rule.get("at_most", low + 5), rule.get("below", low + 5))
    if rule["kind"] is int:
        return str(generator.randint(int(low), int(high)))
    return f"{generator.uniform(low + 1e-3, high - 1e-3):.4g}"


def bad_value(generator: random.Random, action: argparse.Action) -> str:
    """A bad value: a wrong number, the name of something else, a missing or odd file."""
    if action.dest in FILE_OPTIONS or generator.random() < 0.1:
        pool = generator.choice((MISSING, ODD_FILES, ODD_FILES, PICTURES, OUTPUTS, values.PATHS))
        return generator.choice(pool)
    if action.dest in SMALL or generator.random() < 0.6:
        return generator.choice(WRONG)
    return values.text(generator) or " "
