"""Resampling: pictures at another size, by Lanczos; large ones from bands of rows."""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from neural_style_tf.pictures.sizes import Box, Placement

if TYPE_CHECKING:
    import scipy.sparse


MAX_RESIZED_BY_PILLOW = 40_000_000  # pixels
WRAPPED_REACH = 4  # pixels that Lanczos and bicubic interpolation see to each side, and one more


def resize(pixels: np.ndarray, height: int, width: int, *, wraps: bool = False) -> np.ndarray:
    """The picture or alpha at another size: Lanczos, antialiased where it shrinks.

    pixels: [H, W, 3] float32, 0..255, or [H, W] float32, 0..1. The result keeps to that range,
    which Lanczos would leave beside hard edges. Equal size returns `pixels` itself. wraps: whether
    opposite edges meet.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if wraps:
        return _resize_wrapped(pixels, height, width)
    if pixels.ndim == 2:
        return np.clip(_resize_channel(pixels, height, width), 0, 1)
    return np.clip(_resize(pixels, height, width, Image.Resampling.LANCZOS), 0, 255)


def _resize_wrapped(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    (top, rows), (left, columns) = (
        wrapped_edge(length, other)
        for length, other in zip(pixels.shape, (height, width), strict=False)
    )
    edges = [(top, top), (left, left)] + [(0, 0)] * (pixels.ndim - 2)
    size = height + 2 * rows, width + 2 * columns
    resized = resize(np.pad(pixels, edges, "wrap"), *size)
    return resized[rows : rows + height, columns : columns + width]


def tiling(pixels: np.ndarray) -> np.ndarray:
    """The picture [H, W, 3] float32, 0..255, so that its opposite edges meet without a step: minus
    a smooth picture that has the same steps there. L. Moisan 2011, "Periodic plus Smooth Image
    Decomposition", Journal of Mathematical Imaging and Vision 39, eq. 11."""
    import scipy.fft  # late: few pictures are to tile

    height, width = pixels.shape[:2]
    down, across = np.ogrid[:height, : width // 2 + 1]
    divisor = 2 * np.cos(2 * np.pi * down / height) + 2 * np.cos(2 * np.pi * across / width) - 4
    divisor[0, 0] = 1  # where the steps have nothing
    result = np.empty_like(pixels)
    for channel in range(pixels.shape[-1]):
        plane = pixels[..., channel]
        steps = np.zeros((height, width), np.float32)
        for axis in (0, 1):
            edges, step = np.moveaxis(steps, axis, 0), np.moveaxis(plane, axis, 0)
            edges[0] += step[-1] - step[0]
            edges[-1] += step[0] - step[-1]
        spectrum = scipy.fft.rfft2(steps) / divisor.astype(np.float32)
        result[..., channel] = plane - scipy.fft.irfft2(spectrum, (height, width))
    return np.clip(result, 0, 255, out=result)


def wrapped_edge(length: int, new_length: int) -> tuple[int, int]:
    """How many pixels of the opposite edge a side of a picture needs beyond each end to be resized
    as a cycle; and how many these become, a whole number."""
    divisor = math.gcd(length, new_length)
    unit, new_unit = length // divisor, new_length // divisor
    reach = WRAPPED_REACH * max(1, length / new_length)
    times = math.ceil(reach / unit)
    return times * unit, times * new_unit


def enlarged(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture [h, w, C] float32 at a larger size: bilinear, so that no value leaves the range
    of its neighbours."""
    return _resize(pixels, height, width, Image.Resampling.BILINEAR)


def _resize(pixels: np.ndarray, height: int, width: int, how: Image.Resampling) -> np.ndarray:
    channels = [
        _resize_channel(pixels[..., i], height, width, how=how) for i in range(pixels.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def detail(pixels: np.ndarray, height: int, width: int, *, wraps: bool = False) -> np.ndarray:
    """What a picture [H, W, channels] loses when it is brought to a smaller size and back, in the
    same shape, float32: the finest level of a Laplacian pyramid (Burt and Adelson 1983).

    wraps: whether its opposite edges meet."""
    smaller = resize(pixels, height, width, wraps=wraps)
    return pixels - resize(smaller, *pixels.shape[:2], wraps=wraps)


def nearest(labels: np.ndarray, placement: Placement) -> np.ndarray:
    """Labels [H, W] brought to a size as `placement` says, by nearest neighbours."""
    (height, width), shape = placement.size, labels.shape
    top, left, rows, columns = placement.box or (0, 0, *shape)
    down = (top + (np.arange(height) + 0.5) * rows / height).astype(int)
    across = (left + (np.arange(width) + 0.5) * columns / width).astype(int)
    down, across = np.minimum(down, shape[0] - 1), np.minimum(across, shape[1] - 1)
    return np.pad(labels[down[:, np.newaxis], across], placement.mirrored, "symmetric")


def with_bleed(pixels: np.ndarray, bleed: int) -> np.ndarray:
    """The picture or mask with `bleed` more pixels beyond each edge, mirrored."""
    if not bleed:
        return pixels
    return np.pad(pixels, [(bleed, bleed)] * 2 + [(0, 0)] * (pixels.ndim - 2), "symmetric")


def placed(
    bands: Iterator[np.ndarray], source: tuple[int, int], placement: Placement, top: float
) -> np.ndarray:
    """A picture from its bands of rows, brought to a size as `placement` says; otherwise as
    `at_size` returns it."""
    result = at_size(bands, source, placement.size, top, placement.box)
    if not any(map(any, placement.mirrored)):
        return result
    return np.pad(result, (*placement.mirrored, (0, 0)), "symmetric")


def at_size(
    bands: Iterator[np.ndarray],
    source: tuple[int, int],
    target: tuple[int, int],
    top: float,
    box: Box | None = None,
) -> np.ndarray:
    """A picture from its bands of rows at another size, [H, W, C] float32, 0..`top`, as `resize`
    returns it for the whole. Alpha, the last of two or four channels, is left out if all of it
    is 1.

    box: top, left, height and width of the part that is brought to that size, in the picture's
    pixels, not all whole numbers; by default all of it. A part of exactly that size is cut out at
    whole pixels.
    """
    opaque = True

    def checked_bands() -> Iterator[np.ndarray]:
        nonlocal opaque
        for band in bands:
            opaque = opaque and band.shape[-1] in (2, 4) and band[..., -1].min() == 1
            yield band

    box = box or (0, 0, *source)
    if box[2:] == target:
        result = _whole(_cut_out(checked_bands(), int(box[0]), int(box[1]), *target), target)
    else:
        is_large = source[0] * source[1] > MAX_RESIZED_BY_PILLOW
        resized = _by_weights if is_large else _by_pillow
        result = resized(checked_bands(), source, target, box)
        # Lanczos leaves the range beside hard edges.
        np.clip(result, 0, top, out=result)
        if result.shape[-1] in (2, 4):
            np.clip(result[..., -1], 0, 1, out=result[..., -1])
    return result[..., :-1] if opaque else result


def _cut_out(
    bands: Iterator[np.ndarray], top: int, left: int, height: int, width: int
) -> Iterator[np.ndarray]:
    """The bands of a part of the picture."""
    above = 0
    for band in bands:
        rows = slice(max(0, top - above), max(0, top + height - above))
        above += len(band)
        part = band[rows, left : left + width]
        if len(part):
            yield part


def _whole(bands: Iterator[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    first = next(bands)
    result = np.empty((*size, first.shape[-1]), np.float32)
    top = 0
    for band in itertools.chain([first], bands):
        result[top : top + len(band)] = band
        top += len(band)
    return result


def _by_pillow(
    bands: Iterator[np.ndarray], source: tuple[int, int], target: tuple[int, int], box: Box
) -> np.ndarray:
    """Equal to `resize` bit for bit: Pillow resizes a whole channel at a time."""
    whole = _whole(bands, source)
    result = np.empty((*target, whole.shape[-1]), np.float32)
    for channel in range(whole.shape[-1]):
        result[..., channel] = _resize_channel(whole[..., channel], *target, box)
    return result


def _by_weights(
    bands: Iterator[np.ndarray], source: tuple[int, int], target: tuple[int, int], box: Box
) -> np.ndarray:
    """Equal to `resize` up to rounding, in a tenth of the time; holds the result and a band."""
    down, across = (_lanczos_weights(source[i], target[i], box[i], box[i + 2]) for i in range(2))
    result, top = None, 0
    for band in bands:
        height, width, channels = band.shape
        if result is None:
            result = np.zeros((target[0], target[1] * channels), np.float32)
        columns = across @ band.transpose(1, 0, 2).reshape(width, height * channels)
        rows = columns.reshape(target[1], height, channels).transpose(1, 0, 2)  # [r, w, C]
        part = down[:, top : top + height]
        filled = np.flatnonzero(np.diff(part.tocsr().indptr))
        reached = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0)
        result[reached] += part[reached] @ rows.reshape(height, -1)
        top += height
    if result is None:
        raise ValueError("a picture without rows has no bands")
    return result.reshape(*target, -1)


def _lanczos_weights(
    length: int, new_length: int, start: float, part: float
) -> "scipy.sparse.csc_array":
    """The matrix [new_length, length] that resamples a part of a row, from `start` and `part` long:
    Lanczos with three lobes, stretched where it shrinks, as precompute_coeffs of Pillow's
    Resample.c has it."""
    import scipy.sparse  # late: few pictures are that large

    scale = part / new_length
    stretch = max(scale, 1)
    centers = start + (np.arange(new_length) + 0.5) * scale
    first = np.maximum(centers - 3 * stretch + 0.5, 0).astype(int)
    last = np.minimum(centers + 3 * stretch + 0.5, length).astype(int)
    samples = first[:, np.newaxis] + np.arange((last - first).max())
    inside = samples < last[:, np.newaxis]
    distances = (samples - centers[:, np.newaxis] + 0.5) / stretch
    weights = np.sinc(distances) * np.sinc(distances / 3) * (np.abs(distances) < 3) * inside
    weights /= weights.sum(-1, keepdims=True)
    rows = np.broadcast_to(np.arange(new_length)[:, np.newaxis], samples.shape)
    indices = rows[inside], samples[inside]
    shape = new_length, length
    return scipy.sparse.csc_array((weights[inside].astype(np.float32), indices), shape)


def _resize_channel(
    channel: np.ndarray,
    height: int,
    width: int,
    box: Box | None = None,
    how: Image.Resampling = Image.Resampling.LANCZOS,
) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(channel, dtype=np.float32))  # mode F
    top, left, rows, columns = box or (0, 0, *channel.shape)
    ends = min(left + columns, channel.shape[1]), min(top + rows, channel.shape[0])  # rounding
    return np.asarray(image.resize((width, height), how, (left, top, *ends)))
