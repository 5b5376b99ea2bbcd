"""The chain of Wishart matrices: closed forms against brute force, numerics against both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from tlnb import symbolic as sym
from tlnb import symbolic_deep as deep
from tlnb.priors import weight_covariances
from tlnb.symbolic import ReplicaMatrix
from tlnb.theory.deep.action import DeepBlocks, deep_action
from tlnb.theory.deep.wishart import Chain, layers_action

n = sp.Symbol("n", positive=True)
POINTS = [(1.4, 0.4, 1.2, 0.3), (1.1, 0.3, 1.3, 0.4), (0.9, -0.2, 0.8, 0.25)]
WIDTHS = (7, 9, 12)


def matrix(entries: Any) -> ReplicaMatrix:
    return sym.ReplicaMatrix(*(sp.Float(entry, 30) for entry in entries))


def covariances_of(depth: int) -> list[tuple[float, ...]]:
    return [tuple(weight_covariances(coupling)) for coupling in (0.7, 3.0, np.inf)[: depth - 1]]


def slogdet(M: np.ndarray) -> float:
    return np.linalg.slogdet(np.array(M, dtype=float))[1]


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_wishart_exponent_by_brute_force(replicas: int) -> None:
    A, sigma = map(matrix, POINTS[:2])
    explicit = [np.array(M.explicit(replicas), dtype=float) for M in (A, sigma)]
    ratio = np.linalg.solve(explicit[1], explicit[0])
    brute = np.trace(ratio) - slogdet(ratio)
    found = deep.wishart_exponent(sp.Integer(replicas), A, sigma)
    assert float(found) == pytest.approx(brute, rel=1e-12)


def test_wishart_exponent_is_what_the_density_says() -> None:
    """ln of the Wishart density per degree of freedom, both at large N, up to a constant."""
    from scipy.stats import wishart

    A, sigma = (np.array(matrix(p).explicit(2), dtype=float) for p in POINTS[:2])
    N = 10**6

    def log_density(M: np.ndarray) -> float:
        return wishart(N, sigma / N).logpdf(M)

    ratio, constant = np.linalg.solve(sigma, A), 3
    exponent = np.trace(ratio) - slogdet(ratio) - constant
    assert -2 / N * (log_density(A) - log_density(sigma)) == pytest.approx(exponent, abs=1e-4)


def test_order_n_in_closed_form() -> None:
    entries = sp.symbols("s x d o t y e p", positive=True)
    sigma, A = sym.ReplicaMatrix(*entries[:4]), sym.ReplicaMatrix(*entries[4:])
    derived = sym.order_n(deep.wishart_exponent(n, A, sigma), n)
    closed = deep.wishart_exponent_order_n(A, sigma)
    logs = sp.log(entries[2] - entries[3]) - sp.log(entries[6] - entries[7])
    assert sp.simplify(sp.expand_log(derived - logs, force=True) - (closed - logs)) == 0


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_layers_action_is_the_slope_of_the_replicated_chain(depth: int) -> None:
    overlaps, c = [matrix(p) for p in POINTS[:depth]], covariances_of(depth)
    sigmas = deep.chain_of_sigmas(overlaps, [matrix(entries) for entries in c])
    slope = sum(
        N * sym.order_n(deep.wishart_exponent(n, A, sigma), n)
        for N, A, sigma in zip(WIDTHS, overlaps, sigmas, strict=False)
    )
    assert layers_action(*numeric(depth)) == pytest.approx(float(slope), rel=1e-12)


def numeric(depth: int) -> tuple[Chain, np.ndarray]:
    """The package's chain and (D, x, o) of the same matrices."""
    s, x, d, o = np.array(POINTS[:depth]).T
    c = np.array([*covariances_of(depth), np.ones(4)])  # the identity is above the last layer
    sigma_s = np.append(c[:-1, 0] * s[1:], 1.0)
    return Chain(np.array(WIDTHS[:depth], dtype=float), s, sigma_s, c), np.array([d - o, x, o])


def blocks(
    depth: int, P_s: int = 3, P_t: int = 2
) -> tuple[tuple[Any, Any, Any, Any], np.ndarray, np.ndarray]:
    """Random nested kernels that are a covariance for every number of replicas, and labels."""
    rng = np.random.default_rng(depth)
    shared = rng.standard_normal((P_s + P_t, 8)) / np.sqrt(8)
    own = rng.standard_normal((P_t, 8)) / np.sqrt(8)
    C = shared @ shared.T
    K = C[:P_s, :P_s], 0.6 * C[:P_s, P_s:], C[P_s:, P_s:] + own @ own.T, 0.6 * C[P_s:, P_s:]
    return K, rng.standard_normal(P_s), rng.standard_normal(P_t)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_action_of_the_package_is_the_slope_of_the_replicated_action(depth: int) -> None:
    T_s, T = 0.7, 0.4
    K, y_s, y_t = blocks(depth)
    chain, z = numeric(depth)
    overlaps = [matrix(p) for p in POINTS[:depth]]
    c = [matrix(entries) for entries in covariances_of(depth)]
    exact = [sp.Matrix(block).applyfunc(lambda entry: sp.Float(entry, 30)) for block in K]
    kernels = sym.ReplicaMatrix(*exact)
    given: dict[str, Any] = {
        "source_temperature": sp.Float(T_s, 30),
        "target_temperature": sp.Float(T, 30),
    }
    G = sym.covariance(overlaps[0], kernels, **given)
    labels = [sp.Matrix(y).applyfunc(lambda entry: sp.Float(entry, 30)) for y in (y_s, y_t)]

    # Integer n by brute force, which the symbolic action must go through ...
    for replicas in (1, 2):
        M = np.array(G.explicit(replicas), dtype=float)
        Y = np.concatenate([y_s, *[y_t] * replicas])
        brute = slogdet(M) + Y @ np.linalg.solve(M, Y)
        sigmas = deep.chain_of_sigmas(overlaps, c)
        for N, A, sigma in zip(WIDTHS, overlaps, sigmas, strict=False):
            of, on = (np.array(m.explicit(replicas), dtype=float) for m in (A, sigma))
            ratio = np.linalg.solve(on, of)
            brute += N * (np.trace(ratio) - slogdet(ratio))
        found = deep.deep_replicated_action(
            sp.Integer(replicas), overlaps, c, G, *labels, widths=WIDTHS[:depth]
        )
        assert float(found) == pytest.approx(brute, rel=1e-11)

    # ... and its slope at n = 0, by a central difference in 30 digits.
    def action(at: Any) -> float:
        return deep.deep_replicated_action(at, overlaps, c, G, *labels, widths=WIDTHS[:depth])

    h = sp.Float("1e-8", 30)
    slope = float((action(h) - action(-h)) / (2 * h))
    G_s = T_s * np.eye(3) + POINTS[0][0] * K[0]
    m, u = K[1].T @ np.linalg.solve(G_s, K[1]), K[1].T @ np.linalg.solve(G_s, y_s)
    coded = deep_action(z, DeepBlocks(K[2], K[3], m, u, y_t, T, chain))
    assert coded == pytest.approx(slope, rel=1e-10)


def test_one_layer_is_the_action_of_chapter_05() -> None:
    (entries,) = POINTS[:1]
    overlaps, G = matrix(entries), matrix((2.0, 0.3, 1.7, 0.4))
    labels = sp.Matrix([sp.Float(0.3)]), sp.Matrix([sp.Float(-0.8)])
    deep_one = deep.deep_replicated_action(n, [overlaps], [], G, *labels, widths=[11])
    one = sym.replicated_action(n, overlaps, G, *labels, width=11)
    for at in (0.5, 1, 2.5):
        assert float((deep_one - one).subs(n, at)) == pytest.approx(0, abs=1e-12)
