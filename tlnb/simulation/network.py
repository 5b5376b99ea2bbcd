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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf, dpotrs

from tlnb.activations import Activation
from tlnb.data.task import Task

Array = NDArray[np.float64]
IN_CACHE = 2**16  # numbers in one array of a group of chains


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
        X = self._scaled_inputs if X is None else X / np.sqrt(X.shape[1])
        return np.matmul(X, W.swapaxes(1, 2))

    def features(self, W: Array, X: Array | None = None) -> Array:
        """Φ of shape (C, n, N1)."""
        return self.activation(self.preactivations(W, X))

    def output(self, W: Array, v: Array, X: Array | None = None) -> Array:
        """f of shape (C, n)."""
        return np.matmul(self.features(W, X), v[..., None])[..., 0] / np.sqrt(self.width)

    def collapsed(self, W: Array) -> tuple[Array, Array]:
        """The collapsed log likelihood L (C,) and its gradient in W (C, N1, N0)."""
        log_likelihood, gradient = np.empty(len(W)), np.empty(W.shape)
        X = self._scaled_inputs / -(self.readout_precision * self.width)
        for part in self._groups(len(W)):
            h = self.preactivations(W[part])
            Phi, slope = self.activation(h), self.activation.derivative(h)
            product = np.empty_like(Phi)
            for c, features in enumerate(Phi):
                fit = self._fit(features)
                log_likelihood[part.start + c] = fit.log_likelihood
                # dL/dΦ = [α αᵀΦ - (T + K̂)⁻¹Φ] / (λ1 N1); its negative in place, by columns
                by_features = fit.solved - np.outer(fit.alpha, fit.alpha @ features)
                np.multiply(slope[c], by_features, out=product[c])
            np.matmul(product.swapaxes(1, 2), X, out=gradient[part])
        return log_likelihood, gradient

    def joint(self, W: Array, v: Array) -> tuple[Array, Array, Array]:
        """Log likelihood given all weights (C,), and its gradients in W and in v (C, N1)."""
        root = np.sqrt(self.width)
        log_likelihood = np.empty(len(W))
        by_W, by_v = np.empty(W.shape), np.empty(v.shape)
        constant = len(self.task.y) * np.log(2 * np.pi * self.temperature)
        for part in self._groups(len(W)):
            h = self.preactivations(W[part])
            Phi = self.activation(h)
            residual = self.task.y - np.matmul(Phi, v[part, :, None])[..., 0] / root
            misfit = (residual**2).sum(1) / self.temperature
            log_likelihood[part] = -0.5 * (misfit + constant)
            residual /= self.temperature * root
            np.matmul(residual[:, None, :], Phi, out=by_v[part, None])
            slope = self.activation.derivative(h) * residual[..., None]
            np.matmul(slope.swapaxes(1, 2), self._scaled_inputs, out=by_W[part])
        by_W *= v[..., None]
        return log_likelihood, by_W, by_v

    def readouts(self, Phi: Array) -> Readouts:
        """The Gaussian law of the readouts given the features ``Phi`` (P, N1) of one chain."""
        fit = self._fit(Phi)
        return Readouts(self, Phi, fit)

    @cached_property
    def _scaled_inputs(self) -> Array:
        return self.task.X / np.sqrt(self.task.n_features)

    def _groups(self, chains: int) -> Iterator[slice]:
        """Chains taken together: few calls for small networks, arrays in cache for large ones."""
        size = max(1, IN_CACHE // (self.task.n_examples * self.width))
        return (slice(c, min(c + size, chains)) for c in range(0, chains, size))

    def _fit(self, Phi: Array) -> _Fit:
        P, N1 = Phi.shape
        T, c, y = self.temperature, self.readout_precision * self.width, self.task.y
        wide = P <= N1
        # To BLAS a row-ordered Φ is Φᵀ. Triangular solves are fastest from the right.
        tall = np.array(Phi, order="C").T if wide else np.array(Phi, order="F")
        M = dsyrk(1 / c if wide else 1.0, tall, trans=True, lower=True)
        M.flat[:: len(M) + 1] += T if wide else c * T
        L, log_det = _cholesky(M)
        for transposed in (True, False):
            tall = dtrsm(1.0, L, tall, side=1, lower=1, trans_a=transposed, overwrite_b=1)
        if wide:
            solved = tall.T
            alpha = dpotrs(L, y, lower=True)[0]
        else:
            solved = np.multiply(tall, c, out=tall)
            alpha = (y - solved @ (y @ Phi) / c) / T
            log_det += (P - N1) * np.log(T) - N1 * np.log(c)
        log_likelihood = -0.5 * (log_det + y @ alpha + P * np.log(2 * np.pi))
        return _Fit(float(log_likelihood), alpha, solved)


class _Fit(NamedTuple):
    """L; α = (T + K̂)⁻¹y (P,); (T + K̂)⁻¹Φ (P, N1)."""

    log_likelihood: float
    alpha: Array
    solved: Array


def _cholesky(matrix: Array) -> tuple[Array, float]:
    """A lower Cholesky factor and the log determinant; not finite where there is none."""
    L, info = dpotrf(matrix, lower=True, clean=False, overwrite_a=True)
    if info != 0:
        L = np.full_like(matrix, np.nan)
    return L, 2 * float(np.log(np.diagonal(L)).sum())


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
        prior = np.einsum("nk,nk->n", Phi_0, Phi_0) / self.scale
        known = np.einsum("nm,nm->n", Phi_0 @ self.Phi.T, Phi_0 @ self.fit.solved.T)
        return mean, np.maximum(prior - known / self.scale**2, 0.0)


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
