r"""The Franz-Parisi action of deep networks and its derivatives.

With the layers' own part of `tlnb.theory.deep.wishart`, A_1 = (s, x, d, o) the matrix of the first
layer of finite width and D = d - o,

    S = Σ_l N_l [...] + ln det Δ + Tr(Δ⁻¹E) + rᵀΔ⁻¹r,
    Δ = T + D K_t + o (K_t - K_tt),   E = o K_tt - x² m,   r = y_t - x u,
    m = K_stᵀ G_s⁻¹ K_st,   u = K_stᵀ G_s⁻¹ y_s,   G_s = T_s + s K_s,

stationary in every (D_l, x_l, o_l). The kernels are nested ones, divided entry by entry by the
covariances that A_1 already holds; for one hidden layer this is `tlnb.theory.transfer.action`. The
x_l enter quadratically and are eliminated. Source: Ingrosso et al. (2025), appendix on deep
networks; derivation of chapter 10.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.theory.deep.wishart import (
    Chain,
    layers_action,
    layers_gradient,
    layers_hessian,
    layers_replicon,
)
from tlnb.theory.factors import Cholesky, InverseCholesky, whitening

Array = NDArray[np.float64]


class DeepBlocks(NamedTuple):
    """All the action needs at given widths and couplings.

    ``K_t``, ``K_tt`` (P_t, P_t): the target's nested kernel and that between two targets.
    ``m`` (P_t, P_t), ``u`` (P_t,): what the source knows about the target's inputs. ``y`` (P_t,).
    """

    K_t: Array
    K_tt: Array
    m: Array
    u: Array
    y: Array
    temperature: float
    chain: Chain

    def weakened(self, share: float) -> DeepBlocks:
        """The source's influence scaled down: at 0 the target is alone."""
        return self._replace(K_tt=share * self.K_tt, m=share**2 * self.m, u=share * self.u)


def delta(z: Array, blocks: DeepBlocks) -> Array:
    """Δ = T + D K_t + o (K_t - K_tt) of shape (P_t, P_t); ``z`` (3, m) holds D_l, x_l, o_l."""
    D, _, o = z[:, 0]
    matrix = (D + o) * blocks.K_t - o * blocks.K_tt
    matrix.flat[:: len(matrix) + 1] += blocks.temperature
    return matrix


def deep_action(z: Array, blocks: DeepBlocks) -> float:
    """S at any (D_l, x_l, o_l), ``z`` (3, m), with D_l > 0 and Δ positive definite."""
    _, x, o = z[:, 0]
    factor = Cholesky.of(delta(z, blocks))
    E = o * blocks.K_tt - x**2 * blocks.m
    r = blocks.y - x * blocks.u
    fit = np.trace(factor.solve(E)) + r @ factor.solve(r)
    return float(layers_action(blocks.chain, z) + factor.log_det() + fit)


class Expansion(NamedTuple):
    """The action around one point, the x_l being eliminated.

    ``z`` (3, m); ``gradient`` (2, m) in (D_l, o_l) and ``hessian`` (2m, 2m) of the reduced action;
    ``resolution``: what rounding leaves of the scaled residuals.
    """

    z: Array
    gradient: Array
    hessian: Array
    physical: bool
    train_error: float
    resolution: float


class _Data(NamedTuple):
    """The data's part of the action in the basis where Δ = 1, at (D, o) of the first layer."""

    A: Array  # K_t
    B: Array  # K_t - K_tt
    C: Array  # K_tt
    M: Array
    u: Array
    y: Array
    factor: Cholesky | InverseCholesky

    @classmethod
    def at(cls, z: Array, blocks: DeepBlocks) -> _Data:
        factor = whitening(delta(z, blocks))
        A, C, M = (factor.whitened(K) for K in (blocks.K_t, blocks.K_tt, blocks.m))
        u, y = factor.half(np.column_stack([blocks.u, blocks.y])).T
        return cls(A, A - C, C, M, u, y, factor)

    def by_x(self, x: float) -> tuple[float, float]:
        """First and second derivative in x."""
        curvature = 2 * (self.u @ self.u - np.trace(self.M))
        return curvature * x - 2 * self.u @ self.y, curvature

    def derivatives(self, x: float, o: float) -> tuple[Array, Array]:
        """Gradient (3,) and Hessian (3, 3) in (D, x, o)."""
        A, B, C, M, u = self[:5]
        F, r = o * C - x**2 * M, self.y - x * u
        Ar, Br, AF, BF = A @ r, B @ r, A @ F, B @ F
        by_x, by_xx = self.by_x(x)
        by_D = np.trace(A) - np.trace(AF) - r @ Ar
        by_o = np.trace(A) - np.trace(BF) - r @ Br
        AA, AB, BB = np.vdot(A, A), np.vdot(A, B), np.vdot(B, B)
        by_DD = -AA + 2 * np.vdot(A, AF) + 2 * Ar @ Ar
        by_Do = -AA + 2 * np.vdot(B, AF) + 2 * Ar @ Br
        by_oo = BB - 2 * AB + 2 * np.vdot(B, BF) + 2 * Br @ Br
        by_Dx = 2 * (u @ Ar + x * np.vdot(A, M))
        by_ox = 2 * (u @ Br + x * np.vdot(B, M))
        hessian = [[by_DD, by_Dx, by_Do], [by_Dx, by_xx, by_ox], [by_Do, by_ox, by_oo]]
        return np.array([by_D, by_x, by_o]), np.array(hessian)

    def train_error(self, D: float, x: float, o: float, T: float) -> tuple[float, Array]:
        """⟨(y - f)²⟩ averaged over the training examples, and w = Δ⁻¹r."""
        F, r = o * self.C - x**2 * self.M, self.y - x * self.u
        w = self.factor.half_transposed(r)
        # Tr(K (Δ⁻¹ - Δ⁻¹EΔ⁻¹)) with K = Δ - T, and what the shared part E adds.
        spread = D * np.trace(self.A) + o * np.trace(self.B) + np.trace(F)
        spread -= np.vdot(D * self.A + o * self.B, F)
        return float((T**2 * (w @ w) + T * spread) / len(r)), w


def expand(D: Array, o: Array, blocks: DeepBlocks) -> Expansion:
    """The reduced action at (D_l, o_l), arrays of shape (m,); exact derivatives.

    Raises `LinAlgError` where Δ is not positive definite.
    """
    chain, m = blocks.chain, len(D)
    z = np.array([D, np.zeros(m), o])
    data = _Data.at(z, blocks)
    # The gradient in the x_l is linear in them: m + 1 values of it are all there is to know.
    probes = np.repeat(z[..., None], m + 1, axis=2)
    probes[1, :, 1:] = np.eye(m)
    by_x = layers_gradient(chain, probes)[1]
    by_xx = by_x[:, 1:] - by_x[:, :1]
    linear, curvature = data.by_x(0.0)
    by_xx[0, 0] += curvature
    constant = by_x[:, 0]
    constant[0] += linear
    z[1] = np.linalg.solve(by_xx, -constant)

    gradient, hessian = layers_gradient(chain, z), layers_hessian(chain, z)
    of_data, second = data.derivatives(z[1, 0], o[0])
    gradient[:, 0] += of_data
    first = m * np.arange(3)  # where (D_1, x_1, o_1) stand in z.ravel()
    hessian[np.ix_(first, first)] += second
    kept = np.r_[0:m, 2 * m : 3 * m]
    cross = hessian[kept, m : 2 * m]
    reduced = hessian[np.ix_(kept, kept)] - cross @ np.linalg.solve(by_xx, cross.T)

    T, N, scale = blocks.temperature, chain.widths, chain.scale
    train_error, w = data.train_error(D[0], z[1, 0], o[0], T)
    # K_t w is zero up to rounding where w, of size r/T, lies in the kernel's null space.
    noise = np.finfo(float).eps * np.trace(blocks.K_t) * (w @ w) * D[0] ** 2 / N[0] / scale[0]
    return Expansion(
        z,
        gradient[[0, 2]],
        reduced,
        _physical(z, by_xx, data.C, chain),
        train_error,
        min(1e-6, float(noise)),
    )


def _physical(z: Array, by_xx: Array, C: Array, chain: Chain) -> bool:
    """Cauchy-Schwarz in every layer, and stability of the overlaps' fluctuations."""
    D, x, o = z
    replicon = layers_replicon(chain, z)
    replicon[0, 0] -= np.vdot(C, C)
    slack = -1e-12 * (chain.scale + abs(o))
    return bool(
        (D > 0).all()
        and (o - x**2 / chain.s >= slack).all()
        and np.linalg.eigvalsh(replicon)[0] > 0
        and np.linalg.eigvalsh((by_xx + by_xx.T) / 2)[0] > 0
    )
