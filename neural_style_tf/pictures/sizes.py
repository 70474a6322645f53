"""Sizes: of the result, and of a painting beside it; and how a picture is brought to a size."""

import math
from typing import Any, NamedTuple

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.settings import SMALLEST_SIDE, WRAPPED_UNIT, Settings

MAX_ENLARGEMENT = 2  # times, of a painting, by default: an enlarged one has no fine strokes
# Pixels, the side of a square; up to here even a small painting is made as large as the result.
ALWAYS_AS_LARGE = 512
# Times the pixels of the result: a painting that is enlarged because it is too narrow for the
# network is cropped to this.
MOST_OF_A_NARROW_PAINTING = 4
# Times the sides of the result: a painting whose strokes are to be larger than its own.
LARGEST_STROKES = 4

Size = tuple[int, int]  # height, width
Box = tuple[float, float, float, float]  # top, left, height, width


class Placement(NamedTuple):
    """How a picture is brought to a size: a part of it is resized, and mirrored beyond its edges.

    size: height and width of that part in the result. box: its top, left, height and width in the
    picture, in pixels, not all whole numbers; None for all of it. mirrored: rows above and below,
    and columns to the left and right, that are filled with its mirror image.
    """

    size: Size
    box: Box | None = None
    mirrored: tuple[Size, Size] = ((0, 0), (0, 0))

    @property
    def full_size(self) -> Size:
        """Height and width, including what is mirrored."""
        (height, width), (rows, columns) = self.size, self.mirrored
        return height + sum(rows), width + sum(columns)

    def scaled(self, source: Size, other: Size) -> "Placement":
        """The same for a mask. source, other: sizes of the files of the picture and of the mask."""
        if self.box is None:
            return self
        down, across = other[0] / source[0], other[1] / source[1]
        top, left, height, width = self.box
        return self._replace(box=(top * down, left * across, height * down, width * across))


def target_size(height: int, width: int, settings: Settings) -> Size:
    """Height and width of the result for a content of `height` by `width`.

    Where opposite edges are to meet, both are multiples of `WRAPPED_UNIT`: what the settings do not
    say is rounded to these.

    Raises `UsageError` if a side would be under `SMALLEST_SIDE`, or is set to what does not tile.
    """
    if settings.wraps:
        for name in ("width", "height", "size"):
            _check_wrapped(name, getattr(settings, name))
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
        cause = ["the content"] if value is None else [SettingName(name), f" {value}"]
        advice = [": use ", SettingName(name), f" {_smallest(side, height, width)} or more"]
        raise UsageError(*cause, _too_small(*result), *advice)
    if settings.wraps:
        height, width = (max(1, _divide(side, WRAPPED_UNIT)) * WRAPPED_UNIT for side in result)
        return height, width
    return result


def _check_wrapped(name: str, value: int | None) -> None:
    if value is not None and value % WRAPPED_UNIT:
        raise UsageError(SettingName(name), f" is {value}: ", *wrapped_advice(value))


def wrapped_advice(value: int) -> tuple[str, ...]:
    """Which lengths of a side tile, as parts of a message."""
    lower = value // WRAPPED_UNIT * WRAPPED_UNIT
    return (
        SettingName("padding"),
        f" wrap needs multiples of {WRAPPED_UNIT}, such as "
        f"{max(lower, WRAPPED_UNIT)} or {lower + WRAPPED_UNIT}",
    )


def of_content(file: Size, settings: Settings) -> Placement:
    """How a photo is brought to the size of the result. Raises `UsageError` as `target_size` does.

    file: height and width that its file has.
    """
    return fitted(file, target_size(*file, settings), settings.fit_of_pictures())


def fitted(file: Size, target: Size, fit: str) -> Placement:
    """How a picture is brought to a size of other proportions.

    fit: "crop" keeps the middle, as large as it can be; "pad" keeps all of it, and mirrors it
    beyond its edges, where another colour would make the network see an edge, and its repeated edge
    would be painted as streaks; "stretch" changes its proportions. Proportions that differ by no
    more than the rounding of one side are taken for equal.
    """
    (height, width), (target_height, target_width) = file, target
    surplus = width * target_height - height * target_width  # above 0: the picture is too wide
    if fit == "stretch" or 2 * abs(surplus) <= max(file):
        return Placement(target)
    if fit == "pad":
        if surplus > 0:
            inner = max(1, _divide(height * target_width, width)), target_width
        else:
            inner = target_height, max(1, _divide(width * target_height, height))
        rows, columns = (_halves(target[i] - inner[i]) for i in range(2))
        return Placement(inner, None, (rows, columns))
    if surplus > 0:
        kept = height * target_width / target_height
        return Placement(target, (0, (width - kept) / 2, height, kept))
    kept = width * target_height / target_width
    return Placement(target, ((height - kept) / 2, 0, kept, width))


def deviation(size: Size, other: Size) -> float:
    """How far the proportions of two pictures differ: 0.01 if one is wider by 1 %."""
    return abs(size[1] * other[0] / (size[0] * other[1]) - 1)


def in_words(file: Size, placement: Placement) -> str:
    """cropped from 800x600; nothing for a picture that keeps its proportions."""
    if placement.box:
        done = "cropped"
    elif any(map(any, placement.mirrored)):
        done = "padded"
    elif fitted(file, placement.size, "crop").box:
        done = "stretched"
    else:
        return ""
    return f"{done} from {file[1]}x{file[0]}"


def of_style(
    painting: Size, result: Size, settings: Settings, number: int = 0, stroke: float | None = None
) -> Placement:
    """How a painting is brought to its size beside a result.

    By default it has as many pixels as the result, so that strokes do not depend on which way up
    the two are; but above `ALWAYS_AS_LARGE` it is enlarged at most `MAX_ENLARGEMENT` times. One
    that is too narrow for the network is enlarged until it is not, and cropped if that makes it
    large.

    painting, result: height and width. number: of the painting, from 0, in the settings. stroke:
    the width of its strokes, in percent of its long side, where the settings ask for a size of
    strokes; it is then as large as that makes it, enlarged as far as above.

    Raises `UsageError` if a size or scale in the settings makes a side under `SMALLEST_SIDE`.
    """
    if settings.style_fit == "stretch":
        return Placement(result)
    if settings.style_size is not None:
        return Placement(_with_long_side(painting, _of(settings.style_size, number)))
    by_width = settings.style_fit == "width"
    if stroke is not None:
        return _for_strokes(painting, result, settings, stroke)
    if settings.style_scales is not None:
        scale = _of(settings.style_scales, number)
        size = _rounded(*_scaled(painting, result, scale, by_width))
        if min(size) < SMALLEST_SIDE:
            short_per_scale = min(_scaled(painting, result, 1, by_width))
            smallest = _round_up((SMALLEST_SIDE - 0.5) / short_per_scale)
            scales = SettingName("style_scales")
            advice = [": use ", scales, f" {smallest:g} or more"]
            raise UsageError(scales, f" {scale:g}", _too_small(*size), *advice)
        return Placement(size)
    side, side_of_result = (side_of(size, by_width) for size in (painting, result))
    largest = _largest(side)
    if settings.texture is not None:
        largest = side  # a larger texture has more of its strokes, not larger ones
    size = _rounded(*_scaled(painting, result, min(1.0, largest / side_of_result), by_width))
    return _wide_enough(size, painting, result)


def _largest(side: float) -> float:
    """The side to which a painting with that side may be enlarged."""
    return max(MAX_ENLARGEMENT * side, ALWAYS_AS_LARGE)


def _wide_enough(size: Size, painting: Size, result: Size) -> Placement:
    """A painting at that size, or enlarged if that is too narrow for the network."""
    return Placement(size) if min(size) >= SMALLEST_SIDE else _enlarged(painting, result)


def side_of(size: Size, by_width: bool) -> float:
    """What is compared of two sizes: the width, or the side of a square that has their area."""
    return size[1] if by_width else math.sqrt(size[0] * size[1])


def _scaled(painting: Size, result: Size, scale: float, by_width: bool) -> tuple[float, float]:
    """A painting that is `scale` times as large as the result: height and width, not rounded."""
    height, width = painting
    if by_width:
        scaled_width = scale * result[1]
        return scaled_width * height / width, scaled_width
    area = result[0] * result[1]
    return scale * math.sqrt(area * height / width), scale * math.sqrt(area * width / height)


def _with_long_side(painting: Size, long_side: int) -> Size:
    height, width = painting
    longest = max(painting)
    size = _divide(height * long_side, longest), _divide(width * long_side, longest)
    if min(size) < SMALLEST_SIDE:
        option, smallest = SettingName("style_size"), _smallest(longest, height, width)
        advice = [": use ", option, f" {smallest} or more"]
        raise UsageError(option, f" {long_side}", _too_small(*size), *advice)
    return size


def for_strokes(painting: Size, result: Size, settings: Settings, stroke: float) -> float:
    """How many times as large as it is a painting is beside a result so that its strokes have the
    size that the settings ask for; at most `LARGEST_STROKES` times as large as the result."""
    assert settings.stroke_size is not None  # callers ask only then
    sides = (side_of(size, by_width=False) for size in (result, painting))
    largest = LARGEST_STROKES * next(sides) / next(sides)
    return min(largest, settings.stroke_size / stroke * max(result) / max(painting))


def _for_strokes(painting: Size, result: Size, settings: Settings, stroke: float) -> Placement:
    """A painting that is enlarged, or made smaller, for the size of its strokes; no side is under
    `SMALLEST_SIDE`."""
    side = side_of(painting, by_width=False)
    wanted = for_strokes(painting, result, settings, stroke)
    factor = min(_largest(side) / side, wanted)
    return _wide_enough(_rounded(*(factor * each for each in painting)), painting, result)


def _enlarged(painting: Size, result: Size) -> Placement:
    """A painting whose short side is as long as the network needs: the middle of a long one."""
    short, long = min(painting), max(painting)
    most = MOST_OF_A_NARROW_PAINTING * result[0] * result[1] // SMALLEST_SIDE
    scaled_long = max(SMALLEST_SIDE, _divide(long * SMALLEST_SIDE, short))
    kept = min(scaled_long, most)
    is_high = painting[0] == long
    size = (kept, SMALLEST_SIDE) if is_high else (SMALLEST_SIDE, kept)
    if kept == scaled_long:
        return Placement(size)
    kept_of_file = short * kept / SMALLEST_SIDE
    start = (long - kept_of_file) / 2
    box = (start, 0, kept_of_file, short) if is_high else (0, start, short, kept_of_file)
    return Placement(size, box)


def _of(values: tuple[Any, ...], number: int) -> Any:
    """The value of a painting, of one per painting or one for all."""
    return values[number] if len(values) > 1 else values[0]


def _smallest(side: int, height: int, width: int) -> int:
    """The first whole length of `side` for which the short side rounds up to `SMALLEST_SIDE`."""
    return max(SMALLEST_SIDE, -(-(2 * SMALLEST_SIDE - 1) * side // (2 * min(height, width))))


def _halves(pixels: int) -> Size:
    """Before and after."""
    return pixels // 2, pixels - pixels // 2


def _divide(dividend: int, divisor: int) -> int:
    """The nearest whole quotient, halves up; exact."""
    return (2 * dividend + divisor) // (2 * divisor)


def _rounded(height: float, width: float) -> Size:
    """Both to the nearest whole number, halves up."""
    return max(1, math.floor(height + 0.5)), max(1, math.floor(width + 0.5))


def _round_up(value: float) -> float:
    """The next number with three digits: short to type, and not too small."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


def _too_small(height: int, width: int) -> str:
    return (
        f" makes a picture {width} wide and {height} high, but a side needs {SMALLEST_SIDE} pixels"
    )
