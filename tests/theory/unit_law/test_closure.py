"""The closed equations: the scalar theory for a Gaussian field, and what they must solve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import cho_solve

from tests.instances import deterministic
from tlnb.errors import ConvergenceError
from tlnb.kernels import kernel
from tlnb.theory import one_task as scalar_theory
from tlnb.theory.unit_law.closure import close, solve_gaussian, update
from tlnb.theory.unit_law.moments import Moments
from tlnb.theory.unit_law.solution import _numbers, leave_one_out


@pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
@settings(max_examples=10)
@given(width=st.floats(30, 1e4), temperature=st.floats(0.02, 1.0))
def test_a_gaussian_field_gives_the_scalar_theory(
    activation: str, width: float, temperature: float
) -> None:
    """⟨V⟩, errors, evidence and predictor are those of one renormalised kernel (rank K ≤ N1)."""
    source, _, _ = deterministic()
    scalar = scalar_theory.solve(
        source, width=width, temperature=temperature, activation=activation
    )
    K = kernel(source.X, activation=activation)
    closed = solve_gaussian(K, source.y, width=width, temperature=temperature)
    undo = np.sqrt(1 - closed.Q * (closed.t @ K @ closed.t) / width)
    found = _numbers(closed, undo, source.y, width, temperature)
    for name in ("Q", "train_error", "log_evidence"):
        np.testing.assert_allclose(found[name], getattr(scalar, name), rtol=1e-8)
    G = temperature * np.eye(30) + scalar.Q * K
    np.testing.assert_allclose(closed.t, np.linalg.solve(G, source.y), atol=1e-8)
    np.testing.assert_allclose(G @ closed.propagator, np.eye(30), atol=1e-8)


def test_leave_one_out_is_a_refit_without_the_example() -> None:
    source, _, _ = deterministic()
    K = kernel(source.X, activation="erf")
    closed = solve_gaussian(K, source.y, width=20, temperature=0.1)
    outcome = leave_one_out(closed, source.y, 0.1)
    G = 0.1 * np.eye(30) + closed.mean_square * K
    for mu in (0, 17):
        rest = np.arange(30) != mu
        weights = np.linalg.solve(G[np.ix_(rest, rest)], G[rest, mu])
        np.testing.assert_allclose(outcome.mean[mu], weights @ source.y[rest], atol=1e-10)
        variance = G[mu, mu] - 0.1 - weights @ G[rest, mu]
        np.testing.assert_allclose(outcome.total_variance[mu], variance, atol=1e-10)


def _moments(seed: int = 0) -> tuple[Moments, np.ndarray]:
    rng = np.random.default_rng(seed)
    sigma, m2 = rng.standard_normal((40, 10)), rng.exponential(size=40)
    return Moments(sigma.T @ sigma / 40, (m2[:, None] * sigma).T @ sigma / 40), rng.normal(size=10)


def test_the_closure_solves_the_four_equations() -> None:
    moments, y = _moments()
    closed = close(moments, y, width=7, temperature=0.3)
    second, fourth = moments
    np.testing.assert_allclose(0.3 * closed.t + closed.Q * second @ closed.t, y)
    Sigma = closed.Q * second + fourth / 7
    np.testing.assert_allclose(
        closed.propagator @ (0.3 * np.eye(10) + Sigma), np.eye(10), atol=1e-9
    )
    np.testing.assert_allclose(closed.Q * (1 + np.trace(closed.propagator @ second) / 7), 1)
    np.testing.assert_allclose(
        closed.log_det, np.linalg.slogdet(0.3 * np.eye(10) + Sigma)[1], rtol=1e-10
    )


def test_repeated_updates_lead_to_the_closure() -> None:
    moments, y = _moments()
    Q = 1.0
    for _ in range(100):
        Q, factor = update(moments, Q, width=7, temperature=0.3)
    t = cho_solve(factor, y)
    closed = close(moments, y, width=7, temperature=0.3)
    np.testing.assert_allclose([Q, *t], [closed.Q, *closed.t], rtol=1e-8)


def test_the_width_takes_the_law_to_the_prior() -> None:
    """Q → 1 and the force is that of the infinitely wide network, up to order 1/N1."""
    moments, y = _moments()
    K = moments.second
    exact = np.linalg.solve(0.3 * np.eye(10) + K, y)
    off = [
        np.linalg.norm(close(moments, y, width=N1, temperature=0.3).t - exact) for N1 in (1e3, 1e4)
    ]
    assert off[0] / off[1] == pytest.approx(10, rel=0.05)


def test_averages_that_are_no_covariance_are_refused() -> None:
    moments, y = _moments()
    with pytest.raises(ConvergenceError, match="more particles"):
        close(Moments(moments.second - 3 * np.eye(10), moments.fourth), y, width=7, temperature=0.1)
