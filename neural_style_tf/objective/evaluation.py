"""The types of an objective, all that optimizers know of it: picture -> evaluation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import tensorflow as tf


class Evaluation(NamedTuple):
    """The losses of a picture [1, H, W, 3] float32 RGB, 0..255, and their gradient."""

    gradient: "tf.Tensor"  # [1, H, W, 3] float32, d total / d picture
    losses: "dict[str, tf.Tensor]"  # weighted float32 scalars: content, style, tv, total


Objective = Callable[["tf.Tensor"], Evaluation]
