r"""The equations that close the theory: from the law of a unit to what the units feel.

Given ⟨σσᵀ⟩ and ⟨n²σσᵀ⟩, n = Q m, over the law of a unit, the force t on the labels, the propagator
Γ of its fluctuations and the order parameter Q of a readout given its unit solve

    (T + Q⟨σσᵀ⟩) t = y,   Γ = (T + Σ)⁻¹,   Σ = ⟨Vσσᵀ⟩,   Q = 1/(1 + q),   q = Tr Γ⟨σσᵀ⟩/N1,

with V = Q + n²/N1. With n held, Q(1 + q) grows with Q, so that there is one root; with m held there
can be several where P > N1 and T is small, and particles that follow now one, now another never
settle. `solve_gaussian` takes the law for which all this is the scalar theory of
`tlnb.theory.one_task`: a field m that is Gaussian under the prior.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import brentq

from tlnb.errors import ConvergenceError
from tlnb.theory.unit_law.moments import Moments

Array = NDArray[np.float64]


class Closure(NamedTuple):
    """Force t (P,), propagator Γ (P, P), Q, V̄ = ⟨V⟩ and ln det(T + Σ)."""

    t: Array
    propagator: Array
    Q: float
    mean_square: float
    log_det: float

    @property
    def variance(self) -> Array:
        """The diagonal of Γ (P,)."""
        return np.diagonal(self.propagator)


def noisy(matrix: Array, temperature: float) -> Array:
    """T added to the diagonal, in place."""
    matrix.flat[:: len(matrix) + 1] += temperature
    return matrix


def inverse(covariance: Array) -> tuple[Array, float]:
    """Inverse and log determinant of a positive definite matrix, which is overwritten."""
    L, info = dpotrf(covariance.T, lower=True, clean=True, overwrite_a=True)
    if info:
        raise LinAlgError(f"minor {info} of the covariance is not positive definite")
    log_det = 2 * float(np.log(np.diagonal(L)).sum())
    half, _ = dpotri(L, lower=True, overwrite_c=True)
    whole = half + half.T
    np.fill_diagonal(whole, np.diagonal(half))
    return whole, log_det


def propagator(
    moments: Moments, Q: float, *, width: float, temperature: float
) -> tuple[Array, float]:
    """Γ = (T + Σ)⁻¹ (P, P) and ln det(T + Σ).

    Γ itself is an observable, the covariance of the force, and every entry of it is used.
    """
    covariance = noisy(moments.self_energy(Q, width), temperature)
    return inverse(covariance)


def force(moments: Moments, y: Array, Q: float, temperature: float) -> Array:
    """t (P,) from the labels."""
    return cho_solve(labels_factor(moments, Q, temperature), y)


def labels_factor(moments: Moments, Q: float, temperature: float) -> tuple[Array, bool]:
    """The Cholesky factor of T + Q⟨σσᵀ⟩."""
    covariance = noisy(Q * moments.second, temperature)
    return cho_factor(covariance, check_finite=False, overwrite_a=True)


def update(
    moments: Moments, Q: float, *, width: float, temperature: float
) -> tuple[float, tuple[Array, bool]]:
    """One pass: the next Q from a Q before, and the Cholesky factor of T + Q⟨σσᵀ⟩."""
    Gamma, _ = propagator(moments, Q, width=width, temperature=temperature)
    Q = float(1 / (1 + np.vdot(Gamma, moments.second) / width))
    return Q, labels_factor(moments, Q, temperature)


def close(moments: Moments, y: Array, *, width: float, temperature: float) -> Closure:
    """Solve for Q at given averages over the law, to rounding; then t and Γ.

    Raises
    ------
    ConvergenceError
        If the averages are so noisy that T + Q⟨σσᵀ⟩ or T + Σ is not positive definite.
    """

    def equation(Q: float) -> np.floating:
        Gamma, _ = propagator(moments, Q, width=width, temperature=temperature)
        return Q * (1 + np.vdot(Gamma, moments.second) / width) - 1

    try:
        Q = brentq(equation, 1e-8, 1.0 + 1e-12, xtol=1e-14, rtol=1e-13)
        Gamma, log_det = propagator(moments, Q, width=width, temperature=temperature)
        t = force(moments, y, Q, temperature)
    except (LinAlgError, ValueError) as error:
        raise ConvergenceError(
            f"the averages over the law of a unit are too noisy for a covariance of the labels at "
            f"temperature={temperature:g} ({error}); try more particles or steps"
        ) from error
    # ⟨m²⟩ = tᵀ⟨σσᵀ⟩t at the force found: the fields that the particles felt carry its noise.
    mean_square = Q + Q**2 * float(t @ moments.second @ t) / width
    return Closure(t, Gamma, Q, mean_square, log_det)


def solve_gaussian(K: Array, y: Array, *, width: float, temperature: float) -> Closure:
    r"""The closed theory for a law whose field m is Gaussian under the prior: the scalar theory.

    Along t the tilt stretches the features by s = 1/(1 - Q k/N1), k = tᵀKt, and nothing else:

        ⟨σ m⟩ = s K t,   ⟨m²⟩ = s k,   ⟨σσᵀ⟩ = K,   ⟨Vσσᵀ⟩ = ⟨V⟩ K

    up to the one stretched direction, a share of order 1/P of the traces. The order parameter of
    the scalar theory is ⟨V⟩ = s Q. One unknown, v = ⟨n²⟩, is left to be found.

    Raises `ConvergenceError` if no root is found.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.kernels import kernel
    >>> from tlnb.theory import one_task
    >>> from tlnb.theory.unit_law.closure import solve_gaussian
    >>> X = np.random.default_rng(0).standard_normal((20, 40))
    >>> K = kernel(X, activation="erf")
    >>> closed = solve_gaussian(K, X[:, 0], width=20, temperature=0.1)
    >>> scalar = one_task.solve(Task(X, X[:, 0]), width=20, temperature=0.1)
    >>> bool(np.isclose(closed.mean_square, scalar.Q, rtol=1e-6))
    True
    """

    def at(v: float) -> tuple[float, Closure]:
        closed = close(Moments(K, v * K), y, width=width, temperature=temperature)
        Q = closed.Q
        s = 1 + v / (Q * width)
        t = force(Moments(s * K, K), y, Q, temperature)
        return v - s * Q**2 * float(t @ K @ t), closed._replace(t=t, mean_square=Q + v / width)

    highest = 1.0
    while at(highest)[0] < 0:
        highest *= 4
        if highest > 1e12:
            raise ConvergenceError(
                f"no law with a Gaussian field at width={width:g}, temperature={temperature:g}: "
                f"⟨n²⟩ is above {highest:.0e}; try a higher temperature or scaled labels"
            )
    return at(brentq(lambda v: at(v)[0], 0.0, highest, xtol=1e-13, rtol=1e-13))[1]
