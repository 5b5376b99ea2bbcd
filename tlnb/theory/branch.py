"""A branch of saddle points, followed in the logarithm of the coupling.

The Franz-Parisi action has saddle points that mean nothing beside the one that describes the
network. They are avoided by never leaving the branch that starts at the network trained from
scratch: from a point that is known the next one is predicted, corrected by Newton's method, and
accepted only if it is physical and close to the prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from tlnb.errors import ConvergenceError

Array = NDArray[np.float64]
LONGEST, SHORTEST = 1.5, 1e-3  # steps, in the logarithm that is followed


class Solved(Protocol):
    """A saddle point in the coordinates in which its branch is smooth."""

    @property
    def coordinates(self) -> Array:
        """ln D and the overlap of two targets, of shape (2, ...), one column for each layer."""
        ...

    @property
    def scale(self) -> Array | float:
        """By how much that overlap can change and count as close."""
        ...

    @property
    def residual(self) -> float:
        """What is left of the equations, and how much may be left of them."""
        ...

    @property
    def allowed(self) -> float:
        """The largest residual that counts as solved."""
        ...

    @property
    def converged(self) -> bool:
        """A small residual and a physical solution."""
        ...


class Coupled(Protocol):
    """What an action needs to know at one coupling."""

    def weakened(self, share: float) -> Self:
        """The source's influence scaled down: at 0 the target is alone."""
        ...


Blocks = TypeVar("Blocks", bound=Coupled)
Saddle = TypeVar("Saddle", bound=Solved)
Trail = list[tuple[float, Array]]


class Branch(Generic[Blocks, Saddle]):
    """The saddle points at given widths, followed in ln γ from zero coupling.

    At a small first coupling the source's blocks are switched on from nothing; from there ln γ
    grows. Points once found are kept, so that any coupling is reached from the nearest one below.

    Parameters
    ----------
    blocks_at : callable
        What the action needs at a finite coupling > 0.
    solve : callable
        The saddle point near given coordinates, of given blocks; LinAlgError where there is none.
    scratch : array of shape (2, ...)
        Coordinates of the target trained alone, at zero coupling.
    unit : float
        A coupling of the size of the target's weight precision.
    advice : str
        What to try where the branch is lost.
    """

    def __init__(
        self,
        blocks_at: Callable[[float], Blocks],
        solve: Callable[[Array, Blocks], Saddle],
        scratch: Array,
        unit: float,
        advice: str,
    ) -> None:
        self.blocks_at, self.solve = blocks_at, solve
        self.scratch, self.unit, self.advice = scratch, unit, advice
        self.points: dict[float, Saddle] = {}

    def at(self, coupling: float) -> Saddle:
        """The saddle point at a finite coupling > 0.

        Raises `ConvergenceError` where the branch cannot be followed so far.
        """
        if coupling in self.points:
            return self.points[coupling]
        below = sorted(known for known in self.points if known < coupling)
        if not below:
            below = [min(coupling, 1e-2 * self.unit)]
            self.points[below[0]] = self._switched_on(self.blocks_at(below[0]))
        if below[-1] < coupling:
            trail = [(np.log(known), self.points[known].coordinates) for known in below[-2:]]
            end = np.log(coupling)

            def blocks_at(t: float) -> Blocks:
                # At the end the coupling itself, whose kernels are asked for again.
                return self.blocks_at(coupling if t == end else float(np.exp(t)))

            *between, (_, self.points[coupling]) = self._follow(blocks_at, trail, end)
            self.points |= {float(np.exp(t)): point for t, point in between}
        return self.points[coupling]

    def _switched_on(self, blocks: Blocks) -> Saddle:
        """The saddle point at a small coupling, from that of the target alone."""
        return self._follow(blocks.weakened, [(0.0, self.scratch)], 1.0)[-1][1]

    def _follow(
        self, blocks_at: Callable[[float], Blocks], trail: Trail, end: float
    ) -> list[tuple[float, Saddle]]:
        return follow(lambda t, near: self.solve(near, blocks_at(t)), trail, end, self.advice)


def follow(
    solve: Callable[[float, Array], Saddle], trail: Trail, end: float, advice: str
) -> list[tuple[float, Saddle]]:
    """Continue from the last of the points (t, coordinates) in ``trail`` to ``end``, included.

    Parameters
    ----------
    solve : callable
        The saddle point at t near given coordinates; LinAlgError where there is none.
    trail : list of (float, array)
        One or two points of the branch that are known.
    end : float
    advice : str
        What to try, for the error's message.

    Raises
    ------
    ConvergenceError
        Where no step from the last point leads on.
    """
    t, step = trail[-1][0], LONGEST
    walked: list[tuple[float, Saddle]] = []
    # At least once: a coupling can be larger than the last one by less than its logarithm tells.
    while not walked or t < end:
        arrival = _next(t, step, end)
        predicted = _extrapolated(trail, arrival)
        try:
            point = solve(arrival, predicted)
            size = np.array([np.ones_like(predicted[0]), point.scale + abs(predicted[1])])
            off = np.abs((point.coordinates - predicted) / size).max()
            report = f"residual {point.residual:.1e}, allowed {point.allowed:.1e}"
            accepted = point.converged and off < 0.5
        except LinAlgError:
            report, accepted = "Δ is not positive definite", False
        if accepted:
            t = arrival
            trail = [trail[-1], (t, point.coordinates)]
            walked.append((t, point))
            step = min(2 * step, LONGEST)
            continue
        while step > SHORTEST and _next(t, step, end) == arrival:
            step /= 2
        if _next(t, step, end) == arrival:
            raise ConvergenceError(
                f"the physical branch of saddle points was lost at {t:.4g} on the way to {end:.4g} "
                "(ln coupling, the source's share at a small coupling, or -ln of what multiplies "
                f"the widths): {report}; {advice}"
            )
    return walked


def _next(t: float, step: float, end: float) -> float:
    """Where a step leads: to a grid, on which other branches find kernels made already."""
    arrival = step * float(np.floor(t / step + 1.5))
    return end if arrival >= end - 1e-9 else arrival


def _extrapolated(trail: Trail, t: float) -> Array:
    """Secant extrapolation, not further than the last two points are apart."""
    (t0, z0), (t1, z1) = trail[-2:] if len(trail) > 1 else 2 * trail
    if t0 == t1:
        return z1
    return z1 + min(1.0, (t - t1) / (t1 - t0)) * (z1 - z0)
