"""The regularisation of least test error."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tests.theory.readout.instances import LOSSES, covariates
from tlnb.theory.glm import GaussianCovariates, learning_curve, solve
from tlnb.theory.readout import optimum
from tlnb.theory.readout.losses import Loss
from tlnb.theory.readout.solution import GLMSolution, solution_of


@pytest.mark.parametrize("loss", LOSSES)
def test_optimal_regularisation_is_the_best_on_a_fine_grid(loss: Loss) -> None:
    c = covariates(14, 20)
    best = solve(c, sample_ratio=1.5, regularization="optimal", loss=loss)
    grid = best.regularization * np.geomspace(0.02, 50, 41)
    errors = [solve(c, sample_ratio=1.5, regularization=x, loss=loss).test_error for x in grid]
    assert best.test_error <= min(errors) + 1e-9
    refined = minimize_scalar(
        lambda t: solve(c, sample_ratio=1.5, regularization=np.exp(t), loss=loss).test_error,
        bounds=np.log(best.regularization) + np.array([-1, 1]),
        method="bounded",
    )
    assert best.test_error == pytest.approx(refined.fun, rel=1e-6)


def test_optimal_ridge_is_that_of_the_noise() -> None:
    """Isotropic linear regression: the posterior mean's λ, noise over signal."""
    rng = np.random.default_rng(15)
    K, noise = 40, 0.3
    w = rng.standard_normal(K) / np.sqrt(K)
    c = GaussianCovariates(np.eye(K), w, w @ w + noise)
    given: dict[str, Any] = {"sample_ratio": 2.0, "loss": "square", "labels": "linear"}
    best = solve(c, regularization="optimal", **given)
    assert best.regularization == pytest.approx(noise / (w @ w), rel=2e-3)


@pytest.mark.parametrize("regularization", ["optimal", 1e-3, 1e3])
def test_initial_is_where_the_search_begins(
    monkeypatch: pytest.MonkeyPatch, regularization: Literal["optimal"] | float
) -> None:
    """The scan starts from the solution close by, in the decade of its λ; the optimum stays."""
    c = covariates(18, 20)
    near = solve(c, sample_ratio=1.5, regularization=regularization)
    alone = solve(c, sample_ratio=1.6, regularization="optimal")
    tried = []

    def noted(at: Any, start: Any) -> GLMSolution:
        tried.append((at.regularization, start))
        return solution_of(at, start)

    monkeypatch.setattr(optimum, "solution_of", noted)
    helped = solve(c, sample_ratio=1.6, regularization="optimal", initial=near)
    first, start = tried[0]
    assert start is near
    assert abs(np.log10(first / near.regularization)) <= 0.5 or first == max(tried)[0]
    assert all(start is not None for _, start in tried)
    assert helped.test_error == pytest.approx(alone.test_error, rel=1e-9)
    assert helped.regularization == pytest.approx(alone.regularization, rel=1e-2)


def test_flat_errors_take_the_least_regularisation() -> None:
    """Of a teacher that the features do not see, every readout is as bad."""
    blind = GaussianCovariates(np.eye(6), np.zeros(6), 1.0)
    best = solve(blind, sample_ratio=2.0, regularization="optimal", loss="square")
    assert best.regularization == pytest.approx(1e-4)


def test_double_descent_is_cured_by_the_optimal_regularisation() -> None:
    c = covariates(17, 40, spread=0.3, explained=0.7)
    given: dict[str, Any] = {"sample_ratios": [0.5, 1.0, 2.0], "loss": "square"}
    peak = learning_curve(c, regularization=1e-4, **given).test_error.values
    tuned = learning_curve(c, regularization="optimal", **given).test_error.values
    assert peak[1] > peak[0] and peak[1] > peak[2]
    assert tuned[0] > tuned[1] > tuned[2]
