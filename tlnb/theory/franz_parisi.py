r"""The single-instance Franz-Parisi action and its saddle point.

A target network is coupled to quenched sources. Averaging its log partition function over the
source posterior (n replicas, n → 0) leaves an action of three overlaps of readouts, D = Q_t - Q_tt,

    S = N1 [Q_t - ln D - (Q_tt - Q_st²/Q_s)/D] + ln det Δ + Tr(Δ⁻¹E) + rᵀΔ⁻¹r,
    Δ = T + D K_t + Q_tt (K_t - K_tt),   E = Q_tt K_tt - Q_st² m,   r = y_t - Q_st u,
    m = K_stᵀ G_s⁻¹ K_st,   u = K_stᵀ G_s⁻¹ y_s,   G_s = T_s + Q_s K_s,

made stationary in all three; it is a saddle, not a minimum. Q_st enters quadratically and is
eliminated, which leaves two equations for (ln D, Q_tt), solved here by a safeguarded Newton method
with the exact Hessian. Source: Ingrosso et al. (2025), with the derivation of chapter 05.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, eigh, solve_triangular
from scipy.optimize import brentq
from threadpoolctl import ThreadpoolController

from tlnb.errors import ConvergenceError

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the scaled, undamped residuals


class Blocks(NamedTuple):
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


def _half(L: Array, A: Array) -> Array:
    """L⁻¹ A."""
    return solve_triangular(L, A, lower=True, check_finite=False)


def _symmetric_half(L: Array, A: Array) -> Array:
    """L⁻¹ A L⁻ᵀ for symmetric A."""
    return _half(L, _half(L, A).T)


def delta(D: float, Q_tt: float, blocks: Blocks) -> Array:
    """Δ = T + D K_t + Q_tt (K_t - K_tt), of shape (P_t, P_t)."""
    matrix = (D + Q_tt) * blocks.K_t - Q_tt * blocks.K_tt
    matrix.flat[:: len(matrix) + 1] += blocks.temperature
    return matrix


def explicit_Q_st(blocks: Blocks, D: float, trace_m: float, uWu: float, uWy: float) -> float:
    """Q_st = uᵀΔ⁻¹y / [N1/(Q_s D) - Tr(Δ⁻¹m) + uᵀΔ⁻¹u]."""
    return uWy / (blocks.width / (blocks.Q_s * D) - trace_m + uWu)


def franz_parisi_action(Q_t: float, Q_tt: float, Q_st: float, blocks: Blocks) -> float:
    """S(Q_t, Q_tt, Q_st) at any overlaps with Q_t > Q_tt and Δ positive definite."""
    D = Q_t - Q_tt
    factor = (cholesky(delta(D, Q_tt, blocks), lower=True), True)
    E = Q_tt * blocks.K_tt - Q_st**2 * blocks.m
    r = blocks.y - Q_st * blocks.u
    readouts = Q_t - np.log(D) - (Q_tt - Q_st**2 / blocks.Q_s) / D
    log_det = 2 * np.log(np.diagonal(factor[0])).sum()
    fit = np.trace(cho_solve(factor, E)) + r @ cho_solve(factor, r)
    return float(blocks.width * readouts + log_det + fit)


class Expansion(NamedTuple):
    """First and second derivatives of the reduced action in (D, Q_tt), Q_st being eliminated."""

    Q_st: float
    gradient: Array
    hessian: Array
    physical: bool
    train_error: float
    resolution: float  # what rounding leaves of the scaled residuals


def expand(D: float, Q_tt: float, blocks: Blocks) -> Expansion:
    """Gradient (2,) and Hessian (2, 2) of S at (D, Q_tt), stationary in Q_st; exact.

    Raises `LinAlgError` where Δ is not positive definite.
    """
    N, Q_s, T = blocks.width, blocks.Q_s, blocks.temperature
    L = cholesky(delta(D, Q_tt, blocks), lower=True, check_finite=False)
    A, C, M = (_symmetric_half(L, K) for K in (blocks.K_t, blocks.K_tt, blocks.m))
    B = A - C
    half = _half(L, np.column_stack([blocks.u, blocks.y]))
    u, y = half.T
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
    w = solve_triangular(L, r, lower=True, trans="T", check_finite=False)
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


@dataclass(frozen=True)
class Overlaps:
    """A saddle point of the action with the solver's report; the residual is undamped, scaled."""

    D: float
    Q_tt: float
    Q_st: float
    train_error: float
    residual: float
    iterations: int
    physical: bool
    allowed: float

    @property
    def Q_t(self) -> float:
        """The target's own overlap D + Q_tt."""
        return self.D + self.Q_tt

    @property
    def converged(self) -> bool:
        """A small residual and a physical solution."""
        return self.physical and self.residual <= self.allowed


def _scaled(point: Expansion, D: float, Q_tt: float, width: float) -> Array:
    """Residuals that stay of order one where D is small or Q_tt large."""
    return point.gradient * [D**2 / (1 + abs(Q_tt)), D] / width


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def newton(D: float, Q_tt: float, blocks: Blocks, max_iterations: int = 50) -> Overlaps:
    """Solve for the saddle point near (D, Q_tt), in the unknowns ln D and Q_tt.

    The step is halved until the scaled residuals decrease; the caller judges ``converged``.
    """
    # On small matrices threads gain little, and on a busy machine they wait for each other.
    with _blas().limit(limits=1 if len(blocks.y) <= 512 else None):
        return _newton(D, Q_tt, blocks, max_iterations)


def _newton(D: float, Q_tt: float, blocks: Blocks, max_iterations: int) -> Overlaps:
    point = expand(D, Q_tt, blocks)
    scaled = _scaled(point, D, Q_tt, blocks.width)
    iterations = 0
    for iterations in range(1, max_iterations + 1):  # noqa: B007
        error = np.abs(scaled).max()
        if error < 1e-12:
            break
        jacobian = point.hessian * [[D, 1.0]]  # d gradient / d (ln D, Q_tt)
        try:
            step = np.linalg.solve(jacobian, -point.gradient)
        except LinAlgError:
            break
        step *= min(1.0, 1.0 / max(abs(step[0]), abs(step[1]) / (1 + abs(Q_tt))))
        # Below the tolerance a step that does not help is at the rounding level: no halving then.
        for halving in 0.5 ** np.arange(1 if error < TOLERANCE else 8):
            trial = D * np.exp(halving * step[0]), Q_tt + halving * step[1]
            try:
                candidate = expand(*trial, blocks)
            except LinAlgError:
                continue
            residuals = _scaled(candidate, *trial, blocks.width)
            if np.abs(residuals).max() < error:
                (D, Q_tt), point, scaled = trial, candidate, residuals
                break
        else:
            break
    return _overlaps(D, Q_tt, point, blocks.width, iterations)


def _overlaps(D: float, Q_tt: float, point: Expansion, width: float, iterations: int) -> Overlaps:
    residual = float(np.abs(_scaled(point, D, Q_tt, width)).max())
    report = residual, iterations, point.physical, TOLERANCE + point.resolution
    return Overlaps(float(D), float(Q_tt), point.Q_st, point.train_error, *report)


def frozen(blocks: Blocks) -> Overlaps:
    """The saddle point at infinite coupling, where K_tt = K_t and the equations decouple.

    D in (0, 1] is the unique root of N1 (1 - D) = Σ_k D e_k/(T + D e_k); Q_st is explicit; Q_tt
    follows linearly.
    """
    N, T = blocks.width, blocks.temperature
    e, U = eigh(blocks.K_t)
    e = np.maximum(e, 0.0)
    D = brentq(
        lambda D: N * (1 - D) - (D * e / (T + D * e)).sum(), 0.0, 1.0, xtol=1e-300, rtol=1e-15
    )
    G = T + D * e
    u, y = U.T @ blocks.u, U.T @ blocks.y
    m = U.T @ blocks.m @ U
    diagonal_m = np.diagonal(m)
    x = explicit_Q_st(blocks, D, (diagonal_m / G).sum(), (u / G) @ u, (u / G) @ y)
    w = (y - x * u) / G
    free = N / D**2 - ((e / G) ** 2).sum()
    Q_tt = (x**2 * (N / (blocks.Q_s * D**2) - (e / G**2) @ diagonal_m) + w @ (e * w)) / free
    # The closed form is checked by the equations it solves.
    solution = _overlaps(D, Q_tt, expand(D, Q_tt, blocks), N, 1)
    if not solution.converged:
        raise ConvergenceError(
            f"no physical saddle point at infinite coupling: residual {solution.residual:.1e}, "
            f"allowed {solution.allowed:.1e}; try a larger width or a higher temperature"
        )
    return solution


class Branch:
    """The saddle points at one width, followed in ln γ from zero coupling.

    The unphysical saddles of the action are avoided by never leaving the branch that starts at the
    network trained from scratch, (D, Q_tt) = (Q_t of scratch, 0). At a small first coupling the
    source's blocks are switched on from nothing; from there ln γ grows. A secant prediction is
    corrected by Newton's method and accepted only if the solution is physical and close to the
    prediction; otherwise the step is halved. Points once found are kept, so that any coupling is
    reached from the nearest one below.

    Parameters
    ----------
    blocks_at : callable
        The `Blocks` at a finite coupling > 0.
    scratch_Q : float
        The order parameter of the target trained alone, at zero coupling.
    scale : float
        A coupling of the size of the target's weight precision.
    """

    def __init__(
        self, blocks_at: Callable[[float], Blocks], scratch_Q: float, scale: float
    ) -> None:
        self.blocks_at = blocks_at
        self.scratch = np.array([np.log(scratch_Q), 0.0])
        self.scale = scale
        self.points: dict[float, Overlaps] = {}

    def at(self, coupling: float) -> Overlaps:
        """The saddle point at a finite coupling > 0.

        Raises `ConvergenceError` where the branch cannot be followed so far.
        """
        below = sorted(known for known in self.points if known <= coupling)
        if not below:
            first = min(coupling, 1e-2 * self.scale)
            blocks = self.blocks_at(first)
            switched = _walk(lambda share: _weakened(blocks, share), [(0.0, self.scratch)], 1.0)
            self.points[first] = switched[-1][1]
            below = [first]
        if below[-1] < coupling:
            trail = [(np.log(known), _coordinates(self.points[known])) for known in below[-2:]]
            walked = _walk(lambda t: self.blocks_at(np.exp(t)), trail, np.log(coupling))
            for t, point in walked[:-1]:
                self.points[float(np.exp(t))] = point
            self.points[coupling] = walked[-1][1]
        return self.points[coupling]


def _weakened(blocks: Blocks, share: float) -> Blocks:
    """The source's influence scaled down: at 0 the target is alone."""
    K_tt, m, u = share * blocks.K_tt, share**2 * blocks.m, share * blocks.u
    return blocks._replace(K_tt=K_tt, m=m, u=u)


def _coordinates(point: Overlaps) -> Array:
    return np.array([np.log(point.D), point.Q_tt])


def _walk(
    blocks_at: Callable[[float], Blocks],
    trail: list[tuple[float, Array]],
    target: float,
    longest: float = 1.5,
    shortest: float = 1e-3,
) -> list[tuple[float, Overlaps]]:
    """Continue from the last of the points (t, (ln D, Q_tt)) in ``trail`` to ``target``."""
    t, walked, step = trail[-1][0], [], longest
    # At least once: a coupling can be larger than the last one by less than its logarithm tells.
    while not walked or t < target:
        step = min(step, target - t)
        arrival = target if step == target - t else t + step
        predicted = _extrapolate(trail, arrival)
        try:
            point = newton(np.exp(predicted[0]), predicted[1], blocks_at(arrival))
            correction = np.abs(_coordinates(point) - predicted) / [1, 1 + abs(predicted[1])]
            report = f"residual {point.residual:.1e}, allowed {point.allowed:.1e}"
            accepted = point.converged and correction.max() < 0.5
        except LinAlgError:
            report, accepted = "Δ is not positive definite", False
        if accepted:
            t = arrival
            trail = [trail[-1], (t, _coordinates(point))]
            walked.append((t, point))
            step = min(2 * step, longest)
        elif step > shortest:
            step /= 2
        else:
            raise ConvergenceError(
                f"the physical branch of saddle points was lost at {t:.4g} on the way to "
                f"{target:.4g} (ln coupling, or the source's share at a small coupling): {report}; "
                "try a larger width, a higher temperature or smaller labels"
            )
    return walked


def _extrapolate(trail: list[tuple[float, Array]], t: float) -> Array:
    """Secant extrapolation, not further than the last two points are apart."""
    (t0, z0), (t1, z1) = trail[-2:] if len(trail) > 1 else 2 * trail
    if t0 == t1:
        return z1
    return z1 + min(1.0, (t - t1) / (t1 - t0)) * (z1 - z0)
