r"""The layers' own part of the action: a chain of Wishart matrices, to order n.

Going down from the readout, the overlap matrices A_L, ..., A_1 of back-propagated readouts, each
(1+n)×(1+n) and replica symmetric, are Wishart given the one above,

    A_l ~ W(N_l, Σ_l),    Σ_L = 1,    Σ_l = c⁽ˡ⁺¹⁾∘A_(l+1),

which contributes N_l [Tr(Σ_l⁻¹A_l) - ln det(Σ_l⁻¹A_l)]. A replica-symmetric matrix is written
(s, x, d, o): source, source-target, target, two targets. With D = d - o, to order n,

    (ln det A)_n = ln D + (o - x²/s)/D
    (Tr Σ⁻¹A)_n  = d'/D + s'x²/(s²D) - 2xx'/(sD) - (o - x²/s) D'/D²,

Σ without primes and A with them. Exact at leading order for linear networks, an ansatz for others.
Derived in chapter 10 and in `tlnb.symbolic`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
H = 1e-30  # step of derivatives in the complex plane, where no difference is taken


class Chain(NamedTuple):
    """Layers of finite width, from the first hidden one up.

    Attributes
    ----------
    widths : array of shape (m,), the N_l.
    s : array of shape (m,), the source's overlaps A_l,s, known from order 0.
    sigma_s : array of shape (m,), Σ_l,s.
    c : array of shape (m, 4): (c_s, c_st, c_t, c_tt) between Σ_l and the matrix above; for the
        last layer, that of the identity.
    """

    widths: Array
    s: Array
    sigma_s: Array
    c: Array

    @property
    def scale(self) -> Array:
        """Σ_l,t of shape (m,) for a target of unit overlaps: the size of A_l,t."""
        return np.cumprod(self.c[::-1, 2], dtype=np.float64)[::-1].copy()


def _sigma(chain: Chain, z: Array) -> Array:
    """Σ_l as (D, x, o), of shape (3, m, ...), from the A_l as ``z`` of the same shape."""
    above = np.concatenate([z[:, 1:], np.zeros_like(z[:, :1])], axis=1)
    above[0, -1] = 1.0
    _, c_st, c_t, c_tt = (c.reshape(-1, *[1] * (z.ndim - 2)) for c in chain.c.T)
    D, x, o = above
    return np.stack([c_t * D + (c_t - c_tt) * o, c_st * x, c_tt * o])


def layers_action(chain: Chain, z: Array) -> float:
    """Σ_l N_l [Tr(Σ_l⁻¹A_l) - ln det(Σ_l⁻¹A_l)] to order n.

    ``z`` (3, m) holds D_l, x_l and o_l.
    """
    (D, x, o), (E, y, p) = _sigma(chain, z), z
    s, t = chain.sigma_s, chain.s
    excess, excess_A = (o - x**2 / s) / D, (p - y**2 / t) / E
    trace = (E + p) / D + (t * x**2 / s - 2 * x * y) / (s * D) - excess * E / D
    return float(chain.widths @ (trace - np.log(E) - excess_A + np.log(D) + excess))


def layers_gradient(chain: Chain, z: Array) -> Array:
    """Derivatives of `layers_action` in (D_l, x_l, o_l), of the shape of ``z`` (3, m, ...).

    Trailing axes, if any, hold further points; complex ones are allowed.
    """
    trailing = [1] * (z.ndim - 2)
    N, s, t = (a.reshape(-1, *trailing) for a in (chain.widths, chain.sigma_s, chain.s))
    (D, x, o), (E, y, p) = _sigma(chain, z), z
    excess, excess_A = (o - x**2 / s) / D, (p - y**2 / t) / E
    by_A = N * np.stack(
        [(1 - excess) / D - (1 - excess_A) / E, 2 * y / (t * E) - 2 * x / (s * D), 1 / D - 1 / E]
    )
    cross = (t * x / s - 2 * y) * x / s
    by_D = (1 - excess - (E + p + cross - 2 * excess * E) / D) / D
    by_x = 2 * (t * x / s - y - x + x * E / D) / (s * D)
    by_o = (1 - E / D) / D
    # From Σ_l to the matrix above it; there is none above the last layer.
    _, c_st, c_t, c_tt = (c[:-1].reshape(-1, *trailing) for c in chain.c.T)
    by_D, by_x, by_o = (N * by_D)[:-1], (N * by_x)[:-1], (N * by_o)[:-1]
    by_A[:, 1:] += np.stack([c_t * by_D, c_st * by_x, (c_t - c_tt) * by_D + c_tt * by_o])
    return by_A


def layers_hessian(chain: Chain, z: Array) -> Array:
    """Second derivatives of `layers_action`, of shape (3m, 3m) in the order of ``z.ravel()``.

    The gradient is rational: a complex step differentiates it exactly.
    """
    n = z.size
    moved = z[..., None] + 1j * H * np.eye(n).reshape(*z.shape, n)
    return layers_gradient(chain, moved).imag.reshape(n, n) / H


def layers_replicon(chain: Chain, z: Array) -> Array:
    """Second variation (m, m) against fluctuations that break the symmetry of the targets.

    They change o_l between pairs of replicas so that no row's sum changes; on them an inverse acts
    as 1/D. Positive definite, the data's share included: the symmetric solution is stable.
    """
    D, E, N, c_tt = _sigma(chain, z)[0], z[0], chain.widths, chain.c[:, 3]
    own = N / E**2
    as_sigma = (N * c_tt**2 * (2 * E / D - 1) / D**2)[:-1]
    own[1:] += as_sigma
    mixed = -(N * c_tt / D**2)[:-1]
    return np.diag(own) + np.diag(mixed, 1) + np.diag(mixed, -1)
