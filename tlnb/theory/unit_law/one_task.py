"""One task: particles moved under their own mean field until both agree.

There are four populations that know nothing of each other (`tlnb.theory.unit_law.walk`): two start
as units of the prior in less tilt than the scalar theory has, two as units stretched along the
direction that the labels pull in, in all of its tilt. Averages over the last steps of all are
closed to give the numbers; the spread of what each population closes to is their Monte Carlo error,
or half the disagreement of the two starts where that is more. Where units are slow to change sides
the two starts disagree, and the error says so.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.kernels import kernel
from tlnb.priors import OneTaskOptions, PriorsAtWidth, check_options
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.unit_law.closure import Closure
from tlnb.theory.unit_law.moments import Sums, Units, Weights
from tlnb.theory.unit_law.solution import Estimate, Particles, UnitLawSolution, summarise
from tlnb.theory.unit_law.walk import POPULATIONS, Walk, begin
from tlnb.validation import check_between, check_count, check_rng, check_width

Array = NDArray[np.float64]
APART = 2  # trajectories between two draws


def prior_kernel(task: Task, priors: PriorsAtWidth) -> Array:
    """K (P, P), readout precision included."""
    return kernel(
        task.X,
        activation=priors.activation,
        weight_variance=1 / priors.weight_precision,
        readout_precision=priors.readout_precision,
    )


def solve(
    task: Task,
    *,
    width: float,
    particles: int = 2000,
    warmup: int = 60,
    draws: int = 12,
    max_steps: int = 1000,
    tolerance: float = 0.02,
    rng: int | np.random.Generator | None = 0,
    **priors: Unpack[OneTaskOptions],
) -> UnitLawSolution:
    """The law of a hidden unit of one task, by particles.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    width : float
        N1 ≥ 1, finite; at infinite width the law is the prior, and
        `tlnb.theory.one_task.solve` has the answer.
    particles : int
        Units at a time, in four independent populations.
    warmup, draws : int
        Trajectories before averages are kept, and draws of a round of averages, two trajectories
        apart.
    max_steps : int
        Rounds are added until the tolerance is met or so many steps are made.
    tolerance : float
        Relative Monte Carlo error allowed of Q and of the leave-one-out error.
    rng : int or Generator
    **priors
        activation (with a derivative), temperature, weight_precision, readout_precision or
        richness: see `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If the tolerance is not met within the steps allowed, as where populations from different
        starts go on disagreeing; if the averages still drift; or if the particles are too few for
        a covariance of the labels.

    Examples
    --------
    Beside the order parameter, a kernel that the labels have changed:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory import unit_law
    >>> X = np.random.default_rng(0).standard_normal((20, 5))
    >>> few = {"particles": 400, "warmup": 20, "draws": 10, "tolerance": 0.2}
    >>> solution = unit_law.solve(Task(X, X[:, 0]), width=20, temperature=0.1, **few)
    >>> solution.errors["Q"] < 0.1, solution.learnt_kernel.shape
    (True, (20, 20))
    """
    check_options("solve", priors, OneTaskOptions)
    width = check_width(width)
    if np.isinf(width):
        raise ValueError("width must be finite for the law of a unit, got inf: there Q is 1")
    count = check_count("particles", particles, 4 * POPULATIONS)
    warmup, draws = check_count("warmup", warmup), check_count("draws", draws, 2)
    max_steps = check_count("max_steps", max_steps, warmup + draws)
    tolerance = check_between("tolerance", tolerance, 1e-6, 1.0)
    rng = check_rng("rng", rng)
    problem = OneTaskProblem(check_task("task", task), **priors)
    own = problem.priors.at_width(width)
    temperature, y = own.temperature, task.y
    own.activation.derivative(np.zeros(1))  # a missing derivative is said now
    units = Units(task.X, own.activation, own.weight_precision**-0.5, own.readout_precision)
    K = prior_kernel(task, own)
    walk = begin(
        units, K, y, problem.solve(width=width), POPULATIONS * -(-count // POPULATIONS), rng
    )
    with threadpool_limits(1):
        walk.warm_up(warmup)
        collected = Collection(walk)
        while True:
            collected.extend(draws)
            drawn = collected.particles()
            closures, found = summarise(drawn, y, width=width, temperature=temperature)
            drift = collected.drift(closures[0], found["Q"].mcse, tolerance)
            report = _disagreement(found, closures, tolerance) or drift
            if report is None:
                break
            if walk.steps + draws > max_steps:
                raise ConvergenceError(
                    f"the law of a unit at width={width:g}, temperature={temperature:g} is not "
                    f"known to {tolerance:g} after {walk.steps} steps of {count} particles: "
                    f"{report}; try more particles, a larger max_steps, a higher temperature or a "
                    "larger tolerance"
                )
            if drift:  # what was kept so far belongs to the warm-up
                collected = Collection(walk)
    felt = walk.t.mean(0)
    residual = float(np.linalg.norm(felt - closures[0].t) / np.linalg.norm(felt))
    errors = {name: estimate.mcse for name, estimate in found.items()}
    values = {name: estimate.value for name, estimate in found.items()}
    values.pop("leave_one_out_error")
    return UnitLawSolution(
        width, temperature, **values, errors=errors, residual=residual, steps=walk.steps,
        converged=True, y=y, particles=drawn, closures=closures,
    )  # fmt: skip


class Collection:
    """What a walk leaves behind once it has warmed up."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.positions: list[Array] = []
        self.weights: list[Weights] = []
        self.felt: list[Array] = []  # Q of the walk, which follows its running averages
        self.sums: Sums | None = None

    def extend(self, draws: int) -> None:
        """Keep so many draws, some trajectories apart."""
        walk = self.walk
        for _ in range(draws):
            for _ in range(APART):
                walk.move()
            sums, weights = walk.measure()
            self.positions.append(walk.position)
            self.weights.append(weights)
            self.felt.append(walk.Q.copy())
            if self.sums is None:
                self.sums = sums
            else:
                self.sums.mix_in(sums, 1 / len(self.positions))
            walk.settle(sums)

    def drift(self, closed: Closure, mcse: float, tolerance: float) -> str | None:
        """In words, whether particles and averages still move."""
        pulls = np.array([weights.square.mean() for weights in self.weights]) / self.walk.width
        half = len(pulls) // 2
        early, late = (
            closed.Q + float(pulls[part].sum()) / max(half, 1)
            for part in (slice(half), slice(len(pulls) - half, None))
        )
        if half and not abs(late - early) <= 4 * max(mcse, tolerance * closed.mean_square):
            return f"Q drifts, from {early:.4g} in the first half of the steps to {late:.4g}"
        felt = float(np.mean(self.felt))
        if not abs(felt - closed.Q) <= 2 * tolerance * closed.Q:
            return f"the units felt a readout variance of {felt:.4g}, their own is {closed.Q:.4g}"
        return None

    def particles(self) -> Particles:
        """All that was kept."""
        if self.sums is None:
            raise ValueError("nothing was kept yet: extend the collection first")
        return Particles(
            self.walk.units,
            np.concatenate(self.positions, axis=1),
            Weights(*(np.concatenate(x, axis=1) for x in zip(*self.weights, strict=True))),
            self.walk.kernel,
            self.sums,
        )


def _disagreement(
    found: dict[str, Estimate], closures: tuple[Closure, ...], tolerance: float
) -> str | None:
    """What is not known well enough yet, in words."""
    for name in ("Q", "leave_one_out_error"):
        value, mcse = found[name]
        if not mcse <= tolerance * abs(value):
            one, other = (
                np.mean([c.mean_square for c in closures[part]])
                for part in (slice(1, 1 + POPULATIONS // 2), slice(1 + POPULATIONS // 2, None))
            )
            return (
                f"{name} = {value:.4g} ± {mcse:.2g} (Q from units of the prior {one:.4g}, from "
                f"stretched ones {other:.4g})"
            )
    return None
