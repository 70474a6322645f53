"""Tiles: the same losses and gradient as the whole picture, at any size."""

import gc
import itertools
import math
import re
import weakref

import numpy as np
import pytest
import reference
import tensorflow as tf
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from variants import MORE_VARIANTS, apart

from neural_style_tf.errors import UserError
from neural_style_tf.machine import memory as machine_memory
from neural_style_tf.network import vgg
from neural_style_tf.network.backprop import Passes
from neural_style_tf.objective import memory, objective
from neural_style_tf.objective.tiled import TiledObjective
from neural_style_tf.objective.tiles import cut
from neural_style_tf.painting import tiling
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import places
from neural_style_tf.settings import Settings


@hypothesis_settings(deadline=None, max_examples=200)
@given(
    st.integers(16, 700),
    st.integers(16, 700),
    st.integers(1, 12),
    st.integers(0, 6),
    st.sampled_from([4, 8, 16]),
)
def test_insides_cover_the_picture_once(height, width, size, margin, stride):
    size, margin = size * stride, margin * stride
    tiles = cut(height, width, size, margin, stride)
    covered = np.zeros((height, width), int)
    for tile in tiles:
        top, bottom, left, right = tile.inside
        covered[top:bottom, left:right] += 1
        for (first, last), start, end, length in (
            (tile.rows, top, bottom, height),
            (tile.columns, left, right, width),
        ):
            assert first % stride == 0 and (last % stride == 0 or last == length)
            assert 0 <= first <= max(0, start - margin) and min(length, end + margin) <= last
            assert last <= length
    assert (covered == 1).all()
    shapes = {(np.diff(tile.rows)[0], np.diff(tile.columns)[0]) for tile in tiles}
    assert len(shapes) <= 4 and max(map(math.prod, shapes)) <= (size + 2 * margin) ** 2


def test_the_reach_is_the_receptive_field_found_by_differentiation():
    ones = {
        name: (np.ones_like(kernel), np.ones_like(bias))
        for name, (kernel, bias) in reference.tiny_weights(channels=(1, 1, 1, 1, 1)).items()
    }
    layers = [
        vgg.Layer(name, re.match("[a-z]+", name)[0], *map(tf.constant, ones.get(name, ())))
        for name in reference.layer_names(ones)
    ]
    wanted = ["relu1_1", "relu1_2", "pool1", "conv2_2", "relu3_1", "relu4_2", "relu5_1"]
    passes = Passes(layers, wanted, "avg")
    picture = tf.ones((1, 480, 480, 3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(picture)
        features = passes.features(picture)
        one = {}
        for name, (stride, _) in passes.reach().items():
            place = 240 // stride
            one[name] = features[name][0, place, place, 0]
    for name, (stride, pixels) in passes.reach().items():
        seen = np.flatnonzero(np.any(tape.gradient(one[name], picture)[0, :, :, 0], axis=1))
        place = 240 // stride * stride
        first, last = place - pixels, place + stride + pixels - 1
        # a margin of so many pixels is enough, and one pixel less is not
        assert seen[0] == first or seen[-1] == last, name
        assert seen[0] >= first and seen[-1] <= last, name


def both(network, picture, settings, size, tile, dtype=tf.float32):
    """The evaluations of the whole picture and of its tiles, and their losses in float32."""
    batch = [picture(*size, seed=22), picture(140, 37, seed=42), picture(71, 150, seed=43)]
    content, *styles = (one[np.newaxis] for one in batch)
    styles = styles[: len(settings.style_blend_weights or [1])]
    ours = tf.constant(picture(*size, seed=2)[np.newaxis])
    for pixels in (None, tile):
        evaluate, losses = memory.make_objective(network, content, styles, settings, dtype, pixels)
        yield evaluate(ours), losses(ours)


def assert_alike(whole, tiled, tolerance=1e-5):
    (expected, expected_losses), (found, found_losses) = whole, tiled
    assert apart(found.gradient.numpy(), expected.gradient.numpy()) < tolerance
    for ours, theirs in (
        (found.losses, expected.losses),
        (found_losses, expected_losses),
    ):
        assert list(ours) == list(theirs) == ["content", "style", "tv", "total"]
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance)


def test_there_are_tiles_and_what_fits_in_one_is_whole(network, picture):
    content, style = (picture(*size)[np.newaxis] for size in ((403, 299), (40, 50)))
    tiled = TiledObjective(network, content, [style], Settings(), tf.float32, 64)
    assert len(tiled._tiles) == 4 * 3
    for size, tile in (((403, 299), 64), ((224, 225), 64), ((224, 224), None)):
        chosen = tiling.choose_size(network, [size], Settings(tile=64), tf.float32)
        assert chosen == tile


@pytest.mark.parametrize("settings", MORE_VARIANTS.values(), ids=MORE_VARIANTS)
def test_tiles_are_the_whole_picture(network, picture, settings):
    # inverse roots of covariances, which nearly have none, enlarge what float32 rounds
    tolerance = 1e-4 if settings.style_loss == "wasserstein" else 1e-5
    assert_alike(*both(network, picture, settings, (403, 299), 64), tolerance)


@pytest.mark.parametrize(
    "size, tile", [((128, 420), 64), ((703, 90), 80), ((31, 1700), 64), ((40, 50), 512)], ids=str
)
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_whatever_the_sizes(network, picture, pooling, size, tile):
    def rough(*size, seed):
        """Of four nearly equal features the last digit would say which is the largest."""
        noise = np.random.default_rng(seed).normal(0, 5, (*size, 3))
        return np.clip(picture(*size, seed=seed) + noise, 0, 255).astype(np.float32)

    assert_alike(*both(network, rough, Settings(pooling=pooling), size, tile))


def test_in_low_precision_the_losses_told_are_float32s(network, picture):
    settings = Settings()
    (whole, exact), (tiled, tiled_exact) = both(
        network, picture, settings, (403, 157), 64, tf.bfloat16
    )
    assert apart(tiled.gradient.numpy(), whole.gradient.numpy()) < 0.02
    for name in exact:
        np.testing.assert_allclose(tiled_exact[name], exact[name], rtol=1e-5)


def test_a_run_in_tiles_is_the_same_run(network, picture):
    content, style = picture(270, 190, seed=1), picture(80, 99, seed=2)
    # Adam's steps are as long where the gradient is next to nothing: there rounding may turn them
    for optimizer, loss in (("adam", "mean"), ("lbfgs", "moments"), ("lbfgs", "wasserstein")):
        options = {"optimizer": optimizer, "style_loss": loss}
        options |= {"iterations": 4, "checkpoint_iterations": 2}
        whole, tiled = (
            list(stylize(network, content, [style], tile=tile, **options)) for tile in ("off", 64)
        )
        for (iteration, expected), (number, found) in zip(whole, tiled, strict=True):
            assert iteration == number
            np.testing.assert_allclose(found, expected, atol=0.2)


def test_tiles_are_taken_only_when_memory_is_short(network, monkeypatch):
    sizes = [(1000, 2000), (500, 500)]

    def chosen(free, sizes=sizes, optimizer="adam", **options):
        monkeypatch.setattr(machine_memory, "free_memory", lambda: free)
        settings = Settings(optimizer=optimizer, **options)
        return tiling.choose_size(network, sizes, settings, tf.float32)

    passes = Passes(network.layers, ["relu4_2", "relu5_1"], "avg")
    assert chosen(100e9) is None and chosen(None) is None
    assert chosen(1, tile="off") is None and chosen(100e9, tile="200") == 200
    assert chosen(1) == 64  # the smallest, come what may
    enough = 2e6 * passes.bytes_per_pixel() + 20 * 12 * 2e6
    found = [chosen(share * enough) for share in (0.6, 0.7, 0.8)]
    assert found == sorted(found) and all(size % 16 == 0 and size < 2000 for size in found)
    # the history of L-BFGS takes memory, too
    assert chosen(1.4 * enough) is None and chosen(1.4 * enough, optimizer="lbfgs") is not None
    # a painting larger than memory is reason enough
    assert chosen(3 * enough, [(100, 100), (9000, 9000)]) is not None


def test_what_a_pass_holds_is_estimated_as_measured():
    """1.3 GB a megapixel were measured of the default objective at 1024x1024 (benchmarks/)."""
    weights = reference.tiny_weights(channels=(64, 128, 256, 512, 512))
    layers = [
        vgg.Layer(name, re.match("[a-z]+", name)[0], *map(tf.constant, weights.get(name, ())))
        for name in reference.layer_names(weights)
    ]
    wanted = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"]
    assert 1100 < Passes(layers, wanted, "avg").bytes_per_pixel() < 1600
    low = Passes(layers, wanted, "avg", dtype=tf.bfloat16).bytes_per_pixel()
    assert 600 < low < 900
    assert Passes(layers, wanted, "max").bytes_per_pixel() > 1500


def test_when_memory_runs_out_the_run_goes_on_in_tiles(network, picture, monkeypatch):
    content, style = picture(360, 300, seed=1), picture(80, 99, seed=2)
    expected = list(stylize(network, content, [style], iterations=5, tile="off"))
    make, calls, tiled = objective.make_objective, itertools.count(), []

    def runs_out(*arguments):
        evaluate = make(*arguments)

        def evaluate_thrice(picture):
            if next(calls) == 3:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM")
            return evaluate(picture)

        return evaluate_thrice

    class Watched(TiledObjective):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            tiled.append(arguments[5])

    monkeypatch.setattr(objective, "make_objective", runs_out)
    monkeypatch.setattr(memory, "TiledObjective", Watched)
    found = list(stylize(network, content, [style], iterations=5, tile="off"))
    assert tiled == [164]
    np.testing.assert_allclose(found[-1][1], expected[-1][1], atol=0.1)


def test_a_painting_too_large_for_memory_is_taken_in_tiles(network, picture, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(objective, "measure_targets", exhausted)
    content, style = picture(40, 40, seed=1), picture(300, 99, seed=2)
    assert len(list(stylize(network, content, [style], iterations=1, tile="off"))) == 1


def test_smaller_tiles_fetch_the_pictures_again(network, picture, monkeypatch):
    content, style = picture(250, 500, seed=1), picture(80, 99, seed=2)
    expected = list(stylize(network, content, [style], iterations=3, tile="off"))
    evaluate, sizes = TiledObjective.__call__, []

    def runs_out_once(self, picture):
        sizes.append(self._grid.size)
        if len(sizes) == 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return evaluate(self, picture)

    monkeypatch.setattr(TiledObjective, "__call__", runs_out_once)
    found = list(stylize(network, content, [style], iterations=3, tile=128))
    assert sizes == [128, 128, 64, 64, 64]
    np.testing.assert_allclose(found[-1][1], expected[-1][1], atol=0.1)


class Full:
    """A file on a full disk."""

    def __init__(self, **_):
        pass

    def write(self, data):
        raise OSError(28, "No space left on device")

    writelines = write


def test_where_no_file_has_room_the_pictures_stay_in_memory(picture, monkeypatch):
    monkeypatch.setattr(places.tempfile, "TemporaryFile", Full)
    photo = picture(20, 30)
    parked = memory._ParkedPictures([photo])
    parked.park()
    assert parked.fetch()[0] is photo


def test_nobody_holds_the_photo_while_the_last_stage_is_painted(network, picture):
    photo = picture(190, 280).astype("f4")
    held = weakref.ref(photo)
    run = stylize(network, photo, [picture()], iterations=3, tile=64, checkpoint_iterations=1)
    del photo
    next(run)
    gc.collect()
    assert held() is None
    assert [number for number, _ in run] == [1, 2, None]


def test_memory_that_does_not_even_hold_a_tile_is_told(network, picture, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(TiledObjective, "__call__", exhausted)
    content, style = picture(250, 500, seed=1), picture(80, 99, seed=2)
    with pytest.raises(UserError, match=r"^out of memory, even in tiles of 64 pixels: choose a s"):
        list(stylize(network, content, [style], iterations=2, tile=128))


def test_a_temporary_folder_that_is_full_is_told(network, picture, monkeypatch):
    monkeypatch.setattr(places.tempfile, "TemporaryFile", Full)
    with pytest.raises(
        UserError, match=r"^cannot store .* \(No space left on device\): free space"
    ):
        list(stylize(network, picture(190, 280), [picture()], iterations=2, tile=64))


@pytest.mark.parametrize("failure", ["seek", "read"])
def test_a_temporary_file_that_breaks_on_the_way_is_told(network, picture, monkeypatch, failure):
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
        list(stylize(network, picture(190, 280), [picture()], iterations=2, tile=64))


def test_the_command_line_says_that_it_tiles(run, folder):
    result = run("--iterations", 2, "--tile", 64, "--width", 300)
    assert result.returncode == 0
    assert result.stderr.startswith("300x227 in tiles of 64 pixels on ")
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
    result = run(
        "--iterations", 1, "--tile", 64, "--width", 300, "--content-layers", "block4_conv2"
    )
    assert result.returncode == 0 and "in tiles of 64" in result.stderr
    result = run("--tile", 64, "--content-layers", "relu9_9", output="b.png")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: the network has no layer relu9_9")
