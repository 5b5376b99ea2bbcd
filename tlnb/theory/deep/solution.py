r"""Transfer between deep networks: the solved problem, its predictor, sweeps over couplings.

The predictor is that of one hidden layer (`tlnb.theory.transfer`) with the overlaps of the readouts
replaced by those that multiply the nested kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.data.task import Task, check_task
from tlnb.theory.deep.action import DeepBlocks, deep_action, delta
from tlnb.theory.deep.couplings import Couplings, Inputs
from tlnb.theory.deep.one_task import DeepSolution
from tlnb.theory.factors import Cholesky
from tlnb.theory.leave_one_out import LeaveOneOut, leave_one_out
from tlnb.theory.prediction import AVERAGED, Prediction, in_parts, prediction
from tlnb.validation import check_couplings

if TYPE_CHECKING:
    from xarray import Dataset

    from tlnb.theory.deep.problem import DeepTransferProblem

Array = NDArray[np.float64]
SCALARS = ("Q_s", "Q_t", "Q_st", "Q_tt", "train_error", "log_evidence", "residual")


@dataclass(frozen=True, eq=False)
class _Predictor:
    """The coupled target's predictor at one saddle point ``z`` (3, m)."""

    problem: DeepTransferProblem
    couplings: Couplings
    z: Array
    held: Array
    noise_s: Array  # G_s in its eigenbasis
    V: Array  # UᵀK_st
    factor: Cholesky  # of Δ
    temperature: float
    E: Array
    Wr: Array

    @classmethod
    def at(
        cls,
        problem: DeepTransferProblem,
        widths: tuple[float, ...],
        couplings: Couplings,
        z: Array,
        blocks: DeepBlocks,
    ) -> _Predictor:
        _, x, o = z[:, 0]
        factor = Cholesky.of(delta(z, blocks))
        Wr = factor.solve(blocks.y - x * blocks.u)
        E = o * blocks.K_tt - x**2 * blocks.m
        held = problem.chain(widths, couplings)[1]
        V = problem.train_kernels(couplings).V / held[1]
        noise_s = problem.source_noise(widths)
        T = blocks.temperature
        return cls(problem, couplings, z, held, noise_s, V, factor, T, E, Wr)

    def leave_one_out(self) -> LeaveOneOut:
        """The closed form of `tlnb.theory.leave_one_out`, from the factor of Δ."""
        W = self.factor.solve(np.eye(len(self.Wr)))
        spread = np.einsum("ij,ij->j", W, self.E @ W)
        return leave_one_out(self.Wr, np.diagonal(W), spread, self.temperature)

    def __call__(self, inputs: Inputs, y: Array | None) -> Prediction:
        (D, x, o), held = self.z[:, 0], self.held
        kernels = self.problem.kernels(inputs, self.couplings)
        V, K_t, K_tt = kernels.V / held[1], kernels.K_t / held[2], kernels.K_tt / held[3]
        k_t, k_tt = self.problem.diagonals(inputs, self.couplings)
        known = V / self.noise_s[:, None]
        delta_x = (D + o) * K_t - o * K_tt
        epsilon = o * K_tt - x**2 * (self.V.T @ known)
        mean = x * self.problem.source_problem.projections @ known + self.Wr @ delta_x
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
    _problem: DeepTransferProblem = field(repr=False)
    _predictor: _Predictor | DeepSolution = field(repr=False)

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
        predictor, problem = self._predictor, self._problem
        if isinstance(predictor, DeepSolution):
            return predictor.predict(X, y)
        numbers = 3 * problem.source.n_examples + 8 * problem.target.n_examples
        return in_parts(
            X,
            y,
            problem.target.n_features,
            lambda n: chunks(n, numbers),
            lambda X, y: predictor(problem.inputs(X), y),
        )


def solution(
    problem: DeepTransferProblem, widths: tuple[float, ...], couplings: Couplings
) -> DeepTransferSolution:
    """`solve` for a problem that is already prepared, and checked arguments."""
    of_source = problem.source_saddle(widths).Q
    covariances = np.array(problem.covariances(couplings))
    if not any(couplings) or np.isinf(widths).all():
        alone = problem.alone(couplings).solve(widths=widths)
        prior = covariances[:, [0, 0, 2, 2]]
        overlaps = _down(np.array([of_source, 0 * of_source, alone.Q, 0 * alone.Q]).T, prior)
        names = ("action", "log_evidence", "train_error", "residual", "iterations", "converged")
        shared = {name: getattr(alone, name) for name in names}
        return DeepTransferSolution(
            widths, couplings, overlaps, **shared, _problem=problem, _predictor=alone
        )
    saddle = problem.saddle(widths, couplings)
    couplings_ = problem.capped(couplings, np.inf)
    blocks = problem.blocks(widths, couplings_)
    action = deep_action(saddle.z, blocks)
    constant = blocks.chain.widths.sum() - len(blocks.y) * np.log(2 * np.pi)
    return DeepTransferSolution(
        widths,
        couplings,
        _layer_overlaps(saddle.z, blocks.chain.s, np.isfinite(widths), covariances),
        action,
        -0.5 * (action - constant),
        saddle.train_error,
        saddle.residual,
        saddle.iterations,
        saddle.converged,
        _problem=problem,
        _predictor=_Predictor.at(problem, widths, couplings_, saddle.z, blocks),
    )


def _down(factors: Array, covariances: Array) -> Array:
    """Overlaps (L, 4) from factors of each layer and the covariances of each layer's weights."""
    passed = np.vstack([covariances[1:], np.ones((1, 4))])
    return np.cumprod((factors * passed)[::-1], axis=0, dtype=np.float64)[::-1]


def _layer_overlaps(z: Array, s: Array, finite: NDArray[np.bool_], covariances: Array) -> Array:
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


def sweep(
    problem: DeepTransferProblem,
    test: Task,
    widths: tuple[float, ...],
    couplings: Sequence[float | Sequence[float]],
) -> Dataset:
    """`coupling_sweep` for a problem that is already prepared, and checked widths."""
    import xarray as xr

    each = [check_couplings(entry, problem.depth) for entry in couplings]
    check_task("test", test, problem.target.n_features)
    names = (*SCALARS, *AVERAGED)
    table = {name: np.zeros(len(each)) for name in names}
    overlaps = np.zeros((len(each), problem.depth, 4))
    # Ascending, so that the branch is followed once.
    for i in sorted(range(len(each)), key=lambda i: each[i]):
        solved = solution(problem, widths, each[i])
        outcome = solved.predict(test.X, test.y)
        overlaps[i] = solved.overlaps
        for name in SCALARS:
            table[name][i] = getattr(solved, name)
        for name in AVERAGED:
            table[name][i] = getattr(outcome, name).mean()
    numbers = all(np.ndim(entry) == 0 for entry in couplings)
    variables: dict[str, Any] = {name: ("coupling", values) for name, values in table.items()}
    for k, name in enumerate(("A_s", "A_st", "A_t", "A_tt")):
        variables[name] = (("coupling", "layer"), overlaps[..., k])
    return xr.Dataset(
        variables,
        coords={
            "coupling": [g[0] for g in each] if numbers else np.arange(len(each)),
            "layer": np.arange(1, problem.depth + 1),
            "layer_coupling": (("coupling", "layer"), np.array(each)),
        },
        attrs={
            "widths": np.array(widths),
            "activation": problem.priors.activation.name,
            "temperature": problem.priors.temperature,
            "coupling_scheme": problem.priors.coupling_scheme,
        },
    )
