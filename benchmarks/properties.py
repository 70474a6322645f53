"""Properties: measures of a painted picture by the bundled network, for the tables of
docs/quality.md.

All are computed in float32 from the file:

- style: sliced Wasserstein distance to the painting (Rabin et al. 2011) of relu1_2, relu2_2,
  relu3_3 and relu4_3, layers outside the loss, at three sizes; in standard deviations of the
  painting's features.
- affinity: how much cosine similarities between positions of relu3_1 differ from the photo's, at
  256 pixels (the content loss of Kolkin et al. 2019, "STROTSS", eq. 5).
- ssim: structural similarity of the luma (Wang et al. 2004); 1 for the photo itself.
- ripple: energy above a fifth of a cycle per pixel where the photo is flat, divided by the
  painting's.
- border: energy of the steps between pixels in the outer 8 pixels, divided by that inside, and by
  the same ratio in the photo: 1 means that no border is visible.
- to style, to photo: sliced Wasserstein distance of the colours, in grey levels.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.distances import sliced_wasserstein
from neural_style_tf.pictures import colors, reading, resampling, sizes
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

if TYPE_CHECKING:
    from neural_style_tf.network import vgg

SIZE = 256  # pixels, at which similarities are compared
LAYERS = ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
POSITIONS = 1024


def measures(path: Path, photo_path: Path, painting_path: Path) -> dict[str, float]:
    picture = reading.read(path).pixels
    height, width = picture.shape[:2]
    photo = resampling.resize(reading.read(photo_path).pixels, height, width)
    painting = reading.read(painting_path).pixels
    painting = resampling.resize(
        painting, *sizes.of_style(painting.shape[:2], (height, width), Settings()).size
    )
    return {
        "style": style_distance(picture, painting),
        "affinity": affinity_divergence(picture, photo),
        "ssim": ssim(luma(picture), luma(photo)),
        "ripple": ripple(picture, photo, painting),
        "border": border(luma(picture)) / border(luma(photo)),
        "to style": sliced_wasserstein(picture.reshape(-1, 3), painting.reshape(-1, 3)),
        "to photo": sliced_wasserstein(picture.reshape(-1, 3), photo.reshape(-1, 3)),
    }


@functools.cache
def network() -> "vgg.Network":
    from neural_style_tf.network import vgg

    return vgg.load(BUNDLED_NETWORK)


def features(picture: np.ndarray, layers: list[str]) -> list[np.ndarray]:
    """The features [positions, channels] of each layer, with max pooling as in training."""
    import tensorflow as tf

    from neural_style_tf.network import vgg
    from neural_style_tf.network.backprop import Passes

    passes = Passes(network().layers, layers, "max")
    image = vgg.preprocess(tf.constant(picture[np.newaxis]), network().mean_pixel)
    by_name = passes.features(image)
    return [np.reshape(by_name[name], (-1, by_name[name].shape[-1])) for name in layers]


def style_distance(picture: np.ndarray, painting: np.ndarray) -> float:
    distances = []
    for factor in (1, 2, 4):
        small = (
            resampling.resize(p, p.shape[0] // factor, p.shape[1] // factor)
            for p in (picture, painting)
        )
        for ours, theirs in zip(*(features(image, LAYERS) for image in small), strict=True):
            distances.append(sliced_wasserstein(ours, theirs, in_deviations=True))
    return float(np.mean(distances))


def affinity_divergence(picture: np.ndarray, photo: np.ndarray) -> float:
    ours, theirs = similarities(picture), similarities(photo)
    return float(np.abs(ours - theirs).mean())


def similarities(image: np.ndarray) -> np.ndarray:
    """Cosine similarities [n, n] of the features at n random positions."""
    height, width = image.shape[:2]
    scale = SIZE / max(height, width)
    small = resampling.resize(image, round(height * scale), round(width * scale))
    (values,) = features(small, ["relu3_1"])
    chosen = np.random.default_rng(0).permutation(len(values))[:POSITIONS]
    values = values[chosen] / (np.linalg.norm(values[chosen], axis=1, keepdims=True) + 1e-6)
    return values @ values.T


def luma(pixels: np.ndarray) -> np.ndarray:
    return colors.luma(pixels.astype(np.float64))  # variances are differences of much larger terms


def ssim(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Wang et al. 2004 eq. 13, with a Gaussian window of deviation 1.5."""
    pair = (ours, theirs)
    means = [gaussian_filter(image, 1.5) for image in pair]
    variances = [
        gaussian_filter(image**2, 1.5) - mean**2 for image, mean in zip(pair, means, strict=True)
    ]
    covariance = gaussian_filter(ours * theirs, 1.5) - means[0] * means[1]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    denominator = (means[0] ** 2 + means[1] ** 2 + c1) * (sum(variances) + c2)
    return float((numerator / denominator).mean())


def ripple(picture: np.ndarray, photo: np.ndarray, painting: np.ndarray) -> float:
    steepness = gaussian_filter(np.hypot(*np.gradient(luma(photo))), 2)
    flat = steepness < np.quantile(steepness, 0.3)
    energy = high(luma(picture))[flat].mean()
    return float(energy / high(luma(painting)).mean())


def high(image: np.ndarray) -> np.ndarray:
    """The energy above about a fifth of a cycle per pixel."""
    return (image - gaussian_filter(image, 1.0)) ** 2


def border(image: np.ndarray) -> float:
    energy = sum(step**2 for step in np.gradient(image))
    outer = np.ones(energy.shape, bool)
    outer[8:-8, 8:-8] = False
    return float(energy[outer].mean() / energy[~outer].mean())
