"""Nested kernels: one layer, closed forms, Monte Carlo, errors that say where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tlnb import Task
from tlnb.kernels import Activation, get_activation, gram, kernel, squared_norms
from tlnb.theory.deep import DeepOneTaskProblem
from tlnb.theory.deep.nested import nested_kernel, through_layers

RNG = np.random.default_rng(0)
X, Z = RNG.standard_normal((5, 7)), RNG.standard_normal((4, 7))


def nested(
    name: str, left: Sequence[float], cross: Sequence[float], right: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """K between X as system a and Z as system b."""
    activation = get_activation(name)
    of_X = through_layers(activation, squared_norms(X), [(c, c) for c in left])
    of_Z = through_layers(activation, squared_norms(Z), [(c, c) for c in right])
    args = gram(X, Z), of_X.variances, of_Z.variances, cross
    return nested_kernel(activation, *args), of_X.diagonal


def test_one_layer_is_the_kernel() -> None:
    for activation in ("linear", "erf", "relu", "tanh", "sign"):
        K, diagonal = nested(activation, [0.7], [0.7], [0.7])
        expected = kernel(X, Z, activation=activation, weight_variance=0.7)
        np.testing.assert_allclose(K, expected, rtol=1e-13)
        own = kernel(X, activation=activation, weight_variance=0.7)
        np.testing.assert_allclose(diagonal, np.diagonal(own), rtol=1e-9)


def test_linear_layers_multiply_covariances() -> None:
    K, diagonal = nested("linear", [0.5, 2.0, 3.0], [0.4, 0.9, 0.3], [0.6, 1.0, 2.0])
    np.testing.assert_allclose(K, 0.4 * 0.9 * 0.3 * gram(X, Z), rtol=1e-13)
    np.testing.assert_allclose(diagonal, 3.0 * squared_norms(X), rtol=1e-13)


def test_relu_layers_are_homogeneous_and_halve_norms() -> None:
    c = np.array([0.5, 2.0, 3.0])
    K, diagonal = nested("relu", c, c, c)
    one, _ = nested("relu", np.ones(3), np.ones(3), np.ones(3))
    np.testing.assert_allclose(K, c.prod() * one, rtol=1e-13)
    np.testing.assert_allclose(diagonal, c.prod() * squared_norms(X) / 8, rtol=1e-13)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_wide_random_networks_have_this_kernel(activation: str) -> None:
    """Weights of the two systems correlated by c_ab; two layers of 1000 units, averaged."""
    rng, N, c = np.random.default_rng(1), 1000, (0.8, 0.5, 1.1)
    sigma = get_activation(activation)
    estimates = []
    for _ in range(8):
        a, b = X / np.sqrt(7), Z / np.sqrt(7)
        for _ in range(2):
            w, own = rng.standard_normal((2, N, a.shape[1]))
            of_a = np.sqrt(c[0]) * w
            rest = np.sqrt(c[2] - c[1] ** 2 / c[0])
            of_b = c[1] / np.sqrt(c[0]) * w + rest * own
            a, b = (sigma(h @ v.T) / np.sqrt(N) for h, v in ((a, of_a), (b, of_b)))
        estimates.append(a @ b.T)
    K, _ = nested(activation, [c[0]] * 2, [c[1]] * 2, [c[2]] * 2)
    error = np.std(estimates, axis=0, ddof=1) / np.sqrt(8)
    assert (abs(np.mean(estimates, axis=0) - K) < 6 * error + 2 / N).all()


def test_two_replicas_on_the_diagonal() -> None:
    sigma = get_activation("erf")
    pairs = [(1.2, 0.5), (0.9, 0.7)]
    own = through_layers(sigma, squared_norms(X), [(c, c) for c, _ in pairs]).variances
    K = nested_kernel(sigma, gram(X), own, own, [c for _, c in pairs])
    diagonal = through_layers(sigma, squared_norms(X), pairs).diagonal
    np.testing.assert_allclose(diagonal, np.diagonal(K), rtol=1e-12)


def test_an_activation_without_a_kernel_says_in_which_layer() -> None:
    growing = Activation("exp-square", lambda z: np.exp(np.minimum(z**2 / 2, 600.0)))
    with pytest.raises(ValueError, match=r"'exp-square' has no kernel in hidden layer 1"):
        DeepOneTaskProblem(Task(40 * X, X[:, 0]), depth=2, activation=growing)
    cubic = Activation("power", lambda z: z**9)
    with pytest.raises(ValueError, match=r"'power' has no kernel in hidden layer [23]"):
        DeepOneTaskProblem(Task(1e3 * X, X[:, 0]), depth=4, activation=cubic)
