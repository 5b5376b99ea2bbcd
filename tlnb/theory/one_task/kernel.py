"""The kernel of a wide random network with the inputs it is trained on, factorised once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.kernels import Activation, InnerProducts, dual_diagonal, squared_norms
from tlnb.theory.factors import Cholesky, Eigenbasis

Array = NDArray[np.float64]


class TestKernel(NamedTuple):
    """A kernel against n new inputs: ``V`` (P, n) rotated, V∘V, and the diagonal ``k`` (n,)."""

    V: Array
    V_squared: Array
    k: Array


@dataclass(frozen=True, eq=False)
class NetworkKernel:
    """The Gaussian process of a wide random network whose readouts have precision one.

    ``variance`` is 1/λ0, that of a hidden weight. Temperatures, widths and readout precisions are
    scalars on top of it, so that they share its factorisation.
    """

    X: Array
    activation: Activation
    variance: float

    @cached_property
    def factor(self) -> Eigenbasis:
        """K (P, P), factorised."""
        return Eigenbasis.of(self._matrix())

    @cached_property
    def eigenvalues(self) -> Array:
        """Those of K (P,), ascending; they stay when the eigenvectors are forgotten."""
        return self.factor.eigenvalues

    def forget(self) -> None:
        """Drop the factor, P² numbers, which is made again when it is asked for."""
        self.__dict__.pop("factor", None)

    def _matrix(self) -> Array:
        c = self.variance
        return InnerProducts.of(self.X).dual(self.activation, c, c, c)

    def shifted(self, Q: float, temperature: float) -> Cholesky:
        """T + Q K, factorised for one Q and temperature."""
        matrix = self._matrix()
        matrix *= Q
        matrix.flat[:: len(matrix) + 1] += temperature
        return Cholesky.of(matrix)

    def against(self, X: Array) -> TestKernel:
        """The kernel with new inputs (n, N0)."""
        c = self.variance
        K = InnerProducts.between(self.X, X).dual(self.activation, c, c, c)
        V = self.factor.projections(K)
        return TestKernel(
            V, np.square(V, out=K), dual_diagonal(self.activation, squared_norms(X), c, c)
        )
