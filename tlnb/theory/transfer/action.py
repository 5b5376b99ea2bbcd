r"""The single-instance Franz-Parisi action and its derivatives.

A target network is coupled to quenched sources. Averaging its log partition function over the
source posterior (n replicas, n → 0) leaves an action of three overlaps of readouts, D = Q_t - Q_tt,

    S = N1 [Q_t - ln D - (Q_tt - Q_st²/Q_s)/D] + ln det Δ + Tr(Δ⁻¹E) + rᵀΔ⁻¹r,
    Δ = T + D K_t + Q_tt (K_t - K_tt),   E = Q_tt K_tt - Q_st² m,   r = y_t - Q_st u,
    m = K_stᵀ G_s⁻¹ K_st,   u = K_stᵀ G_s⁻¹ y_s,   G_s = T_s + Q_s K_s,

made stationary in all three; it is a saddle, not a minimum. Q_st enters quadratically and is
eliminated. Source: Ingrosso et al. (2025), with the derivation of chapter 05.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.theory.factors import Cholesky

Array = NDArray[np.float64]


class KernelBlocks(NamedTuple):
    """All the action needs at one width and coupling.

    ``K_t``, ``K_tt`` (P_t, P_t): the target's kernel and the one between two target replicas.
    ``m`` (P_t, P_t), ``u`` (P_t,): what the source knows about the target's inputs (see above).
    ``y`` (P_t,): target labels. ``Q_s``, ``temperature`` (the target's), ``width`` (finite).
    """

    K_t: Array
    K_tt: Array
    m: Array
    u: Array
    y: Array
    Q_s: float
    temperature: float
    width: float


def delta(D: float, Q_tt: float, blocks: KernelBlocks) -> Array:
    """Δ = T + D K_t + Q_tt (K_t - K_tt), of shape (P_t, P_t)."""
    matrix = (D + Q_tt) * blocks.K_t - Q_tt * blocks.K_tt
    matrix.flat[:: len(matrix) + 1] += blocks.temperature
    return matrix


def explicit_Q_st(blocks: KernelBlocks, D: float, trace_m: float, uWu: float, uWy: float) -> float:
    """Q_st = uᵀΔ⁻¹y / [N1/(Q_s D) - Tr(Δ⁻¹m) + uᵀΔ⁻¹u]."""
    return uWy / (blocks.width / (blocks.Q_s * D) - trace_m + uWu)


def franz_parisi_action(Q_t: float, Q_tt: float, Q_st: float, blocks: KernelBlocks) -> float:
    """S(Q_t, Q_tt, Q_st) at any overlaps with Q_t > Q_tt and Δ positive definite."""
    D = Q_t - Q_tt
    factor = Cholesky.of(delta(D, Q_tt, blocks))
    E = Q_tt * blocks.K_tt - Q_st**2 * blocks.m
    r = blocks.y - Q_st * blocks.u
    readouts = Q_t - np.log(D) - (Q_tt - Q_st**2 / blocks.Q_s) / D
    fit = np.trace(factor.solve(E)) + r @ factor.solve(r)
    return float(blocks.width * readouts + factor.log_det() + fit)


class Expansion(NamedTuple):
    """First and second derivatives of the reduced action in (D, Q_tt), Q_st being eliminated."""

    Q_st: float
    gradient: Array
    hessian: Array
    physical: bool
    train_error: float
    resolution: float  # what rounding leaves of the scaled residuals


def expand(D: float, Q_tt: float, blocks: KernelBlocks) -> Expansion:
    """Gradient (2,) and Hessian (2, 2) of S at (D, Q_tt), stationary in Q_st; exact.

    Raises `LinAlgError` where Δ is not positive definite.
    """
    N, Q_s, T = blocks.width, blocks.Q_s, blocks.temperature
    factor = Cholesky.of(delta(D, Q_tt, blocks))
    A, C, M = (factor.whitened(K) for K in (blocks.K_t, blocks.K_tt, blocks.m))
    B = A - C
    u, y = factor.half(np.column_stack([blocks.u, blocks.y])).T
    x = explicit_Q_st(blocks, D, np.trace(M), u @ u, u @ y)
    F = Q_tt * C - x**2 * M
    r = y - x * u
    Ar, Br = A @ r, B @ r
    AF, BF = A @ F, B @ F
    tr_A, tr_B = np.trace(A), np.trace(B)
    tr_AF, tr_BF = np.trace(AF), np.trace(BF)
    excess = Q_tt - x**2 / Q_s
    S_D = N * (1 - 1 / D + excess / D**2) + tr_A - tr_AF - r @ Ar
    S_o = N * (1 - 1 / D) + tr_A - tr_BF - r @ Br
    AA, AB, BB = np.vdot(A, A), np.vdot(A, B), np.vdot(B, B)
    S_DD = N * (1 / D**2 - 2 * excess / D**3) - AA + 2 * np.vdot(A, AF) + 2 * Ar @ Ar
    S_Do = N / D**2 - AA + 2 * np.vdot(B, AF) + 2 * Ar @ Br
    S_oo = BB - 2 * AB + 2 * np.vdot(B, BF) + 2 * Br @ Br
    S_Dx = 2 * (u @ Ar + x * np.vdot(A, M) - N * x / (Q_s * D**2))
    S_ox = 2 * (u @ Br + x * np.vdot(B, M))
    S_xx = 2 * (N / (Q_s * D) - np.trace(M) + u @ u)
    cross = np.array([S_Dx, S_ox])
    hessian = np.array([[S_DD, S_Do], [S_Do, S_oo]]) - np.outer(cross, cross) / S_xx
    # Cauchy-Schwarz between readouts, and stability of the replicas' fluctuations.
    physical = bool(
        D > 0 and excess >= -1e-12 * (1 + abs(Q_tt)) and N / D**2 > np.vdot(C, C) and S_xx > 0
    )
    w = factor.half_transposed(r)
    prior_part = D * tr_A + Q_tt * tr_B + np.trace(F) - D * tr_AF - Q_tt * tr_BF
    return Expansion(
        float(x),
        np.array([S_D, S_o]),
        hessian,
        physical,
        float(((T * w) @ (T * w) + T * prior_part) / len(r)),
        # K_t w is zero up to rounding where w, of size r/T, lies in the kernel's null space.
        min(1e-6, float(np.finfo(float).eps * np.trace(blocks.K_t) * (w @ w) * D**2 / N)),
    )
