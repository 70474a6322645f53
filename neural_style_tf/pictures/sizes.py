"""Sizes: of the result, and of a painting beside it."""

import math

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.settings import SMALLEST_SIDE, Settings

MAX_ENLARGEMENT = 2  # times, of a painting, by default: an enlarged one has no fine strokes
ALWAYS_AS_WIDE = 512  # pixels; up to here even a small painting is made as wide as the result


def target_size(height: int, width: int, settings: Settings) -> tuple[int, int]:
    """Height and width of the result for a content of `height` by `width`.

    Raises `UsageError` if a side would be under `SMALLEST_SIDE`.
    """
    if settings.width is not None and settings.height is not None:
        return settings.height, settings.width
    value: int | None
    if settings.width is not None:
        name, value, side = "width", settings.width, width
    elif settings.height is not None:
        name, value, side = "height", settings.height, height
    else:
        name, value, side = "size", settings.size, max(height, width)
    wanted = side if value is None else value
    result = max(1, _divide(height * wanted, side)), max(1, _divide(width * wanted, side))
    if min(result) < SMALLEST_SIDE:
        # The first whole value for which the short side rounds up to SMALLEST_SIDE.
        smallest = -(-(2 * SMALLEST_SIDE - 1) * side // (2 * min(height, width)))
        smallest = max(smallest, SMALLEST_SIDE)
        cause = ["the content"] if value is None else [SettingName(name), f" {value}"]
        advice = [": use ", SettingName(name), f" {smallest} or more"]
        raise UsageError(*cause, _too_small(*result), *advice)
    return result


def style_size(
    style_height: int, style_width: int, content_width: int, scale: float | None = None
) -> tuple[int, int]:
    """Height and width of a style that is `scale` times as wide as the content.

    Without a scale it is as wide as the content, but above `ALWAYS_AS_WIDE` pixels it is enlarged
    at most `MAX_ENLARGEMENT` times.

    Raises `UsageError` if a side would be under `SMALLEST_SIDE`.
    """
    if scale is None:
        widest = max(MAX_ENLARGEMENT * style_width, ALWAYS_AS_WIDE)
        scale = min(1.0, widest / content_width)
    scaled_width = scale * content_width
    scaled_height = scaled_width * style_height / style_width
    result = max(1, _round(scaled_height)), max(1, _round(scaled_width))
    if min(result) < SMALLEST_SIDE:
        short_per_scale = min(1, style_height / style_width) * content_width
        smallest = _round_up((SMALLEST_SIDE - 0.5) / short_per_scale)
        scales = SettingName("style_scales")
        advice = [": use ", scales, f" {smallest:g} or more"]
        raise UsageError(scales, f" {scale:g}", _too_small(*result), *advice)
    return result


def _divide(dividend: int, divisor: int) -> int:
    """The nearest whole quotient, halves up; exact."""
    return (2 * dividend + divisor) // (2 * divisor)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _round_up(value: float) -> float:
    """The next number with three digits: short to type, and not too small."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


def _too_small(height: int, width: int) -> str:
    return (
        f" makes a picture {width} wide and {height} high, but a side needs {SMALLEST_SIDE} pixels"
    )
