"""Transfer from a large source: the same saddle points and predictor, its kernel never factorised.

The interface behind `tlnb.theory.large.prepared`: curves and choices with an error beside every
number, and which problem is for which size of a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Self, Unpack, cast

import numpy as np

from tlnb.data.task import Task, check_task
from tlnb.priors import Priors
from tlnb.theory.large.candidates import tabulated
from tlnb.theory.large.curve import LargePoints, with_errors
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.prepared import PreparedLargeTransfer
from tlnb.theory.transfer.candidates import CandidateLists, Choice, Grid, choose
from tlnb.theory.transfer.curve import transfer_curve
from tlnb.theory.transfer.problem import TransferProblem
from tlnb.validation import check_choice, check_width

if TYPE_CHECKING:
    from xarray import Dataset

SOLVERS = ("auto", "dense", "iterative")
DENSE_UP_TO = 12_000  # source examples that are decomposed unless told otherwise


class LargeTransferProblem(PreparedLargeTransfer):
    """A source of tens of thousands of examples, a target and their priors.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    priors : Priors, optional
        Or, as keywords:
    options : LargeOptions, optional
        Tolerance, landmarks, random vectors, folder, progress.
    **keywords
        Those of `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.large import LargeTransferProblem
    >>> X = np.random.default_rng(0).standard_normal((150, 10))
    >>> source, target = Task(X[:140], X[:140, 0]), Task(X[140:], X[140:, 0])
    >>> problem = LargeTransferProblem(source, target, temperature=0.1)
    >>> print(f"{problem.solve(width=20, coupling=1.0).Q_st:.2f}")
    0.30
    """

    def sweep(
        self,
        test: Task,
        *,
        widths: Sequence[float],
        couplings: Sequence[float],
        baseline: str | None = None,
    ) -> Dataset:
        """The transfer curve over widths and couplings, with an error beside every number.

        What `TransferProblem.sweep` returns, and ``Q_s_error``, ``test_error_error`` and so on: the
        standard error that the random vectors leave to Q_s, carried to every number, and what the
        solver and the interpolation over couplings may have left.

        Raises
        ------
        ConvergenceError
            If the error of Q_s or of a test error is above the tolerance.
        """
        widths = [check_width(width, "widths") for width in widths]
        finite = [w for w in dict.fromkeys(widths) if np.isfinite(w)]
        points = LargePoints(self, test, finite)
        curve = transfer_curve(self, test, widths, couplings, baseline, points)
        return with_errors(curve, [self._error(width) for width in widths], self.options)

    def candidates(
        self, *, baseline: str | None = None, **lists: Unpack[CandidateLists]
    ) -> Dataset:
        """Leave-one-out errors over couplings and priors, each with its error.

        Temperatures, readout precisions and widths are screened on a part of the source, the best
        few solved for whole (`LargeOptions`); coupled networks of the others are NaN, and
        ``screened`` holds what the part says of all.
        """
        if baseline is not None:
            return super().candidates(baseline=baseline, **lists)
        return tabulated(self, Grid.of(**lists)).errors

    def choose(
        self, *, baseline: str | None = None, **lists: Unpack[CandidateLists]
    ) -> Choice[Self]:
        """The candidate of least leave-one-out error among those of `candidates`."""
        if baseline is not None:
            return super().choose(baseline=baseline, **lists)
        grid = Grid.of(**lists)
        found = tabulated(self, grid)
        problems = cast("dict[tuple[int, ...], Self]", found.problems)
        return choose(self, grid, None, (found.errors, problems))

    def _error(self, width: float) -> float:
        return 0.0 if np.isinf(width) else self.source_saddle(width).error


def transfer_problem(
    source: Task,
    target: Task,
    priors: Priors,
    solver: str = "auto",
    options: LargeOptions | None = None,
) -> TransferProblem:
    """The problem whose solver suits the source's size, or the one that is asked for.

    Parameters
    ----------
    source, target : Task
    priors : Priors
    solver : {"auto", "dense", "iterative"}
        "dense" decomposes the source's kernel (8 P_s² bytes and more, P_s³ operations),
        "iterative" solves with tiles of it; "auto" takes the latter above 12,000 examples.
    options : LargeOptions, optional
        For the iterative solver.

    Raises
    ------
    ValueError, TypeError
        For a solver that is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.priors import Priors
    >>> from tlnb.theory.large import transfer_problem
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> tasks = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> [type(transfer_problem(*tasks, Priors(), how)).__name__ for how in ("auto", "iterative")]
    ['TransferProblem', 'LargeTransferProblem']
    """
    if options is not None and not isinstance(options, LargeOptions):
        known = ", ".join(each.name for each in fields(LargeOptions))
        raise TypeError(f"options must be LargeOptions ({known}), got {options!r}")
    if is_iterative(solver, check_task("source", source).n_examples):
        return LargeTransferProblem(source, target, priors, options=options)
    return TransferProblem(source, target, priors)


def is_iterative(solver: str, n_examples: int) -> bool:
    """Whether so many examples are solved with iteratively; ``solver`` as in `transfer_problem`."""
    check_choice("solver", solver, SOLVERS)
    return solver == "iterative" or (solver == "auto" and n_examples > DENSE_UP_TO)
