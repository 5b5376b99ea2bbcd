r"""Transfer between two tasks: saddle point, predictor, the coupling of most evidence, sweeps.

At the saddle point (Q_s, Q_t, Q_st, Q_tt) of `tlnb.theory.franz_parisi`, with D = Q_t - Q_tt,
δ = D K_t(x) + Q_tt (K_t - K_tt)(x), W = Δ⁻¹, ε = Q_tt K_tt(x) - Q_st² K_s(x)ᵀ G_s⁻¹ K_st and
K_s(x) the source-target kernel of the source's inputs with x, the output at a new x has

    mean            Q_st K_s(x)ᵀ G_s⁻¹ y_s + δᵀWr
    total variance  Q_t K_t(x,x) - Q_st² K_s(x)ᵀ G_s⁻¹ K_s(x) - [δᵀWδ - δᵀWEWδ + 2 εᵀWδ]
    source variance Q_tt K_tt(x,x) - Q_st² K_s(x)ᵀ G_s⁻¹ K_s(x) - [-δᵀWEWδ + 2 εᵀWδ],

the last one, the spread between quenched sources, being part of the total. Source: Ingrosso et al.
(2025), with the derivation of chapter 05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize_scalar

from tlnb.data.task import Task, check_task
from tlnb.priors import SCHEMES, Priors, weight_covariances
from tlnb.theory import proportional
from tlnb.theory.coupled import CoupledTasks, TestKernels
from tlnb.theory.franz_parisi import Blocks, Overlaps, delta, franz_parisi_action
from tlnb.theory.prediction import Prediction, chunks, concatenate, prediction
from tlnb.validation import (
    check_choice,
    check_inputs,
    check_labels,
    check_nonnegative,
    check_width,
)

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = [
    "SCHEMES",
    "CoupledTasks",
    "Priors",
    "TransferSolution",
    "coupling_sweep",
    "evidence_coupling",
    "franz_parisi_action",
    "solution",
    "solve",
    "sweep",
    "weight_covariances",
]

Array = NDArray[np.float64]
BASELINES = ("scratch", "matched-prior")
_SHARED = ("train_error", "residual", "iterations", "converged")


@dataclass(frozen=True, eq=False)
class _Predictor:
    """The coupled target's predictor at one saddle point."""

    overlaps: Overlaps
    noise_s: Array  # G_s in its eigenbasis
    y_s: Array  # source labels in that basis
    V: Array  # UᵀK_st
    factor: tuple[Array, bool]  # of Δ
    E: Array
    Wr: Array

    @classmethod
    def at(cls, overlaps: Overlaps, blocks: Blocks, tasks: CoupledTasks, V: Array) -> _Predictor:
        x, o = overlaps.Q_st, overlaps.Q_tt
        factor = cholesky(delta(overlaps.D, o, blocks), lower=True, overwrite_a=True), True
        Wr = cho_solve(factor, blocks.y - x * blocks.u)
        E = o * blocks.K_tt - x**2 * blocks.m
        noise_s = tasks.source_noise(blocks.width)
        return cls(overlaps, noise_s, tasks.spectrum.projections, V, factor, E, Wr)

    def __call__(self, test: TestKernels, y: Array | None) -> Prediction:
        x, o, D = self.overlaps.Q_st, self.overlaps.Q_tt, self.overlaps.D
        known = test.V / self.noise_s[:, None]
        delta_x = (D + o) * test.K_t - o * test.K_tt
        epsilon = o * test.K_tt - x**2 * (self.V.T @ known)
        mean = x * self.y_s @ known + self.Wr @ delta_x
        W_delta = cho_solve(self.factor, delta_x, check_finite=False)
        from_source = x**2 * np.einsum("kn,kn->n", test.V, known)
        from_source += np.einsum("kn,kn->n", 2 * epsilon - self.E @ W_delta, W_delta)
        explained = np.einsum("kn,kn->n", delta_x, W_delta)
        total = (D + o) * test.k_t - from_source - explained
        source = o * test.k_tt - from_source
        return prediction(mean, np.maximum(total, 0.0), np.maximum(source, 0.0), y)


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
    _tasks: CoupledTasks = field(repr=False)
    _predictor: _Predictor | proportional.ProportionalSolution = field(repr=False)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variances of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        if isinstance(self._predictor, proportional.ProportionalSolution):
            return self._predictor.predict(X, y)
        tasks = self._tasks
        X = check_inputs(X, n_features=tasks.target.n_features)
        y = None if y is None else check_labels(y, len(X))
        parts = []
        for part in chunks(len(X), tasks.source.n_examples):
            test = tasks.test_kernels(tasks.test_blocks(X[part]), self.coupling)
            parts.append(self._predictor(test, None if y is None else y[part]))
        return concatenate(parts)


def solve(
    source: Task, target: Task, *, width: float, coupling: float | str, **priors: Any
) -> TransferSolution:
    """The Franz-Parisi saddle point of a target coupled to a source.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    width : float
        N1 ≥ 1 of both networks. At ``numpy.inf`` no label of the source reaches the target; the
        coupled prior is all that is left.
    coupling : float or "evidence"
        γ from 0, the target alone, to ``numpy.inf``, frozen source features; "evidence" takes the
        coupling of largest log evidence. At low temperature that is often 0 even where a coupling
        helps: labels of ±1 then count as exact, and stiff features pay for each of them.
    **priors
        activation, temperature, weight_precision, readout_precision, the same three numbers with
        ``source_`` in front, coupling_scheme: see `Priors`.

    Notes
    -----
    At γ = 0 the target does not know the source, and the solution is that of one task, with
    Q_st = Q_tt = 0. For activations that are not odd the action's own limit γ → 0 keeps overlaps of
    order 1/N1, because independent networks share a mean output.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed, and kernels singular at this temperature.
    ConvergenceError
        If no physical saddle point with a small residual was reached.

    Warns
    -----
    CompetingSaddlesWarning
        If the action of the source or of the target alone has further minima.
    """
    return solution(CoupledTasks(source, target, Priors(**priors)), width, coupling)


def check_coupling(coupling: float | str, name: str = "coupling") -> float | str:
    """Return a coupling γ ≥ 0, infinity allowed, or "evidence"."""
    if isinstance(coupling, str):
        return check_choice(name, coupling, ["evidence"])
    return check_nonnegative(name, coupling, allow_infinite=True)


def solution(tasks: CoupledTasks, width: float, coupling: float | str) -> TransferSolution:
    """`solve` for tasks that are already prepared."""
    width, coupling = check_width(width), check_coupling(coupling)
    if coupling == "evidence":
        coupling = evidence_coupling(tasks, width)
    Q_s = tasks.source_order_parameter(width)
    if coupling == 0 or np.isinf(width):
        temperature, spectrum = tasks.priors.temperature, tasks.alone_spectrum(coupling)
        alone = proportional.at_width(width, temperature, spectrum, tasks.alone(coupling))
        shared = {name: getattr(alone, name) for name in (*_SHARED, "action", "log_evidence")}
        shared |= {"Q_s": Q_s, "Q_t": alone.Q, "Q_st": 0.0, "Q_tt": 0.0}
        return TransferSolution(width, coupling, **shared, _tasks=tasks, _predictor=alone)
    saddle, blocks = tasks.overlaps(width, coupling), tasks.blocks(width, coupling)
    action, log_evidence = _evidence(saddle, blocks)
    shared = {name: getattr(saddle, name) for name in (*_SHARED, "Q_t", "Q_st", "Q_tt")}
    return TransferSolution(
        width,
        coupling,
        Q_s=Q_s,
        action=action,
        log_evidence=log_evidence,
        **shared,
        _tasks=tasks,
        _predictor=_Predictor.at(saddle, blocks, tasks, tasks.kernels(coupling).V),
    )


def _evidence(overlaps: Overlaps, blocks: Blocks) -> tuple[float, float]:
    """The action at the saddle point and the average log evidence."""
    action = franz_parisi_action(overlaps.Q_t, overlaps.Q_tt, overlaps.Q_st, blocks)
    return action, -0.5 * (action - blocks.width + len(blocks.y) * np.log(2 * np.pi))


def evidence_coupling(tasks: CoupledTasks, width: float) -> float:
    """The coupling of largest average log evidence, over 0 ≤ γ ≤ ∞.

    A scan in half decades around the target's weight precision, both ends included, refined
    between the neighbours of the best point. No test label is used.
    """
    grid = tasks.priors.weight_precision * 10.0 ** np.arange(-2, 4.5, 0.5)
    couplings = [0.0, *grid.tolist(), np.inf]
    evidence = [solution(tasks, width, coupling).log_evidence for coupling in couplings]
    best = int(np.argmax(evidence))
    if best in (0, len(couplings) - 1):
        return couplings[best]
    inside = slice(max(best - 1, 1), min(best + 1, len(couplings) - 2) + 1)
    bounds = np.log(couplings[inside][0]), np.log(couplings[inside][-1])
    refined = minimize_scalar(
        lambda t: -solution(tasks, width, float(np.exp(t))).log_evidence,
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(refined.x)) if -refined.fun > evidence[best] else couplings[best]


def coupling_sweep(
    source: Task,
    target: Task,
    test: Task,
    *,
    widths: Sequence[float],
    couplings: Sequence[float],
    baseline: str | None = None,
    **priors: Any,
) -> Dataset:
    """The transfer curve of two data sets: theory over widths and couplings.

    The source's kernel is decomposed once for all of them.

    Parameters
    ----------
    source, target, test : Task
        ``test`` holds the inputs and labels of the target task that errors are averaged over.
    widths, couplings : sequences of float
        N1 ≥ 1 and γ ≥ 0, ``numpy.inf`` allowed in both, in any order.
    baseline : {None, "scratch", "matched-prior"}
        Instead of transfer, the same networks trained on the target alone: with their own prior
        ("scratch"), or with the prior variance c_t(γ) that the coupling leaves them
        ("matched-prior"), which tells regularisation from transfer.
    **priors
        As in `solve`: activation, temperature, precisions, coupling_scheme; see `Priors`.

    Returns
    -------
    xarray.Dataset over (width, coupling)
        Q_s, Q_t, Q_st, Q_tt, train_error, squared_bias, total_variance, source_variance,
        test_error, classification_error, log_evidence, residual; errors and variances are means
        over the test points.

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As `solve` does.
    """
    tasks = CoupledTasks(source, target, Priors(**priors))
    return sweep(tasks, test, widths=widths, couplings=couplings, baseline=baseline)


def sweep(
    tasks: CoupledTasks,
    test: Task,
    *,
    widths: Sequence[float],
    couplings: Sequence[float],
    baseline: str | None = None,
) -> Dataset:
    """`coupling_sweep` for tasks that are already prepared."""
    import xarray as xr

    priors = tasks.priors
    widths = [check_width(width, "widths") for width in widths]
    couplings = [check_nonnegative("couplings", g, allow_infinite=True) for g in couplings]
    if baseline is not None:
        check_choice("baseline", baseline, BASELINES)
    check_task("test", test, tasks.target.n_features)
    shape = len(widths), len(couplings)
    names = ("Q_s", "Q_t", "Q_st", "Q_tt", "train_error", *proportional.AVERAGED)
    names += ("source_variance", "log_evidence", "residual")
    table = {name: np.zeros(shape) for name in names}
    table["Q_s"] += np.array([tasks.source_order_parameter(width) for width in widths])[:, None]

    coupled = []
    for j in np.argsort(couplings, kind="stable"):
        coupling = couplings[j]
        finite = [i for i, width in enumerate(widths) if np.isfinite(width)]
        pairs = finite if baseline is None and coupling > 0 else []
        coupled += [(i, j, tasks.overlaps(widths[i], coupling)) for i in pairs]
        rest = [i for i in range(len(widths)) if i not in pairs]
        if rest:
            process = tasks.alone(0.0 if baseline == "scratch" else coupling)
            columns = proportional.sweep(
                process, tasks.target.y, test, [widths[i] for i in rest], priors.temperature
            )
            for name, values in columns.items():
                table["Q_t" if name == "Q" else name][rest, j] = values
    for i, j, overlaps in coupled:
        table["log_evidence"][i, j] = _evidence(overlaps, tasks.blocks(widths[i], couplings[j]))[1]
        for name in ("Q_t", "Q_st", "Q_tt", "train_error", "residual"):
            table[name][i, j] = getattr(overlaps, name)
    if coupled:
        _average_errors(tasks, test, widths, couplings, coupled, table)
    return xr.Dataset(
        {name: (("width", "coupling"), values) for name, values in table.items()},
        coords={"width": widths, "coupling": couplings},
        attrs={
            "activation": priors.activation.name,
            "temperature": priors.temperature,
            "coupling_scheme": priors.coupling_scheme,
            "baseline": baseline or "none",
        },
    )


def _average_errors(tasks, test, widths, couplings, coupled, table) -> None:
    """Add the means over the test points, chunk by chunk; each kernel block serves all widths."""
    averaged = (*proportional.AVERAGED, "source_variance")
    for part in chunks(test.n_examples, tasks.source.n_examples):
        inner_products = tasks.test_blocks(test.X[part])
        at = None
        for i, j, overlaps in coupled:
            if j != at:
                at, kernels = j, tasks.test_kernels(inner_products, couplings[j])
            blocks = tasks.blocks(widths[i], couplings[j])
            V = tasks.kernels(couplings[j]).V
            outcome = _Predictor.at(overlaps, blocks, tasks, V)(kernels, test.y[part])
            for name in averaged:
                table[name][i, j] += getattr(outcome, name).sum() / test.n_examples
