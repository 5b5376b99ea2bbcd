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

from tlnb.chunking import chunks
from tlnb.theory.factors import Cholesky, InverseCholesky, whitening

Array = NDArray[np.float64]


class KernelBlocks(NamedTuple):
    """All the action needs at one width and coupling.

    ``K_t``, ``K_tt`` (P_t, P_t): the target's kernel and the one between two target replicas.
    ``m`` (P_t, P_t), ``u`` (P_t,): what the source knows about the target's inputs (see above).
    ``y`` (P_t,): target labels. ``Q_s``, ``temperature`` (the target's), ``width`` (finite).
    ``root`` (k, P_t): where k < P_t, stands for m = rootᵀ root, and ``m`` is None.
    """

    K_t: Array
    K_tt: Array
    m: Array | None
    u: Array
    y: Array
    Q_s: float
    temperature: float
    width: float
    root: Array | None = None

    def weakened(self, share: float) -> KernelBlocks:
        """The source's influence scaled down: at 0 the target is alone."""
        if share == 1:
            return self
        return self._replace(
            K_tt=share * self.K_tt,
            m=None if self.m is None else share**2 * self.m,
            u=share * self.u,
            root=None if self.root is None else share * self.root,
        )

    def whitened_m(self, factor: Cholesky | InverseCholesky) -> _Dense | _Rooted:
        """L⁻¹mL⁻ᵀ with the Cholesky factor L of Δ."""
        if self.m is not None:
            return _Dense(factor.whitened(self.m))
        if self.root is None:
            raise ValueError("m or its root must be given, got neither")
        return _Rooted(factor.half(self.root.T).T)


class _Dense(NamedTuple):
    """A matrix by its entries."""

    matrix: Array

    def trace(self) -> float:
        return float(self.matrix.trace())

    def rows(self, part: slice) -> Array:
        return self.matrix[part]


class _Rooted(NamedTuple):
    """A matrix by its root (k, P): rootᵀ root."""

    root: Array

    def trace(self) -> float:
        return float(np.vdot(self.root, self.root))

    def rows(self, part: slice) -> Array:
        return self.root[:, part].T @ self.root


def delta(D: float, Q_tt: float, blocks: KernelBlocks) -> Array:
    """Δ = T + D K_t + Q_tt (K_t - K_tt), of shape (P_t, P_t).

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.transfer import KernelBlocks, delta
    >>> K, m, u = np.diag([0.5, 2.0]), np.zeros((2, 2)), np.zeros(2)
    >>> blocks = KernelBlocks(K, 0.6 * K, m, u, u, 1.0, temperature=0.1, width=10)
    >>> delta(2.0, 0.5, blocks)
    array([[1.2, 0. ],
           [0. , 4.5]])
    """
    matrix = (D + Q_tt) * blocks.K_t
    matrix -= Q_tt * blocks.K_tt
    matrix.flat[:: len(matrix) + 1] += blocks.temperature
    return matrix


def explicit_Q_st(blocks: KernelBlocks, D: float, trace_m: float, uWu: float, uWy: float) -> float:
    """Q_st = uᵀΔ⁻¹y / [N1/(Q_s D) - Tr(Δ⁻¹m) + uᵀΔ⁻¹u]."""
    return uWy / (blocks.width / (blocks.Q_s * D) - trace_m + uWu)


def franz_parisi_action(Q_t: float, Q_tt: float, Q_st: float, blocks: KernelBlocks) -> float:
    """S(Q_t, Q_tt, Q_st) at any overlaps with Q_t > Q_tt and Δ positive definite.

    Examples
    --------
    Without a source (m = u = 0, no overlap between targets) it is the action of one task:

    >>> import numpy as np
    >>> from tlnb.theory import one_task
    >>> from tlnb.theory.transfer import KernelBlocks, franz_parisi_action
    >>> K, y, nothing = np.diag([0.5, 2.0]), np.array([1.0, -2.0]), np.zeros((2, 2))
    >>> blocks = KernelBlocks(K, nothing, nothing, np.zeros(2), y, 1.0, temperature=0.1, width=10)
    >>> alone = one_task.effective_action(1.3, np.diag(K), y**2, width=10, temperature=0.1)
    >>> bool(np.isclose(franz_parisi_action(1.3, 0.0, 0.0, blocks), alone))
    True
    """
    D = Q_t - Q_tt
    factor = Cholesky.of(delta(D, Q_tt, blocks))
    r = blocks.y - Q_st * blocks.u
    trace_E = Q_tt * factor.whitened(blocks.K_tt).trace()
    trace_E -= Q_st**2 * blocks.whitened_m(factor).trace()
    readouts = Q_t - np.log(D) - (Q_tt - Q_st**2 / blocks.Q_s) / D
    fit = trace_E + r @ factor.solve(r)
    return float(blocks.width * readouts + factor.log_det() + fit)


class Expansion(NamedTuple):
    """The reduced action and its derivatives in (D, Q_tt), Q_st being eliminated."""

    Q_st: float
    action: float
    gradient: Array
    hessian: Array
    physical: bool
    train_error: float
    resolution: float  # what rounding leaves of the scaled residuals


def expand(D: float, Q_tt: float, blocks: KernelBlocks) -> Expansion:
    """S at (D, Q_tt), stationary in Q_st, its gradient (2,) and Hessian (2, 2); exact.

    Raises `LinAlgError` where Δ is not positive definite.

    Examples
    --------
    At a saddle point the gradient vanishes:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import TransferProblem, expand
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> problem = TransferProblem(source, target, temperature=0.1)
    >>> found, blocks = problem.saddle(20, 1.0), problem.blocks(20, 1.0)
    >>> bool(abs(expand(found.D, found.Q_tt, blocks).gradient).max() < 1e-8)
    True
    """
    N, Q_s, T = blocks.width, blocks.Q_s, blocks.temperature
    factor = whitening(delta(D, Q_tt, blocks))
    m = blocks.whitened_m(factor)
    u, y = factor.half(np.column_stack([blocks.u, blocks.y])).T
    tr_m, uu = m.trace(), u @ u
    x = explicit_Q_st(blocks, D, tr_m, uu, u @ y)
    r = y - x * u
    w, log_det = factor.half_transposed(r), factor.log_det()
    A = factor.whitened(blocks.K_t)
    C = A if blocks.K_tt is blocks.K_t else factor.whitened(blocks.K_tt)
    del factor  # of many examples there is no room for it beside the sums below
    tr_A, tr_C = A.trace(), C.trace()
    Ar = A @ r
    Br = Ar - C @ r
    # Sums over the entries of products, some rows at a time: with B = A - C and F = Q_tt C - x² M.
    AA = AB = BB = CC = AM = BM = AF = BF = AAF = BAF = BBF = 0.0
    for part in _row_parts(len(A)):
        M_j, A_j, C_j = m.rows(part), A[part], C[part]
        B_j, F_j = A_j - C_j, Q_tt * C_j - x**2 * M_j
        AM, BM = AM + _dot(A_j, M_j), BM + _dot(B_j, M_j)
        AA, AB, BB = AA + _dot(A_j, A_j), AB + _dot(A_j, B_j), BB + _dot(B_j, B_j)
        CC, AF, BF = CC + _dot(C_j, C_j), AF + _dot(A_j, F_j), BF + _dot(B_j, F_j)
        product = F_j @ A
        AAF, BAF = AAF + _dot(A_j, product), BAF + _dot(B_j, product)
        product -= F_j @ C
        BBF += _dot(B_j, product)
    excess = Q_tt - x**2 / Q_s
    S_D = N * (1 - 1 / D + excess / D**2) + tr_A - AF - r @ Ar
    S_o = N * (1 - 1 / D) + tr_A - BF - r @ Br
    S_DD = N * (1 / D**2 - 2 * excess / D**3) - AA + 2 * AAF + 2 * Ar @ Ar
    S_Do = N / D**2 - AA + 2 * BAF + 2 * Ar @ Br
    S_oo = BB - 2 * AB + 2 * BBF + 2 * Br @ Br
    S_Dx = 2 * (u @ Ar + x * AM - N * x / (Q_s * D**2))
    S_ox = 2 * (u @ Br + x * BM)
    S_xx = 2 * (N / (Q_s * D) - tr_m + uu)
    cross = np.array([S_Dx, S_ox])
    hessian = np.array([[S_DD, S_Do], [S_Do, S_oo]]) - np.outer(cross, cross) / S_xx
    # Cauchy-Schwarz between readouts, and stability of the replicas' fluctuations.
    physical = bool(D > 0 and excess >= -1e-12 * (1 + abs(Q_tt)) and N / D**2 > CC and S_xx > 0)
    tr_F = Q_tt * tr_C - x**2 * tr_m
    prior_part = D * tr_A + Q_tt * (tr_A - tr_C) + tr_F - D * AF - Q_tt * BF
    return Expansion(
        float(x),
        float(N * (D + Q_tt - np.log(D) - excess / D) + log_det + tr_F + r @ r),
        np.array([S_D, S_o]),
        hessian,
        physical,
        float(((T * w) @ (T * w) + T * prior_part) / len(r)),
        # K_t w is zero up to rounding where w, of size r/T, lies in the kernel's null space.
        min(1e-6, float(np.finfo(float).eps * blocks.K_t.trace() * (w @ w) * D**2 / N)),
    )


def _dot(A: Array, B: Array) -> float:
    """Σ_ij A_ij B_ij."""
    return float(np.vdot(A, B))


def _row_parts(n: int, at_once: int = 512) -> list[slice]:
    """Few rows at a time where matrices are large, so that products need no room."""
    return list(chunks(n, n, n * n if n <= at_once else n * n // 16))
