"""Choosing coupling, temperature and readout precision together, by leave-one-out error.

Every candidate's error is estimated from the training labels alone, in closed form
(`tlnb.theory.leave_one_out`). Candidates share what they can: the source's factorisation, the
kernels at each coupling, and, at one temperature and precision, the branch of saddle points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Generic, NamedTuple, Required, TypedDict, TypeVar

import numpy as np

from tlnb.errors import ConvergenceError
from tlnb.theory.leave_one_out import LeaveOneOut
from tlnb.theory.transfer.curve import BASELINES
from tlnb.theory.transfer.prepared import PreparedTransfer
from tlnb.validation import check_choice, check_nonnegative, check_positive, check_width

if TYPE_CHECKING:
    from xarray import Dataset

Problem = TypeVar("Problem", bound=PreparedTransfer)
QUANTITIES = ("test_error", "standard_error", "squared_residual", "total_variance")


class CandidateLists(TypedDict, total=False):
    """The keywords by which candidates are given; what is not named is the problem's own."""

    widths: Required[Sequence[float]]
    couplings: Required[Sequence[float]]
    temperatures: Sequence[float] | None
    readout_precisions: Sequence[float] | None
    richness: Sequence[float] | None


class Grid(NamedTuple):
    """Candidates: every combination of these; ``readouts`` are values of ``readout_name``."""

    widths: list[float]
    couplings: list[float]
    temperatures: list[float] | None
    readout_name: str
    readouts: list[float] | None

    @classmethod
    def of(
        cls,
        *,
        widths: Sequence[float],
        couplings: Sequence[float],
        temperatures: Sequence[float] | None = None,
        readout_precisions: Sequence[float] | None = None,
        richness: Sequence[float] | None = None,
    ) -> Grid:
        """The grid of checked values; None stands for the problem's own."""
        if readout_precisions is not None and richness is not None:
            raise ValueError("give readout_precisions or richness, got both")
        name, readouts = "readout_precision", readout_precisions
        if richness is not None:
            name, readouts = "richness", richness
        return cls(
            _listed("widths", widths, lambda n, w: check_width(w, n)),
            _listed("couplings", couplings, partial(check_nonnegative, allow_infinite=True)),
            None if temperatures is None else _positive("temperatures", temperatures),
            name,
            None
            if readouts is None
            else _positive(name if richness is not None else f"{name}s", readouts),
        )


class Choice(NamedTuple, Generic[Problem]):
    """The candidate of least leave-one-out error.

    Attributes
    ----------
    width, coupling, temperature, readout_precision : N1, γ, T and λ1.
    test_error, standard_error : its leave-one-out Gibbs error and the standard error of that mean
        over the examples.
    problem : the `TransferProblem` under the chosen priors. Its ``solve`` at the chosen width and
        coupling is the chosen network; of a baseline, its ``alone`` is.
    table : the errors of all candidates, as `candidates` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import TransferProblem
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:32], X[:32, 0]), Task(X[32:], X[32:, 0])
    >>> problem = TransferProblem(source, target, temperature=0.1)
    >>> choice = problem.choose(widths=[20], couplings=[0, 1, 10], temperatures=[0.01, 0.1])
    >>> choice.coupling > 0, dict(choice.table.sizes)
    (True, {'temperature': 2, 'readout_precision': 1, 'width': 1, 'coupling': 3})
    """

    width: float
    coupling: float
    temperature: float
    readout_precision: float
    test_error: float
    standard_error: float
    problem: Problem
    table: Dataset


def candidates(problem: PreparedTransfer, grid: Grid, baseline: str | None = None) -> Dataset:
    """Leave-one-out errors of every candidate.

    Parameters
    ----------
    problem : PreparedTransfer
    grid : Grid
    baseline : {None, "scratch", "matched-prior"}
        Candidates without a source, as in `tlnb.theory.transfer.coupling_sweep`.

    Returns
    -------
    xarray.Dataset over (temperature, readout_precision or richness, width, coupling)
        test_error, standard_error, squared_residual, total_variance: means over the target's
        examples; NaN where no physical saddle point was found.

    Raises
    ------
    ValueError
        For an empty list and values outside what is allowed.
    """
    if baseline is not None:
        check_choice("baseline", baseline, BASELINES)
    table = CandidateTable(problem, grid)
    for index, mine, width in table.points():
        for j, coupling in table.ascending():
            with suppress(ConvergenceError):
                table.put((*index, j), _left_out(mine, width, coupling, baseline))
    return table.dataset(baseline)


class CandidateTable(Generic[Problem]):
    """Leave-one-out errors of a problem's candidates, to be filled; NaN where nothing is put."""

    def __init__(self, problem: Problem, grid: Grid) -> None:
        self.problem, self.grid, priors = problem, grid, problem.priors
        self.readout_name = grid.readout_name
        self.temperatures = grid.temperatures or [priors.temperature]
        if grid.readouts is None:
            self.readout_name = "richness" if priors.richness is not None else "readout_precision"
        self.readouts = grid.readouts or [getattr(priors, self.readout_name)]
        self.axes = self.temperatures, self.readouts, grid.widths, grid.couplings
        self.numbers: dict[str, np.ndarray] = {}
        for name in QUANTITIES:
            self.add(name)

    def add(self, name: str) -> np.ndarray:
        """A further quantity, NaN as yet."""
        self.numbers[name] = np.full([len(axis) for axis in self.axes], np.nan)
        return self.numbers[name]

    def points(self) -> Iterator[tuple[tuple[int, ...], Problem, float]]:
        """Places, the problem under the temperature and readouts' prior there, and the width."""
        for (a, T), (b, readout) in product(enumerate(self.temperatures), enumerate(self.readouts)):
            mine = _under(self.problem, T, self.readout_name, readout)
            for c, width in enumerate(self.grid.widths):
                yield (a, b, c), mine, width

    def ascending(self) -> list[tuple[int, float]]:
        """Places and couplings, ascending: the branch of saddle points is then followed once."""
        couplings = self.grid.couplings
        return [(int(j), couplings[j]) for j in np.argsort(couplings, kind="stable")]

    def put(self, place: tuple[int, ...], left_out: LeaveOneOut) -> None:
        """Enter the averages of a candidate."""
        averages = {
            "test_error": left_out.test_error.mean(),
            "standard_error": _standard_error(left_out.test_error),
            "squared_residual": (left_out.residual**2).mean(),
            "total_variance": left_out.total_variance.mean(),
        }
        for name, value in averages.items():
            self.numbers[name][place] = value

    def dataset(self, baseline: str | None = None) -> Dataset:
        """The table."""
        import xarray as xr

        dims = ("temperature", self.readout_name, "width", "coupling")
        return xr.Dataset(
            {name: (dims, numbers) for name, numbers in self.numbers.items()},
            coords=dict(zip(dims, self.axes, strict=True)),
            attrs={"baseline": baseline or "none", "examples": self.problem.target.n_examples},
        )


def choose(
    problem: Problem,
    grid: Grid,
    baseline: str | None = None,
    known: tuple[Dataset, Mapping[tuple[int, ...], Problem]] | None = None,
) -> Choice[Problem]:
    """The candidate of least leave-one-out error; arguments and errors of `candidates`.

    ``known``: the table and the problems by their places in it, where they are known already.

    Raises
    ------
    ConvergenceError
        If no candidate has a physical saddle point.
    """
    table = candidates(problem, grid, baseline) if known is None else known[0]
    errors = table.test_error.values
    if np.isnan(errors).all():
        raise ConvergenceError("no candidate has a physical saddle point; try higher temperatures")
    best = np.unravel_index(np.nanargmin(errors), errors.shape)
    at = {str(dim): i for dim, i in zip(table.test_error.dims, best, strict=True)}
    chosen = table.isel(at)
    name = next(str(dim) for dim in table.dims if dim in ("readout_precision", "richness"))
    width, coupling, temperature, readout = (
        float(chosen[dim]) for dim in ("width", "coupling", "temperature", name)
    )
    if known is None:
        mine = _under(problem, temperature, name, readout)
    else:
        mine = known[1][tuple(int(i) for i in best[:-1])]
    return Choice(
        width,
        coupling,
        temperature,
        mine.priors.at_width(width).readout_precision,
        float(chosen.test_error),
        float(chosen.standard_error),
        mine,
        table,
    )


def _under(problem: Problem, temperature: float, name: str, readout: float) -> Problem:
    if name == "richness":
        return problem.with_priors(temperature=temperature, richness=readout)
    return problem.with_priors(temperature=temperature, readout_precision=readout)


def _left_out(
    problem: PreparedTransfer, width: float, coupling: float, baseline: str | None
) -> LeaveOneOut:
    if baseline is None:
        return problem.leave_one_out(width, coupling)
    alone = problem.alone(0.0 if baseline == "scratch" else coupling)
    return alone.solve(width=width).leave_one_out()


def _standard_error(errors: np.ndarray) -> float:
    n = len(errors)
    return float(errors.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan


def _positive(name: str, values: Sequence[float]) -> list[float]:
    return _listed(name, values, check_positive)


def _listed(
    name: str, values: Sequence[float], check: Callable[[str, object], float]
) -> list[float]:
    checked = [check(name, value) for value in values]
    if not checked:
        raise ValueError(f"{name} must name at least one candidate, got none")
    return checked
