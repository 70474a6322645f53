"""What the machine offers: threads, precision, and the options for both."""

import os

import pytest
import tensorflow as tf

import hardware


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A function that writes files of a cgroup, and has the machine look there."""
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)

    def write(texts):
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


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
    ],
    ids=str,
)
def test_threads_follow_the_containers_limit(cgroup, texts, threads):
    cgroup(texts)
    assert hardware.threads() == threads


def test_threads_follow_the_affinity(cgroup, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert hardware.threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows
    assert hardware.threads() == 8


@pytest.fixture
def fresh():
    hardware._fastest_precision.cache_clear()
    yield
    hardware._fastest_precision.cache_clear()


@pytest.mark.parametrize(
    "gains, chosen",
    [((6, 3), tf.bfloat16), ((2.1, 1.1), tf.float32), ((0.5, 0.2), tf.float32)],
    ids=str,
)
def test_low_precision_has_to_be_much_faster(fresh, monkeypatch, gains, chosen):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    by_side = dict(zip((side for side, _ in hardware.TRIED), gains, strict=True))
    monkeypatch.setattr(hardware, "_gain", lambda side, channels: by_side[side])
    assert hardware.precision("auto") == chosen


def test_low_precision_that_raises_is_not_taken(fresh, monkeypatch):
    def raises(side, channels):
        raise tf.errors.AbortedError(None, None, "no such instruction")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(hardware, "_gain", raises)
    assert hardware.precision("auto") == tf.float32


@pytest.mark.parametrize(
    "capability, chosen", [((9, 0), tf.bfloat16), ((7, 5), tf.float16), ((6, 1), tf.float32)]
)
def test_a_gpu_takes_what_its_tensor_cores_do(fresh, monkeypatch, capability, chosen):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a GPU"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    assert hardware.precision("auto") == chosen


def test_what_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(hardware, "_fastest_precision", None)
    assert hardware.precision("float16") == tf.float16


def test_the_probe_runs_here(fresh):
    assert hardware.precision("auto") in (tf.float32, tf.bfloat16, tf.float16)


def test_the_options_reach_the_run(run):
    result = run("--threads", 1, "--precision", "float32", "--iterations", 1)
    assert result.returncode == 0
    if "GPU" not in result.stderr:
        assert result.stderr.startswith("45x34 on CPU (1 thread) in float32 with the network")


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_a_wrong_number_of_threads_is_refused(run, value):
    result = run(f"--threads={value}")
    assert result.returncode == 2
    told = f"error: argument --threads: {value} is no number of threads: give 1 or more"
    assert result.stderr.startswith(told)
