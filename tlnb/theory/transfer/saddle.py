"""Saddle points of the Franz-Parisi action: by Newton's method, and in closed form where frozen.

Q_st being eliminated, two equations are left for (ln D, Q_tt), solved by a safeguarded Newton
method with the exact Hessian. Source: Ingrosso et al. (2025), with the derivation of chapter 05.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import brentq
from threadpoolctl import ThreadpoolController

from tlnb.errors import ConvergenceError
from tlnb.theory.newton import TOLERANCE
from tlnb.theory.newton import newton as safeguarded
from tlnb.theory.transfer.action import Expansion, KernelBlocks, expand, explicit_Q_st

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Overlaps:
    """A saddle point of the action with the solver's report; the residual is undamped, scaled.

    ``action`` is S there.
    """

    D: float
    Q_tt: float
    Q_st: float
    train_error: float
    residual: float
    iterations: int
    physical: bool
    allowed: float
    action: float = np.nan
    scale = 1.0  # of changes of Q_tt that count as small

    @property
    def coordinates(self) -> Array:
        """(ln D, Q_tt): smooth in the coupling."""
        return np.array([np.log(self.D), self.Q_tt])

    @property
    def Q_t(self) -> float:
        """The target's own overlap D + Q_tt."""
        return self.D + self.Q_tt

    @property
    def converged(self) -> bool:
        """A small residual and a physical solution."""
        return self.physical and self.residual <= self.allowed


@dataclass(frozen=True, eq=False)
class _Equations:
    """The stationarity equations at (D, Q_tt), linearised in the unknowns ln D and Q_tt."""

    D: float
    Q_tt: float
    blocks: KernelBlocks
    point: Expansion

    @classmethod
    def at(cls, D: float, Q_tt: float, blocks: KernelBlocks) -> _Equations:
        return cls(D, Q_tt, blocks, expand(D, Q_tt, blocks))

    @property
    def equations(self) -> Array:
        return self.point.gradient

    @property
    def jacobian(self) -> Array:
        return self.point.hessian * [[self.D, 1.0]]

    @property
    def residuals(self) -> Array:
        """Of order one where D is small or Q_tt large."""
        D, width = self.D, self.blocks.width
        return self.point.gradient * [D**2 / (1 + abs(self.Q_tt)), D] / width

    @property
    def sizes(self) -> Array:
        return np.array([1.0, 1 + abs(self.Q_tt)])

    def moved(self, step: Array) -> _Equations:
        return self.at(self.D * np.exp(step[0]), self.Q_tt + step[1], self.blocks)

    def overlaps(self, iterations: int) -> Overlaps:
        """The point with the solver's report."""
        point, residual = self.point, float(np.abs(self.residuals).max())
        report = residual, iterations, point.physical, TOLERANCE + point.resolution
        return Overlaps(
            float(self.D), float(self.Q_tt), point.Q_st, point.train_error, *report, point.action
        )


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def newton(D: float, Q_tt: float, blocks: KernelBlocks, max_iterations: int = 50) -> Overlaps:
    """Solve for the saddle point near (D, Q_tt), in the unknowns ln D and Q_tt.

    The step is halved until the scaled residuals decrease; the caller judges ``converged``.

    Examples
    --------
    From a rough guess to the saddle point, in a few steps:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import TransferProblem, newton
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> problem = TransferProblem(source, target, temperature=0.1)
    >>> found = newton(1.0, 0.1, problem.blocks(20, 1.0))
    >>> found.converged, bool(np.isclose(found.Q_st, problem.saddle(20, 1.0).Q_st))
    (True, True)
    """
    # On small matrices threads gain little, and on a busy machine they wait for each other.
    with _blas().limit(limits=1 if len(blocks.y) <= 512 else None):
        found, iterations = safeguarded(_Equations.at(D, Q_tt, blocks), max_iterations)
    return found.overlaps(iterations)


def frozen(blocks: KernelBlocks) -> Overlaps:
    """The saddle point at infinite coupling, where K_tt = K_t and the equations decouple.

    D in (0, 1] is the unique root of N1 (1 - D) = Σ_k D e_k/(T + D e_k); Q_st is explicit; Q_tt
    follows linearly.

    Examples
    --------
    The limit of large couplings:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import TransferProblem, frozen
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> problem = TransferProblem(source, target, temperature=0.1)
    >>> limit = frozen(problem.blocks(20, np.inf))
    >>> bool(abs(problem.saddle(20, 1e5).Q_st - limit.Q_st) < 1e-4)
    True
    """
    N, T = blocks.width, blocks.temperature
    e, U = eigh(blocks.K_t.T, check_finite=False)
    e = np.maximum(e, 0.0)
    D = brentq(
        lambda D: N * (1 - D) - (D * e / (T + D * e)).sum(), 0.0, 1.0, xtol=1e-300, rtol=1e-15
    )
    G = T + D * e
    u, y = U.T @ blocks.u, U.T @ blocks.y
    if blocks.root is None:
        diagonal_m = np.einsum("ij,ij->j", U, blocks.m @ U)
    else:
        diagonal_m = np.einsum("ij,ij->j", *2 * (blocks.root @ U,))
    del U
    x = explicit_Q_st(blocks, D, (diagonal_m / G).sum(), (u / G) @ u, (u / G) @ y)
    w = (y - x * u) / G
    free = N / D**2 - ((e / G) ** 2).sum()
    Q_tt = (x**2 * (N / (blocks.Q_s * D**2) - (e / G**2) @ diagonal_m) + w @ (e * w)) / free
    # The closed form is checked by the equations it solves.
    solution = _Equations.at(D, Q_tt, blocks).overlaps(1)
    if not solution.converged:
        raise ConvergenceError(
            f"no physical saddle point at infinite coupling: residual {solution.residual:.1e}, "
            f"allowed {solution.allowed:.1e}; try a larger width or a higher temperature"
        )
    return solution
