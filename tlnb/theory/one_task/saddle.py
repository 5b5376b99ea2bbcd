r"""Saddle points of the effective action of one task: all of them, and the one of least action.

A root of the stationarity equation always exists. It is unique if the kernel's rank is at most the
width; otherwise there can be several, and the network is described by the minimum of least action.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from tlnb.errors import CompetingSaddlesWarning, ConvergenceError, warn_caller
from tlnb.theory.one_task.action import curvature, effective_action, stationarity

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the undamped residual of the stationarity equation


class SaddlePoints(NamedTuple):
    """All stationary points of the effective action, in ascending order of Q.

    Attributes
    ----------
    Q, action, residual : arrays of shape (n,); the residual is |(1/N1) dA/d ln Q|, undamped.
    minimum : array of shape (n,), bool; minima and maxima alternate, the outer ones are minima.
    iterations : int, evaluations of the stationarity equation while refining.

    Examples
    --------
    Forty directions without labels, and a weak one with a large label: two minima compete.

    >>> import numpy as np
    >>> from tlnb.theory.one_task import saddle_points
    >>> e, y2 = np.append(np.ones(40), 0.005), np.append(np.zeros(40), 3.0)
    >>> found = saddle_points(e, y2, width=20, temperature=0.01)
    >>> found.Q.round(2), found.minimum
    (array([0.01, 0.16, 2.65]), array([ True, False,  True]))
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

    Examples
    --------
    >>> import numpy as np
    >>> found = saddle_points(np.array([1.0]), np.array([9.0]), width=10, temperature=0.1)
    >>> found.Q.round(2), found.minimum
    (array([1.45]), array([ True]))
    """
    law = {"width": width, "temperature": temperature}

    def action(Q: ArrayLike) -> Array:
        return effective_action(Q, eigenvalues, squared_projections, **law)

    def equation(t: ArrayLike) -> Array:
        return stationarity(np.exp(t), eigenvalues, squared_projections, **law)

    def slope(t: ArrayLike) -> Array:
        return curvature(np.exp(t), eigenvalues, squared_projections, **law)

    if np.isinf(width):
        one = np.ones(1)
        return SaddlePoints(one, action(one), 0 * one, one > 0, 0)

    low = -np.log1p(eigenvalues.sum() / (temperature * width)) - 0.1
    high = np.log1p(squared_projections.sum() / (4 * temperature * width)) + 0.1
    if not np.isfinite(high - low):
        raise ValueError(
            f"temperature must be large enough to divide labels and kernel by, got {temperature}: "
            f"|y|² = {squared_projections.sum():.3g}, Tr K = {eigenvalues.sum():.3g}"
        )
    t = np.linspace(low, high, int(np.ceil((high - low) / 0.1)) + 1)
    F, dF = equation(t), slope(t)
    turns = (F[:-1] * F[1:] > 0) & (dF[:-1] * dF[1:] < 0) & (dF[:-1] * F[:-1] < 0)
    extrema = [brentq(slope, t[i], t[i + 1]) for i in np.flatnonzero(turns)]
    knots = np.sort(np.concatenate([t, extrema]))
    F = equation(knots)
    crossings = np.flatnonzero((F[:-1] < 0) != (F[1:] < 0))
    found = [
        brentq(equation, knots[i], knots[i + 1], xtol=1e-15, rtol=1e-15, full_output=True)
        for i in crossings
    ]
    Q = np.exp([root for root, _ in found])
    residual = np.abs(stationarity(Q, eigenvalues, squared_projections, **law))
    evaluations = sum(info.function_calls for _, info in found)
    return SaddlePoints(Q, action(Q), residual, F[crossings] < 0, evaluations)


class LeastAction(NamedTuple):
    """The minimum of least action.

    ``competing`` holds (Q, action) of every other minimum, lowest action first; ``residual`` is
    the undamped one of the stationarity equation, ``iterations`` its evaluations.
    """

    Q: float
    action: float
    residual: float
    competing: tuple[tuple[float, float], ...]
    iterations: int


def least_action(
    eigenvalues: Array, squared_projections: Array, *, width: float, temperature: float
) -> LeastAction:
    """Choose among the saddle points of `saddle_points`, whose arguments these are.

    Raises
    ------
    ConvergenceError
        If the residual is above the tolerance.

    Warns
    -----
    CompetingSaddlesWarning
        If the action has further minima.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.one_task import least_action
    >>> found = least_action(np.array([1.0]), np.array([9.0]), width=10, temperature=0.1)
    >>> round(found.Q, 2), found.competing
    (1.45, ())
    """
    roots = saddle_points(eigenvalues, squared_projections, width=width, temperature=temperature)
    columns = (values.tolist() for values in (roots.action, roots.Q, roots.residual, roots.minimum))
    minima = sorted(row[:3] for row in zip(*columns, strict=True) if row[3])
    if not minima or not minima[0][2] <= TOLERANCE * max(1.0, minima[0][1]):
        residual = minima[0][2] if minima else np.inf
        raise ConvergenceError(
            f"no saddle point at width={width:g}, temperature={temperature:g}: residual "
            f"{residual:.1e}, allowed {TOLERANCE:.0e}; try a higher temperature or scaled labels"
        )
    action, Q, residual = minima[0]
    competing = tuple((other, at) for at, other, _ in minima[1:])
    if competing:
        listed = ", ".join(f"Q = {other:.4g} (action {at:.4g})" for other, at in competing)
        warn_caller(
            f"the action at width={width:g} has further minima: {listed}; taken is "
            f"Q = {Q:.4g} (action {action:.4g})",
            CompetingSaddlesWarning,
        )
    return LeastAction(Q, action, residual, competing, roots.iterations)
