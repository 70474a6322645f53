"""What the machine offers: threads, precision, and the options for both."""

import os

import pytest
import tensorflow as tf
from shared import FASTEST_PRECISION

from neural_style_tf.errors import UserError, shortened
from neural_style_tf.machine import cpu, memory, precision, tensorflow_setup, user_cache
from neural_style_tf.network.precision import feature_dtype


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A function that writes files of a cgroup, and has the machine look there."""
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


GIGABYTE = 10**9
MEMORY_V2 = {
    "memory.max": f"{8 * GIGABYTE}\n",
    "memory.current": f"{5 * GIGABYTE}\n",
    "memory.stat": f"anon 7\ninactive_file {GIGABYTE}\n",
}
MEMORY_V1 = {
    "memory/memory.limit_in_bytes": f"{8 * GIGABYTE}\n",
    "memory/memory.usage_in_bytes": f"{6 * GIGABYTE}\n",
    "memory/memory.stat": f"total_inactive_file {GIGABYTE}\n",
}


@pytest.mark.parametrize(
    "texts, gigabytes",
    [
        ({}, 16),
        (MEMORY_V2, 4),
        (MEMORY_V2 | {"memory.max": "max\n"}, 16),
        (MEMORY_V1, 3),
        (MEMORY_V2 | {"memory.current": f"{99 * GIGABYTE}"}, 0),
        ({"own": "0::/job\n"} | {f"job/{name}": text for name, text in MEMORY_V2.items()}, 4),
    ],
    ids=["none", "version 2", "no limit", "version 1", "full", "a job"],
)
def test_free_memory_is_the_systems_within_the_containers_limit(
    cgroup, tmp_path, monkeypatch, texts, gigabytes
):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 32000000 kB\nMemAvailable: 15625000 kB\n")
    monkeypatch.setattr(memory, "MEMORY", meminfo)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    cgroup(texts)
    assert memory.free_memory() == gigabytes * GIGABYTE


def test_where_nobody_tells_the_memory_nothing_is_known(cgroup, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "none")
    assert memory.free_memory() is None


@pytest.mark.parametrize(
    ("wanted", "told", "count"),
    [(None, None, 3), (None, "", 3), (None, "0", 3), (None, " 5 ", 5), (2, "auto", 2), (2, "5", 2)],
)
def test_threads_are_those_wanted_or_told_or_one_for_each_processor(
    wanted, told, count, monkeypatch
):
    monkeypatch.setattr(cpu, "threads", lambda: 3)
    monkeypatch.delenv(tensorflow_setup.THREADS, raising=False)
    if told is not None:
        monkeypatch.setenv(tensorflow_setup.THREADS, told)
    assert tensorflow_setup._number_of_threads(wanted) == count


@pytest.mark.parametrize("told", ["auto", "-1", "1.5", "9" * 5000, "٣"])
def test_a_number_of_threads_that_is_none_is_refused(told, monkeypatch):
    monkeypatch.setenv(tensorflow_setup.THREADS, told)
    with pytest.raises(UserError) as raised:
        tensorflow_setup._number_of_threads(None)
    assert str(raised.value) == (
        f"the environment variable TF_NUM_INTRAOP_THREADS is {shortened(repr(told))}: set it to a "
        "number of threads, or unset it"
    )


def test_more_threads_than_a_system_starts_are_refused(run):
    result = run("--threads", 20_000)
    assert result.returncode == 1
    assert result.stderr == "error: 20000 threads are too many: use at most 1024\n"


def test_a_precision_that_the_machine_has_not_is_told(monkeypatch):
    def raises(*_):
        raise tf.errors.AbortedError(None, None, "no such instruction")

    with pytest.raises(
        UserError, match=r"^this machine has no bfloat16 \(AbortedError\): give --p"
    ):
        precision.choose("bfloat16", lambda *_: (raises, None))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(user_cache, "folder", lambda: tmp_path / "caches" / "neural-style")
    monkeypatch.setattr(precision, "_fastest", FASTEST_PRECISION)
    FASTEST_PRECISION.cache_clear()
    yield
    FASTEST_PRECISION.cache_clear()


@pytest.mark.parametrize(
    "gains, chosen",
    [((6, 3), tf.bfloat16), ((2.1, 1.1), tf.float32), ((0.5, 0.2), tf.float32)],
    ids=str,
)
def test_low_precision_has_to_be_much_faster(fresh, monkeypatch, gains, chosen):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    by_side = dict(zip((side for side, _ in precision.PROBED_SIZES), gains, strict=True))
    monkeypatch.setattr(precision, "_gain", lambda side, *_: by_side[side])
    assert precision.choose("auto", None) == chosen


def test_low_precision_that_raises_is_not_taken(fresh, monkeypatch):
    def raises(*_):
        raise tf.errors.AbortedError(None, None, "no such instruction")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(precision, "_gain", raises)
    assert precision.choose("auto", None) == tf.float32


def test_the_choice_is_kept_for_this_kind_of_processor(fresh, tmp_path, monkeypatch):
    """So other work on the machine does not change the next picture."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    for gain in (6, 1.1):
        monkeypatch.setattr(precision, "_gain", lambda *_, gain=gain: gain)
        FASTEST_PRECISION.cache_clear()
        assert precision.choose("auto", None) == tf.bfloat16
    (kept,) = (tmp_path / "caches" / "neural-style").iterdir()
    assert kept.read_text() == "bfloat16"

    for spoilt in (b"float64", b"\xff"):
        kept.write_bytes(spoilt)
        FASTEST_PRECISION.cache_clear()
        assert precision.choose("auto", None) == tf.float32
        assert kept.read_text() == "float32"

    monkeypatch.setattr(precision, "_gain", lambda *_: 6)
    monkeypatch.setattr(cpu, "PROCESSORS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu amx_bf16\n\nprocessor : 1\n")
    FASTEST_PRECISION.cache_clear()
    assert precision.choose("auto", None) == tf.bfloat16
    assert len(list(kept.parent.iterdir())) == 2


def test_without_a_cache_it_is_measured_each_time(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    (tmp_path / "caches").write_text("no folder")
    for gain, chosen in ((6, tf.bfloat16), (1.1, tf.float32)):
        monkeypatch.setattr(precision, "_gain", lambda *_, gain=gain: gain)
        FASTEST_PRECISION.cache_clear()
        assert precision.choose("auto", None) == chosen


@pytest.mark.parametrize(
    "capability, chosen", [((9, 0), tf.bfloat16), ((7, 5), tf.float16), ((6, 1), tf.float32)]
)
def test_a_gpu_takes_what_its_tensor_cores_do(fresh, monkeypatch, capability, chosen):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a GPU"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    assert precision.choose("auto", None) == chosen


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
def told_onednn(tmp_path, monkeypatch):
    """A function that has the system say that of its processor, if anything, without a GPU; and the
    user say this of oneDNN."""
    monkeypatch.setattr(cpu, "PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: [])

    def told(text, given):
        if text is not None:
            (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setenv(tensorflow_setup.ONEDNN, given or "")
        if given is None:
            monkeypatch.delenv(tensorflow_setup.ONEDNN)

    return told


@pytest.mark.parametrize(
    "text, machine, system, given, expected",
    [
        ("flags : fpu avx2 fma\n", "x86_64", "linux", None, "1"),
        ("flags : fpu avx2 fma\n", "x86_64", "linux", "0", "0"),
        ("flags : fpu avx\n", "x86_64", "linux", None, None),
        ("Features : fp asimd\n", "aarch64", "linux", None, None),
        (None, "AMD64", "win32", None, "1"),
        (None, "x86_64", "darwin", None, None),
    ],
)
def test_onednn_is_for_processors_that_it_is_made_for(
    told_onednn, monkeypatch, text, machine, system, given, expected
):
    told_onednn(text, given)
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu.sys, "platform", system)
    tensorflow_setup.load()
    assert os.environ.get(tensorflow_setup.ONEDNN) == expected
    assert tensorflow_setup.uses_onednn() == (expected == "1")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: ["a GPU"])
    assert not tensorflow_setup.uses_onednn()


@pytest.mark.parametrize(
    "flags, given, expected",
    [
        ("avx2 avx512_vnni", None, True),
        ("avx2 avx512_vnni", "0", False),
        ("avx2 avx_vnni", None, True),
        ("avx2 avx512f", None, False),
    ],
)
def test_onednn_where_somebody_else_imported_tensorflow(told_onednn, flags, given, expected):
    told_onednn(f"flags : fpu {flags}\n", given)
    assert tensorflow_setup.uses_onednn() == expected


def test_what_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(precision, "_fastest", None)
    assert precision.choose("float32", None) == tf.float32


def test_the_probe_runs_here(fresh):
    assert feature_dtype("auto") in (tf.float32, tf.bfloat16, tf.float16)


def test_the_options_reach_the_run(run):
    result = run("--threads", 1, "--precision", "float32", "--iterations", 1)
    assert result.returncode == 0
    if "GPU" not in result.stderr:
        assert result.stderr.startswith("45x34 on CPU (1 thread) in float32 with the network")


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_a_wrong_number_of_threads_is_refused(run, value):
    result = run(f"--threads={value}")
    assert result.returncode == 2
    told = f"error: argument --threads: expected a whole number of at least 1, got {value}"
    assert result.stderr.startswith(told)
