r"""Likelihoods of a network's weights with their exact gradients, readouts integrated out or not.

f(x) = N1^(-1/2) Σ_i v_i σ(w_i·x/sqrt(N0)), for many chains at once: hidden weights W of shape
(C, N1, N0), readouts v (C, N1). With the features Φ = σ(X Wᵀ/sqrt(N0)), (P, N1) for each chain, the
readouts are Gaussian given W and are integrated out exactly. What is left is the *collapsed*
likelihood of the hidden weights,

    L(W) = -½ [ ln det(T + K̂) + yᵀ(T + K̂)⁻¹y + P ln 2π ],    K̂ = ΦΦᵀ/c,   c = λ1 N1.

The matrix that is factorised, M = AAᵀ + cT, is P × P with A = Φ, or N1 × N1 with A = Φᵀ where the
width is the smaller one; in both cases (T + K̂)⁻¹Φ, or its transpose, is c M⁻¹A. Collapsed readouts:
Hron et al. (2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed_names
from tlnb.chunking import chunks
from tlnb.data.task import Task
from tlnb.kernels import Activation
from tlnb.sampling.stand_ins import ROUTINES, Units, exact, force, stand_in

Array = NDArray[np.float64]
IN_CACHE = 2**16  # numbers in one array of a group of chains


@dataclass(frozen=True)
class NetworkLikelihood:
    """What the weights of networks are judged by on one task, for many networks at once.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    activation : Activation
        σ, with a derivative.
    width : int
        N1.
    temperature, readout_precision : float
        T and λ1.

    Examples
    --------
    The readouts integrated out: y is Gaussian with variance T + σ(h)²/λ1.

    >>> import numpy as np
    >>> from scipy.stats import norm
    >>> from tlnb import Task
    >>> from tlnb.kernels import get_activation
    >>> from tlnb.sampling.likelihood import NetworkLikelihood
    >>> task, sigma = Task([[1.0]], [2.0]), get_activation("linear")
    >>> likelihood = NetworkLikelihood(task, sigma, 1, temperature=0.5, readout_precision=4.0)
    >>> value, gradient = likelihood.collapsed(np.array([[[3.0]]]))
    >>> bool(np.isclose(value[0], norm.logpdf(2.0, scale=np.sqrt(0.5 + 9.0 / 4.0))))
    True
    """

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
        return self.of_units(W, exact(self.activation))

    def collapsed_fit(self, W: Array) -> tuple[Array, Array, Fit]:
        """The same, and what `Readouts` needs at these weights."""
        shape = (len(W), *((self.task.n_examples, self.width)[:: 1 if self.wide else -1]))
        fit = Fit(np.empty(shape), np.empty((len(W), self.task.n_examples)), np.empty(shape))
        return *self.of_units(W, exact(self.activation), fit), fit

    def force(self, W: Array) -> Array:
        """The gradient of L (C, N1, N0), nearly: see `tlnb.sampling.stand_ins`."""
        return force(self, W)

    @cached_property
    def stand_in(self) -> Units:
        """The units of the force."""
        noise = self.temperature, self.readout_precision
        return stand_in(self.activation, *noise, self.task.n_examples)

    def of_units(self, W: Array, units: Units, kept: tuple[Array, ...] = ()) -> tuple[Array, Array]:
        """L (C,) and its gradient with ``units`` in place of σ, in their precision."""
        log_likelihood, gradient = np.empty(len(W)), np.empty(W.shape)
        W, X = units.cast(W, self._scaled_inputs)
        for part in self._groups(len(W)):
            h = np.matmul(X, W[part].swapaxes(1, 2)) if self.wide else np.matmul(W[part], X.T)
            A, slope = units.both(h)
            log_likelihood[part], alpha, solved = self.fit(A)
            for whole, of_part in zip(kept, (A, alpha, solved), strict=False):
                whole[part] = of_part
            # c dL/dΦ = α αᵀΦ - (T + K̂)⁻¹Φ, its negative here
            if self.wide:
                solved -= alpha[:, :, None] * np.matmul(alpha[:, None, :], A)
            else:
                solved -= np.matmul(A, alpha[:, :, None]) * alpha[:, None, :]
            solved *= slope
            np.matmul(solved.swapaxes(1, 2) if self.wide else solved, X, out=gradient[part])
        gradient /= -(self.readout_precision * self.width)
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
        """The Gaussian law of the readouts given the features ``Phi`` (..., P, N1)."""
        chains = Phi.reshape(-1, *Phi.shape[-2:])
        A = chains if self.wide else chains.swapaxes(1, 2)
        _, alpha, solved = self.fit(A)
        return Readouts(self, Fit(A, alpha, solved), Phi.shape[:-2])

    @cached_property
    def _scaled_inputs(self) -> Array:
        return self.task.X / np.sqrt(self.task.n_features)

    def _groups(self, chains: int) -> Iterator[slice]:
        """Chains taken together: few calls for small networks, arrays in cache for large ones."""
        return chunks(chains, self.task.n_examples * self.width, IN_CACHE)

    @property
    def wide(self) -> bool:
        """Whether the smaller matrix is P × P: no more examples than units."""
        return self.task.n_examples <= self.width

    def fit(self, A: Array) -> tuple[Array, Array, Array]:
        """L (C,), α = (T + K̂)⁻¹y (C, P) and c M⁻¹A in the shape of ``A`` (C, rows, columns)."""
        T, c = self.temperature, self.readout_precision * self.width
        y = self.task.y.astype(A.dtype, copy=False)
        P, rows = len(y), A.shape[1]
        syrk, potrf, potrs, trtri, trmm = ROUTINES[A.dtype]
        solved, diagonal = np.array(A, order="C"), np.empty(A.shape[:2])
        alpha, wide = np.empty((len(A), P), A.dtype), self.wide
        for i, by_rows in enumerate(solved):
            # To BLAS a row-ordered matrix is its transpose. Products with the inverse of the
            # triangle are quicker than solutions with it.
            columns = by_rows.T
            M = syrk(1.0, columns, trans=True, lower=True)
            M.T.reshape(-1)[:: rows + 1] += c * T
            L, info = potrf(M, lower=True, clean=False, overwrite_a=True)
            diagonal[i] = L.diagonal() if info == 0 else np.nan
            if wide:
                alpha[i] = potrs(L, y, lower=True)[0]
            inverse, _ = trtri(L, lower=True, overwrite_c=True)
            trmm(1.0, inverse, columns, side=1, lower=1, trans_a=1, overwrite_b=1)
            trmm(c, inverse, columns, side=1, lower=1, overwrite_b=1)
        if wide:
            alpha *= c
        else:
            alpha = (y - np.matmul((A @ y)[:, None, :], solved)[:, 0] / c) / T
        log_det = 2 * np.log(diagonal).sum(1) - rows * np.log(c) + (P - rows) * np.log(T)
        return -0.5 * (log_det + alpha @ y + P * np.log(2 * np.pi)), alpha, solved


class Fit(NamedTuple):
    """Of C chains: features, α = (T + K̂)⁻¹y (C, P), and (T + K̂)⁻¹Φ.

    Features and the last are of shape (C, P, N1) if the network is wide, else (C, N1, P).
    """

    features: Array
    alpha: Array
    solved: Array


class Readouts:
    """Readouts given the hidden weights: v ~ N(v̄, Cov), every average of them analytic.

    v̄ = Φᵀα/(λ1 sqrt(N1)),   λ1 Cov = 1 - Φᵀ(T + K̂)⁻¹Φ/c; features (..., P, N1), of any number of
    chains, and averages of shape (...).
    """

    def __init__(
        self, network: NetworkLikelihood, fit: Fit, shape: tuple[int, ...] | None = None
    ) -> None:
        self.network = network
        self.scale = network.readout_precision * network.width
        shape = fit.alpha.shape[:1] if shape is None else shape
        Phi, solved = (x if network.wide else x.swapaxes(1, 2) for x in (fit.features, fit.solved))
        self.Phi, self.solved = (x.reshape(*shape, *x.shape[1:]) for x in (Phi, solved))
        self.alpha = fit.alpha.reshape(*shape, -1)
        self.mean = np.matmul(self.alpha[..., None, :], self.Phi)[..., 0, :] / (
            network.readout_precision * np.sqrt(network.width)
        )
        # Tr K̂(T + K̂)⁻¹
        of_chains = np.einsum("cij,cij->c", fit.features, fit.solved) / self.scale
        self.shrunk = of_chains.reshape(shape)

    def order_parameter(self) -> Array:
        """(λ1/N1) ⟨‖v‖²⟩."""
        of_mean = self.network.readout_precision * (self.mean**2).sum(-1)
        return (of_mean + self.network.width - self.shrunk) / self.network.width

    def train_error(self) -> Array:
        """⟨(y - f)²⟩ averaged over the training examples: y - f̄ = T α, and the spread of f."""
        T, P = self.network.temperature, self.alpha.shape[-1]
        # Var f = K̂ - K̂(T + K̂)⁻¹K̂ = T K̂(T + K̂)⁻¹
        return (T**2 * (self.alpha**2).sum(-1) + T * self.shrunk) / P

    def predict(self, Phi_0: Array) -> tuple[Array, Array]:
        """Mean and variance (..., n) of f given W, at features ``Phi_0`` (..., n, N1)."""
        mean = np.matmul(Phi_0, self.mean[..., None])[..., 0] / np.sqrt(self.network.width)
        prior = np.einsum("...nk,...nk->...n", Phi_0, Phi_0) / self.scale
        cross, solved = (np.matmul(Phi_0, x.swapaxes(-1, -2)) for x in (self.Phi, self.solved))
        known = np.einsum("...nm,...nm->...n", cross, solved) / self.scale**2
        return mean, np.maximum(prior - known, 0.0)


def draw_readouts(network: NetworkLikelihood, W: Array, rng: np.random.Generator) -> Array:
    """Readouts of shape (C, N1) drawn from their law given the hidden weights.

    By a draw (v, noise) from the prior, corrected by the observed residual (Matheron's rule).
    """
    Phi = network.features(W)
    N1, T = network.width, network.temperature
    v = rng.standard_normal((len(W), N1)) / np.sqrt(network.readout_precision)
    noise = np.sqrt(T) * rng.standard_normal((len(W), Phi.shape[1]))
    residual = network.task.y - np.matmul(Phi, v[..., None])[..., 0] / np.sqrt(N1) - noise
    solved = network.readouts(Phi).solved
    v += np.matmul(residual[:, None, :], solved)[:, 0] / (network.readout_precision * np.sqrt(N1))
    return v


__getattr__ = renamed_names(__name__)
