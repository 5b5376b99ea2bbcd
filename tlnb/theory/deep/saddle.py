"""Solving the deep action: Newton's method, and the physical branch followed in the coupling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlnb.errors import ConvergenceError
from tlnb.theory import branch
from tlnb.theory.branch import follow
from tlnb.theory.deep.action import DeepBlocks, Expansion, expand
from tlnb.theory.newton import TOLERANCE
from tlnb.theory.newton import newton as safeguarded

Array = NDArray[np.float64]
ADVICE = (
    "try larger widths, a higher temperature, smaller labels or, if the activation is not odd, a "
    "larger coupling"
)


@dataclass(frozen=True, eq=False)
class Saddle:
    """A stationary point with the solver's report; the residual is undamped and scaled.

    ``z`` (3, m): D_l, x_l and o_l of the m layers of finite width; ``scale`` (m,): by how much o_l
    can change and count as close.
    """

    z: Array
    train_error: float
    residual: float
    iterations: int
    physical: bool
    allowed: float
    scale: Array

    @property
    def converged(self) -> bool:
        """A small residual and a physical solution."""
        return self.physical and self.residual <= self.allowed

    @property
    def coordinates(self) -> Array:
        """(ln D_l, o_l), of shape (2, m): smooth in the coupling."""
        return np.array([np.log(self.z[0]), self.z[2]])


@dataclass(frozen=True, eq=False)
class _Equations:
    """The stationarity equations, linearised in coordinates relative to the layer above.

    D_l = D_Σ exp(δ_l) and o_l = o_Σ + ω_l with Σ_l that of the layer above: a layer moves with it,
    as it must where N_l is large and A_l hardly leaves Σ_l. ``equations`` (2m,) are derivatives of
    the action in (δ_l, ω_l).
    """

    point: Expansion
    blocks: DeepBlocks
    equations: Array
    jacobian: Array

    @classmethod
    def at(cls, point: Expansion, blocks: DeepBlocks) -> _Equations:
        D, _, o = point.z
        chain, m = blocks.chain, len(D)
        # First derivatives of (D_l, o_l) in (δ, ω), and the second ones of D_l.
        moved, bent = np.zeros((2 * m, 2 * m)), np.zeros((m, 2 * m, 2 * m))
        for layer in range(m - 1, -1, -1):
            delta, omega = np.eye(2 * m)[[layer, m + layer]]
            _, _, c_t, c_tt = chain.c[layer]
            D_sigma, by_D, by_o = c_t, np.zeros(2 * m), np.zeros(2 * m)
            if layer < m - 1:
                D_sigma = c_t * D[layer + 1] + (c_t - c_tt) * o[layer + 1]
                by_D = c_t * moved[layer + 1] + (c_t - c_tt) * moved[m + layer + 1]
                by_o = c_tt * moved[m + layer + 1]
                bent[layer] = D[layer] / D_sigma * c_t * bent[layer + 1]
            by_D = D[layer] / D_sigma * by_D
            moved[layer], moved[m + layer] = by_D + D[layer] * delta, by_o + omega
            mixed = np.outer(by_D, delta)
            bent[layer] += mixed + mixed.T + D[layer] * np.outer(delta, delta)
        equations = moved.T @ point.gradient.ravel()
        jacobian = moved.T @ point.hessian @ moved
        jacobian += np.einsum("l,lij->ij", point.gradient[0], bent)
        return cls(point, blocks, equations, jacobian)

    @property
    def residuals(self) -> Array:
        """Of order one where D_l is small."""
        chain, (D, _, o) = self.blocks.chain, self.point.z
        scales = np.concatenate([D / (chain.scale + abs(o)), D]) / np.tile(chain.widths, 2)
        return self.equations * scales

    @property
    def sizes(self) -> Array:
        scale = self.blocks.chain.scale
        return np.concatenate([np.ones_like(scale), scale + abs(self.point.z[2])])

    def moved(self, step: Array) -> _Equations:
        at = _moved(self.point, self.blocks, step.reshape(2, -1))
        return self.at(expand(*at, self.blocks), self.blocks)


def _moved(point: Expansion, blocks: DeepBlocks, step: Array) -> tuple[Array, Array]:
    """(D_l, o_l) after a ``step`` (2, m) in (δ_l, ω_l)."""
    D, _, o = point.z
    chain, m = blocks.chain, len(D)
    new_D, new_o = np.empty(m), np.empty(m)
    for layer in range(m - 1, -1, -1):
        _, _, c_t, c_tt = chain.c[layer]
        if layer < m - 1:
            old = c_t * D[layer + 1] + (c_t - c_tt) * o[layer + 1], c_tt * o[layer + 1]
            new = c_t * new_D[layer + 1] + (c_t - c_tt) * new_o[layer + 1], c_tt * new_o[layer + 1]
        else:
            old = new = c_t, 0.0
        new_D[layer] = D[layer] * new[0] / old[0] * np.exp(step[0, layer])
        new_o[layer] = o[layer] + new[1] - old[1] + step[1, layer]
    return new_D, new_o


def newton(coordinates: Array, blocks: DeepBlocks, max_iterations: int = 50) -> Saddle:
    """Solve for the saddle near (ln D_l, o_l), ``coordinates`` of shape (2, m).

    The step is halved until the scaled residuals decrease; the caller judges ``converged``.
    """
    log_D, o = coordinates
    start = _Equations.at(expand(np.exp(log_D), o, blocks), blocks)
    found, iterations = safeguarded(start, max_iterations)
    point, residual = found.point, float(np.abs(found.residuals).max())
    report = residual, iterations, point.physical, TOLERANCE + point.resolution
    return Saddle(point.z, point.train_error, *report, blocks.chain.scale)


class Branch(branch.Branch[DeepBlocks, Saddle]):
    """The saddle points at given widths, from x = o = 0: see `tlnb.theory.branch`.

    Infinite coupling is reached from one that differs from it by little.

    Parameters
    ----------
    blocks_at : callable
        The `DeepBlocks` at a coupling > 0, infinity included.
    scratch : array of shape (m,)
        The target's overlaps D_l when it is trained alone.
    unit : float
        A coupling of the size of the target's weight precision.
    """

    def __init__(
        self, blocks_at: Callable[[float], DeepBlocks], scratch: Array, unit: float
    ) -> None:
        start = np.array([np.log(scratch), np.zeros_like(scratch)])
        super().__init__(blocks_at, newton, start, unit, ADVICE)

    def at(self, coupling: float) -> Saddle:
        """The saddle point at a coupling > 0, infinity included.

        Raises `ConvergenceError` where the branch cannot be followed so far.
        """
        if not np.isinf(coupling) or coupling in self.points:
            return super().at(coupling)
        # From the last finite coupling in steps of 1/γ: there the solution is linear in it.
        for last in self.unit * np.array([1e4, 1e6, 1e8]):
            trail = [(-1 / g, self.at(g).coordinates) for g in (0.5 * last, last)]
            try:
                walked = self._follow(lambda t: self.blocks_at(-1 / t if t else np.inf), trail, 0.0)
                break
            except ConvergenceError:  # not close enough yet
                if last == 1e8 * self.unit:
                    raise
        self.points[np.inf] = walked[-1][1]
        return self.points[np.inf]


def follow_width(blocks_at: Callable[[float], DeepBlocks], widest: float = 1e6) -> Saddle:
    """The saddle point reached from wide networks instead of small couplings.

    ``blocks_at(t)`` are the blocks with all widths multiplied by exp(-t). At infinite width nothing
    of the source is left and the solution is known. This is the way for activations that are not
    odd, whose small couplings are singular in more than one layer; for others it leads to the same
    point (the tests hold both together).

    Raises `ConvergenceError` where the branch ends on the way.
    """
    start = -np.log(widest)
    scale = blocks_at(start).chain.scale
    trail = [(start, np.array([np.log(scale), 0 * scale]))]
    return follow(lambda t, near: newton(near, blocks_at(t)), trail, 0.0, ADVICE)[-1][1]
