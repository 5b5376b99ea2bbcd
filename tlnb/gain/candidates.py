"""Networks to choose from, each with its errors at left-out examples and, if there are, test ones.

A candidate is a point (temperature, richness, coupling) of the coupled network, or of one of its
opponents. All of them share the source's one decomposition; the errors at the training examples
are those of leave-one-out, in closed form. A task of C classes is C tasks, one class against the
rest, with the same inputs and therefore the same kernels; errors are then means over the classes,
and the class said is that of the largest output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.theory.leave_one_out import LeaveOneOut
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.one_task.kernel import TestKernel
from tlnb.theory.prediction import Prediction
from tlnb.theory.transfer import TransferProblem
from tlnb.theory.transfer.kernels import TestKernels

Array = NDArray[np.float64]
COLUMNS = ("width", "coupling", "temperature", "richness", "readout_precision")
MEASURES = ("test_error", "squared_bias", "classification_error")


class Errors(NamedTuple):
    """Errors of candidates at examples, each array of shape (candidates, examples).

    ``test_error``: Gibbs error, squared bias plus variance of one network. ``squared_bias``: of the
    mean over networks. ``classification_error``: 1 where that mean has the wrong sign, or is
    largest for a wrong class; NaN for labels that are values.
    """

    test_error: Array
    squared_bias: Array
    classification_error: Array

    @classmethod
    def of(cls, y: Array, mean: Array, variance: Array) -> Errors:
        """From labels (C, n), means and variances (candidates, C, n) of the outputs."""
        bias = (y - mean) ** 2
        if len(y) > 1:
            wrong = (mean.argmax(axis=1) != y.argmax(axis=0)).astype(float)
        elif (np.abs(y) == 1).all():
            wrong = (y * mean <= 0)[:, 0].astype(float)
        else:
            wrong = np.full((len(mean), y.shape[1]), np.nan)
        return cls((bias + variance).mean(axis=1), bias.mean(axis=1), wrong)

    def means(self) -> Array:
        """Averages over the examples, (candidates, 3)."""
        return np.stack([errors.mean(axis=1) for errors in self], axis=1)


@dataclass(frozen=True, eq=False)
class Candidates:
    """A table of candidates, a row each, with their errors.

    Attributes
    ----------
    table : columns width, coupling, temperature, richness, readout_precision.
    left_out : errors at the training examples, each left out.
    test : errors at the test examples, or None without.
    failures : what was said of the candidates that did not converge, which are not in the table.
    noise : errors of the mean Gibbs errors left out and at the test examples, (candidates, 2), that
        the solver of a large source leaves; None: to rounding.
    """

    table: pd.DataFrame
    left_out: Errors
    test: Errors | None
    failures: tuple[str, ...] = ()
    noise: Array | None = None

    def __len__(self) -> int:
        return len(self.table)

    def where(self, rows: Array) -> Candidates:
        """Some of the candidates, by a mask or by numbers."""
        part = self.table[rows] if rows.dtype == bool else self.table.iloc[rows]
        test = None if self.test is None else Errors(*(errors[rows] for errors in self.test))
        left_out = Errors(*(errors[rows] for errors in self.left_out))
        noise = None if self.noise is None else self.noise[rows]
        return Candidates(part.reset_index(drop=True), left_out, test, noise=noise)

    def best(self) -> int:
        """The candidate of least Gibbs error at left-out examples."""
        return int(self.left_out.test_error.mean(axis=1).argmin())

    def averages(self) -> pd.DataFrame:
        """The table with the mean errors, of test examples under the prefix ``on_test_``.

        With ``solver_error`` of the test errors where the solver leaves any.
        """
        columns = dict(zip(MEASURES, self.left_out.means().T, strict=True))
        if self.test is not None:
            found = zip(MEASURES, self.test.means().T, strict=True)
            columns |= {f"on_test_{name}": values for name, values in found}
        if self.noise is not None:
            columns["solver_error"] = self.noise[:, 0]
            if self.test is not None:
                columns["on_test_solver_error"] = self.noise[:, 1]
        return self.table.assign(**columns)


class Grid(NamedTuple):
    """What the candidates are made of, ascending.

    ``levels`` are those of the readouts' prior: of its richness λ1/N1, or of λ1 itself if
    ``by_richness`` is false. ``width`` is that at which an infinitely wide network takes its λ1.
    """

    temperatures: Array
    levels: Array
    couplings: Array
    width: float
    by_richness: bool = True

    def points(self) -> list[tuple[float, float]]:
        """Every (temperature, level)."""
        return list(product(self.temperatures.tolist(), self.levels.tolist()))

    def row(self, width: float, coupling: float, point: tuple[float, float]) -> tuple[Any, ...]:
        """A row of `COLUMNS`."""
        T, level = point
        size = width if np.isfinite(width) else self.width if np.isfinite(self.width) else 1.0
        pair = (level, level * size) if self.by_richness else (level / size, level)
        return width, coupling, T, *pair


class Tally:
    """Collects candidates; one that does not converge is left out and noted."""

    def __init__(self, targets: Sequence[Task], tests: Sequence[Task] | None) -> None:
        self.y = np.array([task.y for task in targets])
        self.y_test = None if tests is None else np.array([task.y for task in tests])
        self.rows: list[tuple[Any, ...]] = []
        self.left_out: list[tuple[Array, Array]] = []
        self.test: list[tuple[Array, Array]] = []
        self.noise: list[Array] = []
        self.failures: list[str] = []

    def add(self, row: tuple[Any, ...], networks: Iterable[tuple[Any, ...]]) -> float:
        """A candidate: of each class the leave-one-out and, if there are tests, the prediction.

        After them come the errors of both mean Gibbs errors, if the solver leaves any. Returns
        the mean Gibbs error left out, NaN of a candidate that does not converge.
        """
        try:
            left_out, predictions, *noise = zip(*networks, strict=True)
        except ConvergenceError as error:
            self.failures.append(str(error))
            return np.nan
        self.rows.append(row)
        means = self.y - np.array([left.residual for left in left_out])
        variances = np.array([left.total_variance for left in left_out])
        self.left_out.append((means, variances))
        if self.y_test is not None:
            mean, variance = zip(*((p.mean, p.total_variance) for p in predictions), strict=True)
            self.test.append((np.array(mean), np.array(variance)))
        if noise:
            self.noise.append(np.mean(noise, axis=1))
        return float(((self.y - means) ** 2 + variances).mean())

    def done(self) -> Candidates:
        """The table."""
        if not self.rows:
            raise ConvergenceError(f"no candidate converged; the first: {self.failures[0]}")
        left_out = Errors.of(self.y, *map(np.array, zip(*self.left_out, strict=True)))
        test = None
        if self.y_test is not None:
            test = Errors.of(self.y_test, *map(np.array, zip(*self.test, strict=True)))
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        noise = np.array(self.noise) if self.noise else None
        return Candidates(table, left_out, test, tuple(self.failures), noise)


def coupled(
    problems: Sequence[TransferProblem],
    tests: Sequence[Task] | None,
    grid: Grid,
    tick: Callable[[], object] = lambda: None,
) -> Candidates:
    """The coupled network at every coupling > 0 of the grid.

    Parameters
    ----------
    problems : sequence of TransferProblem
        One for each class, with the same inputs.
    tests : sequence of Task, or None
        The test tasks of each class, with the same inputs.
    grid : Grid
    tick : callable
        Called once a candidate.

    Raises
    ------
    ConvergenceError
        If no candidate converges.
    """
    tally = Tally([problem.target for problem in problems], tests)
    width, kernels = grid.width, problems[0].kernels
    at = {point: under(problems, grid.row(width, 0.0, point)) for point in grid.points()}
    parts = [] if tests is None else kernels.parts(tests[0].n_examples)
    X = None if tests is None else tests[0].X
    products = kernels.products(X) if X is not None and len(parts) == 1 else None
    for coupling in grid.couplings[grid.couplings > 0].tolist():
        # The kernels with the test points serve every temperature, richness and class.
        known = kernels.test(products, coupling) if products and np.isfinite(width) else None

        for point, priors in at.items():
            networks = (_coupled(problem, width, coupling, X, known) for problem in priors)
            tally.add(grid.row(width, coupling, point), networks)
            tick()
    return tally.done()


def alone(
    problems: Sequence[TransferProblem],
    tests: Sequence[Task] | None,
    grid: Grid,
    widths: Sequence[float],
    couplings: Sequence[float] = (0.0,),
    tick: Callable[[], object] = lambda: None,
) -> Candidates:
    """Networks trained on the target alone, from scratch or with the prior a coupling leaves.

    Parameters are those of `coupled`; ``widths`` are the candidates' N1, ``couplings`` those of
    which they have the prior variance c_t.
    """
    tally = Tally([problem.target for problem in problems], tests)
    for coupling in couplings:
        opponents = [problem.alone(coupling) for problem in problems]
        known = None if tests is None else opponents[0].kernel.against(tests[0].X)

        for width, point in product(widths, grid.points()):
            row = grid.row(width, coupling, point)
            tally.add(row, (_alone(problem, width, known) for problem in under(opponents, row)))
            tick()
    return tally.done()


def _coupled(
    problem: TransferProblem,
    width: float,
    coupling: float,
    X: Array | None,
    known: TestKernels | None,
) -> tuple[LeaveOneOut, Prediction | None]:
    solution = problem.solve(width=width, coupling=coupling)
    if X is None:
        return solution.leave_one_out(), None
    prediction = solution.predict(X) if known is None else solution.outcome(known)
    return solution.leave_one_out(), prediction


def _alone(
    problem: OneTaskProblem, width: float, known: TestKernel | None
) -> tuple[LeaveOneOut, Prediction | None]:
    solution = problem.solve(width=width)
    prediction = None if known is None else solution.outcome(known, None)
    return solution.leave_one_out(), prediction


def under(problems: Sequence[Any], row: tuple[Any, ...]) -> list[Any]:
    """The problems under the temperature and readout precision of a row."""
    _, _, temperature, _, readout_precision = row
    changes = {"temperature": temperature, "readout_precision": readout_precision}
    return [problem.with_priors(**changes) for problem in problems]


def together(parts: Sequence[Candidates]) -> Candidates:
    """One table of several."""
    table = pd.concat([part.table for part in parts], ignore_index=True)
    tests = [part.test for part in parts if part.test is not None]
    left_out = _joined([part.left_out for part in parts])
    noise = None
    if any(part.noise is not None for part in parts):
        exact = (np.zeros((len(part), 2)) if part.noise is None else part.noise for part in parts)
        noise = np.concatenate(list(exact))
    return Candidates(table, left_out, _joined(tests) if tests else None, noise=noise)


def _joined(parts: list[Errors]) -> Errors:
    return Errors(*(np.concatenate(errors) for errors in zip(*parts, strict=True)))
