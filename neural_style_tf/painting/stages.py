"""Stages: the size of the result and its steps -> the sizes to paint it at, from coarse to fine.

Features see some 200 pixels at most: strokes and shapes that are larger on the canvas come about on
a small picture, and a large one is left to refine. Gatys et al. 2017, "Controlling Perceptual
Factors in Neural Style Transfer", section 6.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.settings import SMALLEST_SIDE, Settings

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import ArrayLike

# Each stage has twice the sides of the one before, and fewer steps by the root of two: measured
# with benchmarks/quality.py, see docs/quality.md.
STAGE_FACTOR = 2
STEPS_FACTOR = math.sqrt(2)
BLEED = 4  # pixels at the first stage, by eye; see `Stage.bleed`
# Pixels: with "auto" the first stage's long side is as near to it as halving comes. Measured with
# benchmarks/quality.py, see docs/quality.md.
COARSEST_SIDE = 512


class Stage(NamedTuple):
    """A size that the picture is painted at, and for how many steps."""

    number: int  # from 1
    count: int  # of all stages
    height: int
    width: int
    iterations: int
    tile: int | None = None  # pixels a side of the tiles that it is painted in; None for whole

    @property
    def bleed(self) -> int:
        """Pixels that are painted beyond each edge, and cut off, as printers do. What the network
        sees beyond is the last pixels over again, which draws a line there: hardly to be seen, but
        enlarged from stage to stage it would be a frame."""
        return BLEED * STAGE_FACTOR ** (self.number - 1) if self.count > 1 else 0

    @property
    def outer_size(self) -> tuple[int, int]:
        """Height and width with the bleed."""
        return self.height + 2 * self.bleed, self.width + 2 * self.bleed

    def image(self, picture: "tf.Tensor") -> "np.ndarray":
        """A picture [1, H, W, 3] of the outer size without its bleed, as [H, W, 3]."""
        first = self.bleed
        return picture[0, first : first + self.height, first : first + self.width].numpy()


def plan(height: int, width: int, settings: Settings, has_initial: bool = False) -> list[Stage]:
    """The stages of a result of that size. A picture to start from is not made coarse again,
    unless told.

    Raises `UsageError` for more stages than size or steps allow.
    """
    most = min(_halvings(min(height, width)) + 1, settings.iterations.bit_length())
    if settings.scales == "off" or (settings.scales == "auto" and has_initial):
        count = 1
    elif settings.scales == "auto":
        near = round(math.log(max(height, width) / COARSEST_SIDE, STAGE_FACTOR))
        count = min(1 + max(0, near), most)
    else:
        count = int(settings.scales)
        if count > most:
            raise UsageError(
                SettingName("scales"),
                f" is {count} for {width}x{height} pixels and {settings.iterations} "
                f"iterations: use {most} or fewer",
            )
    steps = _split(settings.iterations, count)
    return [
        Stage(
            number,
            count,
            round(height / STAGE_FACTOR ** (count - number)),
            round(width / STAGE_FACTOR ** (count - number)),
            steps[number - 1],
        )
        for number in range(1, count + 1)
    ]


def style_size(
    height: int, width: int, stage: Stage, last: Stage, settings: Settings
) -> tuple[int, int]:
    """Height and width, at a stage, of a style that has these at the last.

    One that is narrower than the last picture, and not by a scale asked for, is too small to be
    enlarged so far: at every stage it is as wide as the picture, as long as it need not grow.
    """
    if settings.style_stages == "fixed":
        return height, width
    share = stage.width / last.width
    if settings.style_scales is None and width < last.width:
        share = min(1.0, stage.width / width)
    return max(SMALLEST_SIDE, round(height * share)), max(SMALLEST_SIDE, round(width * share))


def to_rows(plan: list[Stage]) -> list[list[int]]:
    """A plan as rows of numbers, for the state of a run: height, width, steps, and the tiles' side,
    where 0 stands for no tiles."""
    return [[stage.height, stage.width, stage.iterations, stage.tile or 0] for stage in plan]


def from_rows(rows: "ArrayLike") -> list[Stage]:
    """The plan of `to_rows`. rows: integers [stages, 4]."""
    rows = [list(map(int, row)) for row in rows]
    return [
        Stage(number, len(rows), height, width, iterations, tile or None)
        for number, (height, width, iterations, tile) in enumerate(rows, 1)
    ]


def total_steps(plan: list[Stage]) -> int:
    return sum(stage.iterations for stage in plan)


def with_iterations(plan: list[Stage], iterations: int) -> list[Stage]:
    """The plan with another number of steps in all."""
    if iterations == total_steps(plan):
        return plan
    steps = _split(iterations, len(plan))
    return [stage._replace(iterations=many) for stage, many in zip(plan, steps, strict=True)]


def depends_on_total_steps(settings: Settings) -> bool:
    """Whether each step depends on how many there are in all."""
    return settings.optimizer == "adam" and settings.learning_rate_schedule == "cosine"


def work_done(plan: list[Stage], steps: int) -> float:
    """The share of a plan's work that its first steps are: a step costs what it has pixels."""
    done = total = 0
    for stage in plan:
        pixels, here = stage.height * stage.width, min(max(0, steps), stage.iterations)
        done, total = done + pixels * here, total + pixels * stage.iterations
        steps -= stage.iterations
    return done / total


def _halvings(side: int) -> int:
    """How often a side may be divided."""
    return int(math.log(side / SMALLEST_SIDE, STAGE_FACTOR))


def _split(iterations: int, count: int) -> list[int]:
    """The steps of each stage, falling: 300 in two stages are 176 and 124."""
    shares = [STEPS_FACTOR ** (count - number) for number in range(1, count + 1)]
    ends = [
        round(iterations * sum(shares[:number]) / sum(shares)) for number in range(1, count + 1)
    ]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
