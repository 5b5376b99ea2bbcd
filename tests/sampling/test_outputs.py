"""Sampling with several readouts: likelihood, gradients, averages; one output is what stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, wishart

from tests.instances import deterministic
from tlnb import Task
from tlnb.data.outputs import MultiOutputTask
from tlnb.kernels import get_activation, kernel
from tlnb.sampling import sample_outputs, sample_outputs_transfer, sample_posterior
from tlnb.sampling.likelihood import NetworkLikelihood
from tlnb.sampling.outputs_likelihood import OutputsLikelihood

SIZES = [(5, 9), (9, 4), (4, 4), (3, 1), (1, 3)]


def network(
    P: int = 6, N1: int = 4, C: int = 3, seed: int = 0, temperature: float = 0.3
) -> tuple[OutputsLikelihood, np.ndarray]:
    rng = np.random.default_rng(seed)
    task = MultiOutputTask(rng.standard_normal((P, 3)), rng.standard_normal((P, C)))
    made = OutputsLikelihood(task, get_activation("erf"), N1, temperature, 1.7)
    return made, rng.standard_normal((3, N1, 3))


@pytest.mark.parametrize("P,N1", SIZES)
def test_likelihood_is_a_product_of_gaussians_of_one_kernel(P: int, N1: int) -> None:
    net, W = network(P, N1)
    value, gradient = net.collapsed(W)
    for w, found, slope in zip(W, value, gradient, strict=True):
        Phi = net.features(w[None])[0]
        covariance = 0.3 * np.eye(P) + Phi @ Phi.T / (1.7 * N1)
        direct = multivariate_normal(cov=covariance).logpdf(net.task.y.T).sum()
        np.testing.assert_allclose(found, direct, rtol=1e-11)
        h = 1e-5
        for index in [(0, 0), (N1 - 1, 2)]:
            shift = np.zeros(w.shape)
            shift[index] = h
            up, down = net.collapsed(np.stack([w + shift, w - shift]))[0]
            np.testing.assert_allclose(slope[index], (up - down) / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("P,N1", SIZES)
def test_one_output_is_what_stands(P: int, N1: int) -> None:
    net, W = network(P, N1, C=1)
    alone = NetworkLikelihood(net.task.column(0), net.activation, N1, 0.3, 1.7)
    for one, other in zip(net.collapsed(W), alone.collapsed(W), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)
    readouts, found = alone.readouts(alone.features(W)), net.averages(W)
    np.testing.assert_allclose(found.readout[..., 0], readouts.mean, rtol=1e-10)
    np.testing.assert_allclose(
        found.order_parameter[:, 0, 0], readouts.order_parameter(), rtol=1e-11
    )
    np.testing.assert_allclose(found.train_error, readouts.train_error(), rtol=1e-10)
    Phi_0 = net.features(W, np.eye(3))
    mean, variance = net.predict(found, Phi_0)
    expected = readouts.predict(Phi_0)
    np.testing.assert_allclose(mean[..., 0], expected[0], rtol=1e-10)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("P,N1", SIZES)
def test_the_force_is_the_gradient_nearly(P: int, N1: int) -> None:
    net, W = network(P, N1)
    near, exact = net.force(W), net.collapsed(W)[1]
    assert 0 < abs(near - exact).max() < 6e-3 * abs(exact).max()
    alone = replace(net, activation=get_activation("tanh"))
    near, exact = alone.force(W), alone.collapsed(W)[1]
    assert 0 < abs(near - exact).max() < 1e-5 * abs(exact).max()


def test_averages_over_readouts_are_those_of_their_gaussian_law() -> None:
    net, W = network(P=4, N1=3)
    found, Phi = net.averages(W), net.features(W)[0]
    precision = 1.7 * np.eye(3) + Phi.T @ Phi / (3 * 0.3)
    covariance = np.linalg.inv(precision)
    mean = covariance @ Phi.T @ net.task.y / (0.3 * np.sqrt(3))
    np.testing.assert_allclose(found.readout[0], mean, rtol=1e-10)
    overlap = 1.7 / 3 * (mean.T @ mean + np.trace(covariance) * np.eye(3))
    np.testing.assert_allclose(found.order_parameter[0], overlap, rtol=1e-10)
    f = Phi @ mean / np.sqrt(3)
    spread = np.einsum("pi,ij,pj->p", Phi, covariance, Phi) / 3
    np.testing.assert_allclose(
        found.train_error[0], ((net.task.y - f) ** 2).mean() + spread.mean(), rtol=1e-10
    )


def test_same_chains_as_with_one_output() -> None:
    """The same random numbers, the same likelihood and, with gelu, the same force: the same."""
    source, _, test = deterministic()
    given: dict[str, Any] = {"width": 8, "temperature": 0.1, "rng": 3, "progress": False}
    given |= {"activation": "gelu", "chains": 2, "draws": 4, "warmup": 6, "test": test}
    one, other = sample_posterior(source, **given), sample_outputs(source, **given)
    np.testing.assert_allclose(other.order_parameter[..., 0, 0], one.order_parameter, rtol=1e-6)
    np.testing.assert_allclose(other.prediction[..., 0], one.prediction, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other.test_error, one.test_error, rtol=1e-6)


def test_linear_networks_have_the_tilted_wishart_law() -> None:
    """⟨(λ1/N1) vᵀv⟩ of sampled linear networks against the exact average over Wishart draws."""
    source, _, _ = deterministic()
    X = source.X[:6]
    y = np.column_stack([X @ np.cos(np.arange(12)), X @ np.sin(np.arange(12))]) / 2
    e, U = np.linalg.eigh(kernel(X, activation="linear"))
    z = U.T @ y
    drawn = wishart(6, np.eye(2) / 6).rvs(200_000, random_state=0)
    G = 0.5 * np.eye(2) + e[:, None, None, None] * drawn
    log = -0.5 * np.log(np.linalg.det(G)).sum(0)
    for k in range(len(e)):
        log -= 0.5 * np.einsum("a,nab,b->n", z[k], np.linalg.inv(G[k]), z[k])
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    assert (weight**2).sum() < 1e-4  # enough draws count
    exact = np.einsum("n,nab->ab", weight, drawn)
    given: dict[str, Any] = {
        "width": 6,
        "activation": "linear",
        "temperature": 0.5,
        "rng": 0,
        "progress": False,
    }
    sampled = sample_outputs(
        MultiOutputTask(X, y), chains=20, draws=300, warmup=150, **given
    ).order_parameter
    of_chains = sampled.mean("draw")
    error = of_chains.std("chain", ddof=1) / np.sqrt(20)
    assert error.max() < 0.05 * np.abs(exact).max()
    assert (np.abs(of_chains.mean("chain") - exact) < 4 * error + 0.01 * np.abs(exact)).all()
    assert np.abs(exact - np.eye(2)).max() > 10 * error.max()


@pytest.mark.parametrize("coupling", [1.0, np.inf])
def test_transfer_between_different_numbers_of_outputs(coupling: float) -> None:
    source, target, test = deterministic()
    two = MultiOutputTask(source.X, np.column_stack([source.y, source.X[:, 0]]))
    three = MultiOutputTask(target.X, target.X[:, :3])
    given: dict[str, Any] = {
        "width": 8,
        "temperature": 0.1,
        "rng": 0,
        "progress": False,
        "coupling": coupling,
    }
    drawn = sample_outputs_transfer(
        two, three, sources=4, draws=5, warmup=5, source_chains=2,
        test=MultiOutputTask(test.X, test.X[:, :3]), **given,
    )  # fmt: skip
    assert drawn.Q_st.isel(draw=0).shape == (4, 1 if np.isinf(coupling) else 2, 2, 3)
    assert drawn.Q_s.shape == (4, 2, 2) and np.isfinite(drawn.test_error).all()
    assert drawn.prediction.dims == ("source", "chain", "draw", "test", "output")
    np.testing.assert_allclose(drawn.Q_tt, drawn.Q_tt.transpose(..., "other_output", "output"))
    if np.isinf(coupling):
        # Frozen features: two replicas share them, and their mean readouts.
        private = drawn.Q_t - drawn.Q_tt
        np.testing.assert_allclose(private[..., 0, 1], 0, atol=1e-12)
        assert (private[..., 0, 0] > 0).all()


def test_bad_arguments() -> None:
    source, target, _ = deterministic()
    given: dict[str, Any] = {"width": 4, "progress": False}
    with pytest.raises(ValueError, match="test must have 1 outputs, got 2"):
        sample_outputs(source, test=MultiOutputTask(np.eye(12)[:2], np.eye(2)), **given)
    with pytest.raises(TypeError, match="did you mean 'temperature'"):
        sample_outputs(source, temperatures=1, **given)
    drawn = sample_outputs(source, chains=1, draws=2, warmup=2, **given)
    with pytest.raises(ValueError, match="sources must be a number, or networks"):
        sample_outputs_transfer(source, target, coupling=1.0, sources=drawn, **given)
    with pytest.raises(ValueError, match="N0 = 12 columns"):
        sample_outputs_transfer(source, Task(np.ones((2, 3)), [1, 2]), coupling=1.0, **given)
