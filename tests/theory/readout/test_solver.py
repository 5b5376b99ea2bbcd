"""The replica readout: an independent slow solver, closed forms, limits, fits by scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import erfc
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from tests.theory.readout.instances import LOSSES, covariates, slow_proximal
from tlnb.errors import ConvergenceError
from tlnb.theory.glm import GaussianCovariates, learning_curve, solve
from tlnb.theory.readout import iteration
from tlnb.theory.readout.fixed_point import Labels
from tlnb.theory.readout.losses import Loss

# An independent slow computation: scalar proximal maps by bracketing, adaptive quadrature over both
# labels, matrices instead of eigenvalues, damped plain iteration.


def slow_conjugates(
    c: GaussianCovariates, ratio: float, loss: Loss, V: float, q: float, m: float
) -> np.ndarray:
    """V̂ through Stein's identity, so that no derivative of a proximal map is taken."""
    hidden, total = c.teacher_variance - m**2 / q, np.zeros(3)
    for y in (-1, 1):

        def pull(xi: float, y: float = y) -> float:
            a = y * np.sqrt(q) * xi
            return y * (slow_proximal(a, V, loss) - a) / V

        def Z(xi: float, y: float = y) -> float:
            return erfc(-y * m * xi / np.sqrt(2 * q * hidden)) / 2

        def dZ(xi: float, y: float = y) -> float:
            return y * np.exp(-((m * xi) ** 2) / (2 * q * hidden)) / np.sqrt(2 * np.pi * hidden)

        special = [0, -1, 1, -4, 4, y / np.sqrt(q), y * (1 - V) / np.sqrt(q), -y * V / np.sqrt(q)]
        points = sorted({x for x in special if abs(x) < 9})

        def mean(f: Any, points: Any = points) -> float:
            def integrand(xi: float) -> float:
                return f(xi) * np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi)

            return quad(integrand, -9, 9, points=points, limit=500, epsabs=1e-13, epsrel=1e-10)[0]

        by_dZ = mean(lambda xi: dZ(xi) * pull(xi))
        by_xi = mean(lambda xi: xi * Z(xi) * pull(xi))
        square = mean(lambda xi: Z(xi) * pull(xi) ** 2)
        total += ratio * np.array([m / q * by_dZ - by_xi / np.sqrt(q), square, by_dZ])
    return total


def slow_overlaps(c: GaussianCovariates, regularization: float, hats: np.ndarray) -> np.ndarray:
    K, omega, tau = c.n_features, c.feature_covariance, c.teacher_covariance
    inverse = np.linalg.inv(regularization * np.eye(K) + hats[0] * omega)
    q = hats[1] * np.trace(omega @ inverse @ omega @ inverse) / K
    q += hats[2] ** 2 * tau @ inverse @ omega @ inverse @ tau
    return np.array([np.trace(omega @ inverse) / K, q, hats[2] * tau @ inverse @ tau])


def slow_step(
    c: GaussianCovariates,
    ratio: float,
    regularization: float,
    loss: Loss,
    overlaps: Iterable[float],
) -> np.ndarray:
    return slow_overlaps(c, regularization, slow_conjugates(c, ratio, loss, *overlaps))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("ratio", "regularization", "explained"), [(2.0, 0.3, 0.9), (0.5, 1.0, 1.0), (8.0, 0.1, 0.5)]
)
def test_agrees_with_plain_iteration_by_adaptive_quadrature(
    loss: Loss, ratio: float, regularization: float, explained: float
) -> None:
    c = covariates(n_features=8, explained=explained)
    overlaps = np.array([1.0, 1.0, 0.1 * np.sqrt(c.teacher_variance)])
    for _ in range(200):
        new = slow_step(c, ratio, regularization, loss, overlaps)
        change, overlaps = np.abs(new / overlaps - 1).max(), 0.3 * overlaps + 0.7 * new
        if change < 1e-8:
            break
    found = solve(c, sample_ratio=ratio, regularization=regularization, loss=loss)
    np.testing.assert_allclose(found[:3], overlaps, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ratio", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("regularization", [1e-4, 10.0])
def test_is_a_fixed_point_of_the_slow_map_at_the_extremes(
    loss: Loss, ratio: float, regularization: float
) -> None:
    for spread, explained in ((0.5, 0.6), (2.5, 1.0)):
        c = covariates(1, spread=spread, explained=explained)
        found = solve(c, sample_ratio=ratio, regularization=regularization, loss=loss)
        assert found.converged and found.residual < iteration.TOLERANCE
        assert found.m**2 <= c.teacher_variance * found.q
        once = slow_step(c, ratio, regularization, loss, found[:3])
        np.testing.assert_allclose(once, found[:3], rtol=1e-8)


def test_numbers_of_a_known_instance() -> None:
    """Sign inputs, erf features, random first layer: K = 150, N0 = 300, D = 200.

    The errors were computed apart from this package, from the equations of Loureiro et al. (2021),
    on other draws of these covariances: hence the tolerance.
    """
    rng = np.random.default_rng(0)
    N0, D, K = 300, 200, 150
    F, theta, W = (rng.standard_normal(shape) for shape in ((D, N0), D, (K, N0)))
    F_F = F.T @ F / D
    slope = np.sqrt(2 / (np.pi * np.diag(F_F)))
    inputs = slope[:, None] * slope * F_F
    np.fill_diagonal(inputs, 1.0)
    fields = W @ inputs @ W.T / N0
    s = np.diag(fields)
    gain = 2 / np.sqrt(np.pi * (1 + 2 * s))
    omega = gain[:, None] * gain * fields
    np.fill_diagonal(omega, 2 / np.pi * np.arcsin(2 * s / (1 + 2 * s)))
    tau = gain * (W @ (slope * (F.T @ theta))) / (D * np.sqrt(N0))
    c = GaussianCovariates(omega, tau, theta @ theta / D)
    given: dict[str, Any] = {"regularization": 0.1}
    assert solve(c, sample_ratio=2, loss="square", **given).test_error == pytest.approx(
        0.4051, abs=4e-3
    )
    assert solve(c, sample_ratio=2, **given).test_error == pytest.approx(0.3953, abs=4e-3)
    assert solve(c, sample_ratio=5, loss="hinge", **given).test_error == pytest.approx(
        0.3709, abs=4e-3
    )


# Closed forms


@pytest.mark.parametrize("labels", ["sign", "linear"])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("regularization", [1e-4, 0.5])
def test_ridge_in_closed_form(labels: Labels, ratio: float, regularization: float) -> None:
    """One scalar equation, then linear algebra: the deterministic equivalent of ridge regression.

    The readout is shrunk as by a ridge S = λ(1 + V)/α on the population's covariance.
    """
    c = covariates(3, 30, spread=0.7)
    e, t2, rho, K = c.eigenvalues, c.squared_projections, c.teacher_variance, c.n_features

    def gap(V: np.ndarray) -> np.ndarray:
        return np.mean(e / (regularization + ratio * e / (1 + V))) - V

    V = brentq(gap, 0, np.mean(e) / regularization * 1.01, xtol=1e-300, rtol=1e-14)
    slope, power = (1.0, rho) if labels == "linear" else (np.sqrt(2 / (np.pi * rho)), 1.0)
    S = regularization * (1 + V) / ratio
    t2 = slope**2 * t2
    shrunk = e / (e + S)
    variance = np.sum(shrunk**2) / (ratio * K)
    bias = power - np.sum(t2 * (e + 2 * S) / (e + S) ** 2)  # E(y - w·u)² of the shrunk readout
    error = bias / (1 - variance)  # the generalised cross-validation identity
    found = solve(
        c, sample_ratio=ratio, regularization=regularization, loss="square", labels=labels
    )
    correlation = slope * found.m
    assert found.V == pytest.approx(V, rel=1e-10)
    assert correlation == pytest.approx(np.sum(t2 / (e + S)), rel=1e-9)
    assert power - 2 * correlation + found.q == pytest.approx(error, rel=1e-8)
    assert found.train_loss == pytest.approx(error / (1 + V) ** 2 / 2, rel=1e-8)
    if labels == "linear":
        assert found.test_error == pytest.approx(error, rel=1e-8)
        assert found.train_error == pytest.approx(2 * found.train_loss, rel=1e-12)


def test_square_loss_through_quadrature_is_its_closed_form() -> None:
    c = covariates(4)
    found = solve(c, sample_ratio=1.5, regularization=0.1, loss="square")
    hats = slow_conjugates(c, 1.5, "square", *found[:3])
    np.testing.assert_allclose(found[3:6], hats, rtol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ratio", [0.4, 3.0])
def test_norm_is_the_derivative_of_the_objective(loss: Loss, ratio: float) -> None:
    """Envelope theorem: d min[ℓ + λ‖a‖²/2]/dλ = ‖a‖²/2, per example ‖a‖²/(2αK)."""
    c, λ, h = covariates(5), 0.05, 1e-5
    low, at, high = (
        solve(c, sample_ratio=ratio, regularization=x, loss=loss) for x in (λ - h, λ, λ + h)
    )
    slope = (high.objective - low.objective) / (2 * h)
    assert slope == pytest.approx(at.norm / (2 * ratio), rel=1e-6)
    assert low.objective < at.objective < high.objective
    assert at.objective == pytest.approx(at.train_loss + λ * at.norm / (2 * ratio), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_step_of_the_readout_at_large_regularisation(loss: Loss) -> None:
    """a = Σ_μ y_μ u_μ ℓ'/(λ sqrt(K)): the mean direction, of any loss, with the slope at zero."""
    c, α, λ = covariates(6), 2.0, 1e7
    found = solve(c, sample_ratio=α, regularization=λ, loss=loss)
    pull = 0.5 if loss == "logistic" else 1.0
    e, t2, rho = c.eigenvalues, c.squared_projections, c.teacher_variance
    m = α * pull * np.sqrt(2 / (np.pi * rho)) * t2.sum() / λ
    q = α * pull**2 * (np.mean(e**2) + α * 2 / (np.pi * rho) * (t2 * e).sum()) / λ**2
    np.testing.assert_allclose([found.V, found.q, found.m], [np.mean(e) / λ, q, m], rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_is_learned_from_few_examples(loss: Loss) -> None:
    found = solve(covariates(7), sample_ratio=1e-7, regularization=0.5, loss=loss)
    assert found.test_error == pytest.approx(0.5, abs=1e-3)
    assert found.V == pytest.approx(covariates(7).eigenvalues.mean() / 0.5, rel=1e-5)


def test_a_teacher_unrelated_to_the_features_is_not_learned() -> None:
    c = covariates(8)
    blind = GaussianCovariates(c.feature_covariance, np.zeros(12), 1.0)
    for loss in LOSSES:
        found = solve(blind, sample_ratio=2, regularization=0.1, loss=loss)
        assert found.m == 0 and found.q > 0 and found.test_error == 0.5


def test_many_examples_reach_the_best_linear_readout() -> None:
    c = covariates(9, explained=0.8)
    found = solve(c, sample_ratio=1e5, regularization=1e-3, loss="square")
    assert found.test_error == pytest.approx(np.arccos(np.sqrt(0.8)) / np.pi, abs=1e-4)


def test_training_error_vanishes_on_the_separable_side() -> None:
    c = covariates(10)
    few, many = (solve(c, sample_ratio=x, regularization=1e-4) for x in (0.3, 8.0))
    assert few.train_error < 1e-12 and few.train_loss < 1e-3
    assert many.train_error > 0.01


def test_scales_of_features_and_teacher_are_conventions() -> None:
    """ν → bν changes nothing; u → su with λ → s²λ neither, but for a → a/s."""
    c = covariates(11)
    given: dict[str, Any] = {"sample_ratio": 1.3, "loss": "logistic"}
    at = solve(c, regularization=0.2, **given)
    omega, tau, rho = c.feature_covariance, c.teacher_covariance, c.teacher_variance
    louder = solve(GaussianCovariates(omega, 1e3 * tau, 1e6 * rho), regularization=0.2, **given)
    assert louder.test_error == pytest.approx(at.test_error, rel=1e-9)
    assert louder.m == pytest.approx(1e3 * at.m, rel=1e-8)
    larger = solve(GaussianCovariates(25 * omega, 5 * tau, rho), regularization=5.0, **given)
    assert larger.test_error == pytest.approx(at.test_error, rel=1e-9)
    assert larger.norm == pytest.approx(at.norm / 25, rel=1e-8)


# Simulation


def fitted(c: GaussianCovariates, ratio: float, λ: float, loss: Loss, draws: int) -> np.ndarray:
    """Test error, and the error and loss on the training examples, of scikit-learn's readouts."""
    rng = np.random.default_rng(12)
    K, omega, tau = c.n_features, c.feature_covariance, c.teacher_covariance
    joint = np.block([[omega, tau[:, None]], [tau[None], c.teacher_variance]])
    values, vectors = np.linalg.eigh(joint)
    root = vectors * np.sqrt(values.clip(0))
    out = []
    for _ in range(draws):
        draw = rng.standard_normal((round(ratio * K), K + 1)) @ root.T
        U, y = draw[:, :-1] / np.sqrt(K), np.sign(draw[:, -1])
        model = {
            "logistic": LogisticRegression(C=1 / λ, fit_intercept=False, tol=1e-8, max_iter=2000),
            "square": Ridge(alpha=λ, fit_intercept=False),
            "hinge": LinearSVC(C=1 / λ, loss="hinge", fit_intercept=False, tol=1e-6,
                               max_iter=100_000),
        }[loss]  # fmt: skip
        a = np.ravel(model.fit(U, y).coef_)
        m, q = tau @ a / np.sqrt(K), a @ omega @ a / K
        margins = y * (U @ a)
        losses = {
            "logistic": np.logaddexp(0, -margins),
            "square": (1 - margins) ** 2 / 2,
            "hinge": np.maximum(0, 1 - margins),
        }[loss]
        test = np.arccos(m / np.sqrt(c.teacher_variance * q)) / np.pi
        out.append([test, np.mean(margins < 0), losses.mean(), a @ a / K])
    return np.array(out)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ratio", [0.7, 3.0])
def test_agrees_with_fits_to_gaussian_draws(loss: Loss, ratio: float) -> None:
    c, λ = covariates(13, 100, explained=0.8), 0.2
    seen = fitted(c, ratio, λ, loss, draws=40)
    found = solve(c, sample_ratio=ratio, regularization=λ, loss=loss)
    expected = np.array([found.test_error, found.train_error, found.train_loss, found.norm])
    error = seen.std(axis=0, ddof=1) / np.sqrt(len(seen))
    assert (np.abs(seen.mean(axis=0) - expected) < 4 * error + 0.01 * expected + 1e-4).all()


# Learning curves


@pytest.mark.parametrize("regularization", [1e-3, "optimal"])
def test_learning_curve_is_the_single_solutions(regularization: float | Literal["optimal"]) -> None:
    c, ratios = covariates(16), [3.0, 0.4, 1.0]
    curve = learning_curve(c, sample_ratios=ratios, regularization=regularization, loss="hinge")
    assert curve.sample_ratio.values.tolist() == ratios
    assert curve.attrs["loss"] == "hinge" and curve.converged.values.all()
    for ratio in ratios:
        alone = solve(c, sample_ratio=ratio, regularization=regularization, loss="hinge")
        at = curve.sel(sample_ratio=ratio)
        assert float(at.test_error) == pytest.approx(alone.test_error, rel=1e-7)
    assert (curve.residual < 1e-9).all()


# Bad input


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"sample_ratio": 0}, ValueError, "sample_ratio must be a number > 0, got 0"),
        ({"sample_ratio": "1"}, TypeError, "sample_ratio must be a number"),
        ({"regularization": 0}, ValueError, "regularization must be .* got 0: .* runs away"),
        ({"regularization": -1.0}, ValueError, "regularization must be a number > 0, got -1"),
        ({"regularization": "best"}, ValueError, "regularization must be one of 'optimal'"),
        ({"regularization": None}, TypeError, "regularization must be a number"),
        ({"loss": "exponential"}, ValueError, "loss must be one of 'logistic'"),
        ({"labels": "noisy"}, ValueError, "labels must be one of 'sign', 'linear'"),
        ({"labels": "linear"}, ValueError, "labels='linear' must come with loss='square'"),
        ({"initial": 3}, TypeError, "initial must be a GLMSolution or None, got int"),
        ({"covariates": np.eye(2)}, TypeError, "covariates must be GaussianCovariates"),
    ],
)
def test_bad_arguments_are_named(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {
        "covariates": covariates(),
        "sample_ratio": 1.0,
        "regularization": 0.1,
    } | changed
    with pytest.raises(error, match=message):
        solve(given.pop("covariates"), **given)


def test_bad_curves_are_named() -> None:
    with pytest.raises(ValueError, match="sample_ratios must hold at least one"):
        learning_curve(covariates(), sample_ratios=[], regularization=0.1)
    with pytest.raises(ValueError, match="sample_ratios must be a number > 0, got -1"):
        learning_curve(covariates(), sample_ratios=[1, -1], regularization=0.1)
    with pytest.raises(TypeError, match="sample_ratios must be a number > 0, got None"):
        learning_curve(covariates(), sample_ratios=None, regularization=0.1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("extreme", [{"regularization": 1e300}, {"sample_ratio": 1e300}])
def test_numbers_beyond_floating_point_do_not_converge(loss: Loss, extreme: dict[str, Any]) -> None:
    with pytest.raises(ConvergenceError, match="no fixed point at sample_ratio"):
        solve(covariates(), loss=loss, **{"sample_ratio": 1.0, "regularization": 1.0} | extreme)


def test_failure_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iteration, "TOLERANCE", -1.0)
    with pytest.raises(ConvergenceError, match=r"residual .* regularization=.* more noise"):
        solve(covariates(), sample_ratio=1.0, regularization=0.1)
