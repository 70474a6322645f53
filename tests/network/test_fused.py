"""What a GPU compiles: the functions of stages that are long enough."""

import numpy as np
import pytest
import tensorflow as tf
from variants import TWO_BLOCKS, apart

from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.network import device, fused
from neural_style_tf.objective import graphs, memory
from neural_style_tf.painting import stages
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.settings import Settings

SIZE = (33, 46)
STEPS = 4


@pytest.fixture
def asked(monkeypatch):
    """What `fused` answers from now on when it is asked whether it compiles."""
    answers, compiles = [], fused._compiles
    monkeypatch.setattr(graphs, "_store", LRUCache(20))  # nothing has been traced yet
    monkeypatch.setattr(fused, "_compiles", lambda: answers.append(compiles()) or answers[-1])
    return answers


@pytest.mark.parametrize("tile", [None, 16])
def test_few_evaluations_compile_nothing_and_are_the_same(shallow, picture, tile, asked):
    content, style, ours = (picture(*SIZE, seed=seed)[np.newaxis] for seed in range(3))
    gradients = {}
    for evaluations in (1, 2**30):
        asked.clear()
        with device.made_for(device.GPU):
            evaluate, _ = memory.make_objective(
                *(shallow, content, [style], Settings(style_loss="moments", **TWO_BLOCKS)),
                *(tf.float32, tile),
                evaluations=evaluations,
            )
            gradients[evaluations] = evaluate(tf.constant(ours)).gradient.numpy()
        assert asked and any(asked) == (evaluations > 1)
    few, many = gradients.values()
    assert apart(few, many) < 1e-5


@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
def test_a_stage_is_long_by_its_steps_and_pixels(shallow, picture, is_long, asked, monkeypatch):
    content, style = picture(*SIZE, seed=1), picture(*SIZE, seed=2)
    monkeypatch.setattr(fused, "WORTH_COMPILING", STEPS * SIZE[0] * SIZE[1] + (not is_long))
    options = {"style_loss": "moments", "optimizer": "adam", "scales": 1, "iterations": STEPS}
    with device.made_for(device.GPU):
        list(stylize(shallow, content, [style], **options, **TWO_BLOCKS))
    assert asked and any(asked) == is_long


def test_default_stages_up_to_512_pixels_are_short_and_those_of_2048_are_not():
    settings = Settings()
    with device.made_for(device.GPU):
        for size in (256, 363, 512, 2048):
            plan = stages.plan(size, size, settings)
            answers = [fused.pays(stage.iterations, stage.height * stage.width) for stage in plan]
            assert any(answers) == (size > 512)
    with device.made_for(device.CPU):
        assert fused.pays(1, 1)


def test_what_is_measured_once_is_not_compiled(shallow, picture, asked):
    content, style = (picture(*SIZE, seed=seed)[np.newaxis] for seed in range(2))
    settings = Settings(style_loss="moments", **TWO_BLOCKS)
    with device.made_for(device.GPU):
        _, losses = memory.make_objective(shallow, content, [style], settings, tf.float32, None)
        losses(tf.constant(content))
    assert asked and not any(asked)


def test_on_a_cpu_the_total_variation_is_always_compiled(shallow, picture, asked):
    content = picture(*SIZE, seed=1)[np.newaxis]
    settings = Settings(style_loss="moments", **TWO_BLOCKS)
    with device.made_for(device.CPU):
        evaluate, _ = memory.make_objective(
            shallow, content, [content], settings, tf.float32, None, evaluations=1
        )
        evaluate(tf.constant(content))
    assert asked and all(asked)
