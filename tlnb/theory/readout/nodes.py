"""Quadrature over the student's field, with nodes where the integrands are steep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LIMIT = 9.0  # the normal density is below 1e-17 of its peak beyond
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)  # of one panel
_RATIO = 4.0  # of the lengths of neighbouring panels


def gaussian_nodes(V: float, q: float, steepness: float, loss: str) -> tuple[Array, Array]:
    """Nodes and weights of E over ξ ~ N(0, 1), panels shrinking towards what is steep.

    That is the label's probability at 0, the kinks of the hinge's proximal map, and the branch
    points of the logistic one, at a distance of π above ω = c and -V - c.

    Examples
    --------
    >>> from tlnb.theory.readout.nodes import gaussian_nodes
    >>> nodes, weights = gaussian_nodes(1.0, 1.0, 5.0, "hinge")
    >>> round(float(weights.sum()), 9), round(float(weights @ nodes**2), 9)
    (1.0, 1.0)
    """
    s = np.sqrt(q)
    steep = [(0.0, 1 / max(steepness, 0.1))]
    if loss == "hinge":
        steep += [(1 / s, 3.0), ((1 - V) / s, 3.0)]
    else:
        z = 2 * np.arcsinh(np.sqrt(V) / 2)
        c = z + V / np.expm1(z)
        steep += [(c / s, np.pi / s), ((-V - c) / s, np.pi / s)]
    parts = [np.arange(-_LIMIT, _LIMIT + 1, 3)]
    for centre, scale in steep:
        away = scale * _RATIO ** np.arange(np.ceil(np.log(3 / scale) / np.log(_RATIO)))
        parts += [centre + away, centre - away, np.array([centre])]
    ends = np.unique(np.clip(np.concatenate(parts), -_LIMIT, _LIMIT))
    half = np.diff(ends)[:, None] / 2
    xi = (ends[:-1, None] + half * (1 + _NODES)).ravel()
    return xi, (half * _WEIGHTS).ravel() * np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi)
