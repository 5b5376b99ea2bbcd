"""Candidates coupled to a source of tens of thousands of examples.

Temperatures and readout precisions are screened on a part of the source, and the best few solved
for whole, with the test examples (`tlnb.theory.large.screening`). Mean errors then have an error
of their own, which is part of the gains' standard errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.gain.candidates import Candidates, Grid, Tally, coupled, under
from tlnb.theory.large.candidates import Judged, judged
from tlnb.theory.large.known import OwnKernels
from tlnb.theory.large.problem import LargeTransferProblem, is_iterative
from tlnb.theory.large.screening import Finalists, Group, Screening
from tlnb.theory.transfer import THEORIES, TransferProblem
from tlnb.theory.transfer.kernels import TestKernels
from tlnb.validation import check_choice

Array = NDArray[np.float64]


def check_theory(theory: str, n_examples: int) -> None:
    """Raise for a theory that is none, or that takes no source of so many examples."""
    check_choice("theory", theory, THEORIES)
    if theory != "scalar" and is_iterative("auto", n_examples):
        raise ValueError(
            f"theory must be 'scalar' with {n_examples} source examples, got {theory!r}: the law "
            "of a hidden unit solves with matrices of that size; give it fewer of them"
        )


class Coupled(NamedTuple):
    """Coupled candidates; of a large source also what was screened.

    ``dropped`` (m,): what is expected of the left-out errors of the points that were dropped.
    """

    candidates: Candidates
    screening: Screening | None = None
    dropped: Sequence[float] | Array = ()


def coupled_to(
    problems: Sequence[TransferProblem],
    tests: Sequence[Task] | None,
    grid: Grid,
    tick: Callable[[], object] = lambda: None,
) -> Coupled:
    """The coupled network at every coupling > 0 of the grid, by the solver that its source has."""
    large = [problem for problem in problems if isinstance(problem, LargeTransferProblem)]
    if large and np.isfinite(grid.width):
        return coupled_to_large(large, tests, grid, tick)
    return Coupled(coupled(problems, tests, grid, tick))


def coupled_to_large(
    problems: Sequence[LargeTransferProblem],
    tests: Sequence[Task] | None,
    grid: Grid,
    tick: Callable[[], object] = lambda: None,
) -> Coupled:
    """The coupled network at every coupling > 0 of the grid, for the points that are kept.

    Parameters are those of `tlnb.gain.candidates.coupled`; the grid's width is finite.

    Raises
    ------
    ConvergenceError
        If no candidate converges.
    """
    width, points = grid.width, grid.points()
    couplings = grid.couplings[grid.couplings > 0].tolist()
    groups = [(under(problems, grid.row(width, 0.0, point)), width) for point in points]
    X = None if tests is None else tests[0].X
    found = Finalists.of(groups, couplings, X, tick)
    own = None if X is None else OwnKernels(problems[0], X)
    tally = Tally([problem.target for problem in problems], tests)
    whole = {k: np.full(len(couplings), np.nan) for k in found.kept}
    for j, coupling in enumerate(couplings):
        kernels = None if own is None else own.at(coupling)
        for k in found.kept:
            networks = _networks(found.failures.get(k), groups[k], coupling, kernels, tests)
            whole[k][j] = tally.add(grid.row(width, coupling, points[k]), networks)
            if found.part is None:
                tick()
    return Coupled(tally.done(), found.screening(whole), found.dropped(whole))


def _networks(
    failure: ConvergenceError | None,
    group: Group,
    coupling: float,
    kernels: TestKernels | None,
    tests: Sequence[Task] | None,
) -> Iterator[Judged]:
    """One network for each class."""
    if failure is not None:
        raise failure
    problems, width = group
    for c, problem in enumerate(problems):
        test = None if kernels is None or tests is None else (kernels, tests[c].y)
        yield judged(problem, width, coupling, test)
