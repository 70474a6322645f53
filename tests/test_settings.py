"""Settings: every rule, reported in one line."""

import dataclasses
import functools

import pytest

from neural_style_tf.errors import UsageError
from neural_style_tf.schema import settings_from
from neural_style_tf.settings import Settings
from neural_style_tf.usual import NEIGHBOR_LAYERS, STYLE_LAYERS_OF_NEIGHBORS

TILES = "a whole number of pixels from 64"
WRONG = [
    ({"iterations": 0}, "iterations is 0: use 1 or more"),
    ({"iterations": 2.5}, "iterations is 2.5: use a whole number"),
    ({"iterations": "many"}, "iterations is many: use a whole number"),
    ({"width": 0}, "width is 0: use 16 or more"),
    ({"height": -40}, "height is -40: use 16 or more"),
    ({"size": 15}, "size is 15: use 16 or more"),
    ({"size": 99, "width": 50}, "size is the long side: use it alone, or use width and height"),
    ({"fit": "crop"}, "fit needs width and height"),
    ({"fit": "pad", "width": 90}, "fit needs width and height"),
    ({"style_scales": [1, 0]}, "style_scales is 0: use a number above 0"),
    ({"style_size": [8]}, "style_size is 8: use 16 or more"),
    ({"style_size": 300}, "style_size is 300: use a list of numbers"),
    (
        {"style_size": [300], "style_scales": [1]},
        "style_size and style_scales cannot be combined: use one of them",
    ),
    (
        {"style_size": [300], "style_fit": "width"},
        "style_size and style_fit cannot be combined: use one of them",
    ),
    (
        {"style_scales": [1], "style_fit": "stretch"},
        "style_scales needs style_fit area or width",
    ),
    (
        {"style_fit": "keep"},
        "style_fit 'keep' is unknown: choose area, width or stretch",
    ),
    ({"content_weight": float("nan")}, "content_weight is nan: use a finite number"),
    ({"style_weight": float("inf")}, "style_weight is inf: use a finite number"),
    ({"tv_weight": -1}, "tv_weight is -1: use 0 or more"),
    ({"content_weight_blend": 1.5}, "content_weight_blend is 1.5: use 1 or less"),
    ({"style_layer_weight_exp": 0}, "style_layer_weight_exp is 0: use a number above 0"),
    ({"style_blend_weights": [-1, 2]}, "style_blend_weights is -1: use 0 or more"),
    (
        {"style_blend_weights": [0, 0]},
        "style_blend_weights are all 0: give at least one style a share",
    ),
    ({"learning_rate": 0}, "learning_rate is 0: use a number above 0"),
    ({"beta1": 1}, "beta1 is 1: use a number below 1"),
    ({"beta2": -0.1}, "beta2 is -0.1: use 0 or more"),
    ({"eps": 0}, "eps is 0: use a number above 0"),
    ({"initial_noiseblend": 2}, "initial_noiseblend is 2: use 1 or less"),
    ({"seed": -1}, "seed is -1: use 0 or more"),
    ({"pooling": "maxx"}, "pooling 'maxx' is unknown (did you mean max?): choose max, avg or l2"),
    (
        {"preserve_colors": "lume"},
        "preserve_colors 'lume' is unknown (did you mean luma?): choose luma, match or histogram",
    ),
    ({"stylization": 1.1}, "stylization is 1.1: use 1 or less"),
    (
        {"stylization": 0.7, "style_weight": 10},
        "stylization and style_weight cannot be combined: use one of them",
    ),
    ({"checkpoint_iterations": 0}, "checkpoint_iterations is 0: use 1 or more"),
    ({"print_iterations": 0}, "print_iterations is 0: use 1 or more"),
    (
        {"content_weight": 0, "style_weight": 0},
        "content_weight and style_weight are both 0: raise one of them",
    ),
    (
        {"content_layers": ["relu4_2=x"]},
        "content_layers relu4_2=x: use LAYER=WEIGHT, as in relu4_2=0.5",
    ),
    ({"style_layers": {"relu4_2": -1}}, "style_layers is -1: use 0 or more"),
    (
        {"content_layers": ["relu4_2"], "content_weight_blend": 0.5},
        "content_weight_blend and content_layers cannot be combined: use one of them",
    ),
    (
        {"style_layers": ["relu4_2"], "style_layer_weight_exp": 2},
        "style_layer_weight_exp and style_layers cannot be combined: use one of them",
    ),
    (
        {"style_loss": "neighbors", "content_loss": "sum"},
        "style_loss neighbors needs content_loss mean",
    ),
    (
        {"style_loss": "neighbors", "layer_reduction": "mean"},
        "style_loss neighbors needs layer_reduction sum",
    ),
    ({"style_weight": 0, "style_loss": "mean"}, "style_loss needs style_weight above 0"),
    (
        {"style_rotations": True, "style_loss": "mean"},
        "style_rotations needs style_loss neighbors",
    ),
    ({"noise_range": [3, 1]}, "noise_range is 3 1: use a low and a higher number"),
    ({"noise_range": [3]}, "noise_range is 3: use a low and a higher number"),
    ({"max_seconds": 0}, "max_seconds is 0: use a number above 0"),
    ({"patience": 0}, "patience is 0: use 1 or more"),
    ({"iterations": True}, "iterations is True: use a whole number"),
    ({"iterations": 10**7}, "iterations is 10000000: use 1000000 or less"),
    ({"clip": "no"}, "clip is no: use True or False"),
    ({"style_scales": 1}, "style_scales is 1: use a list of numbers"),
    ({"style_scales": "12"}, "style_scales is 12: use a list of numbers"),
    ({"style_scales": []}, "style_scales has 0 values: use 1 to 1000"),
    ({"style_scales": [[1]]}, "style_scales is [1]: use a finite number"),
    ({"tile": "9" * 5000}, f"tile is {'9' * 37}...{'9' * 20}: use auto, off, or {TILES}"),
    ({"scales": [1]}, "scales is [1]: use auto, off, or a whole number of stages from 1"),
    (
        {"pooling": ["max"]},
        "pooling ['max'] is unknown (did you mean max?): choose max, avg or l2",
    ),
    (
        {"content_layers": {"relu4_2\nevil": 1}},
        r"content_layers names the layer 'relu4_2\nevil': use small letters, digits and "
        "underscores, as in relu4_2=0.5",
    ),
    (
        {"style_layers": ["../x=1"]},
        "style_layers names the layer '../x': use small letters, digits and underscores, as in "
        "relu4_2=0.5",
    ),
    ({"style_layers": "relu4_2"}, "style_layers is relu4_2: use LAYER=WEIGHT, as in relu4_2=0.5"),
    ({"iteratons": 5}, "unknown setting iteratons (did you mean iterations?)"),
]


@pytest.mark.parametrize("options, message", WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_value_is_told_in_one_line(options, message):
    with pytest.raises(UsageError) as error:
        settings_from(options)
    assert str(error.value) == message and error.value.exit_status == 2


def test_settings_are_frozen_and_a_variant_is_checked_too():
    settings = Settings()
    assert type(Settings(iterations=300.0).iterations) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.iterations = 5
    assert dataclasses.replace(settings, iterations=10).iterations == 10
    with pytest.raises(UsageError):
        dataclasses.replace(settings, iterations=0)


@pytest.mark.parametrize(
    ("options", "optimizer", "iterations"),
    [
        ({}, "lbfgs", 140),
        ({"optimizer": "adam"}, "adam", 420),
        ({"style_loss": "moments"}, "lbfgs", 100),
        ({"optimizer": "adam", "style_loss": "mean"}, "adam", 300),
        ({"optimizer": "l-bfgs-b"}, "l-bfgs-b", 14),
        ({"learning_rate": 10, "iterations": 1000}, "adam", 1000),
        ({"beta1": 0.5}, "adam", 420),
        ({"learning_rate_schedule": "constant"}, "adam", 420),
        ({"beta1": 0.9}, "adam", 420),
        ({"beta1": 0.91}, "adam", 420),
        ({"eps": 1e-8, "learning_rate": None}, "adam", 420),
    ],
)
def test_who_gives_a_learning_rate_means_adam(options, optimizer, iterations):
    settings = Settings(**options)
    assert (settings.optimizer, settings.iterations) == (optimizer, iterations)
    assert Settings(**dataclasses.asdict(settings)) == settings


@pytest.mark.parametrize("name", ["style_scales", "style_blend_weights"])
@pytest.mark.parametrize("values, styles", [((1,), 2), ((1, 2), 1)])
def test_there_is_one_value_a_style(name, values, styles):
    with pytest.raises(UsageError) as error:
        Settings(**{name: values}).check_styles(styles)
    plural = "s" if styles > 1 else ""
    assert str(error.value) == (
        f"got {len(values)} {name} for {styles} style{plural}: pass one number per style"
    )


def test_one_style_size_is_for_all_styles():
    Settings(style_size=[300]).check_styles(3)
    Settings(style_size=[300, 200, 100]).check_styles(3)
    with pytest.raises(UsageError) as error:
        Settings(style_size=[300, 200]).check_styles(3)
    assert str(error.value) == (
        "got 2 style_size for 3 styles: pass one number per style, or one for all"
    )


def test_shares_sum_to_one():
    settings = Settings(
        style_loss="moments",
        content_weight_blend=0.3,
        style_layer_weight_exp=2,
        style_blend_weights=(1, 3),
    )
    assert settings.content_layer_weights() == {"relu4_2": 0.3, "relu5_2": 0.7}
    assert sum(settings.style_layer_weights().values()) == pytest.approx(1)
    assert settings.style_layer_weights()["relu5_1"] == pytest.approx(16 / 31)
    assert settings.style_shares(2) == [0.25, 0.75]
    named = Settings(content_layers=["relu4_2=3", "conv5_1"], layer_reduction="mean")
    assert named.content_layer_weights() == {"relu4_2": 1.5, "conv5_1": 0.5}
    assert Settings().style_shares(4) == [0.25] * 4


def test_neighbors_have_layers_of_their_own_unless_others_are_named():
    near = Settings(content_weight_blend=0.75)
    assert near.content_layer_weights() == {"relu3_2": 0.75, "relu5_2": 0.25}
    assert near.style_layer_weights() == dict.fromkeys(STYLE_LAYERS_OF_NEIGHBORS, 0.2)
    named = Settings(
        style_loss="neighbors", content_layers={"relu4_2": 1}, style_layers={"relu1_1": 1}
    )
    assert named.layers() == ["relu4_2", "relu1_1", *NEIGHBOR_LAYERS]


@pytest.mark.parametrize(("value", "expected"), [(True, "luma"), (False, None), ("match", "match")])
def test_preserve_colors_is_a_flag_or_a_kind(value, expected):
    assert Settings(preserve_colors=value).preserve_colors == expected


def test_half_stylization_is_the_default():
    moments = functools.partial(Settings, style_loss="moments")
    weights = [moments(stylization=share).weight_of_style() for share in (0, 0.5, 1)]
    assert weights == pytest.approx([50, 5000, 500000])
    assert moments().weight_of_style() == weights[1]
    weights = [Settings(stylization=share).weight_of_content() for share in (0, 0.5, 1)]
    assert weights == pytest.approx([500, 5, 0.05])
    assert Settings().weight_of_content() == weights[1]


@pytest.mark.parametrize(
    ("options", "style_loss"),
    [
        ({}, "neighbors"),
        ({"style_rotations": True}, "neighbors"),
        ({"content_layers": {"relu3_1": 1}}, "neighbors"),
        ({"texture": "64x64"}, "moments"),
        ({"style_weight": 0}, "moments"),
        ({"style_weight": 5000}, "moments"),
        ({"style_layers": {"relu1_1": 1}}, "moments"),
        ({"content_loss": "sum"}, "moments"),
        ({"content_layers": {"relu3_1": 1}, "layer_reduction": "mean"}, "moments"),
        ({"style_weight": 5000, "style_loss": "neighbors"}, "neighbors"),
    ],
)
def test_neighbors_are_usual_but_for_what_published_programs_have(options, style_loss):
    settings = Settings(**options)
    assert settings.style_loss == style_loss
    assert Settings(**dataclasses.asdict(settings)) == settings


def test_a_style_weight_is_taken_as_it_is():
    assert Settings(style_weight=7).weight_of_style() == 7
    assert not Settings(style_weight=7).equalizes_styles and Settings().equalizes_styles
