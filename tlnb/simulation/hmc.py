r"""Markov chains in whitened coordinates: Hamiltonian Monte Carlo and Langevin dynamics.

The target density is N(ξ; 0, 1) exp L(ξ). The leapfrog step kicks the velocity by half a gradient,
drifts, and kicks again; the drift either *rotates* position and velocity,

    ξ' = ξ cos ε + p sin ε,   p' = p cos ε - ξ sin ε,

which solves the prior's motion exactly and leaves only ∇L to be kicked, so that the step does not
shrink with the dimension (Beskos et al. 2011), or goes straight, with ∇L - ξ as the kick (plain
HMC). All chains move together. `exchange` lets chains on several targets, the same posterior at
higher temperatures, swap positions, so that those of the first cross barriers by way of the others
(Hukushima and Nemoto 1996). `langevin` is the unadjusted dynamics, whose stationary law is off by
the order of its step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LogLikelihood = Callable[[Array], tuple[Array, Array]]
TARGET_ACCEPTANCE = 0.8
DIVERGENCE = 1000.0  # in energy: a trajectory that gained so much has left the target


class State(NamedTuple):
    """Positions (C, ...), log likelihoods (C,) and their gradients (C, ...)."""

    position: Array
    log_likelihood: Array
    gradient: Array


class Info(NamedTuple):
    """Acceptance probabilities (C,) and divergences (C,) of one step."""

    acceptance: Array
    diverged: NDArray[np.bool_]


def start(position: Array, log_likelihood: LogLikelihood) -> State:
    """The state of chains at the given positions."""
    return State(position, *log_likelihood(position))


def _sum(x: Array) -> Array:
    """Sum over all but the first axis."""
    return x.reshape(len(x), -1).sum(1)


def leapfrog(
    state: State,
    velocity: Array,
    log_likelihood: LogLikelihood,
    *,
    step: float,
    steps: int,
    rotate: bool = True,
) -> tuple[State, Array]:
    """Where the motion leads in ``steps`` of size ``step``, and with what velocity.

    Reversible and volume-preserving; the energy is off by the order of the step squared.
    """
    cos, sin = (np.cos(step), np.sin(step)) if rotate else (1.0, step)
    x, value, gradient = state
    p = velocity
    for i in range(steps):
        # Two half kicks with no drift between them are one whole kick.
        p = p + (0.5 if i == 0 else 1.0) * step * (gradient if rotate else gradient - x)
        x, p = (cos * x + sin * p, cos * p - sin * x) if rotate else (x + step * p, p)
        value, gradient = log_likelihood(x)
    p = p + 0.5 * step * (gradient if rotate else gradient - x)
    return State(x, value, gradient), p


def energy(state: State, velocity: Array) -> Array:
    """½(|ξ|² + |p|²) - L of every chain (C,)."""
    return 0.5 * _sum(state.position**2 + velocity**2) - state.log_likelihood


def hmc(
    state: State,
    log_likelihood: LogLikelihood,
    rng: np.random.Generator,
    *,
    step: float,
    angle: float,
    rotate: bool = True,
) -> tuple[State, Info]:
    """One trajectory of total length ``angle`` in steps of at most ``step``, accepted or not."""
    steps = max(1, int(np.ceil(angle / step)))
    velocity = rng.standard_normal(state.position.shape)
    end, arrived = leapfrog(
        state, velocity, log_likelihood, step=angle / steps, steps=steps, rotate=rotate
    )
    gain = energy(end, arrived) - energy(state, velocity)
    gain = np.where(np.isnan(gain), np.inf, gain)
    acceptance = np.exp(-np.maximum(gain, 0.0))
    moved = _choose(rng.random(len(gain)) < acceptance, end, state)
    return moved, Info(acceptance, gain > DIVERGENCE)


def _choose(accepted: NDArray[np.bool_], new: State, old: State) -> State:
    """The new state of the chains (C,) that accepted it, the old one of the others."""
    mask = accepted.reshape(-1, *[1] * (old.position.ndim - 1))
    pairs = zip((mask, accepted, mask), new, old, strict=True)
    return State(*(np.where(*pair) for pair in pairs))


def exchange(
    states: Sequence[State], log_likelihoods: Sequence[LogLikelihood], rng: np.random.Generator
) -> tuple[list[State], Array]:
    """Swap the positions of neighbouring targets, or not: (0, 1), (2, 3), ..., then (1, 2), ...

    Judged chain by chain, so that the product of the targets' densities stays invariant. Also
    returns the mean acceptance of each pair of neighbours.
    """
    states, accepted = list(states), np.empty(len(states) - 1)
    for k in (*range(0, len(accepted), 2), *range(1, len(accepted), 2)):
        (a, b), (of_a, of_b) = states[k : k + 2], log_likelihoods[k : k + 2]
        new_a, new_b = start(b.position, of_a), start(a.position, of_b)
        gain = new_a.log_likelihood + new_b.log_likelihood - a.log_likelihood - b.log_likelihood
        acceptance = np.exp(np.minimum(np.nan_to_num(gain, nan=-np.inf), 0.0))
        accept = rng.random(len(gain)) < acceptance
        states[k : k + 2] = _choose(accept, new_a, a), _choose(accept, new_b, b)
        accepted[k] = acceptance.mean()
    return states, accepted


def langevin(
    state: State, log_likelihood: LogLikelihood, rng: np.random.Generator, *, step: float
) -> State:
    """One step ξ + (ε²/2)(∇L - ξ) + ε noise of the unadjusted dynamics."""
    x = state.position
    x = x + 0.5 * step**2 * (state.gradient - x) + step * rng.standard_normal(x.shape)
    return State(x, *log_likelihood(x))


class StepSize:
    """Dual averaging of ln ε towards an acceptance of 0.8 (Hoffman and Gelman 2014)."""

    def __init__(self, initial: float, largest: float) -> None:
        self.centre, self.largest = np.log(10 * initial), np.log(largest)
        self.error, self.averaged, self.count = 0.0, np.log(initial), 0
        self.current = initial

    def update(self, acceptance: float) -> None:
        """Learn from the mean acceptance of one step."""
        self.count += 1
        weight = 1 / (self.count + 10)
        self.error += weight * (TARGET_ACCEPTANCE - acceptance - self.error)
        log_step = min(self.centre - np.sqrt(self.count) / 0.05 * self.error, self.largest)
        decay = self.count**-0.75
        self.averaged += decay * (log_step - self.averaged)
        self.current = float(np.exp(log_step))

    @property
    def final(self) -> float:
        """The averaged step, to be kept after warm-up."""
        return float(np.exp(self.averaged))
