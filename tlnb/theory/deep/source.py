r"""Order 0: one deep network trained alone, as every source is.

With A_l,s = Q_l Σ_l,s each layer rescales the kernel by a number Q_l; together R = Π_l Q_l takes
the place that Q has in one hidden layer. The action

    A = Σ_l N_l (Q_l - ln Q_l) + ln det(T + R K) + yᵀ(T + R K)⁻¹y

is stationary where every layer bears the same load φ = N_l (Q_l - 1) and

    φ + Σ_k [ R e_k/(T + R e_k) - y2_k R e_k/(T + R e_k)² ] = 0,

one equation for ln R, since R grows with φ. It can have several roots; that of least action counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from tlnb.errors import CompetingSaddlesWarning, ConvergenceError, warn_caller

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the undamped residual
STEP = 0.1  # of the scan in ln R


class SourceSaddle(NamedTuple):
    """The least action of a deep network alone.

    ``Q`` (L,): the factor of each layer, 1 at infinite width; ``R`` their product; ``competing``:
    (R, action) of the other minima.
    """

    Q: Array
    R: float
    action: float
    residual: float
    iterations: int
    competing: tuple[tuple[float, float], ...]


def shared_load(log_R: ArrayLike, widths: Array) -> tuple[Array, Array]:
    """φ with Σ_l ln(1 + φ/N_l) = ln R, and ln Q of the narrowest layer; all finite ``widths``.

    Newton's method in that logarithm, in which the sum is convex with a slope from 1 to L: it
    converges from above.
    """
    narrowest = widths.min()
    ratio = widths[widths > narrowest] / narrowest
    equal = len(widths) - len(ratio)
    wanted = np.asarray(log_R, dtype=float)
    t = np.maximum(wanted, wanted / len(widths))
    for _ in range(100):
        grown = np.expm1(t)[..., None]
        total = equal * t + np.log1p(grown / ratio).sum(-1)
        step = (total - wanted) / (equal + ((1 + grown) / (ratio + grown)).sum(-1))
        t = t - step
        if np.abs(step).max(initial=0.0) <= 4e-16 * (1 + np.abs(t).max(initial=0.0)):
            break
    return narrowest * np.expm1(t), t


def _log_Q(log_R: float, widths: Array) -> Array:
    """ln Q_l of every layer of finite width."""
    load, smallest = shared_load(log_R, widths)
    log_Q = np.log1p(load / widths)
    log_Q[widths == widths.min()] = smallest  # 1 + φ/N loses its digits where Q is small
    return log_Q


def source_action(
    R: float, Q: Array, eigenvalues: Array, squared_projections: Array, *, widths: Array, T: float
) -> float:
    """A for the factors ``Q`` (L,) of layers of finite ``widths``."""
    G = T + R * eigenvalues
    fit = np.log(G).sum() + (squared_projections / G).sum()
    return float(widths @ (Q - np.log(Q)) + fit)


def source_saddle(
    eigenvalues: Array, squared_projections: Array, *, widths: Array, temperature: float
) -> SourceSaddle:
    """Scan ln R for every stationary point and take the minimum of least action.

    Parameters
    ----------
    eigenvalues, squared_projections : arrays of shape (P,)
        e_k ≥ 0 of the nested kernel and (Uᵀy)_k².
    widths : array of shape (L,)
        N_l, infinity allowed: such a layer only maps kernels.
    temperature : float

    Raises
    ------
    ConvergenceError
        If no stationary point has a residual below 1e-9.

    Warns
    -----
    CompetingSaddlesWarning
        If the action has further minima.
    """
    e, y2, T = eigenvalues, squared_projections, temperature
    all_widths = np.asarray(widths, dtype=float)
    finite = np.isfinite(all_widths)
    Q, N = np.ones(len(all_widths)), all_widths[finite]
    given = {"widths": N, "T": T}
    if not finite.any():
        return SourceSaddle(Q, 1.0, source_action(1.0, Q[finite], e, y2, **given), 0.0, 0, ())

    def pull(log_R: ArrayLike) -> Array:
        R = np.exp(np.asarray(log_R))[..., None]
        G = T + R * e
        return (R * e / G * (1 - y2 / G)).sum(-1)

    def equation(log_R: ArrayLike) -> Array:
        return (shared_load(log_R, N)[0] + pull(log_R)) / N.min()

    low, high = _bounds(e.sum() / T, y2.sum() / (4 * T), N)
    t = np.linspace(low, high, int(np.ceil((high - low) / STEP)) + 1)
    t = np.sort(np.concatenate([t, _turns(equation, t)]))
    F = equation(t)
    crossings = np.flatnonzero((F[:-1] < 0) != (F[1:] < 0))
    found, minima = 0, []
    for i in crossings:
        root, report = brentq(
            lambda u: float(equation(u)), t[i], t[i + 1], xtol=1e-15, rtol=1e-15, full_output=True
        )
        found += report.function_calls
        if F[i] < 0:  # the action's slope in ln R rises: a minimum
            factors = np.exp(_log_Q(root, N))
            action = source_action(np.exp(root), factors, e, y2, **given)
            minima.append((action, float(np.exp(root)), float(abs(equation(root))), factors))
    minima.sort(key=lambda minimum: minimum[0])
    if not minima or not minima[0][2] <= TOLERANCE * max(1.0, minima[0][1]):
        residual = minima[0][2] if minima else np.inf
        raise ConvergenceError(
            f"no saddle point at widths={all_widths.tolist()}, temperature={T:g}: residual "
            f"{residual:.1e}, allowed {TOLERANCE:.0e}; try a higher temperature or scaled labels"
        )
    competing = tuple((R, action) for action, R, _, _ in minima[1:])
    if competing:
        listed = ", ".join(f"R = {R:.4g} (action {action:.4g})" for R, action in competing)
        warn_caller(
            f"the action at widths={all_widths.tolist()} has further minima: {listed}; taken is "
            f"R = {minima[0][1]:.4g} (action {minima[0][0]:.4g})",
            CompetingSaddlesWarning,
        )
    action, R, residual, factors = minima[0]
    Q[finite] = factors
    return SourceSaddle(Q, R, action, residual, found, competing)


def _bounds(largest_pull: float, largest_push: float, widths: Array) -> tuple[float, float]:
    """Where every root lies: -push ≤ pull(R) ≤ min(R · largest_pull, P) and φ = -pull."""
    high = float(np.log1p(largest_push / widths).sum()) + STEP
    if not np.isfinite(high + largest_pull):
        raise ValueError(
            "temperature must be large enough to divide labels and kernel by: |y|²/4T = "
            f"{largest_push:.3g}, Tr K/T = {largest_pull:.3g}"
        )

    def reached(log_R: float) -> float:
        return float(shared_load(log_R, widths)[0]) + np.exp(log_R) * largest_pull

    low = -1.0
    while reached(low) > 0:
        low *= 2
    return low - STEP, high


def _turns(equation: Callable[[ArrayLike], Array], t: Array) -> list[float]:
    """Extrema between grid points that point to zero: where two roots may be about to merge."""
    h = 1e-5
    F = equation(t)
    slope = (equation(t + h) - equation(t - h)) / (2 * h)
    turns = (F[:-1] * F[1:] > 0) & (slope[:-1] * slope[1:] < 0) & (slope[:-1] * F[:-1] < 0)

    def derivative(u: float) -> float:
        return (float(equation(u + h)) - float(equation(u - h))) / (2 * h)

    return [brentq(derivative, t[i], t[i + 1]) for i in np.flatnonzero(turns)]
