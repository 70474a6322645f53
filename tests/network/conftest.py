"""Fixtures of the networks: a stand-in for torch, which need not be installed, and a reader."""

import pytest
from network_files import LEGACY_PTH, STAND_IN_FOR_TORCH

from neural_style_tf.network import formats, reader


@pytest.fixture
def quick_reader(monkeypatch):
    """Reads .mat and .h5 files in this process, for tests of what is in them: the reader's process,
    which test_reader.py tests, takes a quarter of a second to start."""
    read_in_a_process = reader.read

    def read(path, file, size):
        file.seek(0)
        data = file.read(size)
        if formats.recognize(path, data[: formats.HEAD_BYTES]).library == "torch":
            return read_in_a_process(path, file, size)  # which may import a stand-in
        return formats.read(path, data)

    monkeypatch.setattr(reader, "read", read)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A function that makes a Python module what is imported as torch."""

    def make(code):
        package = tmp_path / "packages" / "torch"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(package.parent)

    return make


@pytest.fixture
def torch(stand_in):
    """A stand-in for torch, which loads what `save_state` writes."""
    stand_in(STAND_IN_FOR_TORCH.replace("SKIPPED", str(len(LEGACY_PTH))))
