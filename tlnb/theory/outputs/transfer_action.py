r"""The Franz-Parisi action of several outputs, its derivatives, and its frozen saddle point.

Source and target networks have C_s and C outputs; overlaps of readouts are matrices, D = Q_t - Q_tt
and Q_tt of shape (C, C), Q_st of shape (C_s, C). In the eigenbasis of Q_s = R diag(q) Rᵀ the
source's outputs a do not feel each other; with the rows x_a of RᵀQ_st,

    S = N1 [Tr Q_t - ln det D - Tr D⁻¹(Q_tt - Σ_a x_a x_aᵀ/q_a)] + ln det Δ + Tr W(E + r rᵀ),
    W = Δ⁻¹,   Δ = T + D⊗K_t + Q_tt⊗(K_t - K_tt),
    E = Q_tt⊗K_tt - Σ_a x_a x_aᵀ⊗m_a,   r = y - Σ_a x_a⊗u_a,
    m_a = K_stᵀ (T_s + q_a K_s)⁻¹ K_st,   u_a = K_stᵀ (T_s + q_a K_s)⁻¹ (y_s R)_a.

With the partial trace (A|K)_cd = Tr A_cd K over the examples and Z = W(E + r rᵀ)W it is stationary
where

    N1 [1 - D⁻¹ + D⁻¹(Q_tt - Σ_a x_a x_aᵀ/q_a)D⁻¹] + (W - Z|K_t) = 0
    N1 [1 - D⁻¹] + (W|K_t) - (Z|K_t - K_tt) = 0
    [N1 D⁻¹/q_a - (W|m_a)] x_a = u_a·(W r)

the last of which is linear in Q_st and solved first. For C_s = C = 1 this is
`tlnb.theory.transfer.action`. K_t and K_tt do not commute, so that Δ is factorised as a whole: P C
rows. Frozen features, K_tt = K_t, are solved in closed form, where D is a number times the
identity. Derived in chapter 18.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import brentq

from tlnb.theory.factors import Cholesky
from tlnb.theory.outputs.action import symmetric

Array = NDArray[np.float64]


class OutputBlocks(NamedTuple):
    """All the action needs at one width and coupling.

    ``K_t``, ``K_tt`` (P, P): the target's kernel and the one between two replicas; ``m``
    (C_s, P, P), ``u`` (C_s, P) and ``q_s`` (C_s,): the source, in the eigenbasis of Q_s; ``y``
    (C, P): target labels; the target's temperature and the width.
    """

    K_t: Array
    K_tt: Array
    m: Array
    u: Array
    q_s: Array
    y: Array
    temperature: float
    width: float

    def weakened(self, share: float) -> OutputBlocks:
        """The source's influence scaled down: at 0 the target is alone."""
        return self._replace(K_tt=share * self.K_tt, m=share**2 * self.m, u=share * self.u)


def delta(D: Array, Q_tt: Array, blocks: OutputBlocks) -> Array:
    """Δ of shape (C P, C P), the examples of an output side by side."""
    matrix = np.kron(D + Q_tt, blocks.K_t) - np.kron(Q_tt, blocks.K_tt)
    matrix.flat[:: len(matrix) + 1] += blocks.temperature
    return matrix.astype(np.float64, copy=False)


def shared_covariance(Q_tt: Array, x: Array, blocks: OutputBlocks) -> Array:
    """E of shape (C P, C P)."""
    E = np.kron(Q_tt, blocks.K_tt).astype(np.float64, copy=False)
    for x_a, m_a in zip(x, blocks.m, strict=True):
        E -= np.kron(np.outer(x_a, x_a), m_a)
    return E


def franz_parisi_action(D: Array, Q_tt: Array, x: Array, blocks: OutputBlocks) -> float:
    """S at any overlaps with D and Δ positive definite; ``x`` (C_s, C) is RᵀQ_st."""
    factor = Cholesky.of(delta(D, Q_tt, blocks))
    r = (blocks.y - x.T @ blocks.u).ravel()
    own = Cholesky.of(D.copy())
    excess = Q_tt - (x.T / blocks.q_s) @ x
    readouts = np.trace(D + Q_tt) - own.log_det() - np.trace(own.solve(excess))
    fit = np.trace(factor.whitened(shared_covariance(Q_tt, x, blocks))) + r @ factor.solve(r)
    return float(blocks.width * readouts + factor.log_det() + fit)


class TransferExpansion(NamedTuple):
    """Derivatives of the reduced action in (D, Q_tt), Q_st being eliminated.

    ``x`` (C_s, C); ``by_D``, ``by_Q_tt`` (C, C); ``hessian`` (2n, 2n) in the basis of `symmetric`,
    n = C(C+1)/2, first D; ``physical``: Cauchy-Schwarz and stability hold; ``train_error`` in units
    of the readouts' prior.
    """

    x: Array
    by_D: Array
    by_Q_tt: Array
    hessian: Array
    physical: bool
    train_error: float


def expand(D: Array, Q_tt: Array, blocks: OutputBlocks) -> TransferExpansion:
    """The expansion at (D, Q_tt), exact; LinAlgError where D or Δ is not positive definite."""
    N, T, q_s = blocks.width, blocks.temperature, blocks.q_s
    K, K_tt, m, u, y = blocks.K_t, blocks.K_tt, blocks.m, blocks.u, blocks.y
    (C, P), S = y.shape, len(q_s)
    D_inverse = Cholesky.of(D.copy()).solve(np.eye(C))
    factor = Cholesky.of(delta(D, Q_tt, blocks))
    W = factor.solve(np.eye(C * P))
    W = 0.5 * (W + W.T)
    Wb = W.reshape(C, P, C, P)
    x, by_x = _explicit(Wb, D_inverse, blocks)
    r = y - x.T @ u
    w = (W @ r.ravel()).reshape(C, P)
    M = shared_covariance(Q_tt, x, blocks)
    M += np.outer(r, r)
    Zb = (W @ M @ W).reshape(C, P, C, P)

    # Blocks times kernels, [c, d, i, j], and their sums over the examples.
    WA, ZA = _times(Wb, K), _times(Zb, K)
    WC = _times(Wb, K_tt)
    WB, ZB = WA - WC, ZA - _times(Zb, K_tt)
    W_A, Z_A, Z_B = (np.einsum("cdii->cd", each) for each in (WA, ZA, ZB))
    excess = Q_tt - (x.T / q_s) @ x
    bent = D_inverse @ excess @ D_inverse
    by_D = N * (np.eye(C) - D_inverse + bent) + W_A - Z_A
    by_Q_tt = N * (np.eye(C) - D_inverse) + W_A - Z_B
    by_D, by_Q_tt = 0.5 * (by_D + by_D.T), 0.5 * (by_Q_tt + by_Q_tt.T)

    basis = symmetric(C)
    curved = N * _quadratic(D_inverse, D_inverse, basis)
    AA, AB = _pairs(WA, WA, basis), _pairs(WA, WB, basis)
    BB = _pairs(WB, WB, basis)
    DD = curved - 2 * N * _quadratic(D_inverse, bent, basis) - AA + 2 * _pairs(WA, ZA, basis)
    DO = curved - AA + 2 * _pairs(WA, ZB, basis)
    OO = BB - AB - AB.T + 2 * _pairs(WB, ZB, basis)
    hessian = np.block([[DD, DO], [DO.T, OO]])

    # S_x along the basis: [n, a, c].
    rows = []
    for kernel_times, readouts in ((WA, True), (WB, False)):
        cross = np.empty((S, C, C, C))  # [a, g, c, d]: along E_cd
        for a in range(S):
            shifted = np.tensordot(Wb, x[a], axes=(2, 0))  # Σ_e W_de x_ae, [d, i, j]
            shifted = shifted @ m[a]
            cross[a] = np.einsum("gcij,dji->gcd", kernel_times, shifted, optimize=True)
            left = np.einsum("i,gcij->gcj", u[a], kernel_times)
            cross[a] += np.einsum("gcj,dj->gcd", left, w)
        along = 2 * np.einsum("agcd,ncd->nag", cross, basis, optimize=True)
        if readouts:
            moved = D_inverse @ basis @ D_inverse
            along -= 2 * N * np.einsum("ngc,ac,a->nag", moved, x, 1 / q_s)
        rows.append(along.reshape(len(basis), -1))
    cross_x = np.concatenate(rows)
    hessian -= cross_x @ np.linalg.solve(2 * by_x, cross_x.T)

    slack = 1e-12 * (1 + np.abs(Q_tt).max())
    stable = np.linalg.eigvalsh(curved - _pairs(WC, WC, basis))[0]
    physical = bool(
        np.linalg.eigvalsh(excess)[0] >= -slack and np.linalg.eigvalsh(by_x)[0] > 0 and stable > 0
    )
    E = M - np.outer(r, r)
    errors = T**2 * (w**2).sum() + C * P * T - T**2 * (np.trace(W) - np.vdot(W @ E, W))
    return TransferExpansion(
        x, by_D, by_Q_tt, 0.5 * (hessian + hessian.T), physical, float(errors / (C * P))
    )


def _explicit(Wb: Array, D_inverse: Array, blocks: OutputBlocks) -> tuple[Array, Array]:
    """The rows x (C_s, C) where S is stationary in them, and half the Hessian in them."""
    S, C = len(blocks.q_s), len(blocks.y)
    known = np.einsum("ai,cidj,bj->acbd", blocks.u, Wb, blocks.u, optimize=True)
    for a, m_a in enumerate(blocks.m):
        own = blocks.width * D_inverse / blocks.q_s[a]
        own -= np.einsum("cidj,ji->cd", Wb, m_a, optimize=True)
        known[a, :, a, :] += own
    half = known.reshape(S * C, S * C)
    half = 0.5 * (half + half.T)
    right = np.einsum("ai,cidj,dj->ac", blocks.u, Wb, blocks.y, optimize=True)
    return np.linalg.solve(half, right.ravel()).reshape(S, C), half


def _times(blocks: Array, kernel: Array) -> Array:
    """A_cd K, [c, d, i, j], from A [c, i, d, j]."""
    return blocks.transpose(0, 2, 1, 3) @ kernel


def _pairs(left: Array, right: Array, basis: Array) -> Array:
    """Tr W(H_n⊗A) V(H_k⊗B) for all pairs of the basis, from W_cd A and V_cd B; symmetrised."""
    C, P = left.shape[0], left.shape[2]
    flat = left.reshape(C * C, P * P)
    turned = right.swapaxes(2, 3).reshape(C * C, P * P)
    # Tr (W_fc A)(V_de B) for [f, c, d, e]
    traces = (flat @ turned.T).reshape(C, C, C, C)
    found = np.einsum("ncd,fcde,kef->nk", basis, traces, basis, optimize=True)
    if left is right:
        return 0.5 * (found + found.T)
    return found


def _quadratic(A: Array, B: Array, basis: Array) -> Array:
    """Tr A H_n B H_k for all pairs of the basis, symmetrised."""
    found = np.einsum("ab,nbc,cd,kda->nk", A, basis, B, basis, optimize=True)
    return 0.5 * (found + found.T)


def frozen(blocks: OutputBlocks) -> tuple[Array, Array]:
    """D and Q_tt at infinite coupling, where K_tt = K_t.

    D = d 1 with N1 (1 - d) = Σ_k d e_k/(T + d e_k), whatever the labels; Q_tt follows linearly.
    """
    N, T = blocks.width, blocks.temperature
    e, U = eigh(blocks.K_t, check_finite=False)
    e = np.maximum(e, 0.0)
    d = brentq(
        lambda d: N * (1 - d) - (d * e / (T + d * e)).sum(), 0.0, 1.0, xtol=1e-300, rtol=1e-15
    )
    C = len(blocks.y)
    G = T + d * e
    u, y = blocks.u @ U, blocks.y @ U
    diagonal_m = np.einsum("ij,aik,kj->aj", U, blocks.m, U, optimize=True)
    # One linear system in Q_st for every target output, all with one matrix (C_s, C_s).
    half = (u / G) @ u.T + np.diag(N / (blocks.q_s * d) - (diagonal_m / G).sum(1))
    x = np.linalg.solve(half, (u / G) @ y.T)
    w = (y - x.T @ u) / G
    free = N / d**2 - ((e / G) ** 2).sum()
    weights = N / (blocks.q_s * d**2) - diagonal_m @ (e / G**2)
    return d * np.eye(C), ((x.T * weights) @ x + (w * e) @ w.T) / free
