"""Kernel blocks: symmetry, precisions, scaling, and a Monte Carlo reading of the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tlnb.kernels import InnerProducts, dual_diagonal, get_activation, gram, kernel, squared_norms


@pytest.fixture
def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 4)), rng.standard_normal((3, 4))


def test_gram_and_norms(inputs: tuple[np.ndarray, np.ndarray]) -> None:
    X, Z = inputs
    np.testing.assert_allclose(gram(X, Z), np.array([[x @ z / 4 for z in Z] for x in X]))
    np.testing.assert_allclose(squared_norms(X), np.diagonal(gram(X)))


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh"])
def test_kernel_is_symmetric_and_positive_semidefinite(
    inputs: tuple[np.ndarray, np.ndarray], activation: str
) -> None:
    X = np.vstack([*inputs, inputs[0][:2], np.zeros((1, 4))])  # duplicated and zero inputs too
    K = kernel(X, activation=activation, weight_variance=0.7)
    np.testing.assert_allclose(K, K.T, atol=1e-15)
    assert np.linalg.eigvalsh(K)[0] > -1e-12
    np.testing.assert_allclose(
        dual_diagonal(get_activation(activation), squared_norms(X), 0.7, 0.7, 1.0),
        np.diagonal(K),
        atol=1e-9,
    )


def test_readout_precision_divides_and_weight_variance_scales_inputs(
    inputs: tuple[np.ndarray, np.ndarray],
) -> None:
    X, Z = inputs
    plain = kernel(X, Z, activation="erf")
    np.testing.assert_allclose(kernel(X, Z, activation="erf", readout_precision=4.0), plain / 4)
    np.testing.assert_allclose(
        kernel(X, Z, activation="erf", weight_variance=2.5),
        kernel(np.sqrt(2.5) * X, np.sqrt(2.5) * Z, activation="erf"),
    )


def test_block_between_coupled_systems_is_an_average_over_coupled_weights(
    inputs: tuple[np.ndarray, np.ndarray],
) -> None:
    """K_ab from draws of weights with the covariances, within 5 standard errors."""
    X, Z = inputs
    c_left, c_cross, c_right = 1.0, 0.4, 0.8
    rng = np.random.default_rng(1)
    factor = np.linalg.cholesky([[c_left, c_cross], [c_cross, c_right]])
    w = np.einsum("ab,bni->ani", factor, rng.standard_normal((2, 40_000, 4)))
    sigma = get_activation("erf")
    products = sigma(w[0] @ X.T / 2)[:, :, None] * sigma(w[1] @ Z.T / 2)[:, None, :]
    error = products.std(0) / np.sqrt(len(products))
    K = InnerProducts.between(X, Z).dual(sigma, c_left, c_cross, c_right, 1.0)
    assert np.abs(products.mean(0) - K).max() < 5 * error.max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_variance": 0.0}, "weight_variance must be a number > 0, got 0.0"),
        ({"readout_precision": -1.0}, "readout_precision must be a number > 0, got -1.0"),
        ({"activation": "sine"}, "sine"),
    ],
)
def test_bad_arguments(
    inputs: tuple[np.ndarray, np.ndarray], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernel(inputs[0], **({"activation": "erf"} | change))


def test_inputs_of_different_dimension(inputs: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="Z must have N0 = 4 columns"):
        kernel(inputs[0], inputs[1][:, :3], activation="erf")
