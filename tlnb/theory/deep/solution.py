r"""Transfer between deep networks: the solved problem and its predictor.

The predictor is that of one hidden layer (`tlnb.theory.transfer`) with the overlaps of the readouts
replaced by those that multiply the nested kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.theory.deep.action import DeepBlocks, delta
from tlnb.theory.deep.couplings import Couplings, NestedKernels
from tlnb.theory.deep.one_task import DeepSolution
from tlnb.theory.factors import Cholesky
from tlnb.theory.leave_one_out import LeaveOneOut, leave_one_out
from tlnb.theory.prediction import Prediction, in_parts, prediction

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictor:
    """The coupled target's predictor at one saddle point ``z`` (3, m).

    ``held`` (4,) is what divides the kernels; ``noise_s`` and ``y_s`` (P_s,) are G_s and the
    source's labels in the eigenbasis of its kernel, ``V`` = UᵀK_st (P_s, P_t).
    """

    kernels: NestedKernels
    couplings: Couplings
    z: Array
    held: Array
    noise_s: Array
    y_s: Array
    V: Array
    temperature: float
    factor: Cholesky  # of Δ
    E: Array
    Wr: Array

    @classmethod
    def at(
        cls,
        kernels: NestedKernels,
        couplings: Couplings,
        z: Array,
        blocks: DeepBlocks,
        held: Array,
        noise_s: Array,
        y_s: Array,
    ) -> Predictor:
        """Factorise Δ once for all new inputs."""
        _, x, o = z[:, 0]
        factor = Cholesky.of(delta(z, blocks))
        Wr = factor.solve(blocks.y - x * blocks.u)
        E = o * blocks.K_tt - x**2 * blocks.m
        V = kernels.train(couplings).V / held[1]
        T = blocks.temperature
        return cls(kernels, couplings, z, held, noise_s, y_s, V, T, factor, E, Wr)

    def leave_one_out(self) -> LeaveOneOut:
        """The closed form of `tlnb.theory.leave_one_out`, from the factor of Δ."""
        W = self.factor.solve(np.eye(len(self.Wr)))
        spread = np.einsum("ij,ij->j", W, self.E @ W)
        return leave_one_out(self.Wr, np.diagonal(W), spread, self.temperature)

    def __call__(self, X: Array, y: Array | None) -> Prediction:
        """The prediction at inputs (n, N0)."""
        (D, x, o), held = self.z[:, 0], self.held
        inputs = self.kernels.inputs(X)
        V, K_t, K_tt = self.kernels.between(inputs, self.couplings).over(held)
        k_t, k_tt = self.kernels.diagonals(inputs, self.couplings)
        known = V / self.noise_s[:, None]
        delta_x = (D + o) * K_t - o * K_tt
        epsilon = o * K_tt - x**2 * (self.V.T @ known)
        mean = x * self.y_s @ known + self.Wr @ delta_x
        W_delta = self.factor.solve(delta_x)
        from_source = x**2 * np.einsum("kn,kn->n", V, known)
        from_source += np.einsum("kn,kn->n", 2 * epsilon - self.E @ W_delta, W_delta)
        explained = np.einsum("kn,kn->n", delta_x, W_delta)
        total = (D + o) * k_t / held[2] - from_source - explained
        source = o * k_tt / held[3] - from_source
        return prediction(mean, np.maximum(total, 0.0), np.maximum(source, 0.0), y)


@dataclass(frozen=True, eq=False)
class DeepTransferSolution:
    """The saddle point of a coupled deep target and what follows from it.

    Attributes
    ----------
    widths, couplings : (N_1, ..., N_L) and (γ_1, ..., γ_L).
    Q_s, Q_t, Q_st, Q_tt : overlaps of the readouts, as for one hidden layer.
    overlaps : array of shape (L, 4), (A_s, A_st, A_t, A_tt) of the readouts that are propagated
        back to each hidden layer, from the first up; its last row holds the four above.
    action : S at the saddle; infinite layers have no term of their own.
    log_evidence : leading order of the target's log evidence, averaged over the source posterior.
    train_error : ⟨(y - f)²⟩ averaged over the target's training examples.
    residual, iterations, converged : of the solver; the residual is undamped and scaled, converged
        means that it is small and the solution physical.

    Examples
    --------
    With the first layer alone tied to the source's, the networks share less from layer to layer:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.deep import solve
    >>> X = np.random.default_rng(0).standard_normal((50, 10))
    >>> source, target = Task(X[:40], X[:40, 0]), Task(X[40:], X[40:, 0])
    >>> solution = solve(source, target, widths=(20, 40), couplings=(np.inf, 0.0), temperature=0.1)
    >>> A_st = solution.overlaps[:, 1]
    >>> bool(A_st[0] > 0.1), bool(abs(A_st[1]) < 1e-8)
    (True, True)
    """

    widths: tuple[float, ...]
    couplings: Couplings
    overlaps: Array
    action: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    _predictor: Predictor | DeepSolution = field(repr=False)

    @property
    def Q_s(self) -> float:
        """(λ1/N_L)⟨‖v_s‖²⟩."""
        return float(self.overlaps[-1, 0])

    @property
    def Q_st(self) -> float:
        """sqrt(λ1s λ1t)/N_L ⟨v_s·v_t⟩."""
        return float(self.overlaps[-1, 1])

    @property
    def Q_t(self) -> float:
        """(λ1/N_L)⟨‖v_t‖²⟩."""
        return float(self.overlaps[-1, 2])

    @property
    def Q_tt(self) -> float:
        """(λ1/N_L)⟨v_t·v_t'⟩ between two targets around one source."""
        return float(self.overlaps[-1, 3])

    def leave_one_out(self) -> LeaveOneOut:
        """What the target would say of each training example had it not seen it.

        Overlaps are held and no refit is needed: see `tlnb.theory.leave_one_out`.
        """
        return self._predictor.leave_one_out()

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variances of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        predictor = self._predictor
        if isinstance(predictor, DeepSolution):
            return predictor.predict(X, y)
        (P_s, P_t), N0 = predictor.V.shape, predictor.kernels.X.shape[1]
        return in_parts(X, y, N0, lambda n: chunks(n, 3 * P_s + 8 * P_t), predictor)


def overlaps_alone(of_source: Array, of_target: Array, covariances: Array) -> Array:
    """(A_s, A_st, A_t, A_tt) of every layer (L, 4) of two networks that know nothing of each other.

    From the factors (L,) of both and the covariances (L, 4) of each layer's weights.
    """
    factors = np.array([of_source, 0 * of_source, of_target, 0 * of_target]).T
    passed = np.vstack([covariances[1:, [0, 0, 2, 2]], np.ones((1, 4))])
    return np.cumprod((factors * passed)[::-1], axis=0, dtype=np.float64)[::-1]


def overlaps_coupled(z: Array, s: Array, finite: NDArray[np.bool_], covariances: Array) -> Array:
    """(A_s, A_st, A_t, A_tt) of every layer; layers of infinite width pass on those above."""
    D, x, o = z
    solved = iter(np.array([s, x, D + o, o]).T[::-1])
    above, rows = np.array([1.0, 0.0, 1.0, 0.0]), []
    passed = np.ones(4)
    for layer in range(len(finite) - 1, -1, -1):
        above = next(solved) if finite[layer] else passed * above
        rows.append(above)
        passed = covariances[layer]
    return np.array(rows[::-1])
