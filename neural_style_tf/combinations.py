"""Combinations: settings that are right one by one, but not together -> an error."""

from typing import Any

from neural_style_tf.errors import UsageError, shortened
from neural_style_tf.rules import names

# The losses of neighbors are relative: with other values they would have another size, or these
# would have no effect.
NEEDED_BY_NEIGHBORS = (("content_loss", "mean"), ("layer_reduction", "sum"))


def check(settings: Any) -> None:
    """Raises `UsageError` for `settings.Settings` that contradict each other."""
    if settings.texture is not None:
        _check_texture(settings)
    for name, only in NEEDED_BY_NEIGHBORS:
        if settings.style_loss == "neighbors" and getattr(settings, name) != only:
            raise UsageError(*names("style_loss"), " neighbors needs ", *names(name), f" {only}")
    if settings.content_weight == settings.style_weight == 0:
        raise UsageError(*names("content_weight", "style_weight"), " are both 0: raise one of them")
    if settings.style_blend_weights is not None and not any(settings.style_blend_weights):
        raise UsageError(
            *names("style_blend_weights"), " are all 0: give at least one style a share"
        )
    if settings.noise_range is not None:
        low_high = settings.noise_range
        if len(low_high) != 2 or low_high[0] >= low_high[1]:
            values = shortened(" ".join(f"{value:g}" for value in low_high))
            raise UsageError(*names("noise_range"), f" is {values}: use a low and a higher number")


def excludes_neighbors(settings: Any) -> bool:
    """Whether neighbors are impossible: without a photo, or with a loss that they cannot have."""
    has_others = any(getattr(settings, name) != only for name, only in NEEDED_BY_NEIGHBORS)
    return settings.texture is not None or has_others


def _check_texture(settings: Any) -> None:
    if settings.style_weight == 0:
        raise UsageError(*names("texture"), " needs ", *names("style_weight"), " above 0")
    if settings.style_loss == "neighbors":
        raise UsageError(
            *names("style_loss"),
            " neighbors needs a photo: use another with ",
            *names("texture"),
        )
