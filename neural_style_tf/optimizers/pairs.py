"""Pairs: the steps and gradient changes that L-BFGS remembers, in its state."""

import tensorflow as tf

from neural_style_tf.optimizers import stacked
from neural_style_tf.optimizers.base import State

STACKS = "displacements", "gradient_changes"  # all pairs, [pairs, 1, H, W, 3], within a step

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


def remembered(
    has_new: tf.Tensor,
    displacement: tf.Tensor,
    change: tf.Tensor,
    curvature: tf.Tensor,
    pairs: State,
) -> State:
    """The pairs; with a new one in front and without the oldest, if there is a new one."""
    displacements, changes = of(pairs)
    new = {
        "curvatures": tf.concat([[curvature], pairs["curvatures"][:-1]], 0),
        **named([displacement, *displacements[:-1]], [change, *changes[:-1]]),
    }
    return stacked.taken(has_new, new, pairs)


def remembered_at_once(
    has_new: tf.Tensor,
    displacement: tf.Tensor,
    change: tf.Tensor,
    curvature: tf.Tensor,
    pairs: State,
) -> State:
    """The same, and the pairs as `STACKS`."""
    news = displacement, change
    stacks = [stacked.with_pair(has_new, *both) for both in zip(news, of(pairs), strict=True)]
    curvatures = tf.concat([[curvature], pairs["curvatures"][:-1]], 0)
    count = pairs["curvatures"].shape[0]
    return {
        "curvatures": tf.where(has_new, curvatures, pairs["curvatures"]),
        **named(*(tf.unstack(stack, count) for stack in stacks)),
        **dict(zip(STACKS, stacks, strict=True)),
    }
