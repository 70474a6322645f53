"""Start: the photo or another picture -> the picture that the first stage begins with; and what the
photo adds to that of a later one."""

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
    if pictures.initial is None and settings.texture is not None:
        # Gatys et al. 2015, "Texture Synthesis Using CNNs"
        return initial_picture(at_stage[0], mean_pixel, settings, blend=1)
    return initial_picture(_recolored(pictures, at_stage, settings, masks), mean_pixel, settings)


def detail_at_stage(
    pictures: Pictures,
    at_stage: list[np.ndarray],
    before: tuple[int, int],
    settings: Settings,
    masks: Masks,
) -> np.ndarray | None:
    """The photo's detail that the stage before could not show, in the colours of the start,
    [H, W, 3] float32; less of it for more `stylization` than by default, and with noise. None with
    other style losses, and where the run did not begin with the photo, or keeps nothing of it.

    With neighbors a later stage begins with it: eyes, hands and lines are then where they were in
    the photo, and find their neighbours. Kolkin et al. 2022, section 3, add it where neighbours are
    looked up.

    at_stage: the content and the styles at this stage. before: height and width of the one before.
    """
    share = (1 - settings.initial_noiseblend) * min(1.0, 2 * (1 - settings.balance()))
    keeps_photo = pictures.initial is None and share * settings.content_weight > 0
    if settings.style_loss != "neighbors" or not keeps_photo:
        return None
    photo = _recolored(pictures, at_stage, settings, masks)
    return np.float32(share) * resampling.detail(photo, *before, wraps=settings.wraps)


def _recolored(
    pictures: Pictures, at_stage: list[np.ndarray], settings: Settings, masks: Masks
) -> np.ndarray:
    """What a run begins with, apart from noise: the photo or another picture, at a stage."""
    base, *paintings = at_stage
    if pictures.initial is not None:
        base = resampling.resize(pictures.initial, *base.shape[:2], wraps=settings.wraps)
    kind = settings.initial_colors or ("match" if pictures.initial is None else "own")
    return colors.in_colors_of(base, paintings, kind, settings, masks)


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
