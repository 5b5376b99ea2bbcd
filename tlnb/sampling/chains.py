"""How chains are run: warm-up in which they adapt, draws, exchanges, and when to give up.

Whatever the targets are: any functions of positions (C, ...) that return log likelihoods (C,) and
gradients, in coordinates whose prior is N(0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.errors import SamplingError
from tlnb.sampling.adaptation import StepSize, Trajectory, jittered
from tlnb.sampling.hmc import Info, LogLikelihood, State, hmc, init, langevin, number_of_steps
from tlnb.sampling.tempering import exchange
from tlnb.validation import check_count, check_positive

Array = NDArray[np.float64]
LONG = 100  # steps of warm-up from which on the length of trajectories is learned too
FARTHEST = 100.0  # prior standard deviations: a trajectory that went so far has diverged


class Plan(NamedTuple):
    """How long to run: warm-up steps, draws, steps between draws; the step, if it is given."""

    warmup: int
    draws: int
    thin: int = 1
    step_size: float | None = None


def check_plan(draws: int, warmup: int, thin: int, step_size: float | None) -> Plan:
    """The plan of these lengths, which are counts, and of this step, > 0 or None."""
    if step_size is not None:
        step_size = check_positive("step_size", step_size)
    draws, thin = check_count("draws", draws), check_count("thin", thin)
    return Plan(check_count("warmup", warmup, 0), draws, thin, step_size)


class Run(NamedTuple):
    """Records of shape (C, draws, ...) by name, and how the chains moved."""

    records: dict[str, Array]
    step_size: float
    trajectory: float  # the longest; 0 for Langevin
    acceptance: float
    divergences: int
    exchange: Array  # mean acceptance of swaps between neighbouring temperatures


class _Mover:
    """The moves of the chains on one target, and what they learn in warm-up.

    Warm-up is for the step at first and then, where it is long enough, for step and length
    together; Langevin dynamics has a step only, adapted as that of a single accepted one.
    """

    def __init__(self, target: LogLikelihood, sampler: str, plan: Plan) -> None:
        self.target, self.langevin = _Checked(target), sampler == "langevin"
        self.rotate = sampler == "collapsed-hmc"
        self.fixed = plan.step_size is not None
        self.size = StepSize(0.1, np.pi / 2 if self.rotate else 0.5)
        self.step, self.longest = plan.step_size or self.size.current, np.pi / 2
        self.warmup = plan.warmup
        learning = 0 if self.langevin or plan.warmup < LONG else int(0.4 * plan.warmup)
        self.settled = plan.warmup - learning
        self.trajectory: Trajectory | None = None

    def move(self, state: State, i: int, rng: np.random.Generator) -> tuple[State, Info | None]:
        """The state after step ``i``."""
        if i in (self.settled, self.warmup) and i > 0:
            self._conclude(i)
        if self.langevin and (self.fixed or i >= self.warmup):
            moved = langevin(state, self.target, rng, step=self.step)
            if _not_finite(moved.log_likelihood, moved.gradient).any():
                raise FloatingPointError("the dynamics ran away")
            return moved, None
        learning = self.trajectory if i < self.warmup else None
        if learning is not None:
            self.step, self.longest = learning.propose()
        angle = self.step if self.langevin else jittered(self.longest, rng)
        moved, info = hmc(state, self.target, rng, step=self.step, angle=angle, rotate=self.rotate)
        if learning is not None:
            gradients = number_of_steps(angle, self.step)
            learning.update(state.position, info.proposal, info.acceptance, gradients)
        elif i < self.warmup and not self.fixed:
            self.size.update(float(info.acceptance.mean()))
            self.step = self.size.current
        return moved, info

    def _conclude(self, i: int) -> None:
        if self.trajectory is not None:
            self.step, self.longest = self.trajectory.best
            return
        if not self.fixed:
            self.step = self.size.final
        if i < self.warmup:
            self.trajectory = Trajectory(self.step, fixed_step=self.fixed)


def run_chains(
    targets: Sequence[LogLikelihood],
    sampler: str,
    positions: Array,
    plan: Plan,
    rng: np.random.Generator,
    record: Callable[[State], dict[str, Array]],
    progress: bool,
    label: str,
) -> Run:
    """Warm up, adapting the steps, then draw from the first target; the others exchange with it.

    Parameters
    ----------
    targets : list of callables
        Of positions (C, ...) to log likelihoods (C,) and their gradients.
    sampler : {"collapsed-hmc", "hmc", "langevin"}
        HMC that rotates, or goes straight; unadjusted Langevin dynamics.
    positions : array of shape (targets, C, ...)
        Where the chains start.
    plan : Plan
    record : callable
        Of the state of the first target's chains to what is kept of a draw: arrays (C, ...).
    """
    from tqdm import tqdm

    movers = [_Mover(target, sampler, plan) for target in targets]
    rows: list[dict[str, Array]] = []
    accepted, divergences, swapped = [], 0, []
    states, when = None, "at the start"
    length = plan.warmup + plan.draws * plan.thin
    bar = tqdm(range(length), desc=label, disable=not progress, leave=False)
    # One BLAS thread: the same numbers whatever the number of workers, and small matrices.
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"), bar:
        try:
            states = [init(x, mover.target) for x, mover in zip(positions, movers, strict=True)]
            for i in bar:
                for k, mover in enumerate(movers):
                    when = f"in step {i + 1}, of size {mover.step:.3g}"
                    states[k], info = mover.move(states[k], i, rng)
                    if k == 0 and info is not None and i >= plan.warmup:
                        accepted.append(info.acceptance.mean())
                        divergences += int(info.diverged.sum())
                if len(movers) > 1:
                    states, swaps = exchange(states, [mover.target for mover in movers], rng)
                    if i >= plan.warmup:
                        swapped.append(swaps)
                if i >= plan.warmup and (i + 1 - plan.warmup) % plan.thin == 0:
                    rows.append(record(states[0]))
        except FloatingPointError as error:
            last = positions[0] if states is None else states[0].position
            raise SamplingError(
                f"the log likelihood or its gradient is not finite {when}: {error}; try a smaller "
                "step, a higher temperature or another activation. The last finite positions are "
                "in the error's `state`",
                last,
            ) from error
    records = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    first = movers[0]
    return Run(
        records,
        float(first.step),
        0.0 if first.langevin else float(first.longest),
        float(np.mean(accepted)) if accepted else 1.0,
        divergences,
        np.mean(swapped, axis=0) if swapped else np.empty(0),
    )


def _not_finite(value: Array, gradient: Array) -> NDArray[np.bool_]:
    """Which chains (C,) have no gradient, or no likelihood; a likelihood of zero is one."""
    wrong = ~np.isfinite(gradient.reshape(len(gradient), -1)).all(1)
    return wrong | np.isnan(value) | (value == np.inf)


class _Checked:
    """A target that says so where it is not finite near the prior."""

    def __init__(self, target: LogLikelihood) -> None:
        self.target = target
        self.evaluate = getattr(target, "in_detail", target)
        self.push = getattr(target, "force", lambda position: target(position)[1])

    def __call__(self, position: Array) -> tuple[Array, Array]:
        return self._finite(position, *self.target(position))

    def force(self, position: Array) -> Array:
        gradient = self.push(position)
        self._finite(position, np.zeros(len(gradient)), gradient)
        return gradient

    def in_detail(self, position: Array) -> tuple[Array, Array, tuple[Array, ...]]:
        value, gradient, *details = self.evaluate(position)
        return *self._finite(position, value, gradient), *details

    @staticmethod
    def _finite(position: Array, value: Array, gradient: Array) -> tuple[Array, Array]:
        if not np.isfinite(value.sum() + gradient.sum()):
            bad = _not_finite(value, gradient)
            if bad.any() and (abs(position[bad]) < FARTHEST).all():
                raise FloatingPointError(f"not finite in {bad.sum()} of {len(bad)} chains")
        return value, gradient
