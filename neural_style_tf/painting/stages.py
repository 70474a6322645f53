"""Stages: the size of the result and its steps -> the sizes to paint it at, from coarse to fine.

Features see about 200 pixels at most. Strokes and shapes that are larger than that in the result
are painted at a small size, and refined at larger ones. Gatys et al. 2017, "Controlling Perceptual
Factors in Neural Style Transfer", section 6.
"""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.pictures import sizes
from neural_style_tf.settings import SMALLEST_SIDE, WRAPPED_UNIT, Settings

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

# Each stage has twice the sides of the one before, and fewer steps by the root of two: measured
# with benchmarks/quality.py, see docs/quality.md.
STAGE_FACTOR = 2
STEPS_FACTOR = math.sqrt(2)
# With neighbors each stage has this share of the steps that are left, and the last one all: as many
# at a small size whatever the size of the result, so that a larger one becomes the same picture. A
# run that begins at about `COARSEST_SIDE_OF_NEIGHBORS` also takes there the steps that a stage of
# half that size would have. The second stage leaves this share to those after it, since a result of
# its size has all these steps there, and later stages keep the strokes that are finished.
SHARE_OF_STEPS_LEFT = 3 / 8
BLEED = 4  # pixels at the first stage, by eye; see `Stage.bleed`
# Pixels: with "auto" and without neighbors, the first stage's long side is as near to it as halving
# comes. Measured with benchmarks/quality.py, see docs/quality.md.
COARSEST_SIDE = 512
# Where neighbours are looked up first, or at half of a smaller result; judged blind, see there.
COARSEST_SIDE_OF_NEIGHBORS = 256
# Pixels: the coarsest stage's sides are multiples, since the halves of halves of results of several
# sizes differ by a pixel. Later stages have the sizes of smaller results. So a result goes through
# the sizes of a smaller one, and becomes the same picture.
COARSE_UNIT = 4
ROUNDING = 0.01  # of a side: whole pixels make a style a little larger than the picture


class Stage(NamedTuple):
    """A size that the picture is painted at, and the number of steps."""

    number: int  # from 1
    count: int  # type: ignore[assignment]  # of all stages; hides tuple.count
    height: int
    width: int
    iterations: int
    tile: int | None = None  # pixels per side of the tiles; None to paint it whole
    wraps: bool = False  # whether opposite edges meet

    @property
    def bleed(self) -> int:
        """Pixels that are painted beyond each edge and cut off at the end, as printers do. Beyond
        the edge the network sees the last pixels repeated, which leaves a faint line there;
        enlarged from stage to stage it would become a frame. 0 where opposite edges meet."""
        if self.count == 1 or self.wraps:
            return 0
        return BLEED * STAGE_FACTOR ** (self.number - 1)

    @property
    def outer_size(self) -> tuple[int, int]:
        """Height and width, including the bleed."""
        return self.height + 2 * self.bleed, self.width + 2 * self.bleed

    def image(self, picture: "tf.Tensor") -> "np.ndarray":
        """The picture [1, H, W, 3] of the outer size without its bleed: [H, W, 3] float32."""
        first = self.bleed
        return picture[0, first : first + self.height, first : first + self.width].numpy()


def plan(height: int, width: int, settings: Settings, has_initial: bool = False) -> list[Stage]:
    """The stages of a result of that size. A run with an initial picture has one stage, unless the
    settings say how many.

    Raises `UsageError` for more stages than the size or the number of steps allows, and for sides
    whose opposite edges cannot meet.
    """
    for side in (width, height):
        if settings.wraps and side % WRAPPED_UNIT:
            what = [SettingName("texture" if settings.texture else "content")]
            raise UsageError(*what, f" is {width}x{height}: ", *sizes.wrapped_advice(side))
    most_stages = min(_halvings(min(height, width)) + 1, settings.iterations.bit_length())
    if settings.scales == "off" or (settings.scales == "auto" and has_initial):
        count = 1
    elif settings.scales == "auto":
        count = min(1 + _halvings_of_auto(max(height, width), settings), most_stages)
    else:
        count = int(settings.scales)
        if count > most_stages:
            raise UsageError(
                SettingName("scales"),
                f" is {count} for {width}x{height} pixels and {settings.iterations} "
                f"iterations: use {most_stages} or fewer",
            )
    steps = _split(settings.iterations, count, max(height, width), settings)

    # where opposite edges meet, every pooling halves a side exactly
    unit = WRAPPED_UNIT if settings.wraps else COARSE_UNIT

    def side_of(length: int, number: int) -> int:
        if number == count or (number > 1 and not settings.wraps):
            return round(length / STAGE_FACTOR ** (count - number))
        coarsest = unit * max(1, round(length / unit / STAGE_FACTOR ** (count - 1)))
        return max(SMALLEST_SIDE, coarsest) * STAGE_FACTOR ** (number - 1)

    return [
        Stage(
            number,
            count,
            side_of(height, number),
            side_of(width, number),
            steps[number - 1],
            wraps=settings.wraps,
        )
        for number in range(1, count + 1)
    ]


def style_size(
    height: int,
    width: int,
    stage: Stage,
    last: Stage,
    settings: Settings,
    stroke: float | None = None,
) -> tuple[int, int]:
    """Height and width of a style at a stage; `height` and `width` are those at the last stage.

    A style that has no size in the settings, and is as large as the last picture or was too small
    to be enlarged to it, is at every stage as large as the picture, but never enlarged. Both sides
    shrink alike, and no side below `SMALLEST_SIDE`.

    stroke: the width of its strokes, in percent of its long side, where the settings ask for a size
    of strokes: at every stage it is as large as that makes it, but never enlarged.
    """
    if settings.style_stages == "fixed":
        return height, width
    share = stage.width / last.width
    if stroke is not None:
        share = sizes.for_strokes((height, width), (stage.height, stage.width), settings, stroke)
        return _shrunk(height, width, min(1.0, share))
    by_width = settings.style_fit == "width"
    side, side_at_stage, last_side = (
        sizes.side_of(size, by_width)
        for size in ((height, width), (stage.height, stage.width), (last.height, last.width))
    )
    is_free = settings.style_scales is None and settings.style_size is None
    if is_free and side < (1 + ROUNDING) * last_side:
        share = min(1.0, side_at_stage / side)
    return _shrunk(height, width, share)


def _shrunk(height: int, width: int, share: float) -> tuple[int, int]:
    """Both sides by the same share, and none below `SMALLEST_SIDE`."""
    share = max(share, min(1.0, SMALLEST_SIDE / min(height, width)))
    return max(SMALLEST_SIDE, round(height * share)), max(SMALLEST_SIDE, round(width * share))


def to_rows(plan: list[Stage]) -> list[list[int]]:
    """A plan as rows of numbers, for the state of a run: height, width, steps, and the tiles' side,
    where 0 stands for no tiles."""
    return [[stage.height, stage.width, stage.iterations, stage.tile or 0] for stage in plan]


def from_rows(rows: "Sequence[Sequence[int]] | np.ndarray", wraps: bool = False) -> list[Stage]:
    """The plan of `to_rows`. rows: integers [stages, 4]. wraps: whether opposite edges meet."""
    rows = [list(map(int, row)) for row in rows]
    return [
        Stage(number, len(rows), height, width, iterations, tile or None, wraps)
        for number, (height, width, iterations, tile) in enumerate(rows, 1)
    ]


def total_steps(plan: list[Stage]) -> int:
    return sum(stage.iterations for stage in plan)


def with_iterations(plan: list[Stage], settings: Settings) -> list[Stage]:
    """The plan with the settings' number of steps in all."""
    if settings.iterations == total_steps(plan):
        return plan
    side = max(plan[-1].height, plan[-1].width)
    steps = _split(settings.iterations, len(plan), side, settings)
    return [stage._replace(iterations=many) for stage, many in zip(plan, steps, strict=True)]


def depends_on_total_steps(settings: Settings) -> bool:
    """Whether each step depends on how many there are in all."""
    return settings.optimizer == "adam" and settings.of_adam("learning_rate_schedule") == "cosine"


def work_done(plan: list[Stage], steps: int) -> float:
    """The share of a plan's work that its first steps take, 0 to 1: the work of a step is
    proportional to its pixels."""
    done = total = 0
    for stage in plan:
        pixels, here = stage.height * stage.width, min(max(0, steps), stage.iterations)
        done, total = done + pixels * here, total + pixels * stage.iterations
        steps -= stage.iterations
    return done / total


def _halvings(side: int) -> int:
    """How often a side may be halved."""
    return int(math.log(side / SMALLEST_SIDE, STAGE_FACTOR))


def _halvings_of_auto(side: int, settings: Settings) -> int:
    """How often the long side of a result is halved, by default, to that of the first stage."""

    def halvings(coarsest: int) -> int:
        return max(0, round(math.log(side / coarsest, STAGE_FACTOR)))

    if settings.style_loss != "neighbors":
        return halvings(COARSEST_SIDE)
    # a small result is begun at half its size
    return halvings(COARSEST_SIDE_OF_NEIGHBORS) or min(1, halvings(COARSEST_SIDE_OF_NEIGHBORS // 2))


def _split(iterations: int, count: int, side: int, settings: Settings) -> list[int]:
    """The steps of each stage of a result with that long side, falling by `STEPS_FACTOR`: 300 in
    two stages are 176 and 124. With neighbors see `SHARE_OF_STEPS_LEFT`: 140 from 256 pixels on are
    85 and 55 in two stages, and 85, 34, 8 and 13 in four; from 128 pixels on 52 and 88."""
    if settings.style_loss == "neighbors":
        coarsest_side = side / STAGE_FACTOR ** (count - 1)
        is_large = coarsest_side >= COARSEST_SIDE_OF_NEIGHBORS / math.sqrt(STAGE_FACTOR)
        left = [iterations]
        wanted = iterations * (1 - SHARE_OF_STEPS_LEFT) ** (1 + is_large)
        for number in range(1, count):  # and at least one step each
            left.append(max(count - number, min(left[-1] - 1, round(wanted))))
            wanted *= SHARE_OF_STEPS_LEFT if number == 1 else 1 - SHARE_OF_STEPS_LEFT
        return [before - after for before, after in itertools.pairwise([*left, 0])]
    shares = [STEPS_FACTOR ** (count - number) for number in range(1, count + 1)]
    ends = [
        round(iterations * sum(shares[:number]) / sum(shares)) for number in range(1, count + 1)
    ]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
