"""What the tests share: tiny networks in real files, small pictures, the command line."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # not the user's

import numpy as np
import pytest
import reference
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def pytest_sessionfinish():
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def weights():
    return reference.tiny_weights()


@pytest.fixture(scope="session")
def tiny(weights, tmp_path_factory):
    """A tiny VGG-19 in a file of the newer layout."""
    return reference.save_mat(tmp_path_factory.mktemp("network") / "tiny.mat", weights)


@pytest.fixture(scope="session")
def network(tiny):
    import vgg

    return vgg.load(tiny)


@pytest.fixture
def picture():
    """A function that makes a smooth random picture [height, width, 3] float32, 0..255."""

    def make(height=34, width=45, seed=0):
        coarse = np.random.default_rng(seed).uniform(0, 255, (5, 6, 3)).astype(np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(smooth, np.float32)

    return make


@pytest.fixture
def folder(tmp_path, tiny, picture):
    """A folder with photo.png (45x34), painting.png, other.png and network.mat."""
    for seed, name in enumerate(("photo.png", "painting.png", "other.png")):
        Image.fromarray(picture(seed=seed).astype(np.uint8)).save(tmp_path / name)
    (tmp_path / "network.mat").write_bytes(tiny.read_bytes())
    return tmp_path


@pytest.fixture
def run(folder):
    """A function that runs the command line in `folder`, with its pictures and tiny network, in
    float32, unless told otherwise. Returns status, stdout and stderr."""

    def run(*options, content="photo.png", styles=("painting.png",), output="out.png", **more):
        arguments = ["--content", content, "--styles", *styles, "--output", output]
        if "--network" not in options:
            arguments += ["--network", "network.mat"]
        if "--precision" not in options:  # what is fastest may hang on what else runs
            arguments += ["--precision", "float32"]
        command = [sys.executable, str(ROOT / "neural_style.py"), *arguments, *map(str, options)]
        more = {"cwd": folder, "capture_output": True, "text": True, "timeout": 120} | more
        return subprocess.run(command, **more)

    return run
