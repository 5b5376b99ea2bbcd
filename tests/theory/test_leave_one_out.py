"""Leave-one-out: dropping examples, in numbers and symbols; re-solving; what it estimates."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from tests.instances import UNEQUAL, deterministic, linear_teachers
from tlnb import Task
from tlnb import symbolic as sym
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.one_task.solution import ProportionalSolution
from tlnb.theory.transfer import TransferProblem

FIELDS = ("residual", "source_variance", "total_variance", "test_error")


def without(task: Task, index: int) -> Task:
    return Task(np.delete(task.X, index, axis=0), np.delete(task.y, index))


def left_out_by_dropping(problem: TransferProblem, width: float, coupling: float) -> list:
    """Predictions at each training example by networks that have not seen it, overlaps held."""
    overlaps, outcomes = problem.saddle(width, coupling), []
    for index in range(problem.target.n_examples):
        rest = problem.with_target(without(problem.target, index))
        predictor = rest.predictor(overlaps, rest.blocks(width, coupling), coupling)
        products = rest.kernels.products(problem.target.X[[index]])
        outcomes.append(predictor(rest.kernels.test(products, coupling)))
    return outcomes


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("coupling", [0.5, 20.0, np.inf])
@pytest.mark.parametrize("n_source", [5, 30])  # fewer examples than the target has, and more
def test_closed_form_is_dropping_each_example(
    activation: str, coupling: float, n_source: int
) -> None:
    source, target, _ = deterministic()
    source = Task(source.X[:n_source], source.y[:n_source])
    problem = TransferProblem(source, target, activation=activation, **UNEQUAL)
    closed = problem.solve(width=15, coupling=coupling).leave_one_out()
    dropped = left_out_by_dropping(problem, 15, coupling)
    mean, total, spread = (np.array([row[i][0] for row in dropped]) for i in range(3))
    np.testing.assert_allclose(closed.residual, target.y - mean, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(closed.total_variance, total, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(closed.source_variance, spread, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(closed.test_error, closed.residual**2 + closed.total_variance)
    assert closed._fields == FIELDS and closed.residual.shape == target.y.shape


@pytest.mark.parametrize("width", [15, np.inf])
def test_one_task_is_dropping_each_example(width: float) -> None:
    task, _, _ = deterministic()
    problem = OneTaskProblem(task, temperature=0.2, readout_precision=0.7, weight_precision=1.5)
    solution = problem.solve(width=width)
    closed = solution.leave_one_out()
    for index in range(task.n_examples):
        rest = without(task, index)
        kernel = OneTaskProblem(rest, weight_precision=1.5).kernel
        held = ProportionalSolution.at(
            problem.saddle(width),
            kernel,
            np.sqrt(0.7) * kernel.factor.projections(rest.y),
            width=width,
            temperature=0.2,
            readout_precision=0.7,
        ).predict(task.X[[index]], task.y[[index]])
        np.testing.assert_allclose(closed.residual[index] ** 2, held.squared_bias[0], rtol=1e-10)
        np.testing.assert_allclose(closed.total_variance[index], held.total_variance[0])
        np.testing.assert_allclose(closed.test_error[index], held.test_error[0], rtol=1e-10)
    assert (closed.source_variance == 0).all()


@pytest.mark.parametrize("width", [20, np.inf])
def test_zero_coupling_and_infinite_width_are_the_target_alone(width: float) -> None:
    source, target, _ = deterministic()
    problem = TransferProblem(source, target, **UNEQUAL)
    coupling = 0.0 if np.isfinite(width) else 2.0
    for one, other in zip(
        problem.solve(width=width, coupling=coupling).leave_one_out(),
        problem.alone(coupling).solve(width=width).leave_one_out(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def symbolic_instance(n_target: int) -> tuple:
    """A covariance of one source example and a few target examples with generic entries."""

    def symmetric(name: str) -> sp.Matrix:
        entry = lambda i, j: sp.Symbol(f"{name}{min(i, j)}{max(i, j)}", real=True)  # noqa: E731
        return sp.Matrix(n_target, n_target, entry)

    s = sp.Symbol("s", positive=True)
    x = sp.Matrix(1, n_target, lambda _, j: sp.Symbol(f"x{j}", real=True))
    y = sp.Matrix(n_target, 1, lambda i, _: sp.Symbol(f"y{i}", real=True))
    return sym.ReplicaMatrix(s, x, symmetric("d"), symmetric("o")), [sp.Symbol("y_s")], y


@pytest.mark.parametrize("n_target", [2, 4])
def test_the_schur_complement_in_symbols(n_target: int) -> None:
    """With letters for two examples, with rational numbers for four."""
    G, y_s, y_t = symbolic_instance(n_target)
    T = sp.Symbol("T", positive=True)
    if n_target > 2:
        rng = np.random.default_rng(0)
        letters = set().union(*(block.free_symbols for block in (G.s, G.x, G.d, G.o, y_t)), y_s)
        numbers = {s: sp.Rational(int(rng.integers(1, 50)), 7) for s in sorted(letters, key=str)}
        G = sym.ReplicaMatrix(*(block.subs(numbers) for block in (G.s, G.x, G.d, G.o)))
        y_s, y_t = [numbers[s] for s in y_s], y_t.subs(numbers)
    dropped = sym.drop_example(G, y_s, y_t, 1, temperature=T)
    closed = sym.leave_one_out(G, y_s, y_t, 1, temperature=T)
    for one, other in zip(dropped, closed, strict=True):
        assert sp.cancel(sp.together(one - other)) == 0


def test_the_code_is_the_symbolic_object() -> None:
    source, target, _ = deterministic()
    source, target = Task(source.X[:3], source.y[:3]), Task(target.X[:4], target.y[:4])
    problem = TransferProblem(source, target, **UNEQUAL)
    solution = problem.solve(width=6, coupling=2.0)
    V, K_t, K_tt = problem.kernels.train(2.0)
    factor = problem.source_problem.kernel.factor
    K_s = (factor.eigenvectors * factor.eigenvalues) @ factor.eigenvectors.T
    G = sym.ReplicaMatrix(
        sp.Matrix(0.05 * np.eye(3) + solution.Q_s * K_s / 1.9),
        sp.Matrix(solution.Q_st * factor.eigenvectors @ V / np.sqrt(1.9 * 0.7)),
        sp.Matrix(0.2 * np.eye(4) + solution.Q_t * K_t / 0.7),
        sp.Matrix(solution.Q_tt * K_tt / 0.7),
    )
    left_out = solution.leave_one_out()
    for index in range(4):
        expected = sym.leave_one_out(G, source.y, target.y, index, temperature=0.2)
        found = [getattr(left_out, name)[index] for name in expected._fields]
        np.testing.assert_allclose(found, [float(v) for v in expected], rtol=1e-9)


@pytest.mark.parametrize("coupling", [0.0, 3.0, np.inf])
def test_order_parameters_hardly_move_without_one_example(coupling: float) -> None:
    """Re-solved without each example: overlaps move by about 1/P_t, the mean error by less."""
    moved, gaps = [], []
    for n_target in (15, 60):
        source, target, _ = linear_teachers(1, 80, n_target)
        problem = TransferProblem(source, target, temperature=0.1)
        whole = problem.solve(width=40, coupling=coupling)
        errors, shifts = [], []
        for index in range(0, n_target, n_target // 15):
            again = problem.with_target(without(target, index)).solve(width=40, coupling=coupling)
            outcome = again.predict(target.X[[index]], target.y[[index]])
            errors.append([outcome.test_error[0], whole.leave_one_out().test_error[index]])
            shifts.append(abs(again.Q_t - whole.Q_t) / whole.Q_t)
        resolved, held = np.mean(errors, axis=0)
        moved.append(np.mean(shifts))
        gaps.append(abs(resolved / held - 1))
    assert max(moved) < 0.02 and moved[1] < moved[0]
    assert gaps[0] < 0.06 and gaps[1] < 0.01


def test_it_estimates_the_test_error() -> None:
    """Over many draws, the mean leave-one-out error is the test error to a few percent."""
    pairs = []
    for seed in range(12):
        source, target, test = linear_teachers(seed, 60, 25, n_test=300)
        solution = TransferProblem(source, target, temperature=0.1).solve(width=30, coupling=3.0)
        pairs.append(
            [
                solution.leave_one_out().test_error.mean(),
                solution.predict(test.X, test.y).test_error.mean(),
            ]
        )
    estimate, error = np.array(pairs).T
    difference = estimate - error
    assert abs(difference.mean()) < 3 * difference.std(ddof=1) / np.sqrt(len(pairs))
    assert abs(difference.mean()) < 0.1 * error.mean()
