r"""Averages over the law of a hidden unit, from particles, with the prior's kernel as a control.

A unit of weights w has the features σ(w) = σ(Xw/sqrt(N0))/sqrt(λ1) in R^P and, under the law

    p(w) ∝ N(w; 0, 1/λ0) e^u,   u(w) = Q m(w)²/(2 N1),   m(w) = t·σ(w),

the averages ⟨a σσᵀ⟩ with a = 1 and a = n² are what the theory needs, n = Q m being sqrt(N1) times
the mean readout. (Labels fix Q t and hence n, whatever Q is: averages with n² stay right while Q is
still being found, those with m² do not.) As u ≥ 0 the weights
ω = e^(-u)/⟨e^(-u)⟩, which lead from p back to the prior, are bounded, and ⟨ω σσᵀ⟩ = K is known in
closed form. Whatever part of a is along ω needs no particles therefore:

    ⟨a σσᵀ⟩ = c K + ⟨(a - c ω) σσᵀ⟩,   c = ⟨a ω⟩/⟨ω²⟩,

with the c of least variance for features that do not depend on ω. In a lazy network ω is nearly
one, and hardly anything is left to be sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.kernels import Activation

Array = NDArray[np.float64]
CHUNK = 2**21  # numbers in one array of features


@dataclass(frozen=True)
class Units:
    """Hidden units in whitened coordinates: w = centre + spread ξ, features over sqrt(λ1)."""

    X: Array
    activation: Activation
    spread: float
    readout_precision: float
    centre: Array | float = 0.0

    def preactivations(self, position: Array, X: Array | None = None) -> Array:
        """w·x/sqrt(N0) of shape (..., n) for positions (..., N0) at inputs ``X`` (n, N0)."""
        X = self.X if X is None else X
        return (self.centre + self.spread * position) @ (X.T / np.sqrt(X.shape[1]))

    def features(self, position: Array, X: Array | None = None) -> Array:
        """σ(w) of shape (..., n)."""
        return self.activation(self.preactivations(position, X)) / np.sqrt(self.readout_precision)

    def fields(self, position: Array, t: Array) -> tuple[Array, Array]:
        """m (G, M) and its gradient in ξ (G, M, N0) for ``t`` of shape (G, P) or (G, M, P)."""
        h = self.preactivations(position)
        t = t[:, None, :] if t.ndim == 2 else t
        scale = 1 / np.sqrt(self.readout_precision)
        m = scale * np.einsum("gmp,gmp->gm", self.activation(h), np.broadcast_to(t, h.shape))
        slope = self.activation.derivative(h)
        slope *= t
        X = self.X * (scale * self.spread / np.sqrt(self.X.shape[1]))
        return m, slope @ X


class Weights(NamedTuple):
    """What each particle counts: e^(-u) and n² = Q²m², of shape (..., M)."""

    undo: Array
    square: Array

    @classmethod
    def at(cls, m: Array, Q: Array, width: float) -> Weights:
        """Weights of fields ``m`` at order parameters ``Q`` that broadcast with them."""
        square = (Q * m) ** 2
        return cls(np.exp(-square / (2 * width * Q)), square)


class Sums(NamedTuple):
    """Means over the particles of each population, all linear in the particles.

    ``plain``, ``undone``, ``squared`` (G, P, n) are ⟨a σσ(x)ᵀ⟩ for a = 1, e^(-u), n²; ``undo``,
    ``undo2``, ``square``, ``cross`` (G,) are ⟨e^(-u)⟩, ⟨e^(-2u)⟩, ⟨n²⟩, ⟨n² e^(-u)⟩.
    """

    plain: Array
    undone: Array
    squared: Array
    undo: Array
    undo2: Array
    square: Array
    cross: Array

    @classmethod
    def of(cls, left: Array, right: Array, weights: Weights) -> Sums:
        """Of features ``left`` (G, M, P) with ``right`` (G, M, n)."""
        undo, square = weights
        products = []
        for weight in (None, np.sqrt(undo), np.sqrt(square)):
            # Half the weight on each side: of the same array BLAS does one triangle only.
            a = left if weight is None else weight[..., None] * left
            b = a if left is right else right if weight is None else weight[..., None] * right
            products.append(a.swapaxes(1, 2) @ b / left.shape[1])
        return cls(*products, *_means(undo, square))

    @classmethod
    def diagonal(cls, features: Array, weights: Weights) -> Sums:
        """The same for ⟨a σ(x)²⟩ (G, n), from features (G, M, n)."""
        undo, square = weights
        squares = features**2
        plain = squares.mean(1)
        undone = np.einsum("gm,gmn->gn", undo, squares) / features.shape[1]
        squared = np.einsum("gm,gmn->gn", square, squares) / features.shape[1]
        return cls(plain, undone, squared, *_means(undo, square))

    def mix(self, other: Sums, gain: float) -> Sums:
        """(1 - gain) of these and gain of the others."""
        return Sums(*(a + gain * (b - a) for a, b in zip(self, other, strict=True)))

    def mix_in(self, other: Sums, gain: float) -> None:
        """The same in place."""
        for a, b in zip(self, other, strict=True):
            a *= 1 - gain
            a += gain * b

    def only(self, kept: slice) -> Sums:
        """The mean over the populations kept, as one."""
        return Sums(*(values[kept].mean(0, keepdims=True) for values in self))

    def moments(self, K: Array) -> list[Moments]:
        """The averages of each population, given the prior's kernel for the same inputs."""
        found = []
        for plain, undone, squared, undo, undo2, _, cross in zip(*self, strict=True):
            prior, of_one = undone / undo, undo**2 / undo2
            of_square = cross * undo / undo2
            found.append(Moments(plain + of_one * (K - prior), squared + of_square * (K - prior)))
        return found


def _means(undo: Array, square: Array) -> tuple[Array, ...]:
    return undo.mean(1), (undo**2).mean(1), square.mean(1), (undo * square).mean(1)


class Moments(NamedTuple):
    """⟨σσᵀ⟩ and ⟨n²σσᵀ⟩, n = Q m, each (P, n), over the law of a unit."""

    second: Array
    fourth: Array

    def self_energy(self, Q: float, width: float) -> Array:
        """⟨Vσσᵀ⟩ with the second moment V = Q + n²/N1 of a unit's readout."""
        return Q * self.second + self.fourth / width
