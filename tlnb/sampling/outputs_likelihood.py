r"""The likelihood of networks with several outputs, readouts integrated out, and its gradient.

C readouts share the hidden layer: given the features Φ (P, N1) the outputs are independent Gaussian
processes of one kernel K̂ = ΦΦᵀ/c, c = λ1 N1, so that the collapsed likelihood is a product,

    L(W) = -½ [ C ln det(T + K̂) + Σ_a y_aᵀ(T + K̂)⁻¹y_a + P C ln 2π ],
    c ∂L/∂Φ = α αᵀΦ - C (T + K̂)⁻¹Φ,   α = (T + K̂)⁻¹y of shape (P, C),

and the readouts v (N1, C) are Gaussian with means Φᵀα/(λ1 sqrt(N1)) and one covariance for all, as
in `tlnb.sampling.likelihood`. What couples the outputs is the average over W alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.chunking import chunks
from tlnb.data.outputs import MultiOutputTask
from tlnb.kernels import Activation
from tlnb.sampling.density import Whitened
from tlnb.sampling.stand_ins import ROUTINES, Units, exact, force, stand_in

Array = NDArray[np.float64]
IN_CACHE = 2**16  # numbers in one array of a group of chains


class Averages(NamedTuple):
    """Of networks of given hidden weights, averaged over their readouts; M of them.

    ``readout`` (M, N1, C): mean readouts; ``order_parameter`` (M, C, C): (λ1/N1) ⟨vᵀv⟩;
    ``train_error`` (M,), averaged over examples and outputs; ``alpha`` (M, P, C), and ``shrunk``
    (M, P, N1) is (T + K̂)⁻¹Φ.
    """

    readout: Array
    order_parameter: Array
    train_error: Array
    features: Array
    alpha: Array
    shrunk: Array


@dataclass(frozen=True)
class OutputsLikelihood:
    """What hidden weights are judged by on one task with several outputs, many networks at once.

    Parameters
    ----------
    task : MultiOutputTask
        Inputs (P, N0) and labels (P, C).
    activation : Activation
        σ, with a derivative.
    width : int
        N1.
    temperature, readout_precision : float
        T and λ1.
    """

    task: MultiOutputTask
    activation: Activation
    width: int
    temperature: float
    readout_precision: float

    @cached_property
    def _scaled_inputs(self) -> Array:
        return self.task.X / np.sqrt(self.task.n_features)

    @cached_property
    def _labels(self) -> Array:
        return np.asfortranarray(self.task.y)

    @property
    def wide(self) -> bool:
        """Whether the smaller matrix is P × P: no more examples than units."""
        return self.task.n_examples <= self.width

    def features(self, W: Array, X: Array | None = None) -> Array:
        """Φ of shape (M, n, N1) at inputs ``X`` (n, N0), the task's by default."""
        X = self._scaled_inputs if X is None else X / np.sqrt(X.shape[1])
        return self.activation(np.matmul(X, W.swapaxes(1, 2)))

    def collapsed(self, W: Array) -> tuple[Array, Array]:
        """The collapsed log likelihood L (M,) and its gradient in W (M, N1, N0)."""
        return self.of_units(W, exact(self.activation))

    def force(self, W: Array) -> Array:
        """The gradient of L (M, N1, N0), nearly: see `tlnb.sampling.stand_ins`."""
        return force(self, W)

    @cached_property
    def stand_in(self) -> Units:
        """The units of the force."""
        noise = self.temperature, self.readout_precision
        return stand_in(self.activation, *noise, self.task.n_examples)

    def of_units(self, W: Array, units: Units) -> tuple[Array, Array]:
        """L (M,) and its gradient with ``units`` in place of σ, in their precision."""
        value, gradient = np.empty(len(W)), np.empty(W.shape)
        W, X = units.cast(W, self._scaled_inputs)
        for part in self._groups(len(W)):
            Phi, slope = units.both(np.matmul(X, W[part].swapaxes(1, 2)))
            value[part], alpha, solved = self._fit(Phi)
            # its negative
            solved *= self.task.n_outputs
            solved -= np.matmul(alpha, np.matmul(alpha.swapaxes(1, 2), Phi))
            solved *= slope
            np.matmul(solved.swapaxes(1, 2), X, out=gradient[part])
        gradient /= -(self.readout_precision * self.width)
        return value, gradient

    def averages(self, W: Array) -> Averages:
        """What readouts and training outputs are on average, given hidden weights (M, N1, N0)."""
        N1, precision, T = self.width, self.readout_precision, self.temperature
        P, C = self.task.y.shape
        Phi = self.features(W)
        _, alpha, solved = self._fit(Phi)
        mean = np.matmul(Phi.swapaxes(1, 2), alpha) / (precision * np.sqrt(N1))
        # Tr K̂(T + K̂)⁻¹
        shrunk = np.einsum("mij,mij->m", Phi, solved) / (precision * N1)
        overlap = precision / N1 * np.matmul(mean.swapaxes(1, 2), mean)
        overlap += ((N1 - shrunk) / N1)[:, None, None] * np.eye(C)
        # y - f̄ = T α, and Var f = T K̂(T + K̂)⁻¹ for each output.
        error = (T**2 * (alpha**2).sum((1, 2)) + C * T * shrunk) / (P * C)
        return Averages(mean, overlap, error, Phi, alpha, solved)

    def predict(self, averages: Averages, Phi_0: Array) -> tuple[Array, Array]:
        """Means (M, n, C) of f given W, and the variance (M, n) of each of the C outputs."""
        scale = self.readout_precision * self.width
        mean = np.matmul(Phi_0, averages.readout) / np.sqrt(self.width)
        cross, solved = (
            np.matmul(Phi_0, x.swapaxes(1, 2)) for x in (averages.features, averages.shrunk)
        )
        variance = np.einsum("mnk,mnk->mn", Phi_0, Phi_0) / scale
        variance -= np.einsum("mnp,mnp->mn", cross, solved) / scale**2
        return mean, np.maximum(variance, 0.0)

    def _groups(self, chains: int) -> Iterator[slice]:
        return chunks(chains, self.task.n_examples * self.width, IN_CACHE)

    def _fit(self, Phi: Array) -> tuple[Array, Array, Array]:
        """L (M,), α (M, P, C) and (T + K̂)⁻¹Φ (M, P, N1)."""
        T, c = self.temperature, self.readout_precision * self.width
        y = self._labels.astype(Phi.dtype, copy=False)
        (P, C), rows = y.shape, min(Phi.shape[1:])
        syrk, potrf, potrs, trtri, trmm = ROUTINES[Phi.dtype]
        value, alpha = np.empty(len(Phi)), np.empty((len(Phi), P, C), Phi.dtype)
        solved = np.array(Phi, order="C")
        for i, A in enumerate(solved):
            # M = ΦΦᵀ + cT, or ΦᵀΦ + cT where that is smaller; to BLAS A is its transpose.
            M = syrk(1.0, A.T, trans=self.wide, lower=True)
            M.T.reshape(-1)[:: rows + 1] += c * T
            L, info = potrf(M, lower=True, clean=False, overwrite_a=True)
            if info:
                value[i], alpha[i] = np.nan, np.nan
                continue
            if self.wide:
                alpha[i] = c * potrs(L, y, lower=True)[0]
            log_det = 2 * np.log(L.diagonal()).sum() - rows * np.log(c) + (P - rows) * np.log(T)
            # c M⁻¹Φ, or c Φ M⁻¹, in place.
            inverse, _ = trtri(L, lower=True, overwrite_c=True)
            side, first, second = (1, 1, 0) if self.wide else (0, 0, 1)
            trmm(1.0, inverse, A.T, side=side, lower=1, trans_a=first, overwrite_b=1)
            trmm(c, inverse, A.T, side=side, lower=1, trans_a=second, overwrite_b=1)
            if not self.wide:
                alpha[i] = (y - A @ (Phi[i].T @ y) / c) / T
            misfit = np.vdot(alpha[i], y)
            value[i] = -0.5 * (C * log_det + misfit + P * C * np.log(2 * np.pi))
        return value, alpha, solved


@dataclass(frozen=True, eq=False)
class WhitenedOutputs(Whitened):
    """The posterior of networks with several outputs, at positions (M, N1, N0)."""

    network: OutputsLikelihood

    def measure(self, position: Array, test: MultiOutputTask | None) -> dict[str, Array]:
        """What is recorded of each chain."""
        W, net = self.weights(position), self.network
        found = net.averages(W)
        row = {
            "order_parameter": found.order_parameter,
            "train_error": found.train_error,
            "readout": found.readout,
        }
        if test is not None:
            mean, variance = net.predict(found, net.features(W, test.X))
            row |= {"prediction": mean, "prediction_variance": variance}
            row["test_error"] = ((test.y - mean) ** 2).mean((1, 2)) + variance.mean(1)
        return row
