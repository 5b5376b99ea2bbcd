"""Scores against their definitions, worked by hand or computed by another route."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import BayesianRidge

from tlnb import scores


def features(n: int = 40, k: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    F = rng.standard_normal((n, k)) @ rng.standard_normal((k, k))
    return F, np.sign(F @ rng.standard_normal(k) + rng.standard_normal(n))


# LEEP


def test_leep_by_hand() -> None:
    # P(y, z): rows +: (.9 + .5)/4, (.1 + .5)/4; rows -: (.2 + .4)/4, (.8 + .6)/4
    theta = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.4, 0.6]])
    plus, minus = np.array([1.4 / 2.0, 0.6 / 2.0]), np.array([0.6 / 2.0, 1.4 / 2.0])
    by_hand = [theta[0] @ plus, theta[1] @ plus, theta[2] @ minus, theta[3] @ minus]
    found = scores.leep(theta, ["+", "+", "-", "-"])
    np.testing.assert_allclose(found, np.log([0.66, 0.5, 0.62, 0.54]).mean(), rtol=1e-14)
    np.testing.assert_allclose(found, np.log(by_hand).mean(), rtol=1e-14)


def test_leep_of_a_source_that_says_nothing_is_minus_the_entropy() -> None:
    y = np.array([0, 0, 0, 1, 2, 2])
    p = np.array([3, 1, 2]) / 6
    found = scores.leep(np.full((6, 4), 0.25), y)
    np.testing.assert_allclose(found, (p * np.log(p)).sum(), rtol=1e-14)


def test_leep_is_below_the_best_classifier_on_the_sources_outputs() -> None:
    # property 1 of its paper; property 2, the bound from below, for a source sure of its classes
    rng = np.random.default_rng(1)
    theta, y = rng.dirichlet(np.ones(3), 50), rng.integers(0, 2, 50)

    def loss(logits: np.ndarray) -> float:
        table = np.exp(logits.reshape(2, 3))
        return -np.log(((table / table.sum(axis=0))[y] * theta).sum(axis=1)).mean()

    assert scores.leep(theta, y) < -minimize(loss, np.zeros(6)).fun
    z = theta.argmax(axis=1)
    table = np.array([[np.mean((y == a) & (z == b)) for b in range(3)] for a in range(2)])
    conditional_entropy = -np.sum(table * np.log(table / table.sum(axis=0)))
    np.testing.assert_allclose(scores.leep(np.eye(3)[z], y), -conditional_entropy, rtol=1e-12)


# LogME


def test_evidence_is_that_of_the_multivariate_normal() -> None:
    F, y = features()
    for alpha, beta in ((1.0, 1.0), (0.01, 30.0), (50.0, 0.2)):
        covariance = F @ F.T / alpha + np.eye(len(F)) / beta
        expected = multivariate_normal(cov=covariance).logpdf(y) / len(F)
        np.testing.assert_allclose(scores.log_evidence(F, y, alpha, beta), expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(40, 6), (12, 30)], ids=["tall", "wide"])
def test_log_me_is_the_largest_evidence(shape: tuple[int, int]) -> None:
    F, y = features(*shape)
    columns = [(y == label).astype(float) for label in (1, -1)]
    largest = []
    for column in columns:

        def loss(t: Any, column: Any = column) -> float:
            covariance = F @ F.T * np.exp(-t[0]) + np.eye(len(F)) * np.exp(-t[1])
            return -multivariate_normal(cov=covariance).logpdf(column) / len(F)

        starts = [(0, 0), (3, 2), (-3, 2), (6, 1)]
        options: dict[str, Any] = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000}
        found = [minimize(loss, start, method="Nelder-Mead", options=options) for start in starts]
        largest.append(-min(result.fun for result in found))
    np.testing.assert_allclose(scores.log_me(F, y), np.mean(largest), rtol=1e-7)


def test_log_me_is_where_the_fixed_point_of_its_paper_ends() -> None:
    # the update of MacKay that the paper iterates, as scikit-learn has it for real targets
    F, _ = features(60, 5)
    y = F @ np.arange(5) + np.random.default_rng(3).standard_normal(60)
    options: dict[str, Any] = {
        "alpha_1": 0,
        "alpha_2": 0,
        "lambda_1": 0,
        "lambda_2": 0,
        "tol": 1e-12,
    }
    model = BayesianRidge(fit_intercept=False, max_iter=10_000, **options).fit(F, y)
    expected = scores.log_evidence(F, y, model.lambda_, model.alpha_)
    np.testing.assert_allclose(scores.log_me(F, y), expected, rtol=1e-9)


# H-score


@pytest.mark.parametrize("shape", [(40, 6), (8, 20)], ids=["tall", "wide"])
def test_h_score_by_its_definition(shape: tuple[int, int]) -> None:
    F, _ = features(*shape)
    y = np.random.default_rng(2).integers(0, 3, len(F))
    means = np.array([F[y == label].mean(axis=0) for label in y])
    between = np.cov(means, rowvar=False, bias=True)
    within = np.linalg.pinv(np.cov(F, rowvar=False, bias=True), rcond=1e-10)
    np.testing.assert_allclose(scores.h_score(F, y), np.trace(within @ between), rtol=1e-8)


def test_h_score_of_one_feature_is_the_share_of_variance_explained() -> None:
    f, y = np.array([[0.0], [2.0], [5.0], [7.0]]), [0, 0, 1, 1]
    np.testing.assert_allclose(scores.h_score(f, y), 6.25 / 7.25)
    np.testing.assert_allclose(scores.h_score(-3 * f + 8, y), 6.25 / 7.25)
    assert scores.h_score(np.eye(4), y) == pytest.approx(1)  # as many features as examples
    assert scores.h_score(np.ones((4, 2)), y) == 0


# alignment


def test_alignment_by_hand_and_by_its_definition() -> None:
    y = np.array([1.0, 1.0, -1.0])
    K = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    # ⟨K, yyᵀ⟩ = 6 + 2, ‖K‖ = sqrt(14), ‖yyᵀ‖ = 3
    np.testing.assert_allclose(
        scores.kernel_alignment(K, y, centred=False), 8 / (3 * np.sqrt(14)), rtol=1e-14
    )
    H = np.eye(3) - 1 / 3
    Kc, Lc = H @ K @ H, H @ np.outer(y, y) @ H
    expected = np.vdot(Kc, Lc) / (np.linalg.norm(Kc) * np.linalg.norm(Lc))
    np.testing.assert_allclose(scores.kernel_alignment(K, y), expected, rtol=1e-13)


def test_alignment_is_one_for_the_labels_own_kernel() -> None:
    y = np.sign(np.random.default_rng(0).standard_normal(20))
    for centred in (True, False):
        np.testing.assert_allclose(scores.kernel_alignment(np.outer(y, y), y, centred=centred), 1)
    classes = np.arange(20) % 4
    codes = np.eye(4)[classes]
    np.testing.assert_allclose(scores.kernel_alignment(codes @ codes.T, classes), 1)
    assert scores.kernel_alignment(np.ones((20, 20)), y) == 0


def test_bad_input() -> None:
    F, y = features(10, 3)
    for call, message in [
        (lambda: scores.leep([[0.5, 0.6]], [1]), "rows >= 0 that sum to 1"),
        (lambda: scores.leep([[1.5, -0.5]], [1]), "rows >= 0 that sum to 1"),
        (lambda: scores.leep([[1.0, 0.0]], [1, 2]), r"y must have shape \(1,\), got \(2,\)"),
        (lambda: scores.h_score(F[0], y), "features must be"),
        (lambda: scores.h_score(F, y[1:]), r"y must have shape \(10,\)"),
        (lambda: scores.log_me(np.full((2, 2), np.nan), [0, 1]), "features must be"),
        (lambda: scores.log_me(F, np.full(10, np.nan)), "y must be finite"),
        (lambda: scores.kernel_alignment(F, y), "symmetric array of shape"),
        (lambda: scores.kernel_alignment([[1, 2], [0, 1]], [1, -1]), "symmetric array"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
