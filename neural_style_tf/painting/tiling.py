"""Tiling: which stages are painted in tiles, and how large these are."""

from collections.abc import Sequence

import tensorflow as tf

from neural_style_tf.network import vgg
from neural_style_tf.objective import memory
from neural_style_tf.optimizers import lbfgs
from neural_style_tf.painting import stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.settings import Settings

# Pictures [H, W, 3] float32 that a run holds besides its features, without the pairs of L-BFGS:
# estimates with some reserve. SciPy's L-BFGS-B holds its vectors in float64.
PICTURES_BESIDE = {"adam": 20, "lbfgs": 20, "l-bfgs-b": 80}


def in_tiles(
    plan: list[Stage],
    network: vgg.Network,
    styles: list[tuple[int, int]],
    settings: Settings,
    dtype: tf.DType,
    strokes: Sequence[float | None],
) -> list[Stage]:
    """The stages, each with the size of its tiles. styles: height and width of each painting at the
    last stage. strokes: of each, as for `stages.style_size`."""

    def tile(stage: Stage) -> int | None:
        scaled = [
            stages.style_size(*size, stage, plan[-1], settings, stroke)
            for size, stroke in zip(styles, strokes, strict=True)
        ]
        return choose_size(network, [stage.outer_size, *scaled], settings, dtype)

    return [stage._replace(tile=tile(stage)) for stage in plan]


def choose_size(
    network: vgg.Network, sizes: list[tuple[int, int]], settings: Settings, dtype: tf.DType
) -> int | None:
    """`memory.choose_size` for a run with the optimizer of the settings."""
    beside = PICTURES_BESIDE[settings.optimizer]
    if settings.optimizer == "lbfgs":
        beside += 2 * lbfgs.history_of(*sizes[0])
    return memory.choose_size(network, sizes, settings, dtype, beside)
