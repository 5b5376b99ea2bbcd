r"""Markov chains in whitened coordinates: Hamiltonian Monte Carlo and Langevin dynamics.

The target density is N(ξ; 0, 1) exp L(ξ). The leapfrog step kicks the velocity by half a gradient,
drifts, and kicks again; the drift either *rotates* position and velocity,

    ξ' = ξ cos ε + p sin ε,   p' = p cos ε - ξ sin ε,

which solves the prior's motion exactly and leaves only ∇L to be kicked, so that the step does not
shrink with the dimension (Beskos et al. 2011), or goes straight, with ∇L - ξ as the kick (plain
HMC). All chains move together. `langevin` is the unadjusted dynamics, whose stationary law is off
by the order of its step. `init` makes a state of positions; `hmc` and `langevin` are kernels that
remember nothing: from a state, a target, a step and random numbers to the next state. What is
learned in warm-up (`tlnb.sampling.adaptation`) and chains at several temperatures
(`tlnb.sampling.tempering`) stand elsewhere. Nothing here knows what is sampled.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed_names

Array = NDArray[np.float64]
DIVERGENCE = 1000.0  # in energy: a trajectory that gained so much has left the target


class LogLikelihood(Protocol):
    """What the chains move in, in coordinates whose prior is N(0, 1)."""

    def __call__(self, position: Array, /) -> tuple[Array, Array]:
        """Log likelihoods (C,) at positions (C, ...) and their gradients (C, ...)."""
        ...


class State(NamedTuple):
    """Positions (C, ...), log likelihoods (C,) and their gradients (C, ...).

    ``details`` are arrays (C, ...) that the target has at hand there; they ride along with the
    chains, so that what is recorded of a draw needs no second evaluation.
    """

    position: Array
    log_likelihood: Array
    gradient: Array
    details: tuple[Array, ...] = ()


class Info(NamedTuple):
    """Of one step: acceptance probabilities (C,), divergences (C,), positions proposed (C, ...)."""

    acceptance: Array
    diverged: NDArray[np.bool_]
    proposal: Array


def init(position: Array, log_likelihood: LogLikelihood) -> State:
    """The state of chains at the given positions.

    With the details of a target that has any: a method ``in_detail(position)`` which returns log
    likelihoods, gradients and a tuple of arrays.
    """
    evaluate = getattr(log_likelihood, "in_detail", log_likelihood)
    return State(position, *evaluate(position))


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

    Reversible and volume-preserving; the energy is off by the order of the step squared. Both hold
    for any force, and only the two ends are judged: between them a target's own method
    ``force(position)``, if it has one, stands in for the gradient.
    """
    cos, sin = (np.cos(step), np.sin(step)) if rotate else (1.0, step)
    force = getattr(log_likelihood, "force", None) or (lambda position: log_likelihood(position)[1])

    def pull(x: Array, gradient: Array) -> Array:
        return gradient if rotate else gradient - x

    x = state.position
    p = velocity + 0.5 * step * pull(x, state.gradient)
    for i in range(steps):
        if i > 0:  # two half kicks with no drift between them are one whole kick
            p += step * pull(x, force(x))
        x, p = (cos * x + sin * p, cos * p - sin * x) if rotate else (x + step * p, p)
    end = init(x, log_likelihood)
    p += 0.5 * step * pull(x, end.gradient)
    return end, p


def energy(state: State, velocity: Array) -> Array:
    """½(|ξ|² + |p|²) - L of every chain (C,)."""
    return 0.5 * _sum(state.position**2 + velocity**2) - state.log_likelihood


def number_of_steps(angle: float, step: float) -> int:
    """Steps of at most ``step`` that make up ``angle``: gradients of a trajectory."""
    return max(1, int(np.ceil(angle / step)))


def hmc(
    state: State,
    log_likelihood: LogLikelihood,
    rng: np.random.Generator,
    *,
    step: float,
    angle: float,
    rotate: bool = True,
) -> tuple[State, Info]:
    """One trajectory of total length ``angle`` in steps of at most ``step``, accepted or not.

    Examples
    --------
    Where there is no likelihood the rotation is exact, and every trajectory accepted:

    >>> import numpy as np
    >>> from tlnb.sampling.hmc import hmc, init
    >>> def flat(position):
    ...     return np.zeros(len(position)), np.zeros_like(position)
    >>> rng = np.random.default_rng(0)
    >>> state = init(rng.standard_normal((1000, 3)), flat)
    >>> state, info = hmc(state, flat, rng, step=0.5, angle=1.5)
    >>> bool(info.acceptance.min() > 1 - 1e-9), bool(abs(state.position.std() - 1) < 0.05)
    (True, True)
    """
    steps = number_of_steps(angle, step)
    velocity = rng.standard_normal(state.position.shape)
    end, arrived = leapfrog(
        state, velocity, log_likelihood, step=angle / steps, steps=steps, rotate=rotate
    )
    gain = energy(end, arrived) - energy(state, velocity)
    gain = np.where(np.isnan(gain), np.inf, gain)
    acceptance = np.exp(-np.maximum(gain, 0.0))
    moved = choose(rng.random(len(gain)) < acceptance, end, state)
    return moved, Info(acceptance, gain > DIVERGENCE, end.position)


def choose(accepted: NDArray[np.bool_], new: State, old: State) -> State:
    """The new state of the chains (C,) that accepted it, the old one of the others."""
    if accepted.all():
        return new

    def pick(ours: Array, theirs: Array) -> Array:
        return np.where(accepted.reshape(-1, *[1] * (ours.ndim - 1)), ours, theirs)

    return State(
        pick(new.position, old.position),
        pick(new.log_likelihood, old.log_likelihood),
        pick(new.gradient, old.gradient),
        tuple(pick(*pair) for pair in zip(new.details, old.details, strict=True)),
    )


def langevin(
    state: State, log_likelihood: LogLikelihood, rng: np.random.Generator, *, step: float
) -> State:
    """One step ξ + (ε²/2)(∇L - ξ) + ε noise of the unadjusted dynamics."""
    x = state.position
    x = x + 0.5 * step**2 * (state.gradient - x) + step * rng.standard_normal(x.shape)
    return init(x, log_likelihood)


__getattr__ = renamed_names(__name__)
