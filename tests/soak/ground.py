"""Ground: a folder with what attempts start from, made by the program itself."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import reference
from launcher import Launcher
from PIL import Image

QUICK = ["--optimizer", "adam", "--style-loss", "mean", "--precision", "float32"]
PAINT = ["--content", "photo.png", "--styles", "painting.png", "--network", "network.mat", *QUICK]
# What a run leaves, with options of every kind that the files of a run keep.
KEPT = ["--output", "painted.png", "--save-state", "run.npz", "--save-settings", "recipe.args"]
KEPT += ["--iterations", "3", "--size", "24", "--style-layers", "relu1_1=0.5", "relu2_1"]
KEPT += ["--style-blend-weights", "1", "--preserve-colors", "match", "--noise-range", "-2", "2"]
KEPT += ["--initial-noiseblend", "0.5"]


def picture(height: int, width: int, seed: int) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def make(folder: Path) -> None:
    """photo.png (45x34), painting.png, other.png, mask.png, network.mat."""
    for seed, name in enumerate(("photo.png", "painting.png", "other.png")):
        picture(34, 45, seed).save(folder / name)
    mask = np.zeros((34, 45), np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    shutil.copy(network(), folder / "network.mat")


@functools.cache
def network() -> Path:
    """A tiny network, the same for all of this process: a launcher reads it once for all."""
    folder = tempfile.mkdtemp(prefix="soak-network-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return reference.save_mat(Path(folder) / "network.mat", reference.tiny_weights())


def launcher() -> Launcher:
    return Launcher(network())


def paint(folder: Path, launcher: Launcher) -> None:
    """painted.png, painted.jpg, run.npz and recipe.args: what a run in the folder leaves."""
    arguments = [*PAINT, *KEPT]
    result = launcher.run(arguments, folder)
    assert result.returncode == 0, result.stderr
    arguments[arguments.index("painted.png")] = "painted.jpg"
    result = launcher.run([*arguments, "--overwrite"], folder)
    assert result.returncode == 0, result.stderr
    result = launcher.run([*PAINT, *KEPT, "--overwrite"], folder)
    assert result.returncode == 0, result.stderr


def copy(ground: Path, folder: Path) -> None:
    """An empty folder becomes a copy of the ground."""
    shutil.copytree(ground, folder, dirs_exist_ok=True, symlinks=True)


def contents(folder: Path) -> dict[str, bytes]:
    """The regular files of a folder and those below, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
