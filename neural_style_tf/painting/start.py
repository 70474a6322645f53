"""Start: the photo or another picture -> the picture that the first stage begins with."""

import numpy as np

from neural_style_tf.painting.arguments import Pictures
from neural_style_tf.pictures import colors, resampling
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.settings import Settings

# grey levels, as in the published program: github.com/anishathalye/neural-style, stylize.py
NOISE_DEVIATION = 0.256


def starting_picture(
    pictures: Pictures,
    at_stage: list[np.ndarray],
    mean_pixel: np.ndarray,
    settings: Settings,
    masks: Masks,
) -> np.ndarray:
    """[H, W, 3] float32 RGB, 0..255. at_stage: the content and the styles at the first stage."""
    base, *paintings = at_stage
    if pictures.initial is not None:
        resize = resampling.resize_wrapped if settings.wraps else resampling.resize
        base = resize(pictures.initial, *base.shape[:2])
    elif settings.texture is not None:  # Gatys et al. 2015, "Texture Synthesis Using CNNs"
        return initial_picture(base, mean_pixel, settings, blend=1)
    kind = settings.initial_colors or ("match" if pictures.initial is None else "own")
    base = colors.in_colors_of(base, paintings, kind, settings, masks)
    return initial_picture(base, mean_pixel, settings)


def initial_picture(
    base: np.ndarray, mean_pixel: np.ndarray, settings: Settings, blend: float | None = None
) -> np.ndarray:
    """`base`, [H, W, 3] RGB, 0..255, blended with a share of noise around the network's mean
    pixel [3]; float32. blend: that share, by default the settings'."""
    generator = np.random.default_rng(settings.seed)
    picture = np.array(base, np.float32)
    blend = settings.initial_noiseblend if blend is None else blend
    for rows in picture:  # one after another: the noise is float64, and pictures may be large
        if settings.noise_range is None:
            noise = mean_pixel + NOISE_DEVIATION * generator.standard_normal(rows.shape)
        else:
            low, high = settings.noise_range
            noise = mean_pixel + generator.uniform(low, high, rows.shape)
        rows[:] = (1 - blend) * rows + blend * noise
    return picture
