"""What the couplings of the layers are, and the kernels of two tasks that belong to them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.kernels import gram, squared_norms
from tlnb.priors import Priors, WeightCovariances, weight_covariances
from tlnb.theory.deep.nested import nested_kernel, through_layers
from tlnb.theory.deep.one_task import DeepProcess
from tlnb.theory.factors import Eigenbasis

Array = NDArray[np.float64]
Couplings = tuple[float, ...]
CACHE = 2**24  # numbers kept in kernel blocks of several couplings


class Kernels(NamedTuple):
    """Nested kernels of both training sets with n inputs: UᵀK_st (P_s, n), K_t and K_tt (P_t, n).

    Without the readouts' precisions, and not yet divided by what the overlaps hold.
    """

    V: Array
    K_t: Array
    K_tt: Array

    def over(self, held: Array) -> Kernels:
        """Divided, entry by entry of the covariances (4,), by what the overlaps hold."""
        return Kernels(self.V / held[1], self.K_t / held[2], self.K_tt / held[3])


class Inputs(NamedTuple):
    """Inner products of both training sets with n inputs, and the scaled squared norms of these."""

    of_source: Array
    own: Array
    norms: Array


class NestedKernels:
    """A source's and a target's training inputs: nested kernels at all couplings of the layers.

    Parameters
    ----------
    source : DeepProcess
    factor : Eigenbasis
        Of the source's nested kernel, the only factorisation of its size.
    X : array of shape (P_t, N0)
        The target's inputs.
    priors : Priors
        Of both networks.
    precisions : sequence of L floats
        λ0 of each hidden layer of the target.
    """

    def __init__(
        self,
        source: DeepProcess,
        factor: Eigenbasis,
        X: Array,
        priors: Priors,
        precisions: Sequence[float],
    ) -> None:
        self.source, self.factor, self.X, self.priors = source, factor, X, priors
        self.precisions = precisions
        self._source_variances = source.layers(source.X).variances
        self._own = self.inputs(X)
        self._train: OrderedDict[Couplings, Kernels] = OrderedDict()

    def covariances(self, couplings: Couplings) -> list[WeightCovariances]:
        """The weight covariances of each layer; exactly uncoupled layers have zeros."""
        return [
            weight_covariances(
                coupling,
                source_weight_precision=1 / variance,
                target_weight_precision=precision,
                scheme=self.priors.coupling_scheme,
            )
            for coupling, variance, precision in zip(
                couplings, self.source.variances, self.precisions, strict=True
            )
        ]

    def inputs(self, X: Array) -> Inputs:
        """Inner products of the source's and the target's inputs with inputs X (n, N0)."""
        return Inputs(gram(self.source.X, X), gram(self.X, X), squared_norms(X))

    def between(self, inputs: Inputs, couplings: Couplings) -> Kernels:
        """Nested kernels of both training sets with these inputs."""
        activation, covariances = self.priors.activation, self.covariances(couplings)
        _, c_st, c_t, c_tt = zip(*covariances, strict=True)
        itself = list(zip(c_t, c_t, strict=True))
        own = through_layers(activation, squared_norms(self.X), itself).variances
        new = through_layers(activation, inputs.norms, itself).variances
        K_st = nested_kernel(activation, inputs.of_source, self._source_variances, new, c_st)
        return Kernels(
            self.factor.projections(K_st),
            nested_kernel(activation, inputs.own, own, new, c_t),
            nested_kernel(activation, inputs.own, own, new, c_tt),
        )

    def diagonals(self, inputs: Inputs, couplings: Couplings) -> tuple[Array, Array]:
        """K_t(x, x) and K_tt(x, x) of shape (n,)."""
        covariances = self.covariances(couplings)
        found = []
        for of_two in ([c.c_t for c in covariances], [c.c_tt for c in covariances]):
            pairs = [(c.c_t, c_ab) for c, c_ab in zip(covariances, of_two, strict=True)]
            found.append(through_layers(self.priors.activation, inputs.norms, pairs).diagonal)
        return found[0], found[1]

    def train(self, couplings: Couplings) -> Kernels:
        """Those of the target's own inputs, the most recent couplings kept."""
        if couplings in self._train:
            self._train.move_to_end(couplings)
            return self._train[couplings]
        blocks = self._train[couplings] = self.between(self._own, couplings)
        while len(self._train) > max(1, CACHE // sum(block.size for block in blocks)):
            self._train.popitem(last=False)
        return blocks
