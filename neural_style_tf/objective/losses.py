"""Losses: features -> statistics -> scalars. Pure tensor maths; no files, no printing.

What is measured on features is a sum over positions: the statistics of a picture are those of its
parts added up. What compares them with a target comes after, and sees no features. So a gradient
is found in two steps, too: at the statistics, then from there at the features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class Distance(NamedTuple):
    """How far features are from others. Additive over parts of a picture."""

    squares: tf.Tensor  # of the differences, summed: a float32 scalar
    values: tf.Tensor  # their number, a float32 scalar


def distance(features: tf.Tensor, target: tf.Tensor) -> Distance:
    """The squared differences of two features [1, h, w, channels]."""
    difference = tf.cast(features, tf.float32) - target
    return Distance(tf.reduce_sum(tf.square(difference)), tf.size(difference, tf.float32))


def distance_gradient(features: tf.Tensor, target: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """The gradient at the features of what changes by `slope` a unit of `squares`."""
    difference = tf.cast(features, tf.float32) - target
    return tf.cast(2 * slope * difference, features.dtype)


def content_loss(distance: Distance, reduction: str = "mean") -> tf.Tensor:
    """Squared differences as their "mean" or "sum".

    Gatys et al. 2016 eq. 1 is half the sum; means are alike at every size of picture.
    """
    return distance.squares / (distance.values if reduction == "mean" else 1.0)


class Gram(NamedTuple):
    """The style of features. Additive: the Gram of a picture is that of its parts added up."""

    products: tf.Tensor  # [channels, channels] float32, every two channels, summed over positions
    positions: tf.Tensor  # their number, a float32 scalar
    sums: tf.Tensor  # [channels] float32, of each channel; [0] where the loss needs none


def gram(features: tf.Tensor, weights: tf.Tensor | None = None, with_sums: bool = False) -> Gram:
    """F^T F of features [1, h, w, channels]: Gatys et al. 2016 eq. 3.

    weights: [1, h, w], 0..1, what each position counts: the squares of the T of Gatys et al. 2017
    eq. 3.
    """
    channels = features.shape[-1]
    number = tf.constant(features.shape[1] * features.shape[2], tf.float32)
    sums, shares = tf.zeros([0]), 1.0
    if weights is not None:
        weights = tf.cast(weights, features.dtype)
        number = tf.reduce_sum(tf.cast(weights, tf.float32))
        shares = tf.sqrt(weights)[..., tf.newaxis]
        features *= shares
    if with_sums:
        sums = tf.reduce_sum(tf.cast(features * shares, tf.float32), (0, 1, 2))
    positions = tf.reshape(features, (-1, channels))  # [h*w, channels]
    count = positions.shape[0]
    if features.dtype == tf.float16 or with_sums:
        # their squares are beyond float16's range; and covariances need digits
        positions = tf.cast(positions, tf.float32)
    if positions.dtype == tf.bfloat16:
        # such products come rounded: of blocks of rows, to be summed in float32
        blocks = min(count, LOW_PRECISION_BLOCKS // channels)
        positions = tf.pad(positions, [[0, -count % blocks], [0, 0]])
        positions = tf.reshape(positions, (blocks, -1, channels))
    products = tf.cast(tf.matmul(positions, positions, transpose_a=True), tf.float32)
    if products.shape.rank == 3:
        products = tf.reduce_sum(products, 0)
    return Gram(products, number, sums)


LOW_PRECISION_BLOCKS = 2048  # over the number of channels: blocks of rows, 32 for 64 channels


def gram_gradient(features: tf.Tensor, slope: Gram, weights: tf.Tensor | None = None) -> tf.Tensor:
    """The gradient at the features of what changes by `slope` a unit of `products`, for them a
    symmetric matrix, and of `sums`: Gatys et al. 2016 eq. 6. weights: as for `gram`."""
    slopes = slope.products
    positions = tf.reshape(features, (-1, features.shape[-1]))
    factor = 1.0
    if features.dtype == tf.float16:  # the slopes themselves may be too small for its range
        factor = tf.reduce_max(tf.abs(slopes)) * features.shape[-1] + 1e-30
    gradient = tf.matmul(positions, tf.cast(2 * slopes / factor, features.dtype))
    gradient = tf.reshape(gradient * tf.cast(factor, features.dtype), features.shape)
    if slope.sums.shape[0]:
        gradient += tf.cast(slope.sums, features.dtype)
    if weights is not None:
        gradient *= tf.cast(weights, features.dtype)[..., tf.newaxis]
    return gradient


class Gaussian(NamedTuple):
    """What Wasserstein's distance is measured to."""

    mean: tf.Tensor  # [channels] float32
    covariance: tf.Tensor  # [channels, channels] float64
    root: tf.Tensor  # its square root
    least: tf.Tensor  # float64 scalar: what was added to each variance, and is to be to others
    unit: tf.Tensor  # float32 scalar: what brings distances to the units of "mean"


StyleTarget = Gram | Gaussian


def style_target(gram: Gram, scale: str) -> StyleTarget:
    """The style of a painting's features as `style_loss` is to compare with it."""
    if scale != "wasserstein":
        return gram
    moments = _moments(gram)
    least = tf.cast(_least_variance(moments), tf.float64)
    covariance = _covariances([gram], least[tf.newaxis])[0]
    values, vectors = tf.linalg.eigh(covariance)
    root = (vectors * tf.sqrt(tf.maximum(values, least))) @ tf.transpose(vectors)
    return Gaussian(moments.mean, covariance, root, least, _unit(moments))


def style_loss(
    gram: Gram, target: StyleTarget, scale: str = "mean", pixels: float = 0
) -> tf.Tensor:
    """Squared differences of two Grams over N channels, in one of the published scales.

    "mean": their mean, each Gram first divided by its M positions times N.
    "layer": their sum over 4 M^2 N^2, nothing divided before. Gatys et al. 2016 eq. 4.
    "picture": their sum over 4 * 3^2 * pixels^2, for the H*W `pixels` of the picture. Chollet's
        Keras example.
    "moments": the first, and mean squared differences of the channels' means and deviations.
        Huang and Belongie 2017, "Arbitrary Style Transfer in Real-time with AdaIN", eq. 13.
    "wasserstein": squared Wasserstein-2 distance of two Gaussians that have the features' means
        and covariances, over N. Olkin and Pukelsheim 1982; K. Crowson, style-transfer-pytorch.

    The last two are in the units of the first: times the target's mean square over N^2. An eighth
    of the last leaves as much of the photo as the first does (docs/quality.md).
    """
    channels = gram.products.shape[-1]
    if scale == "wasserstein":
        return _gaussian_losses([(gram, target)])[0]
    if scale == "moments":
        ours, theirs = map(_moments, (gram, target))
        means = tf.math.squared_difference(ours.mean, theirs.mean)
        least = _least_variance(theirs)
        spread = tf.math.squared_difference(_deviations(ours, least), _deviations(theirs, least))
        squares = tf.math.squared_difference(ours.second / channels, theirs.second / channels)
        return tf.reduce_mean(squares) + _unit(theirs) * tf.reduce_mean(means + spread)
    if scale == "mean":
        ours, theirs = (one.products / (one.positions * channels) for one in (gram, target))
        return tf.reduce_mean(tf.math.squared_difference(ours, theirs))
    size = {"layer": gram.positions * channels, "picture": 3 * pixels}[scale]
    # divided before it is squared: the squares of large pictures would overflow
    return tf.reduce_sum(tf.square((gram.products - target.products) / (2 * size)))


def style_losses(pairs: Sequence[tuple[Gram, Gram]], scale: str, pixels: float) -> list[tf.Tensor]:
    """The style loss of each pair of a Gram and its target; all at once where that is faster."""
    if scale == "wasserstein":
        return _gaussian_losses(pairs)
    return [style_loss(gram, target, scale, pixels) for gram, target in pairs]


WITH_SUMS = ("moments", "wasserstein")  # these need `Gram.sums`
LEAST_VARIANCE = 1e-4  # of the target's mean square, or of 1


class _Moments(NamedTuple):
    mean: tf.Tensor  # [channels]
    second: tf.Tensor  # [channels, channels], of products, not about the mean


def _moments(gram: Gram) -> _Moments:
    return _Moments(gram.sums / gram.positions, gram.products / gram.positions)


def _least_variance(target: _Moments) -> tf.Tensor:
    """What is added to each variance: a covariance is singular where channels are silent, or more
    than the positions. Published as 1e-4, of features near 1; it has to be more than rounding
    leaves of large features, or the slopes there point nowhere."""
    return LEAST_VARIANCE * tf.maximum(_mean_square(target), 1)


def _deviations(moments: _Moments, least: tf.Tensor) -> tf.Tensor:
    variances = tf.linalg.diag_part(moments.second) - tf.square(moments.mean)
    return tf.sqrt(tf.nn.relu(variances) + least)


def _unit(target: _Moments) -> tf.Tensor:
    """What brings a distance of moments to the units of Grams that are means."""
    return _mean_square(target) / target.mean.shape[0] ** 2


def _mean_square(moments: _Moments) -> tf.Tensor:
    return tf.reduce_mean(tf.linalg.diag_part(moments.second))


def _gaussian_losses(pairs: Sequence[tuple[Gram, Gaussian]]) -> list[tf.Tensor]:
    """Those of "wasserstein". What has equally many channels is decomposed at once, each matrix
    on a thread of its own: most of the time goes there."""
    by_channels: dict[int, list[int]] = {}
    for number, (gram, _) in enumerate(pairs):
        by_channels.setdefault(gram.products.shape[-1], []).append(number)
    found = {}
    for channels, numbers in by_channels.items():
        ours, theirs = zip(*(pairs[number] for number in numbers), strict=True)
        distances = _covariance_distances(ours, theirs)
        for number, gram, target, distance in zip(numbers, ours, theirs, distances, strict=True):
            means = tf.math.squared_difference(_moments(gram).mean, target.mean)
            found[number] = target.unit / 8 * (tf.reduce_sum(means) + distance) / channels
    return [found[number] for number in range(len(pairs))]


def _covariance_distances(ours: Sequence[Gram], theirs: Sequence[Gaussian]) -> list[tf.Tensor]:
    """tr C + tr T - 2 tr (T^1/2 C T^1/2)^1/2 for every two covariances C and T, as float32
    scalars."""
    least = tf.stack([one.least for one in theirs])
    covariances, targets = _covariances(ours, least), tf.stack([one.covariance for one in theirs])
    roots = _traces_of_roots(covariances, tf.stack([one.root for one in theirs]), least)
    distances = tf.linalg.trace(covariances) + tf.linalg.trace(targets) - 2 * roots
    return tf.unstack(tf.cast(distances, tf.float32))


def _covariances(grams: Sequence[Gram], least: tf.Tensor) -> tf.Tensor:
    """[pairs, channels, channels] float64: what is left of two large numbers, and to be
    inverted. least: [pairs] float64, added to the variances of each."""
    moments = [_moments(gram) for gram in grams]
    means = tf.cast(tf.stack([one.mean for one in moments]), tf.float64)
    seconds = tf.cast(tf.stack([one.second for one in moments]), tf.float64)
    products = means[:, :, tf.newaxis] * means[:, tf.newaxis]
    added = least[:, tf.newaxis, tf.newaxis] * tf.eye(means.shape[1], dtype=tf.float64)
    return seconds - products + added


def _traces_of_roots(covariances: tf.Tensor, roots: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """tr (R C R)^1/2 of each, and its gradient R (R C R)^-1/2 R / 2 at C: TensorFlow's own divides
    by differences of eigenvalues.

    Told as a linear function with that value and slope at C. `tf.custom_gradient` would hold every
    graph that it was ever traced in.
    """
    fixed = tf.stop_gradient(covariances)
    values, vectors = tf.linalg.eigh(roots @ fixed @ roots)
    found = tf.sqrt(tf.maximum(values, tf.square(least)[:, tf.newaxis]))
    turned = roots @ vectors
    slopes = tf.matmul(turned / found[:, tf.newaxis], turned, transpose_b=True) / 2
    return tf.reduce_sum(found, -1) + tf.reduce_sum(slopes * (covariances - fixed), (1, 2))


class Roughness(NamedTuple):
    """How rough a picture is. Additive over bands of rows that share a row with the next band."""

    sums: tf.Tensor  # [2] float64; of "squares": downwards and to the right; of "power": its one


def roughness(rows: tf.Tensor, kind: str, is_last: bool = True) -> Roughness:
    """The roughness of rows [1, h, W, 3] of a picture; the last of them belongs to the next band
    unless they are the last band."""
    down = tf.square(rows[:, 1:] - rows[:, :-1])
    right = tf.square(rows[:, :, 1:] - rows[:, :, :-1])
    # XLA adds up one by one, and millions of float32 would lose digits
    if kind == "squares":
        right = right if is_last else right[:, :-1]
        return Roughness(tf.stack([_sum(down), _sum(right)]))
    powers = (down[:, :, :-1] + right[:, :-1]) ** 1.25
    return Roughness(tf.stack([_sum(powers), tf.zeros((), tf.float64)]))


def _sum(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(values, tf.float64))


def total_variation_of(roughness: Roughness, kind: str, shape: tf.TensorShape) -> tf.Tensor:
    """From the roughness of a whole picture of `shape` [1, H, W, 3]."""
    _, height, width, channels = shape
    counts = [1, 1]
    if kind == "squares":
        counts = [(height - 1) * width * channels, height * (width - 1) * channels]
    return tf.cast(tf.reduce_sum(roughness.sums / tf.constant(counts, tf.float64)), tf.float32)


def total_variation(picture: tf.Tensor, kind: str = "squares") -> tf.Tensor:
    """How rough a picture [1, H, W, 3] is.

    "squares": mean squared step to the pixel below, plus the same to the right. Mahendran and
        Vedaldi 2015, section 3, with exponent beta = 2.
    "power": sum of (dy^2 + dx^2)^1.25 over the pixels that have both neighbours (beta = 2.5).
    """
    return total_variation_of(roughness(picture, kind), kind, picture.shape)
