"""The transfer curve: theory over widths and couplings, each kernel and factor made once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.kernels import InnerProducts
from tlnb.theory.one_task import AVERAGED
from tlnb.theory.transfer.direct import DirectSource
from tlnb.theory.transfer.kernels import CACHE
from tlnb.theory.transfer.predictor import CoupledPredictor
from tlnb.theory.transfer.prepared import PreparedTransfer
from tlnb.validation import check_choice, check_nonnegative, check_width

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
BASELINES = ("scratch", "matched-prior")
SADDLE = ("Q_t", "Q_st", "Q_tt", "residual")
QUANTITIES = (
    "Q_s",
    "Q_t",
    "Q_st",
    "Q_tt",
    "train_error",
    *AVERAGED,
    "source_variance",
    "log_evidence",
    "residual",
)


def transfer_curve(
    problem: PreparedTransfer,
    test: Task,
    widths: Sequence[float],
    couplings: Sequence[float],
    baseline: str | None,
    points: Points | None = None,
) -> Dataset:
    """`tlnb.theory.transfer.coupling_sweep` for tasks that are prepared."""
    import xarray as xr

    widths = [check_width(width, "widths") for width in widths]
    couplings = [check_nonnegative("couplings", g, allow_infinite=True) for g in couplings]
    if baseline is not None:
        check_choice("baseline", baseline, BASELINES)
    check_task("test", test, problem.target.n_features)
    table = {name: np.zeros((len(widths), len(couplings))) for name in QUANTITIES}

    points = points or _TestPoints(problem, test, len(couplings))
    # In ascending order the branch of saddle points is followed once.
    for j in np.argsort(couplings, kind="stable"):
        coupling = couplings[j]
        together = baseline is None and coupling > 0
        coupled = [i for i, width in enumerate(widths) if together and np.isfinite(width)]
        alone = [i for i in range(len(widths)) if i not in coupled]
        if alone:
            opponent = problem.alone(0.0 if baseline == "scratch" else coupling)
            columns = opponent.columns(test, [widths[i] for i in alone])
            for name, values in columns.items():
                table["Q_t" if name == "Q" else name][alone, j] = values
        if coupled:
            rows = points.at(coupling, [widths[i] for i in coupled])
            for i, row in zip(coupled, rows, strict=True):
                for name, value in row.items():
                    table.setdefault(name, np.zeros_like(table["Q_s"]))[i, j] = value
    table["Q_s"] += np.array([problem.source_order_parameter(width) for width in widths])[:, None]
    priors = problem.priors
    return xr.Dataset(
        {name: (("width", "coupling"), values) for name, values in table.items()},
        coords={"width": widths, "coupling": couplings},
        attrs={
            "activation": priors.activation.name,
            "temperature": priors.temperature,
            "coupling_scheme": priors.coupling_scheme,
            "baseline": baseline or "none",
        },
    )


class Points(Protocol):
    """Averages over test points."""

    def at(self, coupling: float, widths: Sequence[float]) -> list[dict[str, float]]:
        """What a row of the sweep holds, for coupled networks of each width."""
        ...


class _TestPoints:
    """Averages over the test points; inner products are kept where they are few.

    Networks of one width are predicted directly where that pays for a factorisation of its own.
    """

    def __init__(self, problem: PreparedTransfer, test: Task, n_couplings: int) -> None:
        self.problem, self.test = problem, test
        self.many = test.n_examples * n_couplings >= problem.source.n_examples
        self.sources: dict[float, DirectSource] = {}
        n_train = problem.source.n_examples + problem.target.n_examples
        self.parts = problem.kernels.parts(test.n_examples)
        self.keep = test.n_examples * n_train <= CACHE
        self.kept: dict[int, tuple[InnerProducts, InnerProducts]] = {}

    def at(self, coupling: float, widths: Sequence[float]) -> list[dict[str, float]]:
        """What a row of the sweep holds, for coupled networks of each width."""
        problem, rows = self.problem, []
        predictors: list[CoupledPredictor] = []
        direct = self.many and len(widths) == 1
        for width in widths:
            saddle, blocks = problem.saddle(width, coupling), problem.blocks(width, coupling)
            row = {name: getattr(saddle, name) for name in SADDLE}
            precision = problem.priors.at_width(width).readout_precision
            row["train_error"] = saddle.train_error / precision
            row["log_evidence"] = problem.evidence(saddle, blocks)[1]
            rows.append(row | dict.fromkeys((*AVERAGED, "source_variance"), 0.0))
            if direct:
                source = self.sources.get(width) or DirectSource.of(problem, width)
                self.sources = {width: source}
                predictors.append(source.predictor(problem, saddle, blocks, coupling))
            else:
                predictors.append(problem.predictor(saddle, blocks, coupling))
        for index, part in enumerate(self.parts):
            products = self.kept.get(index) or problem.kernels.products(self.test.X[part])
            if self.keep:
                self.kept[index] = products
            kernels = problem.kernels.test(products, coupling, rotated=not direct)
            for row, predictor in zip(rows, predictors, strict=True):
                outcome = predictor(kernels, self.test.y[part])
                for name in (*AVERAGED, "source_variance"):
                    row[name] += float(getattr(outcome, name).sum()) / self.test.n_examples
        return rows
