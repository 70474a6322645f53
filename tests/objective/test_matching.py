"""Matching: which columns of the paintings are nearest, and what restricts the choice."""

import numpy as np
import pytest
import tensorflow as tf

from neural_style_tf.errors import UsageError
from neural_style_tf.machine import recent
from neural_style_tf.objective import columns, matching, memory
from neural_style_tf.objective.matching import Matches
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("shares", [[0.7, 0.3], [0.5, 0.25, 0.25], [1, 0], [0, 0.2, 0.8]], ids=str)
def test_each_painting_has_its_share_of_the_places(shares):
    cosines = np.random.default_rng(2).uniform(-0.2, 0.8, (len(shares), 5000))
    cosines[0] += 0.3  # nearer in all
    chosen = matching.by_shares(cosines, shares, np.ones(5000))
    taken = np.bincount(chosen, minlength=len(shares)) / 5000
    np.testing.assert_allclose(taken, shares, atol=0.01)
    # a painting takes the places where it is nearest, in comparison with the others
    lead = cosines[0] - cosines[1]
    if shares[0] > 0 and shares[1] > 0 and len(shares) == 2:
        assert lead[chosen == 0].min() >= lead[chosen == 1].max()


def indices_of(
    network, picture, settings=None, masks=None, styles=2, size=(48, 64), dtype=tf.float32
):
    """For each place, which column of the paintings was chosen: of 10 x 8 places in each."""
    content = picture(*size, seed=1)[np.newaxis]
    paintings = [picture(40, 32, seed=2 + number)[np.newaxis] for number in range(styles)]
    settings = settings or Settings(style_loss="neighbors")
    matches = Matches()
    memory.make_objective(
        network, content, paintings, settings, dtype, None, masks or Masks(), matches
    )
    return matches.indices.reshape(size[0] // 4, size[1] // 4)


def test_paintings_share_the_places(network, picture):
    equal = indices_of(network, picture)
    assert abs((equal < 80).mean() - 0.5) < 0.02
    settings = Settings(style_loss="neighbors", style_blend_weights=(3, 1))
    assert abs((indices_of(network, picture, settings) < 80).mean() - 0.75) < 0.02


def test_each_region_takes_from_its_own_painting(network, picture):
    regions = np.zeros((1, 48, 64, 2), np.float32)
    regions[:, :, :32, 0] = 1
    regions[:, :, 32:, 1] = 1
    indices = indices_of(network, picture, masks=Masks(regions))
    assert (indices[:, :8] < 80).all() and (indices[:, 8:] >= 80).all()


def test_only_places_that_count_are_shared():
    cosines = np.random.default_rng(3).uniform(-0.2, 0.8, (2, 5000))
    cosines[0, :1000] += 0.5  # nearer where it counts
    counts = np.repeat([1.0, 0.0], [1000, 4000])
    chosen = matching.by_shares(cosines, [0.5, 0.5], counts)
    assert abs(chosen[:1000].mean() - 0.5) < 0.01


@pytest.mark.parametrize("everywhere", [0, 1])
def test_where_regions_overlap_their_paintings_share_the_places(network, picture, everywhere):
    regions = np.zeros((1, 48, 64, 2), np.float32)
    regions[..., everywhere] = 1
    regions[:, :, :32] = 1
    of_first = indices_of(network, picture, masks=Masks(regions)) < 80
    assert abs(of_first[:, :8].mean() - 0.5) < 0.03
    assert (of_first[:, 8:] == (everywhere == 0)).all()


def test_nothing_is_taken_from_outside_of_what_is_learnt(network, picture):
    source = np.zeros((1, 40, 32, 1), np.float32)
    source[:, :12] = 1  # three rows of eight places
    masks = Masks(sources=[source, None])
    indices = indices_of(network, picture, masks=masks)
    assert indices.max() < 24 + 80
    assert (indices >= 24).any() and (indices < 24).any()


def test_each_region_of_a_map_takes_from_its_parts_of_the_paintings(network, picture):
    regions, source = np.zeros((1, 48, 64, 2), bool), np.zeros((1, 40, 32, 1), np.float32)
    regions[:, :, :32, 0] = regions[:, :, 32:, 1] = True
    source[:, :16] = 1  # four rows of eight places
    regions = regions.astype(np.float32)
    masks = Masks(regions, [source, None, source], painted_in=[0, 0, 1], blend=[0.75, 0.25, 1])
    for rotations in (False, True):
        copies = 4 if rotations else 1
        settings = Settings(style_loss="neighbors", style_rotations=rotations)
        indices = indices_of(network, picture, settings, masks, styles=3) // copies
        left, right = indices[:, :8], indices[:, 8:]
        assert left.max() < 32 + 80 <= right.min() and right.max() < 32 + 80 + 32
        assert abs((left < 32).mean() - 0.75) < 0.03


def test_turned_copies_are_offered_too(network, picture):
    settings = Settings(style_loss="neighbors", style_rotations=True)
    indices = indices_of(network, picture, settings, styles=1)
    assert indices.max() >= 80 and indices.max() < 4 * 80


@pytest.mark.parametrize("turns", [False, True], ids=["upright", "turned copies"])
def test_a_large_stage_looks_where_the_one_before_looked(network, picture, turns, monkeypatch):
    settings = Settings(style_loss="neighbors", style_rotations=turns)
    photo, painting = picture(24, 32, seed=1), picture(20, 16, seed=2)
    larger = [image.repeat(4, 0).repeat(4, 1)[np.newaxis] for image in (photo, painting)]
    small = [image[:, ::2, ::2] for image in larger]

    def matches_of(pictures, coarser=None):
        matches = Matches(coarser=coarser)
        memory.make_objective(
            *(network, pictures[0], pictures[1:], settings, tf.float32, None), matches=matches
        )
        return matches

    coarse, exact = matches_of(small), matches_of(larger)
    looked_at, nearest_of = [], matching.nearest_of
    monkeypatch.setattr(matching, "nearest_of", lambda *of: looked_at.append(of) or nearest_of(*of))
    monkeypatch.setattr(matching, "MOST_COSINES", 0)
    fine = matches_of(larger, coarse)
    assert len(looked_at) == matching.PASSES
    queries, columns, candidates, outside, _ = looked_at[-1]
    assert candidates[~outside].max() < len(columns) and candidates[~outside].min() >= 0
    assert (fine.indices[:, np.newaxis] == np.where(outside, -1, candidates)).any(1).all()
    cosines = [(unit(queries) * columns[of.indices]).sum(1) for of in (fine, exact)]
    assert (cosines[0] <= cosines[1] + 1e-5).all()
    assert cosines[0].mean() > 0.9 * cosines[1].mean()
    assert fine.chosen.positions.sheet.max() == 3 * turns


@pytest.mark.parametrize("are_few", [True, False])
def test_only_large_stages_are_measured_in_the_precision_of_the_run(
    network, picture, are_few, monkeypatch
):
    exact, dtypes, measure = indices_of(network, picture, styles=1), [], matching.Measure

    def noting(network, settings, size, dtype):
        dtypes.append(dtype)
        return measure(network, settings, size, dtype)

    monkeypatch.setattr(matching, "Measure", noting)
    if not are_few:
        monkeypatch.setattr(matching, "MOST_COSINES", 12 * 16 * 80 - 1)
    found = indices_of(network, picture, styles=1, dtype=tf.bfloat16)
    assert dtypes == [tf.float32 if are_few else tf.bfloat16]
    assert (found == exact).mean() >= (1 if are_few else 0.3)


def test_a_large_first_stage_begins_with_some_of_the_columns(network, picture, monkeypatch):
    size = {"size": (96, 80), "styles": 1}
    exact = indices_of(network, picture, **size)
    monkeypatch.setattr(matching, "MOST_COSINES", 20 * 24 * 80 // 4)
    some = indices_of(network, picture, **size)
    assert some.min() >= 0 and some.max() < 80
    assert len(np.unique(some)) > 80 / 5  # more than every fifth, since what is beside was tried
    assert (some == exact).mean() > 0.3


@pytest.mark.parametrize(
    "indices", [np.zeros(5, np.int32), np.full(192, 10_000, np.int32)], ids=len
)
def test_matches_of_other_pictures_are_refused(network, picture, indices):
    content, painting = picture(48, 64)[np.newaxis], picture(40, 32)[np.newaxis]
    with pytest.raises(UsageError, match="state to resume is not of these pictures"):
        memory.make_objective(
            *(network, content, [painting], Settings(style_loss="neighbors"), tf.float32, None),
            matches=Matches(indices=indices),
        )


def test_a_batch_measures_the_columns_of_a_painting_once(network, picture, monkeypatch):
    measured, tiles = [], columns.Measure.tiles
    monkeypatch.setattr(
        columns.Measure,
        "tiles",
        lambda self, image, *wraps: measured.append(image.shape[1]) or tiles(self, image, *wraps),
    )
    monkeypatch.setattr(recent, "targets", recent.LRUCache(0))  # as without a batch
    alone = indices_of(network, picture, styles=1)
    assert measured == [40, 48]  # the painting and the photo
    monkeypatch.setattr(recent, "targets", recent.LRUCache(1 << 20))
    first, second = (indices_of(network, picture, styles=1) for _ in range(2))
    assert measured == [40, 48, 40, 48, 48]
    assert (first == alone).all() and (second == alone).all()
    source = np.ones((1, 40, 32, 1), np.float32)
    source[:, :20] = 0
    learnt = indices_of(network, picture, styles=1, masks=Masks(sources=[source]))
    assert measured[5:] == [40, 48] and learnt.max() < 40
