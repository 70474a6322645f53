"""Step: what a run reports after each of its steps. Imports no TensorFlow, for those that watch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.painting.stages import Stage

if TYPE_CHECKING:
    import numpy as np

MATCHES = "matches"  # in a state: which columns its places take, with `style_loss="neighbors"`
LOSSES = ("content", "style", "tv", "total")  # the names of what `Step.losses` returns


class Step(NamedTuple):
    """What `on_step` is called with. Calling `losses`, `image` or `state` waits for the device."""

    iteration: int | None  # from 0; None at the end, when the best picture has been chosen
    total: int
    stage: Stage
    seconds: float  # since the first step began
    losses: Callable[[], dict[str, float]]  # of the picture that the step began with
    image: "Callable[[], np.ndarray]"  # as it stands: [H, W, 3] float32 RGB, 0..255, of the stage
    state: Callable[[], Mapping[str, Any]]  # named tensors, for `resume` to go on from here
