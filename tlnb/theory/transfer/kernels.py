"""Kernel blocks of two coupled tasks at every coupling, for readouts of precision one.

They depend on the inputs, the activation, the hidden weights' precisions and the coupling alone:
temperatures, widths, labels and readout precisions are scalars and vectors on top, which share
them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.chunking import chunks
from tlnb.kernels import InnerProducts, dual_diagonal
from tlnb.priors import WeightCovariances, weight_covariances
from tlnb.theory.one_task.kernel import NetworkKernel

Array = NDArray[np.float64]
CACHE = 2**23  # numbers kept, of kernel blocks at several couplings
PRODUCTS = 2**20  # and of inner products, which are soon made again
CHUNK = 2**23  # numbers held while predicting


class TrainKernels(NamedTuple):
    """Training blocks at one coupling; ``V`` = UᵀK_st (P_s, P_t) in the coordinates of K_s."""

    V: Array
    K_t: Array
    K_tt: Array


class TestKernels(NamedTuple):
    """Blocks against n new inputs, ``V`` (P_s, n) rotated or left as K_s, and diagonals (n,)."""

    V: Array
    K_t: Array
    K_tt: Array
    k_t: Array
    k_tt: Array


class CoupledKernels:
    """A source's kernel and a target's inputs: kernel blocks at every coupling.

    Parameters
    ----------
    source : NetworkKernel
        Its factorisation is the only one of the source's size.
    X : array of shape (P_t, N0)
        The target's inputs.
    weight_precision, scheme
        The target's λ0 and how the coupling acts; see `tlnb.priors.weight_covariances`.
    """

    def __init__(
        self, source: NetworkKernel, X: Array, weight_precision: float, scheme: str
    ) -> None:
        self.source, self.X = source, X
        self.weight_precision, self.scheme = weight_precision, scheme
        self._forget()

    def _forget(self) -> None:
        self._products: tuple[InnerProducts, InnerProducts] | None = None
        self._train: OrderedDict[float, TrainKernels] = OrderedDict()
        self._latest: tuple[float, Array] | None = None
        self._alone: OrderedDict[float, NetworkKernel] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # What can be made again is not stored with a fitted estimator.
        state = dict(self.__dict__)
        state |= {"_products": None, "_latest": None}
        return state | {"_train": OrderedDict(), "_alone": OrderedDict()}

    def covariances(self, coupling: float) -> WeightCovariances:
        """The weight covariances at this coupling."""
        return weight_covariances(
            coupling,
            source_weight_precision=1 / self.source.variance,
            target_weight_precision=self.weight_precision,
            scheme=self.scheme,
        )

    def alone(self, coupling: float) -> NetworkKernel:
        """The target's own kernel, with the prior variance c_t that this coupling leaves."""
        c_t = self.covariances(coupling).c_t
        if c_t not in self._alone:
            self._alone[c_t] = NetworkKernel(self.X, self.source.activation, c_t)
        self._alone.move_to_end(c_t)
        while len(self._alone) > max(1, CACHE // len(self.X) ** 2):
            self._alone.popitem(last=False)
        return self._alone[c_t]

    def train(self, coupling: float) -> TrainKernels:
        """Training blocks at this coupling, the most recent ones kept."""
        if coupling in self._train:
            self._train.move_to_end(coupling)
            return self._train[coupling]
        # Before the new ones are made: of a large target there is room for one set only.
        P = len(self.X)
        most = max(1, CACHE // (P * (len(self.source.X) + 2 * P)))
        while len(self._train) >= most:
            self._train.popitem(last=False)
        K_st, K_t, K_tt = self._three_blocks(*self._train_products(), self.covariances(coupling))
        blocks = TrainKernels(self.source.factor.projections(K_st), K_t, K_tt)
        self._train[coupling], self._latest = blocks, (coupling, K_st)
        return blocks

    def source_target(self, coupling: float) -> Array:
        """K_st (P_s, P_t) as it is, not rotated; that of the latest training blocks is kept."""
        if self._latest is None or self._latest[0] != coupling:
            c_s, c_st, c_t, _ = self.covariances(coupling)
            K_st = self._train_products()[0].dual(self.source.activation, c_s, c_st, c_t)
            self._latest = coupling, K_st
        return self._latest[1]

    def _train_products(self) -> tuple[InnerProducts, InnerProducts]:
        if self._products is not None:
            return self._products
        products = InnerProducts.between(self.source.X, self.X), InnerProducts.of(self.X)
        if sum(block.gram.size for block in products) <= PRODUCTS:
            self._products = products
        return products

    def parts(self, n: int) -> list[slice]:
        """Chunks of n test points whose blocks and their products fit in memory."""
        return list(chunks(n, 3 * len(self.source.X) + 8 * len(self.X), CHUNK))

    def products(self, X: Array) -> tuple[InnerProducts, InnerProducts]:
        """Inner products of the source's and the target's inputs with new inputs (n, N0)."""
        return InnerProducts.between(self.source.X, X), InnerProducts.between(self.X, X)

    def test(
        self,
        products: tuple[InnerProducts, InnerProducts],
        coupling: float,
        *,
        rotated: bool = True,
    ) -> TestKernels:
        """Kernels at this coupling of both training sets with new inputs."""
        covariances = self.covariances(coupling)
        _, _, c_t, c_tt = covariances
        norms = products[1].right
        K_s, K_t, K_tt = self._three_blocks(*products, covariances)
        return TestKernels(
            self.source.factor.projections(K_s) if rotated else K_s,
            K_t,
            K_tt,
            dual_diagonal(self.source.activation, norms, c_t, c_t),
            dual_diagonal(self.source.activation, norms, c_t, c_tt),
        )

    def _three_blocks(
        self, of_source: InnerProducts, own: InnerProducts, covariances: WeightCovariances
    ) -> tuple[Array, Array, Array]:
        """K_s, K_t and K_tt of the training inputs with the inputs both products share."""
        c_s, c_st, c_t, c_tt = covariances
        sigma = self.source.activation
        K_s = of_source.dual(sigma, c_s, c_st, c_t)
        K_t = own.dual(sigma, c_t, c_t, c_t)
        return K_s, K_t, K_t if c_tt == c_t else own.dual(sigma, c_t, c_tt, c_t)
