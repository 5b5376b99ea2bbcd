"""What unfinished solutions lack, measured on few of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tlnb.kernels import InnerProducts, get_activation
from tlnb.theory.large.iterative import Equation, Remainder, Solution, solve
from tlnb.theory.large.low_rank import LowRank
from tlnb.theory.large.tiles import TiledKernel

Array = NDArray[np.float64]
Unfinished = tuple[Equation, Array, Solution, Array]
P, N0, N, Q, T = 400, 20, 120, 3.0, 0.05
ERF = get_activation("erf")


@pytest.fixture(scope="module")
def unfinished() -> Unfinished:
    """An equation, right-hand sides, solutions of few iterations, and the exact diagonal."""
    variances = np.arange(1, N0 + 1) ** -0.7
    X = np.random.default_rng(0).standard_normal((P + N, N0))
    X *= np.sqrt(N0 * variances / variances.sum())
    kernel = TiledKernel.of(X[:P], ERF, 1.0, tile=150)
    equation = Equation.of(kernel, LowRank.of(X[:P], ERF, 1.0, 60), Q, T)
    B = InnerProducts.between(X[:P], X[P:]).dual(ERF, 1.0, 1.0, 1.0)
    found = solve(equation, B, np.sqrt(2e-3 * equation.preconditioner.base))
    K = InnerProducts.of(X[:P]).dual(ERF, 1.0, 1.0, 1.0)
    exact = np.einsum("ij,ij->j", B, np.linalg.solve(T * np.eye(P) + Q * K, B))
    return equation, B, found, exact


def test_what_is_lacking_is_measured_within_its_error(unfinished: Unfinished) -> None:
    equation, B, found, exact = unfinished
    lacking = exact - found.diagonal(B)
    assert (lacking > 0).all()
    measured = Remainder.measured(equation, B, found, 1e-4)
    left = lacking - measured.of(equation, found)
    assert 0 < measured.share < 1.5
    assert abs(left.mean()) < measured.error < 0.3 * lacking.mean()
    assert np.abs(left).mean() < 0.4 * lacking.mean()


def test_the_safe_bound_is_far_too_large(unfinished: Unfinished) -> None:
    _, B, found, exact = unfinished
    bound = found.norms() ** 2 / T
    lacking = exact - found.diagonal(B)
    assert (lacking < bound).all() and lacking.mean() < 0.2 * bound.mean()


def test_finished_solutions_lack_nothing(unfinished: Unfinished) -> None:
    equation, B, _, _ = unfinished
    finished = solve(equation, B, 1e-5)
    measured = Remainder.measured(equation, B, finished, 1e-5)
    assert measured.error < 1e-8 and (measured.of(equation, finished) < 1e-8).all()
    zero = Solution(np.zeros((P, 5)), np.zeros((P, 5)), 0)
    nothing = Remainder.measured(equation, np.zeros((P, 5)), zero, 1e-5)
    assert nothing == (0.0, 0.0) and not nothing.of(equation, zero).any()
    one = Remainder.measured(equation, B[:, :1], finished.columns(slice(1)), 1e-6)
    assert one.error < 1e-8
