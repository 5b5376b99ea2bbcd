"""Gradients and the collapsed likelihood against dense algebra, integrals and other derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import erf, ndtr
from scipy.stats import multivariate_normal, norm

from tlnb import Activation, Task
from tlnb.kernels import get_activation
from tlnb.sampling import likelihood as module
from tlnb.sampling.likelihood import Array, NetworkLikelihood, draw_readouts
from tlnb.sampling.stand_ins import COLDEST, STAND_INS, STIFFEST, Units, exact, force
from tlnb.theory import one_task

COMPLEX = {  # written anew, so that a complex step goes through
    "linear": lambda z: z,
    "erf": erf,
    "tanh": np.tanh,
    "gelu": lambda z: z * ndtr(z),
    "relu": lambda z: np.where(z.real > 0, z, 0),
}
SIZES = [(5, 9), (9, 4), (4, 4), (3, 1), (1, 3)]


def network(
    P: int = 6,
    N0: int = 3,
    N1: int = 4,
    *,
    activation: str = "erf",
    temperature: float = 0.3,
    readout_precision: float = 1.7,
    seed: int = 0,
) -> tuple[NetworkLikelihood, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    task = Task(rng.standard_normal((P, N0)), rng.standard_normal(P))
    made = NetworkLikelihood(task, get_activation(activation), N1, temperature, readout_precision)
    return made, rng.standard_normal((3, N1, N0)), rng.standard_normal((3, N1))


def dense_collapsed(net: Any, W: np.ndarray, sigma: Activation) -> np.ndarray:
    """ln N(y; 0, T + K̂) of one network, by determinant and solve; analytic in W."""
    X, y = net.task.X, net.task.y
    Phi = sigma(X @ W.T / np.sqrt(X.shape[1]))
    M = net.temperature * np.eye(len(y)) + Phi @ Phi.T / (net.readout_precision * net.width)
    return -0.5 * (np.log(np.linalg.det(2 * np.pi * M)) + y @ np.linalg.solve(M, y))


def dense_joint(net: Any, W: np.ndarray, v: np.ndarray, sigma: Activation) -> np.ndarray:
    """ln Π N(y; f, T) of one network; analytic in all weights."""
    X, y = net.task.X, net.task.y
    f = sigma(X @ W.T / np.sqrt(X.shape[1])) @ v / np.sqrt(net.width)
    return (-0.5 * (y - f) ** 2 / net.temperature - 0.5 * np.log(2 * np.pi * net.temperature)).sum()


def complex_step(function: Callable, x: np.ndarray) -> np.ndarray:
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        z = x.astype(complex)
        z[index] += 1e-30j
        gradient[index] = function(z).imag / 1e-30
    return gradient


def difference(function: Callable, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        e = np.zeros(x.shape)
        e[index] = h
        gradient[index] = (function(x + e) - function(x - e)) / (2 * h)
    return gradient


@pytest.mark.parametrize("P,N1", SIZES)
@pytest.mark.parametrize("name", COMPLEX)
def test_collapsed_likelihood_and_gradient(name: str, P: int, N1: int) -> None:
    net, W, _ = network(P, 3, N1, activation=name)
    value, gradient = net.collapsed(W)
    for c in range(len(W)):

        def dense(w: Any) -> np.ndarray:
            return dense_collapsed(net, w, COMPLEX[name])

        assert value[c] == pytest.approx(dense(W[c]), rel=1e-12)
        np.testing.assert_allclose(gradient[c], complex_step(dense, W[c]), rtol=1e-10, atol=1e-13)
        by_difference = difference(lambda w, c=c: net.collapsed(w[None])[0][0], W[c])
        np.testing.assert_allclose(gradient[c], by_difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", COMPLEX)
def test_joint_likelihood_and_gradients(name: str) -> None:
    net, W, v = network(activation=name)
    value, by_W, by_v = net.joint(W, v)
    for c in range(len(W)):
        args = W[c], v[c], COMPLEX[name]
        assert value[c] == pytest.approx(dense_joint(net, *args), rel=1e-12)
        exact = complex_step(lambda w, c=c: dense_joint(net, w, v[c], COMPLEX[name]), W[c])
        np.testing.assert_allclose(by_W[c], exact, rtol=1e-10, atol=1e-13)
        exact = complex_step(lambda u, c=c: dense_joint(net, W[c], u, COMPLEX[name]), v[c])
        np.testing.assert_allclose(by_v[c], exact, rtol=1e-10, atol=1e-13)
        by_difference = difference(lambda w, c=c: net.joint(w[None], v[c : c + 1])[0][0], W[c])
        np.testing.assert_allclose(by_W[c], by_difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-3, 0.3, 30.0])
@pytest.mark.parametrize("N1", [1, 2])
def test_collapsed_likelihood_is_the_integral_over_readouts(N1: int, temperature: float) -> None:
    net, W, _ = network(3, 2, N1, temperature=temperature)
    half = 10 / np.sqrt(net.readout_precision)
    v, step = np.linspace(-half, half, 20_001 if N1 == 1 else 1001, retstep=True)
    grid = np.stack(np.meshgrid(*[v] * N1), axis=-1).reshape(-1, N1)
    prior = norm.logpdf(grid, scale=net.readout_precision**-0.5).sum(1)
    for w, value in zip(W, net.collapsed(W)[0], strict=True):
        f = grid @ net.features(w[None])[0].T / np.sqrt(N1)
        log_density = norm.logpdf(net.task.y, f, np.sqrt(temperature)).sum(1) + prior
        peak = log_density.max()
        integral = peak + np.log(np.exp(log_density - peak).sum() * step**N1)
        assert value == pytest.approx(integral, rel=1e-9)


@pytest.mark.parametrize("P,N1", [(20, 20), (20, 30), (30, 20)])
def test_both_forms_are_exact_at_low_temperature(P: int, N1: int) -> None:
    net, W, _ = network(P, 5, N1, temperature=1e-7, activation="tanh")
    for w, value in zip(W, net.collapsed(W)[0], strict=True):
        Phi = net.features(w[None])[0]
        K = Phi @ Phi.T / (net.readout_precision * N1)
        law = multivariate_normal(cov=K + 1e-7 * np.eye(P))
        assert value == pytest.approx(law.logpdf(net.task.y), rel=1e-6)


def test_chains_in_groups_give_what_each_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net, W, v = network(7, 3, 5)
    W, v = np.concatenate([W] * 4) + 0.1, np.concatenate([v] * 4)
    expected = (*net.collapsed(W), *net.joint(W, v))
    for size in (1, 5 * 35):  # one chain at a time; groups of five, the last one shorter
        monkeypatch.setattr(module, "IN_CACHE", size)
        for a, b in zip((*net.collapsed(W), *net.joint(W, v)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_derivatives_of_any_real_kind_are_accepted() -> None:
    ramp = Activation("ramp", lambda z: np.maximum(z, 0), lambda z: z > 0, kinks=(0.0,))
    (net, W, v), (other, _, _) = network(activation=ramp), network(activation="relu")
    for a, b in zip(net.collapsed(W) + net.joint(W, v), other.collapsed(W) + other.joint(W, v),
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)


def test_wide_networks_have_the_evidence_of_the_gaussian_process() -> None:
    net, _, _ = network(6, 3, 30_000)
    W = np.random.default_rng(1).standard_normal((4, 30_000, 3))
    process = one_task.solve(
        net.task, width=np.inf, temperature=0.3, readout_precision=1.7, activation="erf"
    )
    assert net.collapsed(W)[0].mean() == pytest.approx(process.log_evidence, abs=0.02)


def dense_readouts(net: Any, Phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of v given W, by conditioning in the space of readouts."""
    A = Phi / np.sqrt(net.width)
    precision = net.readout_precision * np.eye(net.width) + A.T @ A / net.temperature
    covariance = np.linalg.inv(precision)
    return covariance @ A.T @ net.task.y / net.temperature, covariance


@pytest.mark.parametrize("P,N1", SIZES)
def test_readout_averages_against_dense_conditioning(P: int, N1: int) -> None:
    net, W, _ = network(P, 3, N1)
    Phi, Phi_0 = (
        net.features(W)[0],
        net.features(W, np.random.default_rng(9).normal(size=(4, 3)))[0],
    )
    readouts, (mean, covariance) = net.readouts(Phi), dense_readouts(net, Phi)
    np.testing.assert_allclose(readouts.mean, mean, rtol=1e-10, atol=1e-13)
    squared_norm = mean @ mean + np.trace(covariance)
    assert readouts.order_parameter() == pytest.approx(
        net.readout_precision / N1 * squared_norm, rel=1e-11
    )
    A, A_0 = Phi / np.sqrt(N1), Phi_0 / np.sqrt(N1)
    error = (net.task.y - A @ mean) ** 2 + np.diag(A @ covariance @ A.T)
    assert readouts.train_error() == pytest.approx(error.mean(), rel=1e-11)
    f, variance = readouts.predict(Phi_0)
    np.testing.assert_allclose(f, A_0 @ mean, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(variance, np.diag(A_0 @ covariance @ A_0.T), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("P,N1", [(5, 3), (2, 3)])
def test_drawn_readouts_have_the_conditional_law(P: int, N1: int) -> None:
    net, W, _ = network(P, 3, N1)
    draws = 8000
    v = draw_readouts(net, np.repeat(W[:1], draws, axis=0), np.random.default_rng(3))
    mean, covariance = dense_readouts(net, net.features(W)[0])
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (v - mean).T)
    np.testing.assert_allclose(white.mean(1), 0, atol=4 / np.sqrt(draws))
    np.testing.assert_allclose(white @ white.T / draws, np.eye(N1), atol=6 / np.sqrt(draws))
    sampled = net.readout_precision / N1 * (v**2).sum(1)
    error = sampled.std() / np.sqrt(draws)
    expected = net.readouts(net.features(W)[0]).order_parameter()
    assert sampled.mean() == pytest.approx(expected, abs=4 * error)
    misfit = ((net.task.y - net.output(np.repeat(W[:1], draws, axis=0), v)) ** 2).mean(1)
    expected = net.readouts(net.features(W)[0]).train_error()
    assert misfit.mean() == pytest.approx(expected, abs=4 * misfit.std() / np.sqrt(draws))


# The force between the ends of a trajectory


def test_what_stands_in_for_erf_is_near_it_everywhere() -> None:
    z = np.concatenate([np.linspace(-7, 7, 14_001), [-1e6, -50, 50, 1e6]])
    near, _ = STAND_INS[get_activation("erf")](z)
    assert abs(near - erf(z)).max() < 3e-4
    assert (np.diff(near[:14_001]) >= 0).all() and abs(near).max() <= 1


@pytest.mark.parametrize("name", ["erf", "tanh"])
def test_stand_ins_know_their_own_derivatives(name: str) -> None:
    both, z, h = STAND_INS[get_activation(name)], np.linspace(-5, 5, 101), 1e-5
    _, slope = both(z)
    np.testing.assert_allclose(slope, (both(z + h)[0] - both(z - h)[0]) / (2 * h), atol=1e-9)
    single = both(z.astype(np.float32))
    assert [x.dtype for x in single] == [np.float32] * 2
    np.testing.assert_allclose(single, both(z), atol=1e-6)


@pytest.mark.parametrize("P,N1", SIZES)
def test_the_force_is_the_gradient_nearly(P: int, N1: int) -> None:
    net, W, _ = network(P, N1=N1)
    exact, near = net.collapsed(W)[1], net.force(W)
    assert 0 < abs(near - exact).max() < 6e-3 * abs(exact).max()
    cold = replace(net, temperature=0.9 * COLDEST)
    np.testing.assert_array_equal(cold.force(W), cold.collapsed(W)[1])
    own = Activation("erf", lambda z: erf(0.5 * z), lambda z: np.exp(-0.25 * z**2) / np.sqrt(np.pi))
    for other in (own, get_activation("gelu")):  # no stand-in is known
        plain = replace(net, activation=other)
        np.testing.assert_array_equal(plain.force(W), plain.collapsed(W)[1])


@pytest.mark.parametrize("P,N1", SIZES)
def test_single_precision_is_enough_until_the_likelihood_is_stiff(P: int, N1: int) -> None:
    net, W, _ = network(P, N1=N1, activation="tanh")
    exact, near = net.collapsed(W)[1], net.force(W)
    assert 0 < abs(near - exact).max() < 1e-5 * abs(exact).max()
    stiff = replace(net, readout_precision=0.9 * P / (STIFFEST * net.temperature))
    np.testing.assert_allclose(stiff.force(W), stiff.collapsed(W)[1], rtol=1e-12)


def test_where_single_precision_fails_the_force_is_the_gradient() -> None:
    net, W, _ = network()

    class Broken(NetworkLikelihood):
        def of_units(
            self, W: Array, units: Units, kept: tuple[Array, ...] = ()
        ) -> tuple[Array, Array]:
            value, gradient = super().of_units(W, units, kept)
            if units.dtype == np.float32:
                value[1], gradient[1] = np.nan, np.inf
            return value, gradient

    args = net.task, net.activation, net.width, net.temperature, net.readout_precision
    broken, expected = Broken(*args), net.force(W)
    expected[1] = net.of_units(W, exact(net.activation))[1][1]
    np.testing.assert_allclose(force(broken, W), expected, rtol=1e-12)
