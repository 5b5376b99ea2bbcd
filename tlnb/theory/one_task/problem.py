"""One task, prepared: what widths, temperatures and readout precisions share is done once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb.chunking import chunks
from tlnb.data.task import Task, check_task
from tlnb.priors import OneTaskOptions, Priors, check_options
from tlnb.theory.factors import check_resolution
from tlnb.theory.one_task.kernel import NetworkKernel
from tlnb.theory.one_task.saddle import LeastAction, least_action
from tlnb.theory.one_task.solution import ProportionalSolution
from tlnb.validation import check_width

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
# Averages over the test points that the sweeps report.
AVERAGED = ("squared_bias", "total_variance", "test_error", "classification_error")
SCALARS = ("Q", "train_error", "log_evidence", "residual")


class OneTaskProblem:
    """A task and its priors, with the kernel's factorisation, made when first needed.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    **priors
        activation, temperature, weight_precision, readout_precision or richness: see
        `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.

    Examples
    --------
    >>> from tlnb import Task
    >>> problem = OneTaskProblem(Task([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0]), temperature=0.1)
    >>> round(problem.solve(width=20).Q, 3), round(problem.solve(width=200).Q, 3)
    (1.0, 1.0)
    """

    def __init__(self, task: Task, **priors: Unpack[OneTaskOptions]) -> None:
        check_options(type(self).__name__, priors, OneTaskOptions)
        self._set(check_task("task", task), Priors(**priors))

    @classmethod
    def of_kernel(cls, task: Task, priors: Priors, kernel: NetworkKernel | None) -> OneTaskProblem:
        """A problem whose kernel, and with it activation and weight precision, may be known."""
        problem = cls.__new__(cls)
        problem._set(task, priors, kernel)
        return problem

    def _set(self, task: Task, priors: Priors, kernel: NetworkKernel | None = None) -> None:
        self.task, self.priors = task, priors
        self.kernel = kernel or NetworkKernel(
            task.X, priors.activation, 1 / priors.weight_precision
        )
        self._projected: Array | None = None
        self._saddles: dict[float, LeastAction] = {}

    def with_priors(self, **changes: Unpack[OneTaskOptions]) -> OneTaskProblem:
        """The same task under other priors; the kernel is kept unless it depends on them."""
        check_options(f"{type(self).__name__}.with_priors", changes, OneTaskOptions)
        priors = self.priors.replace(**changes)
        same = not {"activation", "weight_precision"} & set(changes)
        other = self.of_kernel(self.task, priors, self.kernel if same else None)
        other._projected = self._projected if same else None
        return other

    def projections(self) -> Array:
        """The labels in the coordinates of the kernel's factor, of shape (P,)."""
        if self._projected is None:
            self._projected = self.kernel.factor.projections(self.task.y)
        return self._projected

    def saddle(self, width: float) -> LeastAction:
        """The saddle point of least action, labels in units of the readouts' prior."""
        if width not in self._saddles:
            T, precision = self._scalars(width)
            projections = self.projections()
            check_resolution(self.kernel.eigenvalues, T, precision)
            self._saddles[width] = least_action(
                self.kernel.eigenvalues,
                precision * projections**2,
                width=width,
                temperature=T * precision,
            )
        return self._saddles[width]

    def _scalars(self, width: float) -> tuple[float, float]:
        priors = self.priors.at_width(width)
        if not 0 < priors.temperature * priors.readout_precision < np.inf:
            raise ValueError(
                "readout_precision must be large enough for its product with the temperature to "
                f"be a number, got {priors.readout_precision} at temperature {priors.temperature}"
            )
        return priors.temperature, priors.readout_precision

    def solve(self, *, width: float) -> ProportionalSolution:
        """The saddle point at ``width`` N1 ≥ 1, infinity included; see `solve`."""
        width = check_width(width)
        saddle = self.saddle(width)
        T, precision = self._scalars(width)
        return ProportionalSolution.at(
            saddle,
            self.kernel,
            np.sqrt(precision) * self.projections(),
            width=width,
            temperature=T,
            readout_precision=precision,
        )

    def sweep(self, test: Task, *, widths: Sequence[float]) -> Dataset:
        """Theory over widths; see `width_sweep`."""
        import xarray as xr

        widths = [check_width(width, "widths") for width in widths]
        check_task("test", test, self.task.n_features)
        return xr.Dataset(
            {name: ("width", values) for name, values in self.columns(test, widths).items()},
            coords={"width": widths},
            attrs={
                "temperature": self.priors.temperature,
                "activation": self.priors.activation.name,
            },
        )

    def columns(self, test: Task, widths: Sequence[float]) -> dict[str, Array]:
        """What `sweep` returns, as arrays of shape (len(widths),), for checked arguments."""
        solutions = [self.solve(width=width) for width in widths]
        table = {name: np.array([getattr(s, name) for s in solutions]) for name in SCALARS}
        table |= {name: np.zeros(len(widths)) for name in AVERAGED}
        for part in chunks(test.n_examples, 3 * self.task.n_examples):
            kernel = self.kernel.against(test.X[part])
            outcomes = [solution.outcome(kernel, test.y[part]) for solution in solutions]
            for name in AVERAGED:
                sums = np.array([getattr(outcome, name).sum() for outcome in outcomes])
                table[name] += sums / test.n_examples
        return table


def solve(task: Task, *, width: float, **priors: Unpack[OneTaskOptions]) -> ProportionalSolution:
    """The saddle point of least action of one task.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    width : float
        N1 ≥ 1; ``numpy.inf`` is the Gaussian-process limit, Q = 1.
    **priors
        activation, temperature, weight_precision, readout_precision or richness: see
        `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed, and kernels singular at this temperature.
    ConvergenceError
        If the residual of the stationarity equation is above 1e-9.

    Warns
    -----
    CompetingSaddlesWarning
        If the action has further minima.

    Examples
    --------
    >>> from tlnb import Task
    >>> solution = solve(Task([[1.0, 0.0], [0.0, 1.0]], [3.0, -3.0]), width=20, temperature=0.1)
    >>> solution.Q > 1, solution.converged
    (True, True)
    """
    check_options("solve", priors, OneTaskOptions)
    return OneTaskProblem(task, **priors).solve(width=width)


def width_sweep(
    task: Task, test: Task, *, widths: Sequence[float], **priors: Unpack[OneTaskOptions]
) -> Dataset:
    """Theory over widths from one eigendecomposition.

    Parameters are those of `solve`; ``test`` holds the inputs and labels that errors are averaged
    over. With ``richness`` the readout precision grows with the width. Returns a Dataset over
    ``width`` with Q, train_error, squared_bias, total_variance, test_error, classification_error,
    log_evidence and residual. Raises and warns as `solve` does.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task, width_sweep
    >>> X = np.random.default_rng(0).standard_normal((60, 5))
    >>> train, test = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> curve = width_sweep(train, test, widths=[10, 100, np.inf], temperature=0.1)
    >>> curve.test_error.values.round(2)
    array([0.13, 0.13, 0.13])
    """
    check_options("width_sweep", priors, OneTaskOptions)
    return OneTaskProblem(task, **priors).sweep(test, widths=widths)
