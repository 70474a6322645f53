"""What optimizers have in common: their protocol, and their state as named tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from neural_style_tf.objective.evaluation import Evaluation, Objective

if TYPE_CHECKING:
    import tensorflow as tf

State = dict[str, "tf.Tensor"]


class Optimizer(Protocol):
    """What `stylize` asks of an optimizer. Pictures are [1, H, W, 3] float32 RGB, 0..255."""

    recovers: ClassVar[bool]  # whether it returns to a good picture after a loss that is not finite

    def init(self, picture: "tf.Tensor") -> State:
        """The state before the first step."""

    def rescale(self, state: State, picture: "tf.Tensor") -> State:
        """The state to continue with at the size of `picture`, which may be another."""

    def step(
        self, objective: Objective, picture: "tf.Tensor", state: State
    ) -> "tuple[tf.Tensor, State, Evaluation]":
        """The next picture and state, and the evaluation of `picture`. Leaves `state` as it is."""


def under(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state as a part of another: the prefix is put before its names."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def within(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a state that `under` put there."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
