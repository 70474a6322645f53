"""Pairs: the steps and gradient changes that L-BFGS remembers, in its state."""

from typing import NamedTuple

import tensorflow as tf

from neural_style_tf.optimizers import stacked
from neural_style_tf.optimizers.base import State

STACKS = "displacements", "gradient_changes"  # all pairs, [pairs, 1, H, W, 3], within a step


class Pair(NamedTuple):
    """A step, how the gradient changed, and their dot product."""

    displacement: tf.Tensor
    change: tf.Tensor
    curvature: tf.Tensor


# Every picture of the history is a tensor of its own, so that adding a pair copies none.


def names(pair: int) -> tuple[str, str]:
    return f"displacement_{pair}", f"gradient_change_{pair}"


def of(state: State) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The displacements and the changes of the gradient, newest first."""
    every = [names(pair) for pair in range(state["curvatures"].shape[0])]
    displacements, changes = zip(*every, strict=True)
    return [state[name] for name in displacements], [state[name] for name in changes]


def named(displacements: list[tf.Tensor], changes: list[tf.Tensor]) -> State:
    return {
        name: tensor
        for pair, both in enumerate(zip(displacements, changes, strict=True))
        for name, tensor in zip(names(pair), both, strict=True)
    }


def remembered(has_new: tf.Tensor, new: Pair, pairs: State) -> State:
    """The pairs; with a new one in front and without the oldest, if there is a new one."""
    displacements, changes = of(pairs)
    with_new = {
        "curvatures": _curvatures(new, pairs),
        **named([new.displacement, *displacements[:-1]], [new.change, *changes[:-1]]),
    }
    return stacked.taken(has_new, with_new, pairs)


def remembered_at_once(has_new: tf.Tensor, new: Pair, pairs: State) -> State:
    """The same, and the pairs as `STACKS`."""
    both = zip((new.displacement, new.change), of(pairs), strict=True)
    stacks = [stacked.with_pair(has_new, *parts) for parts in both]
    curvatures = pairs["curvatures"]
    return {
        "curvatures": tf.where(has_new, _curvatures(new, pairs), curvatures),
        **named(*(tf.unstack(stack, curvatures.shape[0]) for stack in stacks)),
        **dict(zip(STACKS, stacks, strict=True)),
    }


def _curvatures(new: Pair, pairs: State) -> tf.Tensor:
    """Those of all pairs once there is a new one."""
    return tf.concat([[new.curvature], pairs["curvatures"][:-1]], 0)
