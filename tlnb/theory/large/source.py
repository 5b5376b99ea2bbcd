r"""The order parameter of a large source, with its Monte Carlo error.

With α = G⁻¹y, G = T + Q K, stationarity of the action of one task in ln Q is

    F = Q - 1 + (1/N1) [P - T Tr G⁻¹ - (yᵀα - T αᵀα)] = 0,

whose label part is solved to rounding of float32 kernels and whose trace carries a standard error;
dF/d ln Q turns it into that of Q. Where the action has several minima, those that the low rank
alone shows are warned of; the one nearest to its least action is taken. Source: Pacelli et al.
(2023).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.errors import CompetingSaddlesWarning, ConvergenceError, warn_caller
from tlnb.theory.large.iterative import Equation, Solution, solve
from tlnb.theory.large.kernel import LargeKernel
from tlnb.theory.large.low_rank import LowRank
from tlnb.theory.large.traces import PROBES, Estimate, log_det, trace_of
from tlnb.theory.one_task.saddle import saddle_points
from tlnb.validation import check_labels, check_positive, check_width

Array = NDArray[np.float64]
LABELS = 1e-6  # residual of the labels, relative to them
SLOPE = 5e-2  # the same of α, for the slope alone


class EstimatedSaddle(NamedTuple):
    """The saddle point of a large source.

    ``Q`` with its standard ``error``; ``equation`` G at that Q; ``labels`` the solution α (P, 1)
    of G α = y; ``residual`` |F| there; ``slope`` dF/d ln Q; ``trace`` Tr G⁻¹; ``n_probes``.
    """

    Q: float
    error: float
    equation: Equation
    labels: Solution
    residual: float
    slope: float
    trace: Estimate
    n_probes: int

    @property
    def alpha(self) -> Array:
        """G⁻¹y, of shape (P,)."""
        return self.labels.X[:, 0]


class _Point(NamedTuple):
    """F and its slope at one Q."""

    F: float
    slope: float
    equation: Equation
    labels: Solution
    trace: Estimate


def source_saddle(
    kernel: LargeKernel, y: Array, *, width: float, temperature: float
) -> EstimatedSaddle:
    """The order parameter of a source with labels ``y`` (P,), readouts of precision one.

    Parameters
    ----------
    kernel : LargeKernel
        Its options say how exactly and with what.
    y : array of shape (P,)
    width, temperature : float
        N1 ≥ 1, infinity included, and T > 0.

    Raises
    ------
    ConvergenceError
        If no minimum is found, or its standard error stays above the tolerance.
    ValueError, TypeError
        For labels of another shape or not finite, and temperatures too low for float32 kernels.

    Warns
    -----
    CompetingSaddlesWarning
        If the low rank's action has further minima.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.kernels import get_activation
    >>> from tlnb.theory.large import source_saddle
    >>> from tlnb.theory.large.kernel import LargeKernel
    >>> X = np.random.default_rng(0).standard_normal((150, 10))
    >>> kernel = LargeKernel(X, get_activation("erf"), 1.0)
    >>> found = source_saddle(kernel, X[:, 0], width=50, temperature=0.1)
    >>> bool(0 < found.error < 1e-2 * found.Q)
    True
    """
    y = check_labels(y, len(kernel.X))
    width, temperature = check_width(width), check_positive("temperature", temperature)
    options = kernel.options
    Q = 1.0 if np.isinf(width) else _first_guess(kernel.low_rank, y, width, temperature)
    kernel.tiles.check_resolution(Q, temperature)
    if np.isinf(width):
        equation = Equation.of(kernel.tiles, kernel.low_rank, 1.0, temperature)
        labels = solve(equation, y[:, None], LABELS * np.linalg.norm(y))
        return EstimatedSaddle(1.0, 0.0, equation, labels, 0.0, np.inf, Estimate(np.nan, np.nan), 0)
    n, aim = min(options.n_probes, options.most_probes), options.tolerance / 5
    before: tuple[Equation, Solution] | None = None
    while True:
        point, before = _newton(kernel, y, Q, width, temperature, n, before)
        Q = point.equation.Q
        error = Q * temperature * point.trace.error / (width * point.slope)
        if error <= aim * Q or n >= options.most_probes:
            break
        n = min(options.most_probes, max(2 * n, int(1.2 * n * (error / (aim * Q)) ** 2)))
    if error > options.tolerance * Q:
        raise ConvergenceError(
            f"the source's order parameter {Q:.4g} at width={width:g} has a standard error of "
            f"{error:.1e} with {n} random vectors, allowed {options.tolerance * Q:.1e}; take more "
            "vectors (most_probes), more landmarks or a larger tolerance"
        )
    residual = abs(point.F)
    return EstimatedSaddle(
        Q, error, point.equation, point.labels, residual, point.slope, point.trace, n
    )


def log_evidence(
    kernel: LargeKernel, y: Array, saddle: EstimatedSaddle, *, width: float
) -> Estimate:
    """The leading order of a source's log evidence, for readouts of precision one."""
    z = kernel.probes(max(saddle.n_probes, kernel.options.n_probes))
    volume = log_det(saddle.equation, kernel.moments, z)
    Q = saddle.Q
    prior = 0.0 if np.isinf(width) else width * (Q - 1 - np.log(Q))
    fit = float(y @ saddle.alpha + saddle.alpha @ saddle.labels.residual[:, 0])
    value = prior + volume.value + fit + len(y) * np.log(2 * np.pi)
    return Estimate(-0.5 * value, 0.5 * volume.error)


def _first_guess(low_rank: LowRank, y: Array, width: float, temperature: float) -> float:
    """The minimum of least action of the low rank, warning of others."""
    P, r = low_rank.vectors.shape
    seen = np.square(low_rank.vectors.T @ y)
    unseen = max(float(y @ y - seen.sum()), 0.0) / max(P - r, 1)
    roots = saddle_points(
        np.concatenate([np.full(P - r, low_rank.tail), low_rank.values + low_rank.tail]),
        np.concatenate([np.full(P - r, unseen), seen]),
        width=width,
        temperature=temperature,
    )
    minima = roots.Q[roots.minimum]
    best = float(minima[np.argmin(roots.action[roots.minimum])])
    if len(minima) > 1:
        listed = ", ".join(f"Q = {Q:.4g}" for Q in minima if best != Q)
        warn_caller(
            f"the source's action at width={width:g} seems to have further minima, as far as "
            f"{r} directions of its kernel tell: {listed}; taken is the one near Q = {best:.4g}",
            CompetingSaddlesWarning,
        )
    return best


def _newton(
    kernel: LargeKernel,
    y: Array,
    Q: float,
    width: float,
    temperature: float,
    n: int,
    before: tuple[Equation, Solution] | None,
) -> tuple[_Point, tuple[Equation, Solution]]:
    """The zero of F near Q, in ln Q, begun from solutions for fewer random vectors, if any."""
    z = kernel.probes(n)
    t, low, high = np.log(Q), -np.inf, np.inf
    for _ in range(30):
        equation = Equation.of(kernel.tiles, kernel.low_rank, float(np.exp(t)), temperature)
        point, before = _at(kernel, y, equation, z, width, before)
        if point.F < 0:
            low = t
        else:
            high = t
        step = -point.F / point.slope if point.slope > 0 else -np.sign(point.F)
        # Nothing is gained far below the error aimed at, and solutions are not exact either.
        known = 0.1 * temperature * point.trace.error / (width * abs(point.slope))
        if point.slope > 0 and abs(step) < max(1e-6, known, 2e-3 * kernel.options.tolerance):
            return point, before
        step = float(np.clip(step, -1.0, 1.0))
        if not low < t + step < high:
            step = 0.5 * (low + high) - t
        t += step
    raise ConvergenceError(
        f"no saddle point of the source at width={width:g}, temperature={temperature:g}: residual "
        f"{abs(point.F):.1e} at Q = {point.equation.Q:.4g}; try a higher temperature or the dense "
        "solver"
    )


def _at(
    kernel: LargeKernel,
    y: Array,
    equation: Equation,
    z: Array,
    width: float,
    before: tuple[Equation, Solution] | None,
) -> tuple[_Point, tuple[Equation, Solution]]:
    """F and its slope, begun from the solutions at another Q; labels and probes in one go."""
    T, Y = equation.temperature, np.column_stack([y, z])
    allowed = np.full(Y.shape[1], PROBES * np.sqrt(len(z)))
    allowed[0] = LABELS * np.linalg.norm(y)
    start = None
    if before is not None:
        old, solved = before
        k = solved.X.shape[1]
        start = equation.preconditioner.precondition(Y)
        start[:, :k] = solved.refined(Y[:, :k], old, equation)
    both = solve(equation, Y, allowed, start=start)
    labels = both.columns(slice(1))
    trace = trace_of(equation, kernel.moments, z, both.columns(slice(1, None)))
    alpha = labels.X[:, 0]
    twice = solve(equation, labels.X, SLOPE * np.linalg.norm(alpha)).diagonal(labels.X)
    fit, size = float(labels.diagonal(y[:, None])[0]), float(alpha @ alpha)
    F = equation.Q - 1 + (len(y) - T * trace.value - fit + T * size) / width
    slope = T * (trace.value - T * trace.squared) + fit - T * size
    slope -= 2 * T * (size - T * float(twice[0]))
    point = _Point(
        F, equation.Q + slope / width, equation, labels, Estimate(trace.value, trace.error)
    )
    return point, (equation, both)
