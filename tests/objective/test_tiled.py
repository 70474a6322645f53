"""The objective of tiles: the same losses and gradient as the whole picture, at any size."""

import numpy as np
import pytest
import tensorflow as tf
from full_disk import FullDisk
from variants import MORE_VARIANTS, TWO_BLOCKS, apart, untraced

from neural_style_tf.errors import UserError
from neural_style_tf.network import device
from neural_style_tf.objective import content_features, memory, objective
from neural_style_tf.objective.tiled import TiledObjective
from neural_style_tf.objective.tiles import Grid
from neural_style_tf.painting import tiling
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import places
from neural_style_tf.settings import Settings


def both(network, picture, settings, size, tile, dtype=tf.float32):
    """The evaluations of the whole picture and of its tiles, and their losses in float32."""
    batch = [picture(*size, seed=22), picture(140, 37, seed=42), picture(71, 150, seed=43)]
    content, *styles = (array[np.newaxis] for array in batch)
    styles = styles[: len(settings.style_blend_weights or [1])]
    ours = tf.constant(picture(*size, seed=2)[np.newaxis])
    arguments = network, content, styles, settings, dtype
    with untraced():
        evaluate, losses = memory.make_objective(*arguments, None)
        whole = evaluate(ours), losses(ours)
    evaluate, losses = memory.make_objective(*arguments, tile)
    return whole, (evaluate(ours), losses(ours))


def assert_alike(whole, tiled, tolerance=1e-5):
    (expected, expected_losses), (evaluation, exact_losses) = whole, tiled
    assert apart(evaluation.gradient.numpy(), expected.gradient.numpy()) < tolerance
    for ours, theirs in (
        (evaluation.losses, expected.losses),
        (exact_losses, expected_losses),
    ):
        assert list(ours) == list(theirs) == ["content", "style", "tv", "total"]
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance)


def test_there_are_tiles_and_what_fits_in_one_is_whole(network, picture):
    content, style = (picture(*size)[np.newaxis] for size in ((403, 299), (40, 50)))
    tiled = TiledObjective(
        network, content, [style], Settings(style_loss="moments"), tf.float32, 64
    )
    assert len(tiled._tiles) == 4 * 3
    for size, tile in (((403, 299), 64), ((224, 225), 64), ((224, 224), None)):
        chosen = tiling.choose_size(
            network, [size], Settings(style_loss="moments", tile=64), tf.float32
        )
        assert chosen == tile


@pytest.mark.parametrize("settings", MORE_VARIANTS.values(), ids=MORE_VARIANTS)
def test_tiles_are_the_whole_picture(shallow, picture, settings):
    # inverse roots of covariances, which nearly have none, enlarge what float32 rounds
    tolerance = 1e-4 if settings.style_loss == "wasserstein" else 1e-5
    assert_alike(*both(shallow, picture, settings, (163, 192), 32), tolerance)


@pytest.mark.parametrize(
    "name", ["one layer for both", pytest.param("moments", marks=pytest.mark.slow)]
)
def test_tiles_are_the_whole_picture_on_a_gpu(shallow, picture, name):
    with device.made_for(device.GPU):
        assert_alike(*both(shallow, picture, MORE_VARIANTS[name], (163, 192), 32))


def test_tiles_of_the_whole_network_with_other_tiles_at_two_edges_and_the_corner(network, picture):
    assert_alike(*both(network, picture, Settings(style_loss="mean"), (403, 299), 64))


@pytest.mark.parametrize(
    "size, tile", [((128, 420), 64), ((403, 90), 48), ((31, 900), 64), ((40, 50), 512)], ids=str
)
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_whatever_the_sizes(shallow, picture, pooling, size, tile):
    def rough(*size, seed):
        """Of four nearly equal features the last digit would say which is the largest."""
        noise = np.random.default_rng(seed).normal(0, 5, (*size, 3))
        return np.clip(picture(*size, seed=seed) + noise, 0, 255).astype(np.float32)

    assert_alike(*both(shallow, rough, Settings(style_loss="moments", pooling=pooling), size, tile))


def test_in_low_precision_the_reported_losses_are_float32s(shallow, picture):
    (whole, exact), (tiled, tiled_exact) = both(
        shallow, picture, Settings(style_loss="moments"), (163, 192), 32, tf.bfloat16
    )
    assert apart(tiled.gradient.numpy(), whole.gradient.numpy()) < 0.02
    for name in exact:
        np.testing.assert_allclose(tiled_exact[name], exact[name], rtol=1e-5)


def test_a_run_in_tiles_is_the_same_run(network, picture):
    content, style = picture(131, 70, seed=1), picture(80, 99, seed=2)
    # Adam's steps are as long where the gradient is next to nothing: there rounding may turn them
    for optimizer, loss in (("adam", "mean"), ("lbfgs", "moments"), ("lbfgs", "wasserstein")):
        options = {"optimizer": optimizer, "style_loss": loss}
        options |= {"iterations": 4, "checkpoint_iterations": 2} | TWO_BLOCKS
        whole, tiled = (
            list(stylize(network, content, [style], tile=tile, **options)) for tile in ("off", 64)
        )
        for (iteration, expected), (number, image) in zip(whole, tiled, strict=True):
            assert iteration == number
            np.testing.assert_allclose(image, expected, atol=0.2)


def test_a_temporary_folder_that_is_full_is_reported(network, picture, monkeypatch):
    monkeypatch.setattr(places.tempfile, "TemporaryFile", FullDisk)
    with pytest.raises(
        UserError, match=r"^cannot store .* \(No space left on device\): free space"
    ):
        list(stylize(network, picture(70, 131), [picture()], tile=64, iterations=2, **TWO_BLOCKS))


@pytest.mark.parametrize("failure", ["seek", "read"])
def test_a_temporary_file_that_breaks_on_the_way_is_reported(
    network, picture, monkeypatch, failure
):
    make = places.temporary_file

    class Breaks:
        def __init__(self, size):
            self._file, self._is_broken = make(size), False

        def __getattr__(self, name):
            return getattr(self._file, name)

        def seek(self, place):
            if failure == "seek":
                raise OSError(5, "Input/output error")
            self._file.seek(place)

        def read(self, size):
            return self._file.read(size)[: size // 2]

    monkeypatch.setattr(places, "temporary_file", Breaks)
    with pytest.raises(UserError, match=r"^cannot store .* \(Input/output error\): free space"):
        list(stylize(network, picture(70, 131), [picture()], tile=64, iterations=2, **TWO_BLOCKS))


def test_the_command_line_says_that_it_tiles(run, folder):
    result = run("--iterations", 2, "--tile", 64, "--width", 120)
    assert result.returncode == 0
    assert result.stderr.startswith("120x91 in tiles of 64 pixels on ")
    result = run("--iterations", 2, "--tile", 64, output="small.png")
    assert result.stderr.startswith("45x34 on ")


@pytest.mark.parametrize("value", ["0", "63", "large", "-5", "1.5"])
def test_a_wrong_tile_is_refused(run, value):
    result = run(f"--tile={value}")
    assert result.returncode == 2
    assert result.stderr == (
        f"error: --tile is {value}: use auto, off, or a whole number of pixels from 64\n"
    )


def test_layers_may_have_kerass_names_when_memory_is_short(run, folder, monkeypatch):
    layers = ("--content-layers", "block2_conv2", "--style-layers", "block1_conv1")
    result = run("--iterations", 1, "--tile", 64, "--width", 120, *layers)
    assert result.returncode == 0 and "in tiles of 64" in result.stderr
    result = run("--tile", 64, "--content-layers", "relu9_9", output="b.png")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: the network has no layer relu9_9")


def test_a_gpu_holds_the_contents_features_that_fit_and_the_file_the_others(
    shallow, picture, monkeypatch
):
    layers = {"relu2_1": 1.0, "relu1_1": 1.0}
    settings = Settings(content_layers=layers, style_layers=layers)
    reach = objective.passes_of_parts(shallow, settings).reach()
    content, grid = picture(90, 110)[np.newaxis], Grid(reach, 32)
    expected = content_features.ContentFeatures(shallow, content, settings, grid)
    count = len(grid.tiles((90, 110)))
    monkeypatch.setattr(content_features, "MOST_ON_GPU", expected._file.seek(0, 2) // 2)
    with device.made_for(device.GPU):
        held = content_features.ContentFeatures(shallow, content, settings, grid)
    assert 0 < len(held._on_gpu) < count
    for tile in range(count):
        ours, theirs = held[tile], expected[tile]
        assert ours.keys() == theirs.keys() == {"relu1_1", "relu2_1"}
        for name in ours:
            assert np.any(ours[name])
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-3)
