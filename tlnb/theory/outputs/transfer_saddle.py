"""Saddle points of the Franz-Parisi action of several outputs, and their branch over the coupling.

`tlnb.theory.newton` with the exact Hessian for (ln D, Q_tt), now matrices, along the branch of
`tlnb.theory.branch`, and the closed form where features are frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from tlnb.errors import ConvergenceError
from tlnb.theory import newton as method
from tlnb.theory.branch import Branch
from tlnb.theory.outputs.action import symmetric
from tlnb.theory.outputs.transfer_action import (
    OutputBlocks,
    TransferExpansion,
    expand,
    frozen,
)

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the scaled, undamped residuals
ADVICE = "try a larger width, a higher temperature or smaller labels"


def exponential(X: Array) -> Array:
    """exp(X) of a symmetric matrix."""
    w, V = np.linalg.eigh(X)
    return (V * np.exp(w)) @ V.T


def root(D: Array) -> Array:
    """D^(1/2); LinAlgError where D is not positive definite."""
    d, R = np.linalg.eigh(D)
    if d[0] <= 0:
        raise LinAlgError("D is not positive definite")
    return (R * np.sqrt(d)) @ R.T


def logarithm(D: Array) -> Array:
    """ln D of a positive definite matrix."""
    d, R = np.linalg.eigh(D)
    return (R * np.log(d)) @ R.T


@dataclass(frozen=True, eq=False)
class _Point:
    """The equations of (D, Q_tt) at one point, for `tlnb.theory.newton.newton`.

    The unknowns are the coefficients of X, where D moves along D^(1/2) exp(X) D^(1/2), and of
    Q_tt, in the basis of `symmetric`.
    """

    D: Array
    Q_tt: Array
    blocks: OutputBlocks
    expansion: TransferExpansion

    @classmethod
    def at(cls, D: Array, Q_tt: Array, blocks: OutputBlocks) -> _Point:
        D, Q_tt = 0.5 * (D + D.T), 0.5 * (Q_tt + Q_tt.T)
        return cls(D, Q_tt, blocks, expand(D, Q_tt, blocks))

    @property
    def scale(self) -> float:
        return 1 + float(np.abs(self.Q_tt).max())

    @property
    def equations(self) -> Array:
        basis, point = symmetric(len(self.D)), self.expansion
        each = (np.einsum("nab,ab->n", basis, by) for by in (point.by_D, point.by_Q_tt))
        return np.concatenate(list(each))

    @property
    def jacobian(self) -> Array:
        basis, half, hessian = symmetric(len(self.D)), root(self.D), self.expansion.hessian
        turned = np.einsum("nab,kab->nk", basis, half @ basis @ half)
        n = len(basis)
        return np.hstack([hessian[:, :n] @ turned, hessian[:, n:]])

    @property
    def residuals(self) -> Array:
        """Of order one where D is small or Q_tt large."""
        D, half, N = self.D, root(self.D), self.blocks.width
        by_D = D @ self.expansion.by_D @ D / (N * self.scale)
        return np.concatenate([by_D.ravel(), (half @ self.expansion.by_Q_tt @ half / N).ravel()])

    @property
    def sizes(self) -> Array:
        n = len(symmetric(len(self.D)))
        return np.concatenate([np.ones(n), np.full(n, self.scale)])

    def moved(self, step: Array) -> _Point:
        basis, half = symmetric(len(self.D)), root(self.D)
        X, shift = (np.einsum("n,nab->ab", part, basis) for part in np.split(step, 2))
        return self.at(half @ exponential(X) @ half, self.Q_tt + shift, self.blocks)


@dataclass(frozen=True, eq=False)
class OutputOverlaps:
    """A saddle point with the solver's report; ``x`` (C_s, C) is RᵀQ_st."""

    D: Array
    Q_tt: Array
    x: Array
    train_error: float
    residual: float
    iterations: int
    physical: bool

    @property
    def allowed(self) -> float:
        """The largest residual that counts as solved."""
        return TOLERANCE

    @property
    def scale(self) -> float:
        """By how much Q_tt can change and count as close."""
        return 1 + float(np.abs(self.Q_tt).max())

    @property
    def converged(self) -> bool:
        """A small residual and a physical solution."""
        return self.physical and self.residual <= self.allowed

    @property
    def coordinates(self) -> Array:
        """ln D and Q_tt, (2, C, C)."""
        return np.stack([logarithm(self.D), self.Q_tt])


def newton(D: Array, Q_tt: Array, blocks: OutputBlocks) -> OutputOverlaps:
    """Solve near (D, Q_tt); the caller judges ``converged``."""
    return _overlaps(*method.newton(_Point.at(D, Q_tt, blocks)))


def _overlaps(point: _Point, iterations: int) -> OutputOverlaps:
    found, residual = point.expansion, float(np.abs(point.residuals).max())
    return OutputOverlaps(
        point.D, point.Q_tt, found.x, found.train_error, residual, iterations, found.physical
    )


def frozen_saddle(blocks: OutputBlocks) -> OutputOverlaps:
    """The closed form at infinite coupling, checked by the equations it solves."""
    solution = _overlaps(_Point.at(*frozen(blocks), blocks), 1)
    if not solution.converged:
        raise ConvergenceError(
            f"no physical saddle point at infinite coupling: residual {solution.residual:.1e}, "
            f"allowed {solution.allowed:.1e}; try a larger width or a higher temperature"
        )
    return solution


def branch(
    blocks_at: Callable[[float], OutputBlocks], scratch_Q: Array, unit: float
) -> Branch[OutputBlocks, OutputOverlaps]:
    """The saddle points at one width, from the target alone, with its Q (C, C).

    ``blocks_at`` gives the blocks at a finite coupling > 0; ``unit`` is a coupling of the size of
    the target's weight precision.
    """

    def solve(near: Array, blocks: OutputBlocks) -> OutputOverlaps:
        return newton(exponential(near[0]), near[1], blocks)

    start = np.stack([logarithm(scratch_Q), np.zeros_like(scratch_Q)])
    return Branch(blocks_at, solve, start, unit, ADVICE)
