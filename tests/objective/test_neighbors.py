"""Neighbors: the loss and its gradient, against NumPy and GradientTape; whole and in tiles."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from variants import apart

from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.network import device
from neural_style_tf.objective import graphs, memory, neighbors, statistics
from neural_style_tf.objective.matching import Matches
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings
from neural_style_tf.usual import NEIGHBOR_LAYERS

SETTINGS = Settings(style_loss="neighbors")
SIZE = (75, 90)  # odd in places: 19 x 23, and neither are multiples of the poolings


def objective_of(network, picture, settings, dtype=tf.float32, tile=None, masks=None, size=SIZE):
    content, style = picture(*size, seed=1), picture(61, 50, seed=2)
    matches = Matches(picture(*size, seed=3)[np.newaxis])
    evaluate, losses = memory.make_objective(
        *(network, content[np.newaxis], [style[np.newaxis]], settings, dtype, tile),
        *(masks or Masks(), matches),
    )
    return evaluate, losses, matches


def columns(weights, picture):
    """The columns of a picture [rows * columns, channels] with NumPy alone, not yet scaled."""
    features = reference.features(weights, picture, pooling="avg", padding="replicate")
    height, width = (-(-side // 4) for side in picture.shape[:2])
    parts = []
    for name in NEIGHBOR_LAYERS:
        part = features[name]
        while part.shape[0] > height:
            part = reference.pool(part, "avg")
        if part.shape[0] < height:
            part = part.repeat(2, 0).repeat(2, 1)[:height, :width]
        parts.append(part.reshape(height * width, -1))
    return parts


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def brute_force(weights, picture):
    """With NumPy alone: the columns of a picture, scaled and about the mean of the painting's; and
    the painting's own, of length 1."""
    painting = columns(weights, picture(61, 50, seed=2))
    scales = [1 / np.sqrt(np.square(part).sum(1).mean()) for part in painting]

    def scaled(image):
        parts = zip(columns(weights, image), scales, strict=True)
        return np.hstack([part * scale for part, scale in parts]) - mean

    mean = 0
    mean = scaled(picture(61, 50, seed=2)).mean(0)
    return scaled, unit(scaled(picture(61, 50, seed=2)))


def test_the_nearest_columns_are_those_of_brute_force(network, picture, brute_force):
    scaled, palette = brute_force
    _, _, matches = objective_of(network, picture, SETTINGS)
    queries = scaled(picture(*SIZE, seed=1)) + scaled(picture(*SIZE, seed=3))
    cosines = unit(queries - queries.mean(0)) @ palette.T
    ours = np.take_along_axis(cosines, matches.indices[:, np.newaxis], 1)[:, 0]
    np.testing.assert_allclose(ours, cosines.max(1), atol=1e-5)
    assert (cosines.argmax(1) == matches.indices).mean() > 0.99  # except for rounding


def test_the_loss_is_the_mean_distance_of_brute_force(network, picture, brute_force):
    scaled, palette = brute_force
    ours, photo, painting = picture(*SIZE, seed=4), picture(*SIZE, seed=1), picture(61, 50, seed=2)

    def losses_of(indices):
        """The style loss, and the mean distance from these columns."""
        _, losses = memory.make_objective(
            *(network, photo[np.newaxis], [painting[np.newaxis]], SETTINGS, tf.float32, None),
            matches=Matches(indices=indices),
        )
        distance = 1 - (unit(scaled(ours)) * palette[indices]).sum(1).mean()
        return losses(tf.constant(ours[np.newaxis]))["style"], distance

    count = len(scaled(photo))
    first, last = (np.full(count, index, np.int32) for index in (0, len(palette) - 1))
    (loss, distance), (other_loss, other_distance) = losses_of(first), losses_of(last)
    # the statistics of the whole painting add the same to both
    weight = SETTINGS.weight_of_style() * statistics.NEIGHBORS_UNIT
    expected = weight * (distance - other_distance)
    assert loss > weight * distance
    np.testing.assert_allclose(loss - other_loss, expected, rtol=5e-3)  # bfloat16 columns


def test_above_half_stylization_statistics_count_more(network, picture):
    photo, painting = (picture(*SIZE, seed=seed)[np.newaxis] for seed in (1, 2))
    ours = tf.constant(picture(*SIZE, seed=4)[np.newaxis])
    _, _, found = objective_of(network, picture, SETTINGS)

    def style_loss(stylization):
        settings = Settings(style_loss="neighbors", stylization=stylization)
        _, losses = memory.make_objective(
            *(network, photo, [painting], settings, tf.float32, None),
            matches=Matches(indices=found.indices),
        )
        return float(losses(ours)["style"])

    usual = style_loss(0.5)
    assert style_loss(0.3) == usual
    more, most = style_loss(0.75) - usual, style_loss(1) - usual
    assert most > usual / 2
    assert most / more == pytest.approx((16 - 1) / (4 - 1), rel=1e-3)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_the_gradient_is_gradient_tapes(network, picture, pooling):
    settings = Settings(style_loss="neighbors", pooling=pooling)
    evaluate, losses, _ = objective_of(network, picture, settings)
    ours = tf.constant(picture(*SIZE, seed=4)[np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(ours)
        total = losses(ours)["total"]
    evaluation = evaluate(ours)
    np.testing.assert_allclose(evaluation.losses["total"], total, rtol=1e-5)
    assert apart(evaluation.gradient.numpy(), tape.gradient(total, ours).numpy()) < 1e-4


@pytest.mark.parametrize(
    "kind, bands, tile",
    [(device.CPU, 3, None), (device.GPU, 1, None), (device.GPU, 3, None), (device.GPU, 1, 64)],
)
def test_in_bands_and_made_for_a_gpu_the_loss_and_gradient_are_the_same(
    network, picture, kind, bands, tile, monkeypatch
):
    ours, counts = tf.constant(picture(*SIZE, seed=4)[np.newaxis]), set()
    plain = objective_of(network, picture, SETTINGS)[0](ours)
    by_bands = neighbors._by_bands

    def counting(*arguments):
        results = by_bands(*arguments)
        counts.add(len(results))
        return results

    monkeypatch.setattr(graphs, "_store", LRUCache(20))  # the graph of `plain` has one band
    monkeypatch.setattr(neighbors, "_by_bands", counting)
    if bands > 1:  # 19 rows of 23 places
        for name in ("PLACES_OF_A_BAND", "PLACES_OF_A_FUSED_BAND"):
            monkeypatch.setattr(neighbors, name, 23 * 8)
    with device.made_for(kind):
        other = objective_of(network, picture, SETTINGS, tile=tile)[0](ours)
    assert max(counts) == bands
    np.testing.assert_allclose(other.losses["style"], plain.losses["style"], rtol=1e-4)
    assert apart(other.gradient.numpy(), plain.gradient.numpy()) < (1e-2 if tile else 1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(tf.bfloat16, 0.25), (tf.float16, 0.1)], ids=str)
def test_low_precision_agrees(network, picture, dtype, tolerance):
    evaluate, _, matches = objective_of(network, picture, SETTINGS)
    ours = tf.constant(picture(*SIZE, seed=4)[np.newaxis])
    content, style = picture(*SIZE, seed=1), picture(61, 50, seed=2)
    low, _ = memory.make_objective(
        *(network, content[np.newaxis], [style[np.newaxis]], SETTINGS, dtype, None),
        matches=matches,
    )
    assert apart(low(ours).gradient.numpy(), evaluate(ours).gradient.numpy()) < tolerance


@pytest.mark.parametrize("has_mask", [False, True], ids=["everywhere", "in a region"])
def test_tiles_are_the_whole_picture(network, picture, has_mask):
    size, masks = (230, 170), Masks()
    if has_mask:
        regions = np.zeros((1, *size, 1), np.float32)
        regions[:, 40:190, 30:] = 1
        masks = Masks(regions)
    evaluations, indices = [], []
    ours = tf.constant(picture(*size, seed=4)[np.newaxis])
    for tile in (None, 64):
        evaluate, losses, matches = objective_of(
            network, picture, SETTINGS, tile=tile, masks=masks, size=size
        )
        evaluations.append((evaluate(ours), losses(ours)))
        indices.append(matches.indices)
    assert (indices[0] == indices[1]).mean() > 0.99  # except for rounding
    (whole, exact), (tiled, exact_of_tiles) = evaluations
    for name, loss in whole.losses.items():
        np.testing.assert_allclose(tiled.losses[name], loss, rtol=1e-4)
        np.testing.assert_allclose(exact_of_tiles[name], exact[name], rtol=1e-4)
    assert apart(tiled.gradient.numpy(), whole.gradient.numpy()) < 1e-2


def test_places_outside_the_mask_have_no_neighbours_gradient(network, picture):
    regions = np.zeros((1, *SIZE, 1), np.float32)
    regions[:, :16, :16] = 1
    settings = Settings(style_loss="neighbors", content_weight=0, tv_weight=0)
    evaluate, _, _ = objective_of(network, picture, settings, masks=Masks(regions))
    gradient = evaluate(tf.constant(picture(*SIZE, seed=4)[np.newaxis])).gradient[0].numpy()
    assert np.abs(gradient[:16, :16]).max() > 0
    assert not gradient[-4:, -4:].any()  # farther away than relu5_1 sees


@pytest.mark.parametrize("which", ["content_layers", "style_layers"])
def test_layers_without_a_weight_have_no_loss(network, picture, which):
    settings = Settings(style_loss="neighbors", **{which: {"relu2_1": 0}})
    evaluate, _, _ = objective_of(network, picture, settings)
    evaluation = evaluate(tf.constant(picture(*SIZE, seed=4)[np.newaxis]))
    assert np.isfinite(evaluation.losses["total"]) and np.isfinite(evaluation.gradient).all()
    assert evaluation.losses["content"] > 0 or which == "content_layers"


def test_a_column_that_is_nothing_has_a_finite_gradient():
    target = neighbors.NeighborTarget(
        {name: tf.zeros([1, 2]) for name in NEIGHBOR_LAYERS},
        {name: tf.zeros([2]) for name in NEIGHBOR_LAYERS},
        {name: tf.ones(()) for name in NEIGHBOR_LAYERS},
        tf.zeros([4], tf.int32),
    )
    sides = {"1": 8, "2": 4, "3": 2, "4": 1}
    features = {name: tf.zeros([1, sides[name[4]], sides[name[4]], 2]) for name in NEIGHBOR_LAYERS}
    assert float(neighbors.distance(features, target, None)) == 4
    for gradient in neighbors.gradients(features, target, tf.ones(()), None).values():
        assert np.isfinite(gradient().numpy()).all()
