"""Solving the deep action: Newton's method, and the physical branch followed in the coupling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def _scaled(point: Expansion, blocks: Blocks) -> Array:
    """Residuals (2, m) that stay of order one where D_l is small or o_l large."""
    D, _, o = point.z
    chain = blocks.chain
    return point.gradient * D * [D / (chain.scale + abs(o)), np.ones_like(D)] / chain.widths


def newton(coordinates: Array, blocks: Blocks, max_iterations: int = 50) -> Saddle:
    """Solve for the saddle near (ln D_l, o_l), ``coordinates`` of shape (2, m).

    The step is halved until the scaled residuals decrease; the caller judges ``converged``.
    """
    log_D, o = coordinates
    scale = blocks.chain.scale
    point = expand(np.exp(log_D), o, blocks)
    residuals = _scaled(point, blocks)
    iterations = 0
    for iterations in range(1, max_iterations + 1):  # noqa: B007
        error = np.abs(residuals).max()
        if error < 1e-12:
            break
        D, _, o = point.z
        jacobian = point.hessian * np.concatenate([D, np.ones_like(D)])  # by (ln D, o)
        try:
            step = np.linalg.solve(jacobian, -point.gradient.ravel()).reshape(2, -1)
        except LinAlgError:
            break
        step *= min(1.0, 1.0 / np.abs(step / [np.ones_like(D), scale + abs(o)]).max())
        # Below the tolerance a step that does not help is at the rounding level: no halving then.
        for halving in 0.5 ** np.arange(1 if error < TOLERANCE else 8):
            try:
                candidate = expand(D * np.exp(halving * step[0]), o + halving * step[1], blocks)
            except LinAlgError:
                continue
            trial = _scaled(candidate, blocks)
            if np.abs(trial).max() < error:
                point, residuals = candidate, trial
                break
        else:
            break
    return Saddle(
        point.z,
        point.train_error,
        float(np.abs(residuals).max()),
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
