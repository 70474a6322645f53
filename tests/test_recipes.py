"""Every recipe: its losses from the published formulas in plain NumPy, and its gradient."""

import dataclasses
import re

import numpy as np
import pytest
import reference
import tensorflow as tf
from shared import ROOT

from neural_style_tf.commands import parser
from neural_style_tf.errors import UsageError, message_of
from neural_style_tf.network import vgg
from neural_style_tf.objective.objective import make_objective, measure_targets
from neural_style_tf.painting.start import initial_picture
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import reading, resampling
from neural_style_tf.settings import BUNDLED_NETWORK

RECIPES = ROOT / "recipes"
FIRST_LAYERS = [f"relu{block}_1" for block in range(1, 6)]


def read(name, *more):
    arguments = [f"@{RECIPES / name}.args", "--content", "c", "--styles", "s", "--output", "o"]
    arguments += more
    expanded = parser.expand(arguments)
    options = parser.parse(expanded.arguments, {}, expanded.own)
    return options.settings, options


def raw_gram(features):
    positions = features.reshape(-1, features.shape[-1])
    return positions.T @ positions


def roughness(x):
    down = np.diff(x, axis=0)[:, :-1] ** 2
    right = np.diff(x, axis=1)[:-1] ** 2
    return np.sum((down + right) ** 1.25)


# The rows of the programs: F, P and A are the features of the picture, photo and painting.


def prisma(x, F, P, A):
    def gram(features):
        return raw_gram(features) / features.size

    content = 5 * np.mean((F["relu4_2"] - P["relu4_2"]) ** 2)
    style = 100 * sum(np.mean((gram(F[n]) - gram(A[n])) ** 2) for n in FIRST_LAYERS)
    smooth = np.mean(np.diff(x, axis=0) ** 2) + np.mean(np.diff(x, axis=1) ** 2)
    return content, style, 100 * smooth


def ai_painter(x, F, P, A):
    content = style = 0
    for name in ("relu4_2", "relu5_2"):
        content += 0.5 * np.sum((F[name] - P[name]) ** 2) / (2 * F[name].size)
    for name in FIRST_LAYERS:
        difference = np.sum((raw_gram(F[name]) - raw_gram(A[name])) ** 2)
        style += 0.2 * difference / (4 * F[name].size ** 2)
    return content / 2, 500 * style / 5, 0


def average_pooling(x, F, P, A):
    content = 5 * np.sum((F["relu4_2"] - P["relu4_2"]) ** 2) / (4 * F["relu4_2"].size)
    style = 0
    for name, weight in zip(FIRST_LAYERS, (0.5, 1.0, 1.5, 3.0, 4.0), strict=True):
        difference = np.sum((raw_gram(F[name]) - raw_gram(A[name])) ** 2)
        style += weight * difference / (4 * F[name].size ** 2)
    return content, 100 * style, 0


def keras(content_layer, style_layers, style_weight):
    def losses(x, F, P, A):
        content = 0.025 * np.sum((F[content_layer] - P[content_layer]) ** 2)
        style = 0
        for name in style_layers:
            difference = np.sum((raw_gram(F[name]) - raw_gram(A[name])) ** 2)
            style += style_weight / 5 * difference / (4 * 3**2 * (x.shape[0] * x.shape[1]) ** 2)
        return content, style, 1.0 * roughness(x)

    return losses


def pytorch(x, F, P, A):
    def gram(features):
        return raw_gram(features) / features.size

    content = np.mean((0.025 * F["conv5_2"] - 0.025 * P["conv5_2"]) ** 2)
    names = [f"conv{block}_1" for block in range(1, 6)]
    return content, sum(np.mean((gram(5 * F[n]) - gram(5 * A[n])) ** 2) for n in names), 0


VGG16_LAYERS = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]
PROGRAMS = {
    "prisma": prisma,
    "ai-painter": ai_painter,
    "average-pooling": average_pooling,
    "keras-content": keras("relu5_2", FIRST_LAYERS, 1),
    "keras-noise": keras("relu4_2", FIRST_LAYERS, 1),
    "pytorch": pytorch,
    "keras-vgg16": keras("relu2_2", VGG16_LAYERS, 5),
}
POOLING = {"average-pooling": "avg"}


def test_every_recipe_is_tested_and_names_its_source():
    assert {path.stem for path in RECIPES.glob("*.args")} == {*PROGRAMS, "lbfgs"}
    page = (RECIPES / "README.md").read_text()
    for path in RECIPES.glob("*.args"):
        text = path.read_text()
        assert f"[`{path.name}`]({path.name})" in page
        if path.stem == "lbfgs":
            assert text.startswith("# Ours: ")
            continue
        assert text.startswith("# After "), path
        addresses = re.findall(r"https?://\S+", text)
        assert addresses and all(address in page for address in addresses), path


@pytest.mark.parametrize("name", PROGRAMS)
def test_losses_and_gradient_follow_the_published_formulas(
    name, network, weights, tmp_path, picture
):
    if name == "keras-vgg16":
        weights = reference.tiny_weights(depth=16)
        network = vgg.load(reference.save_mat(tmp_path / "network.mat", weights))
    settings, _ = read(name)
    ours, photo, painting = (picture(26, 35, seed=seed) for seed in (1, 2, 3))
    batch = [tf.constant(array[np.newaxis]) for array in (ours, photo, painting)]
    targets = measure_targets(network, batch[1], [batch[2]], settings)
    evaluation = make_objective(network, targets, settings)(batch[0])

    def features(x):
        return reference.features(weights, x, POOLING.get(name, "max"))

    photo_features, painting_features = features(photo), features(painting)

    def losses(x):
        return PROGRAMS[name](np.asarray(x, "f8"), features(x), photo_features, painting_features)

    expected = losses(ours)
    for term, value in zip(("content", "style", "tv"), expected, strict=True):
        np.testing.assert_allclose(evaluation.losses[term], value, rtol=1e-4)
    gradient = evaluation.gradient.numpy()[0].astype("f8")
    random = np.random.default_rng(4).normal(size=ours.shape)
    for direction in (gradient, random):
        direction = direction / np.linalg.norm(direction)
        ahead, behind = (sum(losses(ours + step * direction)) for step in (1e-4, -1e-4))
        slope = np.sum(gradient * direction)
        tolerance = 1e-4 * np.linalg.norm(gradient)
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-4, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"prisma"}))
def test_a_photo_is_stretched_as_the_programs_do(name):
    settings, _ = read(name, "--width", "90", "--height", "30")
    assert (settings.width, settings.height, settings.fit) == (90, 30, "stretch")
    settings, _ = read(name, "--size", "90")  # in place of both
    assert (settings.width, settings.height, settings.size, settings.fit) == (None, None, 90, None)


def test_an_option_of_the_recipe_that_loses_its_effect_is_not_used():
    settings, _ = read("prisma", "--optimizer", "lbfgs")
    assert settings.learning_rate is None and settings.learning_rate_schedule is None
    assert settings.iterations == 1000 and settings.pooling == "max"
    settings, _ = read("ai-painter", "--stylization", "0.7", "--content-weight-blend", "0.5")
    assert settings.style_weight is None and settings.content_layers is None
    assert settings.layer_reduction == "mean" and settings.style_layers
    with pytest.raises(UsageError) as raised:
        read("lbfgs", "--learning-rate", "3")
    assert message_of(raised.value) == "--learning-rate needs --optimizer adam"


def test_a_later_option_wins_over_the_recipe():
    arguments = [f"@{RECIPES}/prisma.args", "--iterations", "7", "--clip", "--content", "c"]
    arguments = parser.expand([*arguments, "--styles", "s", "--output", "o"]).arguments
    settings = parser.parse(arguments, {}).settings
    assert settings.iterations == 7 and settings.clip and settings.learning_rate == 100


STARTS = {
    "prisma": lambda content, mean: (mean, 0.256),
    "average-pooling": lambda content, mean: (0.3 * content + 0.7 * mean, 0.7 * 20 / 3**0.5),
    "keras-content": lambda content, mean: (content, 0),
    "keras-noise": lambda content, mean: (mean - 128 + 225 / 2, 225 / 12**0.5),
    "pytorch": lambda content, mean: (content, 0),
    "keras-vgg16": lambda content, mean: (mean - 128 + 255 / 2, 255 / 12**0.5),
}


@pytest.mark.parametrize("name", STARTS)
def test_the_start_is_the_published_one(name, picture):
    content, mean = picture(60, 80), np.array([124, 117, 104], "f4")
    settings, _ = read(name)
    start = initial_picture(content, mean, settings)
    center, deviation = STARTS[name](content, mean)
    noise = start - center
    assert abs(noise.mean()) < 0.03 * deviation + 1e-4
    np.testing.assert_allclose(noise.std(), deviation, rtol=0.03, atol=1e-4)


def test_optimizers_and_stops_are_the_published_ones():
    runs = {name: read(name)[0] for name in PROGRAMS}
    for name, rate, steps in (("prisma", 100, 1000), ("average-pooling", 2, 2000)):
        settings = runs[name]
        assert (settings.optimizer, settings.learning_rate) == ("adam", rate)
        assert settings.iterations == steps and settings.learning_rate_schedule == "constant"
    for name, rounds in (("keras-content", 10), ("keras-noise", 15), ("keras-vgg16", 10)):
        settings = runs[name]
        assert (settings.optimizer, settings.iterations) == ("l-bfgs-b", rounds)
        assert settings.evaluations == 20 and not settings.clip
    assert runs["pytorch"].optimizer == "lbfgs" and runs["pytorch"].patience == 20
    sizes = {name: (runs[name].width, runs[name].height) for name in PROGRAMS}
    assert sizes["average-pooling"] == (800, 600) and sizes["keras-noise"] == (400, 300)
    assert sizes["keras-vgg16"] == (512, 512)
    fits = {name: runs[name].style_fit for name in PROGRAMS}
    for name in ("average-pooling", "keras-noise", "keras-vgg16"):
        assert runs[name].fit == "stretch"
    assert {runs[name].fit for name in ("ai-painter", "keras-content", "pytorch")} == {None}
    # it makes a painting as wide as the result; the others stretch it
    assert fits == dict.fromkeys(PROGRAMS, "stretch") | {"prisma": "width"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"keras-vgg16"}))
def test_each_lowers_its_own_loss_tenfold_with_the_bundled_network(name):
    settings, _ = read(name)
    shape = (64, 96)
    photo, painting = (
        resampling.resize(reading.read(ROOT / "examples" / path).pixels, *shape)
        for path in ("china.jpg", "church-at-auvers.jpg")
    )
    quick = {"iterations": min(settings.iterations, 150), "max_evaluations": 150}
    totals = []

    def look(step):
        totals.append(step.losses()["total"])
        if totals[-1] < totals[0] / 10:
            raise KeyboardInterrupt

    settings = dataclasses.replace(settings, **quick)
    with pytest.raises(KeyboardInterrupt):
        list(stylize(BUNDLED_NETWORK, photo, [painting], on_step=look, settings=settings))
