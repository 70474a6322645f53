"""L-BFGS against plain NumPy, and what it has in common with SciPy's."""

import numpy as np
import pytest
import tensorflow as tf
from landscapes import counting, descend, quadratic, rosenbrock, valley

from neural_style_tf.network import device
from neural_style_tf.objective import graphs
from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.optimizers.lbfgs import LBFGS, ShorterWhenFull, history_in, history_of
from neural_style_tf.optimizers.scipy_lbfgsb import LBFGSB


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
        has_energy = (energies > 0).all(0)
        ratios = 0.5 * np.log(np.divide(*energies, where=has_energy, out=np.ones_like(energies[0])))
        ratios[has_energy] -= ratios[has_energy].mean()
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


@pytest.mark.parametrize("corner, learnt", [(None, 0.0), (0.2, 0.7)])
def test_all_pairs_at_once_equal_the_textbook_and_the_recursion(start, solution, corner, learnt):
    """As on a GPU. The state has the same pictures, so that either continues from the other's."""
    slope, objective = quadratic(solution, condition=30)
    optimizer = LBFGS(4, longest_step=1e6, corner=corner, learnt=learnt)
    recursion, state, _ = descend(optimizer, objective, start, 25)
    with device.made_for(device.GPU):
        pictures, other, _ = descend(optimizer, objective, start, 25)
    expected = lbfgs_in_numpy(slope, start.astype("f8"), 25, 4, corner=corner, learnt=learnt)
    np.testing.assert_allclose(pictures, expected, atol=1e-3)
    np.testing.assert_allclose(pictures, recursion, atol=1e-3)
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in other.items()
    }


@pytest.mark.parametrize("broken", [np.nan, 1e9])
def test_all_pairs_at_once_go_back_as_the_recursion_does(start, solution, broken):
    _, objective = quadratic(solution, condition=30)

    def breaks(picture):
        gradient = tf.fill(picture.shape, tf.constant(broken, tf.float32))
        return Evaluation(gradient, {"total": tf.constant(broken, tf.float32)})

    results = []
    for kind in (device.CPU, device.GPU):
        with device.made_for(kind):
            pictures, state, _ = descend(LBFGS(5), objective, start, 8)
            picture, state, _ = LBFGS(5).step(breaks, pictures[-1], state)
            pictures, state, _ = descend(LBFGS(5), objective, picture, 6, state)
            results.append((pictures, state))
    (pictures, state), (others, other) = results
    np.testing.assert_allclose(pictures, others, atol=2e-3)
    for name in ("curvatures", "first_length", "best_loss", "best_picture"):
        np.testing.assert_allclose(state[name], other[name], rtol=0.02, atol=2e-3)


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
    pictures, other, _ = descend(LBFGS(history), objective, start, 12)
    np.testing.assert_allclose(pictures, expected, atol=1e-3)
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
    for asked, evaluation in zip(whole, evaluations, strict=False):
        np.testing.assert_array_equal(evaluation.gradient, objective(asked).gradient)


def test_lbfgs_evaluates_once_a_step(start):
    objective, asked = counting(rosenbrock)
    pictures, _, _ = descend(LBFGS(), objective, start, 7)
    np.testing.assert_array_equal(asked, pictures[:-1])


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
