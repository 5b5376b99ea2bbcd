"""The regularisation of least test error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar

from tlnb.theory.readout.fixed_point import ReplicaMap
from tlnb.theory.readout.solution import GLMSolution, solution_of

BOUNDS = 1e-4, 1e3  # where λ is looked for, in units of the mean eigenvalue of Ω
_SCANNED = 8  # one a decade


def least_test_error(at: ReplicaMap, near: GLMSolution | None = None) -> GLMSolution:
    """The solution of least test error over λ: a scan in decades, refined around its best.

    ``at`` may be of any λ. The scan starts at the λ of ``near`` (else at the largest) and goes from
    one solution to the next; `iterations` counts what all of them took.
    """
    low, high = np.log(at.covariates.eigenvalues.mean() * np.array(BOUNDS))
    logs = np.linspace(low, high, _SCANNED)
    first = _SCANNED - 1
    if near is not None:
        first = int(np.abs(logs - np.log(near.regularization)).argmin())
    tried: list[GLMSolution] = []

    def solution_at(log: float, start: GLMSolution | None) -> GLMSolution:
        regularization = float(np.exp(log))
        tried.append(solution_of(replace(at, regularization=regularization), start))
        return tried[-1]

    scan = {first: solution_at(logs[first], near)}
    for k in range(first - 1, -1, -1):
        scan[k] = solution_at(logs[k], scan[k + 1])
    for k in range(first + 1, _SCANNED):
        scan[k] = solution_at(logs[k], scan[k - 1])
    best = min(scan, key=lambda k: _rank(scan[k]))
    minimize_scalar(
        lambda log: solution_at(log, scan[best]).test_error,
        bounds=(logs[max(best - 1, 0)], logs[min(best + 1, _SCANNED - 1)]),
        method="bounded",
        options={"xatol": 1e-3},
    )
    iterations = sum(solution.iterations for solution in tried)
    return min(tried, key=_rank)._replace(iterations=iterations)


def _rank(solution: GLMSolution) -> tuple[float, float]:
    """By test error; of errors that agree to ten digits, which is flat, the least λ is best."""
    return float(f"{solution.test_error:.10g}"), solution.regularization
