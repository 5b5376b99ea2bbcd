"""Linear networks of any width, exactly.

Given its readouts v, a two-layer linear network is a Gaussian process whose kernel feels only
their norm: Q K with Q = λ1‖v‖²/N1 and K = X Xᵀ/(N0 λ0 λ1). A priori N1 Q ~ χ²(N1), so that
after P examples

    p(Q) ∝ Q^(N1/2 - 1) exp(-N1 Q/2) det(T + QK)^(-1/2) exp(-yᵀ(T + QK)⁻¹y / 2)

and every posterior expectation is a one-dimensional integral. With K = U diag(e) Uᵀ and
y2 = (Uᵀy)² the log density of t = ln Q is, up to a constant,

    ℓ(t) = (N1/2)(t - eᵗ) - ½ Σ_k ln(T + eᵗ e_k) - ½ Σ_k y2_k/(T + eᵗ e_k) = -A(eᵗ)/2,

A being the effective action of `tlnb.theory.one_task`: the saddle points are the stationary
points of ℓ, and what they drop is of order 1/N1. A tilted Wishart law (Muirhead 1982); exact
evidence of deep linear networks: Hanin and Zlokapa (2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammaln

from tlnb.chunking import chunks
from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.theory.one_task import saddle_points, stationarity
from tlnb.theory.prediction import Prediction, in_parts, prediction
from tlnb.validation import check_positive, check_width

Array = NDArray[np.float64]

DEPTH = 45.0  # exp(-45) = 3e-20: what lies lower adds nothing in double precision
TOLERANCE = 1e-12
MOST_INTERVALS = 2**20


@dataclass(frozen=True, eq=False)
class LinearSolution:
    """Exact posterior of a linear network, by quadrature over Q.

    Attributes
    ----------
    width, temperature : N1 and T.
    Q, Q_variance : posterior mean and variance of (λ1/N1)‖v‖².
    log_evidence : ln ∫ Π N(y | f, T) over normalised priors.
    train_error : ⟨(y - f)²⟩ averaged over the training examples.
    residual : the larger change of ln ∫ exp ℓ and of ⟨Q⟩ (relative) when the nodes were last
        doubled; the error left after that doubling is far smaller.
    iterations : number of doublings.
    converged : always true, a quadrature that does not settle raises.

    Examples
    --------
    The law of Q is a density, whose mean is ``Q``:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.exact import linear
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> solution = linear.solve(Task(X, X[:, 0]), width=20, temperature=0.1)
    >>> Q = np.linspace(0.05, 5, 2000)
    >>> bool(np.isclose(np.trapezoid(Q * solution.density(Q), Q), solution.Q))
    True
    """

    width: float
    temperature: float
    Q: float
    Q_variance: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    _law: _Law = field(repr=False)
    _log_integral: float = field(repr=False)
    _nodes: Array = field(repr=False)
    _weights: Array = field(repr=False)
    _directions: Array = field(repr=False)
    _coefficients: Array = field(repr=False)
    _scale: float = field(repr=False)

    def density(self, Q: ArrayLike) -> Array:
        """Posterior density at each entry of ``Q`` > 0, normalised; infinite width has none."""
        if np.isinf(self.width):
            raise ValueError("width must be finite for Q to have a density, got inf")
        Q = np.asarray(Q, dtype=float)
        if not (np.isfinite(Q) & (Q > 0)).all():
            raise ValueError(f"Q must be finite and > 0, got {Q}")
        log_density = self._law.relative(np.log(Q / self._law.Q0).ravel()) - self._log_integral
        return np.exp(log_density).reshape(Q.shape) / Q

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variance of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Given Q the output is Gaussian; its variance is the mean of the variances and the variance
        of the means over Q. The classification error is exact too: normal tails averaged over Q.
        Memory is bounded: the test points are taken in chunks.
        """
        N0 = len(self._directions)
        numbers = max(len(self._nodes), N0)
        return in_parts(X, y, N0, lambda n: chunks(n, numbers), self._outcome)

    def _outcome(self, X: Array, y: Array | None) -> Prediction:
        means, variances = self._given_nodes(X)
        mean = means @ self._weights
        variance = (variances + (means - mean[:, None]) ** 2) @ self._weights
        outcome = prediction(mean, variance, np.zeros_like(mean), y)
        if y is None:
            return outcome
        given = prediction(means, variances, 0 * means, y[:, None]).classification_error
        return outcome._replace(classification_error=np.asarray(given) @ self._weights)

    def _given_nodes(self, X: Array) -> tuple[Array, Array]:
        """Mean and variance of the output given each node of Q, arrays of shape (n, nodes)."""
        Q = self._nodes
        Z = X / self._scale
        inside = Z @ self._directions
        outside = ((Z - inside @ self._directions.T) ** 2).sum(axis=1, keepdims=True)
        shrunk = Q[:, None] / self._law.noise(Q)
        means = inside @ (shrunk * self._coefficients).T
        return means, Q * outside + inside**2 @ (self.temperature * shrunk).T


def solve(
    task: Task,
    *,
    width: float,
    temperature: float = 0.01,
    weight_precision: float = 1.0,
    readout_precision: float = 1.0,
) -> LinearSolution:
    """Exact posterior of the network f(x) = v·Wx / sqrt(N1 N0) on a task.

    The trapezoid rule in ln Q, whose error falls faster than any power of the step, is refined
    until the log normaliser and ⟨Q⟩ are stable to 1e-12. One thin singular value decomposition of
    the inputs is all the linear algebra: the kernel is never formed.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    width : float
        N1 ≥ 1; ``numpy.inf`` is the Gaussian-process limit, Q = 1.
    temperature, weight_precision, readout_precision : float
        T, λ0 and λ1, all > 0.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If the quadrature does not settle.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.exact import linear
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> solution = linear.solve(Task(X, X[:, 0]), width=20, temperature=0.1)
    >>> solution.predict(X[:3]).mean.shape
    (3,)
    """
    check_task("task", task)
    width = check_width(width)
    T = check_positive("temperature", temperature)
    λ0 = check_positive("weight_precision", weight_precision)
    λ1 = check_positive("readout_precision", readout_precision)
    P, N0 = task.X.shape
    scale = np.sqrt(N0 * λ0 * λ1)
    U, singular, directions = np.linalg.svd(task.X / scale, full_matrices=False)
    projections = task.y @ U
    unreachable = float(((task.y - U @ projections) ** 2).sum())  # no linear map fits this part
    law = _Law.of(singular**2, projections**2, width, T)
    Q, weights, log_integral, residual, iterations = law.quadrature()

    noise = law.noise(Q)
    squares = (T / noise) ** 2 @ law.squared_projections + unreachable
    variances = (T * Q[:, None] * law.eigenvalues / noise).sum(axis=1)
    constant = (P - len(singular)) * np.log(T) + unreachable / T + P * np.log(2 * np.pi)
    mean_Q = float(weights @ Q)
    return LinearSolution(
        width,
        T,
        Q=mean_Q,
        Q_variance=float(weights @ (Q - mean_Q) ** 2),
        log_evidence=law.log_peak() + log_integral - 0.5 * float(constant),
        train_error=float(weights @ (squares + variances)) / P,
        residual=residual,
        iterations=iterations,
        converged=True,
        _law=law,
        _log_integral=log_integral,
        _nodes=Q,
        _weights=weights,
        _directions=directions.T,
        _coefficients=singular * projections,
        _scale=scale,
    )


@dataclass(frozen=True, eq=False)
class _Law:
    """The law of u = ln(Q/Q0), with Q0 its highest mode and ``stationary`` all stationary u."""

    eigenvalues: Array
    squared_projections: Array
    width: float
    temperature: float
    Q0: float
    stationary: Array

    @classmethod
    def of(cls, eigenvalues: Array, squared_projections: Array, width: float, T: float) -> _Law:
        args = (eigenvalues, squared_projections)
        saddles = saddle_points(*args, width=width, temperature=T)
        Q0 = float(saddles.Q[np.argmin(saddles.action)])
        return cls(*args, width, T, Q0, np.log(saddles.Q / Q0))

    def noise(self, Q: ArrayLike) -> Array:
        """Eigenvalues T + Q e_k for each entry of ``Q``, of shape (n, rank)."""
        return self.temperature + np.multiply.outer(Q, self.eigenvalues)

    def relative(self, u: Array) -> Array:
        """ℓ at each entry of ``u`` (n,) less its value at 0, in terms that do not cancel."""
        peak = self.noise(self.Q0)
        pull = self.squared_projections * self.Q0 * self.eigenvalues / peak
        log_density = np.empty_like(u)
        for part in chunks(len(u), len(peak)):
            noise, x = self.noise(self.Q0 * np.exp(u[part])), np.expm1(u[part])
            data = x * (pull / noise).sum(axis=1) - np.log(noise / peak).sum(axis=1)
            log_density[part] = 0.5 * (self.width * (u[part] - self.Q0 * x) + data)
        return log_density

    def log_peak(self) -> float:
        """ln of the prior density of ln Q times the likelihood, at Q0, up to terms without Q."""
        noise = self.noise(self.Q0)
        likelihood = -0.5 * float((np.log(noise) + self.squared_projections / noise).sum())
        if np.isinf(self.width):
            return likelihood
        h, t = self.width / 2, np.log(self.Q0)
        return likelihood + _log_gamma_constant(h) + float(h * (t - np.expm1(t)))

    def quadrature(self) -> tuple[Array, Array, float, float, int]:
        """Nodes Q, weights of sum 1, ln of the integral of exp ℓ over u, residual, doublings."""
        if np.isinf(self.width):
            return np.ones(1), np.ones(1), 0.0, 0.0, 0
        modes = self.stationary[self.relative(self.stationary) > -DEPTH]
        low, span = (end := self._end(modes[0], -1.0)), self._end(modes[-1], 1.0) - end
        # The first step is the width of the narrowest mode, by the slope of dA/dlnQ there.
        around = self.Q0 * np.exp(modes + np.array([[-1e-4], [1e-4]]))
        law = {"width": self.width, "temperature": self.temperature}
        slope = stationarity(around, self.eigenvalues, self.squared_projections, **law)
        slope = np.abs(np.diff(slope, axis=0)).max() / 2e-4
        n = max(16, int(span * np.sqrt(self.width * slope / 2)))

        u = low + span * np.arange(n + 1) / n
        f, log_integral, mean = np.exp(self.relative(u)), np.inf, np.inf
        doublings = 0
        while True:
            before = log_integral, mean
            total = f.sum()
            log_integral, mean = float(np.log(total * span / n)), float(f @ np.exp(u) / total)
            residual = max(abs(log_integral - before[0]), abs(mean / before[1] - 1))
            if residual <= TOLERANCE:
                return self.Q0 * np.exp(u), f / total, log_integral, residual, doublings
            if n > MOST_INTERVALS:
                raise ConvergenceError(
                    f"the quadrature over ln Q left a residual of {residual:.1e}, allowed "
                    f"{TOLERANCE:.0e}, at width={self.width:g}, temperature={self.temperature:g}; "
                    "try a higher temperature or scaled labels"
                )
            between = low + span * (np.arange(n) + 0.5) / n
            u, f = np.append(u, between), np.append(f, np.exp(self.relative(between)))
            n, doublings = 2 * n, doublings + 1

    def _end(self, u: float, direction: float) -> float:
        """Where, beyond the outermost mode, the density has fallen to exp(-45) of its peak."""

        def height(v: float) -> float:
            return float(self.relative(np.array([v]))[0]) + DEPTH

        step = direction / np.sqrt(self.width)
        while height(u + step) > 0:
            step *= 2
        return brentq(height, u, u + step, xtol=1e-3 * abs(step))


def _log_gamma_constant(h: float) -> float:
    """h ln h - h - ln Γ(h), by Stirling's series where the difference would lose digits."""
    if h < 16:
        return float(h * np.log(h) - h - gammaln(h))
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / h**2) / h**2) / h**2) / h
    return float(0.5 * np.log(h / (2 * np.pi)) - series)
