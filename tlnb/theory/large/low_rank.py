r"""A kernel's main directions from some of its columns, and a constant for the rest.

With r landmarks S, drawn among the P examples, K_PS K_SS⁻¹ K_PSᵀ = U diag(s) Uᵀ (Nyström), and

    K ≈ U diag(s) Uᵀ + tail,   tail = the mean of what the diagonal lacks,
    M(Q, T) = T + Q tail + Q U diag(s) Uᵀ ≈ G = T + Q K.

One decomposition of size r gives the inverse, the root and the determinant of M at every Q and T.
M is a preconditioner and a control variate here, never the answer: by itself it moves the order
parameter of real images by a third. Source: Williams and Seeger, NIPS 13 (2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.linalg.blas import dtrsm

from tlnb.kernels import Activation, InnerProducts, dual_diagonal, squared_norms
from tlnb.theory.factors import Cholesky
from tlnb.validation import check_count, check_inputs, check_positive, check_rng

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LowRank:
    """U (P, r) with orthonormal columns as ``vectors``, s (r,) ≥ 0 as ``values``, and ``tail``."""

    vectors: Array
    values: Array
    tail: float

    @classmethod
    def of(
        cls,
        X: ArrayLike,
        activation: Activation,
        variance: float,
        n_landmarks: int,
        rng: int | np.random.Generator | None = 0,
    ) -> LowRank:
        """From ``n_landmarks`` of the inputs ``X`` (P, N0), for hidden weights of that variance.

        Raises
        ------
        ValueError, TypeError
            For more landmarks than examples, inputs that are not finite, a variance ≤ 0.
        """
        X = check_inputs(X)
        c = check_positive("variance", variance)
        if check_count("n_landmarks", n_landmarks) > len(X):
            raise ValueError(
                f"n_landmarks must be at most the number of examples, {len(X)}, got {n_landmarks}"
            )
        chosen = np.sort(check_rng("rng", rng, "landmarks").permutation(len(X))[:n_landmarks])
        columns = InnerProducts.between(X, X[chosen]).dual(activation, c, c, c)
        core = columns[chosen]
        core += core.T.copy()
        core *= 0.5
        # What rounding leaves of a singular core must stay positive.
        core.flat[:: n_landmarks + 1] += 4 * np.finfo(float).eps * np.trace(core)
        root = dtrsm(1.0, Cholesky.of(core).lower, columns.T, lower=1, overwrite_b=1).T
        s, V = eigh(root.T @ root, driver="evd")
        kept = s > len(X) * np.finfo(float).eps * s[-1]
        lacking = dual_diagonal(activation, squared_norms(X), c, c)
        lacking -= np.einsum("ij,ij->i", root, root)
        vectors = root @ (V[:, kept] / np.sqrt(s[kept]))
        return cls(vectors, s[kept], max(float(lacking.mean()), 0.0))

    @cached_property
    def rounded(self) -> NDArray[np.float32]:
        """U in float32."""
        return self.vectors.astype(np.float32)

    def shifted(self, Q: float, temperature: float) -> ShiftedLowRank:
        """The factor of M(Q, T)."""
        Q, temperature = check_positive("Q", Q), check_positive("temperature", temperature)
        return ShiftedLowRank(self, temperature + Q * self.tail, Q * self.values)


@dataclass(frozen=True, eq=False)
class ShiftedLowRank:
    """M = base + U diag(excess) Uᵀ."""

    kernel: LowRank
    base: float
    excess: Array

    @property
    def removed(self) -> Array:
        """h in M⁻¹ = 1/base - U diag(h) Uᵀ, of shape (r,)."""
        return self.excess / (self.base + self.excess) / self.base

    @property
    def removed_twice(self) -> Array:
        """g in M⁻² = 1/base² - U diag(g) Uᵀ, of shape (r,)."""
        return 1 / self.base**2 - 1 / (self.base + self.excess) ** 2

    def solve(self, B: Array) -> Array:
        """M⁻¹B for B of shape (P,) or (P, n)."""
        return self._scaled(B, 1 / self.base, -self.removed)

    def precondition(self, B: Array) -> Array:
        """M⁻¹B for B of shape (P, n) with the low rank in float32: a guess, twice as fast."""
        U = self.kernel.rounded
        seen = U.T @ B.astype(np.float32)
        seen *= self.removed.astype(np.float32)[:, None]
        result = B / self.base
        result -= U @ seen
        return result

    def half(self, B: Array) -> Array:
        """M^(-1/2) B."""
        start = 1 / np.sqrt(self.base)
        return self._scaled(B, start, 1 / np.sqrt(self.base + self.excess) - start)

    def _scaled(self, B: Array, constant: float, weights: Array) -> Array:
        U = self.kernel.vectors
        result = U @ (weights * (U.T @ B).T).T
        result += constant * B
        return result

    def log_det(self) -> float:
        """ln det M."""
        P, r = self.kernel.vectors.shape
        return float((P - r) * np.log(self.base) + np.log(self.base + self.excess).sum())

    def inverse_trace(self) -> float:
        """Tr M⁻¹."""
        return len(self.kernel.vectors) / self.base - float(self.removed.sum())

    def inverse_diagonal(self) -> Array:
        """The diagonal of M⁻¹, of shape (P,)."""
        return 1 / self.base - np.square(self.kernel.vectors) @ self.removed
