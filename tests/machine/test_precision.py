"""Precision: the fastest type on this machine, measured once."""

import pytest
import tensorflow as tf
from shared import FASTEST_PRECISION

from neural_style_tf.errors import UserError
from neural_style_tf.machine import cpu, precision, user_cache
from neural_style_tf.network.precision import feature_dtype


def test_a_precision_that_the_machine_does_not_support_is_an_error(monkeypatch):
    def raises(*_):
        raise tf.errors.AbortedError(None, None, "no such instruction")

    message = r"^this machine has no bfloat16 \(AbortedError\): use precision auto$"
    with pytest.raises(UserError, match=message):
        precision.choose("bfloat16", lambda *_: (raises, None))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache, and the real choice of precision."""
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


def test_low_precision_that_raises_an_error_is_not_chosen(fresh, monkeypatch):
    def raises(*_):
        raise tf.errors.AbortedError(None, None, "no such instruction")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(precision, "_gain", raises)
    assert precision.choose("auto", None) == tf.float32


def test_the_choice_is_remembered_for_this_kind_of_processor(fresh, tmp_path, monkeypatch):
    """So that other work on the machine does not change the next picture."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    for gain in (6, 1.1):
        monkeypatch.setattr(precision, "_gain", lambda *_, gain=gain: gain)
        FASTEST_PRECISION.cache_clear()
        assert precision.choose("auto", None) == tf.bfloat16
    (entry,) = (tmp_path / "caches" / "neural-style").iterdir()
    assert entry.read_text() == "bfloat16"

    for damaged in (b"float64", b"\xff"):
        entry.write_bytes(damaged)
        FASTEST_PRECISION.cache_clear()
        assert precision.choose("auto", None) == tf.float32
        assert entry.read_text() == "float32"

    monkeypatch.setattr(precision, "_gain", lambda *_: 6)
    monkeypatch.setattr(cpu, "PROCESSORS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu amx_bf16\n\nprocessor : 1\n")
    FASTEST_PRECISION.cache_clear()
    assert precision.choose("auto", None) == tf.bfloat16
    assert len(list(entry.parent.iterdir())) == 2


def test_without_a_cache_it_is_measured_each_time(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    (tmp_path / "caches").write_text("not a folder")
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


def test_a_named_precision_is_taken_without_measuring(monkeypatch):
    monkeypatch.setattr(precision, "_fastest", None)
    assert precision.choose("float32", None) == tf.float32


def test_the_probe_runs_on_this_machine(fresh):
    assert feature_dtype("auto") in (tf.float32, tf.bfloat16, tf.float16)
