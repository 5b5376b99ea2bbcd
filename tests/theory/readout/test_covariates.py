"""Covariances that a Gaussian can have are accepted, others are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlnb.theory.readout.covariates import GaussianCovariates


@given(
    n=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
    rank=st.integers(1, 10),
    scale=st.floats(-6, 6),
)
@settings(max_examples=50)
def test_sample_moments_are_always_accepted(n: int, seed: int, rank: int, scale: float) -> None:
    """Moments of one sample are a possible Gaussian, of full rank or not."""
    rng = np.random.default_rng(seed)
    sample = 10**scale * rng.standard_normal((rank, n + 1))
    moments = sample.T @ sample / rank
    c = GaussianCovariates(moments[:-1, :-1], moments[:-1, -1], moments[-1, -1])
    assert c.n_features == n and (c.eigenvalues >= 0).all()
    lengthened = moments[:-1, -1] * 1.1 + 1e-3 * np.sqrt(moments[-1, -1] * np.diag(moments)[:-1])
    if np.linalg.matrix_rank(moments, tol=1e-6 * moments.max()) < min(n + 1, rank):
        return
    explained = lengthened @ np.linalg.pinv(moments[:-1, :-1]) @ lengthened
    if explained > 1.01 * moments[-1, -1]:
        with pytest.raises(ValueError, match="impossible Gaussian"):
            GaussianCovariates(moments[:-1, :-1], lengthened, moments[-1, -1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 0.2], [0.1, 1.0]], [0, 0], 1.0), "feature_covariance must be a symmetric"),
        (([[1.0, 0.2, 0.1], [0.2, 1.0, 0.1]], [0, 0], 1.0), "symmetric matrix, got shape"),
        (([[1.0, 2.0], [2.0, 1.0]], [0, 0], 1.0), "semi-definite, not 0, got eigenvalues from -1"),
        ((np.zeros((2, 2)), [0, 0], 1.0), "positive semi-definite"),
        ((np.eye(2), [0, 0, 0], 1.0), "teacher_covariance must be .* shape"),
        ((np.eye(2), [0, np.nan], 1.0), "teacher_covariance must be a finite"),
        ((np.full((2, 2), np.inf), [0, 0], 1.0), "feature_covariance must be a finite"),
        ((np.eye(2), [0, 0], 0.0), "teacher_variance must be a number > 0"),
        ((np.eye(2), [1, 1], 1.9), "teacher_variance must be at least .* = 2, .* got 1.9"),
        ((np.diag([1.0, 0.0]), [0.1, 0.1], 1.0), "an impossible Gaussian"),
    ],
)
def test_covariances_that_are_none_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianCovariates(*arguments)
