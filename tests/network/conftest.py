"""Fixtures of the networks: a stand-in for torch, which need not be installed."""

import pytest
from network_files import LEGACY_PTH, STAND_IN_FOR_TORCH


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
