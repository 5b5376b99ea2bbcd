"""Solving the deep action: Newton's method, and the physical branch followed in the coupling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from tlnb.errors import ConvergenceError
from tlnb.theory.deep.action import Blocks, Expansion, expand

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the scaled, undamped residuals


@dataclass(frozen=True, eq=False)
class Saddle:
    """A stationary point with the solver's report; the residual is undamped and scaled.

    ``z`` (3, m): D_l, x_l and o_l of the m layers of finite width.
    """

    z: Array
    train_error: float
    residual: float
    iterations: int
    physical: bool
    allowed: float

    @property
    def converged(self) -> bool:
        """A small residual and a physical solution."""
        return self.physical and self.residual <= self.allowed

    @property
    def coordinates(self) -> Array:
        """(ln D_l, o_l), of shape (2, m): smooth in the coupling."""
        return np.array([np.log(self.z[0]), self.z[2]])


class _Step(NamedTuple):
    """Equations and their derivatives in coordinates relative to the layer above.

    D_l = D_Σ exp(δ_l) and o_l = o_Σ + ω_l with Σ_l that of the layer above: a layer moves with it,
    as it must where N_l is large and A_l hardly leaves Σ_l.
    """

    equations: Array  # (2m,), derivatives of the action in (δ_l, ω_l)
    jacobian: Array  # (2m, 2m)
    residuals: Array  # (2m,), scaled so that they stay of order one where D_l is small

    @classmethod
    def at(cls, point: Expansion, blocks: Blocks) -> _Step:
        D, _, o = point.z
        chain, m = blocks.chain, len(D)
        # First derivatives of (D_l, o_l) in (δ, ω), and the second ones of D_l.
        moved, bent = np.zeros((2 * m, 2 * m)), np.zeros((m, 2 * m, 2 * m))
        for layer in range(m - 1, -1, -1):
            delta, omega = np.eye(2 * m)[[layer, m + layer]]
            _, _, c_t, c_tt = chain.c[layer]
            D_sigma, by_D, by_o = c_t, np.zeros(2 * m), np.zeros(2 * m)
            if layer < m - 1:
                D_sigma = c_t * D[layer + 1] + (c_t - c_tt) * o[layer + 1]
                by_D = c_t * moved[layer + 1] + (c_t - c_tt) * moved[m + layer + 1]
                by_o = c_tt * moved[m + layer + 1]
                bent[layer] = D[layer] / D_sigma * c_t * bent[layer + 1]
            by_D = D[layer] / D_sigma * by_D
            moved[layer], moved[m + layer] = by_D + D[layer] * delta, by_o + omega
            mixed = np.outer(by_D, delta)
            bent[layer] += mixed + mixed.T + D[layer] * np.outer(delta, delta)
        equations = moved.T @ point.gradient.ravel()
        jacobian = moved.T @ point.hessian @ moved
        jacobian += np.einsum("l,lij->ij", point.gradient[0], bent)
        scales = np.concatenate([D / (chain.scale + abs(o)), D]) / np.tile(chain.widths, 2)
        return cls(equations, jacobian, equations * scales)


def _moved(point: Expansion, blocks: Blocks, step: Array) -> tuple[Array, Array]:
    """(D_l, o_l) after a ``step`` (2, m) in (δ_l, ω_l)."""
    D, _, o = point.z
    chain, m = blocks.chain, len(D)
    new_D, new_o = np.empty(m), np.empty(m)
    for layer in range(m - 1, -1, -1):
        _, _, c_t, c_tt = chain.c[layer]
        if layer < m - 1:
            old = c_t * D[layer + 1] + (c_t - c_tt) * o[layer + 1], c_tt * o[layer + 1]
            new = c_t * new_D[layer + 1] + (c_t - c_tt) * new_o[layer + 1], c_tt * new_o[layer + 1]
        else:
            old = new = c_t, 0.0
        new_D[layer] = D[layer] * new[0] / old[0] * np.exp(step[0, layer])
        new_o[layer] = o[layer] + new[1] - old[1] + step[1, layer]
    return new_D, new_o


def newton(coordinates: Array, blocks: Blocks, max_iterations: int = 50) -> Saddle:
    """Solve for the saddle near (ln D_l, o_l), ``coordinates`` of shape (2, m).

    The step is halved until the scaled residuals decrease; the caller judges ``converged``.
    """
    log_D, o = coordinates
    scale = blocks.chain.scale
    point = expand(np.exp(log_D), o, blocks)
    at = _Step.at(point, blocks)
    iterations = 0
    for iterations in range(1, max_iterations + 1):  # noqa: B007
        error = np.abs(at.residuals).max()
        if error < 1e-12:
            break
        try:
            step = np.linalg.solve(at.jacobian, -at.equations).reshape(2, -1)
        except LinAlgError:
            break
        sizes = np.array([np.ones_like(scale), scale + abs(point.z[2])])
        step *= min(1.0, 1.0 / np.abs(step / sizes).max())
        # Below the tolerance a step that does not help is at the rounding level: no halving then.
        for halving in 0.5 ** np.arange(1 if error < TOLERANCE else 8):
            try:
                candidate = expand(*_moved(point, blocks, halving * step), blocks)
            except LinAlgError:
                continue
            trial = _Step.at(candidate, blocks)
            if np.abs(trial.residuals).max() < error:
                point, at = candidate, trial
                break
        else:
            break
    return Saddle(
        point.z,
        point.train_error,
        float(np.abs(at.residuals).max()),
        iterations,
        point.physical,
        TOLERANCE + point.resolution,
    )


class Branch:
    """The saddle points at given widths, followed in the coupling from zero.

    The unphysical saddles of the action are avoided by never leaving the branch that starts at the
    network trained from scratch, x = o = 0. At a small first coupling the source's blocks are
    switched on from nothing; from there the logarithm of the coupling grows, and infinity is
    reached from one that differs from it by little. A secant prediction is corrected by
    Newton's method and accepted only if the solution is physical and close to the prediction;
    otherwise the step is halved. Points once found are kept.

    Parameters
    ----------
    blocks_at : callable
        The `Blocks` at a coupling > 0, infinity included.
    scratch : array of shape (m,)
        The target's overlaps D_l when it is trained alone.
    unit : float
        A coupling of the size of the target's weight precision.
    """

    def __init__(self, blocks_at: Callable[[float], Blocks], scratch: Array, unit: float) -> None:
        self.blocks_at = blocks_at
        self.scratch = np.array([np.log(scratch), np.zeros_like(scratch)])
        self.unit = unit
        self.points: dict[float, Saddle] = {}

    def at(self, coupling: float) -> Saddle:
        """The saddle point at a coupling > 0.

        Raises `ConvergenceError` where the branch cannot be followed so far.
        """
        if coupling in self.points:
            return self.points[coupling]
        if np.isinf(coupling):
            return self._at_infinity()
        below = sorted(known for known in self.points if known <= coupling)
        if not below:
            first = min(coupling, 1e-2 * self.unit)
            blocks = self.blocks_at(first)
            switched = _walk(lambda share: _weakened(blocks, share), [(0.0, self.scratch)], 1.0)
            self.points[first] = switched[-1][1]
            below = [first]
        if below[-1] < coupling:
            trail = [(np.log(known), self.points[known].coordinates) for known in below[-2:]]
            walked = _walk(lambda t: self.blocks_at(np.exp(t)), trail, np.log(coupling))
            for t, point in walked[:-1]:
                self.points[float(np.exp(t))] = point
            self.points[coupling] = walked[-1][1]
        return self.points[coupling]

    def _at_infinity(self) -> Saddle:
        """From the last finite coupling in steps of 1/γ: there the solution is linear in it."""
        for last in self.unit * np.array([1e4, 1e6, 1e8]):
            trail = [(-1 / g, self.at(g).coordinates) for g in (0.5 * last, last)]
            try:
                walked = _walk(lambda t: self.blocks_at(-1 / t if t else np.inf), trail, 0.0)
                break
            except ConvergenceError:  # not close enough yet
                if last == 1e8 * self.unit:
                    raise
        self.points[np.inf] = walked[-1][1]
        return self.points[np.inf]


def follow_width(blocks_at: Callable[[float], Blocks], widest: float = 1e6) -> Saddle:
    """The saddle point reached from wide networks instead of small couplings.

    ``blocks_at(t)`` are the blocks with all widths multiplied by exp(-t). At infinite width nothing
    of the source is left and the solution is known. This is the way for activations that are not
    odd, whose small couplings are singular in more than one layer; for others it leads to the same
    point (the tests hold both together).

    Raises `ConvergenceError` where the branch ends on the way.
    """
    start = -np.log(widest)
    scale = blocks_at(start).chain.scale
    return _walk(blocks_at, [(start, np.array([np.log(scale), 0 * scale]))], 0.0)[-1][1]


def _weakened(blocks: Blocks, share: float) -> Blocks:
    """The source's influence scaled down: at 0 the target is alone."""
    K_tt, m, u = share * blocks.K_tt, share**2 * blocks.m, share * blocks.u
    return blocks._replace(K_tt=K_tt, m=m, u=u)


def _walk(
    blocks_at: Callable[[float], Blocks],
    trail: list[tuple[float, Array]],
    target: float,
    longest: float = 1.5,
    shortest: float = 1e-3,
) -> list[tuple[float, Saddle]]:
    """Continue from the last of the points (t, (ln D, o)) in ``trail`` to ``target``."""
    t, step = trail[-1][0], longest
    walked: list[tuple[float, Saddle]] = []
    # At least once: a coupling can be larger than the last one by less than its logarithm tells.
    while not walked or t < target:
        step = min(step, target - t)
        arrival = target if step == target - t else t + step
        predicted = _extrapolate(trail, arrival)
        blocks = blocks_at(arrival)
        try:
            point = newton(predicted, blocks)
            size = [np.ones_like(predicted[0]), blocks.chain.scale + abs(predicted[1])]
            correction = np.abs(point.coordinates - predicted) / size
            report = f"residual {point.residual:.1e}, allowed {point.allowed:.1e}"
            accepted = point.converged and correction.max() < 0.5
        except LinAlgError:
            report, accepted = "Δ is not positive definite", False
        if accepted:
            t = arrival
            trail = [trail[-1], (t, point.coordinates)]
            walked.append((t, point))
            step = min(2 * step, longest)
        elif step > shortest:
            step /= 2
        else:
            raise ConvergenceError(
                f"the physical branch of saddle points was lost at {t:.4g} on the way to "
                f"{target:.4g} (ln coupling, the source's share at a small coupling, or -ln of "
                f"what multiplies the widths): {report}; try larger widths, a higher temperature, "
                "smaller labels or, if the activation is not odd, a larger coupling"
            )
    return walked


def _extrapolate(trail: list[tuple[float, Array]], t: float) -> Array:
    """Secant extrapolation, not further than the last two points are apart."""
    (t0, z0), (t1, z1) = trail[-2:] if len(trail) > 1 else 2 * trail
    if t0 == t1:
        return z1
    return z1 + min(1.0, (t - t1) / (t1 - t0)) * (z1 - z0)
