"""Gaussian quadrature against closed forms, other quadratures and series."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate
from scipy.special import erf, expit, gammaln, ndtr

from tlnb.errors import QuadratureWarning
from tlnb.kernels import Activation, get_activation


def relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0)


def hard_tanh(z: np.ndarray) -> np.ndarray:
    return np.clip(z, -1.0, 1.0)


ERF = Activation("erf by quadrature", erf)
RELU = Activation("relu by quadrature", relu, kinks=(0,))
HARD_TANH = Activation("hard tanh", hard_tanh, kinks=(-1, 1))


def degenerate_covariances(
    variance: float, n_features: int = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent, duplicated, nearly collinear, collinear and vanishing inputs."""
    X = np.random.default_rng(0).standard_normal((30, n_features))
    X[1], X[3], X[4] = X[0], -2 * X[2], 0
    for i, distance in ((5, 1e-1), (7, 1e-3), (9, 1e-5), (11, -1e-2)):
        X[i] = np.sign(distance) * X[i + 1] + distance * X[13]
    c = variance * np.einsum("ik,jk->ij", X, X) / n_features
    return c.diagonal(), c, c.diagonal()


def trapezoidal_rule(function: Callable, s: float, t: float, u: float) -> float:
    """Spectrally accurate for functions analytic in a strip, unlike the panels under test."""
    x, h = np.linspace(-10, 10, 801, retstep=True)
    weight = h * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    inner = function(np.sqrt(t) * (u * x[:, None] + np.sqrt(1 - u * u) * x)) @ weight
    return (weight * function(np.sqrt(s) * x)) @ inner


@pytest.mark.parametrize(
    "function", [np.tanh, lambda z: z * ndtr(z), lambda z: z * expit(z), np.sin, np.square, np.exp]
)
def test_smooth_activations_agree_with_the_trapezoidal_rule(function: Callable) -> None:
    activation = get_activation(function)
    s, t = np.array([1.0, 0.3, 1e-3, 0.0]), np.array([1.0, 0.6])
    for u in (-1.0, -0.9, 0.0, 0.5, 0.999, 1.0):
        kernel = activation.dual(s, u * np.sqrt(np.outer(s, t)), t)
        expected = [[trapezoidal_rule(function, a, b, u) for b in t] for a in s]
        assert_allclose(kernel, expected, rtol=0, atol=1e-14 + 1e-11 * np.max(np.abs(expected)))


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_named_activations_agree_with_adaptive_quadrature(name: str) -> None:
    activation, s, t, u = get_activation(name), 1.0, 0.7, 0.8

    def integrand(y: float, x: float) -> float:
        z, w = np.sqrt(s) * x, np.sqrt(t) * (u * x + np.sqrt(1 - u * u) * y)
        return activation(z) * activation(w) * np.exp(-0.5 * (x * x + y * y)) / (2 * np.pi)

    expected, _ = integrate.dblquad(integrand, -8, 8, -8, 8, epsabs=1e-9)
    kernel = activation.dual_diagonal([s], [u * np.sqrt(s * t)], [t])
    assert_allclose(kernel, expected, atol=1e-8)


@pytest.mark.parametrize("variance", [1e-6, 1.0, 100.0, 1e4, 1e8, 1e100])
@pytest.mark.parametrize(("activation", "name"), [(ERF, "erf"), (RELU, "relu")])
def test_quadrature_agrees_with_the_closed_forms(
    activation: Activation, name: str, variance: float
) -> None:
    covariances = degenerate_covariances(variance)
    expected = get_activation(name).dual(*covariances)
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    error = np.abs(activation.dual(*covariances) - expected)
    assert np.max(error[scale > 0] / scale[scale > 0]) < 5e-11
    assert np.all(error[scale == 0] == 0)


@pytest.mark.parametrize(("s", "t"), [(1.0, 1.0), (0.2, 3.0), (100.0, 64.0)])
def test_kinks_away_from_zero_are_integrated_piecewise(s: float, t: float) -> None:
    # E[hard_tanh(m + v y)] in closed form, the outer integral adaptively between its kinks
    def conditional_mean(m: Any, v: float) -> float:
        above, below = (1 - m) / v, (-1 - m) / v
        density = np.exp(-0.5 * np.array([above, below]) ** 2) / np.sqrt(2 * np.pi)
        inside = ndtr(above) - ndtr(below)
        return ndtr(-above) - ndtr(below) + m * inside - v * (density[0] - density[1])

    for u in (-0.5, 0.2, 0.9, 0.9999):
        v = np.sqrt(t * (1 - u * u))

        def integrand(x: float, u: float = u, v: float = v) -> float:
            mean = conditional_mean(np.sqrt(t) * u * x, v)
            return hard_tanh(np.sqrt(s) * x) * mean * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)

        ends = np.unique(np.clip([-9, -1 / s**0.5, -1 / (u * t**0.5), 0, 9], -9, 9))
        ends = np.unique(np.concatenate([ends, -ends]))
        expected = sum(
            integrate.quad(integrand, *pair, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
            for pair in itertools.pairwise(ends)
        )
        kernel = HARD_TANH.dual([s], [[u * np.sqrt(s * t)]], [t])
        assert_allclose(kernel, expected, atol=1e-10)


def test_absolute_value_has_the_even_part_of_the_arc_cosine_kernel() -> None:
    c_xx, c_xy, c_yy = degenerate_covariances(1.0)
    u = np.divide(c_xy, np.sqrt(np.outer(c_xx, c_yy)), where=c_xy != 0, out=np.zeros_like(c_xy))
    u = np.clip(u, -1, 1)
    expected = 2 / np.pi * np.sqrt(np.outer(c_xx, c_yy)) * (np.sqrt(1 - u * u) + u * np.arcsin(u))
    kernel = Activation("abs", np.abs, kinks=(0,)).dual(c_xx, c_xy, c_yy)
    assert_allclose(kernel, expected, atol=1e-10)


def test_kernel_of_a_constant_and_of_zero() -> None:
    covariances = degenerate_covariances(1.0)
    assert_allclose(get_activation(lambda z: 0 * z + 2).dual(*covariances), 4, rtol=1e-12)
    assert np.all(get_activation(np.zeros_like).dual(*covariances) == 0)
    assert get_activation("tanh").dual([], np.empty((0, 2)), [1.0, 1.0]).shape == (0, 2)


@pytest.mark.parametrize("variance", [0.5, 1.0, 50.0])
def test_hermite_coefficients_of_erf_and_relu(variance: float) -> None:
    k = np.arange(31)
    # the arcsine series of the erf kernel, and half its order's Gaussian moments for relu
    m = k // 2
    log_arcsine = gammaln(2 * m + 1) - 2 * gammaln(m + 1) - m * np.log(4) - np.log(2 * m + 1)
    w = 2 * variance / (1 + 2 * variance)
    erf_squares = np.where(k % 2 == 1, 2 / np.pi * np.exp(log_arcsine) * w**k, 0)
    signs = (-1.0) ** m
    expected = signs * np.sqrt(erf_squares)
    assert_allclose(get_activation("erf").hermite_coefficients(variance, 30), expected, atol=1e-13)

    half = np.maximum(m, 1)
    log_double_factorial = gammaln(2 * half - 1) - (half - 1) * np.log(2) - gammaln(half)
    even = np.exp(log_double_factorial - 0.5 * gammaln(k + 1)) / np.sqrt(2 * np.pi)
    expected = np.where(k % 2 == 0, -signs * even, 0) * np.sqrt(variance)
    expected[:2] = np.sqrt(variance) * np.array([1 / np.sqrt(2 * np.pi), 0.5])
    actual = get_activation("relu").hermite_coefficients(variance, 30)
    assert_allclose(actual, expected, atol=1e-13 * np.sqrt(variance))


def test_hermite_coefficients_against_symbolic_integration() -> None:
    import sympy

    x = sympy.symbols("x", real=True)
    density = sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)
    polynomials = (sympy.Integer(1), x, (x**2 - 1) / sympy.sqrt(2), (x**3 - 3 * x) / sympy.sqrt(6))
    cubic = [
        float(sympy.integrate((2 * x) ** 3 * h * density, (x, -sympy.oo, sympy.oo)))
        for h in polynomials
    ]
    actual = get_activation(lambda z: z**3).hermite_coefficients(4.0, 3)
    assert_allclose(actual, cubic, atol=1e-12)


@pytest.mark.parametrize("name", ["linear", "erf", "relu", "tanh", "gelu"])
def test_series_of_the_coefficients_is_the_kernel(name: str) -> None:
    activation, variance, u = get_activation(name), np.array([0.4, 1.0]), 0.6
    a = activation.hermite_coefficients(variance, 80)
    series = np.sum(a[0] * a[1] * u ** np.arange(81))
    kernel = activation.dual_diagonal([0.4], [u * np.sqrt(0.4)], [1.0])
    assert_allclose(series, kernel, atol=1e-12)


def test_coefficients_of_high_degree_obey_parseval() -> None:
    a = get_activation("tanh").hermite_coefficients([4.0, 0.5], 1000)
    squares = get_activation("tanh").dual_diagonal([4.0, 0.5], [4.0, 0.5], [4.0, 0.5])
    assert_allclose(np.sum(a**2, axis=-1), squares, atol=1e-12)


@pytest.mark.parametrize("variance", [0.0, 0.3, 7.0])
def test_means(variance: float) -> None:
    variances = np.full((2, 1), variance)
    for name in ("linear", "erf", "tanh"):
        assert_allclose(get_activation(name).mean(variances), 0, atol=1e-15)
    expected = np.full((2, 1), np.sqrt(variance / (2 * np.pi)))
    assert_allclose(get_activation("relu").mean(variances), expected, rtol=1e-13)
    # Stein: E[z Φ(z)] = s E[φ(z)] = s / sqrt(2π (1 + s))
    expected = variance / np.sqrt(2 * np.pi * (1 + variance))
    assert_allclose(get_activation("gelu").mean(variances), expected, rtol=1e-13, atol=1e-16)
    assert get_activation("gelu").mean(variance).shape == ()


@pytest.mark.parametrize(
    "function",
    [hard_tanh, lambda z: relu(z - 0.37), lambda z: 1.0 * (z > 0.1), lambda z: np.sin(60 * z)],
)
def test_undeclared_kinks_and_rough_functions_warn(function: Callable) -> None:
    covariances = degenerate_covariances(1.0)
    message = r"estimated relative error of \d\.\de-\d+: the activation has kinks"
    with pytest.warns(QuadratureWarning, match=message) as seen:
        get_activation(function).dual(*covariances)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with pytest.warns(QuadratureWarning) as seen:
        get_activation(function).hermite_coefficients(1.7, 3)
    assert seen[0].filename == __file__


def test_the_estimate_covers_the_error_of_an_undeclared_kink() -> None:
    covariances = degenerate_covariances(1.0)
    expected = HARD_TANH.dual(*covariances)
    with pytest.warns(QuadratureWarning) as seen:
        kernel = get_activation(hard_tanh).dual(*covariances)
    estimate = float(str(seen[0].message).split("error of ")[1].split(":")[0])
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    error = np.max(np.abs(kernel - expected)[scale > 0] / scale[scale > 0])
    assert 1e-6 < error < 2 * estimate


def test_functions_that_grow_too_fast_are_not_integrated_silently() -> None:
    with pytest.warns(QuadratureWarning):
        get_activation(lambda z: np.exp(z * z / 3.9)).mean(1.0)
    with pytest.raises(ValueError, match="must be finite where it is integrated"):
        with np.errstate(over="ignore"):
            get_activation(lambda z: np.exp(z * z)).mean(100.0)


def test_smooth_and_declared_functions_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for variance in (0.1, 1.0, 100.0):
            for activation in (get_activation("tanh"), get_activation("gelu"), HARD_TANH, RELU):
                activation.dual(*degenerate_covariances(variance))
