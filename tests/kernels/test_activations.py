"""Activations: derivatives, closed forms in their limits, argument checks."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate

from tlnb.kernels import Activation, get_activation

NAMES = ("linear", "erf", "relu", "tanh", "gelu")


def kernel_of(name: str, X: np.ndarray, Z: Any = None, variance: float = 1.0) -> np.ndarray:
    Z = X if Z is None else Z
    c_xx, c_yy = (variance * np.sum(A * A, axis=1) / A.shape[1] for A in (X, Z))
    c_xy = variance * np.einsum("ik,jk->ij", X, Z) / X.shape[1]
    return get_activation(name).dual(c_xx, c_xy, c_yy)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_the_limit_of_difference_quotients(name: str) -> None:
    activation, z, h = get_activation(name), np.linspace(-3, 3, 14), 1e-5
    quotient = (activation(z + h) - activation(z - h)) / (2 * h)
    assert_allclose(activation.derivative(z), quotient, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_named_activations_pickle_hash_and_show_their_name(name: str) -> None:
    activation = get_activation(name)
    assert pickle.loads(pickle.dumps(activation)) == activation
    assert hash(activation) == hash(get_activation(name))
    assert repr(activation) == f"Activation({name!r})"


@pytest.mark.parametrize("name", ["linear", "erf", "relu", "sign"])
@pytest.mark.parametrize(("s", "t", "u"), [(1.0, 0.5, 0.3), (2.0, 1.5, -0.8), (0.1, 4.0, 0.95)])
def test_closed_forms_are_the_gaussian_integrals(name: str, s: float, t: float, u: float) -> None:
    activation = get_activation(name)

    def inner(x: float) -> float:
        def integrand(y: float) -> float:
            z = np.sqrt(t) * (u * x + np.sqrt(1 - u * u) * y)
            return activation(z) * np.exp(-0.5 * y * y)

        kink = -u * x / np.sqrt(1 - u * u)
        value = sum(
            integrate.quad(integrand, *ends, epsabs=1e-12)[0]
            for ends in ((-9, np.clip(kink, -9, 9)), (np.clip(kink, -9, 9), 9))
        )
        return value * activation(np.sqrt(s) * x) * np.exp(-0.5 * x * x) / (2 * np.pi)

    expected = sum(integrate.quad(inner, *ends, epsabs=1e-11)[0] for ends in ((-9, 0), (0, 9)))
    kernel = activation.dual([s], [[u * np.sqrt(s * t)]], [t])
    assert_allclose(kernel, expected, atol=1e-9)


@pytest.mark.parametrize("scale", [1e8, 1e16, 1e100, 1e150])
def test_erf_kernel_of_large_collinear_inputs_keeps_its_digits(scale: float) -> None:
    # 1 - K = (2/π) arctan(sqrt(1 + 4c) / 2c) for c_xx = c_xy = c_yy = c
    kernel = get_activation("erf").dual_diagonal([scale], [scale], [scale])
    complement = 2 / np.pi * np.arctan2(np.sqrt(1 + 4 * scale), 2 * scale)
    assert_allclose(kernel, 1 - complement, rtol=2e-16)


def test_erf_kernel_of_large_inputs_is_that_of_the_sign() -> None:
    u = np.linspace(-0.99, 0.99, 9)
    c = np.full(9, 1e100)
    kernel = get_activation("erf").dual_diagonal(c, u * c, c)
    assert_allclose(kernel, 2 / np.pi * np.arcsin(u), rtol=1e-14)
    assert_allclose(get_activation("sign").dual_diagonal(c, u * c, c), kernel, rtol=1e-14)


def test_the_sign_has_a_kernel_and_no_derivative() -> None:
    sign = get_activation("sign")
    assert_allclose(sign.dual([1.0, 0.0], [[0.5, -1.0], [0.0, 0.0]], [1.0, 1.0])[1], 0)
    assert_allclose(sign.dual_diagonal([2.0], [-2.0], [2.0]), -1)
    # E[sign(x) x] = sqrt(2/π), E[sign(x) (x³ - 3x)]/sqrt(6) = -1/sqrt(3π)
    expected = [0, np.sqrt(2 / np.pi), 0, -1 / np.sqrt(3 * np.pi)]
    assert_allclose(sign.hermite_coefficients(0.3, 3), expected, atol=1e-12)
    with pytest.raises(TypeError, match="activation 'sign' has no derivative"):
        sign.derivative(1.0)


def test_erf_and_relu_linearise() -> None:
    c, u = np.array([1e-12]), np.array([0.4e-12])
    assert_allclose(get_activation("erf").dual_diagonal(c, u, c), 4 / np.pi * u, rtol=1e-10)
    relu = get_activation("relu")
    assert_allclose(relu.dual_diagonal(c, c, c), c / 2, rtol=1e-15)
    assert_allclose(relu.dual_diagonal(c, -c, c), 0, atol=1e-28)
    # relu(z) - relu(-z) = z, so that K(u) - K(-u) is half of the linear kernel
    difference = relu.dual_diagonal(c, u, c) - relu.dual_diagonal(c, -u, c)
    assert_allclose(difference, u / 2, rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variance", [1e-6, 1.0, 100.0, 1e8, 1e140])
def test_kernel_of_degenerate_inputs_is_positive_semidefinite(name: str, variance: float) -> None:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((12, 5))
    X = np.concatenate([X, X[:3], -2.5 * X[3:5], np.zeros((2, 5)), X[:2] + 1e-5 * X[5:7]])
    kernel = kernel_of(name, X, variance=variance)
    eigenvalues = np.linalg.eigvalsh(kernel)
    assert np.isfinite(kernel).all()
    assert eigenvalues[0] > -1e-13 * eigenvalues[-1]
    assert_allclose(kernel[:3], kernel[12:15], rtol=1e-12, atol=1e-13 * kernel.max())


@pytest.mark.parametrize("name", NAMES)
def test_diagonal_is_that_of_the_block(name: str) -> None:
    rng = np.random.default_rng(6)
    c_xx, c_yy = rng.uniform(0, 3, (2, 7))
    c_xy = rng.uniform(-1, 1, (7, 7)) * np.sqrt(np.outer(c_xx, c_yy))
    activation = get_activation(name)
    diagonal = activation.dual_diagonal(c_xx, c_xy.diagonal(), c_yy)
    assert_allclose(diagonal, activation.dual(c_xx, c_xy, c_yy).diagonal(), atol=1e-11)


@pytest.mark.parametrize("name", ["erf", "relu", "tanh", "gelu"])
def test_covariance_beyond_its_bound_is_clipped(name: str) -> None:
    activation, c = get_activation(name), np.array([0.7])
    for sign in (1, -1):
        within = activation.dual_diagonal(c, sign * c, c)
        beyond = activation.dual_diagonal(c, sign * c * (1 + 1e-14), c)
        assert_allclose(beyond, within, rtol=1e-13, atol=1e-14)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.tuples(*[st.floats(0, 50)] * 2),
    st.floats(-1, 1),
)
def test_symmetry_and_cauchy_schwarz(name: str, variances: np.ndarray, u: float) -> None:
    activation, (s, t) = get_activation(name), np.array(variances)[:, None]
    c = u * np.sqrt(s * t)
    kernel = activation.dual_diagonal(s, c, t)
    assert_allclose(kernel, activation.dual_diagonal(t, c, s), rtol=1e-10, atol=1e-12)
    bound = activation.dual_diagonal(s, s, s) * activation.dual_diagonal(t, t, t)
    assert kernel**2 <= bound * (1 + 1e-10) + 1e-25


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(-1, 1), st.floats(1e-3, 1e3))
def test_relu_is_homogeneous_and_odd_activations_have_odd_kernels(
    s: Any, t: Any, u: float, a: float
) -> None:
    s, t, c = np.array([s]), np.array([t]), np.array([u * np.sqrt(s * t)])
    relu = get_activation("relu").dual_diagonal
    assert_allclose(relu(a * a * s, a * c, t), a * relu(s, c, t), rtol=1e-7, atol=1e-12)
    for name in ("linear", "erf", "tanh"):
        kernel = get_activation(name).dual_diagonal
        assert_allclose(kernel(s, -c, t), -kernel(s, c, t), rtol=1e-12, atol=1e-14)


def test_get_activation_takes_names_activations_and_callables() -> None:
    tanh = get_activation("tanh")
    assert get_activation(tanh) is tanh
    wrapped = get_activation(np.sin)
    assert wrapped.name == "sin"
    assert wrapped(0.5) == np.sin(0.5)
    with pytest.raises(TypeError, match="'sin' has no derivative"):
        wrapped.derivative(0.5)


@pytest.mark.parametrize("unknown", ["ReLU", "", "sigmoid"])
def test_unknown_names_are_refused(unknown: str) -> None:
    with pytest.raises(ValueError, match=r"activation must be one of 'linear', 'erf'.*got"):
        get_activation(unknown)


@pytest.mark.parametrize("unknown", [None, 3, ["erf"]])
def test_other_things_are_refused(unknown: int | list[str] | None) -> None:
    with pytest.raises(TypeError, match=r"activation must be one of 'linear', 'erf'.*got"):
        get_activation(unknown)


@pytest.mark.parametrize(
    "function", [np.log, np.sum, lambda z: z[0], math.tanh, lambda z: z if z > 0 else 0]
)
def test_callables_that_are_not_vectorised_or_finite_are_refused(function: Callable) -> None:
    with pytest.raises(ValueError, match="finite real values of the same shape"):
        get_activation(function)


def test_malformed_activations_are_refused() -> None:
    with pytest.raises(TypeError, match="function must be callable, got 3"):
        Activation("three", 3)
    with pytest.raises(TypeError, match="derivative must be callable, got 1"):
        Activation("tanh", np.tanh, 1)
    with pytest.raises(ValueError, match="kinks must be finite"):
        Activation("abs", np.abs, kinks=(np.inf,))


@pytest.mark.parametrize("bad", [-1e-3, np.nan, np.inf, 1e200])
def test_impossible_variances_are_refused(bad: float) -> None:
    for activation in map(get_activation, NAMES):
        with pytest.raises(ValueError, match=r"c_xx must hold variances between 0 and .* got"):
            activation.dual([1.0, bad], np.zeros((2, 1)), [1.0])
        with pytest.raises(ValueError, match=r"c_yy must hold variances"):
            activation.dual_diagonal([1.0], [0.0], [bad])
        with pytest.raises(ValueError, match=r"variance must hold variances"):
            activation.mean(bad)


def test_impossible_covariances_and_shapes_are_refused() -> None:
    erf = get_activation("erf")
    with pytest.raises(ValueError, match=r"c_xy must have shape \(2, 1\), got \(1, 2\)"):
        erf.dual([1.0, 1.0], [[0.0, 0.0]], [1.0])
    with pytest.raises(ValueError, match="c_xy must be finite"):
        erf.dual([1.0], [[np.nan]], [1.0])
    with pytest.raises(ValueError, match=r"c_xx must have 1 axis"):
        erf.dual([[1.0]], [[0.0]], [1.0])
    with pytest.raises(ValueError, match=r"c_yy must have shape \(2,\)"):
        erf.dual_diagonal([1.0, 1.0], [0.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="degree must be an integer >= 0, got -1"):
        erf.hermite_coefficients(1.0, -1)
