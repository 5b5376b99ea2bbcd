"""What chains learn in warm-up: the step of the leapfrog, and the length of trajectories."""

from __future__ import annotations

from itertools import cycle, product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TARGET_ACCEPTANCE = 0.8
# About a quarter of the prior's period, which the directions need that the data say nothing of:
# the slowest ones, however many there are.
ANGLES = tuple(np.pi / 2 * np.array([0.85, 1.0, 1.2, 1.4]))
SCALES = (0.8, 1.0, 1.2)
SHORTEST = 0.7  # of a jittered trajectory, relative to the longest


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


class Trajectory:
    """Step and length of trajectories that give the most effective draws for their gradients.

    A posterior is even in each hidden unit, and so is all that a network does: what has to be
    forgotten are squares of coordinates. For every length and step on a small grid around the step
    that dual averaging found, `update` averages the squared change that a trajectory would bring to
    them if it were accepted, times the probability that it is. Divided by twice their variance it
    is 1 - ρ, with ρ their correlation from one draw to the next, averaged over coordinates, among
    which those of largest variance and lowest frequency count the most. Length and
    step are kept that have the largest (1 - ρ)/(1 + ρ), effective draws for each draw, for each
    gradient; a trajectory's other work counts as one more. Close to the criterion of Hoffman, Radul
    and Sountsov (2021), who take the square of the whole vector.
    """

    def __init__(self, step: float, *, fixed_step: bool = False) -> None:
        scales = (1.0,) if fixed_step else SCALES
        self.candidates = [(scale * step, angle) for angle, scale in product(ANGLES, scales)]
        self.tried, self.change, self.cost = np.zeros((3, len(self.candidates)))
        self.moments: list[tuple[float, float]] = []
        self._turn = cycle(np.random.default_rng(0).permutation(len(self.candidates)).tolist())
        self._now = 0

    def propose(self) -> tuple[float, float]:
        """A step and a longest angle to try."""
        self._now = next(self._turn)
        return self.candidates[self._now]

    def update(self, before: Array, proposal: Array, acceptance: Array, gradients: int) -> None:
        """Learn from trajectories from ``before`` to ``proposal`` (C, ...) of so many gradients."""
        squares = np.square(before)
        self.moments.append((float(squares.mean()), float(np.square(squares).mean())))
        change = np.square(np.square(proposal) - squares).reshape(len(before), -1).mean(1)
        # A chain that diverged has no end to speak of, and did not go there.
        self.change[self._now] += np.where(acceptance > 0, change * acceptance, 0.0).mean()
        self.cost[self._now] += gradients + 1
        self.tried[self._now] += 1

    @property
    def rates(self) -> Array:
        """Effective draws for each gradient, by candidate; 0 where none was tried."""
        second, fourth = np.mean(self.moments, axis=0)
        forgotten = self.change / np.maximum(self.tried, 1) / (2 * (fourth - second**2))
        forgotten = np.minimum(forgotten, 1.0)
        return forgotten / (2 - forgotten) / np.maximum(self.cost / np.maximum(self.tried, 1), 1)

    @property
    def best(self) -> tuple[float, float]:
        """The step and the longest angle to be kept after warm-up."""
        return self.candidates[int(self.rates.argmax())]


def jittered(longest: float, rng: np.random.Generator) -> float:
    """The length of one trajectory: so that none is in step with any motion."""
    return float(rng.uniform(SHORTEST, 1.0) * longest)
