"""Many points of a large source: judged on a part of it, the best few solved for together.

A point is a temperature, a readout precision and a width: each has its own Q_s, so that its
equations are solved anew, while all couplings of a point share their solutions
(`tlnb.theory.large.nodes`). Left-out errors with a part of the source, which is decomposed, say
which points are worth it. Those share the tiles, the low rank and the random vectors, and each
begins from the solutions of the one before: G = T + Q K at another shift T/Q. How far the part can
be trusted is measured on the points that are solved for both ways, and stated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.theory.large.coupled import Interpolant, Solver
from tlnb.theory.large.prepared import PreparedLargeTransfer
from tlnb.theory.transfer.problem import TransferProblem

Array = NDArray[np.float64]
# Problems that differ in their labels, one for each class, at a width.
Group = tuple[Sequence[PreparedLargeTransfer], float]


class Screening(NamedTuple):
    """What became of the points of a large source.

    Attributes
    ----------
    examples : of the source, on which points were judged; all of them if no point was dropped.
    points, kept : how many there were, and how many were solved for with the whole source.
    change : largest change of a kept point's least left-out error, from the part to the whole.
    missed : by how much a dropped point's error may be below the least one, if it changes from the
        part to the whole as much as that of any kept point does; 0 if it is not below even then.
    """

    examples: int
    points: int
    kept: int
    change: float
    missed: float


@dataclass(frozen=True, eq=False)
class Finalists:
    """Points that are worth solving for, prepared.

    ``kept``: their numbers; ``part`` (points, couplings): left-out Gibbs errors on the part, or
    None if all points were kept; ``failures``: why some of them were not solved for, in whose place
    others came.
    """

    kept: list[int]
    part: Array | None
    failures: dict[int, ConvergenceError]
    examples: int
    n_points: int

    @classmethod
    def of(
        cls,
        groups: Sequence[Group],
        couplings: Sequence[float],
        X_test: Array | None = None,
        tick: Callable[[], object] = lambda: None,
    ) -> Finalists:
        """Screen and solve.

        Parameters
        ----------
        groups : sequence of (sequence of PreparedLargeTransfer, float)
            A point each; all with the same source inputs, activation, precision and target inputs.
        couplings : sequence of float
            γ > 0.
        X_test : array of shape (n, N0), optional
            Test inputs to solve for as well.
        tick : callable
            Called once a candidate that is screened.
        """
        first = groups[0][0][0]
        options, size = first.options, first.source.n_examples
        ranked, part, examples, most = list(range(len(groups))), None, size, len(groups)
        if len(groups) > options.finalists and size > options.screen:
            examples, most = options.screen, options.finalists
            part = _on_part(groups, couplings, tick)
            ranked = ranked_points(part, np.isinf(couplings))[: 2 * most]
        kept: list[int] = []
        failures: dict[int, ConvergenceError] = {}
        while ranked and (missing := most + len(failures) - len(kept)) > 0:
            batch, ranked = ranked[:missing], ranked[missing:]
            pairs = [(k, problem, groups[k][1]) for k in batch for problem in groups[k][0]]
            failed = solve_together([(problem, width) for _, problem, width in pairs], X_test)
            failures |= {pairs[number][0]: error for number, error in failed.items()}
            kept += batch
        return cls(sorted(kept), part, failures, examples, len(groups))

    def dropped(self, whole: dict[int, Array]) -> Array:
        """Left-out errors of dropped points, moved by what those kept changed on average; (m,)."""
        if self.part is None:
            return np.empty(0)
        changes = np.array([errors - self.part[k] for k, errors in whole.items()])
        change = np.nanmean(changes) if np.isfinite(changes).any() else 0.0
        errors = np.delete(self.part, self.kept, axis=0).ravel() + change
        return errors[np.isfinite(errors)]

    def screening(self, whole: dict[int, Array]) -> Screening:
        """The report, from left-out errors of points at the couplings with the whole source."""
        counts = self.examples, self.n_points, len(self.kept) - len(self.failures)
        if self.part is None:
            return Screening(*counts, 0.0, 0.0)
        part = _least(self.part)
        least = {k: float(_least(errors)) for k, errors in whole.items()}
        known = [k for k, error in least.items() if np.isfinite([error, part[k]]).all()]
        changes = np.array([least[k] - part[k] for k in known])
        others = np.delete(part, self.kept)
        missed = 0.0
        if changes.size and np.isfinite(others).any():
            missed = max(0.0, np.nanmin(list(least.values())) - others.min() - changes.min())
        return Screening(*counts, float(np.abs(changes).max(initial=0.0)), float(missed))


def _least(errors: Array) -> Array:
    """The least error over the couplings, infinite where none converged."""
    return np.where(np.isnan(errors), np.inf, errors).min(axis=-1, initial=np.inf)


def ranked_points(errors: Array, frozen: NDArray[np.bool_]) -> list[int]:
    """Numbers of the points in the order in which to solve for them.

    From ``errors`` (points, couplings) on the part: the best one, the best at infinite coupling, of
    which ``frozen`` (couplings,) says where it is, for what frozen features do is asked, and the
    next best ones.
    """
    least = _least(errors)
    order = [int(k) for k in np.argsort(least, kind="stable")]
    if frozen.any():
        order.insert(1, int(_least(errors[:, frozen]).argmin()))
    return list(dict.fromkeys(order))


def _on_part(
    groups: Sequence[Group], couplings: Sequence[float], tick: Callable[[], object]
) -> Array:
    """Left-out Gibbs errors (points, couplings) on a part of the source, NaN where none is."""
    first = groups[0][0][0]
    chosen = first.source_kernel.few(first.options.screen)
    source = Task(first.source.X[chosen], first.source.y[chosen])
    part = TransferProblem(source, first.target, first.priors)
    errors = np.full((len(groups), len(couplings)), np.nan)
    ascending = np.argsort(couplings, kind="stable")
    for k, (problems, width) in enumerate(groups):
        small = [
            part.like(problem.source.y[chosen], problem.target.y, problem.priors)
            for problem in problems
        ]
        for j in ascending:
            try:
                left_out = [each.leave_one_out(width, couplings[j]) for each in small]
                errors[k, j] = np.mean([each.test_error.mean() for each in left_out])
            except ConvergenceError:
                pass
            tick()
    return errors


def solve_together(
    pairs: Sequence[tuple[PreparedLargeTransfer, float]], X_test: Array | None = None
) -> dict[int, ConvergenceError]:
    """Solve for problems with the same source inputs and target inputs, at finite widths, at once.

    Parameters
    ----------
    pairs : sequence of (PreparedLargeTransfer, float)
        Problems that differ in priors or labels, each with a width.
    X_test : array of shape (n, N0), optional

    Returns
    -------
    dict
        Why the pairs of these numbers were not solved; all others are prepared.
    """
    saddles, failures = {}, {}
    for number, (problem, width) in enumerate(pairs):
        try:
            saddles[number] = problem.source_saddle(width)
        except ConvergenceError as error:
            failures[number] = error
    # From large shifts T/Q, which are soon solved, to small ones.
    order = sorted(saddles, key=lambda n: -saddles[n].equation.temperature / saddles[n].Q)

    def solved(numbers: list[int]) -> dict[int, Interpolant]:
        kernels = pairs[0][0].kernels
        found = Solver(kernels, [saddles[n] for n in numbers], X_test).interpolants()
        return dict(zip(numbers, found, strict=True))

    try:
        interpolants = solved(order) if order else {}
    except ConvergenceError:
        interpolants = {}
        for number in order:
            try:
                interpolants |= solved([number])
            except ConvergenceError as error:
                failures[number] = error
    for number, interpolant in interpolants.items():
        problem, width = pairs[number]
        problem.prepared(width, interpolant)
    return failures
