"""Fixtures of the networks: a stand-in for a library that parses files, and a reader."""

import pytest
from network_files import STAND_IN_FOR_H5PY

from neural_style_tf.network import formats, reader


@pytest.fixture
def quick_reader(monkeypatch):
    """Reads files in this process, for tests of what is in them: the reader's process, which
    test_reader.py tests, takes a quarter of a second to start."""

    def read(path, file, size):
        file.seek(0)
        return formats.read(path, file.read(size))

    monkeypatch.setattr(reader, "read", read)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A function that makes a Python module what the reader's process imports as h5py."""

    def make(code):
        package = tmp_path / "packages" / "h5py"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(package.parent)

    return make


@pytest.fixture
def opens(stand_in):
    """A function that makes a line of code what happens when an .h5 file is opened."""
    return lambda code: stand_in(STAND_IN_FOR_H5PY.replace("CODE", code))
