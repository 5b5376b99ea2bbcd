r"""One task in the proportional limit: effective action, saddle point, predictor.

A network of N1 hidden units trained on P examples at temperature T is summarised by one number
Q > 0 that multiplies its infinite-width kernel K,

    A(Q) = N1 (Q - ln Q) + ln det(T + Q K) + yᵀ (T + Q K)⁻¹ y,      weight exp(-A/2).

At its minimum the network predicts as a Gaussian process with kernel Q K and noise T, and Q is the
mean squared readout, (λ1/N1) ⟨‖v‖²⟩. With K = U diag(e) Uᵀ everything is a sum over eigenvalues, so
that one decomposition serves every width. Source: Pacelli et al. (2023); Ingrosso et al. (2025).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.optimize import brentq

from tlnb.activations import Activation, get_activation
from tlnb.data.task import Task, check_task
from tlnb.errors import CompetingSaddlesWarning, ConvergenceError
from tlnb.kernels import Block, diagonal, squared_norms
from tlnb.theory.prediction import Prediction, chunks, concatenate, prediction
from tlnb.validation import check_inputs, check_labels, check_positive, check_width

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
# Averages over the test points that the sweeps report.
AVERAGED = ("squared_bias", "total_variance", "test_error", "classification_error")
TOLERANCE = 1e-9  # on the undamped residual of the stationarity equation


class Spectrum(NamedTuple):
    """Eigendecomposition of a kernel with the labels in its basis.

    ``eigenvalues`` (P,), ascending and ≥ 0; ``eigenvectors`` (P, P), as columns; ``projections``
    Uᵀy of shape (P,).
    """

    eigenvalues: Array
    eigenvectors: Array
    projections: Array

    @classmethod
    def of(cls, K: Array, y: Array, temperature: float) -> Spectrum:
        """Decompose the symmetric kernel ``K`` (P, P), which is overwritten.

        Raises
        ------
        ValueError
            If the temperature is below the rounding noise of a singular kernel.
        """
        if not np.isfinite(np.trace(K)):
            raise ValueError(
                "readout_precision must be large enough for a finite kernel, whose trace is now "
                f"{np.trace(K)}"
            )
        e, U = eigh(K.T, overwrite_a=True, check_finite=False, driver="evd")
        check_resolution(e, temperature)
        return cls(np.maximum(e, 0.0), U, U.T @ y)


def check_resolution(eigenvalues: Array, temperature: float) -> None:
    """Raise where T + K is singular to rounding, as with duplicated inputs at T → 0."""
    noise = len(eigenvalues) * np.finfo(float).eps * eigenvalues[-1]
    if temperature <= noise and eigenvalues[0] <= noise:
        raise ValueError(
            f"temperature must exceed {noise:.1e} here, got {temperature:.1e}: the kernel is "
            "singular to rounding (duplicated or collinear inputs?)"
        )


def effective_action(
    Q: ArrayLike,
    eigenvalues: Array,
    squared_projections: Array,
    *,
    width: float,
    temperature: float,
) -> Array:
    """A(Q) for each entry of ``Q`` > 0, given the eigenvalues e_k of K and (Uᵀy)_k².

    At infinite width the first term N1 (Q - ln Q) is left out.
    """
    Q = np.asarray(Q, dtype=float)
    G = temperature + Q[..., None] * eigenvalues
    prior = 0.0 if np.isinf(width) else width * (Q - np.log(Q))
    return prior + np.log(G).sum(-1) + (squared_projections / G).sum(-1)


def stationarity(
    Q: ArrayLike,
    eigenvalues: Array,
    squared_projections: Array,
    *,
    width: float,
    temperature: float,
) -> Array:
    """(1/N1) dA/d ln Q for each entry of ``Q``: zero at a saddle point, rising at a minimum."""
    Q = np.asarray(Q, dtype=float)
    G = temperature + Q[..., None] * eigenvalues
    pull = (Q[..., None] * eigenvalues / G * (1 - squared_projections / G)).sum(-1)
    return Q - 1 + pull / width


def _curvature(
    Q: ArrayLike, e: Array, squared_projections: Array, *, width: float, temperature: float
) -> Array:
    """(1/N1) d²A/d(ln Q)²."""
    Q = np.asarray(Q, dtype=float)
    G = temperature + Q[..., None] * e
    share = Q[..., None] * e / G
    return (
        Q
        + (share * (1 - share) - squared_projections / G * share * (1 - 2 * share)).sum(-1) / width
    )


class SaddlePoints(NamedTuple):
    """All stationary points of the effective action, in ascending order of Q.

    Attributes
    ----------
    Q, action, residual : arrays of shape (n,); the residual is |(1/N1) dA/d ln Q|, undamped.
    minimum : array of shape (n,), bool; minima and maxima alternate, the outer ones are minima.
    iterations : int, evaluations of the stationarity equation while refining.
    """

    Q: Array
    action: Array
    residual: Array
    minimum: NDArray[np.bool_]
    iterations: int


def saddle_points(
    eigenvalues: Array, squared_projections: Array, *, width: float, temperature: float
) -> SaddlePoints:
    r"""Bracket and refine every root of the stationarity equation.

    All roots lie in 1/(1 + Tr K/(T N1)) ≤ Q ≤ 1 + ‖y‖²/(4 T N1). In ln Q the equation is e^t plus
    bumps of width of order one, one for each eigenvalue, so that a scan in steps of 0.1 sees
    every root; a pair about to merge between two grid points is found at the extremum there.

    Parameters
    ----------
    eigenvalues, squared_projections : arrays of shape (P,)
        e_k ≥ 0 of the kernel and (Uᵀy)_k².
    width : float
        N1, finite or infinite; at infinite width the only root is Q = 1.
    temperature : float
        T > 0.
    """
    args = (eigenvalues, squared_projections)
    given = {"width": width, "temperature": temperature}
    if np.isinf(width):
        one = np.ones(1)
        return SaddlePoints(one, effective_action(one, *args, **given), 0 * one, one > 0, 0)

    def equation(t: float) -> float:
        return float(stationarity(np.exp(t), *args, **given))

    def slope(t: float) -> float:
        return float(_curvature(np.exp(t), *args, **given))

    low = -np.log1p(eigenvalues.sum() / (temperature * width)) - 0.1
    high = np.log1p(squared_projections.sum() / (4 * temperature * width)) + 0.1
    if not np.isfinite(high - low):
        raise ValueError(
            f"temperature must be large enough to divide labels and kernel by, got {temperature}: "
            f"|y|² = {squared_projections.sum():.3g}, Tr K = {eigenvalues.sum():.3g}"
        )
    t = np.linspace(low, high, int(np.ceil((high - low) / 0.1)) + 1)
    F, dF = stationarity(np.exp(t), *args, **given), _curvature(np.exp(t), *args, **given)
    turns = (F[:-1] * F[1:] > 0) & (dF[:-1] * dF[1:] < 0) & (dF[:-1] * F[:-1] < 0)
    extrema = [brentq(slope, t[i], t[i + 1]) for i in np.flatnonzero(turns)]
    knots = np.sort(np.concatenate([t, extrema]))
    F = stationarity(np.exp(knots), *args, **given)
    crossings = np.flatnonzero((F[:-1] < 0) != (F[1:] < 0))
    found = [
        brentq(equation, knots[i], knots[i + 1], xtol=1e-15, rtol=1e-15, full_output=True)
        for i in crossings
    ]
    Q = np.exp([root for root, _ in found])
    return SaddlePoints(
        Q,
        effective_action(Q, *args, **given),
        np.abs(stationarity(Q, *args, **given)),
        F[crossings] < 0,
        sum(info.function_calls for _, info in found),
    )


@dataclass(frozen=True, eq=False)
class ProportionalSolution:
    """The saddle point of one task and what follows from it.

    Attributes
    ----------
    width, temperature : N1 and T.
    Q : the order parameter (λ1/N1) ⟨‖v‖²⟩, which renormalises the kernel.
    action : A(Q); without the first term at infinite width.
    log_evidence : leading order of ln ∫ Π N(y | f, T) over normalised priors.
    train_error : ⟨(y - f)²⟩ averaged over the training examples.
    residual, iterations, converged : of the solver; the residual is undamped.
    competing : (Q, action) of every other minimum of the action, lowest action first.
    """

    width: float
    temperature: float
    Q: float
    action: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    competing: tuple[tuple[float, float], ...]
    _spectrum: Spectrum = field(repr=False)
    _process: NetworkProcess = field(repr=False)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variance of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        X = check_inputs(X, n_features=self._process.X.shape[1])
        y = None if y is None else check_labels(y, len(X))
        parts = []
        for part in chunks(len(X), len(self._spectrum.eigenvalues)):
            projected = self._process.projected(X[part], self._spectrum)
            parts.append(self.outcome(*projected, None if y is None else y[part]))
        return concatenate(parts)

    def outcome(self, V: Array, V_squared: Array, prior: Array, y: Array | None) -> Prediction:
        """The prediction from what `NetworkProcess.projected` returns."""
        e, _, projections = self._spectrum
        share = self.Q / (self.temperature + self.Q * e)  # Q G⁻¹ in the eigenbasis
        mean = (share * projections) @ V
        variance = self.Q * (prior - share @ V_squared)
        return prediction(mean, np.maximum(variance, 0.0), np.zeros_like(mean), y)


class NetworkProcess(NamedTuple):
    """The Gaussian process of a wide random network, with the inputs it is trained on.

    ``variance`` is 1/λ0, that of a hidden weight; ``precision`` λ1, that of a readout.
    """

    X: Array
    activation: Activation
    variance: float
    precision: float

    def train_kernel(self) -> Array:
        """K of shape (P, P)."""
        c = self.variance
        return Block.of(self.X).kernel(self.activation, c, c, c, self.precision)

    def projected(self, X: Array, spectrum: Spectrum) -> tuple[Array, Array, Array]:
        """V = UᵀK (P, n) against new inputs (n, N0), its square, and their K(x, x) (n,)."""
        c = self.variance
        K = Block.between(self.X, X).kernel(self.activation, c, c, c, self.precision)
        V = spectrum.eigenvectors.T @ K
        norms = squared_norms(X)
        return V, np.square(V, out=K), diagonal(self.activation, norms, c, c, self.precision)


def solve(
    task: Task,
    *,
    width: float,
    activation: str | Activation = "erf",
    temperature: float = 0.01,
    weight_precision: float = 1.0,
    readout_precision: float = 1.0,
) -> ProportionalSolution:
    """The saddle point of least action of one task.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    width : float
        N1 ≥ 1; ``numpy.inf`` is the Gaussian-process limit, Q = 1.
    activation : str, Activation or callable
    temperature, weight_precision, readout_precision : float
        T, λ0 and λ1, all > 0.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed, and kernels singular at this temperature.
    ConvergenceError
        If the residual of the stationarity equation is above 1e-9.

    Warns
    -----
    CompetingSaddlesWarning
        If the action has further minima.
    """
    width = check_width(width)
    temperature = check_positive("temperature", temperature)
    process = _process(task, activation, weight_precision, readout_precision)
    spectrum = Spectrum.of(process.train_kernel(), task.y, temperature)
    return at_width(width, temperature, spectrum, process)


def _process(
    task: Task, activation: str | Activation, weight_precision: float, readout_precision: float
) -> NetworkProcess:
    return NetworkProcess(
        check_task("task", task).X,
        get_activation(activation),
        1 / check_positive("weight_precision", weight_precision),
        check_positive("readout_precision", readout_precision),
    )


def at_width(
    width: float, temperature: float, spectrum: Spectrum, process: NetworkProcess
) -> ProportionalSolution:
    """`solve` for a kernel that is already decomposed."""
    e, y2 = spectrum.eigenvalues, spectrum.projections**2
    best, competing, iterations = least_action(e, y2, width=width, temperature=temperature)
    Q, action, residual = best
    G = temperature + Q * e
    prior = 0.0 if np.isinf(width) else width
    return ProportionalSolution(
        width,
        temperature,
        Q,
        action,
        log_evidence=-0.5 * (action - prior + len(e) * np.log(2 * np.pi)),
        train_error=float(np.mean((temperature / G) ** 2 * y2 + temperature * Q * e / G)),
        residual=residual,
        iterations=iterations,
        converged=True,
        competing=competing,
        _spectrum=spectrum,
        _process=process,
    )


def least_action(
    eigenvalues: Array, squared_projections: Array, *, width: float, temperature: float
) -> tuple[tuple[float, float, float], tuple[tuple[float, float], ...], int]:
    """The minimum of least action as (Q, action, residual), the other minima, and iterations.

    Raises `ConvergenceError` above the tolerance, warns `CompetingSaddlesWarning` of other minima.
    """
    roots = saddle_points(eigenvalues, squared_projections, width=width, temperature=temperature)
    minima = sorted(
        (action, Q, residual)
        for Q, action, residual, minimum in zip(
            roots.Q.tolist(),
            roots.action.tolist(),
            roots.residual.tolist(),
            roots.minimum,
            strict=True,
        )
        if minimum
    )
    if not minima or not minima[0][2] <= TOLERANCE * max(1.0, minima[0][1]):
        residual = minima[0][2] if minima else np.inf
        raise ConvergenceError(
            f"no saddle point at width={width:g}, temperature={temperature:g}: residual "
            f"{residual:.1e}, allowed {TOLERANCE:.0e}; try a higher temperature or scaled labels"
        )
    competing = tuple((Q, action) for action, Q, _ in minima[1:])
    if competing:
        listed = ", ".join(f"Q = {Q:.4g} (action {action:.4g})" for Q, action in competing)
        warnings.warn(
            f"the action at width={width:g} has further minima: {listed}; taken is "
            f"Q = {minima[0][1]:.4g} (action {minima[0][0]:.4g})",
            CompetingSaddlesWarning,
            stacklevel=4,
        )
    action, Q, residual = minima[0]
    return (Q, action, residual), competing, roots.iterations


def width_sweep(
    task: Task,
    test: Task,
    *,
    widths: Sequence[float],
    activation: str | Activation = "erf",
    temperature: float = 0.01,
    weight_precision: float = 1.0,
    readout_precision: float = 1.0,
) -> Dataset:
    """Theory over widths from one eigendecomposition.

    Parameters are those of `solve`; ``test`` holds the inputs and labels that errors are averaged
    over. Returns a Dataset over ``width`` with Q, train_error, squared_bias, total_variance,
    test_error, classification_error, log_evidence and residual. Raises and warns as `solve` does.
    """
    import xarray as xr

    widths = [check_width(width, "widths") for width in widths]
    temperature = check_positive("temperature", temperature)
    process = _process(task, activation, weight_precision, readout_precision)
    check_task("test", test, task.n_features)
    columns = sweep(process, task.y, test, widths, temperature)
    return xr.Dataset(
        {name: ("width", values) for name, values in columns.items()},
        coords={"width": widths},
        attrs={"temperature": temperature, "activation": process.activation.name},
    )


def sweep(
    process: NetworkProcess, y: Array, test: Task, widths: Sequence[float], temperature: float
) -> dict[str, Array]:
    """What `width_sweep` returns, as arrays of shape (len(widths),), for checked arguments."""
    spectrum = Spectrum.of(process.train_kernel(), y, temperature)
    solutions = [at_width(width, temperature, spectrum, process) for width in widths]
    errors = {name: np.zeros(len(widths)) for name in AVERAGED}
    for part in chunks(test.n_examples, process.X.shape[0]):
        projected = process.projected(test.X[part], spectrum)
        outcomes = [solution.outcome(*projected, test.y[part]) for solution in solutions]
        for name in AVERAGED:
            sums = np.array([getattr(outcome, name).sum() for outcome in outcomes])
            errors[name] += sums / test.n_examples
    scalars = ("Q", "train_error", "log_evidence", "residual")
    return {name: np.array([getattr(s, name) for s in solutions]) for name in scalars} | errors
