r"""Tr G⁻¹ and ln det G of G = T + Q K from random vectors, with their standard errors.

For z with independent signs E[zᵀ f(G) z] = Tr f(G). The same z serve every Q, so that an estimate
is a smooth function of Q. The low rank takes most of the fluctuation away: with its M(Q, T),

    zᵀM⁻¹z,   zᵀM⁻¹KM⁻¹z,   zᵀM⁻¹KM⁻¹KM⁻¹z

have means that are known exactly once K U is (one product), and the regression of zᵀG⁻¹z on them
leaves what no quadratic function of K explains. ln det G = ln det M + Tr ln(M^(-1/2) G M^(-1/2)) by
Lanczos quadrature, with the same controls. Sources: Hutchinson (1989); Ubaru, Chen and Saad (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from tlnb.chunking import chunks
from tlnb.theory.large.iterative import Equation, Solution, solve
from tlnb.theory.large.low_rank import LowRank, ShiftedLowRank
from tlnb.theory.large.tiles import TiledKernel
from tlnb.validation import check_count, check_rng

Array = NDArray[np.float64]
PROBES = 1e-3  # residual of a random vector, relative to it
FEWEST = 8  # random vectors for which a regression on three controls has an error


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known exactly: Tr K, Tr K², UᵀKU (r, r) and the diagonal (r,) of UᵀK²U."""

    size: int
    trace: float
    squared: float
    inside: Array
    inside_squared: Array

    @classmethod
    def of(cls, kernel: TiledKernel, low_rank: LowRank, at_once: int = 512) -> Moments:
        """From one product of the kernel with the directions of the low rank."""
        U = low_rank.vectors
        r = U.shape[1]
        inside, squares = np.empty((r, r)), np.empty(r)
        for part in chunks(r, 1, at_once):
            KU = kernel.product(U[:, part])
            inside[:, part] = U.T @ KU
            squares[part] = np.einsum("ij,ij->j", KU, KU)
        trace, squared = float(kernel.diagonal.sum()), kernel.squared_norm
        return cls(kernel.size, trace, squared, inside, squares)

    def controls(self, M: ShiftedLowRank) -> Array:
        """Tr M⁻¹, Tr M⁻¹KM⁻¹ and Tr M⁻¹KM⁻¹KM⁻¹, of shape (3,)."""
        a, h, g = 1 / M.base, M.removed, M.removed_twice
        first = a**2 * self.trace - g @ np.diagonal(self.inside)
        second = a**3 * self.squared - (a**2 * h + a * g) @ self.inside_squared
        second += g @ np.square(self.inside) @ h
        return np.array([M.inverse_trace(), first, second])

    def whitened(self, M: ShiftedLowRank) -> Array:
        """Tr M⁻¹K and Tr M⁻¹KM⁻¹K, of shape (2,)."""
        a, h = 1 / M.base, M.removed
        first = a * self.trace - h @ np.diagonal(self.inside)
        second = a**2 * self.squared - 2 * a * (h @ self.inside_squared)
        second += h @ np.square(self.inside) @ h
        return np.array([first, second])


class InverseTrace(NamedTuple):
    """Tr G⁻¹ with its standard error, and Tr G⁻² roughly."""

    value: float
    error: float
    squared: float


def signs(size: int, n: int, rng: int | np.random.Generator | None = 0) -> Array:
    """Random signs of shape (size, n), n at least `FEWEST`."""
    check_count("n_probes", n, FEWEST)
    return check_rng("rng", rng, "probes").choice([-1.0, 1.0], size=(size, n))


def inverse_trace(
    equation: Equation, moments: Moments, z: Array, tolerance: float = PROBES
) -> InverseTrace:
    """Tr G⁻¹ from random signs ``z`` (P, n); ``tolerance`` is that of residuals, for |z| = 1."""
    return trace_of(equation, moments, z, solve(equation, z, tolerance * np.sqrt(len(z))))


def trace_of(equation: Equation, moments: Moments, z: Array, solution: Solution) -> InverseTrace:
    """Tr G⁻¹ from random signs ``z`` (P, n) for which the equation is solved."""
    M = equation.preconditioner
    Mz = M.solve(z)
    KMz = equation.kernel.product(Mz)
    controls = np.stack([(z * Mz).sum(0), (Mz * KMz).sum(0), (KMz * M.solve(KMz)).sum(0)], 1)
    value, error = regressed(solution.diagonal(z), controls, moments.controls(M))
    error += float((solution.norms() ** 2).mean()) / equation.temperature
    squared = float(np.einsum("ij,ij->", solution.X, solution.X)) / z.shape[1]
    return InverseTrace(value, error, squared)


def inverse_diagonals(
    equation: Equation, z: Array, groups: int, tolerance: float = PROBES
) -> Array:
    """Estimates (groups, P) of the diagonal of G⁻¹, each from its share of random signs ``z``.

    Of z∘G⁻¹z the mean is the diagonal; that of z∘M⁻¹z is known exactly and taken out. Entries of a
    diagonal lie between 1/G_μμ and 1/T, estimates of it need not.
    """
    M = equation.preconditioner
    found = z * (solve(equation, z, tolerance * np.sqrt(len(z))).X - M.solve(z))
    means = [found[:, k::groups].mean(axis=1) for k in range(groups)]
    return M.inverse_diagonal() + np.stack(means)


def log_det(equation: Equation, moments: Moments, z: Array, steps: int = 25) -> Estimate:
    """ln det G from random signs ``z`` (P, n) and that many Lanczos steps."""
    M, n = equation.preconditioner, z.shape[1]

    def whitened(B: Array) -> Array:
        return M.half(equation.apply(M.half(B)))

    steps = min(steps, len(z))
    basis = [z / np.sqrt(len(z))]
    diagonal, beside = np.empty((steps, n)), np.zeros((steps, n))
    for k in range(steps):
        v = whitened(basis[k])
        diagonal[k] = np.einsum("ij,ij->j", basis[k], v)
        for _ in range(2):  # against all, twice: what rounding leaves of orthogonality
            for b in basis:
                v -= np.einsum("ij,ij->j", b, v) * b
        beside[k] = np.linalg.norm(v, axis=0)
        basis.append(v / np.maximum(beside[k], 1e-300))
    whole, shorter = (_quadrature(diagonal[:k], beside[:k]) for k in (steps, max(1, steps - 3)))
    # Tr of the whitened matrix less one, and of its square, by what is known of K.
    T, Q = equation.temperature, equation.Q
    one, two = moments.whitened(M)
    inverse, KM = moments.controls(M)[:2]
    inverse_squared = len(z) / M.base**2 - M.removed_twice.sum()
    means = np.array([T * inverse + Q * one, T**2 * inverse_squared + 2 * T * Q * KM + Q**2 * two])
    seen = len(z) * np.stack([diagonal[0], diagonal[0] ** 2 + beside[0] ** 2], 1)
    value, error = regressed(len(z) * whole, seen, means)
    error += len(z) * float(np.abs(whole - shorter).mean())
    return Estimate(M.log_det() + value, error)


def _quadrature(diagonal: Array, beside: Array) -> Array:
    """e₁ᵀ ln(tridiagonal) e₁ of each column."""
    values = np.empty(diagonal.shape[1])
    for j in range(len(values)):
        broken = np.flatnonzero(beside[:-1, j] < 1e-12)
        last = broken[0] + 1 if len(broken) else len(diagonal)
        e, V = eigh_tridiagonal(diagonal[:last, j], beside[: last - 1, j])
        values[j] = np.log(e) @ V[0] ** 2
    return values


def regressed(values: Array, controls: Array, means: Array) -> Estimate:
    """The mean of ``values`` (n,) given ``controls`` (n, k) whose means (k,) are known."""
    away = controls - means
    scale = np.abs(means) + 1e-300
    design = np.column_stack([np.ones(len(values)), away / scale])
    coefficients, _, rank, _ = np.linalg.lstsq(design, values, rcond=1e-10)
    left = values - design @ coefficients
    variance = left @ left / (len(values) - rank)
    inverse = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True)
    return Estimate(float(coefficients[0]), float(np.sqrt(variance * inverse[0, 0])))
