r"""Averages over target units around quenched source units, and the equations that they close.

A source unit is known by its weights w_s, its readout v_s ~ N(Q_s m_s/sqrt(N1), Q_s) and a field
ζ ~ N(0, C) that all targets around the source share. A target unit around it has the law

    p(w | w_s, v_s, ζ) ∝ N(w; b w_s, 1/(λ0t + γ)) exp(Q m²/(2 N1)),   m = (t + ζ + η)·σ(w),
    η = Γ Xᵀ Γ_s σ_s v_s / sqrt(N1),

η being what the source unit's readout does to the target's labels through X. With <·> over w, two
replicas of it for products, and E over source units,

    labels       T t + E<Q σ m> = y
    self-energy  Σ = E<V σσᵀ> - Cov_E(<Q σ m>)/N1,   Γ = (T + Σ)⁻¹,   q = Tr Γ E<σσᵀ>/N1
    sources      X = Cov_E(sqrt(N1) v_s σ_s, <Q σ m>)/N1   (P_s, P_t)
                 B = Cov_E(<Q σ m>)/N1 - Xᵀ Γ_s X,   C = Γ B Γ.

X is measured on two halves of the source units, so that XᵀΓ_sX and the η of a unit hold no noise
of the unit itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import brentq

from tlnb.errors import ConvergenceError
from tlnb.theory.unit_law.closure import noisy

Array = NDArray[np.float64]


class TargetSums(NamedTuple):
    """Means over target units, in G populations of two halves each, linear in the units.

    ``second``, ``fourth``, ``product`` (G, P, n): <σσ(x)ᵀ>, <m²σσ(x)ᵀ>, <σm><σ(x)m>ᵀ; ``drive`` and
    ``shared`` (G, n): <σ(x)m> and <σ(x) (ζ + η)·σ>; ``cross`` (G, 2, P_s, n), by halves:
    sqrt(N1) v_s σ_s <σ(x)m>ᵀ, ``weight`` (G, 2, P_s) and ``half_drive`` (G, 2, n) its two means;
    ``square``, ``overlap``, ``source_overlap`` (G,): <m²>, <m><m>, sqrt(N1) v_s <m>.
    """

    second: Array
    fourth: Array
    product: Array
    drive: Array
    shared: Array
    cross: Array
    weight: Array
    half_drive: Array
    square: Array
    overlap: Array
    source_overlap: Array

    @classmethod
    def of(
        cls, left: Array, right: Array, m: Array, shared: Array, readouts: Array, pulls: Array
    ) -> TargetSums:
        """Of features ``left`` (G, 2, M, P) with ``right`` (G, 2, M, n), two replicas.

        ``m`` and ``shared`` = (ζ + η)·σ of shape (G, 2, M); ``readouts`` sqrt(N1) v_s (G, M),
        ``pulls`` the same times σ_s (G, M, P_s).
        """
        G, _, M, n = right.shape
        a, b = m[..., None] * left, m[..., None] * right
        mean_b = b.mean(1)
        halves = mean_b.reshape(G, 2, M // 2, n)
        turned = pulls.reshape(G, 2, M // 2, -1).swapaxes(2, 3)
        return cls(
            _outer(left, right),
            _outer(a, b),
            0.5 * (a[:, 0].swapaxes(1, 2) @ b[:, 1] + a[:, 1].swapaxes(1, 2) @ b[:, 0]) / M,
            b.mean((1, 2)),
            np.einsum("grm,grmn->gn", shared, right) / (2 * M),
            turned @ halves / (M // 2),
            turned.mean(3),
            halves.mean(2),
            (m**2).mean((1, 2)),
            (m[:, 0] * m[:, 1]).mean(1),
            (readouts * m.mean(1)).mean(1),
        )

    def mix(self, other: TargetSums, gain: float) -> TargetSums:
        """(1 - gain) of these and gain of the others."""
        return TargetSums(*(a + gain * (b - a) for a, b in zip(self, other, strict=True)))

    def only(self, kept: NDArray[np.bool_] | slice) -> TargetSums:
        """The mean over the populations kept, without their axis."""
        return TargetSums(*(values[kept].mean(0) for values in self))

    def covariance(self, drive: Array) -> Array:
        """Cov_E(<σm>, <σ(x)m>) (P, n), ``drive`` being <σm> on the training inputs."""
        return self.product - np.outer(drive, self.drive)

    def source_covariances(self) -> Array:
        """Cov_E(sqrt(N1) v_s σ_s, <σ(x)m>) of each half, (2, P_s, n)."""
        return self.cross - self.weight[:, :, None] * self.half_drive[:, None, :]


def _outer(left: Array, right: Array) -> Array:
    """Mean of the outer products over replicas and units."""
    G, R, M, P = left.shape
    flat = left.reshape(G, R * M, P).swapaxes(1, 2)
    return flat @ right.reshape(G, R * M, -1) / (R * M)


class TargetClosure(NamedTuple):
    """Force t (P,), Γ (P, P), Q, B (P, P), C = ΓBΓ and X of each half (2, P_s, P)."""

    t: Array
    propagator: Array
    Q: float
    between: Array
    field: Array
    X: Array


def close_target(
    sums: TargetSums,
    y: Array,
    source_propagator: Array,
    *,
    width: float,
    temperature: float,
    Q: float | None = None,
) -> TargetClosure:
    """Solve the equations at given averages: for Q to rounding, or in one pass from a Q before.

    Raises `ConvergenceError` if the averages are too noisy for a covariance of the labels.
    """
    spread = sums.covariance(sums.drive)

    def inverse(Q: float) -> Array:
        Sigma = Q * sums.second + Q**2 / width * (sums.fourth - spread)
        factor = cho_factor(noisy(Sigma, temperature), lower=True, check_finite=False)
        return cho_solve(factor, np.eye(len(y)), check_finite=False)

    def next_Q(Q: float) -> float:
        return 1 / (1 + float(np.vdot(inverse(Q), sums.second)) / width)

    try:
        if Q is None:
            Q = brentq(lambda Q: Q / next_Q(Q) - 1, 1e-8, 1 + 1e-12, xtol=1e-14, rtol=1e-13)
        else:
            Q = next_Q(Q)
        Gamma = inverse(Q)
        factor = cho_factor(noisy(Q * sums.second, temperature), check_finite=False)
        t = cho_solve(factor, y - Q * sums.shared)
    except (LinAlgError, ValueError) as error:
        raise ConvergenceError(
            "the averages over target units are too noisy for a covariance of the labels at "
            f"temperature={temperature:g} ({error}); try more particles or a higher temperature"
        ) from error
    X = Q / width * sums.source_covariances()
    first = X[0].T @ source_propagator @ X[1]
    between = Q**2 / width * spread - 0.5 * (first + first.T)
    between = 0.5 * (between + between.T)
    return TargetClosure(t, Gamma, Q, between, Gamma @ between @ Gamma, X)


def order_parameters(sums: TargetSums, Q: float, width: float) -> tuple[float, float, float]:
    """Q_t = E<V>, Q_tt = E[<Qm>²]/N1 and Q_st = E[sqrt(N1) v_s <Qm>]/N1."""
    return (
        Q + Q**2 / width * float(sums.square),
        Q**2 / width * float(sums.overlap),
        Q / width * float(sums.source_overlap),
    )
