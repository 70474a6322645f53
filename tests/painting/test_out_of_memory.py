"""When memory runs out, in the objective or in the optimizer, the picture is still painted."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from variants import TWO_BLOCKS

from neural_style_tf.errors import UserError
from neural_style_tf.machine import streams
from neural_style_tf.objective import memory, objective
from neural_style_tf.objective.tiled import TiledObjective
from neural_style_tf.optimizers.adam import Adam
from neural_style_tf.optimizers.lbfgs import LBFGS, ShorterWhenFull
from neural_style_tf.optimizers.scipy_lbfgsb import LBFGSB
from neural_style_tf.painting import descent
from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.stylize import stylize

OPTIMIZERS = {"adam": Adam, "lbfgs": ShorterWhenFull}
STARTS_AGAIN = "out of memory: the optimizer starts again from the picture as it is"
FFT = "Failed to create cuFFT batched plan with scratch allocator"


def exhausted(*_):
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.fixture
def paint(shallow, picture):
    """A function that paints a photo of 100x90 in eight steps. Returns the picture and what was
    logged on the way."""

    def paint(optimizer, iterations=8, **options):
        content, style = picture(90, 100, seed=1), picture(40, 46, seed=2)
        options = {"optimizer": optimizer, "iterations": iterations, **TWO_BLOCKS, **options}
        messages = []
        with streams.logged(messages.append):
            images = list(stylize(shallow, content, [style], **options))
        return images[-1][1], messages

    return paint


def fail_after(monkeypatch, owner, name, numbers, error=exhausted):
    """Has a method raise an error at the end of these of its calls, when it has done its work."""
    method, calls = getattr(owner, name), itertools.count(1)

    def failing(*arguments):
        result = method(*arguments)
        if next(calls) in numbers:
            error()
        return result

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("lbfgs", marks=pytest.mark.slow)])
def test_a_step_whose_update_fails_is_taken_again_in_tiles(optimizer, paint, monkeypatch):
    expected, _ = paint(optimizer, tile=64)
    fail_after(monkeypatch, OPTIMIZERS[optimizer], "step", [2])
    painted, messages = paint(optimizer, tile="off")
    assert messages == ["out of memory: continues in tiles of 64 pixels"]
    np.testing.assert_allclose(painted, expected, atol=0.5)


@pytest.mark.slow
def test_a_round_of_scipy_that_fails_is_done_again_in_tiles(paint, monkeypatch):
    seen = []
    fail_after(monkeypatch, LBFGSB, "step", [2], exhausted)
    options = {"evaluations": 4, "on_step": seen.append}
    _, messages = paint("l-bfgs-b", 3, tile="off", **options)
    assert messages == ["out of memory: continues in tiles of 64 pixels"]
    totals = [step.losses()["total"] for step in seen]
    assert [step.iteration for step in seen] == [0, 1, 2, None] and totals == sorted(totals)[::-1]


@pytest.mark.slow
def test_within_a_mask_a_step_is_taken_again_too(paint, monkeypatch):
    mask = np.zeros((90, 100), "f4")
    mask[20:70, 30:] = 1
    expected, _ = paint("adam", tile=64, content_mask=mask)
    fail_after(monkeypatch, Adam, "step", [3])
    painted, messages = paint("adam", tile="off", content_mask=mask)
    assert messages == ["out of memory: continues in tiles of 64 pixels"]
    np.testing.assert_allclose(painted, expected, atol=0.5)


def test_the_picture_is_kept_where_its_state_could_not_be(paint, monkeypatch):
    monkeypatch.setattr(descent, "KEPT_VALUES", 0)
    seen = []
    fail_after(monkeypatch, Adam, "step", [5])
    painted, messages = paint("adam", tile="off", on_step=lambda step: seen.append(step.losses()))
    assert messages == [STARTS_AGAIN, "out of memory: continues in tiles of 64 pixels"]
    assert len(seen) == 9 and np.isfinite(painted).all()
    totals = [losses["total"] for losses in seen]
    assert totals[4] < totals[0] / 2 and totals[-1] == min(totals)


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM"),
        tf.errors.InternalError(None, None, FFT),
    ],
    ids=["allocator", "cuFFT"],
)
def test_an_update_of_lbfgs_that_fails_is_repeated_with_fewer_pairs(error, paint, monkeypatch):
    def fail():
        raise error

    expected, _ = paint("lbfgs")
    fail_after(monkeypatch, LBFGS, "moved", [7], fail)
    painted, messages = paint("lbfgs")
    message = "out of memory: L-BFGS remembers 15 steps from now on, and needs more of them"
    assert messages == [message]
    np.testing.assert_allclose(painted, expected, atol=0.1)  # 15 pairs hold the 8 that there were


def test_the_history_is_cut_before_the_tiles_where_it_is_larger(paint, monkeypatch):
    monkeypatch.setattr(memory.Features, "bytes", lambda _, size: 100_000)  # one picture
    make, calls = objective.make_objective, itertools.count(1)

    def runs_out(*arguments):
        evaluate = make(*arguments)
        return lambda picture: exhausted() if next(calls) in range(6, 12) else evaluate(picture)

    monkeypatch.setattr(objective, "make_objective", runs_out)
    _, messages = paint("lbfgs", tile="off")
    shorter = "out of memory: L-BFGS remembers {} steps from now on, and needs more of them"
    # five steps have left four pairs
    assert messages == [
        *(shorter.format(pairs) for pairs in (15, 7, 3, 1)),
        "out of memory: continues in tiles of 64 pixels",
    ]


def test_memory_that_runs_out_for_good_ends_the_run_in_one_line_with_its_state(paint, monkeypatch):
    steps = []
    fail_after(monkeypatch, Adam, "step", range(4, 100))
    with pytest.raises(UserError, match=r"^out of memory, even in tiles of 64 pixels: choose a s"):
        paint("adam", tile="off", on_step=steps.append)
    state = steps[-1].state()
    assert int(state["iterations"]) == len(steps) == 3
    assert np.isfinite(steps[-1].image()).all() and "optimizer/first" in state


def test_the_next_stage_begins_in_the_tiles_that_memory_sufficed_for(paint, monkeypatch):
    made = []

    class Watched(TiledObjective):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append((arguments[1].shape[1:3], arguments[5]))

    monkeypatch.setattr(memory, "TiledObjective", Watched)
    fail_after(monkeypatch, Adam, "step", [1])
    _, messages = paint("adam", tile="off", scales=2)
    assert messages == ["out of memory: continues in tiles of 64 pixels"]
    assert [size for _, size in made] == [64, 64] and made[0][0] < made[1][0]


def test_a_picture_that_the_gpu_has_no_room_for_is_made_on_the_processor(caplog):
    calls = itertools.count()
    call = lambda: exhausted() if next(calls) == 0 else tf.ones(3).device  # noqa: E731
    assert "CPU:0" in descent.on_processor_if_full(call, "made on the processor")
    assert caplog.messages == ["made on the processor"]
    with pytest.raises(ZeroDivisionError):
        descent.on_processor_if_full(lambda: 1 / 0)


def test_the_picture_of_a_step_is_fetched_where_the_gpu_has_no_room_to_cut_it(paint, monkeypatch):
    steps = []
    paint("adam", 2, on_step=steps.append)
    expected = steps[0].image()
    fail_after(monkeypatch, Stage, "image", [1])
    assert (steps[0].image() == expected).all()


def test_a_stage_that_cannot_begin_begins_in_tiles(paint, monkeypatch):
    expected, _ = paint("adam", tile=64)
    fail_after(monkeypatch, descent.Descent, "begin_stage", [1])
    painted, messages = paint("adam", tile="off")
    assert messages == ["out of memory: continues in tiles of 64 pixels"]
    np.testing.assert_allclose(painted, expected, atol=0.5)


def test_a_history_that_there_is_no_memory_for_is_shorter_from_the_start(paint, monkeypatch):
    fail_after(monkeypatch, LBFGS, "init", [1, 2])
    _, messages = paint("lbfgs", 2)
    assert [message.split()[5] for message in messages] == ["15", "7"]


def test_the_better_picture_is_chosen_where_there_is_no_memory_to_copy_it(paint, monkeypatch):
    expected, _ = paint("adam", 4)
    monkeypatch.setattr(descent, "_lower", exhausted)
    painted, messages = paint("adam", 4)
    assert messages == [] and (painted == expected).all()
