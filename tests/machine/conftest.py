"""Fixtures: control groups of a container, by their files."""

import os

import pytest

from neural_style_tf.machine import cpu


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A function that writes the files of a cgroup, by name, where the program looks for them."""
    monkeypatch.setattr(cpu, "CGROUPS", tmp_path)
    monkeypatch.setattr(cpu, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)

    def write(texts):
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write
