"""Factors of positive definite matrices, against plain linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import LinAlgError

from tlnb.theory.factors import SMALL, Cholesky, InverseCholesky, whitening


def matrices(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G > 0, a symmetric A and columns B (n, 3 n)."""
    root, A, *B = np.random.default_rng(n).standard_normal((5, n, n))
    return root @ root.T + 0.1 * np.eye(n), A + A.T, np.hstack(B)


@pytest.mark.parametrize("kind", [Cholesky, InverseCholesky])
def test_a_factor_solves_whitens_and_knows_the_determinant(
    kind: type[Cholesky] | type[InverseCholesky],
) -> None:
    G, A, B = matrices(7)
    lower = np.linalg.cholesky(G)
    factor = kind.of(G.copy())
    for columns in (B, B[:, :2], B[:, 0]):
        np.testing.assert_allclose(factor.solve(columns), np.linalg.solve(G, columns))
        np.testing.assert_allclose(lower @ factor.half(columns), columns)
        np.testing.assert_allclose(lower.T @ factor.half_transposed(columns), columns)
    np.testing.assert_allclose(lower @ factor.whitened(A) @ lower.T, A)
    np.testing.assert_allclose(factor.log_det(), np.linalg.slogdet(G)[1])
    with pytest.raises(LinAlgError, match="positive definite"):
        kind.of(-G)


def test_rows_are_whitened_in_their_place() -> None:
    G, _, B = matrices(7)
    rows = np.array(B.T, order="F")
    half = Cholesky.of(G.copy()).inverted().half_rows(rows)
    assert np.shares_memory(half, rows)
    np.testing.assert_allclose(np.linalg.cholesky(G) @ half.T, B)


def test_small_matrices_are_whitened_by_products() -> None:
    assert isinstance(whitening(np.eye(SMALL)), InverseCholesky)
    assert isinstance(whitening(np.eye(SMALL + 1)), Cholesky)
