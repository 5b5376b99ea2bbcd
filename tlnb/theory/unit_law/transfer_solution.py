"""What the law of a hidden unit says of a coupled target: overlaps, errors, predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.data.task import Task
from tlnb.kernels import Activation
from tlnb.theory.prediction import Prediction, concatenate, prediction
from tlnb.theory.unit_law.solution import Estimate, UnitLawSolution, estimates
from tlnb.theory.unit_law.transfer_moments import TargetClosure, TargetSums, order_parameters
from tlnb.theory.unit_law.transfer_walk import SourceUnits
from tlnb.validation import check_inputs, check_labels

Array = NDArray[np.float64]


class Draw(NamedTuple):
    """Target units at one step: features (G, 2, M, P) and positions; m and (ζ + η)·σ (G, 2, M)."""

    hidden_weights: Array
    features: Array
    m: Array
    shared: Array


def jackknife(values: Array, pooled: float | None = None) -> Array:
    """Standard error of what was computed from all populations but one, over the first axis.

    Around their mean: ``pooled``, what all of them give, is not asked for.
    """
    G = len(values)
    return np.sqrt((G - 1) / G * ((values - values.mean(0)) ** 2).sum(0))


def subsets(G: int) -> list[slice | NDArray[np.bool_]]:
    """All populations, then all but each."""
    return [slice(None), *(np.arange(G) != g for g in range(G))]


@dataclass(frozen=True, eq=False)
class TargetUnits:
    """Target units drawn around quenched source units."""

    activation: Activation
    readout_precision: float
    X: Array
    source: SourceUnits
    draws: tuple[Draw, ...]

    def against(self, X: Array) -> tuple[TargetSums, Array, Array, Array]:
        """Averages with inputs ``X``, and diagonals (G, n) of <σ²>, <m²σ²> and <σm><σm>."""
        first, *rest = self.draws
        sums, *diagonals = self._of_draw(first, X)
        for k, draw in enumerate(rest, 2):
            more, *others = self._of_draw(draw, X)
            sums = sums.mix(more, 1 / k)
            diagonals = [a + (b - a) / k for a, b in zip(diagonals, others, strict=True)]
        squares, pulled, product = diagonals
        return sums, squares, pulled, product

    def _of_draw(self, draw: Draw, X: Array) -> tuple[TargetSums, Array, Array, Array]:
        """The same over one step of the units."""
        h = draw.hidden_weights @ (X.T / np.sqrt(X.shape[1]))
        new = self.activation(h) / np.sqrt(self.readout_precision)
        pulled = draw.m[..., None] * new
        return (
            TargetSums.of(
                draw.features, new, draw.m, draw.shared, self.source.readouts, self.source.pulls
            ),
            (new**2).mean((1, 2)),
            (pulled**2).mean((1, 2)),
            (pulled[:, 0] * pulled[:, 1]).mean(1),
        )


@dataclass(frozen=True, eq=False)
class TransferLawSolution:
    """A coupled target: the law of its units around those of the source.

    Attributes
    ----------
    width, coupling, temperature : N1, γ and T of the target.
    Q_s, Q_t, Q_st, Q_tt : the readout overlaps that the scalar theory has by the same names.
    train_error : ⟨(y - f)²⟩ averaged over the target's training examples.
    log_evidence : of the target, averaged over the source's posterior, leading order.
    errors : Monte Carlo standard errors by name, from leaving out one population at a time.
    residual : how far the force that the units felt last is from the one they give back.
    steps, converged : of the target's particles.
    source : the source's law.
    """

    width: float
    coupling: float
    temperature: float
    Q_s: float
    Q_t: float
    Q_st: float
    Q_tt: float
    train_error: float
    log_evidence: float
    errors: dict[str, float]
    residual: float
    steps: int
    converged: bool
    source: UnitLawSolution = field(repr=False)
    y: Array = field(repr=False)
    units: TargetUnits | UnitLawSolution = field(repr=False)  # the latter where γ = 0
    closures: tuple[TargetClosure, ...] = field(repr=False)
    drive: Array = field(repr=False)  # <σm> of each population (G, P)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variances of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        if isinstance(self.units, UnitLawSolution):
            return self.units.predict(X, y)
        return self._predictions(self.units, X, y)[0]

    def averages(self, test: Task) -> dict[str, Estimate]:
        """Means over the test points of errors and variances, each with its Monte Carlo error."""
        if isinstance(self.units, UnitLawSolution):
            return self.units.averages(test)
        return estimates(self._predictions(self.units, test.X, test.y), jackknife)

    def leave_one_out(self) -> Prediction:
        """The prediction of each target label from the others, the law held."""
        if isinstance(self.units, UnitLawSolution):
            return self.units.leave_one_out()
        closed = self.closures[0]
        precision = np.diagonal(closed.propagator)
        source = np.maximum(np.diagonal(closed.field), 0.0) / precision**2
        mean = self.y - closed.t / precision
        total = np.maximum(1 / precision - self.temperature, 0.0) + source
        return prediction(mean, total, source, self.y)

    def _predictions(
        self, units: TargetUnits, X: ArrayLike, y: ArrayLike | None
    ) -> list[Prediction]:
        X = check_inputs(X, n_features=units.X.shape[1])
        y = None if y is None else check_labels(y, len(X))
        kept = subsets(len(units.source.weights))
        parts: list[list[Prediction]] = [[] for _ in kept]
        G, M = units.source.readouts.shape
        for part in chunks(len(X), 8 * G * M):
            sums, *diagonals = units.against(X[part])
            labels = None if y is None else y[part]
            for row, chosen, closed in zip(parts, kept, self.closures, strict=True):
                squares, pulled, product = (x[chosen].mean(0) for x in diagonals)
                drive = self.drive[chosen].mean(0)
                averages = sums.only(chosen), drive, squares, pulled, product
                row.append(self._outcome(closed, *averages, labels))
        return [concatenate(row) for row in parts]

    def _outcome(
        self,
        closed: TargetClosure,
        sums: TargetSums,
        drive: Array,
        squares: Array,
        pulled: Array,
        product: Array,
        y: Array | None,
    ) -> Prediction:
        Q, width, Gamma = closed.Q, self.width, closed.propagator
        mean = Q * (closed.t @ sums.second + sums.shared)
        spread = Q**2 / width * sums.covariance(drive)
        spread_x = Q**2 / width * (product - sums.drive**2)
        covariance = Q * sums.second + Q**2 / width * sums.fourth - spread
        thermal = Q * squares + Q**2 / width * pulled - spread_x
        solved = Gamma @ covariance
        thermal = thermal - np.einsum("pn,pn->n", covariance, solved)
        X_x = Q / width * sums.source_covariances()
        known = self.source.propagator @ X_x
        of_sources = spread - 0.5 * (closed.X[0].T @ known[1] + closed.X[1].T @ known[0])
        own = spread_x - np.einsum("pn,pn->n", X_x[0], known[1])
        source = own + np.einsum("pn,pn->n", solved, closed.between @ solved)
        source -= 2 * np.einsum("pn,pn->n", of_sources, solved)
        source = np.maximum(source, 0.0)
        return prediction(mean, np.maximum(thermal, 0.0) + source, source, y)


def average_log_evidence(
    closed: TargetClosure,
    covariance: Array,
    log_integral: float,
    y: Array,
    *,
    width: float,
    temperature: float,
) -> float:
    r"""Average log evidence of the target over the source's posterior, leading order.

    Order n of the replicated functional whose stationarity the equations are,

        N1 (½ ln Q + E ln ∫ dw p(w | w_s) e^u) - t·y + ½T t² + ½ [P (1 - ln 2π) - T Tr(Γ - C)
        + ln det Γ - Tr Γ S],   S = Cov_E(<Q σ m>)/N1,

    with ``covariance`` = Cov_E(<σ m>) (P, P) and ``log_integral`` the average E.
    """
    t, Gamma, Q, _, C, _ = closed
    free = width * (0.5 * np.log(Q) + log_integral) - t @ y + 0.5 * temperature * (t @ t)
    free += 0.5 * len(y) * (1 - np.log(2 * np.pi)) - 0.5 * temperature * np.trace(Gamma - C)
    free += 0.5 * (np.linalg.slogdet(Gamma)[1] - np.vdot(Gamma, Q**2 / width * covariance))
    return float(free)


def numbers(
    closed: TargetClosure,
    sums: TargetSums,
    log_integral: float,
    y: Array,
    width: float,
    temperature: float,
) -> dict[str, float]:
    """Observables of one closure."""
    T = temperature
    Q_t, Q_tt, Q_st = order_parameters(sums, closed.Q, width)
    per_label = (T * closed.t) ** 2 + T
    per_label += T**2 * np.diagonal(closed.field - closed.propagator)
    precision = np.diagonal(closed.propagator)
    left_out = (closed.t**2 + np.diagonal(closed.field)) / precision**2 + 1 / precision - T
    return {
        "Q_t": Q_t,
        "Q_st": Q_st,
        "Q_tt": Q_tt,
        "train_error": float(per_label.mean()),
        "log_evidence": average_log_evidence(
            closed,
            sums.covariance(sums.drive),
            log_integral,
            y,
            width=width,
            temperature=temperature,
        ),
        "leave_one_out_error": float(left_out.mean()),
    }
