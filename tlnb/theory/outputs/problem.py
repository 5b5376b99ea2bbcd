"""One task with several outputs, prepared: what widths and precisions share is done once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb.data.outputs import MultiOutputTask, check_outputs_task
from tlnb.data.task import Task
from tlnb.priors import OneTaskOptions, Priors, check_options
from tlnb.theory.one_task import saddle as of_one_output
from tlnb.theory.one_task.kernel import NetworkKernel
from tlnb.theory.outputs.action import action_in_basis
from tlnb.theory.outputs.saddle import LeastAction, least_action
from tlnb.theory.outputs.solution import OutputsSolution
from tlnb.validation import check_choice, check_width

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
OVERLAPS = ("matrix", "diagonal", "shared")
AVERAGED = ("squared_bias", "total_variance", "test_error")


class OutputsProblem:
    """A task with several outputs and its priors, with the kernel's factorisation.

    Parameters
    ----------
    task : MultiOutputTask or Task
        Inputs (P, N0) and labels (P, C).
    overlap : {"matrix", "diagonal", "shared"}
        What Q may be: any positive definite matrix; a diagonal one, as if each output had a network
        of its own (one against rest); one number for all outputs.
    **priors
        activation, temperature, weight_precision, readout_precision or richness: see
        `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.

    Examples
    --------
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.theory.outputs import OutputsProblem
    >>> task = MultiOutputTask([[1.0, 0.0], [0.0, 1.0]], [[1.0, -1.0], [-1.0, 1.0]])
    >>> OutputsProblem(task, temperature=0.1).solve(width=20).Q.round(3).tolist()
    [[1.079, -0.155], [-0.155, 1.079]]
    """

    def __init__(
        self,
        task: MultiOutputTask | Task,
        *,
        overlap: str = "matrix",
        **priors: Unpack[OneTaskOptions],
    ) -> None:
        check_options(type(self).__name__, priors, OneTaskOptions)
        self.task, self.priors = check_outputs_task("task", task), Priors(**priors)
        self.overlap = check_choice("overlap", overlap, OVERLAPS)
        variance = 1 / self.priors.weight_precision
        self.kernel = NetworkKernel(self.task.X, self.priors.activation, variance)
        self._projected: Array | None = None

    def projections(self) -> Array:
        """The labels in the coordinates of the kernel's factor, of shape (P, C)."""
        if self._projected is None:
            self._projected = self.kernel.factor.projections(self.task.y)
        return self._projected

    def solve(self, *, width: float) -> OutputsSolution:
        """The saddle point at ``width`` N1 ≥ 1, infinity included; see `solve`."""
        width = check_width(width)
        priors = self.priors.at_width(width)
        T, precision = priors.temperature, priors.readout_precision
        factor = self.kernel.factor
        factor.check_resolution(T, precision)
        z = np.sqrt(precision) * self.projections()
        given = {"width": width, "temperature": T * precision}
        find = least_action if self.overlap == "matrix" else self._restricted
        return OutputsSolution.at(
            find(factor.eigenvalues, z, **given),
            self.kernel,
            z,
            width=width,
            temperature=T,
            readout_precision=precision,
            overlap=self.overlap,
        )

    def _restricted(self, e: Array, z: Array, *, width: float, temperature: float) -> LeastAction:
        """The least action over diagonal matrices, or over multiples of the identity."""
        given, C = {"width": width, "temperature": temperature}, z.shape[1]
        squared = (z**2).T if self.overlap == "diagonal" else (z**2).mean(1)[None]
        each = [of_one_output.least_action(e, column, **given) for column in squared]
        q = np.broadcast_to([one.Q for one in each], C).copy()
        residual = max(one.residual for one in each)
        steps = sum(one.iterations for one in each)
        return LeastAction(q, np.eye(C), action_in_basis(q, e, z, **given), residual, steps)

    def sweep(self, test: MultiOutputTask | Task, *, widths: Sequence[float]) -> Dataset:
        """Theory over widths; see `width_sweep`."""
        import xarray as xr

        widths = [check_width(width, "widths") for width in widths]
        test = check_outputs_task("test", test, self.task.n_features)
        columns: dict[str, tuple[tuple[str, ...], list[Any]]] = {
            name: (("width",), []) for name in ("train_error", *AVERAGED, "argmax_error")
        }
        columns |= {name: (("width",), []) for name in ("log_evidence", "residual")}
        columns["Q"] = ("width", "output", "other_output"), []
        best = test.y.argmax(1)
        for width in widths:
            solution = self.solve(width=width)
            outcome = solution.predict(test.X, test.y)
            for name in ("Q", "train_error", "log_evidence", "residual"):
                columns[name][1].append(getattr(solution, name))
            for name in AVERAGED:
                columns[name][1].append(getattr(outcome, name).mean())
            columns["argmax_error"][1].append((outcome.mean.argmax(1) != best).mean())
        attributes = {"temperature": self.priors.temperature, "overlap": self.overlap}
        attributes["activation"] = self.kernel.activation.name
        return xr.Dataset(
            {name: (dims, np.array(values)) for name, (dims, values) in columns.items()},
            coords={"width": widths},
            attrs=attributes,
        )


def solve(
    task: MultiOutputTask | Task,
    *,
    width: float,
    overlap: str = "matrix",
    **priors: Unpack[OneTaskOptions],
) -> OutputsSolution:
    """The saddle point of least action of one task with several outputs.

    Parameters
    ----------
    task : MultiOutputTask or Task
        Inputs (P, N0) and labels (P, C).
    width : float
        N1 ≥ 1; ``numpy.inf`` is the Gaussian-process limit, Q = 1.
    overlap : {"matrix", "diagonal", "shared"}
        What Q may be; see `OutputsProblem`. Diagonal and shared cost no more than one output, and
        are what remains for very many outputs.
    **priors
        activation, temperature, weight_precision, readout_precision or richness: see
        `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed, and kernels singular at this temperature.
    ConvergenceError
        If the residual of the stationarity equations is above 1e-9.

    Warns
    -----
    CompetingSaddlesWarning
        If the search met further minima.

    Examples
    --------
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.theory import outputs
    >>> task = MultiOutputTask([[1.0, 0.0], [0.0, 1.0]], [[3.0, 3.0], [-3.0, -3.0]])
    >>> solution = outputs.solve(task, width=20, temperature=0.1)
    >>> bool(solution.Q[0, 1] > 0), solution.converged
    (True, True)
    """
    check_options("solve", priors, OneTaskOptions)
    return OutputsProblem(task, overlap=overlap, **priors).solve(width=width)


def width_sweep(
    task: MultiOutputTask | Task,
    test: MultiOutputTask | Task,
    *,
    widths: Sequence[float],
    overlap: str = "matrix",
    **priors: Unpack[OneTaskOptions],
) -> Dataset:
    """Theory over widths from one eigendecomposition.

    Parameters are those of `solve`; ``test`` holds inputs and labels that errors are averaged over,
    and over the outputs. Returns a Dataset over ``width`` with Q (width, output, other_output),
    train_error, squared_bias, total_variance, test_error, argmax_error (how often the largest mean
    output is not that of the label), log_evidence and residual. Raises and warns as `solve` does.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.theory import outputs
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> task, test = (MultiOutputTask(X[p], X[p, :2]) for p in np.split(np.arange(30), [20]))
    >>> curve = outputs.width_sweep(task, test, widths=[20, np.inf], temperature=0.1)
    >>> curve.Q.shape, bool(np.allclose(curve.Q[1], np.eye(2)))
    ((2, 2, 2), True)
    """
    check_options("width_sweep", priors, OneTaskOptions)
    return OutputsProblem(task, overlap=overlap, **priors).sweep(test, widths=widths)
