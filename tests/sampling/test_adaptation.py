"""What is learnt in warm-up: lengths against the best of a grid, on targets known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tlnb.sampling.adaptation import ANGLES, SCALES, SHORTEST, Trajectory, jittered
from tlnb.sampling.hmc import hmc, init, number_of_steps


def of_precision(precision: float | np.ndarray) -> Callable:
    """L such that every coordinate is N(0, 1/precision)."""

    def log_likelihood(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pull = (precision - 1) * position
        return -0.5 * (pull * position).reshape(len(position), -1).sum(1), -pull

    return log_likelihood


def learn(
    log_likelihood: Any, start: Any, step: float, *, moves: int = 180, seed: int = 0, **given: Any
) -> Trajectory:
    rng, state = np.random.default_rng(seed), init(start, log_likelihood)
    learnt = Trajectory(step, **given)
    for _ in range(moves):
        size, longest = learnt.propose()
        angle = jittered(longest, rng)
        moved, info = hmc(state, log_likelihood, rng, step=size, angle=angle)
        gradients = number_of_steps(angle, size)
        learnt.update(state.position, info.proposal, info.acceptance, gradients)
        state = moved
    return learnt


@pytest.mark.parametrize("precision", [1.0, 2.0, 4.0])
def test_lengths_are_judged_as_they_deserve(precision: float) -> None:
    """Squares of a Gaussian coordinate are forgotten at a quarter of a period, exactly."""
    start = np.random.default_rng(1).standard_normal((6, 300)) / np.sqrt(precision)
    learnt = learn(of_precision(precision), start, 0.02, fixed_step=True)
    step, longest = learnt.best
    # Mean forgetting of jittered lengths for each step that they take, exactly.
    share = np.linspace(SHORTEST, 1, 2001)
    forgets = np.array([(np.sin(precision**0.5 * share * a) ** 2).mean() for a in ANGLES])
    cost = [np.ceil(share * angle / 0.02).mean() + 1 for angle in ANGLES]
    rates = forgets / (2 - forgets) / cost
    assert step == 0.02 and rates[ANGLES.index(longest)] > 0.97 * rates.max()
    np.testing.assert_allclose(learnt.rates, rates, atol=0.08 * rates.max())


def test_what_is_kept_forgets_nearly_the_most_for_its_gradients() -> None:
    """Stiff and soft directions: against long runs of every candidate."""
    precisions = np.repeat([1.0, 3.0, 30.0], [40, 20, 3])
    target, rng = of_precision(precisions), np.random.default_rng(2)
    start = rng.standard_normal((40, len(precisions))) / np.sqrt(precisions)
    learnt = learn(target, start, 0.3, moves=126)
    rates = []
    for step, longest in learnt.candidates:
        change, cost, variance = 0.0, 0, 2 * (start**4).mean() - 2 * (start**2).mean() ** 2
        for _ in range(30):
            angle = jittered(longest, rng)
            state = init(start, target)
            moved, _ = hmc(state, target, rng, step=step, angle=angle)
            change += ((moved.position**2 - start**2) ** 2).mean()
            cost += number_of_steps(angle, step) + 1
        forgotten = change / 30 / variance
        rates.append(forgotten / (2 - forgotten) / (cost / 30))
    assert len(rates) == len(SCALES) * len(ANGLES)
    assert rates[learnt.candidates.index(learnt.best)] > 0.85 * max(rates)
    assert min(rates) < 0.85 * max(rates)  # it matters


def test_proposals_that_diverge_count_for_nothing() -> None:
    learnt = Trajectory(0.1)
    learnt.propose()
    proposal = np.array([[np.inf, np.nan], [1.0, 3.0]])
    learnt.update(np.ones((2, 2)), proposal, np.array([0.0, 0.5]), 3)
    assert learnt.change.sum() == pytest.approx((0.0 + 0.5 * 64 / 2) / 2)
    assert learnt.cost.sum() == 4


def test_lengths_are_jittered_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    lengths = [jittered(2.0, rng) for _ in range(500)]
    assert min(lengths) >= 2 * SHORTEST and max(lengths) <= 2 and np.std(lengths) > 0.1
