"""Replica exchange: chains at higher temperatures carry those of the first across barriers.

Chains on several targets, the same posterior at increasing temperatures, swap positions, so that
those of the first cross by way of the others (Hukushima and Nemoto 1996).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tlnb.sampling.hmc import LogLikelihood, State, choose, init
from tlnb.validation import check_positive

Array = NDArray[np.float64]


def ladder(temperature: float, tempering: Sequence[float]) -> list[float]:
    """T and the temperatures of ``tempering`` above it, which have to increase."""
    hotter = [check_positive("tempering", T) for T in np.ravel(tempering).tolist()]
    temperatures = [temperature, *hotter]
    if (np.diff(temperatures) <= 0).any():
        raise ValueError(f"tempering must increase from T = {temperature}, got {tempering!r}")
    return temperatures


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
        new_a, new_b = init(b.position, of_a), init(a.position, of_b)
        gain = new_a.log_likelihood + new_b.log_likelihood - a.log_likelihood - b.log_likelihood
        acceptance = np.exp(np.minimum(np.nan_to_num(gain, nan=-np.inf), 0.0))
        accept = rng.random(len(gain)) < acceptance
        states[k : k + 2] = choose(accept, new_a, a), choose(accept, new_b, b)
        accepted[k] = acceptance.mean()
    return states, accepted
