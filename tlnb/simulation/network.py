r"""The network in numpy: forward pass, posteriors, and their exact gradients.

f(x) = N1^(-1/2) Σ_i v_i σ(w_i·x/sqrt(N0)), for many chains at once: hidden weights W of shape
(C, N1, N0), readouts v (C, N1). With the features Φ = σ(X Wᵀ/sqrt(N0)), (P, N1) for each chain, the
readouts are Gaussian given W and are integrated out exactly. What is left is the *collapsed*
likelihood of the hidden weights,

    L(W) = -½ [ ln det(T + K̂) + yᵀ(T + K̂)⁻¹y + P ln 2π ],    K̂ = ΦΦᵀ/(λ1 N1),

whose matrices are P × P, or N1 × N1 where the width is the smaller one: with
S = ΦᵀΦ + λ1 N1 T, (T + K̂)⁻¹Φ = λ1 N1 Φ S⁻¹. Collapsed readouts: Hron et al. (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpotrf

from tlnb.activations import Activation
from tlnb.data.task import Task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """A network on one task: data, activation, width, temperature and readout precision."""

    task: Task
    activation: Activation
    width: int
    temperature: float
    readout_precision: float

    def preactivations(self, W: Array, X: Array | None = None) -> Array:
        """w_i·x/sqrt(N0) of shape (C, n, N1) at inputs ``X`` (n, N0), the task's by default."""
        X = self.task.X if X is None else X
        return np.matmul(X / np.sqrt(X.shape[1]), np.swapaxes(W, 1, 2))

    def features(self, W: Array, X: Array | None = None) -> Array:
        """Φ of shape (C, n, N1)."""
        return self.activation(self.preactivations(W, X))

    def output(self, W: Array, v: Array, X: Array | None = None) -> Array:
        """f of shape (C, n)."""
        return np.matmul(self.features(W, X), v[..., None])[..., 0] / np.sqrt(self.width)

    def collapsed(self, W: Array) -> tuple[Array, Array]:
        """The collapsed log likelihood L (C,) and its gradient in W (C, N1, N0)."""
        h = self.preactivations(W)
        Phi = self.activation(h)
        fits = [self._fit(features) for features in Phi]
        slope = self.activation.derivative(h)
        for c, fit in enumerate(fits):
            # dL/dΦ = [α αᵀΦ - (T + K̂)⁻¹Φ] / (λ1 N1)
            slope[c] *= np.outer(fit.alpha, fit.alpha @ Phi[c]) - fit.solved
        slope /= self.readout_precision * self.width
        X = self.task.X / np.sqrt(self.task.n_features)
        return np.array([fit.log_likelihood for fit in fits]), np.matmul(
            np.swapaxes(slope, 1, 2), X
        )

    def joint(self, W: Array, v: Array) -> tuple[Array, Array, Array]:
        """Log likelihood given all weights (C,), and its gradients in W and in v (C, N1)."""
        h = self.preactivations(W)
        Phi = self.activation(h)
        root = np.sqrt(self.width)
        residual = self.task.y - np.matmul(Phi, v[..., None])[..., 0] / root
        T = self.temperature
        constant = len(self.task.y) * np.log(2 * np.pi * T)
        log_likelihood = -0.5 * ((residual**2).sum(1) / T + constant)
        residual /= T * root
        by_v = np.matmul(residual[:, None, :], Phi)[:, 0]
        slope = self.activation.derivative(h) * residual[..., None] * v[:, None, :]
        X = self.task.X / np.sqrt(self.task.n_features)
        return log_likelihood, np.matmul(np.swapaxes(slope, 1, 2), X), by_v

    def readouts(self, Phi: Array) -> Readouts:
        """The Gaussian law of the readouts given the features ``Phi`` (P, N1) of one chain."""
        fit = self._fit(Phi)
        return Readouts(self, Phi, fit)

    def _fit(self, Phi: Array) -> _Fit:
        P, N1 = Phi.shape
        T, c, y = self.temperature, self.readout_precision * self.width, self.task.y
        if P <= N1:
            M = Phi @ Phi.T
            M /= c
            M.flat[:: P + 1] += T
            factor, log_det = _cholesky(M)
            alpha = cho_solve(factor, y, check_finite=False)
            solved = cho_solve(factor, Phi, check_finite=False)
        else:
            S = Phi.T @ Phi
            S.flat[:: N1 + 1] += c * T
            factor, log_det = _cholesky(S)
            solved = c * cho_solve(factor, Phi.T, check_finite=False).T
            alpha = (y - solved @ (Phi.T @ y) / c) / T
            log_det += (P - N1) * np.log(T) - N1 * np.log(c)
        log_likelihood = -0.5 * (log_det + y @ alpha + P * np.log(2 * np.pi))
        return _Fit(float(log_likelihood), alpha, solved, factor)


class _Fit(NamedTuple):
    """L; α = (T + K̂)⁻¹y (P,); (T + K̂)⁻¹Φ (P, N1); the factor of the smaller matrix."""

    log_likelihood: float
    alpha: Array
    solved: Array
    factor: tuple[Array, bool]


def _cholesky(matrix: Array) -> tuple[tuple[Array, bool], float]:
    """A lower Cholesky factor and the log determinant; not finite where there is none."""
    L, info = dpotrf(matrix, lower=True, clean=False)
    if info != 0:
        L = np.full_like(matrix, np.nan)
    return (L, True), 2 * float(np.log(np.diagonal(L)).sum())


class Readouts:
    """Readouts given the hidden weights: v ~ N(v̄, Cov), every average of them analytic.

    v̄ = Φᵀα/(λ1 sqrt(N1)),   λ1 Cov = 1 - Φᵀ(T + K̂)⁻¹Φ/(λ1 N1).
    """

    def __init__(self, network: Network, Phi: Array, fit: _Fit) -> None:
        self.network, self.Phi, self.fit = network, Phi, fit
        self.scale = network.readout_precision * network.width
        self.mean = Phi.T @ fit.alpha / (network.readout_precision * np.sqrt(network.width))

    def order_parameter(self) -> float:
        """(λ1/N1) ⟨‖v‖²⟩."""
        shrunk = np.vdot(self.Phi, self.fit.solved) / self.scale
        N1 = self.network.width
        of_mean = self.network.readout_precision * self.mean @ self.mean
        return float((of_mean + N1 - shrunk) / N1)

    def train_error(self) -> float:
        """⟨(y - f)²⟩ averaged over the training examples: y - f̄ = T α, and the spread of f."""
        T, P = self.network.temperature, len(self.fit.alpha)
        # Var f = K̂ - K̂(T + K̂)⁻¹K̂ = T K̂(T + K̂)⁻¹
        spread = T * np.vdot(self.Phi, self.fit.solved) / self.scale
        return float((T**2 * self.fit.alpha @ self.fit.alpha + spread) / P)

    def predict(self, Phi_0: Array) -> tuple[Array, Array]:
        """Mean and variance of f given the hidden weights, at features ``Phi_0`` (n, N1)."""
        mean = Phi_0 @ self.mean / np.sqrt(self.network.width)
        projected = (self.fit.solved.T @ self.Phi) @ Phi_0.T / self.scale
        variance = np.einsum("nk,kn->n", Phi_0, Phi_0.T - projected) / self.scale
        return mean, np.maximum(variance, 0.0)


def draw_readouts(network: Network, W: Array, rng: np.random.Generator) -> Array:
    """Readouts of shape (C, N1) drawn from their law given the hidden weights.

    By a draw (v, noise) from the prior, corrected by the observed residual (Matheron's rule).
    """
    Phi = network.features(W)
    N1, T = network.width, network.temperature
    v = rng.standard_normal((len(W), N1)) / np.sqrt(network.readout_precision)
    noise = np.sqrt(T) * rng.standard_normal((len(W), Phi.shape[1]))
    for c, features in enumerate(Phi):
        residual = network.task.y - features @ v[c] / np.sqrt(N1) - noise[c]
        solved = network._fit(features).solved
        v[c] += solved.T @ residual / (network.readout_precision * np.sqrt(N1))
    return v
