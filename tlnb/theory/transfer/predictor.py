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

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.theory.factors import Cholesky
from tlnb.theory.leave_one_out import LeaveOneOut, leave_one_out
from tlnb.theory.one_task.solution import ProportionalSolution
from tlnb.theory.prediction import Prediction, in_parts, prediction
from tlnb.theory.transfer.action import KernelBlocks, delta
from tlnb.theory.transfer.kernels import CoupledKernels, TestKernels
from tlnb.theory.transfer.saddle import Overlaps

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CoupledPredictor(ABC):
    """The coupled target's predictor at one saddle point, however its source is solved.

    ``K_tt`` (P_t, P_t); ``factor`` of Δ; ``Wr`` (P_t,) as above; ``temperature`` λ1 T. With a = Wδ
    the terms that come from the source are

        Q_st² (K_s - K_st a)ᵀ G_s⁻¹ (K_s - K_st a) + Q_tt (2 K_tt(x)ᵀa - aᵀK_tt a).
    """

    overlaps: Overlaps
    readout_precision: float
    temperature: float
    factor: Cholesky
    K_tt: Array
    Wr: Array

    @abstractmethod
    def _known(self, W: Array) -> Array:
        """The diagonal (P_t,) of W m W."""

    @abstractmethod
    def __call__(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction from the kernel blocks with the new inputs."""

    def leave_one_out(self) -> LeaveOneOut:
        """The closed form of `tlnb.theory.leave_one_out`, from the factor of Δ."""
        x, o = self.overlaps.Q_st, self.overlaps.Q_tt
        half = self.factor.half(np.eye(len(self.Wr)))  # L⁻¹, and W = L⁻ᵀL⁻¹
        W = self.factor.half_transposed(half)
        spread = o * np.einsum("ij,ij->j", W, self.K_tt @ W)
        spread -= x**2 * self._known(W)
        return leave_one_out(
            self.Wr, np.diagonal(W), spread, self.temperature, self.readout_precision
        )

    def _prediction(
        self,
        test: TestKernels,
        from_labels: Array,
        unknown: Callable[[Array], Array],
        y: Array | None,
    ) -> Prediction:
        """From K_sᵀG_s⁻¹y_s (n,) and (K_s - K_st a)ᵀG_s⁻¹(K_s - K_st a) (n,) at a (P_t, n)."""
        x, o, D = self.overlaps.Q_st, self.overlaps.Q_tt, self.overlaps.D
        delta_x = (D + o) * test.K_t
        delta_x -= o * test.K_tt
        mean = x * from_labels + self.Wr @ delta_x
        a = self.factor.solve(delta_x)
        from_source = x**2 * unknown(a)
        from_source += o * np.einsum("kn,kn->n", 2 * test.K_tt - self.K_tt @ a, a)
        explained = np.einsum("kn,kn->n", delta_x, a)
        total = np.maximum((D + o) * test.k_t - from_source - explained, 0.0)
        source = np.maximum(o * test.k_tt - from_source, 0.0)
        unit = self.readout_precision
        return prediction(mean / np.sqrt(unit), total / unit, source / unit, y)


@dataclass(frozen=True, eq=False)
class Predictor(CoupledPredictor):
    """With the source's kernel decomposed.

    ``V`` (P_s, P_t), ``noise_s`` and ``y_s`` (P_s,): K_st, G_s and the source's labels in the
    coordinates of K_s.
    """

    V: Array
    noise_s: Array
    y_s: Array

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
        factor, Wr = fitted(overlaps, blocks)
        units = readout_precision, blocks.temperature
        return cls(overlaps, *units, factor, blocks.K_tt, Wr, V, noise_s, y_s)

    def _known(self, W: Array) -> Array:
        known = self.V @ W / np.sqrt(self.noise_s)[:, None]
        return np.einsum("ij,ij->j", known, known)

    def __call__(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction from the kernel blocks with the new inputs."""

        def unknown(a: Array) -> Array:
            rest = self.V @ a
            np.subtract(test.V, rest, out=rest)
            return (1 / self.noise_s) @ np.square(rest, out=rest)

        return self._prediction(test, (self.y_s / self.noise_s) @ test.V, unknown, y)


def fitted(overlaps: Overlaps, blocks: KernelBlocks) -> tuple[Cholesky, Array]:
    """The factor of Δ, and W r."""
    factor = Cholesky.of(delta(overlaps.D, overlaps.Q_tt, blocks))
    return factor, factor.solve(blocks.y - overlaps.Q_st * blocks.u)


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

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import solve
    >>> X = np.random.default_rng(0).standard_normal((50, 5))
    >>> source, target = Task(X[:32], X[:32, 0]), Task(X[32:40], X[32:40, 0])
    >>> solution = solve(source, target, width=20, coupling=1.0, temperature=0.1)
    >>> outcome = solution.predict(X[40:], X[40:, 0])
    >>> bool((outcome.source_variance < outcome.total_variance).all())
    True
    >>> solution.leave_one_out().test_error.shape
    (8,)
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
    _predictor: CoupledPredictor | ProportionalSolution = field(repr=False)

    def leave_one_out(self) -> LeaveOneOut:
        """What the target would say of each training example had it not seen it.

        Order parameters are held and no refit is needed: see `tlnb.theory.leave_one_out`.
        """
        return self._predictor.leave_one_out()

    def outcome(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction where the kernels with the new inputs are known already.

        Those of `CoupledKernels.test` at this coupling; for coupled networks of finite width.
        """
        if isinstance(self._predictor, ProportionalSolution):
            raise TypeError("outcome is for a coupling > 0 and a finite width")
        return self._predictor(test, y)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variances of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        predictor, kernels = self._predictor, self._kernels
        if isinstance(predictor, ProportionalSolution):
            return predictor.predict(X, y)
        return in_parts(
            X,
            y,
            kernels.X.shape[1],
            kernels.parts,
            lambda X, y: predictor(kernels.test(kernels.products(X), self.coupling), y),
        )
