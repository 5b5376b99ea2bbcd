"""A coupled target's predictor by the source's factor at one width, for many new inputs.

The eigenvectors of a source's kernel serve every width and temperature, and rotating kernels into
their coordinates costs 2 P_s² numbers multiplied for each new input. At one width the triangle of
G_s = L Lᵀ is enough, K_s(x)ᵀG_s⁻¹K_s(x) = |L⁻¹K_s(x)|², and a triangle costs half as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm

from tlnb.theory.factors import InverseCholesky
from tlnb.theory.prediction import Prediction
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.kernels import TestKernels
from tlnb.theory.transfer.predictor import CoupledPredictor, fitted
from tlnb.theory.transfer.prepared import PreparedTransfer
from tlnb.theory.transfer.saddle import Overlaps

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DirectSource:
    """G_s at one width, factorised, and ``labels`` (P_s,), G_s⁻¹y_s."""

    factor: InverseCholesky
    labels: Array

    @classmethod
    def of(cls, problem: PreparedTransfer, width: float) -> DirectSource:
        """Factorise; the kernel is made again, since its decomposition has taken its place."""
        priors, source = problem.priors.at_width(width), problem.source_problem
        temperature = priors.source_readout_precision * priors.source_temperature
        factor = source.kernel.shifted(source.saddle(width).Q, temperature)
        labels = np.sqrt(priors.source_readout_precision) * problem.source.y
        return cls(factor.inverted(), factor.solve(labels))

    def predictor(
        self, problem: PreparedTransfer, saddle: Overlaps, blocks: KernelBlocks, coupling: float
    ) -> DirectPredictor:
        """The predictor at a saddle point of this width."""
        precision = problem.priors.at_width(blocks.width).readout_precision
        factor, Wr = fitted(saddle, blocks)
        return DirectPredictor(
            saddle, precision, blocks.temperature, factor, blocks.K_tt, Wr,
            problem.kernels.source_target(coupling), self,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class DirectPredictor(CoupledPredictor):
    """With kernels left as they are: ``K_st`` (P_s, P_t), and K_s(x) of the new inputs."""

    K_st: Array
    source: DirectSource

    def _known(self, W: Array) -> Array:
        return self._squared(np.array((self.K_st @ W).T, order="F"))

    def _squared(self, rows: Array) -> Array:
        """bᵀG_s⁻¹b of every row b of ``rows`` (n, P_s), which are overwritten."""
        half = self.source.factor.half_rows(rows).T
        return np.einsum("kn,kn->n", half, half)

    def __call__(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction from kernel blocks that are not rotated; ``test.V`` is overwritten."""
        from_labels = self.source.labels @ test.V

        def unknown(a: Array) -> Array:
            # In place, and of the transposes: to BLAS a row-ordered matrix is its transpose.
            rest = dgemm(-1.0, a.T, self.K_st.T, beta=1.0, c=test.V.T, overwrite_c=1)
            return self._squared(rest)

        return self._prediction(test, from_labels, unknown, y)
