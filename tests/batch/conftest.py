"""A gallery to paint."""

import shutil

import pytest
from galleries import OPTIONS, complete
from PIL import Image
from shared import PATIENCE


@pytest.fixture
def folders(folder, picture):
    """photos/one.png and two.jpg, paintings/dots.png and lines.png, beside network.mat."""
    for name, size in (("photos/one.png", (34, 45)), ("photos/two.jpg", (45, 34))):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(*size, seed=len(name)).astype("u1")).save(folder / name)
    (folder / "paintings").mkdir()
    shutil.copy(folder / "painting.png", folder / "paintings/dots.png")
    shutil.copy(folder / "other.png", folder / "paintings/lines.png")
    return folder


@pytest.fixture
def batch(folders, command_line):
    """A function that runs a batch of these pictures. Returns status, stdout and stderr."""

    def run(*arguments):
        return command_line(complete(arguments), folders, PATIENCE, program="batch")

    return run


@pytest.fixture(scope="session")
def alone(tmp_path_factory, command_line):
    """The bytes of a picture that neural_style.py paints with one thread; each painted once."""
    known = {}

    def paint(folders, content, style, *more):
        key = (content, style, *more)
        if key not in known:
            output = tmp_path_factory.mktemp("alone") / "out.png"
            arguments = ["--content", content, "--styles", style, "--output", output, *OPTIONS[:-1]]
            done = command_line([*arguments, 1, *more, "--quiet"], folders)
            assert done.returncode == 0, done.stderr
            known[key] = output.read_bytes()
        return known[key]

    return paint
