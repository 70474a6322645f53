"""Losses: features -> statistics -> scalars. Pure tensor maths; no files, no printing.

Statistics are sums over positions: those of a picture are the sum of those of its parts. They are
compared with their targets afterwards, without the features. So gradients take two steps, too:
first at the statistics, then from there at the features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from neural_style_tf.network import device, fused
from neural_style_tf.objective import products


class Distance(NamedTuple):
    """How far features are from their target. Additive over the parts of a picture."""

    squares: tf.Tensor  # of the differences, summed: a float32 scalar
    values: tf.Tensor  # their number, a float32 scalar


def distance(features: tf.Tensor, target: tf.Tensor) -> Distance:
    """The squared differences of two features [1, h, w, channels]."""
    squares = fused.on_gpu(_sum_of_squares)(features, target)
    return Distance(squares, tf.size(target, tf.float32))


def _sum_of_squares(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(tf.cast(features, tf.float32) - target))


def distance_gradient(features: tf.Tensor, target: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """The gradient at the features [1, h, w, channels] of a loss with the derivative `slope`, a
    scalar, at `squares`; in the features' type."""
    return fused.on_gpu(_scaled_difference)(features, target, slope)


def _scaled_difference(features: tf.Tensor, target: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    difference = tf.cast(features, tf.float32) - target
    return tf.cast(2 * slope * difference, features.dtype)


def content_loss(distance: Distance, reduction: str = "mean") -> tf.Tensor:
    """The "mean" or "sum" of the squared differences, a float32 scalar.

    Gatys et al. 2016 eq. 1 is half the sum; means compare across sizes of pictures.
    """
    return distance.squares / (distance.values if reduction == "mean" else 1.0)


class Gram(NamedTuple):
    """The style of features. Additive: the Gram of a picture is the sum of those of its parts."""

    products: tf.Tensor  # [channels, channels] float32, of every two channels, over positions
    positions: tf.Tensor | float  # their number, a float32 scalar
    sums: tf.Tensor  # [channels] float32, of each channel; [0] where the loss needs none
    # `in_blocks` both have one more dimension, the first, and the features' type

    def summed(self) -> "Gram":
        """The same from a Gram `in_blocks`."""
        parts = (self.products, 2), (self.sums, 1)
        added, sums = (
            products.summed(part) if part.shape.rank > rank else part for part, rank in parts
        )
        return Gram(added, self.positions, sums)


def gram(
    features: tf.Tensor,
    weights: tf.Tensor | None = None,
    with_sums: bool = False,
    in_float32: bool = False,
    in_blocks: bool = False,
) -> Gram:
    """F^T F of features [1, h, w, channels]: Gatys et al. 2016 eq. 3.

    weights: [1, h, w], 0..1, how much each position counts: the squares of T in Gatys et al. 2017
    eq. 3. with_sums: whether to fill `Gram.sums`. in_float32: whether no sum may be
    rounded to the features' type, on a GPU either: "wasserstein" inverts covariances. in_blocks:
    whether products and sums may be those of blocks; see products.py.
    """
    if in_float32:
        features = tf.cast(features, tf.float32)
    channels = features.shape[-1]
    number = tf.constant(features.shape[1] * features.shape[2], tf.float32)
    sums = tf.zeros([0])
    if weights is not None:
        weights = tf.cast(weights, features.dtype)
        number = tf.reduce_sum(tf.cast(weights, tf.float32))
        shares = tf.sqrt(weights)[..., tf.newaxis]
        features *= shares
    if with_sums:
        sums = products.sums(features if weights is None else features * shares, in_blocks)
    positions = tf.reshape(features, (-1, channels))  # [h*w, C]
    if features.dtype == tf.float16 or (with_sums and not device.is_gpu()):
        # squares exceed float16's range, and covariances need the digits
        positions = tf.cast(positions, tf.float32)
    return Gram(products.of(positions, in_blocks), number, sums)


class Doubled(NamedTuple):
    """The derivatives at a Gram, the first times 2 and in the type of the features."""

    products: tf.Tensor  # [channels, channels]
    sums: tf.Tensor  # [channels] float32


def gram_gradient(
    features: tf.Tensor, slope: Gram | Doubled, weights: tf.Tensor | None = None
) -> list[tf.Tensor]:
    """The gradient at the features [1, h, w, channels] of a loss with the derivatives `slope` at
    `products`, a symmetric matrix, and at `sums`: Gatys et al. 2016 eq. 6. As the terms that add up
    to it: one in the features' shape and type; on a GPU and without weights also that of the sums,
    [channels] float32.

    weights: as for `gram`.
    """
    slopes = slope.products
    positions = tf.reshape(features, (-1, features.shape[-1]))
    if isinstance(slope, Doubled):
        gradient = tf.matmul(positions, slopes)
    elif features.dtype == tf.float16:  # the slopes may be below its range
        factor = tf.reduce_max(tf.abs(slopes)) * features.shape[-1] + 1e-30
        gradient = tf.matmul(positions, tf.cast(2 * slopes / factor, features.dtype))
        gradient *= tf.cast(factor, features.dtype)
    else:
        gradient = tf.matmul(positions, tf.cast(2 * slopes, features.dtype))
    gradient = tf.reshape(gradient, features.shape)
    if slope.sums.shape[0] and weights is None and device.is_gpu():
        return [gradient, slope.sums]
    if slope.sums.shape[0]:
        gradient += tf.cast(slope.sums, features.dtype)
    if weights is not None:
        gradient *= tf.cast(weights, features.dtype)[..., tf.newaxis]
    return [gradient]


class Gaussian(NamedTuple):
    """The target of the Wasserstein distance."""

    mean: tf.Tensor  # [channels] float32
    covariance: tf.Tensor  # [channels, channels] float64
    root: tf.Tensor  # [channels, channels] float64, its square root
    least: tf.Tensor  # float64 scalar, added to each variance here and of what is compared with it
    unit: tf.Tensor  # float32 scalar, converts distances to the units of "mean"


class MomentTarget(NamedTuple):
    """The target of "moments", with what is the same in every step computed once."""

    mean: tf.Tensor  # [channels] float32
    second: tf.Tensor  # [channels, channels] float32, mean products, not centred
    deviation: tf.Tensor  # [channels] float32
    least: tf.Tensor  # [channels] float32, equal values, added to each variance
    unit: tf.Tensor  # [channels] float32, equal values, converts distances to the units of "mean"


StyleTarget = Gram | MomentTarget | Gaussian


def style_target(gram: Gram, scale: str) -> StyleTarget:
    """The target that `style_loss` needs for a scale, from the Gram of a painting."""
    moments = moments_of(gram)
    if scale == "mean":
        return Gram(moments.second, 1.0, gram.sums)
    if scale == "moments":
        least, unit = (
            tf.fill(moments.mean.shape, value)
            for value in (_least_variance(moments), _unit(moments))
        )
        return MomentTarget(*moments, _deviations(moments, least), least, unit)
    if scale != "wasserstein":
        return gram
    least = tf.cast(_least_variance(moments), tf.float64)
    covariance = _covariances([gram], least[tf.newaxis])[0]
    values, vectors = tf.linalg.eigh(covariance)
    root = (vectors * tf.sqrt(tf.maximum(values, least))) @ tf.transpose(vectors)
    return Gaussian(moments.mean, covariance, root, least, _unit(moments))


def style_loss(
    gram: Gram, target: StyleTarget, scale: str = "mean", pixels: float = 0
) -> tf.Tensor:
    """How far the Gram of a picture is from its target, over N channels; a float32 scalar.

    "mean": mean squared difference, each Gram first divided by its M positions times N.
    "layer": sum of squared differences over 4 M^2 N^2. Gatys et al. 2016 eq. 4.
    "picture": their sum over 4 * 3^2 * pixels^2, for the H*W `pixels` of the picture. F. Chollet's
        Keras example.
    "moments": "mean", plus the mean squared differences of the channels' means and deviations.
        Huang and Belongie 2017, "Arbitrary Style Transfer in Real-time with AdaIN", eq. 13.
    "wasserstein": squared Wasserstein-2 distance of two Gaussians with the features' means and
        covariances, over N. Olkin and Pukelsheim 1982; K. Crowson, style-transfer-pytorch.

    The last two are converted to the units of "mean": times the target's mean square over N^2. With
    an eighth of "wasserstein" as much of the photo is left as with "mean" (docs/quality.md).
    """
    channels = gram.products.shape[-1]
    if isinstance(target, Gaussian):
        return _gaussian_losses([(gram, target)])[0]
    if isinstance(target, MomentTarget):
        return _moment_loss(moments_of(gram), target)
    if scale == "mean":
        return tf.reduce_mean(tf.math.squared_difference(_mean_gram(gram), _mean_gram(target)))
    size = {"layer": gram.positions * channels, "picture": 3 * pixels}[scale]
    # divided before it is squared: the squares of large pictures would overflow
    return tf.reduce_sum(tf.square((gram.products - target.products) / (2 * size)))


def _mean_gram(gram: Gram) -> tf.Tensor:
    return gram.products / (gram.positions * gram.products.shape[-1])


def style_losses(
    pairs: Sequence[tuple[Gram, StyleTarget]], scale: str, pixels: float
) -> list[tf.Tensor]:
    """The `style_loss` of each pair of a Gram and its target; all at once if that is faster."""
    gaussians = [(gram, target) for gram, target in pairs if isinstance(target, Gaussian)]
    if gaussians:
        return _gaussian_losses(gaussians)
    return [style_loss(gram, target, scale, pixels) for gram, target in pairs]


def loss_of_nothing(target: StyleTarget, scale: str, pixels: float) -> tf.Tensor:
    """The `style_loss` of a picture that has no features, a float32 scalar; eight times that of
    "wasserstein", which remains an eighth of the others."""
    if isinstance(target, Gaussian):
        squares = tf.reduce_sum(tf.square(target.mean))
        variances = tf.cast(tf.linalg.trace(target.covariance), tf.float32)
        return target.unit * (squares + variances) / target.mean.shape[0]
    if isinstance(target, MomentTarget):
        moments = Moments(tf.zeros_like(target.mean), tf.zeros_like(target.second))
        return _moment_loss(moments, target)
    gram = target._replace(products=tf.zeros_like(target.products))
    return style_loss(gram, target, scale, pixels)


WITH_SUMS = ("moments", "wasserstein")  # the scales that need `Gram.sums`
# Share of the target's mean square, or of 1; style-transfer-pytorch has it as an absolute value,
# see `_least_variance`.
LEAST_VARIANCE = 1e-4


class Moments(NamedTuple):
    mean: tf.Tensor  # [channels]
    second: tf.Tensor  # [channels, channels], mean products, not centred


def moments_of(gram: Gram) -> Moments:
    return Moments(gram.sums / gram.positions, gram.products / gram.positions)


def _least_variance(target: Moments) -> tf.Tensor:
    """What is added to each variance, because a covariance is singular if channels are all 0, or
    outnumber the positions. Published as 1e-4 for features near 1. It has to exceed what rounding
    leaves of large features, or the slopes there are noise."""
    return LEAST_VARIANCE * tf.maximum(_mean_square(target), 1)


def _deviations(moments: Moments, least: tf.Tensor) -> tf.Tensor:
    variances = tf.linalg.diag_part(moments.second) - tf.square(moments.mean)
    return tf.sqrt(tf.nn.relu(variances) + least)


def _moment_loss(moments: Moments, target: MomentTarget) -> tf.Tensor:
    channels = target.mean.shape[0]
    means = tf.math.squared_difference(moments.mean, target.mean)
    spread = tf.math.squared_difference(_deviations(moments, target.least), target.deviation)
    squares = tf.math.squared_difference(moments.second / channels, target.second / channels)
    return tf.reduce_mean(squares) + tf.reduce_mean(target.unit * (means + spread))


def _unit(target: Moments) -> tf.Tensor:
    """Converts a distance of moments to the units of mean Grams."""
    return _mean_square(target) / target.mean.shape[0] ** 2


def _mean_square(moments: Moments) -> tf.Tensor:
    return tf.reduce_mean(tf.linalg.diag_part(moments.second))


def _gaussian_losses(pairs: Sequence[tuple[Gram, Gaussian]]) -> list[tf.Tensor]:
    """The losses of "wasserstein". Layers with equally many channels are decomposed in one call,
    which gives each matrix a thread: decomposing takes most of the time."""
    by_channels: dict[int, list[int]] = {}
    for number, (gram, _) in enumerate(pairs):
        by_channels.setdefault(gram.products.shape[-1], []).append(number)
    results = {}
    for channels, numbers in by_channels.items():
        grams, targets = zip(*(pairs[number] for number in numbers), strict=True)
        distances = _covariance_distances(grams, targets)
        for number, gram, target, distance in zip(numbers, grams, targets, distances, strict=True):
            means = tf.math.squared_difference(moments_of(gram).mean, target.mean)
            results[number] = target.unit / 8 * (tf.reduce_sum(means) + distance) / channels
    return [results[number] for number in range(len(pairs))]


def _covariance_distances(grams: Sequence[Gram], targets: Sequence[Gaussian]) -> list[tf.Tensor]:
    """tr C + tr T - 2 tr (T^1/2 C T^1/2)^1/2 for each pair of covariances C and T, float32."""
    least = tf.stack([target.least for target in targets])
    covariances = _covariances(grams, least)
    wanted = tf.stack([target.covariance for target in targets])
    roots = _traces_of_roots(covariances, tf.stack([target.root for target in targets]), least)
    distances = tf.linalg.trace(covariances) + tf.linalg.trace(wanted) - 2 * roots
    return tf.unstack(tf.cast(distances, tf.float32))


def _covariances(grams: Sequence[Gram], least: tf.Tensor) -> tf.Tensor:
    """[pairs, channels, channels] float64, since they are differences of large numbers, and
    inverted. least: [pairs] float64, added to the variances of each."""
    moments = [moments_of(gram) for gram in grams]
    means = tf.cast(tf.stack([moment.mean for moment in moments]), tf.float64)
    seconds = tf.cast(tf.stack([moment.second for moment in moments]), tf.float64)
    products = means[:, :, tf.newaxis] * means[:, tf.newaxis]
    added = least[:, tf.newaxis, tf.newaxis] * tf.eye(means.shape[1], dtype=tf.float64)
    return seconds - products + added


def _traces_of_roots(covariances: tf.Tensor, roots: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """tr (R C R)^1/2 of each, with the gradient R (R C R)^-1/2 R / 2 at C: TensorFlow's own
    gradient divides by differences of eigenvalues.

    Written as a linear function of C that has this value and slope there. `tf.custom_gradient`
    would hold every graph that it was ever traced in.
    """
    fixed = tf.stop_gradient(covariances)
    values, vectors = tf.linalg.eigh(roots @ fixed @ roots)
    singular = tf.sqrt(tf.maximum(values, tf.square(least)[:, tf.newaxis]))
    turned = roots @ vectors
    slopes = tf.matmul(turned / singular[:, tf.newaxis], turned, transpose_b=True) / 2
    return tf.reduce_sum(singular, -1) + tf.reduce_sum(slopes * (covariances - fixed), (1, 2))


class Roughness(NamedTuple):
    """How rough a picture is. Additive over bands of rows that share a row with the next band."""

    sums: tf.Tensor  # [2] float64; "squares": down and right; "power": the sum and 0


def roughness(rows: tf.Tensor, kind: str, is_last: bool = True, wraps: bool = False) -> Roughness:
    """The roughness of rows [1, h, W, 3] of a picture. The last row is the first of the next band,
    unless this is the last band.

    wraps: whether opposite edges meet. The last row is then always the first of the next band, that
    of the last band the picture's first; except that with `is_last` the rows are a whole picture.
    """
    if wraps:
        rows = tf.concat([rows, rows[:, :1]], 1) if is_last else rows
        rows = tf.concat([rows, rows[:, :, :1]], 2)
    down = tf.square(rows[:, 1:] - rows[:, :-1])
    right = tf.square(rows[:, :, 1:] - rows[:, :, :-1])
    # XLA adds one value at a time: over millions of values float32 would lose digits
    if kind == "squares":
        down = down[:, :, :-1] if wraps else down
        right = right if is_last and not wraps else right[:, :-1]
        return Roughness(tf.stack([_sum(down), _sum(right)]))
    powers = (down[:, :, :-1] + right[:, :-1]) ** 1.25
    return Roughness(tf.stack([_sum(powers), tf.zeros((), tf.float64)]))


def _sum(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(values, tf.float64))


def total_variation_of(
    roughness: Roughness, kind: str, shape: tf.TensorShape, wraps: bool = False
) -> tf.Tensor:
    """The total variation from the roughness of a picture of `shape` [1, H, W, 3], or of a part."""
    _, height, width, channels = shape
    counts = [1, 1]
    if kind == "squares" and wraps:
        counts = [height * width * channels] * 2
    elif kind == "squares":
        counts = [(height - 1) * width * channels, height * (width - 1) * channels]
    return tf.cast(tf.reduce_sum(roughness.sums / tf.constant(counts, tf.float64)), tf.float32)


def total_variation(picture: tf.Tensor, kind: str = "squares", wraps: bool = False) -> tf.Tensor:
    """How rough a picture [1, H, W, 3] is. wraps: whether its opposite edges meet.

    "squares": mean squared step to the pixel below, plus the same to the right. Mahendran and
        Vedaldi 2015, section 3, with exponent beta = 2.
    "power": sum of (dy^2 + dx^2)^1.25 over the pixels that have both neighbours (beta = 2.5).
    """
    return total_variation_of(roughness(picture, kind, wraps=wraps), kind, picture.shape, wraps)
