"""Transfer with several outputs: replica algebra, derivatives, one output, the predictor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from scipy.stats import ortho_group

from tests.instances import deterministic
from tlnb import Task, symbolic
from tlnb.data.outputs import MultiOutputTask
from tlnb.errors import ConvergenceError
from tlnb.symbolic import ReplicaMatrix
from tlnb.theory import outputs, transfer
from tlnb.theory.outputs.action import symmetric
from tlnb.theory.outputs.transfer_action import (
    OutputBlocks,
    delta,
    expand,
    franz_parisi_action,
    shared_covariance,
)
from tlnb.theory.outputs.transfer_saddle import exponential, logarithm, root

PRIORS: dict[str, Any] = {"temperature": 0.1, "activation": "erf"}


def pair(C_s: int = 2, C: int = 3) -> tuple[MultiOutputTask, MultiOutputTask, MultiOutputTask]:
    """Related linear teachers on the deterministic inputs."""
    source, target, test = deterministic()
    rng = np.random.default_rng(5)
    teachers = rng.standard_normal((12, max(C_s, C))) @ (np.eye(max(C_s, C)) + 0.4)
    other = teachers + 0.3 * rng.standard_normal(teachers.shape)
    return (
        MultiOutputTask(source.X, source.X @ teachers[:, :C_s] / 2),
        MultiOutputTask(target.X, target.X @ other[:, :C] / 2),
        MultiOutputTask(test.X, test.X @ other[:, :C] / 2),
    )


def random_blocks(C_s: int, C: int, P: int = 4, seed: int = 0) -> OutputBlocks:
    """Blocks of a Gaussian process for every number of replicas."""
    rng = np.random.default_rng(seed)
    shared, own = rng.standard_normal((2, P, 7)) / np.sqrt(7)
    K_tt = shared @ shared.T
    root = rng.standard_normal((C_s, 3, P)) / 6
    return OutputBlocks(
        K_tt + own @ own.T,
        K_tt,
        root.swapaxes(1, 2) @ root,
        0.5 * rng.standard_normal((C_s, P)),
        rng.uniform(0.8, 1.5, C_s),
        rng.standard_normal((C, P)),
        0.3,
        9.0,
    )


def overlaps_of(C: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((2, C, C)) / 3
    return np.eye(C) + A @ A.T, 0.3 * np.eye(C) + B @ B.T


# Replica algebra


def exact(array: Any) -> np.ndarray:
    array = np.asarray(array, dtype=float)
    return sp.Matrix(array.reshape(len(array), -1)).applyfunc(lambda x: sp.Float(x, 30))


def symbolic_case() -> tuple[ReplicaMatrix, ReplicaMatrix, ReplicaMatrix, np.ndarray, np.ndarray]:
    """Two outputs each, two source and two target examples."""
    rng = np.random.default_rng(2)
    shared, own = rng.standard_normal((4, 6)) / np.sqrt(6), rng.standard_normal((2, 6)) / 3
    K = shared @ shared.T
    kernels = symbolic.ReplicaMatrix(
        exact(K[:2, :2]), exact(0.6 * K[:2, 2:]), exact(K[2:, 2:] + own @ own.T),
        exact(0.6 * K[2:, 2:]),
    )  # fmt: skip
    overlaps = symbolic.ReplicaMatrix(
        exact([[1.3, 0.2], [0.2, 0.9]]), exact([[0.3, 0.1], [-0.2, 0.25]]),
        exact([[1.1, 0.15], [0.15, 1.2]]), exact([[0.4, 0.1], [0.1, 0.35]]),
    )  # fmt: skip
    G = symbolic.covariance(
        overlaps, kernels, source_temperature=sp.Float(0.7), target_temperature=sp.Float(0.4)
    )
    return overlaps, kernels, G, rng.standard_normal((2, 2)), rng.standard_normal((2, 2))


def test_replicated_action_at_integer_n_is_brute_force() -> None:
    overlaps, _, G, y_s, y_t = symbolic_case()
    for n in (1, 2, 3):
        found = symbolic.replicated_action(
            sp.Integer(n), overlaps, G, exact(y_s.T.ravel()), exact(y_t.T.ravel()), width=5
        )
        Q = np.array(overlaps.explicit(n), dtype=float)
        M = np.array(G.explicit(n), dtype=float)
        Y = np.concatenate([y_s.T.ravel(), *[y_t.T.ravel()] * n])
        brute = 5 * (np.trace(Q) - np.linalg.slogdet(Q)[1])
        brute += np.linalg.slogdet(M)[1] + Y @ np.linalg.solve(M, Y)
        assert float(found) == pytest.approx(brute, rel=1e-12)


def test_action_is_order_n_of_the_replicated_one() -> None:
    """By numbers: the replicated action at small n, analytic in n, extrapolated to its slope."""
    overlaps, kernels, G, y_s, y_t = symbolic_case()
    stacked = exact(y_s.T.ravel()), exact(y_t.T.ravel())
    values = [
        float(symbolic.replicated_action(sp.Float(n, 30), overlaps, G, *stacked, width=5))
        for n in (0, 1e-4, 2e-4)
    ]
    slope = (-3 * values[0] + 4 * values[1] - values[2]) / 2e-4
    closed = float(symbolic.franz_parisi_action(overlaps, G, *stacked, width=5))
    assert closed == pytest.approx(slope, rel=1e-5)

    Q_s, Q_st, Q_t, Q_tt = (np.array(getattr(overlaps, k), dtype=float) for k in "sxdo")
    K_s, K_st, K_t, K_tt = (np.array(getattr(kernels, k), dtype=float) for k in "sxdo")
    q, R = np.linalg.eigh(Q_s)
    inverses = [np.linalg.inv(0.7 * np.eye(2) + each * K_s) for each in q]
    blocks = OutputBlocks(
        K_t, K_tt, np.stack([K_st.T @ G @ K_st for G in inverses]),
        np.stack([K_st.T @ G @ y for G, y in zip(inverses, (y_s @ R).T, strict=True)]),
        q, y_t.T, 0.4, 5.0,
    )  # fmt: skip
    assert franz_parisi_action(Q_t - Q_tt, Q_tt, R.T @ Q_st, blocks) == pytest.approx(
        closed, rel=1e-12
    )


# Derivatives


@pytest.mark.parametrize("C_s,C", [(1, 1), (2, 3), (3, 2)])
def test_expansion_is_that_of_the_action(C_s: int, C: int) -> None:
    blocks = random_blocks(C_s, C)
    D, Q_tt = overlaps_of(C)
    point, basis = expand(D, Q_tt, blocks), symmetric(C)
    n = len(basis)
    # Q_st is stationary, and eliminated.
    h = 1e-5
    for index in np.ndindex(point.x.shape):
        shift = np.zeros(point.x.shape)
        shift[index] = h
        up, down = (franz_parisi_action(D, Q_tt, point.x + s * shift, blocks) for s in (1, -1))
        assert abs(up - down) / (2 * h) < 1e-7
    ways = [(H, 0 * H) for H in basis] + [(0 * H, H) for H in basis]
    for i, (by_D, by_Q) in enumerate(ways):
        ends = [expand(D + s * h * by_D, Q_tt + s * h * by_Q, blocks) for s in (1, -1)]
        up, down = (
            franz_parisi_action(D + s * h * by_D, Q_tt + s * h * by_Q, point.x, blocks)
            for s in (1, -1)
        )
        slope = (point.by_D * by_D).sum() + (point.by_Q_tt * by_Q).sum()
        np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-6, atol=1e-6)
        slopes = [
            np.concatenate([np.einsum("nab,ab->n", basis, g) for g in (end.by_D, end.by_Q_tt)])
            for end in ends
        ]
        bend = (slopes[0] - slopes[1]) / (2 * h)
        np.testing.assert_allclose(point.hessian[:, i], bend, rtol=1e-5, atol=1e-6)
    assert point.hessian.shape == (2 * n, 2 * n)


# Saddle points


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("coupling", [0, 0.3, 10.0, np.inf])
def test_one_output_is_what_stands(activation: str, coupling: float) -> None:
    source, target, test = deterministic()
    priors: dict[str, Any] = {
        "activation": activation,
        "temperature": 0.1,
        "source_temperature": 0.2,
    }
    priors |= {"readout_precision": 2.0, "source_readout_precision": 3.0}
    given: dict[str, Any] = {"width": 20, "coupling": coupling}
    one = transfer.solve(source, target, **given, **priors)
    other = outputs.solve_transfer(source, target, **given, **priors)
    for name in ("Q_s", "Q_t", "Q_st", "Q_tt"):
        np.testing.assert_allclose(getattr(other, name), [[getattr(one, name)]], rtol=1e-10)
    for name in ("action", "log_evidence", "train_error"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-10)
    expected, found = one.predict(test.X, test.y), other.predict(test.X, test.y[:, None])
    for name in expected._fields:
        np.testing.assert_allclose(
            getattr(found, name)[:, 0], getattr(expected, name), rtol=1e-9, atol=1e-12
        )
    left, again = one.leave_one_out(), other.leave_one_out()
    for name in left._fields:
        np.testing.assert_allclose(
            getattr(again, name)[:, 0], getattr(left, name), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("coupling", [2.0, np.inf])
def test_rotated_labels_rotate_the_answer(coupling: float) -> None:
    source, target, test = pair(2, 3)
    R_s, R_t = ortho_group.rvs(2, random_state=0), ortho_group.rvs(3, random_state=1)
    given: dict[str, Any] = {"width": 20, "coupling": coupling, **PRIORS}
    one = outputs.solve_transfer(source, target, **given)
    other = outputs.solve_transfer(
        MultiOutputTask(source.X, source.y @ R_s), MultiOutputTask(target.X, target.y @ R_t),
        **given,
    )  # fmt: skip
    np.testing.assert_allclose(other.Q_s, R_s.T @ one.Q_s @ R_s, atol=1e-8)
    np.testing.assert_allclose(other.Q_t, R_t.T @ one.Q_t @ R_t, atol=1e-8)
    np.testing.assert_allclose(other.Q_tt, R_t.T @ one.Q_tt @ R_t, atol=1e-8)
    np.testing.assert_allclose(other.Q_st, R_s.T @ one.Q_st @ R_t, atol=1e-8)
    np.testing.assert_allclose(other.log_evidence, one.log_evidence, rtol=1e-9)
    here, there = one.predict(test.X), other.predict(test.X)
    np.testing.assert_allclose(there.mean, here.mean @ R_t, atol=1e-8)
    for name in ("covariance", "source_covariance"):
        rotated = R_t.T @ getattr(here, name) @ R_t
        np.testing.assert_allclose(getattr(there, name), rotated, atol=1e-8)


def test_the_branch_leads_from_scratch_to_frozen() -> None:
    source, target, _ = pair()
    problem = outputs.OutputsTransferProblem(source, target, **PRIORS)
    weak, strong, frozen = (problem.solve(width=20, coupling=g) for g in (1e-5, 1e6, np.inf))
    alone = outputs.solve(target, width=20, **PRIORS)
    np.testing.assert_allclose(weak.Q_t, alone.Q, atol=1e-4)
    np.testing.assert_allclose(weak.log_evidence, alone.log_evidence, rtol=1e-4)
    for name in ("Q_t", "Q_st", "Q_tt", "log_evidence"):
        np.testing.assert_allclose(getattr(strong, name), getattr(frozen, name), atol=3e-4)
    # Private parts do not feel the labels where features are frozen.
    private = frozen.Q_t - frozen.Q_tt
    np.testing.assert_allclose(private, private[0, 0] * np.eye(3), atol=1e-10)
    # Backwards, the branch is followed anew to the same point.
    again = outputs.OutputsTransferProblem(source, target, **PRIORS)
    again.solve(width=20, coupling=30.0)
    one, other = (each.solve(width=20, coupling=2.0).Q_tt for each in (problem, again))
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_transfer_dies_as_one_over_width() -> None:
    source, target, _ = pair()
    problem = outputs.OutputsTransferProblem(source, target, **PRIORS)
    far, farther = (problem.solve(width=width, coupling=2.0).Q_st for width in (1e3, 1e4))
    np.testing.assert_allclose(far, 10 * farther, rtol=0.05, atol=0.02 * np.abs(far).max())
    limit = problem.solve(width=np.inf, coupling=2.0)
    np.testing.assert_array_equal(limit.Q_t, np.eye(3))
    one = transfer.solve(source.column(0), target.column(1), width=np.inf, coupling=2.0, **PRIORS)
    X = target.X[:3]
    np.testing.assert_allclose(limit.predict(X).mean[:, 1], one.predict(X).mean, rtol=1e-9)


def test_a_second_output_without_labels_leaves_the_first_as_it_is() -> None:
    source, target, test = deterministic()
    given: dict[str, Any] = {"width": 20, "coupling": 2.0, **PRIORS}
    one = transfer.solve(source, target, **given)
    both = outputs.solve_transfer(
        MultiOutputTask(source.X, np.column_stack([source.y, 0 * source.y])),
        MultiOutputTask(target.X, np.column_stack([0 * target.y, target.y])),
        **given,
    )
    np.testing.assert_allclose(both.Q_st, [[0, one.Q_st], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(both.Q_tt[1, 1], one.Q_tt, rtol=1e-8)
    outcome, expected = both.predict(test.X), one.predict(test.X)
    np.testing.assert_allclose(outcome.mean[:, 1], expected.mean, rtol=1e-8)
    np.testing.assert_allclose(outcome.covariance[:, 0, 1], 0, atol=1e-9)


# Predictor


@pytest.mark.parametrize("coupling", [2.0, np.inf])
def test_predictor_conditions_one_large_gaussian(coupling: float) -> None:
    """g of training and test points, conditioned on the source by dense algebra; then the rest."""
    source, target, test = pair(2, 3)
    problem = outputs.OutputsTransferProblem(source, target, **PRIORS)
    solution = problem.solve(width=20, coupling=coupling)
    X = np.vstack([target.X, test.X])
    P, n = len(target.X), len(test.X)
    kernels = problem.kernels.test(problem.kernels.products(X), coupling)
    U = problem.source_problem.kernel.factor.eigenvectors
    e = problem.source_problem.kernel.factor.eigenvalues
    K_s, K_st = (U * e) @ U.T, U @ kernels.V
    joint = transfer.TransferProblem(source.column(0), Task(X, X[:, 0]), **PRIORS)
    _, K_t, K_tt = joint.kernels.train(coupling)
    Q_s, Q_t, Q_st, Q_tt = solution.Q_s, solution.Q_t, solution.Q_st, solution.Q_tt
    G_s = 0.1 * np.eye(2 * len(K_s)) + np.kron(Q_s, K_s)
    across = np.kron(Q_st, K_st)
    g = across.T @ np.linalg.solve(G_s, source.y.T.ravel())
    spread = np.kron(Q_tt, K_tt) - across.T @ np.linalg.solve(G_s, across)
    private = np.kron(Q_t, K_t) - np.kron(Q_tt, K_tt)
    seen = (np.arange(3)[:, None] * (P + n) + np.arange(P)).ravel()
    new = (np.arange(3)[:, None] * (P + n) + P + np.arange(n)).ravel()
    gain = private[np.ix_(new, seen)] @ np.linalg.inv(
        private[np.ix_(seen, seen)] + 0.1 * np.eye(3 * P)
    )
    mean = g[new] + gain @ (target.y.T.ravel() - g[seen])
    weights = np.zeros((3 * n, 3 * (P + n)))
    weights[np.arange(3 * n), new] = 1
    weights[:, seen] -= gain
    of_source = weights @ spread @ weights.T
    total = private[np.ix_(new, new)] - gain @ private[np.ix_(seen, new)] + of_source
    outcome = solution.predict(test.X, test.y)
    np.testing.assert_allclose(outcome.mean, mean.reshape(3, n).T, rtol=1e-8, atol=1e-10)
    for found, expected in ((outcome.covariance, total), (outcome.source_covariance, of_source)):
        expected = np.einsum("cxdx->xcd", expected.reshape(3, n, 3, n))
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)
    at_training = solution.predict(target.X, target.y)
    np.testing.assert_allclose(solution.train_error, at_training.test_error.mean(), rtol=1e-8)


def test_leave_one_out_is_the_predictor_without_the_example() -> None:
    source, target, _ = pair(2, 3)
    problem = outputs.OutputsTransferProblem(source, target, **PRIORS)
    saddle, blocks = problem.saddle(20, 2.0), problem.blocks(20, 2.0)
    left = problem.solve(width=20, coupling=2.0).leave_one_out()
    C, P = blocks.y.shape
    W = np.linalg.inv(delta(saddle.D, saddle.Q_tt, blocks))
    r = (blocks.y - saddle.x.T @ blocks.u).ravel()
    E = shared_covariance(saddle.Q_tt, saddle.x, blocks)
    Delta = np.linalg.inv(W)
    mu = 3
    out = np.arange(C) * P + mu
    rest = np.setdiff1d(np.arange(C * P), out)
    gain = Delta[np.ix_(out, rest)] @ np.linalg.inv(Delta[np.ix_(rest, rest)])
    weights = np.zeros((C, C * P))
    weights[np.arange(C), out] = 1
    weights[:, rest] -= gain
    np.testing.assert_allclose(left.residual[mu], weights @ r, rtol=1e-8)
    own = Delta[np.ix_(out, out)] - gain @ Delta[np.ix_(rest, out)] - 0.1 * np.eye(C)
    total = own + weights @ E @ weights.T
    np.testing.assert_allclose(left.covariance[mu], total, rtol=1e-7)


def test_a_lost_branch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, _ = pair()
    problem = outputs.OutputsTransferProblem(source, target, **PRIORS)
    monkeypatch.setattr("tlnb.theory.outputs.transfer_saddle.TOLERANCE", -1.0)
    with pytest.raises(ConvergenceError, match="branch of saddle points was lost"):
        problem.solve(width=20, coupling=1.0)
    with pytest.raises(ConvergenceError, match="no physical saddle point at infinite coupling"):
        problem.solve(width=20, coupling=np.inf)


def test_helpers_of_the_manifold() -> None:
    D, _ = overlaps_of(3)
    np.testing.assert_allclose(root(D) @ root(D), D)
    np.testing.assert_allclose(exponential(logarithm(D)), D)
    with pytest.raises(np.linalg.LinAlgError):
        root(-D)


def test_bad_arguments() -> None:
    source, target, test = pair()
    with pytest.raises(ValueError, match="coupling must be a number >= 0"):
        outputs.solve_transfer(source, target, width=10, coupling=-1)
    with pytest.raises(ValueError, match=r"target\.X must have N0 = 12 columns"):
        outputs.solve_transfer(source, Task(np.ones((2, 3)), [1, 2]), width=10, coupling=1)
    solution = outputs.solve_transfer(source, target, width=10, coupling=1.0, **PRIORS)
    with pytest.raises(ValueError, match="y must have 3 columns"):
        solution.predict(test.X, np.ones((5, 2)))
