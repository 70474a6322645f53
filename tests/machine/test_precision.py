"""Precision: the fastest type on this machine, measured once."""

from types import SimpleNamespace

import pytest
import tensorflow as tf
from shared import FASTEST_PRECISION

from neural_style_tf.errors import UserError
from neural_style_tf.machine import cpu, devices, precision, user_cache
from neural_style_tf.network.precision import feature_dtype
from neural_style_tf.objective import memory
from neural_style_tf.painting.stylize import stylize


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
    monkeypatch.setattr(devices, "gpu_in_use", lambda: None)
    by_side = dict(zip((side for side, _ in precision.PROBED_SIZES), gains, strict=True))
    monkeypatch.setattr(precision, "_gain", lambda side, *_: by_side[side])
    assert precision.choose("auto", None) == chosen


def test_low_precision_that_raises_an_error_is_not_chosen(fresh, monkeypatch):
    def raises(*_):
        raise tf.errors.AbortedError(None, None, "no such instruction")

    monkeypatch.setattr(devices, "gpu_in_use", lambda: None)
    monkeypatch.setattr(precision, "_gain", raises)
    assert precision.choose("auto", None) == tf.float32


def test_the_choice_is_remembered_for_this_kind_of_processor(fresh, tmp_path, monkeypatch):
    """So that other work on the machine does not change the next picture."""
    monkeypatch.setattr(devices, "gpu_in_use", lambda: None)
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
    monkeypatch.setattr(devices, "gpu_in_use", lambda: None)
    (tmp_path / "caches").write_text("not a folder")
    for gain, chosen in ((6, tf.bfloat16), (1.1, tf.float32)):
        monkeypatch.setattr(precision, "_gain", lambda *_, gain=gain: gain)
        FASTEST_PRECISION.cache_clear()
        assert precision.choose("auto", None) == chosen


@pytest.mark.parametrize(
    "capability, chosen",
    [
        ((9, 0), tf.bfloat16),
        ((8, 0), tf.bfloat16),
        ((7, 5), tf.float16),
        ((7, 0), tf.float16),
        ((6, 1), tf.float32),
        (None, tf.float32),  # Apple's
    ],
)
def test_a_gpu_takes_what_its_tensor_cores_do(fresh, monkeypatch, capability, chosen):
    monkeypatch.setattr(devices, "gpu_in_use", lambda: devices.Gpu(0, "card", capability))
    assert precision.choose("auto", None) == chosen


@pytest.fixture
def tf32(monkeypatch):
    """A GPU, and whether products in float32 may be rounded there: `tf32.is_on`."""
    switch = SimpleNamespace(is_on=True)

    def turn(is_on):
        switch.is_on = is_on

    experimental = tf.config.experimental
    monkeypatch.setattr(devices, "gpu_in_use", lambda: devices.Gpu(0, "card", (9, 0)))
    monkeypatch.setattr(experimental, "tensor_float_32_execution_enabled", lambda: switch.is_on)
    monkeypatch.setattr(experimental, "enable_tensor_float_32_execution", turn)
    return switch


def watching(tf32):
    """A generator of whether TF32 is on, at first and while the losses are computed."""
    yield tf32.is_on
    with precision.without_tf32():
        assert not tf32.is_on
    yield tf32.is_on


@pytest.mark.parametrize("is_on", [True, False])
def test_float32_is_never_rounded_to_tf32(tf32, is_on):
    """And a script that has switched it off has it off, before, between and after the pictures."""
    tf32.is_on = is_on
    for dtype in (tf.bfloat16, tf.float32, tf.float16):
        for seen in precision.without_tf32_in_float32(dtype, watching(tf32)):
            assert seen is (is_on and dtype != tf.float32)
            assert tf32.is_on is is_on
        assert tf32.is_on is is_on


def test_runs_that_take_turns_leave_tf32_as_it_is(tf32):
    first, second = (
        precision.without_tf32_in_float32(dtype, watching(tf32))
        for dtype in (tf.float32, tf.bfloat16)
    )
    assert [next(first), next(second), next(first), next(second)] == [False, True, False, True]
    first.close()
    assert tf32.is_on


def test_a_run_reports_its_losses_without_tf32(tf32, shallow, picture, monkeypatch):
    """Its targets are measured without, too; in between, low precision may use it."""
    seen = []
    make = memory.make_objective

    def watched(*arguments):
        seen.append(("targets", tf32.is_on))
        evaluate, losses = make(*arguments)
        return (
            lambda image: seen.append(("step", tf32.is_on)) or evaluate(image),
            lambda image: seen.append(("losses", tf32.is_on)) or losses(image),
        )

    monkeypatch.setattr(memory, "make_objective", watched)
    options = {"iterations": 1, "optimizer": "adam", "scales": "off", "tile": "off"}
    options["style_loss"] = "moments"  # which needs fewer layers
    for dtype in ("float32", "bfloat16"):
        steps = stylize(
            *(shallow, picture(34, 45), [picture(20, 30, seed=1)]),
            **options,
            precision=dtype,
            on_step=lambda _: None,
        )
        list(steps)
        assert tf32.is_on  # for what a script does next
    of_float32 = {("targets", False), ("step", False)}
    assert set(seen) == of_float32 | {("step", True), ("losses", False)}
    assert seen[0] == seen[seen.index(("step", True)) - 1] == ("targets", False)


def test_a_named_precision_is_taken_without_measuring(monkeypatch):
    monkeypatch.setattr(precision, "_fastest", None)
    assert precision.choose("float32", None) == tf.float32


def test_the_probe_runs_on_this_machine(fresh):
    assert feature_dtype("auto") in (tf.float32, tf.bfloat16, tf.float16)
