"""The script that makes the bundled network."""

import subprocess
import sys

import numpy as np
import pytest
import reference
from shared import PATIENCE, ROOT

from neural_style_tf.network import vgg
from neural_style_tf.settings import BUNDLED_NETWORK

SCRIPT = ROOT / "tools" / "make_network.py"


def make(source, output):
    command = [sys.executable, str(SCRIPT), str(source), "--output", str(output)]
    subprocess.run(command, check=True, timeout=PATIENCE)
    return output.read_bytes()


@pytest.mark.slow
def test_rebuilding_gives_the_same_bytes(tmp_path):
    bundled = BUNDLED_NETWORK
    assert make(bundled, tmp_path / "again.mat") == bundled.read_bytes()


@pytest.mark.parametrize("layout", ["new", "beta16"])
def test_any_network_is_drawn_from_256_levels(tmp_path, layout):
    weights = reference.tiny_weights(channels=(8, 16, 20))
    source = reference.save_mat(tmp_path / "source.mat", weights, layout)
    made = make(source, tmp_path / "made.mat")
    assert made == make(source, tmp_path / "again.mat")
    network = vgg.load(tmp_path / "made.mat")
    assert network.names == reference.layer_names(weights)
    np.testing.assert_allclose(network.mean_pixel, reference.MEAN_PIXEL)
    for layer in network.layers:
        if layer.kind == "conv":
            kernel, bias = weights[layer.name]
            assert len(np.unique(layer.kernel)) <= 256
            error = np.std(layer.kernel - kernel) / np.std(kernel)
            assert error < 0.009  # what 256 even steps over +-4 deviations have
            np.testing.assert_array_equal(layer.bias, bias)
