"""The branch of physical saddle points, followed in the logarithm of the coupling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from tlnb.errors import ConvergenceError
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.saddle import Overlaps, newton

Array = NDArray[np.float64]


class Branch:
    """The saddle points at one width, followed in ln γ from zero coupling.

    The unphysical saddles of the action are avoided by never leaving the branch that starts at the
    network trained from scratch, (D, Q_tt) = (Q_t of scratch, 0). At a small first coupling the
    source's blocks are switched on from nothing; from there ln γ grows. A secant prediction is
    corrected by Newton's method and accepted only if the solution is physical and close to the
    prediction; otherwise the step is halved. Points once found are kept, so that any coupling is
    reached from the nearest one below.

    Parameters
    ----------
    blocks_at : callable
        The `KernelBlocks` at a finite coupling > 0.
    scratch_Q : float
        The order parameter of the target trained alone, at zero coupling.
    scale : float
        A coupling of the size of the target's weight precision.
    """

    def __init__(
        self, blocks_at: Callable[[float], KernelBlocks], scratch_Q: float, scale: float
    ) -> None:
        self.blocks_at = blocks_at
        self.scratch = np.array([np.log(scratch_Q), 0.0])
        self.scale = scale
        self.points: dict[float, Overlaps] = {}

    def at(self, coupling: float) -> Overlaps:
        """The saddle point at a finite coupling > 0.

        Raises `ConvergenceError` where the branch cannot be followed so far.
        """
        below = sorted(known for known in self.points if known <= coupling)
        if not below:
            first = min(coupling, 1e-2 * self.scale)
            blocks = self.blocks_at(first)
            switched = _walk(blocks.weakened, [(0.0, self.scratch)], 1.0)
            self.points[first] = switched[-1][1]
            below = [first]
        if below[-1] < coupling:
            trail = [(np.log(known), _coordinates(self.points[known])) for known in below[-2:]]
            end = np.log(coupling)

            def blocks_at(t: float) -> KernelBlocks:
                # At the end the coupling itself, whose kernels are asked for again.
                return self.blocks_at(coupling if t == end else float(np.exp(t)))

            walked = _walk(blocks_at, trail, end)
            for t, point in walked[:-1]:
                self.points[float(np.exp(t))] = point
            self.points[coupling] = walked[-1][1]
        return self.points[coupling]


def _coordinates(point: Overlaps) -> Array:
    return np.array([np.log(point.D), point.Q_tt])


def _walk(
    blocks_at: Callable[[float], KernelBlocks],
    trail: list[tuple[float, Array]],
    target: float,
    longest: float = 1.5,
    shortest: float = 1e-3,
) -> list[tuple[float, Overlaps]]:
    """Continue from the last of the points (t, (ln D, Q_tt)) in ``trail`` to ``target``."""
    t, walked, step = trail[-1][0], [], longest
    # At least once: a coupling can be larger than the last one by less than its logarithm tells.
    while not walked or t < target:
        # Between the ends the points lie on a grid, where other branches find kernels made already.
        arrival = step * np.floor(t / step + 1.5)
        arrival = target if arrival >= target - 1e-9 else arrival
        predicted = _extrapolate(trail, arrival)
        try:
            point = newton(np.exp(predicted[0]), predicted[1], blocks_at(arrival))
            correction = np.abs(_coordinates(point) - predicted) / [1, 1 + abs(predicted[1])]
            report = f"residual {point.residual:.1e}, allowed {point.allowed:.1e}"
            accepted = point.converged and correction.max() < 0.5
        except LinAlgError:
            report, accepted = "Δ is not positive definite", False
        if accepted:
            t = arrival
            trail = [trail[-1], (t, _coordinates(point))]
            walked.append((t, point))
            step = min(2 * step, longest)
        elif step > shortest:
            step /= 2
        else:
            raise ConvergenceError(
                f"the physical branch of saddle points was lost at {t:.4g} on the way to "
                f"{target:.4g} (ln coupling, or the source's share at a small coupling): {report}; "
                "try a larger width, a higher temperature or smaller labels"
            )
    return walked


def _extrapolate(trail: list[tuple[float, Array]], t: float) -> Array:
    """Secant extrapolation, not further than the last two points are apart."""
    (t0, z0), (t1, z1) = trail[-2:] if len(trail) > 1 else 2 * trail
    if t0 == t1:
        return z1
    return z1 + min(1.0, (t - t1) / (t1 - t0)) * (z1 - z0)
