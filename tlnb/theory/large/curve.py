"""The transfer curve of a large source: averages over test points, and the error of each number.

Where the errors come from stands in `tlnb.theory.large.known`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.theory.large import known
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.known import KnownPredictor, OwnKernels, State, States
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.curve import AVERAGED, SADDLE
from tlnb.theory.transfer.kernels import TestKernels
from tlnb.theory.transfer.saddle import Overlaps

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
AVERAGES = (*AVERAGED, "source_variance")


class Problem(known.Problem, Protocol):
    """What is asked of `tlnb.theory.large.problem.LargeTransferProblem`."""

    def prepare(self, widths: Sequence[float], X_test: Array | None = None) -> None:
        """Solve for these finite widths at once, test inputs (n, N0) included."""

    def evidence(self, saddle: Overlaps, blocks: KernelBlocks) -> tuple[float, float]:
        """The action at a saddle point and the average log evidence."""
        ...


class LargePoints:
    """Averages over test points with their errors; solutions are made when first asked for."""

    def __init__(self, problem: Problem, test: Task, widths: Sequence[float]) -> None:
        check_task("test", test, problem.target.n_features)
        self.problem, self.test, self.widths = problem, test, list(widths)
        self.own = OwnKernels(problem, test.X)
        self.ready = False

    def at(self, coupling: float, widths: Sequence[float]) -> list[dict[str, float]]:
        """What a row of the sweep holds, for coupled networks of each width."""
        if not self.ready:
            self.problem.prepare(self.widths, self.test.X)
            self.ready = True
        kernels = self.own.at(coupling)
        return [self._with_errors(width, coupling, kernels) for width in widths]

    def _with_errors(self, width: float, coupling: float, kernels: TestKernels) -> dict[str, float]:
        found, *changed = States.of(self.problem, width, coupling)
        row = self._row(found, kernels)
        errors = dict.fromkeys(row, 0.0)
        for state in changed:
            other = self._row(state, kernels)
            for name in row:
                errors[name] += abs(other[name] - row[name])
        del errors["residual"]
        return row | {f"{name}_error": error for name, error in errors.items()}

    def _row(self, state: State, kernels: TestKernels) -> dict[str, float]:
        saddle, blocks, _ = state
        precision = self.problem.priors.at_width(blocks.width).readout_precision
        row = {name: float(getattr(saddle, name)) for name in SADDLE}
        row["train_error"] = saddle.train_error / precision
        row["log_evidence"] = self.problem.evidence(saddle, blocks)[1]
        outcome = KnownPredictor.at(state, precision)(kernels, self.test.y)
        return row | {name: float(getattr(outcome, name).mean()) for name in AVERAGES}


def with_errors(curve: Dataset, of_Q_s: Sequence[float], options: LargeOptions) -> Dataset:
    """The curve with all its errors, refused where one is above the tolerance."""
    curve["Q_s_error"] = "width", np.array(of_Q_s)
    curve["Q_s_error"] = curve.Q_s_error.broadcast_like(curve.Q_s)
    for name in [str(name) for name in curve.data_vars]:
        if name != "residual" and not name.endswith("_error"):
            _add(curve, name)
    for name in ("train_error", "test_error", "classification_error"):
        _add(curve, name)
    excess = curve.test_error_error - options.tolerance * (curve.test_error + curve.temperature)
    if float(excess.max()) > 0:
        at = excess.argmax(...)
        worst = curve.isel(at)
        raise ConvergenceError(
            f"the test error {float(worst.test_error):.4g} at width={float(worst.width):g}, "
            f"coupling={float(worst.coupling):g} is known to {float(worst.test_error_error):.1e} "
            f"only, allowed {options.tolerance:g} of it; take a smaller tolerance for the solver, "
            "or more random vectors"
        )
    return curve


def _add(curve: Dataset, name: str) -> None:
    if f"{name}_error" not in curve:
        curve[f"{name}_error"] = curve[name] * 0.0
