"""Averages over the law: gradients, the control by the prior's kernel, bounded variance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import check_grad

from tests.instances import deterministic
from tlnb.kernels import get_activation, kernel
from tlnb.theory.unit_law.moments import Sums, Units, Weights

SOURCE, _, TEST = deterministic()
WIDTH, Q = 20.0, 0.7


def _units(activation: str) -> Units:
    return Units(SOURCE.X, get_activation(activation), 0.8, 1.7)


@pytest.mark.parametrize("activation", ["erf", "tanh", "relu", "linear"])
def test_gradient_of_the_field(activation: str) -> None:
    units, rng = _units(activation), np.random.default_rng(1)
    t, start = rng.standard_normal((1, 30)), rng.standard_normal(12)

    def value(x: np.ndarray) -> np.ndarray:
        return units.fields(x[None, None], t)[0][0, 0]

    def gradient(x: np.ndarray) -> np.ndarray:
        return units.fields(x[None, None], t)[1][0, 0]

    assert check_grad(value, gradient, start) < 1e-5
    m = units.features(start) @ t[0]
    np.testing.assert_allclose(value(start), m)


def test_features_are_those_of_the_prior_kernel() -> None:
    units, rng = _units("erf"), np.random.default_rng(2)
    features = units.features(rng.standard_normal((40_000, 12)))
    K = kernel(SOURCE.X, activation="erf", weight_variance=0.64, readout_precision=1.7)
    assert abs(features.T @ features / 40_000 - K).max() < 0.02


def test_without_a_tilt_the_kernel_is_exact_whatever_the_particles() -> None:
    units, rng = _units("erf"), np.random.default_rng(3)
    features = units.features(rng.standard_normal((2, 5, 12)))
    sums = Sums.of(features, features, Weights.at(np.zeros((2, 5)), Q, WIDTH))
    K = kernel(SOURCE.X, activation="erf")
    for moments in sums.moments(K):
        np.testing.assert_allclose(moments.second, K, atol=1e-14)
        np.testing.assert_allclose(moments.fourth, 0, atol=1e-14)


def _exact_linear(strength: float) -> tuple[Callable, np.ndarray, np.ndarray, np.ndarray]:
    """A linear network's law of a unit is Gaussian: particles from it and its moments."""
    units, rng = _units("linear"), np.random.default_rng(4)
    t = rng.standard_normal(30)
    a = units.fields(np.zeros((1, 1, 12)), t[None])[1][0, 0]
    t *= np.sqrt(strength * WIDTH / Q) / np.linalg.norm(a)
    a *= np.sqrt(strength * WIDTH / Q) / np.linalg.norm(a)
    covariance = np.linalg.inv(np.eye(12) - Q / WIDTH * np.outer(a, a))
    S = units.features(np.eye(12))  # (12, P): features are linear in ξ
    second = S.T @ covariance @ S
    along = second @ t
    fourth = Q**2 * ((t @ along) * second + 2 * np.outer(along, along))
    factor = np.linalg.cholesky(covariance)

    def draw(n: int) -> Sums:
        position = rng.standard_normal((200, n, 12)) @ factor.T
        m = position @ a
        features = units.features(position)
        return Sums.of(features, features, Weights.at(m, Q, WIDTH))

    return draw, S.T @ S, second, fourth


def test_the_control_is_unbiased_and_leaves_less_variance() -> None:
    draw, K, second, fourth = _exact_linear(0.3)
    sums = draw(100)
    pooled = sums.only(slice(None)).moments(K)[0]
    parts = sums.moments(K)
    for name, exact in (("second", second), ("fourth", fourth)):
        values = np.array([getattr(part, name) for part in parts])
        error = values.std(0) / np.sqrt(len(values))
        z = (getattr(pooled, name) - exact) / error
        assert abs(z).mean() < 1.2 and abs(z).max() < 6
    plain = np.mean((sums.plain - second) ** 2)
    controlled = np.mean([(part.second - second) ** 2 for part in parts])
    assert controlled < 0.4 * plain


def test_means_over_parts_add_up() -> None:
    draw = _exact_linear(0.3)[0]
    a, b = draw(3), draw(6)
    both = a.mix(b, 2 / 3)
    np.testing.assert_allclose(both.plain, (a.plain + 2 * b.plain) / 3)
    np.testing.assert_allclose(a.only(slice(0, 2)).cross, a.cross[:2].mean())


def test_the_diagonal_is_that_of_the_whole() -> None:
    units, rng = _units("erf"), np.random.default_rng(5)
    features = units.features(rng.standard_normal((3, 7, 12)), TEST.X)
    weights = Weights.at(rng.standard_normal((3, 7)), Q, WIDTH)
    whole, own = Sums.of(features, features, weights), Sums.diagonal(features, weights)
    for name in ("plain", "undone", "squared"):
        np.testing.assert_allclose(
            getattr(own, name), np.diagonal(getattr(whole, name), axis1=1, axis2=2)
        )
    np.testing.assert_allclose(own.undo2, whole.undo2)
