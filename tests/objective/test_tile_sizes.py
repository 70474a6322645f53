"""Tiles are as large as memory allows, and smaller when it runs out."""

import gc
import itertools
import re
import weakref

import numpy as np
import pytest
import reference
import tensorflow as tf
from full_disk import FullDisk
from variants import TWO_BLOCKS

from neural_style_tf.errors import UserError
from neural_style_tf.machine import memory as machine_memory
from neural_style_tf.network import vgg
from neural_style_tf.network.backprop import Passes
from neural_style_tf.objective import memory, objective
from neural_style_tf.objective.tiled import TiledObjective
from neural_style_tf.painting import tiling
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import places
from neural_style_tf.settings import Settings


def test_tiles_are_taken_only_when_memory_is_short(network, monkeypatch):
    sizes = [(1000, 2000), (500, 500)]

    def chosen(free, sizes=sizes, optimizer="adam", **options):
        monkeypatch.setattr(machine_memory, "free_memory", lambda: free)
        settings = Settings(style_loss="moments", optimizer=optimizer, **options)
        return tiling.choose_size(network, sizes, settings, tf.float32)

    passes = Passes(network.layers, ["relu4_2", "relu5_1"], "avg")
    assert chosen(100e9) is None and chosen(None) is None
    assert chosen(1, tile="off") is None and chosen(100e9, tile="200") == 200
    assert chosen(1) == 64  # the smallest, whatever happens
    enough = 2e6 * passes.bytes_per_pixel() + 20 * 12 * 2e6
    tiles = [chosen(share * enough) for share in (0.6, 0.7, 0.8)]
    assert tiles == sorted(tiles) and all(size % 16 == 0 and size < 2000 for size in tiles)
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


def test_when_memory_runs_out_the_run_continues_in_tiles(network, picture, monkeypatch):
    content, style = picture(190, 160, seed=1), picture(80, 99, seed=2)
    options = {"iterations": 5, "tile": "off"} | TWO_BLOCKS
    expected = list(stylize(network, content, [style], **options))
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
    images = list(stylize(network, content, [style], **options))
    assert tiled == [87]
    np.testing.assert_allclose(images[-1][1], expected[-1][1], atol=0.1)


def test_a_painting_too_large_for_memory_is_taken_in_tiles(network, picture, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(objective, "measure_targets", exhausted)
    content, style = picture(40, 40, seed=1), picture(150, 99, seed=2)
    options = {"iterations": 1, "tile": "off"} | TWO_BLOCKS
    assert len(list(stylize(network, content, [style], **options))) == 1


def test_smaller_tiles_fetch_the_pictures_again(network, picture, monkeypatch):
    content, style = picture(90, 280, seed=1), picture(80, 99, seed=2)
    options = {"iterations": 3} | TWO_BLOCKS
    expected = list(stylize(network, content, [style], tile="off", **options))
    evaluate, sizes = TiledObjective.__call__, []

    def runs_out_once(self, picture):
        sizes.append(self._grid.size)
        if len(sizes) == 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return evaluate(self, picture)

    monkeypatch.setattr(TiledObjective, "__call__", runs_out_once)
    images = list(stylize(network, content, [style], tile=128, **options))
    assert sizes == [128, 128, 64, 64, 64]
    np.testing.assert_allclose(images[-1][1], expected[-1][1], atol=0.1)


def test_where_no_file_has_room_the_pictures_stay_in_memory(picture, monkeypatch):
    monkeypatch.setattr(places.tempfile, "TemporaryFile", FullDisk)
    photo = picture(20, 30)
    parked = memory._ParkedPictures([photo])
    parked.park()
    assert parked.fetch()[0] is photo


def test_nobody_holds_the_photo_while_the_last_stage_is_painted(network, picture):
    photo = picture(90, 180).astype("f4")
    held = weakref.ref(photo)
    options = {"iterations": 3, "tile": 64, "checkpoint_iterations": 1} | TWO_BLOCKS
    run = stylize(network, photo, [picture()], **options)
    del photo
    next(run)
    gc.collect()
    assert held() is None
    assert [number for number, _ in run] == [1, 2, None]


def test_memory_that_does_not_even_hold_a_tile_is_reported(network, picture, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(TiledObjective, "__call__", exhausted)
    content, style = picture(90, 280, seed=1), picture(80, 99, seed=2)
    options = {"iterations": 2, "tile": 128} | TWO_BLOCKS
    with pytest.raises(UserError, match=r"^out of memory, even in tiles of 64 pixels: choose a s"):
        list(stylize(network, content, [style], **options))


def test_a_gpu_gets_tiles_whose_values_it_can_count(network, monkeypatch):
    monkeypatch.setattr(machine_memory, "free_memory", lambda: None)
    values = Passes(network.layers, ["relu5_1"]).values_per_pixel()
    monkeypatch.setattr(memory, "MOST_VALUES_ON_GPU", 600**2 * values)

    def chosen(height, width, **options):
        sizes = [(height, width), (50, 50)]
        return tiling.choose_size(
            network, sizes, Settings(style_loss="moments", **options), tf.float32
        )

    assert chosen(700, 600) is None  # a processor counts further
    monkeypatch.setattr(memory.devices, "gpu_in_use", lambda: "one")
    assert chosen(600, 600) is None and chosen(700, 600, tile="off") is None
    size = chosen(700, 600)
    grid = memory.Grid(
        objective.passes_of(network, Settings(style_loss="moments"), tf.float32).reach(), size
    )
    assert 0 < 600 - (size + 2 * grid.margin) <= grid.stride


def test_smaller_tiles_take_much_less_memory(network):
    passes = objective.passes_of(network, Settings(style_loss="moments"), tf.float32)
    margin = memory.Grid(passes.reach(), 64).margin
    features = memory.Features(passes, (4 * margin) ** 2)
    assert features.bytes(None) == (4 * margin) ** 2 * passes.bytes_per_pixel()
    # with their margins, tiles of half the size are as large as the picture
    assert features.bytes(2 * margin) == features.bytes(None)
    assert features.smaller(None) == max(64, margin)
    assert features.smaller(64) == 64
