"""How chains are run: warm-up in which they adapt, draws, exchanges, and when to give up.

Whatever the targets are: any functions of positions (C, ...) that return log likelihoods (C,) and
gradients, in coordinates whose prior is N(0, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.errors import SamplingError
from tlnb.sampling.adaptation import StepSize
from tlnb.sampling.hmc import LogLikelihood, hmc, init, langevin
from tlnb.sampling.tempering import exchange
from tlnb.validation import check_count, check_positive

Array = NDArray[np.float64]
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
    acceptance: float
    divergences: int
    exchange: Array  # mean acceptance of swaps between neighbouring temperatures


def run_chains(
    targets: list[LogLikelihood],
    sampler: str,
    positions: Array,
    plan: Plan,
    rng: np.random.Generator,
    record: Callable[[Array], dict[str, Array]],
    progress: bool,
    label: str,
) -> Run:
    """Warm up, adapting the steps, then draw from the first target; the others exchange with it.

    Positions are of shape (targets, C, ...).
    """
    from tqdm import tqdm

    targets = [_checked(target) for target in targets]

    collapsed = sampler == "collapsed-hmc"
    sizes = [StepSize(0.1, np.pi / 2 if collapsed else 0.5) for _ in targets]
    steps = [plan.step_size or size.current for size in sizes]
    rows: list[dict[str, Array]] = []
    accepted, divergences, swapped = [], 0, []
    states, when = None, "at the start"
    length = plan.warmup + plan.draws * plan.thin
    bar = tqdm(range(length), desc=label, disable=not progress, leave=False)
    # One BLAS thread: the same numbers whatever the number of workers, and small matrices.
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"), bar:
        try:
            states = [init(*pair) for pair in zip(positions, targets, strict=True)]
            for i in bar:
                warming = i < plan.warmup
                adapting = warming and plan.step_size is None
                if i == plan.warmup and plan.step_size is None and plan.warmup > 0:
                    steps = [size.final for size in sizes]
                for k, target in enumerate(targets):
                    when = f"in step {i + 1}, of size {steps[k]:.3g}"
                    if sampler == "langevin" and not adapting:
                        moved = langevin(states[k], target, rng, step=steps[k])
                        if _not_finite(moved.log_likelihood, moved.gradient).any():
                            raise FloatingPointError("the dynamics ran away")
                        states[k] = moved
                        continue
                    # Jittered lengths; Langevin adapts its step as a single accepted one.
                    jitter = rng.uniform(0.5, 1.0) * np.pi / 2
                    angle = steps[k] if sampler == "langevin" else jitter
                    states[k], info = hmc(
                        states[k], target, rng, step=steps[k], angle=angle, rotate=collapsed
                    )
                    if adapting:
                        sizes[k].update(float(info.acceptance.mean()))
                        steps[k] = sizes[k].current
                    elif k == 0 and not warming:
                        accepted.append(info.acceptance.mean())
                        divergences += int(info.diverged.sum())
                states, swaps = exchange(states, targets, rng)
                if not warming:
                    swapped.append(swaps)
                if not warming and (i + 1 - plan.warmup) % plan.thin == 0:
                    rows.append(record(states[0].position))
        except FloatingPointError as error:
            last = positions[0] if states is None else states[0].position
            raise SamplingError(
                f"the log likelihood or its gradient is not finite {when}: {error}; try a smaller "
                "step, a higher temperature or another activation. The last finite positions are "
                "in the error's `state`",
                last,
            ) from error
    records = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    acceptance = float(np.mean(accepted)) if accepted else 1.0
    return Run(records, float(steps[0]), acceptance, divergences, np.mean(swapped, axis=0))


def _not_finite(value: Array, gradient: Array) -> NDArray[np.bool_]:
    """Which chains (C,) have no gradient, or no likelihood; a likelihood of zero is one."""
    wrong = ~np.isfinite(gradient.reshape(len(gradient), -1)).all(1)
    return wrong | np.isnan(value) | (value == np.inf)


def _checked(target: LogLikelihood) -> LogLikelihood:
    """The same target, which says so where it is not finite near the prior."""

    def call(position: Array) -> tuple[Array, Array]:
        value, gradient = target(position)
        if not np.isfinite(value.sum() + gradient.sum()):
            bad = _not_finite(value, gradient)
            if bad.any() and (abs(position[bad]) < FARTHEST).all():
                raise FloatingPointError(f"not finite in {bad.sum()} of {len(bad)} chains")
        return value, gradient

    return call
