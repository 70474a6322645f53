"""What optimizers have in common: their protocol, and their state as named tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from neural_style_tf.objective.evaluation import Evaluation, Objective

if TYPE_CHECKING:
    import tensorflow as tf

State = dict[str, "tf.Tensor"]


class Optimizer(Protocol):
    """What `stylize` asks of an optimizer. Pictures are [1, H, W, 3] float32 RGB, 0..255."""

    recovers: ClassVar[bool]  # goes back by itself where a loss is no finite number

    def init(self, picture: "tf.Tensor") -> State:
        """The state before the first step."""

    def rescale(self, state: State, picture: "tf.Tensor") -> State:
        """The state to go on with at the size of `picture`."""

    def step(
        self, objective: Objective, picture: "tf.Tensor", state: State
    ) -> "tuple[tf.Tensor, State, Evaluation]":
        """The next picture and state, and the evaluation of the picture that was given."""


def under(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state as a part of another: its names begin with the prefix."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def within(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a state that `under` put there."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
