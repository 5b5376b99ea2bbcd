"""Transfer from a large source, prepared: its saddle points and blocks, nothing factorised.

What the Franz-Parisi action and the predictor ask of the source comes from
`tlnb.theory.large.coupled`; all else is that of `tlnb.theory.transfer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task
from tlnb.kernels import InnerProducts
from tlnb.priors import PriorOptions, Priors
from tlnb.theory.large.coupled import Interpolant, Solver
from tlnb.theory.large.iterative import solve
from tlnb.theory.large.kernel import LargeKernel, LargeOptions
from tlnb.theory.large.source import EstimatedSaddle, source_saddle
from tlnb.theory.one_task.kernel import NetworkKernel
from tlnb.theory.prediction import Prediction
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.kernels import CoupledKernels, TestKernels
from tlnb.theory.transfer.predictor import CoupledPredictor, fitted
from tlnb.theory.transfer.problem import TransferProblem
from tlnb.theory.transfer.saddle import Overlaps

Array = NDArray[np.float64]


class PreparedLargeTransfer(TransferProblem):
    """A source of tens of thousands of examples, a target and their priors.

    What `LargeTransferProblem` tabulates and chooses with. Parameters and errors are its own.
    """

    def __init__(
        self,
        source: Task,
        target: Task,
        priors: Priors | None = None,
        *,
        options: LargeOptions | None = None,
        **keywords: Unpack[PriorOptions],
    ) -> None:
        self.options = options or LargeOptions()
        super().__init__(source, target, priors, **keywords)

    def _new_kernel(self, source: Task, priors: Priors) -> LargeKernel:
        variance = 1 / priors.source_weight_precision
        return LargeKernel(source.X, priors.activation, variance, self.options)

    def _set_source(self, source: Task, priors: Priors, kernel: NetworkKernel) -> None:
        if not isinstance(kernel, LargeKernel):
            raise TypeError(f"the source's kernel must be a LargeKernel, got {kernel!r}")
        super()._set_source(source, priors, kernel)
        self.source_kernel, self.options = kernel, kernel.options
        self._source_saddles: dict[float, EstimatedSaddle] = {}

    def _set_target(self, target: Task, kernels: CoupledKernels | None) -> None:
        super()._set_target(target, kernels)
        self._interpolants: dict[float, Interpolant] = {}
        self._own: InnerProducts | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_interpolants": {}, "_source_saddles": {}, "_own": None}

    def source_saddle(self, width: float) -> EstimatedSaddle:
        """The source's saddle point, with the error of its order parameter."""
        if width not in self._source_saddles:
            priors = self.priors.at_width(width)
            precision = priors.source_readout_precision
            self._source_saddles[width] = source_saddle(
                self.source_kernel,
                np.sqrt(precision) * self.source.y,
                width=width,
                temperature=precision * priors.source_temperature,
            )
        return self._source_saddles[width]

    def source_order_parameter(self, width: float) -> float:
        """Q_s: the source does not feel the target, it is a task of its own."""
        return 1.0 if np.isinf(width) else self.source_saddle(width).Q

    def prepare(self, widths: Sequence[float], X_test: Array | None = None) -> None:
        """Solve for these finite widths at once, test inputs (n, N0) included."""
        saddles = [self.source_saddle(width) for width in widths]
        if saddles:
            found = Solver(self.kernels, saddles, X_test).interpolants()
            self._interpolants |= dict(zip(widths, found, strict=True))
            self._blocks = {}

    def prepared(self, width: float, interpolant: Interpolant) -> None:
        """Take over a solution at this width that was found elsewhere."""
        self._interpolants[width] = interpolant
        self._blocks = {}

    def interpolant(self, width: float) -> Interpolant:
        """What the source knows of the target's inputs, at every coupling."""
        if width not in self._interpolants:
            self.prepare([width])
        return self._interpolants[width]

    def blocks(self, width: float, coupling: float) -> KernelBlocks:
        """The blocks of the Franz-Parisi action at a finite width and a coupling > 0."""
        if (width, coupling) in self._blocks:
            return self._blocks[width, coupling]
        priors, c = self.priors.at_width(width), self.covariances(coupling)
        value, _ = self.interpolant(width).at(c)
        if self._own is None:
            self._own = InnerProducts.of(self.target.X)
        K_t = self._own.dual(priors.activation, c.c_t, c.c_t, c.c_t)
        same = c.c_tt == c.c_t
        K_tt = K_t if same else self._own.dual(priors.activation, c.c_t, c.c_tt, c.c_t)
        blocks = KernelBlocks(
            K_t,
            K_tt,
            value.m,
            value.u,
            np.sqrt(priors.readout_precision) * self.target.y,
            self.source_order_parameter(width),
            priors.readout_precision * priors.temperature,
            width,
        )
        self._blocks = {(width, coupling): blocks}  # the last one is asked for again
        return blocks

    def predictor(
        self, saddle: Overlaps, blocks: KernelBlocks, coupling: float
    ) -> CoupledPredictor:
        """The predictor at a saddle point, which solves anew for new inputs."""
        if blocks.m is None:
            raise ValueError("the blocks of a large source hold m, got its root")
        factor, Wr = fitted(saddle, blocks)
        precision = self.priors.at_width(blocks.width).readout_precision
        source = self.source_saddle(blocks.width)
        allowed = self.options.tolerance / 5 * float(np.diagonal(blocks.K_t).mean()) / source.Q
        return LargePredictor(
            saddle,
            precision,
            blocks.temperature,
            factor,
            blocks.K_tt,
            Wr,
            blocks.m,
            self.kernels.train(coupling).V,
            source,
            allowed,
        )


@dataclass(frozen=True, eq=False)
class LargePredictor(CoupledPredictor):
    """A coupled target's predictor that solves with the source's kernel for new inputs.

    ``m`` (P_t, P_t); ``K_st`` (P_s, P_t); the ``source``'s saddle; ``allowed`` error of variances.
    """

    m: Array
    K_st: Array
    source: EstimatedSaddle
    allowed: float

    def _known(self, W: Array) -> Array:
        return np.einsum("ij,ij->j", W, self.m @ W)

    def __call__(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction from the kernel blocks with the new inputs, left unrotated."""
        equation = self.source.equation

        def unknown(a: Array) -> Array:
            rest = test.V - self.K_st @ a
            residual = np.sqrt(equation.temperature * self.allowed)
            return solve(equation, rest, residual).diagonal(rest)

        return self._prediction(test, self.source.alpha @ test.V, unknown, y)
