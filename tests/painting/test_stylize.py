"""The contract of `stylize`, which people's scripts rely on."""

import gc
import subprocess
import sys
import types
import typing
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from shared import PATIENCE, ROOT
from variants import TWO_BLOCKS

from neural_style_tf.errors import UserError, message_of
from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.network import vgg
from neural_style_tf.objective import graphs
from neural_style_tf.objective.objective import make_losses, measure_targets
from neural_style_tf.painting.options import SettingsOptions
from neural_style_tf.painting.start import initial_picture
from neural_style_tf.painting.stylize import NotFiniteError, stylize
from neural_style_tf.pictures import reading, resampling
from neural_style_tf.settings import BUNDLED_NETWORK, Settings


def paint(network, picture, **options):
    pictures = {"content": picture(seed=1), "styles": [picture(30, 50, seed=2)]}
    return list(stylize(network, **(pictures | TWO_BLOCKS | {"iterations": 5} | options)))


def test_pairs_come_in_order_and_the_last_has_no_number(tiny, picture):
    pairs = paint(tiny, picture, iterations=7, checkpoint_iterations=3)
    assert [iteration for iteration, _ in pairs] == [0, 3, 6, None]
    for _, image in pairs:
        assert image.shape == (34, 45, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 255


def test_without_checkpoints_there_is_one_pair(network, picture):
    assert [iteration for iteration, _ in paint(network, picture)] == [None]


def test_the_keywords_of_the_published_program_work(tiny, picture):
    pairs = stylize(
        network=str(tiny),
        initial=picture(seed=3),
        content=picture(seed=1).astype(np.uint8),
        styles=[picture(seed=2), picture(20, 30, seed=4)],
        iterations=3,
        content_weight=5e0,
        style_weight=1e2,
        style_blend_weights=[0.3, 0.7],
        tv_weight=1e2,
        learning_rate=1e1,
        print_iterations=None,
        checkpoint_iterations=2,
    )
    assert [iteration for iteration, _ in pairs] == [0, 2, None]


def test_settings_may_come_whole_or_by_name(network, picture, capfd):
    """And nothing is printed, also where losses were asked for: that is the command line's."""
    options = {"iterations": 3, "tv_weight": 20.0, "print_iterations": 1} | TWO_BLOCKS
    by_name = paint(network, picture, **options)[-1][1]
    arguments = network, picture(seed=1), [picture(30, 50, seed=2)]
    ((_, whole),) = stylize(*arguments, settings=Settings(**options))
    np.testing.assert_array_equal(whole, by_name)
    assert capfd.readouterr() == ("", "")


def test_keyword_options_are_the_fields_of_settings():
    """With their types, and what else may be passed: numbers for words, lists for tuples."""
    also = {"scales": {int}, "tile": {int}, "preserve_colors": {bool}}
    also |= {"content_layers": {Sequence[str]}, "style_layers": {Sequence[str]}}
    chosen_by_others = "iterations", "optimizer", "style_loss"
    also |= {name: {type(None)} for name in chosen_by_others}
    fields = typing.get_type_hints(Settings)
    options = typing.get_type_hints(SettingsOptions)
    assert list(options) == list(fields)
    for name, kind in options.items():
        wanted = members(fields[name]) | also.get(name, set())
        for item in (int, float):
            if tuple[item, ...] in wanted:
                wanted = wanted - {tuple[item, ...]} | {Sequence[item]}
        assert members(kind) == wanted, name


def members(kind):
    return set(typing.get_args(kind)) if isinstance(kind, types.UnionType) else {kind}


def test_the_bundled_network_is_the_default(picture):
    content, style = picture(20, 17, seed=1), picture(18, 24, seed=2)
    options = {"content": content, "styles": [style], "iterations": 1} | TWO_BLOCKS
    ((_, image),) = stylize(**options)
    ((_, expected),) = stylize(BUNDLED_NETWORK, **options)
    np.testing.assert_array_equal(image, expected)


def test_one_seed_is_one_picture(network, picture):
    first, again = (
        paint(network, picture, seed=3, initial_noiseblend=0.5)[-1][1] for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    other = paint(network, picture, seed=4, initial_noiseblend=0.5)[-1][1]
    assert np.abs(first - other).max() > 0


GRADIENTS = """
import hashlib, sys
from neural_style_tf.machine import tensorflow_setup; tensorflow_setup.start(False)
import numpy as np, tensorflow as tf, vgg
from neural_style_tf.objective import memory
from neural_style_tf.settings import Settings
network = vgg.load("imagenet-vgg-verydeep-19.mat")
photo, painting, picture = (
    np.random.default_rng(seed).uniform(0, 255, (1, 256, 384, 3)).astype("f4") for seed in range(3)
)
settings = Settings(style_loss=sys.argv[1])
objective, _ = memory.make_objective(network, photo, [painting], settings, tf.float32, None)
gradients = [objective(tf.constant(picture)).gradient.numpy().tobytes() for _ in range(4)]
print(*(hashlib.sha256(gradient).hexdigest() for gradient in gradients))
"""


@pytest.mark.slow
@pytest.mark.parametrize("style_loss", ["moments", "neighbors"])
def test_the_gradient_of_a_larger_picture_is_the_same_at_every_evaluation(style_loss):
    """In every process, too: in processes of their own, as the command line starts TensorFlow."""
    command = [sys.executable, "-c", GRADIENTS, style_loss]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    digests = [process.communicate(timeout=PATIENCE)[0].split() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert len({digest for of_process in digests for digest in of_process}) == 1


def test_checkpoints_show_the_picture_as_it_stands_and_the_last_is_the_best(network, picture):
    steps = []
    # from noise, with steps large enough for the loss to rise again before the end
    options = {"iterations": 12, "learning_rate": 20, "learning_rate_schedule": "constant"}
    options |= {"initial_noiseblend": 1, "checkpoint_iterations": 1, "on_step": steps.append}
    pairs = paint(network, picture, **options)
    # a step's losses are those of the picture it started from: the image of the step before
    totals = [step.losses()["total"] for step in steps]
    best = int(np.argmin(totals[:-1]))
    assert 0 < best < 11 and totals[-1] == totals[best]
    np.testing.assert_array_equal(pairs[-1][1], pairs[best - 1][1])
    for step, (iteration, image) in zip(steps, pairs, strict=True):
        assert step.iteration == iteration and step.total == 12
        np.testing.assert_array_equal(step.image(), image)
    seconds = [step.seconds for step in steps]
    assert seconds == sorted(seconds)


def test_the_loss_falls(network, picture):
    steps = []
    paint(network, picture, iterations=40, on_step=steps.append)
    assert steps[-1].losses()["total"] < 0.5 * steps[0].losses()["total"]


def test_a_run_ends_at_its_limits(network, picture):
    def steps(**options):
        counted = []
        paint(network, picture, iterations=500, on_step=counted.append, **options)
        return len(counted) - 1  # the last reports the end

    assert steps(max_evaluations=7) == 7
    assert 1 <= steps(max_seconds=0.3) < 500
    # a step too small for float32 leaves the loss where it is
    assert steps(patience=5, learning_rate=1e-12) == 6


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_one_trace_per_picture_size_also_for_the_next_pictures(
    network, picture, monkeypatch, optimizer
):
    """L-BFGS has a single one for all sizes."""
    from neural_style_tf.objective import objective
    from neural_style_tf.optimizers.adam import Adam
    from neural_style_tf.optimizers.lbfgs import LBFGS

    monkeypatch.setattr(graphs, "_store", LRUCache(20))
    traced = []

    def counted(module, name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: traced.append(name) or original(*args))

    counted(objective, "derived")
    counted(LBFGS, "_arrived")
    counted(Adam, "_rate")
    first = {"derived", "_arrived" if optimizer == "lbfgs" else "_rate"}
    other = first - {"_arrived"}
    options = {"iterations": 4, "optimizer": optimizer} | TWO_BLOCKS
    if optimizer == "adam":
        options["beta2"] = 0.99
    for seed, (size, new) in enumerate(
        [((37, 47), first), ((37, 47), set()), ((47, 37), other), ((37, 47), set())]
    ):
        traced.clear()
        content, style = picture(*size, seed=seed), picture(33, 44, seed=2)
        list(stylize(network, content, [style], **options))
        assert set(traced) == new


def test_the_start_is_noise_picture_or_a_blend(picture):
    content, initial = picture(seed=1), picture(seed=2)
    mean_pixel = np.array([120, 110, 100], "f4")

    def start(initial, **options):
        settings = Settings(**options)
        return initial_picture(content if initial is None else initial, mean_pixel, settings)

    np.testing.assert_array_equal(start(initial), initial)
    np.testing.assert_array_equal(start(None), content)
    noise = start(None, initial_noiseblend=1) - mean_pixel
    assert abs(noise.mean()) < 0.02 and noise.std() == pytest.approx(0.256, rel=0.05)
    half = start(initial, initial_noiseblend=0.5)
    np.testing.assert_allclose(half, (initial + noise + mean_pixel) / 2, atol=1e-3)


WRONG = [
    ({"iterations": 0}, "iterations is 0: use 1 or more"),
    ({"iteration": 5}, "unknown setting iteration (did you mean iterations?)"),
    ({"styles": []}, "got no style: pass at least one picture"),
    (
        {"content": np.zeros((20, 30))},
        "content has shape (20, 30): use [height, width, 3], or 4 with transparency",
    ),
    ({"content": np.zeros((9, 30, 3))}, "content is 30x9: use at least 16 pixels per side"),
    (
        {"styles": [np.full((20, 20, 3), np.nan)]},
        "style 1 has values that are not finite: use RGB from 0 to 255",
    ),
    ({"content": None}, "got no content: pass a picture [height, width, 3]"),
    (
        {"initial": np.zeros((20, 30, 3))},
        "initial is 30x20 and content 45x34: pass pictures of equal size",
    ),
    (
        {"settings": Settings(), "iterations": 3},
        "got settings and options: use dataclasses.replace(settings, ...)",
    ),
    (
        {"style_blend_weights": [1, 2]},
        "got 2 style_blend_weights for 1 style: pass one number per style",
    ),
]


@pytest.mark.parametrize("options, message", WRONG, ids=[message for _, message in WRONG])
def test_wrong_arguments_are_refused_when_called(network, picture, options, message):
    options = {"content": picture(), "styles": [picture()], **options}
    with pytest.raises(UserError) as error:
        stylize(network, **options)  # nothing is asked of the generator
    assert str(error.value) == message


def test_a_missing_network_is_refused_when_called(tmp_path, picture):
    with pytest.raises(UserError, match=r"^no file .*none.mat: check the name$"):
        stylize(tmp_path / "none.mat", picture(), [picture()])


def test_a_loss_that_is_not_finite_ends_the_run_and_names_what_to_lower(network, picture):
    with pytest.raises(NotFiniteError) as error:
        paint(network, picture, style_weight=3e38)
    assert str(error.value) == (
        "the loss became infinite or not a number after 0 steps: lower style_weight (now 3e+38)"
    )
    assert error.value.image is None


def test_an_optimizer_that_recovers_goes_on_after_a_loss_that_is_not_finite(
    network, picture, monkeypatch
):
    from neural_style_tf.objective import objective as module

    def breaks_at_the_eleventh(*arguments):
        objective, calls = make_objective(*arguments), []

        def broken(image):
            calls.append(image)
            evaluation = objective(image)
            if len(calls) != 11:
                return evaluation
            losses = {name: loss * np.nan for name, loss in evaluation.losses.items()}
            return evaluation._replace(losses=losses)

        return broken

    make_objective = module.make_objective
    monkeypatch.setattr(module, "make_objective", breaks_at_the_eleventh)
    steps = []
    paint(network, picture, optimizer="lbfgs", iterations=20, on_step=steps.append)
    assert np.isnan(steps[10].losses()["total"])
    assert steps[-1].losses()["total"] < steps[9].losses()["total"]
    with pytest.raises(NotFiniteError):
        paint(network, picture, optimizer="adam", iterations=20)


@pytest.mark.parametrize("scales, size", [("off", (34, 45)), (2, (16, 24))])
def test_the_last_good_picture_comes_with_the_error(network, picture, scales, size):
    """At the size of its stage. The loss is finite in the flat start and overflows as the picture
    grows rougher."""
    options = {"tv_weight": 3e36, "initial": np.full((34, 45, 3), 99), "iterations": 30}
    with pytest.raises(NotFiniteError, match=r"after \d+ steps: lower tv_weight") as error:
        paint(network, picture, learning_rate=120, scales=scales, **options)
    assert error.value.image.shape == (*size, 3) and np.isfinite(error.value.image).all()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_graphs_are_released(network, picture, monkeypatch, optimizer):
    """All of a run except those of single operations, if the cache has no room."""

    def alive():
        gc.collect()
        objects = gc.get_objects()
        return Counter(graph.name for graph in objects if type(graph).__name__ == "FuncGraph")

    monkeypatch.setattr(graphs, "_store", LRUCache(0))
    before = alive()
    options = {"iterations": 2, "optimizer": optimizer} | TWO_BLOCKS
    list(stylize(network, picture(37, 41), [picture(39, 43)], **options))
    small = {"total_variation", "_taken", "_added", "_tiles_in", "_tiles_out"}
    assert (alive() - before).keys() <= small


@pytest.mark.slow
def test_more_stylization_is_nearer_to_the_painting_and_farther_from_the_photo():
    network = vgg.load(BUNDLED_NETWORK)
    photo, painting = (
        resampling.resize(reading.read(ROOT / "examples" / name).pixels, 64, 80)
        for name in ("china.jpg", "church-at-auvers.jpg")
    )
    batch = [tf.constant(array[np.newaxis]) for array in (photo, painting)]
    settings = Settings(style_loss="moments")
    judge = make_losses(network, measure_targets(network, batch[0], batch[1:], settings), settings)
    losses = []
    for share in (0.1, 0.3, 0.5):
        *_, (_, image) = stylize(network, photo, [painting], iterations=25, stylization=share)
        losses.append(judge(tf.constant(image[np.newaxis])))
    assert losses[0]["style"] > losses[1]["style"] > losses[2]["style"]
    assert losses[0]["content"] < losses[1]["content"] < losses[2]["content"]


def test_neighbours_of_a_network_without_their_layers_are_refused_before_the_first_step(
    shallow, picture
):
    photo, painting = picture(), picture(seed=1)
    with pytest.raises(UserError) as error:
        stylize(network=shallow, content=photo, styles=[painting], style_loss="neighbors")
    assert message_of(error.value) == (
        "--style-loss neighbors needs the layer relu1_2, and the network shallow.mat has none: "
        "choose a VGG-16 or a VGG-19, or another loss, such as moments"
    )
