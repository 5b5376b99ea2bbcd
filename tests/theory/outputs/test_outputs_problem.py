"""One task with several outputs: the action against sympy, its minima, limits, the predictor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, ortho_group, wishart

from tests.instances import deterministic
from tlnb import Task, symbolic
from tlnb.data.outputs import MultiOutputTask
from tlnb.errors import CompetingSaddlesWarning
from tlnb.kernels import kernel
from tlnb.theory import one_task, outputs
from tlnb.theory.outputs.action import action_in_basis, effective_action, expand, symmetric
from tlnb.theory.outputs.saddle import descend


def several(C: int = 3, seed: int = 0) -> tuple[MultiOutputTask, MultiOutputTask]:
    """Correlated linear teachers on the deterministic inputs, and test points."""
    source, _, test = deterministic()
    rng = np.random.default_rng(seed)
    teachers = rng.standard_normal((12, C)) @ (np.eye(C) + 0.5)
    return (
        MultiOutputTask(source.X, source.X @ teachers / 3),
        MultiOutputTask(test.X, test.X @ teachers / 3),
    )


def test_action_is_the_symbolic_one() -> None:
    """Two outputs, two examples: the determinant and the inverse of a 4 × 4 matrix, by sympy."""
    a, b, c = sp.Rational(3, 2), sp.Rational(1, 3), sp.Rational(4, 5)
    K = sp.Matrix([[1, sp.Rational(1, 4)], [sp.Rational(1, 4), sp.Rational(3, 4)]])
    Y = sp.Matrix([[1, 2], [sp.Rational(-1, 2), 1]])
    stacked = sp.Matrix.vstack(Y[:, 0], Y[:, 1])
    Q = sp.Matrix([[a, b], [b, c]])
    exact = symbolic.effective_action(Q, K, stacked, width=7, temperature=sp.Rational(1, 5))
    e, U = np.linalg.eigh(np.array(K, dtype=float))
    numbers = effective_action(
        np.array(Q, dtype=float), e, U.T @ np.array(Y, dtype=float), width=7, temperature=0.2
    )
    np.testing.assert_allclose(numbers, float(exact), rtol=1e-13)


def test_gradient_is_the_symbolic_one() -> None:
    """dA/dQ by sympy, carried to the manifold's coordinates by Q^(1/2)."""
    a, b, c = sp.symbols("a b c", positive=True)
    K = sp.diag(1, sp.Rational(1, 4))
    Y = sp.Matrix([[1, 2], [sp.Rational(-1, 2), 1]])
    stacked = sp.Matrix.vstack(Y[:, 0], Y[:, 1])
    Q = sp.Matrix([[a, b], [b, c]])
    A = symbolic.effective_action(Q, K, stacked, width=7, temperature=sp.Rational(1, 5))
    at = {a: 1.5, b: 0.3, c: 0.8}
    # b stands in two entries.
    by_Q = np.array([[sp.diff(A, a), sp.diff(A, b) / 2], [sp.diff(A, b) / 2, sp.diff(A, c)]])
    by_Q = np.vectorize(lambda entry: float(entry.subs(at)))(by_Q)
    q, R = np.linalg.eigh(np.array([[1.5, 0.3], [0.3, 0.8]]))
    z = np.array(Y, dtype=float) @ R
    found = expand(q, np.array([1.0, 0.25]), z, width=7, temperature=0.2).gradient
    root = np.sqrt(q)
    np.testing.assert_allclose(7 * found, root[:, None] * (R.T @ by_Q @ R) * root, rtol=1e-10)


@pytest.mark.parametrize("C", [1, 2, 4])
def test_expansion_is_that_of_the_action_along_the_manifold(C: int) -> None:
    rng = np.random.default_rng(C)
    e, z = rng.random(9), rng.standard_normal((9, C))
    q = rng.uniform(0.3, 2, C)
    given: dict[str, Any] = {"width": 6.0, "temperature": 0.3}
    point, basis = expand(q, e, z, **given), symmetric(C)

    def along(X: np.ndarray) -> float:
        w, V = np.linalg.eigh(X)
        root = np.sqrt(q)
        Q = root[:, None] * ((V * np.exp(w)) @ V.T) * root
        return effective_action(Q, e, z, **given) / 6.0

    h = 1e-4
    for i, X in enumerate(basis):
        slope = (along(h * X) - along(-h * X)) / (2 * h)
        np.testing.assert_allclose((X * point.gradient).sum(), slope, rtol=1e-6, atol=1e-7)
        for j, other in enumerate(basis[: i + 1]):
            both = [along(h * (s * X + t * other)) for s in (1, -1) for t in (1, -1)]
            bend = (both[0] - both[1] - both[2] + both[3]) / (4 * h**2)
            np.testing.assert_allclose(point.hessian[i, j], bend, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("width", [1, 20, 500, np.inf])
def test_one_output_is_what_stands(activation: str, width: float) -> None:
    source, _, test = deterministic()
    priors: dict[str, Any] = {
        "temperature": 0.1,
        "activation": activation,
        "readout_precision": 2.0,
    }
    one = one_task.solve(source, width=width, **priors)
    for overlap in outputs.OVERLAPS:
        other = outputs.solve(source, width=width, overlap=overlap, **priors)
        for name in ("action", "log_evidence", "train_error"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-12)
        np.testing.assert_allclose(other.Q, [[one.Q]], rtol=1e-12)
        given, also = one.predict(test.X, test.y), other.predict(test.X, test.y[:, None])
        for name in given._fields:
            np.testing.assert_allclose(getattr(also, name)[:, 0], getattr(given, name), rtol=1e-12)
        left, again = one.leave_one_out(), other.leave_one_out()
        for name in left._fields:
            np.testing.assert_allclose(
                getattr(again, name)[:, 0], getattr(left, name), rtol=1e-11, atol=1e-14
            )


@given(seed=st.integers(0, 2**31 - 1), C=st.integers(2, 5), log_T=st.floats(-2, 0.5))
@settings(max_examples=15)
def test_rotated_labels_rotate_the_answer(seed: int, C: int, log_T: float) -> None:
    task, test = several(C, seed)
    R = ortho_group.rvs(C, random_state=seed)
    given: dict[str, Any] = {"width": 25, "temperature": 10.0**log_T}
    one = outputs.solve(task, **given)
    other = outputs.solve(MultiOutputTask(task.X, task.y @ R), **given)
    scale = np.abs(one.Q).max()
    np.testing.assert_allclose(other.Q, R.T @ one.Q @ R, atol=1e-8 * scale)
    np.testing.assert_allclose(other.log_evidence, one.log_evidence, rtol=1e-9)
    here, there = one.predict(test.X), other.predict(test.X)
    np.testing.assert_allclose(there.mean, here.mean @ R, atol=1e-7)
    np.testing.assert_allclose(there.covariance, R.T @ here.covariance @ R, atol=1e-7)


def test_outputs_on_their_own_directions_do_not_feel_each_other() -> None:
    """Labels along different eigenvectors of K: Q is diagonal, each entry that of one output."""
    source, _, _ = deterministic()
    U = np.linalg.eigh(kernel(source.X, activation="erf"))[1]
    y = np.column_stack([4 * U[:, -1] + U[:, -5], 3 * U[:, -2] - U[:, -6]])
    given: dict[str, Any] = {"width": 12, "temperature": 0.1}
    together = outputs.solve(MultiOutputTask(source.X, y), **given)
    alone = [one_task.solve(Task(source.X, column), **given).Q for column in y.T]
    np.testing.assert_allclose(together.Q, np.diag(alone), atol=1e-10)
    against_rest = outputs.solve(MultiOutputTask(source.X, y), overlap="diagonal", **given)
    np.testing.assert_allclose(against_rest.Q, together.Q, atol=1e-10)


def test_equal_outputs_are_one_output_and_silence() -> None:
    """Two equal columns: (y, y) R = (sqrt(2) y, 0), an output of larger labels beside none."""
    source, _, _ = deterministic()
    given: dict[str, Any] = {"width": 20, "temperature": 0.1}
    twice = outputs.solve(MultiOutputTask(source.X, np.column_stack([source.y] * 2)), **given)
    loud = one_task.solve(Task(source.X, np.sqrt(2) * source.y), **given).Q
    silent = one_task.solve(Task(source.X, 0 * source.y), **given).Q
    np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(twice.Q)), [silent, loud], rtol=1e-9)
    np.testing.assert_allclose(twice.Q[0, 1], (loud - silent) / 2, rtol=1e-8)


def test_order_of_actions() -> None:
    """Less freedom, more action."""
    task, _ = several(3)
    given: dict[str, Any] = {"width": 15, "temperature": 0.05}
    free, diagonal, shared = (
        outputs.solve(task, overlap=overlap, **given).action for overlap in outputs.OVERLAPS
    )
    assert free < diagonal - 0.1 and diagonal < shared - 0.01
    assert np.abs(outputs.solve(task, **given).Q[0, 1]) > 0.01


def test_infinite_width_is_independent_and_approached_as_one_over_width() -> None:
    task, test = several(3)
    limit = outputs.solve(task, width=np.inf, temperature=0.1)
    np.testing.assert_array_equal(limit.Q, np.eye(3))
    alone = one_task.solve(task.column(1), width=np.inf, temperature=0.1).predict(test.X)
    np.testing.assert_allclose(limit.predict(test.X).mean[:, 1], alone.mean, rtol=1e-10)
    covariance = kernel(task.X, activation="erf") + 0.1 * np.eye(30)
    evidence = multivariate_normal(cov=covariance).logpdf(task.y.T).sum()
    np.testing.assert_allclose(limit.log_evidence, evidence, rtol=1e-12)
    far, farther = (outputs.solve(task, width=width, temperature=0.1) for width in (1e4, 1e5))
    np.testing.assert_allclose(far.Q - np.eye(3), 10 * (farther.Q - np.eye(3)), rtol=0.05)
    np.testing.assert_allclose(
        far.log_evidence - evidence, 10 * (farther.log_evidence - evidence), rtol=0.05
    )


def test_predictor_is_that_of_the_kronecker_kernel() -> None:
    task, test = several(2)
    priors: dict[str, Any] = {"temperature": 0.1, "weight_precision": 0.5, "readout_precision": 2}
    solution = outputs.solve(task, width=20, **priors)
    given: dict[str, Any] = {"activation": "erf", "weight_variance": 2.0, "readout_precision": 2.0}
    K, k, k_0 = kernel(task.X, **given), kernel(task.X, test.X, **given), kernel(test.X, **given)
    Q, n = solution.Q, len(test.X)
    G = 0.1 * np.eye(60) + np.kron(Q, K)
    cross = np.kron(Q, k)
    stacked = task.y.T.ravel()
    outcome = solution.predict(test.X, test.y)
    mean = (cross.T @ np.linalg.solve(G, stacked)).reshape(2, n).T
    np.testing.assert_allclose(outcome.mean, mean, rtol=1e-9)
    covariance = np.kron(Q, k_0) - cross.T @ np.linalg.solve(G, cross)
    covariance = np.einsum("anbn->nab", covariance.reshape(2, n, 2, n))
    np.testing.assert_allclose(outcome.covariance, covariance, rtol=1e-9)
    np.testing.assert_allclose(outcome.test_error, (test.y - mean) ** 2 + outcome.total_variance)
    at_training = solution.predict(task.X, task.y)
    np.testing.assert_allclose(solution.train_error, at_training.test_error.mean(), rtol=1e-9)
    direct = 20 * (np.trace(Q) - np.linalg.slogdet(Q)[1]) + np.linalg.slogdet(G)[1]
    direct += stacked @ np.linalg.solve(G, stacked)
    np.testing.assert_allclose(solution.action, direct, rtol=1e-12)


def test_leave_one_out_drops_an_example_with_all_its_outputs() -> None:
    task, _ = several(3)
    priors: dict[str, Any] = {"temperature": 0.1, "readout_precision": 2.0}
    solution = outputs.solve(task, width=20, **priors)
    K = kernel(task.X, activation="erf", readout_precision=2.0)
    Q, left = solution.Q, solution.leave_one_out()
    for mu in (0, 7):
        rest = np.delete(np.arange(30), mu)
        G = 0.1 * np.eye(87) + np.kron(Q, K[np.ix_(rest, rest)])
        cross = np.kron(Q, K[rest, mu][:, None])
        mean = cross.T @ np.linalg.solve(G, task.y[rest].T.ravel())
        covariance = Q * K[mu, mu] - cross.T @ np.linalg.solve(G, cross)
        np.testing.assert_allclose(left.residual[mu], task.y[mu] - mean, rtol=1e-9)
        np.testing.assert_allclose(left.covariance[mu], covariance, rtol=1e-8)
        np.testing.assert_allclose(
            left.test_error[mu], left.residual[mu] ** 2 + np.diagonal(covariance), rtol=1e-8
        )


def test_exact_law_of_linear_networks() -> None:
    """Linear networks: Q is a tilted Wishart matrix at any width, averaged over by its prior's
    draws; the saddle point is off by the order of 1/N1."""
    source, _, _ = deterministic()
    X = source.X[:6]
    y = np.column_stack([X @ np.cos(np.arange(12)), X @ np.sin(np.arange(12))]) / 3
    K = kernel(X, activation="linear")
    e, U = np.linalg.eigh(K)
    z = U.T @ y
    off = []
    for width in (40, 80):
        drawn = wishart(width, np.eye(2) / width).rvs(200_000, random_state=0)
        G = 0.5 * np.eye(2) + e[:, None, None, None] * drawn
        log = -0.5 * np.log(np.linalg.det(G)).sum(0)
        for k in range(len(e)):
            log -= 0.5 * np.einsum("a,nab,b->n", z[k], np.linalg.inv(G[k]), z[k])
        weight = np.exp(log - log.max())
        exact = np.einsum("n,nab->ab", weight / weight.sum(), drawn)
        saddle = outputs.solve(
            MultiOutputTask(X, y), width=width, activation="linear", temperature=0.5
        ).Q
        off.append(np.abs(exact - saddle).max())
        assert np.abs(saddle - np.eye(2)).max() > 2 * off[-1]
    assert off[1] < 0.7 * off[0]


def test_two_minima_of_one_output_are_met_with_two() -> None:
    eigenvalues = np.append(np.ones(40), 0.005)
    X = np.diag(np.sqrt(41 * eigenvalues))
    y = np.zeros((41, 2))
    y[-1, 0] = np.sqrt(3)
    given: dict[str, Any] = {"width": 20, "activation": "linear", "temperature": 0.01}
    with pytest.warns(CompetingSaddlesWarning, match="further minima"):
        both = outputs.solve(MultiOutputTask(X, y), **given)
    with pytest.warns(CompetingSaddlesWarning):
        alone = one_task.solve(Task(X, y[:, 0]), **given)
    np.testing.assert_allclose(both.Q[0, 0], alone.Q, rtol=1e-9)
    np.testing.assert_allclose(both.competing[0][0][0, 0], alone.competing[0][0], rtol=1e-9)


def test_a_saddle_point_that_is_no_minimum_is_left() -> None:
    """Between two minima the scalar action has a maximum: the descent does not stay there."""
    e, z = np.append(np.ones(40), 0.005), np.append(np.zeros(40), np.sqrt(3))[:, None]
    given: dict[str, Any] = {"width": 20, "temperature": 0.01}
    roots = one_task.saddle_points(e, z[:, 0] ** 2, **given)
    end = descend(roots.Q[1:2], np.eye(1), e, z, **given)
    assert np.isclose(end.q, roots.Q[roots.minimum], rtol=1e-6).any()
    assert end.action < action_in_basis(roots.Q[1:2], e, z, **given)


def test_width_sweep_equals_single_solutions() -> None:
    task, test = several(2)
    table = outputs.width_sweep(task, test, widths=[5, np.inf], temperature=0.1)
    for width in (5, np.inf):
        solution = outputs.solve(task, width=width, temperature=0.1)
        outcome, row = solution.predict(test.X, test.y), table.sel(width=width)
        np.testing.assert_allclose(row.Q, solution.Q)
        np.testing.assert_allclose(row.log_evidence, solution.log_evidence)
        for name in ("squared_bias", "total_variance", "test_error"):
            np.testing.assert_allclose(row[name], getattr(outcome, name).mean())


def test_more_outputs_than_examples_and_constant_ones() -> None:
    X = deterministic()[0].X[:3]
    y = np.column_stack([np.zeros(3), np.ones(3), *np.eye(3), [1.0, 2.0, 3.0]])
    solution = outputs.solve(MultiOutputTask(X, y), width=10, temperature=0.1)
    assert solution.Q.shape == (6, 6) and np.linalg.eigvalsh(solution.Q)[0] > 0
    # An output without labels has no mean, whatever the others do.
    np.testing.assert_allclose(solution.predict(X).mean[:, 0], 0, atol=1e-9)
    silent = outputs.solve(MultiOutputTask(X, 0 * y), width=10, temperature=0.1).Q
    np.testing.assert_allclose(silent, silent[0, 0] * np.eye(6), atol=1e-10)


def test_votes() -> None:
    rng = np.random.default_rng(0)
    mean, root = rng.standard_normal((4, 3)), rng.standard_normal((4, 3, 3))
    covariance = root @ root.swapaxes(1, 2)
    drawn = rng.standard_normal((200_000, 1, 3))
    outputs_drawn = mean + np.einsum("nab,snb->sna", root, np.broadcast_to(drawn, (200_000, 4, 3)))
    counted = (outputs_drawn.argmax(2)[..., None] == np.arange(3)).mean(0)
    shares = outputs.votes(mean, covariance)
    np.testing.assert_allclose(shares, counted, atol=6e-3)
    np.testing.assert_allclose(shares.sum(1), 1)
    # The third output far below: what is left is the closed form of two.
    low = np.column_stack([mean[:, :2], np.full(4, -1e3)])
    two = outputs.votes(mean[:, :2], covariance[:, :2, :2])
    np.testing.assert_allclose(outputs.votes(low, covariance)[:, :2], two, atol=3e-3)
    np.testing.assert_array_equal(outputs.votes(mean[:, :1], covariance[:, :1, :1]), 1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones(30), r"y must be a finite real array of shape \(30, C\) .*got shape \(30,\)"),
        (np.ones((2, 30)), r"got shape \(2, 30\)"),
        (np.ones((30, 0)), r"got shape \(30, 0\)"),
        (np.full((30, 2), np.nan), r"got nan at index \(0, 0\)"),
    ],
)
def test_bad_labels(labels: np.ndarray, message: str) -> None:
    X = deterministic()[0].X
    with pytest.raises(ValueError, match=message):
        MultiOutputTask(X, labels)


def test_bad_arguments() -> None:
    task, test = several(2)
    with pytest.raises(TypeError, match=r"must be a tlnb\.data\.outputs\.MultiOutputTask or"):
        outputs.solve(task.X, width=10)
    with pytest.raises(TypeError, match=r"task must be a tlnb\.Task, got MultiOutputTask"):
        one_task.solve(task, width=10)
    with pytest.raises(ValueError, match="overlap must be one of 'matrix'"):
        outputs.solve(task, width=10, overlap="full")
    with pytest.raises(ValueError, match="width must be a number >= 1"):
        outputs.solve(task, width=0)
    with pytest.raises(TypeError, match="did you mean 'temperature'"):
        outputs.solve(task, width=10, temperatur=0.1)
    solution = outputs.solve(task, width=10)
    with pytest.raises(ValueError, match=r"y must have 2 columns, got shape \(5, 3\)"):
        solution.predict(test.X, np.ones((5, 3)))
