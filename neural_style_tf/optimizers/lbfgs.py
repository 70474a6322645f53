"""L-BFGS: pairs of steps and gradient changes -> steps that know the curvature of the loss."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from neural_style_tf.machine import memory, precision
from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.network import device
from neural_style_tf.objective import graphs
from neural_style_tf.objective.evaluation import Evaluation, Objective
from neural_style_tf.optimizers import pairs, stacked
from neural_style_tf.optimizers.base import State, under, within
from neural_style_tf.optimizers.preconditioner import Preconditioner

HISTORY = 30  # pairs that L-BFGS remembers
HISTORY_BYTES = 600 << 20  # for all pairs after the first: two pairs of 13 megapixels
PRECONDITIONER = "filter_"  # prefix of its statistics in a state; saved runs have it
LEAST_CURVATURE = 1e-10  # of a pair to remember: the loss has to curve upwards along it


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Nocedal and Wright 2006, algorithm 7.5) with unit steps: one evaluation per step.

    Differs from the book in four ways:
    - The inverse Hessian to start from is a multiple of a preconditioner, not of the identity:
      large shapes appear sooner. Measured at 256x192: with a fixed low-pass the loss was 19 % lower
      after 25 evaluations, and another 16 % with what is learnt from the pairs. With it two pairs
      nearly suffice: 20 steps into the last stage of a large picture the loss was 5 % higher than
      with thirty. A very large one has memory for one pair and no preconditioner: 57 % higher.
    - No line search. Instead no step moves the pixels by more than `longest_step` on average; and
      after a loss that is not finite, or more than twice the best, the history is dropped and the
      next step starts from the best picture.
    - The first step moves the pixels by one grey level on average. The first step after going back
      moves them by half a level, and by half of that each time it has to go back again.
    - Every step is clipped to the valid range, and the clipped step is remembered. Pixels that the
      bounds hold are left out of the next direction: measured after 80 to 120 steps, that lowers
      the loss by 13 % on a picture with much pure black and white, and by 0 to 1.5 % on others.

    The state holds 2 * history + 4 pictures; 4 if history is 1. A pair is complete one step later,
    when its second gradient is known, so the state holds the last picture and gradient, too.
    """

    recovers: ClassVar[bool] = True

    history: int = HISTORY  # pairs
    low: float = 0.0
    high: float = 255.0
    # Grey levels. A single pair says too little of how far to go: measured from noise at 192x128,
    # the loss after 25 evaluations was 13 to 67 % lower than without a limit.
    longest_step: float = 4.0
    corner: float | None = 0.03  # of the low-pass, cycles per pixel; None for no preconditioner
    learnt: float = 0.7  # weight of the pairs in the preconditioner; with 0 it is the low-pass
    fading: float = 0.9

    @property
    def _preconditioner(self) -> Preconditioner | None:
        if self.corner is None or self.history == 1:
            return None
        return Preconditioner(self.corner, self.learnt, self.fading)

    def init(self, picture: tf.Tensor) -> State:
        return self._no_pairs(picture) | {
            "picture": tf.identity(picture),  # that the last step started from
            "gradient": tf.zeros_like(picture),
            "best_picture": tf.identity(picture),
            "best_gradient": tf.zeros_like(picture),
            "best_loss": tf.constant(math.inf),
            "first_length": tf.ones(()),  # of a step without history, grey levels
            **self._no_statistics(),
        }

    def _no_pairs(self, picture: tf.Tensor) -> State:
        """An empty history. A single pair, of a very large picture, exists only within a step: in
        the state it is always empty."""
        nothing = tf.zeros([1, 1, 1, 3]) if self.history == 1 else tf.zeros_like(picture)
        every = [name for pair in range(self.history) for name in pairs.names(pair)]
        # pair 0 is the newest; the curvature of a pair is its dot product, 0 if it is empty
        return dict.fromkeys(every, nothing) | {"curvatures": tf.zeros([self.history])}

    def _no_statistics(self) -> State:
        preconditioner = self._preconditioner
        return under(PRECONDITIONER, preconditioner.init()) if preconditioner else {}

    def rescale(self, state: State, picture: tf.Tensor) -> State:
        """Starts again: displacements at different sizes do not compare."""
        return self.init(picture)

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        evaluation = objective(picture)
        moved, state = self.moved(picture, evaluation, dict(state))
        return moved, state, evaluation

    def moved(
        self, picture: tf.Tensor, evaluation: Evaluation, state: State
    ) -> tuple[tf.Tensor, State]:
        """The next picture and state. For a large picture `state` is changed on the way, so that
        only one state exists."""
        grid = self._grid(picture)
        gradient, loss = evaluation.gradient, evaluation.losses["total"]
        if picture.shape.num_elements() < graphs.LARGE_PICTURE:
            picture, state = self._run(self._update, picture, gradient, loss, state, grid)
        else:  # in two halves: temporary pictures of the first are released before the second
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
        """The same optimizer with half as many pairs, and that part of the state."""
        optimizer = dataclasses.replace(self, history=self.history // 2)
        oldest = range(optimizer.history, self.history)
        forgotten = {name for pair in oldest for name in pairs.names(pair)}
        state = {name: tensor for name, tensor in state.items() if name not in forgotten}
        if optimizer.history == 1:
            state = {name: state[name] for name in state if not name.startswith(PRECONDITIONER)}
            return optimizer, state | optimizer._no_pairs(picture)
        return optimizer, state | {"curvatures": state["curvatures"][: optimizer.history]}

    def _update(
        self, picture: tf.Tensor, gradient: tf.Tensor, loss: tf.Tensor, state: State, grid: State
    ) -> tuple[tf.Tensor, State]:
        """The next picture and state."""
        at_once = device.is_gpu() and self.history > 1
        state, has_new = self._arrived(picture, gradient, loss, state, at_once)
        picture, learnt = self._moved(state, has_new, grid)
        return picture, {name: state[name] for name in state if name not in pairs.STACKS} | learnt

    def _run(self, method: Callable, *arguments: tf.Tensor | State) -> Any:
        """Calls a method through its graph: there is one for pictures of every size."""
        graph = graphs.get(
            LBFGS,
            (method.__name__, self),
            (),
            lambda: tf.function(
                method,
                input_signature=tf.nest.map_structure(_any_size, arguments),
                autograph=False,
            ),
        )
        with precision.without_tf32():  # its products of pairs need the digits
            return graph(*arguments)

    def _grid(self, picture: tf.Tensor) -> State:
        """The constants of the preconditioner for that size of picture, which no state holds."""
        preconditioner = self._preconditioner
        if preconditioner is None:
            return {}
        make = functools.partial(preconditioner.grid, *picture.shape[1:3])
        grid = graphs.get(Preconditioner, ("grid", preconditioner), picture.shape, make)
        return under(PRECONDITIONER, grid)

    def _arrived(
        self,
        picture: tf.Tensor,
        gradient: tf.Tensor,
        loss: tf.Tensor,
        state: State,
        at_once: bool = False,
    ) -> tuple[State, tf.Tensor]:
        """The state after evaluating `picture`, with the pair that led there; or if that was a step
        to take back, at the best picture without history. Also whether there is a new pair.

        at_once: whether to copy pictures rather than wait for what is chosen, and to add
            `pairs.STACKS`.
        """
        choose = stacked.chosen if at_once else stacked.taken
        displacement, change = picture - state["picture"], gradient - state["gradient"]
        dot = _dot if self.history > 1 else _dot_by_rows
        curvature = dot(displacement, change)
        is_sound = _is_sound(gradient, loss, state["best_loss"])
        is_best = is_sound & (loss < state["best_loss"])
        has_new = is_sound & (curvature > LEAST_CURVATURE)
        history = {"curvatures": state["curvatures"]} | pairs.named(*pairs.of(state))
        remember = pairs.remembered_at_once if at_once else pairs.remembered
        new = pairs.Pair(displacement, change, curvature)
        history = remember(has_new, new, history)
        here = picture, gradient, loss
        best = state["best_picture"], state["best_gradient"], state["best_loss"]
        best = choose(is_best, here, best)
        picture, gradient, _ = choose(is_sound, here, best)
        best_picture, best_gradient, best_loss = best
        length = state["first_length"]
        arrived = {
            "picture": picture,
            "gradient": gradient,
            "best_picture": best_picture,
            "best_gradient": best_gradient,
            "best_loss": best_loss,
            "curvatures": tf.where(is_sound, history["curvatures"], 0.0),
            # going back again: half of it, or the step would be the same as before
            "first_length": tf.where(is_best, 1.0, tf.where(is_sound, length, length / 2)),
        }
        return state | history | arrived, has_new

    def _moved(self, state: State, has_new: tf.Tensor, grid: State) -> tuple[tf.Tensor, State]:
        """The next picture, and the statistics of the preconditioner with the new pair."""
        learnt = self._learnt(state | grid, has_new)
        state = state | learnt | grid
        free = self._free(state["picture"], state["gradient"])
        gradient = tf.where(free, state["gradient"], 0.0)
        direction = tf.where(free, self._direction(state | {"gradient": gradient}), 0.0)
        direction = self._shortened(direction)
        return tf.clip_by_value(state["picture"] + direction, self.low, self.high), learnt

    def _learnt(self, state: State, has_new: tf.Tensor) -> State:
        if self._preconditioner is None:
            return {}
        statistics = _statistics(state)
        displacement, change = (state[name] for name in pairs.names(0))
        preconditioner = self._preconditioner
        known = {name: statistics[name] for name in preconditioner.init()}
        if pairs.STACKS[0] in state:
            learnt = preconditioner.learn(statistics, displacement, change)
            return under(PRECONDITIONER, stacked.chosen(has_new, learnt, known))
        learnt = tf.cond(
            has_new, lambda: preconditioner.learn(statistics, displacement, change), lambda: known
        )
        return under(PRECONDITIONER, learnt)

    def _free(self, picture: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Which values may move: all except those at a bound that the gradient would move beyond
        it."""
        return ((picture > self.low) | (gradient <= 0)) & ((picture < self.high) | (gradient >= 0))

    def _direction(self, state: State) -> tf.Tensor:
        """Minus the inverse Hessian times the gradient (algorithm 7.4, the two-loop recursion).

        An empty pair has an inverse curvature of 0, with which neither loop changes anything.
        """
        if pairs.STACKS[0] in state:
            return self._direction_at_once(state)
        displacements, changes = pairs.of(state)
        inverses = tf.unstack(tf.math.divide_no_nan(1.0, state["curvatures"]))
        shares = {}
        direction = state["gradient"]
        for pair in range(self.history):  # from the newest
            shares[pair] = inverses[pair] * _dot(displacements[pair], direction)
            direction -= shares[pair] * changes[pair]
        direction = self._preconditioned(state, direction)
        direction *= self._first_scale(state, direction)
        for pair in reversed(range(self.history)):
            share = inverses[pair] * _dot(changes[pair], direction)
            direction += (shares[pair] - share) * displacements[pair]
        return -direction

    def _direction_at_once(self, state: State) -> tf.Tensor:
        """The same from stacks."""

        def precondition(picture: tf.Tensor) -> tf.Tensor:
            picture = self._preconditioned(state, picture)
            return picture * self._first_scale(state, picture)

        displacements, changes = (stacked.rows(state[name]) for name in pairs.STACKS)
        gradient = state["gradient"]
        return -stacked.direction(
            displacements, changes, state["curvatures"], gradient, precondition
        )

    def _first_scale(self, state: State, direction: tf.Tensor) -> tf.Tensor:
        """The scale of the preconditioner: with history as in eq. 7.20, otherwise such that the
        step in that direction has its first length."""
        curvature = state["curvatures"][0]

        def with_history() -> tf.Tensor:
            return curvature / self._norm(state, state[pairs.names(0)[1]])

        def first() -> tf.Tensor:
            return tf.math.divide_no_nan(state["first_length"], tf.reduce_mean(tf.abs(direction)))

        if pairs.STACKS[0] in state:
            return tf.where(curvature > 0, with_history(), first())
        return tf.cond(curvature > 0, with_history, first)

    def _preconditioned(self, state: State, picture: tf.Tensor) -> tf.Tensor:
        if self._preconditioner is None:
            return picture
        return self._preconditioner.apply(_statistics(state), picture)

    def _norm(self, state: State, picture: tf.Tensor) -> tf.Tensor:
        if self._preconditioner is None:
            return _dot(picture, picture)
        return self._preconditioner.norm(_statistics(state), picture)

    def _shortened(self, direction: tf.Tensor) -> tf.Tensor:
        length = tf.reduce_mean(tf.abs(direction))  # grey levels
        return direction * tf.minimum(1.0, tf.math.divide_no_nan(self.longest_step, length))


class ShorterWhenFull:
    """L-BFGS that remembers half as many pairs each time memory runs out."""

    recovers: ClassVar[bool] = True

    def __init__(self, optimizer: LBFGS):
        self._optimizer = optimizer

    def init(self, picture: tf.Tensor) -> State:
        while True:
            try:
                return self._optimizer.init(picture)
            except Exception as error:
                if not memory.ran_out(error) or self._optimizer.history == 1:
                    raise
            self._optimizer = dataclasses.replace(
                self._optimizer, history=self._optimizer.history // 2
            )
            self._report()

    def rescale(self, state: State, picture: tf.Tensor) -> State:
        return self.init(picture)  # as that of L-BFGS

    def step(
        self, objective: Objective, picture: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State, Evaluation]:
        evaluation, state = objective(picture), dict(state)
        while True:
            try:
                moved, state = self._optimizer.moved(picture, evaluation, state)
                return moved, state, evaluation
            except Exception as error:
                if not memory.ran_out(error) or self._optimizer.history == 1:
                    raise
            state = self.shortened(state, picture)

    def spare_bytes(self, state: State) -> int:
        """Bytes of the pairs that it remembers, without one, which it needs."""
        pairs = int(tf.math.count_nonzero(state["curvatures"]))
        return max(0, pairs - 1) * 2 * 4 * state["picture"].shape.num_elements()

    def shortened(self, state: State, picture: tf.Tensor) -> State:
        """Half as many pairs from now on, of a history of two or more: that part of the state."""
        self._optimizer, state = self._optimizer.shorter(state, picture)
        self._report()
        return state

    def _report(self) -> None:
        LOGGER.warning(
            "out of memory: L-BFGS remembers %d steps from now on, and needs more of them",
            self._optimizer.history,
        )


def _any_size(tensor: tf.Tensor) -> tf.TensorSpec:
    """The signature of a picture, spectrum or other tensor in a graph for every size of picture."""
    shape = {4: [1, None, None, 3], 2: [None, None]}.get(tensor.shape.rank, tensor.shape)
    return tf.TensorSpec(shape, tensor.dtype)


def history_in(state: Mapping[str, Any]) -> int:
    """The pairs that a state of L-BFGS remembers."""
    return len(state["curvatures"])


def history_of(height: int, width: int) -> int:
    """How many pairs to remember of pictures of that size: fewer of large ones, which would take
    more memory than everything else."""
    return max(1, min(HISTORY, HISTORY_BYTES // (2 * 12 * height * width)))


def _statistics(state: State) -> State:
    """What the preconditioner needs: its statistics, and its constants if they are in `state`."""
    return within(PRECONDITIONER, state)


def _is_sound(gradient: tf.Tensor, loss: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
    """Whether to continue from where a step led: everything is finite, and the loss at most twice
    the best. Written for losses of either sign.
    """
    finite = tf.math.is_finite(loss) & tf.reduce_all(tf.math.is_finite(gradient))
    return finite & (loss <= best + tf.abs(best))


def _dot(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(left * right)  # four times as fast as a product of matrices


def _dot_by_rows(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The same without a temporary picture, slower."""
    rows = (tf.reshape(picture, [tf.shape(picture)[1], -1]) for picture in (left, right))
    return tf.reduce_sum(tf.einsum("hi,hi->h", *rows))
