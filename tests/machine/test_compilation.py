"""Compilation with XLA: tried once, and plain graphs where it does not work."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from neural_style_tf.machine import compilation, devices, drivers, streams
from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.objective import graphs
from neural_style_tf.painting.stylize import stylize

# as XLA says it without libdevice, and TensorFlow where a device has no XLA
NO_LIBDEVICE = tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc\nmore")
NO_XLA = tf.errors.UnimplementedError(None, None, "Could not find compiler for platform METAL")


@pytest.fixture
def without_xla(monkeypatch):
    """A function that makes compiling fail, while it is asked for or at the first call. Returns
    the functions that were to be compiled."""
    tried = []
    make = tf.function
    monkeypatch.setattr(streams, "_said", set())

    def broken(when, error):
        compilation._works_on.cache_clear()
        monkeypatch.setattr(graphs, "_store", LRUCache(graphs.MOST_GRAPHS))  # with none compiled

        def function(body=None, jit_compile=None, **more):
            if not jit_compile:
                return make(body, **more)
            tried.append(body.__name__)

            def call(*_):
                raise error

            if when == "trace":
                call()
            return call

        monkeypatch.setattr(tf, "function", function)
        return tried

    yield broken
    compilation._works_on.cache_clear()


def doubled(values):
    return 2 * values


def test_a_function_is_compiled_where_that_works():
    assert compilation.works()
    compiled = compilation.compiled(doubled)
    assert compiled(tf.constant(3.0)).numpy() == 6 and compiled.__name__ == "doubled"


@pytest.mark.parametrize("when", ["trace", "call"])
@pytest.mark.parametrize("error", [NO_LIBDEVICE, NO_XLA, NotImplementedError("no")], ids=str)
def test_without_xla_the_plain_function_runs(when, error, without_xla):
    tried = without_xla(when, error)
    compiled = compilation.compiled(doubled)
    outer = tf.function(lambda values: compiled(values) + 1, autograph=False)
    assert outer(tf.constant(3.0)).numpy() == 7  # first asked while a graph is made
    assert compiled(tf.constant(3.0)).numpy() == 6 and not compilation.works()
    assert tried == ["_trial"]  # once


def test_what_computes_something_else_is_not_used(monkeypatch):
    compilation._works_on.cache_clear()
    monkeypatch.setattr(tf, "function", lambda body, **_: lambda values: body(values) + 0.1)
    assert not compilation.works()
    compilation._works_on.cache_clear()


def test_a_picture_is_the_same_without_xla(without_xla, shallow, picture):
    def paint():
        options = {"iterations": 2, "scales": "off", "tile": "off", "style_loss": "mean"}
        pictures = picture(34, 45), [picture(20, 30, seed=1)]
        *_, (_, image) = stylize(shallow, *pictures, optimizer="adam", tv_loss="power", **options)
        return image

    expected = paint()
    tried = without_xla("call", NO_LIBDEVICE)
    np.testing.assert_allclose(paint(), expected, atol=0.01)
    assert tried == ["_trial"]


def test_who_compiles_asks_whether_it_works():
    package = Path(compilation.__file__).parents[1]
    texts = {path.name: path.read_text() for path in package.rglob("*.py")}
    compiling = {name for name, text in texts.items() if "jit_compile" in text}
    assert {name for name in compiling if "works()" not in texts[name]} == set()
    assert "compilation.py" in compiling


@pytest.mark.parametrize(("capability", "is_told"), [((8, 6), True), (None, False)])
def test_who_could_have_xla_is_told_how(capability, is_told, without_xla, monkeypatch, caplog):
    without_xla("call", NO_LIBDEVICE)
    monkeypatch.setattr(devices, "gpu_in_use", lambda: devices.Gpu(0, "card", capability))
    assert not compilation.works()
    assert (
        caplog.messages
        == [
            "XLA compiles nothing on this GPU (InternalError: libdevice not found at "
            "./libdevice.10.bc): it paints without, in more time and memory; "
            f"{drivers.WITH_CUDA} installs what XLA needs"
        ]
        * is_told
    )
