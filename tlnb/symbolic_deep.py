r"""Deep networks as sympy objects: the chain of Wishart matrices, replicated and for n → 0.

Going down from the readout, the overlaps of back-propagated readouts of one source and n target
replicas are Wishart given those above, A_l ~ W(N_l, Σ_l) with Σ_L = 1 and Σ_l = c⁽ˡ⁺¹⁾∘A_(l+1).
All matrices are replica symmetric (`tlnb.symbolic.ReplicaMatrix`), so that each term is known for
symbolic n. Source: Ingrosso et al. (2025), appendix on deep networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlnb.errors import needs
from tlnb.symbolic import ReplicaMatrix, as_block

with needs("symbolic"):
    import sympy as sp

IDENTITY = ReplicaMatrix(1, 0, 1, 0)


def hadamard(c: ReplicaMatrix, A: ReplicaMatrix) -> ReplicaMatrix:
    """c∘A, the product entry by entry of replica-symmetric matrices of scalars."""
    return ReplicaMatrix(c.s[0] * A.s[0], c.x[0] * A.x[0], c.d[0] * A.d[0], c.o[0] * A.o[0])


def trace_of_product(P: ReplicaMatrix, A: ReplicaMatrix, n: sp.Expr) -> sp.Expr:
    """Tr(P A) of two replica-symmetric matrices of scalars."""
    of_source = P.s[0] * A.s[0] + 2 * n * P.x[0] * A.x[0]
    return of_source + n * (P.d[0] * A.d[0] + (n - 1) * P.o[0] * A.o[0])


def wishart_exponent(n: sp.Expr, A: ReplicaMatrix, sigma: ReplicaMatrix) -> sp.Expr:
    """Tr(Σ⁻¹A) - ln det(Σ⁻¹A): A ~ W(N, Σ) has the weight exp(-N/2 (...)) at leading order."""
    inverse = sigma.inverse(n)
    return trace_of_product(inverse, A, n) - A.log_det(n) + sigma.log_det(n)


def wishart_exponent_order_n(A: ReplicaMatrix, sigma: ReplicaMatrix) -> sp.Expr:
    """The coefficient of n in `wishart_exponent`, in closed form: what the package computes."""
    s, x, d, o = (entry[0] for entry in (sigma.s, sigma.x, sigma.d, sigma.o))
    t, y, e, p = (entry[0] for entry in (A.s, A.x, A.d, A.o))
    D, E = d - o, e - p
    shared, shared_A = o - x**2 / s, p - y**2 / t
    trace = t * x**2 / (s**2 * D) - 2 * x * y / (s * D) + e / D - shared * E / D**2
    return trace - sp.log(E) - shared_A / E + sp.log(D) + shared / D


def chain_of_sigmas(
    overlaps: Sequence[ReplicaMatrix], covariances: Sequence[ReplicaMatrix]
) -> list[ReplicaMatrix]:
    """Σ_l for A_1, ..., A_L, given the covariances of the weights of layers 2, ..., L."""
    above = [hadamard(c, A) for c, A in zip(covariances, overlaps[1:], strict=True)]
    return [*above, IDENTITY]


def deep_replicated_action(
    n: sp.Expr,
    overlaps: Sequence[ReplicaMatrix],
    covariances: Sequence[ReplicaMatrix],
    G: ReplicaMatrix,
    y_s: object,
    y_t: object,
    *,
    widths: Sequence[sp.Expr],
) -> sp.Expr:
    """Σ_l N_l [Tr(Σ_l⁻¹A_l) - ln det(Σ_l⁻¹A_l)] + ln det G + Yᵀ G⁻¹ Y, n symbolic.

    ``overlaps`` are A_1, ..., A_L, ``covariances`` those of layers 2, ..., L, ``G`` = T + R∘K⁽ᴸ⁾
    with R = A_1 divided entry by entry by the product of these covariances.
    """
    sigmas = chain_of_sigmas(overlaps, covariances)
    layers = sum(
        width * wishart_exponent(n, A, sigma)
        for width, A, sigma in zip(widths, overlaps, sigmas, strict=True)
    )
    fit = G.inverse(n).quadratic(as_block(y_s), as_block(y_t), n)
    return layers + G.log_det(n) + fit
