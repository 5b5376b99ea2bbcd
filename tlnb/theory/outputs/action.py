r"""The effective action of one task with C outputs, and its expansion around a matrix Q.

C readouts share the hidden layer. What is left of a network is a positive definite C × C matrix Q,
a factor of the kernel for every pair of outputs,

    A(Q) = N1 (Tr Q - ln det Q) + ln det(T + Q⊗K) + yᵀ(T + Q⊗K)⁻¹y,      weight exp(-A/2).

In the eigenbases of K and of Q, K = U diag(e) Uᵀ and Q = R diag(q) Rᵀ, the matrix T + Q⊗K is
diagonal, with entries G_ka = T + e_k q_a; with z = UᵀyR the action is a sum over them. Moving along
Q(t) = Q^(1/2) exp(tX) Q^(1/2), with X symmetric and given in the eigenbasis of Q, and with the
shares p_ka = e_k q_a/G_ka and pulls s_ka = sqrt(e_k q_a) z_ka/G_ka, the derivatives at t = 0 are

    A'/N1  = Tr X g,   g = diag(q_a - 1 + Σ_k p_ka/N1) - sᵀs/N1
    A''/N1 = Σ_ab X_ab² [q_a + Σ_k p_ka (1 - p_kb)/N1] - Σ_kabc s_ka X_ab (1 - 2 p_kb) X_bc s_kc/N1

so that one eigendecomposition of K serves every Q, at a cost of P C³. For C = 1 this is
`tlnb.theory.one_task.action`, X being a change of ln Q. Derived in chapter 18.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def effective_action(
    Q: Array, eigenvalues: Array, projections: Array, *, width: float, temperature: float
) -> float:
    """A(Q) for a positive definite ``Q`` (C, C), given e_k (P,) of K and Uᵀy (P, C).

    At infinite width the first term is left out.

    Examples
    --------
    A diagonal Q is one order parameter for each output, and their actions add up:

    >>> import numpy as np
    >>> from tlnb.theory import one_task, outputs
    >>> e, z = np.array([0.5, 2.0]), np.array([[1.0, 2.0], [-1.0, 0.5]])
    >>> at = {"width": 10, "temperature": 0.1}
    >>> both = outputs.effective_action(np.diag([1.2, 0.7]), e, z, **at)
    >>> first, second = (
    ...     one_task.effective_action(Q, e, z[:, c] ** 2, **at) for c, Q in enumerate((1.2, 0.7))
    ... )
    >>> bool(np.isclose(both, first + second))
    True
    """
    q, R = np.linalg.eigh(Q)
    return action_in_basis(q, eigenvalues, projections @ R, width=width, temperature=temperature)


def action_in_basis(
    q: Array, eigenvalues: Array, z: Array, *, width: float, temperature: float
) -> float:
    """A for Q of eigenvalues ``q`` (C,), with the labels ``z`` (P, C) in both eigenbases."""
    G = temperature + eigenvalues[:, None] * q
    prior = 0.0 if np.isinf(width) else width * (q - np.log(q)).sum()
    return float(prior + np.log(G).sum() + (z**2 / G).sum())


class Expansion(NamedTuple):
    """Gradient g (C, C) and Hessian (n, n) of A/N1, n = C(C+1)/2, in the basis of `symmetric`."""

    gradient: Array
    hessian: Array


def gradient(q: Array, eigenvalues: Array, z: Array, *, width: float, temperature: float) -> Array:
    """g (C, C), in the eigenbasis of Q: zero at a saddle point."""
    G = temperature + eigenvalues[:, None] * q
    share = eigenvalues[:, None] * q / G
    pull = np.sqrt(eigenvalues[:, None] * q) * z / G
    return np.diag(q - 1 + share.sum(0) / width) - pull.T @ pull / width


def expand(
    q: Array, eigenvalues: Array, z: Array, *, width: float, temperature: float
) -> Expansion:
    """Gradient and Hessian at Q = R diag(q) Rᵀ, in its eigenbasis; arguments as above.

    Examples
    --------
    At the minimum the gradient vanishes, and the Hessian is positive:

    >>> import numpy as np
    >>> from tlnb.theory import outputs
    >>> e, z, at = np.array([0.5, 2.0]), np.array([[1.0, 2.0], [-1.0, 0.5]]), {"width": 10}
    >>> found = outputs.least_action(e, z, temperature=0.1, **at)
    >>> point = outputs.expand(found.q, e, z @ found.R, temperature=0.1, **at)
    >>> bool(abs(point.gradient).max() < 1e-8), bool(np.linalg.eigvalsh(point.hessian).min() > 0)
    (True, True)
    """
    G = temperature + eigenvalues[:, None] * q
    share = eigenvalues[:, None] * q / G
    pull = np.sqrt(eigenvalues[:, None] * q) * z / G
    C = len(q)
    straight = q + (share.sum(0) - share.T @ share) / width
    straight = 0.5 * (straight + straight.T)
    crossed = np.einsum("ka,kb,kc->bac", pull, 1 - 2 * share, pull, optimize=True) / width
    # H[ab, cd] = straight_ab for ab = cd, less crossed_b,ac for b = d.
    full = np.zeros((C, C, C, C))
    for b in range(C):
        full[:, b, :, b] -= crossed[b]
    matrix = full.reshape(C * C, C * C)
    matrix.flat[:: C * C + 1] += straight.ravel()
    basis = symmetric(C).reshape(-1, C * C)
    g = gradient(q, eigenvalues, z, width=width, temperature=temperature)
    return Expansion(g, basis @ matrix @ basis.T)


@cache
def symmetric(C: int) -> Array:
    """An orthonormal basis (n, C, C) of the symmetric matrices, n = C(C+1)/2."""
    rows, columns = np.triu_indices(C)
    basis = np.zeros((len(rows), C, C))
    weights = np.where(rows == columns, 1.0, np.sqrt(0.5))
    basis[np.arange(len(rows)), rows, columns] = weights
    basis[np.arange(len(rows)), columns, rows] = weights
    basis.flags.writeable = False
    return basis
