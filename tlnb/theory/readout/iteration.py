"""How the fixed point is found: Newton's method, and λ annealed downwards where that fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

from tlnb.errors import ConvergenceError
from tlnb.theory.readout.fixed_point import ReplicaMap

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the undamped residual


@np.errstate(all="ignore")  # a trial step may overflow
def find_fixed_point(at: ReplicaMap, start: Array | None) -> tuple[Array, int]:
    """V̂, q̂, m̂ at the fixed point, by Newton's method from ``start`` or a guess, else annealed.

    Also the number of evaluations of the map.
    """
    hats, evaluations = _newton(at, _guess(at) if start is None else start)
    if hats is None:
        hats, spent = _anneal(at)
        evaluations += spent
    return hats, evaluations


def _guess(at: ReplicaMap) -> Array:
    """V̂, q̂, m̂ after a few damped steps of the map."""
    alpha, rho = at.sample_ratio, at.covariates.teacher_variance
    hats = np.array([alpha / 4, alpha / 4, alpha / np.sqrt(8 * np.pi * rho)])
    for _ in range(5):
        hats = np.sqrt(hats * at.conjugates(*at.overlaps(*hats)))
    return hats


def _newton(at: ReplicaMap, start: Array) -> tuple[Array | None, int]:
    """V̂, q̂, m̂ at the fixed point, None if it was not reached, and evaluations of the map.

    Unknown are the logarithms of V̂ + λ/e_max, q̂ and m̂. Any three numbers are a possible Gaussian,
    and V̂ may vanish, as the hinge's does at large λ.
    """
    shift = np.array([at.regularization / at.covariates.eigenvalues[-1], 0, 0])
    first = np.log(start + shift)

    def change(x: Array) -> Array:
        hats = np.exp(np.clip(x, first - 30, first + 30)) - shift  # a first step may go anywhere
        return np.log(at.conjugates(*at.overlaps(*hats)) + shift) - x

    def jacobian(x: Array) -> Array:
        h, here = 1e-6, change(x)
        return np.array([change(x + step) - here for step in h * np.eye(3)]).T / h

    found = root(change, first, jac=jacobian, options={"xtol": 1e-13})
    hats = np.maximum(np.exp(found.x) - shift, 0.0)
    reached = at.residual(hats) <= TOLERANCE
    return hats if reached else None, found.nfev + 4 * found.njev


def _anneal(at: ReplicaMap) -> tuple[Array, int]:
    """`_newton` from a λ so large that the map contracts, in steps as long as it succeeds."""
    goal, evaluations, step = at.regularization, 0, np.log(10.0)
    reached = 10 * max(goal, at.covariates.eigenvalues[-1]) * max(at.sample_ratio, 1.0)
    hats = _guess(replace(at, regularization=reached))
    while reached > goal and step > 1e-3 and evaluations < 5000:
        lower = max(reached * np.exp(-step), goal)
        found, spent = _newton(replace(at, regularization=lower), hats)
        evaluations += spent
        if found is None:
            step /= 3
        else:
            hats, reached, step = found, lower, 1.5 * step
    if reached > goal:
        raise ConvergenceError(
            f"no fixed point at sample_ratio={at.sample_ratio:g}, regularization={goal:g}: "
            f"residual {at.residual(hats):.1e}, allowed {TOLERANCE:.0e}; it was followed down "
            f"to regularization={reached:.2g}: try more of it, or a teacher with more noise"
        )
    return hats, evaluations
