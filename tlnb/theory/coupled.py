"""Two coupled tasks: kernel blocks at every coupling, and the overlaps that solve the action."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.kernels import Block, WeightCovariances, diagonal
from tlnb.priors import Priors, weight_covariances
from tlnb.theory.franz_parisi import Blocks, Branch, Overlaps, frozen
from tlnb.theory.proportional import NetworkProcess, Spectrum, least_action

Array = NDArray[np.float64]
CACHE = 2**24  # numbers kept in kernel blocks of several couplings


class TrainKernels(NamedTuple):
    """Training blocks at one coupling; ``V`` = UᵀK_st (P_s, P_t) in the eigenbasis of K_s."""

    V: Array
    K_t: Array
    K_tt: Array


class TestKernels(NamedTuple):
    """Blocks against n new inputs, ``V`` (P_s, n) rotated, and the diagonals (n,)."""

    V: Array
    K_t: Array
    K_tt: Array
    k_t: Array
    k_tt: Array


class CoupledTasks:
    """A source, a target and their priors: everything that widths and couplings share.

    The source's kernel is decomposed once; no other factorisation of its size is made. The errors
    are those of `tlnb.theory.transfer.solve`.
    """

    def __init__(self, source: Task, target: Task, priors: Priors) -> None:
        self.source = check_task("source", source)
        self.priors = priors
        self._set_target(target)
        process = NetworkProcess(
            source.X,
            priors.activation,
            1 / priors.source_weight_precision,
            priors.source_readout_precision,
        )
        self.spectrum = Spectrum.of(process.train_kernel(), source.y, priors.source_temperature)
        self._source_Q: dict[float, float] = {}

    def _set_target(self, target: Task) -> None:
        self.target = check_task("target", target, self.source.n_features)
        self._source_target = Block.between(self.source.X, target.X)
        self._target_target = Block.of(target.X)
        self._kernels: OrderedDict[float, TrainKernels] = OrderedDict()
        self._branches: dict[float, Branch] = {}

    def __getstate__(self) -> dict:
        # What can be made again is not stored with a fitted estimator.
        return self.__dict__ | {"_kernels": OrderedDict(), "_branches": {}}

    def with_target(self, target: Task) -> CoupledTasks:
        """The same source and priors with another target; the decomposition is kept."""
        other = object.__new__(CoupledTasks)
        other.__dict__.update(self.__dict__)
        other._set_target(target)
        return other

    def covariances(self, coupling: float) -> WeightCovariances:
        """The weight covariances at this coupling."""
        return weight_covariances(
            coupling,
            source_weight_precision=self.priors.source_weight_precision,
            target_weight_precision=self.priors.weight_precision,
            scheme=self.priors.coupling_scheme,
        )

    def alone(self, coupling: float) -> NetworkProcess:
        """The target's own process, from scratch, with the prior variance c_t of this coupling."""
        c_t = self.covariances(coupling).c_t
        priors = self.priors
        return NetworkProcess(self.target.X, priors.activation, c_t, priors.readout_precision)

    def alone_spectrum(self, coupling: float) -> Spectrum:
        """The decomposition of that process's kernel."""
        K = self.alone(coupling).train_kernel()
        return Spectrum.of(K, self.target.y, self.priors.temperature)

    def kernels(self, coupling: float) -> TrainKernels:
        """Training blocks at this coupling, the most recent ones kept."""
        if coupling in self._kernels:
            self._kernels.move_to_end(coupling)
            return self._kernels[coupling]
        blocks = TrainKernels(
            *self._three_blocks(self._source_target, self._target_target, coupling)
        )
        self._kernels[coupling] = blocks
        while len(self._kernels) > max(1, CACHE // sum(block.size for block in blocks)):
            self._kernels.popitem(last=False)
        return blocks

    def test_blocks(self, X: Array) -> tuple[Block, Block]:
        """Inner products of the source's and the target's inputs with new inputs (n, N0)."""
        return Block.between(self.source.X, X), Block.between(self.target.X, X)

    def test_kernels(self, blocks: tuple[Block, Block], coupling: float) -> TestKernels:
        """Kernels at this coupling of both training sets with new inputs."""
        _, _, c_t, c_tt = self.covariances(coupling)
        sigma, precision = self.priors.activation, self.priors.readout_precision
        norms = blocks[1].right
        return TestKernels(
            *self._three_blocks(*blocks, coupling),
            diagonal(sigma, norms, c_t, c_t, precision),
            diagonal(sigma, norms, c_t, c_tt, precision),
        )

    def _three_blocks(self, of_source: Block, own: Block, coupling: float) -> tuple[Array, ...]:
        """UᵀK_s, K_t and K_tt of the training inputs with the inputs both blocks share."""
        c_s, c_st, c_t, c_tt = self.covariances(coupling)
        sigma, precision = self.priors.activation, self.priors.readout_precision
        cross = np.sqrt(self.priors.source_readout_precision * precision)
        return (
            self.spectrum.eigenvectors.T @ of_source.kernel(sigma, c_s, c_st, c_t, cross),
            own.kernel(sigma, c_t, c_t, c_t, precision),
            own.kernel(sigma, c_t, c_tt, c_t, precision),
        )

    def source_order_parameter(self, width: float) -> float:
        """Q_s: the source does not feel the target, it is a task of its own."""
        if width not in self._source_Q:
            self._source_Q[width] = _order_parameter(
                self.spectrum, width, self.priors.source_temperature
            )
        return self._source_Q[width]

    def blocks(self, width: float, coupling: float) -> Blocks:
        """The blocks of the Franz-Parisi action at a finite width and a coupling > 0."""
        V, K_t, K_tt = self.kernels(coupling)
        Q_s = self.source_order_parameter(width)
        known = V / self.source_noise(width)[:, None]
        u = self.spectrum.projections @ known
        y, temperature = self.target.y, self.priors.temperature
        return Blocks(K_t, K_tt, V.T @ known, u, y, Q_s, temperature, width)

    def source_noise(self, width: float) -> Array:
        """G_s = T_s + Q_s K_s in the eigenbasis of K_s, of shape (P_s,)."""
        Q_s = self.source_order_parameter(width)
        return self.priors.source_temperature + Q_s * self.spectrum.eigenvalues

    def overlaps(self, width: float, coupling: float) -> Overlaps:
        """The physical saddle point at a finite width and a coupling > 0, infinity included."""
        if np.isinf(coupling):
            return frozen(self.blocks(width, coupling))
        if width not in self._branches:
            scratch_Q = _order_parameter(self.alone_spectrum(0.0), width, self.priors.temperature)
            self._branches[width] = Branch(
                lambda g: self.blocks(width, g), scratch_Q, self.priors.weight_precision
            )
        return self._branches[width].at(coupling)


def _order_parameter(spectrum: Spectrum, width: float, temperature: float) -> float:
    e, _, projections = spectrum
    best, _, _ = least_action(e, projections**2, width=width, temperature=temperature)
    return best[0]
