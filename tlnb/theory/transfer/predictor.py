r"""A coupled target at its saddle point: the predictor and what else follows.

At the saddle point (Q_s, Q_t, Q_st, Q_tt) of `tlnb.theory.transfer.action`, with D = Q_t - Q_tt,
δ = D K_t(x) + Q_tt (K_t - K_tt)(x), W = Δ⁻¹, ε = Q_tt K_tt(x) - Q_st² K_s(x)ᵀ G_s⁻¹ K_st and
K_s(x) the source-target kernel of the source's inputs with x, the output at a new x has

    mean            Q_st K_s(x)ᵀ G_s⁻¹ y_s + δᵀWr
    total variance  Q_t K_t(x,x) - Q_st² K_s(x)ᵀ G_s⁻¹ K_s(x) - [δᵀWδ - δᵀWEWδ + 2 εᵀWδ]
    source variance Q_tt K_tt(x,x) - Q_st² K_s(x)ᵀ G_s⁻¹ K_s(x) - [-δᵀWEWδ + 2 εᵀWδ],

the last one, the spread between quenched sources, being part of the total. Source: Ingrosso et al.
(2025), with the derivation of chapter 05.

Kernels are those of readout precision one: the target's labels are measured in units of its
readouts' prior, sqrt(λ1) y at temperature λ1 T, and outputs go back by 1/sqrt(λ1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.theory.factors import Cholesky
from tlnb.theory.one_task.solution import ProportionalSolution
from tlnb.theory.prediction import Prediction, concatenate, prediction
from tlnb.theory.transfer.action import KernelBlocks, delta
from tlnb.theory.transfer.kernels import CoupledKernels, TestKernels
from tlnb.theory.transfer.saddle import Overlaps
from tlnb.validation import check_inputs, check_labels

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictor:
    """The coupled target's predictor at one saddle point.

    ``V`` (P_s, P_t), ``noise_s`` and ``y_s`` (P_s,): K_st, G_s and the source's labels in the
    coordinates of K_s; ``factor`` of Δ; ``E`` (P_t, P_t) and ``Wr`` (P_t,) as above.
    """

    overlaps: Overlaps
    V: Array
    noise_s: Array
    y_s: Array
    readout_precision: float
    factor: Cholesky
    E: Array
    Wr: Array

    @classmethod
    def at(
        cls,
        overlaps: Overlaps,
        blocks: KernelBlocks,
        V: Array,
        noise_s: Array,
        y_s: Array,
        readout_precision: float,
    ) -> Predictor:
        """Factorise Δ once for all new inputs."""
        x, o = overlaps.Q_st, overlaps.Q_tt
        factor = Cholesky.of(delta(overlaps.D, o, blocks))
        Wr = factor.solve(blocks.y - x * blocks.u)
        E = o * blocks.K_tt - x**2 * blocks.m
        return cls(overlaps, V, noise_s, y_s, readout_precision, factor, E, Wr)

    def __call__(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction from the kernel blocks with the new inputs."""
        x, o, D = self.overlaps.Q_st, self.overlaps.Q_tt, self.overlaps.D
        known = test.V / self.noise_s[:, None]
        delta_x = (D + o) * test.K_t - o * test.K_tt
        epsilon = o * test.K_tt - x**2 * (self.V.T @ known)
        mean = x * self.y_s @ known + self.Wr @ delta_x
        W_delta = self.factor.solve(delta_x)
        from_source = x**2 * np.einsum("kn,kn->n", test.V, known)
        from_source += np.einsum("kn,kn->n", 2 * epsilon - self.E @ W_delta, W_delta)
        explained = np.einsum("kn,kn->n", delta_x, W_delta)
        total = np.maximum((D + o) * test.k_t - from_source - explained, 0.0)
        source = np.maximum(o * test.k_tt - from_source, 0.0)
        unit = self.readout_precision
        return prediction(mean / np.sqrt(unit), total / unit, source / unit, y)


@dataclass(frozen=True, eq=False)
class TransferSolution:
    """The saddle point of a coupled target and what follows from it.

    Attributes
    ----------
    width, coupling : N1 and γ.
    Q_s, Q_t, Q_st, Q_tt : readout overlaps: (λ1/N1)⟨‖v_s‖²⟩, (λ1/N1)⟨‖v_t‖²⟩,
        sqrt(λ1s λ1t)/N1 ⟨v_s·v_t⟩, and (λ1/N1)⟨v_t·v_t'⟩ between two targets around one source.
    action : S_FP at the saddle; without its first term at infinite width.
    log_evidence : leading order of the target's log evidence, averaged over the source posterior.
    train_error : ⟨(y - f)²⟩ averaged over the target's training examples.
    residual, iterations, converged : of the solver; the residual is undamped and scaled, converged
        means that it is small and the solution physical.
    """

    width: float
    coupling: float
    Q_s: float
    Q_t: float
    Q_st: float
    Q_tt: float
    action: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    _kernels: CoupledKernels = field(repr=False)
    _predictor: Predictor | ProportionalSolution = field(repr=False)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variances of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        if isinstance(self._predictor, ProportionalSolution):
            return self._predictor.predict(X, y)
        kernels = self._kernels
        X = check_inputs(X, n_features=kernels.X.shape[1])
        y = None if y is None else check_labels(y, len(X))
        parts = []
        for part in kernels.parts(len(X)):
            test = kernels.test(kernels.products(X[part]), self.coupling)
            parts.append(self._predictor(test, None if y is None else y[part]))
        return concatenate(parts)
