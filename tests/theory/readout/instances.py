"""Gaussian covariates to learn on, and a proximal map that is found slowly."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from tlnb.theory.glm import GaussianCovariates
from tlnb.theory.readout.losses import Loss

LOSSES = ("logistic", "square", "hinge")


def covariates(
    seed: int = 0, n_features: int = 12, *, spread: float = 1.0, explained: float = 0.9
) -> GaussianCovariates:
    """Random ones: eigenvalues over decades, features that explain a given part of the teacher."""
    rng = np.random.default_rng(seed)
    e = np.exp(spread * rng.standard_normal(n_features))
    Q, _ = np.linalg.qr(rng.standard_normal((n_features, n_features)))
    omega = (Q * e) @ Q.T
    weights = rng.standard_normal(n_features) / np.sqrt(n_features)
    tau = omega @ weights
    return GaussianCovariates((omega + omega.T) / 2, tau, tau @ weights / explained)


def slow_proximal(a: float, V: float, loss: Loss) -> float:
    if loss == "hinge":
        return max(a, min(a + V, 1.0))
    pull = {"logistic": lambda z: 1 / (1 + np.exp(min(z, 700.0))), "square": lambda z: 1 - z}[loss]
    low, high = min(a, 1.0) - 1e-9 * (1 + V), max(a + V, 1.0) + 1e-9 * (1 + V)
    return brentq(lambda z: z - a - V * pull(z), low, high, xtol=1e-15, rtol=1e-15)
