"""Masks at the size of each layer's features."""

import math
from collections.abc import Mapping

import tensorflow as tf


def at_layers(
    mask: tf.Tensor | None, reach: Mapping[str, tuple[int, int]]
) -> dict[str, tf.Tensor] | None:
    """A mask [1, H, W, masks], 0..1, averaged over the pixels that poolings join at each layer.

    reach: `Passes.reach()`, by layer. Returns None if the mask is None.
    """
    if mask is None:
        return None
    levels = [tf.convert_to_tensor(mask)]
    for _ in range(int(math.log2(max(stride for stride, _ in reach.values())))):
        levels.append(tf.nn.avg_pool2d(levels[-1], 2, 2, "SAME"))
    return {name: levels[int(math.log2(stride))] for name, (stride, _) in reach.items()}
