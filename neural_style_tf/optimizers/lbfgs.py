"""L-BFGS: pairs of steps and gradient changes -> steps that know the curvature of the loss."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf
from numpy.typing import ArrayLike

from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.objective import graphs
from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.optimizers.base import State, under, within
from neural_style_tf.optimizers.preconditioner import Filter

HISTORY = 30  # pairs that L-BFGS remembers
HISTORY_BYTES = 600 << 20  # that they may take, but for one: two of 13 megapixels
FILTER = "filter_"  # begins the names of what the filter knows
LEAST_CURVATURE = 1e-10  # of a pair that L-BFGS remembers: it has to curve upwards


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Nocedal and Wright 2006, algorithm 7.5) of unit steps: one step, one evaluation.

    Differs from the book in four ways:
    - The inverse Hessian to start from is no multiple of the identity but one of a filter
      (preconditioning): large shapes are slow to come otherwise. Measured at 256x192: with a fixed
      low-pass the loss was 19 % lower after 25 evaluations; what is learnt from the pairs makes it
      16 % lower again. With it two pairs are nearly enough: 20 steps into the last stage of a large
      picture the loss was 5 % above that of thirty. Of a very large one there is room for one pair
      and no filter: 57 % above.
    - No line search. Instead no step moves the pixels by more than `longest_step` in the mean;
      and a loss that is no finite number, or more than twice the best, forgets the history and
      goes back to the best picture.
    - The first step moves them by one grey level in the mean, the first after going back by half
      a level, and by half as much each time that it was in vain.
    - Every step is clipped to the valid range, and what is remembered of it is what the clipping
      left. Pixels that the bounds hold take no part in the next direction: measured after 80
      to 120 steps, the loss was 13 % lower so on a picture with much pure black and white, and 0
      to 1.5 % on others.

    The state holds 2 * history + 4 pictures, with one pair 4. A pair is known one step late, with
    its second gradient: so the last picture and gradient are kept.
    """

    recovers: ClassVar[bool] = True

    history: int = HISTORY  # pairs
    low: float = 0.0
    high: float = 255.0
    # Grey levels. One pair is too little to tell how far to go: measured from noise at 192x128,
    # the loss after 25 evaluations was 13 to 67 % lower with this than without a limit.
    longest_step: float = 4.0
    corner: float | None = 0.03  # of the low-pass, in cycles a pixel; None for no filter
    learnt: float = 0.7  # what the pairs have to say in the filter; 0 leaves the low-pass
    fading: float = 0.9

    @property
    def _filter(self) -> Filter | None:
        if self.corner is None or self.history == 1:
            return None
        return Filter(self.corner, self.learnt, self.fading)

    def init(self, picture: tf.Tensor) -> State:
        return self._no_pairs(picture) | {
            "picture": tf.identity(picture),  # where the last step set out from
            "gradient": tf.zeros_like(picture),
            "best_picture": tf.identity(picture),
            "best_gradient": tf.zeros_like(picture),
            "best_loss": tf.constant(math.inf),
            "first_length": tf.ones(()),  # grey levels, of a step without history
            **({} if self._filter is None else under(FILTER, self._filter.init())),
        }

    def _no_pairs(self, picture: tf.Tensor) -> State:
        """Of the one pair of a very large picture this is all that the state ever holds: it is made
        and used within a step."""
        nothing = tf.zeros([1, 1, 1, 3]) if self.history == 1 else tf.zeros_like(picture)
        pairs = [name for pair in range(self.history) for name in _names(pair)]
        # pair 0 is the newest; curvatures are their products, 0 where there is no pair
        return dict.fromkeys(pairs, nothing) | {"curvatures": tf.zeros([self.history])}

    def rescale(self, state: State, picture: tf.Tensor) -> State:
        """Begins anew: displacements between two sizes are none."""
        return self.init(picture)

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        evaluation = objective(picture)
        made, state = self.moved(picture, evaluation, dict(state))
        return made, state, evaluation

    def moved(
        self, picture: tf.Tensor, evaluation: Evaluation, state: State
    ) -> tuple[tf.Tensor, State]:
        """The next picture and state. Of a large picture `state` itself becomes the one at the
        picture on the way."""
        grid = self._grid(picture)
        gradient, loss = evaluation.gradient, evaluation.losses["total"]
        if picture.shape.num_elements() < graphs.LARGE_PICTURE:
            picture, state = self._run(self._update, picture, gradient, loss, state, grid)
        else:  # by halves: what the first leaves behind is gone when the second runs
            arrived, has_new = self._run(self._arrived, picture, gradient, loss, state)
            state.clear()
            state.update(arrived)
            del arrived
            picture, learnt = self._run(self._moved, state, has_new, grid)
            state |= learnt
        if self.history == 1:
            state |= self._no_pairs(picture)
        return picture, state

    def shorter(self, state: State, picture: tf.Tensor) -> "tuple[LBFGS, State]":
        """The same with half as many pairs, and what is left of a state then."""
        optimizer = dataclasses.replace(self, history=self.history // 2)
        names = optimizer.init(picture).keys()
        state = {name: tensor for name, tensor in state.items() if name in names}
        if optimizer.history == 1:
            return optimizer, state | optimizer._no_pairs(picture)
        return optimizer, state | {"curvatures": state["curvatures"][: optimizer.history]}

    def _update(
        self, picture: tf.Tensor, gradient: tf.Tensor, loss: tf.Tensor, state: State, grid: State
    ) -> tuple[tf.Tensor, State]:
        """The next picture and state."""
        state, has_new = self._arrived(picture, gradient, loss, state)
        picture, learnt = self._moved(state, has_new, grid)
        return picture, state | learnt

    def _run(self, method: Callable, *given: tf.Tensor | State) -> Any:
        """What a method of this makes of those, by its graph: one for pictures of every size."""
        graph = graphs.get(
            LBFGS,
            (method.__name__, self),
            (),
            lambda: tf.function(
                method,
                input_signature=tf.nest.map_structure(_any_size, given),
                autograph=False,
            ),
        )
        return graph(*given)

    def _grid(self, picture: tf.Tensor) -> State:
        """What the filter knows of that size: made from it again, and no part of the state."""
        if self._filter is None:
            return {}
        make = functools.partial(self._filter.grid, *picture.shape[1:3])
        return under(FILTER, graphs.get(Filter, ("grid", self._filter), picture.shape, make))

    def _arrived(
        self, picture: tf.Tensor, gradient: tf.Tensor, loss: tf.Tensor, state: State
    ) -> tuple[State, tf.Tensor]:
        """The state at the picture, with the pair that led there; or where this is no place to go
        on from, at the best one, without history. And whether there is a new pair."""
        displacement, change = picture - state["picture"], gradient - state["gradient"]
        dot = _dot if self.history > 1 else _dot_by_rows
        curvature = dot(displacement, change)
        is_sound = _is_sound(gradient, loss, state["best_loss"])
        is_best = is_sound & (loss < state["best_loss"])
        has_new = is_sound & (curvature > LEAST_CURVATURE)
        # pictures are chosen by `tf.cond`, which copies none
        pairs = {"curvatures": state["curvatures"]} | _named(*_pairs(state))
        pairs = tf.cond(
            has_new, lambda: _remembered(displacement, change, curvature, pairs), lambda: pairs
        )
        here = picture, gradient, loss
        best = state["best_picture"], state["best_gradient"], state["best_loss"]
        best = tf.cond(is_best, lambda: here, lambda: best)
        picture, gradient, _ = tf.cond(is_sound, lambda: here, lambda: best)
        best_picture, best_gradient, best_loss = best
        length = state["first_length"]
        arrived = {
            "picture": picture,
            "gradient": gradient,
            "best_picture": best_picture,
            "best_gradient": best_gradient,
            "best_loss": best_loss,
            "curvatures": tf.where(is_sound, pairs["curvatures"], 0.0),
            # in vain again: half of it, for otherwise the step would be the same one
            "first_length": tf.where(is_best, 1.0, tf.where(is_sound, length, length / 2)),
        }
        return state | pairs | arrived, has_new

    def _moved(self, state: State, has_new: tf.Tensor, grid: State) -> tuple[tf.Tensor, State]:
        """The next picture; and what the filter knows now, of a new pair, too."""
        learnt = self._learnt(state | grid, has_new)
        state = state | learnt | grid
        free = self._free(state["picture"], state["gradient"])
        gradient = tf.where(free, state["gradient"], 0.0)
        direction = tf.where(free, self._direction(state | {"gradient": gradient}), 0.0)
        direction = self._shortened(direction)
        return tf.clip_by_value(state["picture"] + direction, self.low, self.high), learnt

    def _learnt(self, state: State, has_new: tf.Tensor) -> State:
        if self._filter is None:
            return {}
        known, (displacement, change) = _known(state), (state[name] for name in _names(0))
        learnt = tf.cond(
            has_new,
            lambda: self._filter.learn(known, displacement, change),
            lambda: {name: known[name] for name in self._filter.init()},
        )
        return under(FILTER, learnt)

    def _free(self, picture: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Which values are free to move: all but those at a bound that the gradient drives out of
        the range."""
        return ((picture > self.low) | (gradient <= 0)) & ((picture < self.high) | (gradient >= 0))

    def _direction(self, state: State) -> tf.Tensor:
        """Minus the inverse Hessian times the gradient (algorithm 7.4, the two-loop recursion).

        Where there is no pair, its inverse curvature of 0 leaves both loops as they are.
        """
        displacements, changes = _pairs(state)
        inverses = tf.unstack(tf.math.divide_no_nan(1.0, state["curvatures"]))
        shares = {}
        direction = state["gradient"]
        for pair in range(self.history):  # from the newest
            shares[pair] = inverses[pair] * _dot(displacements[pair], direction)
            direction -= shares[pair] * changes[pair]
        direction = self._filtered(state, direction)
        direction *= self._first_scale(state, direction)
        for pair in reversed(range(self.history)):
            share = inverses[pair] * _dot(changes[pair], direction)
            direction += (shares[pair] - share) * displacements[pair]
        return -direction

    def _first_scale(self, state: State, direction: tf.Tensor) -> tf.Tensor:
        """What the filter is multiplied by to start from: as eq. 7.20 does the identity, or
        without history so that the step in that direction has its first length."""
        curvature = state["curvatures"][0]
        return tf.cond(
            curvature > 0,
            lambda: curvature / self._norm(state, state[_names(0)[1]]),
            lambda: tf.math.divide_no_nan(state["first_length"], tf.reduce_mean(tf.abs(direction))),
        )

    def _filtered(self, state: State, picture: tf.Tensor) -> tf.Tensor:
        return self._filter.apply(_known(state), picture) if self._filter else picture

    def _norm(self, state: State, picture: tf.Tensor) -> tf.Tensor:
        if self._filter is None:
            return _dot(picture, picture)
        return self._filter.norm(_known(state), picture)

    def _shortened(self, direction: tf.Tensor) -> tf.Tensor:
        length = tf.reduce_mean(tf.abs(direction))  # grey levels
        return direction * tf.minimum(1.0, tf.math.divide_no_nan(self.longest_step, length))


class ShorterWhenFull:
    """L-BFGS that remembers fewer pairs from the moment on when memory runs out."""

    recovers: ClassVar[bool] = True

    def __init__(self, optimizer: LBFGS):
        self._optimizer = optimizer

    def init(self, picture: tf.Tensor) -> State:
        return self._optimizer.init(picture)

    def rescale(self, state: State, picture: tf.Tensor) -> State:
        return self._optimizer.rescale(state, picture)

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        evaluation, state = objective(picture), dict(state)
        while True:
            try:
                made, state = self._optimizer.moved(picture, evaluation, state)
                return made, state, evaluation
            except tf.errors.ResourceExhaustedError:
                if self._optimizer.history == 1:
                    raise
            self._optimizer, state = self._optimizer.shorter(state, picture)
            LOGGER.warning(
                "out of memory: L-BFGS remembers %d steps from now on, and needs more of them",
                self._optimizer.history,
            )


def _any_size(tensor: tf.Tensor) -> tf.TensorSpec:
    """A picture, spectrum or other tensor as a graph for every size of picture has to know it."""
    shape = {4: [1, None, None, 3], 2: [None, None]}.get(tensor.shape.rank, tensor.shape)
    return tf.TensorSpec(shape, tensor.dtype)


def history_in(state: Mapping[str, ArrayLike]) -> int:
    """The pairs that a state of L-BFGS remembers."""
    return len(state["curvatures"])


def history_of(height: int, width: int) -> int:
    """The pairs to remember of pictures of that size: of large ones fewer, or they would take more
    memory than all else."""
    return max(1, min(HISTORY, HISTORY_BYTES // (2 * 12 * height * width)))


# Every picture of the history is a tensor of its own: to move them on by one copies none.


def _names(pair: int) -> tuple[str, str]:
    return f"displacement_{pair}", f"gradient_change_{pair}"


def _pairs(state: State) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The displacements and the changes of the gradient, from the newest."""
    names = [_names(pair) for pair in range(state["curvatures"].shape[0])]
    displacements, changes = zip(*names, strict=True)
    return [state[name] for name in displacements], [state[name] for name in changes]


def _named(displacements: list[tf.Tensor], changes: list[tf.Tensor]) -> State:
    return {
        name: tensor
        for pair, both in enumerate(zip(displacements, changes, strict=True))
        for name, tensor in zip(_names(pair), both, strict=True)
    }


def _remembered(
    displacement: tf.Tensor, change: tf.Tensor, curvature: tf.Tensor, pairs: State
) -> State:
    """The pairs with that one as the newest, the oldest gone."""
    displacements, changes = _pairs(pairs)
    return {
        "curvatures": tf.concat([[curvature], pairs["curvatures"][:-1]], 0),
        **_named([displacement, *displacements[:-1]], [change, *changes[:-1]]),
    }


def _known(state: State) -> State:
    """What the filter knows."""
    return within(FILTER, state)


def _is_sound(gradient: tf.Tensor, loss: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
    """Whether a step led somewhere to go on from: finite, and no loss above twice the best.

    Written for losses of either sign.
    """
    finite = tf.math.is_finite(loss) & tf.reduce_all(tf.math.is_finite(gradient))
    return finite & (loss <= best + tf.abs(best))


def _dot(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(one * other)  # four times as fast as a product of matrices


def _dot_by_rows(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """The same with no room for another picture, slower."""
    rows = (tf.reshape(picture, [tf.shape(picture)[1], -1]) for picture in (one, other))
    return tf.reduce_sum(tf.einsum("hi,hi->h", *rows))
