"""Gaussian-equivalent covariances: exact where they are, near to measured ones elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tlnb import Activation, CorrelatedHiddenManifold
from tlnb.kernels import get_activation
from tlnb.theory.readout import equivalence
from tlnb.theory.readout.covariates import GaussianCovariates
from tlnb.theory.readout.equivalence import (
    analytic_covariates,
    covariance_error,
    measured_covariates,
)

BASE = CorrelatedHiddenManifold(60, 40, random_state=1)


def first_layer(K: int, N0: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((K, N0))


def measured(side: Any, W: np.ndarray, activation: str, n: int, seed: int) -> GaussianCovariates:
    c = np.random.default_rng(seed).standard_normal((n, side.latent_dim))
    u = get_activation(activation)(side.inputs(c) @ W.T / np.sqrt(side.n_features))
    return measured_covariates(u, side.field(c))


def squared_errors(manifold: Any, W: np.ndarray, activation: str, n: int = 20_000) -> list[float]:
    """Squared relative errors of Ω and τ, free of the noise of the two draws they come from."""
    analytic = analytic_covariates(manifold, W, activation=activation)
    draws = [measured(manifold.target, W, activation, n, seed) for seed in (1, 2)]
    squares = []
    for name in ("feature_covariance", "teacher_covariance"):
        exact, (a, b) = getattr(analytic, name), (getattr(draw, name) for draw in draws)
        squares.append(np.vdot(exact - a, exact - b) / np.vdot(exact, exact))
    return squares


@pytest.mark.parametrize("K", [1, 25, 70])
def test_linear_networks_of_linear_manifolds_are_exact(K: int) -> None:
    m = replace(BASE, nonlinearity="linear", target_latent_dim=30, teacher_overlap=0.2)
    W = first_layer(K, 60)
    got = analytic_covariates(m, W, activation="linear")
    to_latent = W @ m.F_target.T / np.sqrt(30 * 60)  # u = to_latent c
    assert_allclose(got.feature_covariance, to_latent @ to_latent.T, rtol=1e-12, atol=1e-13)
    expected = to_latent @ m.theta_target / np.sqrt(30)
    assert_allclose(got.teacher_covariance, expected, rtol=1e-12, atol=1e-13)
    assert_allclose(got.teacher_variance, m.theta_target @ m.theta_target / 30, rtol=1e-14)


@pytest.mark.parametrize("activation", ["erf", "relu", "sign", "tanh", "gelu", np.sin])
def test_gaussian_preactivations_leave_only_the_higher_hermite_coefficients(
    activation: str,
) -> None:
    m = replace(BASE, nonlinearity="linear", latent_dim=30)
    W, σ = first_layer(25, 60), get_activation(activation)
    got = analytic_covariates(m, W, activation=activation)
    linear = analytic_covariates(m, W, activation="linear")
    Σ, s = linear.feature_covariance, np.diagonal(linear.feature_covariance)
    exact = σ.dual(s, Σ, s) - np.outer(σ.mean(s), σ.mean(s))
    assert_allclose(np.diagonal(got.feature_covariance), np.diagonal(exact), rtol=1e-6)
    # Mehler: Σ_k a_k(s_i) a_k(s_j) ρ^k from k = 2 on, bounded by Cauchy-Schwarz
    a = σ.hermite_coefficients(s, 1)
    rest, ρ2 = σ.dual_diagonal(s, s, s) - (a**2).sum(-1), Σ**2 / np.outer(s, s)
    bound = np.sqrt(np.outer(rest, rest)) * ρ2 + 1e-9
    assert (abs(got.feature_covariance - exact)[~np.eye(25, dtype=bool)] <= bound.max()).all()
    assert (abs(got.feature_covariance - exact) <= bound).all()
    # Stein: E[σ(h) ν] = g1(s) E[h ν], no approximation
    assert_allclose(got.teacher_covariance, a[:, 1] / np.sqrt(s) * linear.teacher_covariance)


@pytest.mark.parametrize("nonlinearity", ["sign", "tanh", "linear"])
@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh", "gelu", np.sin])
def test_analytic_covariances_are_near_measured_ones(nonlinearity: str, activation: str) -> None:
    m = replace(BASE, nonlinearity=nonlinearity, teacher_overlap=0.3, replaced_fraction=0.5)
    Ω_error, τ_error = squared_errors(m, first_layer(30, 60), activation)
    odd = activation not in ("relu", "gelu")
    assert Ω_error < (0.045 if odd else 0.09) ** 2
    assert τ_error < 0.04**2


@pytest.mark.parametrize(("activation", "power"), [("erf", -1.0), ("relu", -0.5)])
def test_the_error_shrinks_with_size(activation: str, power: float) -> None:
    """As 1/size for odd features, where ρ³ is dropped, and as 1/sqrt(size) where ρ² is."""

    def mean_error(size: int) -> float:
        squares = [
            squared_errors(
                CorrelatedHiddenManifold(15 * size, 10 * size, random_state=seed),
                first_layer(8 * size, 15 * size),
                activation,
                n=10_000,
            )[0]
            for seed in range(6)
        ]
        return np.sqrt(np.mean(squares))

    sizes = [2, 4, 8]
    errors = [mean_error(size) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(slope - power) < 0.3
    assert errors[-1] < 0.06


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (40, 3, 2), (40, 60, 2), (200, 60, 40)])
@pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
@pytest.mark.parametrize("nonlinearity", ["sign", "linear"])
def test_any_size_gives_a_possible_gaussian(
    shape: tuple[int, int, int], activation: str, nonlinearity: str
) -> None:
    K, N0, D = shape
    m = CorrelatedHiddenManifold(N0, D, nonlinearity=nonlinearity, random_state=4)
    got = analytic_covariates(m, first_layer(K, N0), activation=activation)
    e, U = np.linalg.eigh(got.feature_covariance)
    assert e[0] > -1e-12 * e[-1]
    seen = e > 1e-9 * e[-1]
    explained = ((U.T @ got.teacher_covariance)[seen] ** 2 / e[seen]).sum()
    assert explained <= got.teacher_variance * (1 + 1e-9)


def test_label_noise_enters_the_teacher_variance_alone() -> None:
    W = first_layer(10, 60)
    clean, noisy = (
        analytic_covariates(replace(BASE, label_noise=σ), W, activation="erf") for σ in (0, 0.7)
    )
    assert covariance_error(noisy, clean) == (0, 0)
    assert_allclose(noisy.teacher_variance - clean.teacher_variance, 0.49)


def test_sides_have_their_own_features_and_teacher() -> None:
    W = first_layer(12, 60)
    m = replace(BASE, target_latent_dim=55, feature_overlap=0.5, teacher_overlap=0.1)
    source = analytic_covariates(m, W, side="source")
    assert covariance_error(source, analytic_covariates(BASE, W)) == (0, 0)
    target = analytic_covariates(m, W)
    assert min(covariance_error(target, source)) > 0.1
    # the target's teacher does not matter to Ω, but to τ, linearly
    other = analytic_covariates(replace(m, teacher_overlap=-1.0), W)
    error = covariance_error(other, target)
    assert error.feature == 0 and error.teacher > 0.5
    flipped = analytic_covariates(replace(BASE, teacher_overlap=-1.0), W)
    assert_allclose(flipped.teacher_covariance, -source.teacher_covariance)


def test_silent_units_have_no_covariance() -> None:
    W = first_layer(4, 60)
    W[1] = 0
    for activation in ("erf", "relu"):
        got = analytic_covariates(BASE, W, activation=activation)
        assert_allclose(got.feature_covariance[1], 0, atol=1e-14)
        assert got.teacher_covariance[1] == 0


def test_measured_covariates_are_the_sample_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    u, ν = rng.standard_normal((500, 6)) + 3, rng.standard_normal(500) - 1
    u[:, 2] = 5.0  # a constant feature
    monkeypatch.setattr(equivalence, "chunks", lambda n, rows: [slice(0, 499), slice(499, n)])
    got = measured_covariates(u, ν)
    joint = np.cov(np.column_stack([u, ν]), rowvar=False, bias=True)
    assert_allclose(got.feature_covariance, joint[:6, :6], atol=1e-14)
    assert_allclose(got.teacher_covariance, joint[:6, 6], atol=1e-14)
    assert_allclose(got.teacher_variance, joint[6, 6])
    shifted = measured_covariates(u + 1e3, ν + 1e3)
    assert max(covariance_error(shifted, got)) < 1e-9


@pytest.mark.parametrize("n", [2, 11, 12, 40])
def test_samples_however_small_are_possible_gaussians(n: int) -> None:
    rng = np.random.default_rng(n)
    for scale in (1.0, 1e-6):
        y = np.sign(rng.standard_normal(n))
        y[:2] = 1, -1
        measured_covariates(scale * rng.standard_normal((n, 10)), y)


def test_covariance_error_is_relative_to_the_reference() -> None:
    a, b = (equivalence.GaussianCovariates(s * np.eye(4), s * np.ones(4), 9) for s in (2, 1))
    assert covariance_error(a, b) == (1.0, 1.0)
    assert covariance_error(b, a) == (0.5, 0.5)


def test_a_sign_that_is_one_at_zero_is_odd() -> None:
    step = Activation("step", lambda z: np.where(z < 0, -1.0, 1.0), kinks=(0.0,))
    found = analytic_covariates(replace(BASE, nonlinearity=step), first_layer(5, 60))
    expected = analytic_covariates(replace(BASE, nonlinearity="sign"), first_layer(5, 60))
    assert max(covariance_error(found, expected)) < 1e-6


def test_what_is_not_possible_is_refused() -> None:
    W = first_layer(5, 60)
    for nonlinearity in ("relu", Activation("shifted", lambda z: np.tanh(z) + 0.1)):
        with pytest.raises(ValueError, match=r"nonlinearity '\w+' is not odd.*use measured_cov"):
            analytic_covariates(replace(BASE, nonlinearity=nonlinearity), W)
    with pytest.raises(ValueError, match="first_layer must have N0 = 60 columns"):
        analytic_covariates(BASE, W[:, :3])
    with pytest.raises(ValueError, match="first_layer must be a finite"):
        analytic_covariates(BASE, W * np.nan)
    with pytest.raises(ValueError, match="side must be one of 'target', 'source', got 'both'"):
        analytic_covariates(BASE, W, side="both")
    with pytest.raises(ValueError, match="activation must be one of"):
        analytic_covariates(BASE, W, activation="step")
    with pytest.raises(TypeError, match="manifold must be a CorrelatedHiddenManifold, got Hidden"):
        analytic_covariates(BASE.source, W)
    with pytest.raises(ValueError, match=r"features must hold at least 2 examples .*, got 1"):
        measured_covariates(np.ones((1, 3)), [1.0])
    with pytest.raises(ValueError, match=r"field must be .* shape \(4,\)"):
        measured_covariates(np.ones((4, 3)), np.ones(3))
    with pytest.raises(ValueError, match="field must hold two different values, got -1 only"):
        measured_covariates(first_layer(4, 3), -np.ones(4))
    a, b = analytic_covariates(BASE, W), analytic_covariates(BASE, W[:3])
    with pytest.raises(ValueError, match="reference must have 5 features like covariates, got 3"):
        covariance_error(a, b)
    zero = equivalence.GaussianCovariates(np.eye(5), np.zeros(5), 1.0)
    with pytest.raises(ValueError, match="reference must not be zero"):
        covariance_error(a, zero)
