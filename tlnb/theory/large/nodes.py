r"""Couplings by interpolation: solutions at a few nodes serve every coupling.

Kernels of source and target depend on γ through the share b = c_st/c_s = γ/(λ0t + γ) in [0, 1], of
which the weight covariances are polynomials; so are, nearly, quadratic forms of the kernels. From
their values at the Chebyshev points b_j = (1 - cos(πj/n))/2, both ends included, barycentric
interpolation gives them at every b, with an error that falls geometrically in n. How many points
are needed is tried on few examples, where it costs nothing. Source: Berrut and Trefethen, SIAM
Review 46 (2004).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.errors import ConvergenceError
from tlnb.kernels import Activation, InnerProducts
from tlnb.priors import WeightCovariances
from tlnb.theory.factors import Cholesky

Array = NDArray[np.float64]
DEGREES = (4, 6, 8, 12, 16, 24, 32)
FEW_SOURCE, FEW_TARGET = 400, 60  # examples on which the number of nodes is tried


def share_of(covariances: WeightCovariances) -> float:
    """b of the weight covariances."""
    return covariances.c_st / covariances.c_s


def coupling_of(
    share: float, *, scheme: str, source_precision: float, target_precision: float
) -> float:
    """The coupling γ at which c_st/c_s is ``share``, from 0 to 1.

    Examples
    --------
    >>> from tlnb.theory.large.nodes import coupling_of
    >>> coupling_of(0.5, scheme="elastic", source_precision=1.0, target_precision=2.0)
    2.0
    """
    if share >= 1:
        return np.inf
    if scheme == "variance-preserving":
        return share * source_precision / (1 - share**2)
    return share * target_precision / (1 - share)


def nodes(degree: int) -> Array:
    """The n + 1 Chebyshev points of [0, 1], ascending; those of degree n are among those of 2n."""
    return 0.5 * (1 - np.cos(np.pi * np.arange(degree + 1) / degree))


def weights(share: float, degree: int) -> Array:
    """Weights (n + 1,) with which values at the nodes add up to that at ``share``."""
    away = share - nodes(degree)
    if np.any(away == 0):
        return (away == 0).astype(float)
    signs = (-1.0) ** np.arange(degree + 1)
    signs[[0, -1]] *= 0.5
    return signs / away / (signs / away).sum()


def in_turn(shares: Iterable[float], known: Iterable[float] = ()) -> list[float]:
    """Shares in the order of Leja: each as far as can be from those before, and from known ones.

    Examples
    --------
    >>> from tlnb.theory.large.nodes import in_turn
    >>> in_turn([0.0, 0.25, 0.5, 1.0])
    [1.0, 0.0, 0.5, 0.25]
    """
    left, before = list(shares), list(known)
    order = []
    while left:
        away = [np.prod([abs(share - other) for other in before]) for share in left]
        order.append(left.pop(int(np.argmax(away)) if before else int(np.argmax(left))))
        before.append(order[-1])
    return order


def extrapolation(share: float, known: Sequence[float]) -> Array:
    """Weights with which values at the ``known`` shares make a polynomial through ``share``."""
    at = np.asarray(known)
    apart = at[:, None] - at
    np.fill_diagonal(apart, 1.0)
    factors = np.broadcast_to(share - at, apart.shape).copy()
    np.fill_diagonal(factors, 1.0)
    return factors.prod(axis=1) / apart.prod(axis=1)


class Few(NamedTuple):
    """What few examples say: the degree, and the share at which its error was largest."""

    degree: int
    worst: float


def degree_for(
    X_s: Array,
    X_t: Array,
    activation: Activation,
    covariances: Callable[[float], WeightCovariances],
    *,
    Q: float,
    temperature: float,
    tolerance: float,
    rng: np.random.Generator,
) -> Few:
    """The least degree that serves few examples of source and target, drawn with ``rng``.

    Parameters
    ----------
    X_s, X_t : arrays of shape (P_s, N0), (P_t, N0)
    covariances : callable
        Those at a share.
    Q, temperature : float
        Of the source.
    tolerance : float
        Largest error of K_stᵀ G⁻¹ K_st, for its largest entry.

    Raises
    ------
    ConvergenceError
        If no degree that is tried is enough.
    """
    few_s, few_t = (
        X[np.sort(rng.permutation(len(X))[:n])] for X, n in ((X_s, FEW_SOURCE), (X_t, FEW_TARGET))
    )
    own, cross = InnerProducts.of(few_s), InnerProducts.between(few_s, few_t)
    c_s = covariances(1.0).c_s
    G = Q * own.dual(activation, c_s, c_s, c_s)
    G.flat[:: len(G) + 1] += temperature
    factor = Cholesky.of(G)

    def form(share: float) -> Array:
        c = covariances(share)
        root = factor.half(cross.dual(activation, c.c_s, c.c_st, c.c_t))
        return root.T @ root

    for degree in DEGREES:
        known = np.stack([form(share) for share in nodes(degree)])
        between = 0.5 * (1 - np.cos(np.pi * (np.arange(degree) + 0.5) / degree))
        errors, scale = [], np.abs(known).max()
        for share in between:
            guess = np.tensordot(weights(share, degree), known, 1)
            errors.append(np.abs(guess - form(share)).max() / scale)
        if max(errors) <= tolerance:
            return Few(degree, float(between[int(np.argmax(errors))]))
    raise ConvergenceError(
        f"kernels of source and target are not interpolated over couplings to {tolerance:.1e} by "
        f"{DEGREES[-1]} nodes: error {max(errors):.1e}; take a larger tolerance or a dense source"
    )
