"""The sizes from coarse to fine, and what goes from one to the next."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from variants import TWO_BLOCKS

from neural_style_tf.errors import UsageError
from neural_style_tf.objective import memory
from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.optimizers.adam import Adam
from neural_style_tf.painting import stages, tiling
from neural_style_tf.painting.descent import resized
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import metadata, resampling, sizes
from neural_style_tf.settings import Settings


def plan(height, width, has_initial=False, **options):
    result = stages.plan(height, width, Settings(**options), has_initial)
    assert [stage.number for stage in result] == list(range(1, len(result) + 1))
    assert {stage.count for stage in result} == {len(result)}
    assert sum(stage.iterations for stage in result) == Settings(**options).iterations
    assert (result[-1].height, result[-1].width) == (height, width)
    return [(stage.width, stage.height, stage.iterations) for stage in result]


def test_large_pictures_begin_small_and_end_with_few_steps():
    options = {"style_loss": "moments", "iterations": 300}
    assert plan(768, 1024, **options) == [(512, 384, 176), (1024, 768, 124)]
    assert plan(2048, 2048, **options) == [(512, 512, 136), (1024, 1024, 96), (2048, 2048, 68)]


def test_neighbours_take_as_many_steps_at_a_small_size_whatever_the_size_of_the_result():
    plans = {size: plan(size, size) for size in (512, 1024, 2048)}
    assert [stage[1:] for stage in plans[512]] == [(256, 85), (512, 55)]
    for size, larger in ((512, 1024), (1024, 2048)):
        assert plans[larger][: len(plans[size]) - 1] == plans[size][:-1]


@pytest.mark.parametrize(
    "side, expected",
    [
        (180, [(180, 140)]),
        (184, [(92, 52), (184, 88)]),
        (256, [(128, 52), (256, 88)]),
        (360, [(180, 52), (360, 88)]),
        (368, [(184, 85), (368, 55)]),
        (720, [(360, 85), (720, 55)]),
        (728, [(184, 85), (364, 34), (728, 21)]),
        (2048, [(256, 85), (512, 34), (1024, 8), (2048, 13)]),
    ],
)
def test_neighbours_begin_at_about_256_pixels_or_at_half_of_a_small_result(side, expected):
    planned = plan(side, side)
    assert [(width, steps) for _, width, steps in planned] == expected


@pytest.mark.parametrize("iterations", range(1, 40))
def test_no_stage_is_without_steps(iterations):
    for style_loss in ("neighbors", "moments"):
        planned = plan(4096, 4096, style_loss=style_loss, iterations=iterations)
        assert min(steps for *_, steps in planned) >= 1


def test_work_is_steps_times_pixels():
    small_then_large = stages.plan(768, 1024, Settings(style_loss="moments", iterations=300))
    done = [stages.work_done(small_then_large, steps) for steps in (0, 88, 176, 238, 300)]
    np.testing.assert_allclose(done, np.array([0, 88, 176, 176 + 62 * 4, 672]) / 672)


@pytest.mark.parametrize("size", [(384, 512), (700, 300), (16, 16)])
def test_small_ones_have_one_stage(size):
    assert len(plan(*size, style_loss="moments")) == 1


def test_so_have_those_that_go_on_from_a_picture_unless_told():
    assert len(plan(768, 1024, has_initial=True)) == 1
    assert len(plan(768, 1024, has_initial=True, scales=2)) == 2


def test_off_and_a_number():
    assert len(plan(3000, 4000, scales="off")) == 1
    assert len(plan(300, 400, scales="3")) == 3


@pytest.mark.parametrize("height, width", [(20, 2000), (33, 4000), (4000, 16)])
def test_no_stage_is_too_small_for_the_network(height, width):
    assert min(side for stage in plan(height, width) for side in stage[:2]) >= 16


def test_every_stage_has_a_step():
    moments = {"style_loss": "moments"}
    assert [steps for *_, steps in plan(4096, 4096, iterations=3, **moments)] == [2, 1]
    assert [steps for *_, steps in plan(4096, 4096, iterations=1, **moments)] == [1]


def test_more_than_there_are_are_refused():
    with pytest.raises(UsageError, match=r"scales is 4 for 100x75 pixels .* use 3 or fewer"):
        plan(75, 100, scales=4)
    with pytest.raises(UsageError, match="2 iterations: use 2 or fewer"):
        plan(75, 100, scales=3, iterations=2)


@pytest.mark.parametrize("scales", ["many", "0", "-2", "1.5"])
def test_a_wrong_number_of_stages_is_told(scales):
    with pytest.raises(
        UsageError, match=r"scales is .*: use auto, off, or a whole number of stages from 1"
    ):
        Settings(scales=scales)


def test_steps_count_on_and_pictures_grow(network, picture):
    reported = []
    options = {"scales": 3, "iterations": 14, "checkpoint_iterations": 5} | TWO_BLOCKS
    options |= {"on_step": reported.append}
    pairs = list(stylize(network, picture(70, 90), [picture(60, 80, seed=1)], **options))
    assert [iteration for iteration, _ in pairs] == [0, 5, 10, None]
    assert [image.shape[:2] for _, image in pairs] == [(16, 24), (16, 24), (35, 45), (70, 90)]
    assert [step.iteration for step in reported] == [*range(14), None]
    assert [step.stage.number for step in reported] == [1] * 6 + [2] * 5 + [3] * 3 + [3]
    assert all(step.image().shape[:2] == step.stage[2:4] for step in reported)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "l-bfgs-b"])
def test_the_last_stage_goes_on_from_the_one_before(network, picture, optimizer):
    """Its first loss is far under that of a fresh start."""
    reported = {"2": [], "off": []}
    for (scales, steps), iterations in zip(reported.items(), (60, 1), strict=True):
        options = {"scales": scales, "iterations": iterations}
        options |= {"optimizer": optimizer} | TWO_BLOCKS
        options |= {"evaluations": 2} if optimizer == "l-bfgs-b" else {}
        pictures = picture(64, 80), [picture(60, 80, seed=1)]
        list(stylize(network, *pictures, on_step=steps.append, **options))
    first = next(step for step in reported["2"] if step.stage.number == 2)
    assert first.losses()["total"] < reported["off"][0].losses()["total"] / 2


@pytest.mark.parametrize(
    "options, first",
    [
        ({"style_scales": [1.25, 0.25]}, [(20, 50), (16, 18)]),
        ({"style_size": [100, 20]}, [(20, 50), (16, 18)]),
        ({"style_fit": "width"}, [(20, 50), (18, 20)]),
        ({}, [(23, 57), (18, 20)]),  # what is small beside the picture is not made smaller
        ({"style_stages": "fixed"}, [(40, 100), (18, 20)]),
    ],
)
def test_styles_are_scaled_with_the_stage_or_fixed(network, picture, monkeypatch, options, first):
    sizes = []
    make = memory.make_objective

    def noted(network, content, styles, *rest):
        sizes.append([tuple(shape.shape[1:3]) for shape in (content, *styles)])
        return make(network, content, styles, *rest)

    monkeypatch.setattr(memory, "make_objective", noted)
    styles = [picture(40, 100, seed=1), picture(18, 20, seed=2)]
    options = {"scales": 2, "iterations": 3} | TWO_BLOCKS | options
    list(stylize(network, picture(64, 80), styles, **options))
    assert sizes == [[(40, 48), *first], [(80, 96), (40, 100), (18, 20)]]  # with bleed


def test_results_of_other_sizes_go_through_stages_of_the_same_sizes():
    """Of the same as that of a smaller result, so that they become the same picture, with more
    detail: 427 of 640 pixels halve to no whole number."""
    same = [(256, 172), (512, 342), (1024, 683), (2048, 1366)]
    for count in (2, 3, 4):
        width, height = same[count - 1]
        assert [stage[:2] for stage in plan(height, width, style_loss="neighbors")] == same[:count]


def test_where_opposite_edges_meet_every_stage_is_a_multiple_of_what_poolings_halve():
    sides = [stage[:2] for stage in plan(416, 976, padding="wrap", scales=3)]
    assert sides == [(240, 96), (480, 192), (976, 416)]


def test_there_a_painting_has_the_same_sizes_too():
    settings, seen = Settings(style_loss="neighbors"), []
    for result in [(342, 512), (683, 1024), (1366, 2048), (2733, 4096)]:
        size = sizes.of_style((500, 397), result, settings).size
        plan = stages.plan(*result, settings)
        seen.append([stages.style_size(*size, stage, plan[-1], settings) for stage in plan[:2]])
    assert seen == [  # except for a pixel: they are rounded twice
        [(236, 187), (470, 373)],
        [(236, 187), (470, 373)],
        [(235, 187), (470, 373)],
        [(235, 187), (470, 373)],
    ]


@pytest.mark.parametrize("side", [330, 361, 362, 363, 512, 725, 727, 1449, 1455])
def test_a_plan_that_is_divided_anew_has_the_steps_of_a_new_one(side):
    settings = Settings(style_loss="neighbors")
    planned = stages.plan(side, side, settings)
    more = dataclasses.replace(settings, iterations=2 * settings.iterations)
    assert stages.with_iterations(planned, more) == stages.plan(side, side, more)
    assert stages.with_iterations(stages.plan(side, side, more), settings) == planned


def test_a_style_has_at_every_stage_the_size_that_its_strokes_are_to_have():
    settings = Settings(scales=3, stroke_size=2)
    plan = stages.plan(256, 512, settings)
    sizes = [stages.style_size(300, 400, stage, plan[-1], settings, 1.0) for stage in plan]
    assert sizes == [(192, 256), (300, 400), (300, 400)]  # never enlarged


def test_tiles_are_chosen_for_the_sizes_that_styles_have_for_their_strokes(monkeypatch):
    settings, seen = Settings(scales=3, stroke_size=2), []
    monkeypatch.setattr(tiling, "choose_size", lambda network, sizes, *_: seen.append(sizes[1]))
    plan = stages.plan(256, 512, settings)
    assert tiling.in_tiles(plan, None, [(300, 400)], settings, None, [1.0]) == plan
    assert seen == [(192, 256), (300, 400), (300, 400)]


@pytest.mark.parametrize("style_fit", ["area", "width"])
def test_a_narrow_style_keeps_its_proportions_at_every_stage(style_fit):
    settings = Settings(scales=3, style_fit=style_fit)
    first, *_, last = stages.plan(256, 256, settings)
    size = stages.style_size(40, 1600, first, last, settings)
    assert size == (16, 640)  # a quarter would be 10 high
    higher = (1600, 40) if style_fit == "width" else (640, 16)  # it is narrower than the stage
    assert stages.style_size(1600, 40, first, last, settings) == higher


def test_stages_are_painted_beyond_the_edges_which_are_cut_off(network, picture, monkeypatch):
    photos, bests = [], []
    make = memory.make_objective

    def noted(network, content, *rest):
        photos.append(content[0])
        return make(network, content, *rest)

    def keep(step):
        bests.append(np.array(step.state()["best/picture"])[0])

    monkeypatch.setattr(memory, "make_objective", noted)
    photo, options = picture(64, 83), {"iterations": 4, "on_step": keep} | TWO_BLOCKS
    ((_, painted),) = stylize(network, photo, [picture(seed=1)], scales=2, **options)
    assert [photo.shape[:2] for photo in photos] == [(40, 48), (80, 99)]
    np.testing.assert_array_equal(photos[1][8:-8, 8:-8], photo)
    np.testing.assert_array_equal(photos[1][:8], photos[1][15:7:-1])  # mirrored
    assert bests[-1].shape == (80, 99, 3)
    np.testing.assert_array_equal(painted, bests[-1][8:-8, 8:-8])
    photos.clear()
    options = {"scales": "off", "iterations": 1} | TWO_BLOCKS
    list(stylize(network, photo, [picture(seed=1)], **options))
    np.testing.assert_array_equal(photos, [photo])


def test_masks_go_on_beyond_the_edges(network, picture):
    """Where the mask says so the photo stays, up to its last pixel."""
    photo, stays = picture(64, 80), np.zeros((64, 80), np.float32)
    stays[:, :40] = 1
    options = {"content_mask": 1 - stays, "style_masks": [1 - stays]}
    options |= {"scales": 3, "iterations": 7, "tile": 64} | TWO_BLOCKS
    ((_, image),) = stylize(network, photo, [picture(seed=1)], **options)
    np.testing.assert_allclose(image[:, :40], photo[:, :40], atol=1e-4)
    assert np.abs(image[:, 40:] - photo[:, 40:]).mean() > 1


def test_a_limit_ends_the_run_and_the_picture_is_whole(network, picture):
    reported = []
    options = {"scales": 2, "iterations": 30, "max_evaluations": 4, "on_step": reported.append}
    options |= TWO_BLOCKS
    (pair,) = stylize(network, picture(64, 80), [picture(seed=1)], **options)
    assert pair[1].shape == (64, 80, 3)
    assert {step.stage.number for step in reported} == {1}


def test_patience_ends_its_stage_only(network, picture):
    reported = []
    options = {"scales": 2, "iterations": 300, "patience": 2, "learning_rate": 60}
    options |= {"learning_rate_schedule": "constant", "on_step": reported.append} | TWO_BLOCKS
    list(stylize(network, picture(64, 80), [picture(seed=1)], **options))
    assert len(reported) < 300 and {step.stage.number for step in reported} == {1, 2}


def test_adams_moments_are_carried_over():
    adam = Adam(20.0, 0.9, 0.999, 1e-8, "constant", 100)
    small = tf.constant(np.random.default_rng(0).uniform(50, 200, (1, 20, 24, 3)), tf.float32)

    def steady(picture):
        return Evaluation(tf.ones_like(picture) * [2.0, -3.0, 0.5], {})

    state = adam.init(small)
    for _ in range(40):
        _, state, _ = adam.step(steady, small, state)
    large = resized(small, 40, 48)
    state = adam.rescale(state, large)
    assert state["first"].shape == state["second"].shape == large.shape
    assert float(tf.reduce_min(state["second"])) >= 0
    assert float(state["steps"]) == 0  # the schedule starts again
    # a steady gradient's step is the learning rate, whatever the size: so it is at once
    made, _, _ = adam.step(steady, large, state)
    np.testing.assert_allclose(made - large, np.full(large.shape, 20) * [-1, 1, -1], rtol=1e-3)


def test_enlarging_keeps_to_the_range(picture):
    edges = tf.constant(np.repeat([[0.0, 255.0]], 10, 0).repeat(10, 1)[None, ..., None] * [1, 1, 1])
    enlarged = resized(tf.cast(edges, tf.float32), 40, 40)
    assert float(tf.reduce_min(enlarged)) >= 0 and float(tf.reduce_max(enlarged)) <= 255
    smooth = picture(20, 30)
    expected = resampling.resize(smooth, 40, 60)
    enlarged = resized(tf.constant(smooth[None]), 40, 60)[0]
    assert np.abs(enlarged - expected)[4:-4, 4:-4].mean() < 2


def test_tiles_are_chosen_for_each_stage(network, picture):
    reported = []
    options = {"scales": 2, "iterations": 3, "tile": 64, "on_step": reported.append} | TWO_BLOCKS
    list(stylize(network, picture(64, 130), [picture(40, 50, seed=1)], **options))
    assert [step.stage.tile for step in reported] == [None, None, 64, 64]


def test_the_command_line_paints_from_coarse_to_fine(run, folder):
    options = ("--iterations", 8, "--scales", 2, "--preserve-colors")
    options += ("--checkpoint-iterations", 5, "--checkpoint-output")
    result = run(*options, "%d.png")
    assert result.returncode == 0
    assert result.stderr.startswith("24x16, then 45x34 on ")
    sizes = {name: Image.open(folder / name).size for name in ("0.png", "5.png", "out.png")}
    assert sizes == {"0.png": (24, 16), "5.png": (45, 34), "out.png": (45, 34)}
    assert metadata.read(folder / "out.png")["scales"] == "2"
    result = run(*options, "full-%d.png", "--checkpoint-full-size", output="again.png")
    assert Image.open(folder / "full-0.png").size == (45, 34)
    same = [Image.open(folder / name).tobytes() for name in ("out.png", "again.png")]
    assert same[0] == same[1]
    result = run("--scales", 5, "--iterations", 100, output="c.png")
    assert result.returncode == 2
    assert result.stderr == (
        "error: --scales is 5 for 45x34 pixels and 100 iterations: use 2 or fewer\n"
    )
