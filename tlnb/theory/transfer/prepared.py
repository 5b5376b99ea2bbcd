"""Two coupled tasks, prepared: what widths, couplings and priors share is done once.

From a width and a coupling to the blocks of the action, its saddle point, the evidence and the
predictor there: what `tlnb.theory.transfer.problem` solves, sweeps and chooses with.
"""

from __future__ import annotations

from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb._renamed import renamed
from tlnb.data.task import Task, check_task
from tlnb.priors import PriorOptions, Priors, WeightCovariances, check_options
from tlnb.theory.leave_one_out import LeaveOneOut
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.one_task.kernel import NetworkKernel
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.branch import Branch
from tlnb.theory.transfer.kernels import CACHE, CoupledKernels
from tlnb.theory.transfer.predictor import CoupledPredictor, Predictor
from tlnb.theory.transfer.saddle import Overlaps, frozen

Array = NDArray[np.float64]


class PreparedTransfer:
    """A source, a target and their priors, with all that is worth keeping between couplings.

    The source's kernel is decomposed once, when first needed, for all widths, couplings,
    temperatures, readout precisions and targets; no other factorisation of its size is made.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    priors : Priors

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    """

    def __init__(self, source: Task, target: Task, priors: Priors) -> None:
        source = check_task("source", source)
        self._set_source(source, priors, self._new_kernel(source, priors))
        self._set_target(target, None)

    def _new_kernel(self, source: Task, priors: Priors) -> NetworkKernel:
        return NetworkKernel(source.X, priors.activation, 1 / priors.source_weight_precision)

    def _set_source(self, source: Task, priors: Priors, kernel: NetworkKernel) -> None:
        self.source, self.priors = source, priors
        self.source_problem = OneTaskProblem.of_kernel(source, priors.of_source(), kernel)

    def _set_target(self, target: Task, kernels: CoupledKernels | None) -> None:
        self.target = check_task("target", target, self.source.n_features)
        self.kernels = kernels or CoupledKernels(
            self.source_problem.kernel,
            target.X,
            self.priors.weight_precision,
            self.priors.coupling_scheme,
        )
        self._branches: dict[float, Branch] = {}
        self._blocks: dict[tuple[float, float], KernelBlocks] = {}
        self._scratch: dict[float, OneTaskProblem] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What can be made again is not stored with a fitted estimator.
        return self.__dict__ | {"_branches": {}, "_scratch": {}, "_blocks": {}}

    def with_target(self, target: Task) -> Self:
        """The same source and priors with another target; the source's factorisation is kept."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._set_target(target, None)
        return other

    def with_labels(self, source: ArrayLike, target: ArrayLike) -> Self:
        """The same inputs and priors with other labels (P_s,), (P_t,); all kernels are kept."""
        return self.like(source, target, self.priors)

    def like(self, source: ArrayLike, target: ArrayLike, priors: Priors) -> Self:
        """The same inputs with other labels, temperatures and readout precisions.

        All other priors must be those of this problem, for all kernels are kept.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._set_source(Task(self.source.X, source), priors, self.source_problem.kernel)
        other._set_target(Task(self.target.X, target), self.kernels)
        return other

    def with_priors(self, **changes: Unpack[PriorOptions]) -> Self:
        """The same tasks under other priors; kernels are kept where they do not depend on them.

        Temperatures and readout precisions share every kernel and the source's factorisation, the
        target's weight precision shares the latter.
        """
        check_options(f"{type(self).__name__}.with_priors", changes, PriorOptions)
        priors = self.priors.replace(**changes)
        other = object.__new__(type(self))
        of_source = ("activation", "source_weight_precision")
        of_both = (*of_source, "weight_precision", "coupling_scheme")
        same_source, same_kernels = (
            all(getattr(priors, name) == getattr(self.priors, name) for name in names)
            for names in (of_source, of_both)
        )
        kernel = (
            self.source_problem.kernel if same_source else self._new_kernel(self.source, priors)
        )
        other._set_source(self.source, priors, kernel)
        if same_source:
            other.source_problem._projected = self.source_problem._projected
        other._set_target(self.target, self.kernels if same_kernels else None)
        return other

    def covariances(self, coupling: float) -> WeightCovariances:
        """The weight covariances at this coupling."""
        return self.kernels.covariances(coupling)

    def alone(self, coupling: float = 0.0) -> OneTaskProblem:
        """The target from scratch, with the prior variance c_t that this coupling leaves it.

        At zero coupling that is the plain opponent of transfer, at others the matched prior.
        """
        if coupling in self._scratch:
            return self._scratch[coupling]
        kernel, priors = self.kernels.alone(coupling), self.priors
        own = Priors(
            activation=priors.activation,
            temperature=priors.temperature,
            weight_precision=1 / kernel.variance,
            readout_precision=priors.readout_precision,
            richness=priors.richness,
        )
        problem = OneTaskProblem.of_kernel(self.target, own, kernel)
        if coupling == 0:
            self._scratch[coupling] = problem
        return problem

    def source_order_parameter(self, width: float) -> float:
        """Q_s: the source does not feel the target, it is a task of its own."""
        return self.source_problem.saddle(width).Q

    def blocks(self, width: float, coupling: float) -> KernelBlocks:
        """The blocks of the Franz-Parisi action at a finite width and a coupling > 0.

        Labels and temperature are in units of the target's readout prior, as in
        `tlnb.theory.transfer.predictor`.
        """
        priors = self.priors.at_width(width)
        if (width, coupling) in self._blocks:
            return self._blocks[width, coupling]
        self._blocks = {}
        V, K_t, K_tt = self.kernels.train(coupling)
        root = V / np.sqrt(self._source_noise(width))[:, None]
        few = root.shape[0] < root.shape[1]  # source examples
        blocks = KernelBlocks(
            K_t,
            K_tt,
            None if few else root.T @ root,
            (self._source_labels(width) / np.sqrt(self._source_noise(width))) @ root,
            np.sqrt(priors.readout_precision) * self.target.y,
            self.source_order_parameter(width),
            priors.readout_precision * priors.temperature,
            width,
            root if few else None,
        )
        self._blocks = {(width, coupling): blocks}  # the last one is asked for again
        return blocks

    def _source_noise(self, width: float) -> Array:
        """G_s in the coordinates of K_s, of shape (P_s,), for a source readout precision of 1."""
        priors, problem = self.priors.at_width(width), self.source_problem
        temperature = priors.source_readout_precision * priors.source_temperature
        return problem.kernel.factor.noise(problem.saddle(width).Q, temperature)

    def _source_labels(self, width: float) -> Array:
        precision = self.priors.at_width(width).source_readout_precision
        return np.sqrt(precision) * self.source_problem.projections()

    def saddle(self, width: float, coupling: float) -> Overlaps:
        """The physical saddle point at a finite width and a coupling > 0, infinity included."""
        if np.isinf(coupling):
            return frozen(self.blocks(width, coupling))
        if width not in self._branches:
            scratch = self.alone()
            Q = scratch.saddle(width).Q
            if self.target.n_examples**2 > CACHE // 4:
                scratch.kernel.forget()
            self._branches[width] = Branch(
                lambda g: self.blocks(width, g), Q, self.priors.weight_precision
            )
        return self._branches[width].at(coupling)

    @renamed("CoupledTasks.overlaps", "TransferProblem.saddle")
    def overlaps(self, width: float, coupling: float) -> Overlaps:
        """The former name of `saddle`."""
        return self.saddle(width, coupling)

    def evidence(self, saddle: Overlaps, blocks: KernelBlocks) -> tuple[float, float]:
        """The action at a saddle point and the average log evidence."""
        precision = self.priors.at_width(blocks.width).readout_precision
        action = saddle.action - len(blocks.y) * np.log(precision)
        return action, -0.5 * (action - blocks.width + len(blocks.y) * np.log(2 * np.pi))

    def log_evidence(self, width: float, coupling: float) -> float:
        """The target's average log evidence, without its predictor."""
        if coupling == 0 or np.isinf(width):
            return self.alone(coupling).solve(width=width).log_evidence
        return self.evidence(self.saddle(width, coupling), self.blocks(width, coupling))[1]

    def leave_one_out(self, width: float, coupling: float) -> LeaveOneOut:
        """What `TransferSolution.leave_one_out` returns, at a number for the coupling."""
        if coupling == 0 or np.isinf(width):
            return self.alone(coupling).solve(width=width).leave_one_out()
        saddle, blocks = self.saddle(width, coupling), self.blocks(width, coupling)
        return self.predictor(saddle, blocks, coupling).leave_one_out()

    def predictor(
        self, saddle: Overlaps, blocks: KernelBlocks, coupling: float
    ) -> CoupledPredictor:
        """The predictor at a saddle point."""
        width = blocks.width
        return Predictor.at(
            saddle,
            blocks,
            self.kernels.train(coupling).V,
            self._source_noise(width),
            self._source_labels(width),
            self.priors.at_width(width).readout_precision,
        )
