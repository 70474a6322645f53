"""The CPU: threads, features, and where oneDNN is used."""

import os
import sys

import pytest
import tensorflow as tf

from neural_style_tf.machine import cpu, tensorflow_setup


@pytest.mark.parametrize(
    "texts, threads",
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({"own": "0::/job/step\n", "job/cpu.max": "300000 100000", "cpu.max": "max 100000"}, 3),
    ],
    ids=str,
)
def test_threads_follow_the_containers_limit(cgroup, texts, threads):
    cgroup(texts)
    assert cpu.threads() == threads


def test_threads_follow_the_affinity(cgroup, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert cpu.threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows
    assert cpu.threads() == 8


@pytest.mark.parametrize(
    "text, expected",
    [("flags : fpu amx_bf16 amx_tile\n", True), ("flags : avx512_bf16\n", False), (None, False)],
)
def test_units_that_multiply_matrices_are_among_the_flags(tmp_path, monkeypatch, text, expected):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "PROCESSORS", tmp_path / "cpuinfo")
    assert cpu.multiplies_matrices() == expected


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that replaces /proc/cpuinfo, which None removes, and the variable for oneDNN."""
    monkeypatch.setattr(cpu, "PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: [])

    def describe(text, value):
        if text is not None:
            (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setenv(cpu.ONEDNN, value or "")
        if value is None:
            monkeypatch.delenv(cpu.ONEDNN)

    return describe


@pytest.mark.parametrize(
    "text, machine, platform, value, expected",
    [
        ("flags : fpu avx2 fma\n", "x86_64", "linux", None, "1"),
        ("flags : fpu avx2 fma\n", "x86_64", "linux", "0", "0"),
        ("flags : fpu avx\n", "x86_64", "linux", None, None),
        ("Features : fp asimd\n", "aarch64", "linux", None, None),
        (None, "AMD64", "win32", None, "1"),
        (None, "x86_64", "darwin", None, None),
    ],
)
def test_onednn_is_switched_on_for_processors_that_it_is_made_for(
    system, monkeypatch, text, machine, platform, value, expected
):
    system(text, value)
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu.sys, "platform", platform)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "tensorflow")
        cpu.choose_onednn()
    assert os.environ.get(cpu.ONEDNN) == expected
    assert tensorflow_setup.uses_onednn() == (expected == "1")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: ["a GPU"])
    assert not tensorflow_setup.uses_onednn()


@pytest.mark.parametrize(
    "flags, value, expected",
    [
        ("avx2 avx512_vnni", None, True),
        ("avx2 avx512_vnni", "0", False),
        ("avx2 avx_vnni", None, True),
        ("avx2 avx512f", None, False),
    ],
)
def test_onednn_follows_tensorflows_default_where_another_program_imported_it(
    system, flags, value, expected
):
    system(f"flags : fpu {flags}\n", value)
    assert tensorflow_setup.uses_onednn() == expected


def test_onednn_that_the_user_has_switched_off_is_not_missed(monkeypatch):
    monkeypatch.setattr(cpu, "gains_from_onednn", lambda: True)
    monkeypatch.setattr(cpu, "uses_onednn_by_default", lambda: False)
    for value, expected in (("0", False), ("1", False), (None, True)):
        monkeypatch.delenv(cpu.ONEDNN, raising=False)
        if value is not None:
            monkeypatch.setenv(cpu.ONEDNN, value)
        assert cpu.misses_onednn() is expected
