"""State dicts: arrays by the names that PyTorch programs give them -> the layers of a VGG, and
what the first of them takes.

The names say which convolution an array belongs to. What the network takes is not written in such
files: Caffe's networks take BGR, 0..255, torchvision's RGB, 0..1, divided by a deviation. It is
recognized by the filters of the first layer.
"""

import base64
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from neural_style_tf.errors import shortened
from neural_style_tf.network import layers
from neural_style_tf.network.layers import (
    IMAGENET_MEAN_PIXEL,
    TORCHVISION_DEVIATION,
    TORCHVISION_MEAN,
    Convolutions,
    Weights,
)

LAYOUTS = (
    "features.0.weight (torchvision, timm, Caffe's VGG), 0.weight (the layers alone) and "
    "conv1_1.weight (vgg_conv)"
)
CAFFE, TORCHVISION = "Caffe's VGG", "torchvision's VGG"
ITS_OWN = "normalized as its file says"
WRITTEN = ("mean_pixel", "scale")  # in a file's metadata, for pictures of 0..255
NAMES_SHOWN = 3  # of a file that is not recognized

# 16 of the 64 filters of Simonyan and Zisserman's VGG-19, those that colour matters most to: [16,
# 3, 3, 3] int8, out, height, width, RGB, the largest weight of each 127. Made from the bundled
# network; a test compares them. The VGG-16 was begun from the same filters: they are alike to 0.99.
CAFFE_FILTERS = np.frombuffer(base64.b64decode(
    """xhdByiNcsfstyidc1j1/pfs3yhpGzylhsfst7Kdw3Zx58Ktw25p4y4x/3Zp06aJp4px47qRnuLAbg4H2v7gg5uZOvMI0
    8PJYHRdrEhNvJSBy0Akbo+AAgbHWBUpY7TVPoNr7DEpN/kBOxfsNUNb2T8LgRdkCc8vRdrm5ZsvbbMzQf8jFaNPdatsi
    bcQCaNoif8b8bZjEe8D4e88Lf7fnd8oEUVN7NjhwCwE6HR9Y0dEeraLx8+wqqZ/xk4HStiBMnhJOshxKnhJPgQBOmA1M
    rhVDnQ9OrxZImi9NmD5hqDtXoEdrnFV/qlJyojhOokdnqkBX7xWOKUGWEjGYDyuLb3+5PFOe7xWRKUGaDy+YcPegf/mg
    ROizbOOTbNWGNcmdONqwNsuiE9DEDoqfJoGMEYyjNY6ce7K0K4SSC4qjOpimC4qjoxcTjw4UoRcTlhYdgQ0glhcepRcU
    kxAZpRkX8sw4yqMh6cIy68U/qIEP4Lg18so1yqEe6cAtmjf5jTT8oj8AkDcFgTUJkjoGmDL+iS4AmjQAJkqvOlGbJU24
    R1qaV12BQVedNFGqRFORL0+t"""
), np.int8).reshape(16, 27).astype(np.float32)  # fmt: skip
ALIKE = 0.9  # cosine from which filters are Caffe's: theirs 1.00, with BGR 0.89, torchvision's 0.73
# Root mean square of Caffe's first kernel: 0.19 in the VGG-19, for pictures of 0..255. Changed to
# take smaller numbers, it is larger: 57 times for normalized pictures, 255 times for 0..1.
CAFFE_MAGNITUDE = 0.19
BATCH_NORM_EPSILON = 1e-5  # of torch.nn.BatchNorm2d

_KINDS = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_IN_FEATURES = re.compile(rf"(.*\.)?features\.([0-9]{{1,3}})\.{_KINDS}")
_IN_SLICES = re.compile(rf"(.*\.)?slice[0-9]\.([0-9]{{1,3}})\.{_KINDS}")
_IN_SEQUENCE = re.compile(rf"((?:state_dict|model|net|vgg|module)\.)?([0-9]{{1,3}})\.{_KINDS}")
_FEATURES = re.compile(r"(?:^|\.)features\.")
_CONVOLUTION = re.compile(
    r"(.*\.)?(?:conv([0-9]{1,2})_([0-9]{1,2})|block([0-9]{1,2})_conv([0-9]{1,2}))"
    r"\.(weight|bias|kernel)"
)


class UnknownLayoutError(ValueError):
    """The arrays are not those of a VGG. Its text says what was found instead."""


class UnknownInputError(ValueError):
    """What a file says that the network takes is of no use. Its text says what that is."""


class Input(NamedTuple):
    """What a network takes: (picture - mean_pixel) / scale, with the channels in `order`.

    mean_pixel, scale: [3] RGB, of pictures of 0..255. order: 1, or -1 for BGR.
    """

    title: str
    order: int
    mean_pixel: Any
    scale: Any


# The scales that are known, by their names
SCALES = {
    "0..255": layers.pixel((1, 1, 1)),
    "0..1": layers.pixel((255, 255, 255)),
    "normalized": 255 * layers.pixel(TORCHVISION_DEVIATION),
}


def known_input(maker: str, is_rgb: bool, scale: str) -> Input:
    """What the networks of a maker take, where the order of channels and the scale are known."""
    order = "RGB" if is_rgb else "BGR"
    mean = IMAGENET_MEAN_PIXEL if scale == "0..255" else 255 * layers.pixel(TORCHVISION_MEAN)
    return Input(f"{maker}: {order}, {scale}", 1 if is_rgb else -1, mean, SCALES[scale])


def read(state: Mapping[str, Any], about: Mapping[str, str] | None = None) -> Weights:
    """The layers of a state dict. about: text that the file holds; `mean_pixel` and `scale` in it,
    three numbers each as JSON, say what the network takes, in RGB.

    Raises `UnknownLayoutError` if it is not a VGG's, `UnknownInputError` for other text than that,
    such as numbers for pictures of 0..1, and `ValueError`, `TypeError` or `LookupError` for arrays
    that are not what their names say.
    """
    found = _convolutions(state)
    first = found.convolutions.get((1, 1))
    if first is None or first[0].ndim != 4 or first[0].shape[0] != 3:
        raise UnknownLayoutError(_in_words(state))
    kernel, bias = first
    if found.colors:
        kernel, taken = _with_colors(kernel, *found.colors)
    else:
        taken = _written(about or {}) or _recognized(kernel, found.usual)
    convolutions = found.convolutions | {(1, 1): (kernel[:, :, :: taken.order], bias)}
    mean_pixel, scale = layers.pixel(taken.mean_pixel), layers.pixel(taken.scale)
    return Weights(layers.of(convolutions), mean_pixel, scale, taken.title)


class _Found(NamedTuple):
    convolutions: Convolutions
    usual: str  # what networks with such names mostly take
    colors: tuple[np.ndarray, np.ndarray] | None = None  # a first convolution of 1x1, [3, 3]


def _in_words(state: Mapping[str, Any]) -> str:
    """What a file holds."""
    arrays = [name for name, item in state.items() if isinstance(item, np.ndarray)]
    if arrays == [""]:
        return "a single tensor"
    if not arrays:
        whole = [item.name for item in state.values() if hasattr(item, "name")]
        return f"a whole {shortened(whole[0].replace(' ', '.'))}" if whole else "no tensors"
    shown = [shortened(name) for name in arrays[:NAMES_SHOWN]]
    more = len(arrays) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _convolutions(state: Mapping[str, Any]) -> _Found:
    """The convolutions by their place, kernels as [h, w, in, out]."""
    for pattern in (_IN_FEATURES, _IN_SLICES, _IN_SEQUENCE):
        numbered = _matches(state, pattern)
        if numbered:
            return _numbered(state, numbered)
    named = _matches(state, _CONVOLUTION)
    if not named:
        raise UnknownLayoutError(_in_words(state))
    parts: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    for name, match in named.items():
        block, number = (int(text) for text in match.groups()[1:5] if text)
        kind, array = match.group(6), state[name]
        if kind == "weight":
            array = array.transpose(2, 3, 1, 0)
        parts.setdefault((block, number), {})["bias" if kind == "bias" else "kernel"] = array
    return _Found({place: (part["kernel"], part["bias"]) for place, part in parts.items()}, CAFFE)


def _matches(state: Mapping[str, Any], pattern: re.Pattern) -> dict[str, re.Match]:
    """The names that follow a pattern. Raises `UnknownLayoutError` if several networks have some,
    or if a network has other layers in the same place."""
    matches = {name: match for name in state if (match := pattern.fullmatch(name))}
    if not matches:
        return {}
    others = [name for name in state if name not in matches and _FEATURES.search(name)]
    if len({match.group(1) for match in matches.values()}) > 1 or others:
        raise UnknownLayoutError(_in_words(state))
    return matches


def _numbered(state: Mapping[str, Any], names: Mapping[str, re.Match]) -> _Found:
    """The convolutions of layers in a sequence, named by their place in it."""
    tensors: dict[int, dict[str, np.ndarray]] = {}
    for name, match in names.items():
        tensors.setdefault(int(match.group(2)), {})[match.group(3)] = state[name]
    indices = sorted(index for index in tensors if tensors[index]["weight"].ndim == 4)
    colors, before = None, 0
    if indices and tensors[indices[0]]["weight"].shape == (3, 3, 1, 1):
        first = tensors[indices.pop(0)]
        colors, before = (first["weight"][:, :, 0, 0], first["bias"]), 2  # and an edge around it
    has_norms = any("running_mean" in tensor for tensor in tensors.values())
    places = _places([index - before for index in indices], 3 if has_norms or colors else 2)
    if len(places) * (1 + has_norms) + (colors is not None) != len(tensors):
        raise UnknownLayoutError(_in_words(state))
    convolutions = {}
    for index, place in places.items():
        layer = tensors[index + before]
        convolution = layer["weight"].transpose(2, 3, 1, 0), layer["bias"]
        norm = tensors[index + 1] if has_norms else None
        convolutions[place] = _normalized(*convolution, norm) if norm else convolution
    return _Found(convolutions, TORCHVISION, colors)


def _places(indices: list[int], step: int) -> dict[int, tuple[int, int]]:
    """The block and number of the convolution at each index: 0, 2, 5 -> (1, 1), (1, 2), (2, 1).

    A convolution and what belongs to it take `step` indices, and the pooling that ends a block
    takes one more.
    """
    places, block, number = {}, 1, 0
    for before, index in pairwise([-step, *indices]):
        if index - before not in (step, step + 1):
            raise ValueError(f"{index} is not the place of a convolution of a VGG")
        if index - before > step:
            block, number = block + 1, 0
        number += 1
        places[index] = block, number
    return places


def _normalized(
    kernel: np.ndarray, bias: np.ndarray, norm: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A convolution with the batch normalization after it included (Ioffe and Szegedy 2015,
    algorithm 2): that of a network in use is linear."""
    factors = norm["weight"] / np.sqrt(norm["running_var"] + BATCH_NORM_EPSILON)
    return kernel * factors, (bias - norm["running_mean"]) * factors + norm["bias"]


def _with_colors(
    kernel: np.ndarray, matrix: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, Input]:
    """The first kernel with the 1x1 convolution before it included, which takes RGB, 0..1; and what
    the network then takes. The mean pixel is the one that the 1x1 convolution makes 0."""
    mean_pixel = -255 * np.linalg.solve(matrix.astype(np.float64), offset)
    return np.einsum("hwmo,mc->hwco", kernel, matrix), Input(ITS_OWN, 1, mean_pixel, (255,) * 3)


def _written(about: Mapping[str, str]) -> Input | None:
    """What the file says that the network takes."""
    texts = [about[name] for name in WRITTEN if name in about]
    if not texts:
        return None
    try:
        mean_pixel, scale = (layers.pixel(json.loads(text)) for text in texts)
        is_useful = bool(np.isfinite([mean_pixel, scale]).all() and scale.min() >= 1)
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        is_useful = False
    if not is_useful:
        said = (f"{name} {shortened(about.get(name, 'missing'))}" for name in WRITTEN)
        raise UnknownInputError(" and ".join(said))
    return Input(ITS_OWN, 1, mean_pixel, scale)


def _recognized(kernel: np.ndarray, usual: str) -> Input:
    """What a network takes by its first kernel, [3, 3, in, out]; what is usual if its filters are
    not Caffe's."""
    filters = layers.floats(kernel, 4).transpose(3, 0, 1, 2)
    is_complete = filters.shape[1:] == (3, 3, 3)
    as_rgb = likeness(filters) if is_complete else 0
    as_bgr = likeness(filters[..., ::-1]) if is_complete else 0
    if max(as_rgb, as_bgr) >= ALIKE:
        return known_input(CAFFE, as_rgb > as_bgr, _scale(filters))
    if usual == CAFFE:
        return known_input(CAFFE, False, "0..255")
    return known_input(TORCHVISION, True, "normalized")


def _scale(filters: np.ndarray) -> str:
    """The name of the scale that suits the size of Caffe's filters. Smaller ones are those of a
    network whose features were normalized, which takes 0..255, too."""
    size = max(np.sqrt(np.mean(filters**2)) / CAFFE_MAGNITUDE, 1)
    return min(SCALES, key=lambda name: abs(np.log(size / SCALES[name].mean())))


def likeness(filters: np.ndarray) -> float:
    """The cosine between a filter of Caffe's VGGs and the most similar one of these, in the median.

    filters: [n, 3, 3, 3] float32, channels last, RGB; their magnitude has no effect.
    """
    filters = filters.reshape(len(filters), -1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mine = filters / np.linalg.norm(filters, axis=1, keepdims=True)
    caffe = CAFFE_FILTERS / np.linalg.norm(CAFFE_FILTERS, axis=1, keepdims=True)
    return float(np.median(np.nan_to_num(caffe @ np.nan_to_num(mine).T).max(axis=1, initial=-1)))
