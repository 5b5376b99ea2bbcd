r"""The effective action of one task in the proportional limit, and its derivatives in ln Q.

A network of N1 hidden units trained on P examples at temperature T is summarised by one number
Q > 0 that multiplies its infinite-width kernel K,

    A(Q) = N1 (Q - ln Q) + ln det(T + Q K) + yᵀ (T + Q K)⁻¹ y,      weight exp(-A/2).

With K = U diag(e) Uᵀ everything is a sum over eigenvalues, so that one decomposition serves every
width. Source: Pacelli et al. (2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


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

    Examples
    --------
    >>> import numpy as np
    >>> e, y2 = np.array([1.0, 4.0]), np.array([1.0, 9.0])
    >>> effective_action([0.5, 1.0, 2.0], e, y2, width=10, temperature=0.1).round(2)
    array([18.11, 14.61, 17.49])
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
    """(1/N1) dA/d ln Q for each entry of ``Q``: zero at a saddle point, rising at a minimum.

    Examples
    --------
    >>> import numpy as np
    >>> e, y2 = np.array([1.0, 4.0]), np.array([1.0, 9.0])
    >>> stationarity([0.5, 1.0, 2.0], e, y2, width=10, temperature=0.1).round(2)
    array([-0.87, -0.11,  1.04])
    """
    Q = np.asarray(Q, dtype=float)
    G = temperature + Q[..., None] * eigenvalues
    pull = (Q[..., None] * eigenvalues / G * (1 - squared_projections / G)).sum(-1)
    return Q - 1 + pull / width


def curvature(
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
