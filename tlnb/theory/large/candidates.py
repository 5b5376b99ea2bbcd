"""Leave-one-out errors of candidates of a large source, each with its error.

What `tlnb.theory.transfer.candidates` tabulates, for sources that are never factorised: points are
screened and solved for together (`tlnb.theory.large.screening`), all their couplings interpolated.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.errors import ConvergenceError
from tlnb.theory.large.known import KnownPredictor, Problem, States
from tlnb.theory.large.prepared import PreparedLargeTransfer
from tlnb.theory.large.screening import Finalists, Screening
from tlnb.theory.leave_one_out import LeaveOneOut
from tlnb.theory.prediction import Prediction
from tlnb.theory.transfer.candidates import CandidateTable, Grid
from tlnb.theory.transfer.kernels import TestKernels

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]


class Judged(NamedTuple):
    """A coupled network at left-out and, if there are any, test examples.

    ``error``, ``test_error``: those of the mean Gibbs errors; see `tlnb.theory.large.known`.
    """

    left_out: LeaveOneOut
    prediction: Prediction | None
    error: float
    test_error: float


def judged(
    problem: Problem,
    width: float,
    coupling: float,
    test: tuple[TestKernels, Array] | None = None,
) -> Judged:
    """Errors at a finite width and a coupling > 0.

    ``test`` holds the target's kernels with the test inputs that were prepared for, and labels.

    Raises
    ------
    ConvergenceError
        If there is no physical saddle point, or none within the source's error.
    """
    precision = problem.priors.at_width(width).readout_precision
    found: list[tuple[LeaveOneOut, Prediction | None]] = []
    for state in States.of(problem, width, coupling):
        predictor = KnownPredictor.at(state, precision)
        found.append((predictor.leave_one_out(), predictor(*test) if test else None))
    means = np.array([[_mean(left_out), _mean(outcome)] for left_out, outcome in found])
    errors = np.abs(means[1:] - means[0]).sum(axis=0)
    return Judged(*found[0], float(errors[0]), float(errors[1]))


def _mean(found: LeaveOneOut | Prediction | None) -> float:
    """The mean Gibbs error, 0 without one."""
    return 0.0 if found is None or found.test_error is None else float(found.test_error.mean())


class Tabulated(NamedTuple):
    """Errors of all candidates, what became of the points, and the problems by their places."""

    errors: Dataset
    screening: Screening | None
    problems: dict[tuple[int, ...], PreparedLargeTransfer]


def tabulated(problem: PreparedLargeTransfer, grid: Grid) -> Tabulated:
    """Leave-one-out errors over the grid, NaN for coupled networks of dropped points.

    Beside what `tlnb.theory.transfer.candidates.candidates` holds: ``test_error_error``, that of
    the mean Gibbs errors, and ``screened``, the Gibbs errors with a part of the source, NaN where
    no point was dropped.
    """
    table: CandidateTable[PreparedLargeTransfer] = CandidateTable(problem, grid)
    off, screened = table.add("test_error_error"), table.add("screened")
    couplings = table.ascending()
    strengths = [(j, coupling) for j, coupling in couplings if coupling > 0]
    points = list(table.points())
    for index, mine, width in points:
        for j, coupling in couplings:
            if coupling == 0 or np.isinf(width):
                with suppress(ConvergenceError):
                    table.put((*index, j), mine.leave_one_out(width, coupling))
                off[(*index, j)] = 0.0
    problems = {index: mine for index, mine, _ in points}
    finite = [point for point in points if np.isfinite(point[-1])]
    if not finite or not strengths:
        return Tabulated(table.dataset(), None, problems)
    groups = [([mine], width) for _, mine, width in finite]
    found = Finalists.of(groups, [coupling for _, coupling in strengths])
    whole = {}
    for k, (index, mine, width) in enumerate(finite):
        errors = np.full(len(strengths), np.nan)
        for i, (j, coupling) in enumerate(strengths):
            if found.part is not None:
                screened[(*index, j)] = found.part[k, i]
            if k not in found.kept or k in found.failures:
                continue
            try:
                left_out, _, error, _ = judged(mine, width, coupling)
            except ConvergenceError:
                continue
            table.put((*index, j), left_out)
            off[(*index, j)], errors[i] = error, left_out.test_error.mean()
        if k in found.kept:
            whole[k] = errors
    return Tabulated(table.dataset(), found.screening(whole), problems)
