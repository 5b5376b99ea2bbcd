"""The transfer curve of a large source: averages over test points, and the error of each number.

Two things are uncertain. Q_s has a standard error from random vectors: the saddle point and the
predictor are solved again at Q_s plus that error, with the blocks moved along their derivative.
And m and kk may lack what residuals and interpolation left: they are solved again with the bound
of that added. An error is the sum of the two changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.kernels import InnerProducts, dual_diagonal
from tlnb.priors import Priors, WeightCovariances
from tlnb.theory.large.coupled import Interpolant, Known
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.prediction import Prediction
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.curve import AVERAGED, SADDLE
from tlnb.theory.transfer.kernels import TestKernels
from tlnb.theory.transfer.predictor import CoupledPredictor, fitted
from tlnb.theory.transfer.saddle import Overlaps, frozen, newton

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
AVERAGES = (*AVERAGED, "source_variance")


class Problem(Protocol):
    """What is asked of `tlnb.theory.large.problem.LargeTransferProblem`."""

    target: Task
    priors: Priors

    def prepare(self, widths: Sequence[float], X_test: Array | None = None) -> None:
        """Solve for these finite widths at once, test inputs (n, N0) included."""

    def interpolant(self, width: float) -> Interpolant:
        """What the source knows of target and test inputs, at every coupling."""
        ...

    def covariances(self, coupling: float) -> WeightCovariances:
        """The weight covariances at this coupling."""
        ...

    def blocks(self, width: float, coupling: float) -> KernelBlocks:
        """The blocks of the Franz-Parisi action."""
        ...

    def saddle(self, width: float, coupling: float) -> Overlaps:
        """The physical saddle point."""
        ...

    def evidence(self, saddle: Overlaps, blocks: KernelBlocks) -> tuple[float, float]:
        """The action at a saddle point and the average log evidence."""
        ...


class LargePoints:
    """Averages over test points with their errors; solutions are made when first asked for."""

    def __init__(self, problem: Problem, test: Task, widths: Sequence[float]) -> None:
        check_task("test", test, problem.target.n_features)
        self.problem, self.test, self.widths = problem, test, list(widths)
        self.products = InnerProducts.between(problem.target.X, test.X)
        self.ready = False

    def at(self, coupling: float, widths: Sequence[float]) -> list[dict[str, float]]:
        """What a row of the sweep holds, for coupled networks of each width."""
        if not self.ready:
            self.problem.prepare(self.widths, self.test.X)
            self.ready = True
        kernels = self._kernels(coupling)
        return [self._with_errors(width, coupling, kernels) for width in widths]

    def _kernels(self, coupling: float) -> TestKernels:
        c, activation = self.problem.covariances(coupling), self.problem.priors.activation
        norms = self.products.right
        return TestKernels(
            np.empty((0, len(norms))),
            self.products.dual(activation, c.c_t, c.c_t, c.c_t),
            self.products.dual(activation, c.c_t, c.c_tt, c.c_t),
            dual_diagonal(activation, norms, c.c_t, c.c_t),
            dual_diagonal(activation, norms, c.c_t, c.c_tt),
        )

    def _with_errors(self, width: float, coupling: float, kernels: TestKernels) -> dict[str, float]:
        problem = self.problem
        saddle, blocks = problem.saddle(width, coupling), problem.blocks(width, coupling)
        interpolant = problem.interpolant(width)
        value, slope = interpolant.at(problem.covariances(coupling))
        row = self._row(saddle, blocks, value, kernels)
        relative = interpolant.saddle.error / blocks.Q_s
        moved = value.plus(slope, relative), blocks.Q_s * (1 + relative)
        bounded = _at_most(value, interpolant.errors, interpolant.largest), blocks.Q_s
        errors = dict.fromkeys(row, 0.0)
        for known, Q_s in (moved, bounded):
            other = blocks._replace(m=known.m, u=known.u, Q_s=Q_s)
            near = frozen(other) if np.isinf(coupling) else newton(saddle.D, saddle.Q_tt, other)
            if not near.converged:
                raise ConvergenceError(
                    f"no physical saddle point within the source's error at width={width:g}, "
                    f"coupling={coupling:g}; take a smaller tolerance"
                )
            changed = self._row(near, other, known, kernels)
            for name in row:
                errors[name] += abs(changed[name] - row[name])
        del errors["residual"]
        return row | {f"{name}_error": error for name, error in errors.items()}

    def _row(
        self, saddle: Overlaps, blocks: KernelBlocks, known: Known, kernels: TestKernels
    ) -> dict[str, float]:
        precision = self.problem.priors.at_width(blocks.width).readout_precision
        row = {name: float(getattr(saddle, name)) for name in SADDLE}
        row["train_error"] = saddle.train_error / precision
        row["log_evidence"] = self.problem.evidence(saddle, blocks)[1]
        factor, Wr = fitted(saddle, blocks)
        predictor = KnownPredictor(
            saddle, precision, blocks.temperature, factor, blocks.K_tt, Wr, known
        )
        outcome = predictor(kernels, self.test.y)
        return row | {name: float(getattr(outcome, name).mean()) for name in AVERAGES}


def _at_most(value: Known, errors: Array, largest: float) -> Known:
    """The blocks with the bounds of what they lack."""
    m = value.m.copy()
    m.flat[:: len(m) + 1] += errors[0]
    u, ku = (1 + error / largest for error in errors)
    return value._replace(m=m, kk=value.kk + errors[1], u=u * value.u, ku=ku * value.ku)


@dataclass(frozen=True, eq=False)
class KnownPredictor(CoupledPredictor):
    """A predictor at test inputs whose blocks with the source are known."""

    known: Known

    def _known(self, W: Array) -> Array:
        return np.einsum("ij,ij->j", W, self.known.m @ W)

    def __call__(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction at the test inputs that `Known` is for."""
        known = self.known

        def unknown(a: Array) -> Array:
            cross = np.einsum("nk,kn->n", known.known, a)
            return known.kk - 2 * cross + np.einsum("kn,kn->n", a, known.m @ a)

        return self._prediction(test, known.ku, unknown, y)


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
