"""What the theory factorises, behind a small protocol.

Every formula of the theory needs a positive definite matrix G only through G⁻¹B, ln det G, traces
Tr G⁻¹A and the diagonal of G⁻¹. `Factor` says so, and `KernelFactor` adds what widths and
temperatures share: one factorisation of a kernel K gives the factor of T + Q K at every T and Q.
The implementations here are dense; one of low rank or an iterative one can take their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh
from scipy.linalg.blas import dtrmm, dtrsm
from scipy.linalg.lapack import dpotrf, dpotrs, dsygst, dtrtri

from tlnb.chunking import chunks

Array = NDArray[np.float64]
SMALL = 512  # rows up to which the inverse of a triangle is worth making


class Factor(Protocol):
    """A positive definite matrix G (P, P), factorised."""

    def solve(self, B: Array) -> Array:
        """G⁻¹B for B of shape (P,) or (P, n)."""
        ...

    def log_det(self) -> float:
        """ln det G."""
        ...

    def inverse_diagonal(self) -> Array:
        """The diagonal of G⁻¹, of shape (P,)."""
        ...


class KernelFactor(Protocol):
    """A symmetric kernel K ≥ 0 (P, P), factorised once for T + Q K at every T > 0 and Q ≥ 0.

    ``eigenvalues`` (P,) are those of K, ascending and ≥ 0.
    """

    eigenvalues: Array

    def projections(self, B: Array) -> Array:
        """B (P,) or (P, n) in the coordinates that `noise` is diagonal in; keeps inner products."""
        ...

    def noise(self, Q: float, temperature: float) -> Array:
        """The diagonal (P,) of T + Q K in those coordinates."""
        ...

    def shifted(self, Q: float, temperature: float) -> Factor:
        """The factor of T + Q K in the original coordinates."""
        ...


@dataclass(frozen=True, eq=False)
class Eigenbasis:
    """A kernel by its eigendecomposition K = U diag(e) Uᵀ.

    ``eigenvalues`` (P,), ascending and ≥ 0; ``eigenvectors`` (P, P), as columns.

    Examples
    --------
    One decomposition for every Q and T:

    >>> import numpy as np
    >>> from tlnb.theory.factors import Eigenbasis
    >>> A = np.random.default_rng(0).standard_normal((4, 6))
    >>> factor = Eigenbasis.of(A @ A.T)
    >>> G = 0.1 * np.eye(4) + 2.0 * A @ A.T
    >>> bool(np.isclose(factor.shifted(2.0, 0.1).log_det(), np.linalg.slogdet(G)[1]))
    True
    """

    eigenvalues: Array
    eigenvectors: Array

    @classmethod
    def of(cls, K: Array) -> Eigenbasis:
        """Decompose the symmetric kernel ``K`` (P, P), which is overwritten."""
        if not np.isfinite(np.trace(K)):
            raise ValueError(f"the kernel must be finite, its trace is {np.trace(K)}")
        e, U = eigh(K.T, overwrite_a=True, check_finite=False, driver="evd")
        return cls(np.maximum(e, 0.0), U)

    def check_resolution(self, temperature: float, precision: float = 1.0) -> None:
        """As the function of this name does."""
        check_resolution(self.eigenvalues, temperature, precision)

    def projections(self, B: Array) -> Array:
        """UᵀB for B of shape (P,) or (P, n)."""
        return self.eigenvectors.T @ B

    def noise(self, Q: float, temperature: float) -> Array:
        """T + Q e_k, of shape (P,)."""
        return temperature + Q * self.eigenvalues

    def shifted(self, Q: float, temperature: float) -> ShiftedEigenbasis:
        """The factor of T + Q K."""
        return ShiftedEigenbasis(self, self.noise(Q, temperature))

    @cached_property
    def squared_eigenvectors(self) -> Array:
        """U∘U, which gives the diagonal of every function of K."""
        return np.square(self.eigenvectors)


def check_resolution(eigenvalues: Array, temperature: float, precision: float = 1.0) -> None:
    """Raise where T + K/λ1 is singular to rounding, as with duplicated inputs at T → 0."""
    e = eigenvalues / precision
    rounding = len(e) * np.finfo(float).eps * e[-1]
    if temperature <= rounding and e[0] <= rounding:
        raise ValueError(
            f"temperature must exceed {rounding:.1e} here, got {temperature:.1e}: the kernel "
            "is singular to rounding (duplicated or collinear inputs?)"
        )


@dataclass(frozen=True, eq=False)
class ShiftedEigenbasis:
    """T + Q K by the eigendecomposition of K."""

    kernel: Eigenbasis
    diagonal: Array

    def solve(self, B: Array) -> Array:
        """(T + Q K)⁻¹ B."""
        coordinates = self.kernel.projections(B)
        return self.kernel.eigenvectors @ (coordinates.T / self.diagonal).T

    def from_projections(self, coordinates: Array) -> Array:
        """(T + Q K)⁻¹ b for b given by its projections Uᵀb, of shape (P,)."""
        return self.kernel.eigenvectors @ (coordinates / self.diagonal)

    def log_det(self) -> float:
        """ln det(T + Q K)."""
        return float(np.log(self.diagonal).sum())

    def inverse_diagonal(self) -> Array:
        """The diagonal of (T + Q K)⁻¹."""
        return self.kernel.squared_eigenvectors @ (1 / self.diagonal)


@dataclass(frozen=True, eq=False)
class Cholesky:
    """A positive definite matrix by G = L Lᵀ, with ``lower`` = L.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.factors import Cholesky
    >>> factor = Cholesky.of(np.array([[4.0, 2.0], [2.0, 3.0]]))
    >>> factor.solve(np.array([2.0, 1.0])), round(factor.log_det(), 3)  # ln 8
    (array([0.5, 0. ]), 2.079)
    """

    lower: Array

    @classmethod
    def of(cls, G: Array) -> Cholesky:
        """Factorise ``G`` (P, P), which is overwritten; LinAlgError if it is not positive."""
        lower, info = dpotrf(G.T, lower=1, clean=1, overwrite_a=1)
        if info:
            raise LinAlgError(f"the matrix is not positive definite: leading minor {info}")
        return cls(lower)

    def solve(self, B: Array) -> Array:
        """G⁻¹B."""
        if B.ndim == 1:
            return dpotrs(self.lower, B, lower=1)[0]
        if B.shape[1] > 2 * len(B):
            return self.inverted().solve(B)
        # From the right, Bᵀ L⁻ᵀ L⁻¹: the transpose of contiguous rows needs no copy.
        half = dtrsm(1.0, self.lower, B.T, side=1, lower=1, trans_a=1)
        return dtrsm(1.0, self.lower, half, side=1, lower=1, overwrite_b=1).T

    def log_det(self) -> float:
        """ln det G."""
        return float(2 * np.log(np.diagonal(self.lower)).sum())

    def inverse_diagonal(self) -> Array:
        """The diagonal of G⁻¹: squared column norms of L⁻¹."""
        inverse = self.half(np.eye(len(self.lower)))
        return np.einsum("ij,ij->j", inverse, inverse)

    def half(self, B: Array) -> Array:
        """L⁻¹B for B of shape (P,) or (P, n)."""
        return dtrsm(1.0, self.lower, _columns(B), lower=1).reshape(B.shape)

    def half_transposed(self, B: Array) -> Array:
        """L⁻ᵀB for B of shape (P,) or (P, n)."""
        return dtrsm(1.0, self.lower, _columns(B), lower=1, trans_a=1).reshape(B.shape)

    def whitened(self, A: Array) -> Array:
        """L⁻¹AL⁻ᵀ for symmetric A, with contiguous rows."""
        return _mirrored(dsygst(A.T, self.lower, lower=1)[0]).T

    def inverted(self) -> InverseCholesky:
        """The same matrix by the inverse of its factor."""
        return InverseCholesky(dtrtri(self.lower, lower=1)[0])


@dataclass(frozen=True, eq=False)
class InverseCholesky:
    """A positive definite matrix G = L Lᵀ by the triangle L⁻¹, ``lower`` (P, P).

    Products with a triangle are several times as fast as solutions: for small matrices, and for
    many columns at a time.
    """

    lower: Array

    @classmethod
    def of(cls, G: Array) -> InverseCholesky:
        """Factorise ``G`` (P, P), which is overwritten; LinAlgError if it is not positive."""
        return cls(dtrtri(Cholesky.of(G).lower, lower=1, overwrite_c=1)[0])

    def log_det(self) -> float:
        """ln det G."""
        return float(-2 * np.log(np.diagonal(self.lower)).sum())

    def half(self, B: Array) -> Array:
        """L⁻¹B for B of shape (P,) or (P, n)."""
        return dtrmm(1.0, self.lower, _columns(B), lower=1).reshape(B.shape)

    def half_transposed(self, B: Array) -> Array:
        """L⁻ᵀB for B of shape (P,) or (P, n)."""
        return dtrmm(1.0, self.lower, _columns(B), lower=1, trans_a=1).reshape(B.shape)

    def whitened(self, A: Array) -> Array:
        """L⁻¹AL⁻ᵀ for symmetric A, with contiguous rows."""
        half = dtrmm(1.0, self.lower, A.T, side=1, lower=1, trans_a=1)
        return dtrmm(1.0, self.lower, half, lower=1, overwrite_b=1).T

    def half_rows(self, rows: Array) -> Array:
        """(L⁻¹B)ᵀ for ``rows`` = Bᵀ (n, P) in the order of columns, which is overwritten."""
        return dtrmm(1.0, self.lower, rows, side=1, lower=1, trans_a=1, overwrite_b=1)

    def solve(self, B: Array) -> Array:
        """G⁻¹B for B of shape (P,) or (P, n)."""
        if B.ndim == 1:
            return self.half_transposed(self.half(B))
        half = self.half_rows(np.array(B.T, order="F"))
        return dtrmm(1.0, self.lower, half, side=1, lower=1, overwrite_b=1).T


def whitening(G: Array) -> Cholesky | InverseCholesky:
    """The factor of ``G`` that is quicker to whiten matrices with; G is overwritten."""
    return (InverseCholesky if len(G) <= SMALL else Cholesky).of(G)


def _mirrored(lower: Array) -> Array:
    """The symmetric matrix whose lower triangle is given, in place."""
    n = len(lower)
    for rows in chunks(n, n, 256 * n):
        lower[: rows.start, rows] = lower[rows, : rows.start].T
        corner = lower[rows, rows]
        np.copyto(corner, corner.T.copy(), where=_above_diagonal(len(corner)))
    return lower


@cache
def _above_diagonal(n: int) -> NDArray[np.bool_]:
    return np.triu(np.ones((n, n), dtype=bool), 1)


def _columns(B: Array) -> Array:
    return B if B.ndim == 2 else B[:, None]
