r"""Linear equations of the size of a large source: (T + Q K) X = B, by conjugate gradients.

Preconditioned by the low rank of `tlnb.theory.large.low_rank`; all columns go in lockstep, so that
the kernel is read once an iteration, and each leaves when its residual is small enough. What is
asked of a solution are quadratic forms, and they are better than it: with R = B - G X,

    Bᵀ G⁻¹ C = XᵀC + BᵀY - XᵀGY + Rᵀ G⁻¹ R_Y,     |last term| ≤ |R| |R_Y| / T,

for solutions X of B and Y of C: the error is of second order in the residuals. That bound is safe
and far too large where G is much larger than T: what the diagonal lacks, RᵀG⁻¹R, is better measured
on a few columns, as a multiple of what it would be for G = M outside the low rank (`Remainder`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.errors import ConvergenceError
from tlnb.theory.large.low_rank import LowRank, ShiftedLowRank
from tlnb.validation import check_positive

Array = NDArray[np.float64]


class Product(Protocol):
    """A symmetric kernel K (P, P) known by its products."""

    def product(self, B: Array) -> Array:
        """K B for B of shape (P, n)."""
        ...


class Equation(NamedTuple):
    """G = T + Q K with its preconditioner M."""

    kernel: Product
    Q: float
    temperature: float
    preconditioner: ShiftedLowRank

    @classmethod
    def of(cls, kernel: Product, low_rank: LowRank, Q: float, temperature: float) -> Equation:
        """At Q > 0 and T > 0."""
        Q, temperature = check_positive("Q", Q), check_positive("temperature", temperature)
        return cls(kernel, Q, temperature, low_rank.shifted(Q, temperature))

    def apply(self, B: Array) -> Array:
        """G B for B of shape (P, n)."""
        result = self.kernel.product(B)
        result *= self.Q
        result += self.temperature * B
        return result


class Solution(NamedTuple):
    """X (P, n) with G X = B - residual; ``iterations`` of the slowest column."""

    X: Array
    residual: Array
    iterations: int

    def form(self, B: Array) -> Array:
        """Bᵀ G⁻¹ B for the right-hand sides ``B`` (P, n), to second order in the residuals."""
        half = self.X.T @ (B + self.residual)
        return 0.5 * (half + half.T)

    def diagonal(self, B: Array) -> Array:
        """The diagonal (n,) of `form`."""
        return np.einsum("ij,ij->j", self.X, B + self.residual)

    def columns(self, part: slice) -> Solution:
        """That of some of the columns."""
        return Solution(self.X[:, part], self.residual[:, part], self.iterations)

    def norms(self) -> Array:
        """Norms (n,) of the residuals."""
        return np.sqrt(np.einsum("ij,ij->j", self.residual, self.residual))

    def refined(self, B: Array, old: Equation, new: Equation) -> Array:
        """A start for the same ``B`` at another Q or T: one step of refinement, no product."""
        T, share = new.temperature, new.Q / old.Q
        missing = B - T * self.X - share * (B - self.residual - old.temperature * self.X)
        return self.X + new.preconditioner.precondition(missing)


class Remainder(NamedTuple):
    """What a diagonal bᵀG⁻¹b lacks where solutions are not finished.

    ``share``: of |R|²/base, with base = T + Q tail of the preconditioner; ``error``: of the mean
    over many columns, once that is added.
    """

    share: float
    error: float

    @classmethod
    def measured(
        cls, equation: Equation, B: Array, found: Solution, allowed: float, n: int = 16
    ) -> Remainder:
        """From ``n`` of the columns of ``B`` (P, m), solved on until residuals are ``allowed``."""
        few = np.unique(np.linspace(0, B.shape[1] - 1, n).astype(int))
        start = found.X[:, few]
        finished = solve(equation, B[:, few], allowed, start=start)
        unfinished = Solution(start, found.residual[:, few], 0)
        lacking = finished.diagonal(B[:, few]) - unfinished.diagonal(B[:, few])
        expected = cls(1.0, 0.0).of(equation, unfinished)
        share = max(0.0, float(lacking.sum() / max(expected.sum(), 1e-300)))
        away = float(np.sqrt(np.mean((lacking - share * expected) ** 2) / len(few)))
        bound = float((finished.norms() ** 2).mean()) / equation.temperature
        return cls(share, 2 * away + bound)

    def of(self, equation: Equation, found: Solution) -> Array:
        """What each column (m,) lacks."""
        return self.share * found.norms() ** 2 / equation.preconditioner.base


def solve(
    equation: Equation,
    B: Array,
    allowed: ArrayLike,
    *,
    start: Array | None = None,
    max_iterations: int = 500,
) -> Solution:
    """Solve G X = B.

    Parameters
    ----------
    equation : Equation
    B : array of shape (P, n)
    allowed : float or array of shape (n,)
        Norm of the residual at which a column is done.
    start : array of shape (P, n), optional
        First guess; by default M⁻¹B.
    max_iterations : int

    Raises
    ------
    ConvergenceError
        If a column is not done after ``max_iterations``, or does not come nearer.
    ValueError
        For right-hand sides that are not finite.
    """
    if not np.isfinite(B.sum()):
        raise ValueError("right-hand sides must be finite, got NaN or infinite values")
    if not B.any():
        return Solution(np.zeros_like(B), np.zeros_like(B), 0)
    M = equation.preconditioner
    allowed = np.broadcast_to(np.asarray(allowed, dtype=float), B.shape[1:])
    X = M.precondition(B) if start is None else start.copy()
    residual = B - equation.apply(X)
    left = np.flatnonzero(_norms(residual) > allowed)
    R = residual[:, left]
    Z = M.precondition(R)
    D = Z.copy()
    rz = np.einsum("ij,ij->j", R, Z)
    iterations = 0
    while len(left):
        if iterations == max_iterations or not np.isfinite(rz).all():
            worst = float((_norms(R) / np.maximum(allowed[left], 1e-300)).max())
            raise ConvergenceError(
                f"{len(left)} of {B.shape[1]} right-hand sides are not solved after {iterations} "
                f"iterations: the largest residual is {worst:.1e} times what is allowed; take more "
                "landmarks, a higher temperature or a larger tolerance"
            )
        iterations += 1
        GD = equation.apply(D)
        step = rz / np.einsum("ij,ij->j", D, GD)
        X[:, left] += step * D
        R -= step * GD
        stays = _norms(R) > allowed[left]
        residual[:, left[~stays]] = R[:, ~stays]
        if not stays.all():
            left, R, D, rz = left[stays], R[:, stays], D[:, stays], rz[stays]
        Z = M.precondition(R)
        new = np.einsum("ij,ij->j", R, Z)
        D *= new / rz
        D += Z
        rz = new
    return Solution(X, residual, iterations)


def _norms(R: Array) -> Array:
    return np.sqrt(np.einsum("ij,ij->j", R, R))
