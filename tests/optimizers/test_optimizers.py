"""Adam and both L-BFGS against plain NumPy and SciPy."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from neural_style_tf.objective import graphs
from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.optimizers.adam import Adam
from neural_style_tf.optimizers.lbfgs import LBFGS, ShorterWhenFull, history_in, history_of
from neural_style_tf.optimizers.scipy_lbfgsb import LBFGSB


def valley(target):
    """Half the squared distance to a target."""

    def objective(picture):
        gradient = picture - target
        return Evaluation(gradient, {"total": tf.reduce_sum(gradient**2) / 2})

    return objective


def adam_in_numpy(picture, target, steps, learning_rate, beta1, beta2, eps, schedule):
    """Kingma and Ba 2015, algorithm 1, with every step clipped to 0..255."""
    first = second = np.zeros_like(picture)
    for step in range(1, steps + 1):
        gradient = picture - target
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        mean, variance = first / (1 - beta1**step), second / (1 - beta2**step)
        share = {
            "constant": 1,
            "cosine": 0.5 * (1 + np.cos(np.pi * (step - 1) / steps)),
            "step": 0.5 ** ((step - 1) // 4),
        }
        rate = learning_rate * share[schedule]
        picture = np.clip(picture - rate * mean / (np.sqrt(variance) + eps), 0, 255)
    return picture


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_adam_equals_the_published_algorithm(schedule):
    random = np.random.default_rng(0)
    start = random.uniform(0, 255, (1, 5, 7, 3))
    target = random.uniform(-50, 300, start.shape)
    adam = Adam(7, 0.8, 0.95, 1e-3, schedule, total=25, decay_every=4, decay_factor=0.5)
    picture = tf.constant(start, tf.float32)
    state = adam.init(picture)
    for _ in range(25):
        before = picture
        objective = valley(tf.constant(target, tf.float32))
        picture, state, evaluation = adam.step(objective, picture, state)
        np.testing.assert_allclose(evaluation.gradient, before - target, atol=1e-3)
    expected = adam_in_numpy(start, target, 25, 7, 0.8, 0.95, 1e-3, schedule)
    np.testing.assert_allclose(picture, expected, atol=1e-2)
    assert tf.reduce_min(picture) == 0 and tf.reduce_max(picture) == 255


def test_the_state_is_named_tensors_and_steps_leave_their_arguments_alone():
    adam = Adam(10, 0.9, 0.999, 1e-8, "constant", total=1)
    picture = tf.constant(np.full((1, 3, 4, 3), 99, "f4"))
    state = adam.init(picture)
    assert set(state) == {"steps", "averaged", "first", "second"}
    _, after, _ = adam.step(valley(0.0), picture, state)
    assert state["steps"] == 0 and after["steps"] == 1
    assert tf.reduce_all(picture == 99) and tf.reduce_all(state["first"] == 0)


def quadratic(solution, condition, seed=0):
    """A dense bowl: its gradient in float64 NumPy, and the objective. `solution`: [1, H, W, 3]."""
    size = solution.size
    axes, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    hessian = axes * np.geomspace(1, condition, size) @ axes.T

    def slope(picture):
        return hessian @ (picture - solution).ravel()

    def objective(picture):
        away = tf.reshape(picture - tf.constant(solution, tf.float32), [-1, 1])
        gradient = tf.constant(hessian, tf.float32) @ away
        loss = tf.reduce_sum(away * gradient) / 2
        return Evaluation(tf.reshape(gradient, picture.shape), {"total": loss})

    return slope, objective


def rosenbrock(picture):
    """Sum of Rosenbrock's valleys: each two values a point, 128 its origin and 30 its unit."""
    with tf.GradientTape() as tape:
        tape.watch(picture)
        points = (tf.reshape(picture, [-1, 2]) - 128) / 30
        x, y = points[:, 0], points[:, 1]
        loss = tf.reduce_sum(100 * (y - x**2) ** 2 + (1 - x) ** 2)
    return Evaluation(tape.gradient(loss, picture), {"total": loss})


def counting(objective):
    """The objective, and the list of the pictures that it is asked about."""
    asked = []

    def counted(picture):
        asked.append(picture.numpy())
        return objective(picture)

    return counted, asked


def descend(optimizer, objective, picture, steps, state=None):
    """Pictures after every step (and before the first), the state, the evaluations."""
    pictures, evaluations = [tf.constant(picture, tf.float32)], []
    state = optimizer.init(pictures[0]) if state is None else state
    for _ in range(steps):
        made, state, evaluation = optimizer.step(objective, pictures[-1], state)
        pictures.append(made)
        evaluations.append(evaluation)
    return pictures, state, evaluations


def dense_filter(shape, corner, learnt=0.0, pairs=()):
    """The filter of `LBFGS` as a dense matrix, by the plain Fourier transform."""
    basis = np.eye(np.prod(shape))
    if corner is None:
        return basis
    _, height, width, _ = shape
    colors = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    squared = np.add.outer(np.fft.fftfreq(height) ** 2, np.fft.fftfreq(width) ** 2)
    gain = np.repeat((1 / np.sqrt(1 + squared / corner**2))[..., np.newaxis], 3, -1)

    def spectra(pictures):
        return np.fft.fft2(np.reshape(pictures, (-1, *shape)) @ colors.T, axes=(2, 3))

    if learnt and len(pairs) >= 3:
        edges = np.geomspace(2 / max(width, height, 8), 0.5**0.5, 16)[:-1]
        band = np.searchsorted(edges, np.float32(np.sqrt(squared)), side="right")
        energies = np.zeros((2, 16, 3))
        for pair in pairs:
            power = np.abs(spectra(pair)[:, 0]) ** 2
            for number in range(16):
                energies[:, number] = 0.9 * energies[:, number] + power[:, band == number].sum(1)
        there = (energies > 0).all(0)
        ratios = 0.5 * np.log(np.divide(*energies, where=there, out=np.ones_like(energies[0])))
        ratios[there] -= ratios[there].mean()
        gain = gain ** (1 - learnt) * np.exp(learnt * ratios)[band]
    filtered = np.fft.ifft2(spectra(basis) * gain, axes=(2, 3)).real @ colors
    return filtered.reshape(basis.shape)


def lbfgs_in_numpy(slope, picture, steps, history, **filtering):
    """Nocedal and Wright 2006, eq. 7.19 with dense matrices, and unit steps."""
    identity, base = np.eye(picture.size), dense_filter(picture.shape, **filtering)
    pictures, pairs, gradient = [picture], [], slope(picture)
    inverse_hessian = base / np.abs(base @ gradient).mean()
    for _ in range(steps):
        step = -inverse_hessian @ gradient
        pictures.append(pictures[-1] + step.reshape(picture.shape))
        gradient, last = slope(pictures[-1]), gradient
        pairs = [*pairs, (step, gradient - last)]
        base = dense_filter(picture.shape, **filtering, pairs=pairs)
        step, change = pairs[-1]
        inverse_hessian = base * (step @ change) / (change @ base @ change)
        for step, change in pairs[-history:]:
            shift = identity - np.outer(change, step) / (step @ change)
            inverse_hessian = shift.T @ inverse_hessian @ shift
            inverse_hessian += np.outer(step, step) / (step @ change)
    return pictures


@pytest.fixture
def start():
    return np.random.default_rng(1).uniform(90, 160, (1, 3, 4, 3)).astype("f4")


@pytest.fixture
def solution():
    return np.random.default_rng(2).uniform(90, 160, (1, 3, 4, 3))


@pytest.mark.parametrize("corner, learnt", [(None, 0.0), (0.2, 0.0), (0.2, 0.7)])
@pytest.mark.parametrize("history", [1, 4, 20])
def test_lbfgs_equals_the_textbook_with_dense_matrices(start, solution, history, corner, learnt):
    slope, objective = quadratic(solution, condition=30)
    optimizer = LBFGS(history, longest_step=1e6, corner=corner, learnt=learnt)
    pictures, _, _ = descend(optimizer, objective, start, 25)
    filtering = {"corner": corner if history > 1 else None, "learnt": learnt}
    expected = lbfgs_in_numpy(slope, start.astype("f8"), 25, history, **filtering)
    np.testing.assert_allclose(pictures, expected, atol=1e-3)
    assert np.min(expected) > 0 and np.max(expected) < 255


@pytest.mark.parametrize("optimizer, steps", [(LBFGS(), 150), (LBFGSB(), 15)])
def test_both_lbfgs_solve_an_ill_conditioned_system(start, solution, optimizer, steps):
    _, objective = quadratic(solution, condition=1000)
    pictures, _, _ = descend(optimizer, objective, start, steps)
    np.testing.assert_allclose(pictures[-1], solution, atol=0.02)


@pytest.mark.parametrize(
    "optimizer, steps", [(LBFGS(), 200), (LBFGSB(), 8), (LBFGSB(bounds=False), 8)]
)
def test_both_lbfgs_reach_the_minimum_of_rosenbrock(optimizer, steps):
    start = np.tile([92, 158], 12).reshape(1, 2, 4, 3)  # (-1.2, 1)
    pictures, _, _ = descend(optimizer, rosenbrock, start, steps)
    np.testing.assert_allclose(pictures[-1], np.full_like(start, 158), atol=0.1)  # (1, 1)


@pytest.mark.parametrize("optimizer, steps", [(LBFGS(), 40), (LBFGSB(), 5)])
def test_both_lbfgs_stay_within_bounds_and_find_the_best_there(start, optimizer, steps):
    solution = np.random.default_rng(3).uniform(-100, 355, start.shape)
    objective = valley(tf.constant(solution, tf.float32))
    pictures, _, _ = descend(optimizer, objective, start, steps)
    assert np.min(pictures) == 0 and np.max(pictures) == 255
    np.testing.assert_allclose(pictures[-1], np.clip(solution, 0, 255), atol=1e-2)


def test_no_lbfgs_step_is_longer_than_the_longest(start, solution):
    _, objective = quadratic(solution, condition=30)
    pictures, _, _ = descend(LBFGS(longest_step=1.5), objective, start, 10)
    lengths = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(lengths[0], 1, rtol=1e-5)
    np.testing.assert_allclose(lengths.max(), 1.5, rtol=1e-5)


def test_lbfgs_remembers_the_step_that_clipping_left(start):
    objective = valley(tf.constant(np.full_like(start, -50)))
    start = start - start.min()  # one value at 0, which the first step would leave
    pictures, state, _ = descend(LBFGS(), objective, start, 2)
    np.testing.assert_array_equal(state["displacement_0"], pictures[1] - pictures[0])
    assert np.min(pictures[1]) == 0


def test_large_pictures_have_fewer_pairs():
    sizes = ((512, 384), (1024, 1024), (2048, 2048), (2797, 4160), (4096, 4096), (8192, 8192))
    assert [history_of(*size) for size in sizes] == [30, 25, 6, 2, 1, 1]


@pytest.mark.parametrize("history", [1, 5])
def test_large_pictures_take_the_same_steps_by_halves(start, solution, history, monkeypatch):
    _, objective = quadratic(solution, condition=30)
    expected, state, _ = descend(LBFGS(history), objective, start, 12)
    monkeypatch.setattr(graphs, "LARGE_PICTURE", 1)
    found, other, _ = descend(LBFGS(history), objective, start, 12)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert state.keys() == other.keys()


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e9])
def test_lbfgs_goes_back_to_the_best_picture_when_the_loss_breaks(start, solution, broken):
    _, objective = quadratic(solution, condition=30)
    optimizer = LBFGS()
    pictures, state, evaluations = descend(optimizer, objective, start, 6)
    assert np.count_nonzero(state["curvatures"]) == 5

    def breaks(picture):
        gradient = tf.fill(picture.shape, tf.constant(broken, tf.float32))
        return Evaluation(gradient, {"total": tf.constant(broken, tf.float32)})

    best = np.argmin([float(evaluation.losses["total"]) for evaluation in evaluations])
    for length in (1 / 2, 1 / 4):
        picture, state, evaluation = optimizer.step(breaks, pictures[-1], state)
        assert evaluation.losses["total"] == broken or np.isnan(broken)
        assert np.count_nonzero(state["curvatures"]) == 0
        np.testing.assert_array_equal(state["picture"], pictures[best])
        np.testing.assert_array_equal(state["best_picture"], pictures[best])
        np.testing.assert_array_equal(state["best_gradient"], evaluations[best].gradient)
        assert state["best_loss"] == evaluations[best].losses["total"]
        moved = np.abs(picture - pictures[best]).mean()
        np.testing.assert_allclose(moved, length, rtol=1e-4)
    pictures, _, _ = descend(optimizer, objective, picture, 60, state)
    np.testing.assert_allclose(pictures[-1], solution, atol=0.01)


def test_lbfgs_stays_where_it_is_when_nothing_was_ever_finite(start):
    def breaks(picture):
        return Evaluation(picture * np.nan, {"total": tf.constant(np.nan)})

    pictures, _, _ = descend(LBFGS(), breaks, start, 3)
    np.testing.assert_array_equal(pictures, [start] * 4)


def test_lbfgs_survives_losses_below_zero(start, solution):
    _, objective = quadratic(solution, condition=30)

    def sunk(picture):
        gradient, losses = objective(picture)
        return Evaluation(gradient, {"total": losses["total"] - 1e4})

    pictures, _, _ = descend(LBFGS(), sunk, start, 60)
    np.testing.assert_allclose(pictures[-1], solution, atol=0.01)


def test_one_pair_is_forgotten_between_steps(start, solution):
    _, objective = quadratic(solution, condition=30)
    _, state, _ = descend(LBFGS(history=1), objective, start, 3)
    large = {name for name, value in state.items() if tf.size(value) >= start.size}
    assert large == {"picture", "gradient", "best_picture", "best_gradient"}


@pytest.mark.parametrize("optimizer", [LBFGS(history=3), LBFGSB(evaluations=4)])
def test_lbfgs_state_keeps_its_shapes_and_continues_to_the_byte(start, solution, optimizer):
    _, objective = quadratic(solution, condition=100)
    picture = tf.constant(start)
    state = optimizer.init(picture)
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
    whole, _, evaluations = descend(optimizer, objective, picture, 10)
    first, state, _ = descend(optimizer, objective, picture, 5, state)
    saved = {name: tensor.numpy().copy() for name, tensor in state.items()}
    restored = {name: tf.constant(array) for name, array in saved.items()}
    second, last, _ = descend(optimizer, objective, first[-1], 5, restored)
    np.testing.assert_array_equal(np.array([*first, *second[1:]]), np.array(whole))
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in last.items()} == shapes
    for name in saved:  # steps leave their arguments alone
        np.testing.assert_array_equal(restored[name], saved[name])
    for given, evaluation in zip(whole, evaluations, strict=False):
        np.testing.assert_array_equal(evaluation.gradient, objective(given).gradient)


def test_lbfgs_evaluates_once_a_step(start):
    objective, asked = counting(rosenbrock)
    pictures, _, _ = descend(LBFGS(), objective, start, 7)
    np.testing.assert_array_equal(asked, pictures[:-1])


@pytest.mark.parametrize("bounds", [True, False])
def test_a_round_of_lbfgsb_is_scipys_own(start, bounds):
    objective, asked = counting(rosenbrock)
    (_, made), state, (evaluation,) = descend(LBFGSB(12, bounds), objective, start, 1)

    def flat(vector):
        found = rosenbrock(tf.constant(vector.reshape(start.shape), tf.float32))
        return float(found.losses["total"]), found.gradient.numpy().ravel().astype("f8")

    limits = [(0, 255)] * start.size if bounds else None
    expected, loss, details = scipy.optimize.fmin_l_bfgs_b(flat, start, bounds=limits, maxfun=12)
    np.testing.assert_array_equal(made, expected.reshape(start.shape).astype("f4"))
    np.testing.assert_array_equal(asked[0], start)
    assert evaluation.losses["total"] == rosenbrock(tf.constant(start)).losses["total"]
    assert 12 < len(asked) == details["funcalls"] < 12 + 20  # a line search has at most 20
    assert loss < evaluation.losses["total"] and state["rounds"] == 1


def test_lbfgsb_scores_a_picture_out_of_bounds_as_it_was_given(start):
    start[0, 0, 0, 0] = 300
    (_, made), _, (evaluation,) = descend(LBFGSB(), rosenbrock, start, 1)
    assert evaluation.losses["total"] == rosenbrock(tf.constant(start)).losses["total"]
    assert np.max(made) <= 255


@pytest.mark.parametrize("sound", [0, 1, 5])
def test_lbfgsb_ends_a_round_at_the_best_when_the_loss_breaks(start, sound):
    def breaks(picture):
        gradient, losses = rosenbrock(picture)
        broken = len(asked) > sound
        return Evaluation(gradient, {"total": losses["total"] * (np.nan if broken else 1)})

    objective, asked = counting(breaks)
    (_, made), _, _ = descend(LBFGSB(), objective, start, 1)
    losses = [rosenbrock(tf.constant(picture)).losses["total"] for picture in asked[:sound]]
    best = asked[np.argmin(losses)] if losses else start
    np.testing.assert_array_equal(made, best)
    assert len(asked) == sound + 1


def test_lbfgs_remembers_less_when_memory_runs_out_and_says_so(monkeypatch, caplog):
    """The step is taken with half the pairs, and the state is one of half the pairs."""
    picture = tf.fill([1, 12, 14, 3], 100.0) + tf.range(14, dtype=tf.float32)[:, tf.newaxis]
    moved, tried = LBFGS.moved, []

    def full(self, *arguments):
        tried.append(self.history)
        if self.history > 1 and len(tried) > 3:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return moved(self, *arguments)

    monkeypatch.setattr(LBFGS, "moved", full)
    optimizer = ShorterWhenFull(LBFGS(history=4))
    state, losses = optimizer.init(picture), []
    for _ in range(7):
        picture, state, evaluation = optimizer.step(valley(50.0), picture, state)
        losses.append(float(evaluation.losses["total"]))
    assert tried == [4, 4, 4, 4, 2, 1, 1, 1, 1]
    assert state.keys() == LBFGS(history=1).init(picture).keys() and history_in(state) == 1
    assert losses[-1] < losses[3] < losses[0]
    assert [record.getMessage()[:46] for record in caplog.records] == [
        "out of memory: L-BFGS remembers 2 steps from n",
        "out of memory: L-BFGS remembers 1 steps from n",
    ]


def test_adam_starts_again_at_a_size_that_its_moments_do_not_fit(monkeypatch, caplog):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    adam = Adam(1.0, 0.9, 0.99, 1e-8, "constant", 10)
    small, large = tf.zeros([1, 8, 9, 3]), tf.zeros([1, 16, 18, 3])
    _, state, _ = adam.step(valley(50.0), small, adam.init(small))
    monkeypatch.setattr(tf.image, "resize", full)
    state = adam.rescale(state, large)
    assert state["first"].shape == large.shape and not np.any(state["first"])
    assert "Adam starts again without its moments" in caplog.text
