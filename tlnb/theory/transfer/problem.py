"""The interface behind everything about transfer: solve, sweep and choose for two coupled tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, Unpack

import numpy as np

from tlnb._renamed import gone_attributes
from tlnb.data.task import Task
from tlnb.priors import PriorOptions, Priors
from tlnb.theory.one_task import ProportionalSolution
from tlnb.theory.transfer.candidates import CandidateLists, Choice, Grid, candidates, choose
from tlnb.theory.transfer.choice import CRITERIA, check_coupling
from tlnb.theory.transfer.curve import transfer_curve
from tlnb.theory.transfer.predictor import TransferSolution
from tlnb.theory.transfer.prepared import PreparedTransfer
from tlnb.validation import check_width

if TYPE_CHECKING:
    from xarray import Dataset


@gone_attributes
class TransferProblem(PreparedTransfer):
    """A source, a target and their priors: the interface behind everything about transfer.

    The source's kernel is decomposed once, when first needed, for all widths, couplings,
    temperatures, readout precisions and targets; no other factorisation of its size is made.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    priors : Priors, optional
        Or, as keywords:
    **options
        activation, temperature, weight_precision, readout_precision or richness, the same with
        ``source_`` in front, coupling_scheme: see `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> problem = TransferProblem(source, target, temperature=0.1)
    >>> solution = problem.solve(width=20, coupling=1.0)
    >>> colder = problem.with_priors(temperature=0.01)  # shares the decomposition
    >>> 0 < solution.Q_st < colder.solve(width=20, coupling=1.0).Q_st
    True
    """

    def __init__(
        self,
        source: Task,
        target: Task,
        priors: Priors | None = None,
        **options: Unpack[PriorOptions],
    ) -> None:
        name = type(self).__name__
        if priors is not None and options:
            raise TypeError(f"{name}() takes priors or keywords for them, got both")
        super().__init__(source, target, Priors.of(name, options) if priors is None else priors)

    def solve(self, *, width: float, coupling: float | str) -> TransferSolution:
        """The saddle point at one width and coupling; see `solve`."""
        width, coupling = check_width(width), check_coupling(coupling)
        if isinstance(coupling, str):
            coupling = CRITERIA[coupling](self, width)
        if coupling == 0 or np.isinf(width):
            return self._solution(width, coupling, self.alone(coupling).solve(width=width))
        saddle, blocks = self.saddle(width, coupling), self.blocks(width, coupling)
        action, log_evidence = self.evidence(saddle, blocks)
        return TransferSolution(
            width,
            coupling,
            Q_s=blocks.Q_s,
            Q_t=saddle.Q_t,
            Q_st=saddle.Q_st,
            Q_tt=saddle.Q_tt,
            action=action,
            log_evidence=log_evidence,
            train_error=saddle.train_error / self.priors.at_width(width).readout_precision,
            residual=saddle.residual,
            iterations=saddle.iterations,
            converged=saddle.converged,
            _kernels=self.kernels,
            _predictor=self.predictor(saddle, blocks, coupling),
        )

    def _solution(
        self, width: float, coupling: float, alone: ProportionalSolution
    ) -> TransferSolution:
        """The target alone as a solution with a source that it does not feel."""
        shared = ("action", "log_evidence", "train_error", "residual", "iterations", "converged")
        return TransferSolution(
            width,
            coupling,
            Q_s=self.source_order_parameter(width),
            Q_t=alone.Q,
            Q_st=0.0,
            Q_tt=0.0,
            **{name: getattr(alone, name) for name in shared},
            _kernels=self.kernels,
            _predictor=alone,
        )

    def sweep(
        self,
        test: Task,
        *,
        widths: Sequence[float],
        couplings: Sequence[float],
        baseline: str | None = None,
    ) -> Dataset:
        """The transfer curve over widths and couplings; see `coupling_sweep`."""
        return transfer_curve(self, test, widths, couplings, baseline)

    def candidates(
        self, *, baseline: str | None = None, **lists: Unpack[CandidateLists]
    ) -> Dataset:
        """Leave-one-out errors over couplings and priors; see `tlnb.theory.transfer.candidates`."""
        return candidates(self, Grid.of(**lists), baseline)

    def choose(
        self, *, baseline: str | None = None, **lists: Unpack[CandidateLists]
    ) -> Choice[Self]:
        """The candidate of least leave-one-out error; see `tlnb.theory.transfer.candidates`."""
        return choose(self, Grid.of(**lists), baseline)
