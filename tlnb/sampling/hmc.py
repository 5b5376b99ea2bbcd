r"""Markov chains in whitened coordinates: Hamiltonian Monte Carlo and Langevin dynamics.

The target density is N(ξ; 0, 1) exp L(ξ). The leapfrog step kicks the velocity by half a gradient,
drifts, and kicks again; the drift either *rotates* position and velocity,

    ξ' = ξ cos ε + p sin ε,   p' = p cos ε - ξ sin ε,

which solves the prior's motion exactly and leaves only ∇L to be kicked, so that the step does not
shrink with the dimension (Beskos et al. 2011), or goes straight, with ∇L - ξ as the kick (plain
HMC). All chains move together. `langevin` is the unadjusted dynamics, whose stationary law is off
by the order of its step. `build_kernel` makes either of them a function of state, step and random
numbers; what is learned in warm-up (`tlnb.sampling.adaptation`) and chains at several temperatures
(`tlnb.sampling.tempering`) stand elsewhere. Nothing here knows what is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed_names

Array = NDArray[np.float64]
LogLikelihood = Callable[[Array], tuple[Array, Array]]
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


def init(position: Array, log_likelihood: LogLikelihood) -> State:
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
    moved = choose(rng.random(len(gain)) < acceptance, end, state)
    return moved, Info(acceptance, gain > DIVERGENCE)


def choose(accepted: NDArray[np.bool_], new: State, old: State) -> State:
    """The new state of the chains (C,) that accepted it, the old one of the others."""
    mask = accepted.reshape(-1, *[1] * (old.position.ndim - 1))
    pairs = zip((mask, accepted, mask), new, old, strict=True)
    return State(*(np.where(*pair) for pair in pairs))


def langevin(
    state: State, log_likelihood: LogLikelihood, rng: np.random.Generator, *, step: float
) -> State:
    """One step ξ + (ε²/2)(∇L - ξ) + ε noise of the unadjusted dynamics."""
    x = state.position
    x = x + 0.5 * step**2 * (state.gradient - x) + step * rng.standard_normal(x.shape)
    return State(x, *log_likelihood(x))


__getattr__ = renamed_names(__name__)
