r"""One task: particles moved under their own mean field until both agree.

Units move by rotation Hamiltonian Monte Carlo in the tilted prior

    p(w) ∝ N(w; 0, 1/λ0) exp(Q m(w)²/(2 N1)),   m(w) = t·σ(w).

After each step the averages over them are mixed into running ones (stochastic approximation), from
which t and Q follow, in which they move on. There are four populations that know nothing of each
other: two start as units of the prior in less tilt than the scalar theory has, two as units
stretched along the direction that the labels pull in, in all of its tilt. The spread of what each
of them closes to, or half the disagreement of the two starts where that is more, is the Monte Carlo
error of every number; the numbers themselves are those of all of them together. Where units are
slow to change sides the two starts disagree, and the error says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from threadpoolctl import threadpool_limits

from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.kernels import kernel
from tlnb.priors import OneTaskOptions, PriorsAtWidth, check_options
from tlnb.sampling.adaptation import StepSize
from tlnb.sampling.hmc import hmc, init
from tlnb.theory.one_task import OneTaskProblem, ProportionalSolution
from tlnb.theory.unit_law.closure import Closure, close, force, update
from tlnb.theory.unit_law.moments import Moments, Sums, Units, Weights
from tlnb.theory.unit_law.solution import Estimate, Particles, UnitLawSolution, summarise
from tlnb.validation import check_between, check_count, check_rng, check_width

Array = NDArray[np.float64]
POPULATIONS = 4
STRETCH = 4.0  # of half the populations at the start, in standard deviations of the prior
LOW = 0.7  # times the scalar theory's tilt, where the others start
FIRST_GAIN, GAIN_POWER = 20.0, 0.5  # of the stochastic approximation: (20 + step)^-0.5
STEP_LIMIT = np.pi / 2
LONGEST = np.pi / 2  # of a trajectory, in the angle by which the prior's motion turns


@dataclass
class Walk:
    """Particles on the move, and the averages they have left behind.

    ``position`` (G, M, N0) of G populations that know nothing of each other; ``t`` (G, P) and ``Q``
    (G,) are what they feel, from the ``running`` averages of each.
    """

    units: Units
    kernel: Array
    y: Array
    width: float
    temperature: float
    rng: np.random.Generator
    position: Array
    t: Array
    Q: Array
    running: Sums
    size: StepSize = field(default_factory=lambda: StepSize(0.3, STEP_LIMIT))
    step: float = 0.3
    steps: int = 0

    def log_likelihood(self, position: Array) -> tuple[Array, Array]:
        """u = Q m²/(2 N1) and its gradient, for every particle."""
        m, slope = self.units.fields(position.reshape(self.position.shape), self.t)
        strength = self.Q[:, None] / self.width
        slope *= (strength * m)[..., None]
        return (0.5 * strength * m**2).ravel(), slope.reshape(position.shape)

    def move(self, adapt: bool = False) -> None:
        """One trajectory of every particle."""
        state = init(self.position.reshape(-1, self.position.shape[2]), self.log_likelihood)
        angle = self.rng.uniform(0.5, 1.0) * LONGEST
        state, info = hmc(state, self.log_likelihood, self.rng, step=self.step, angle=angle)
        if adapt:
            self.size.update(float(info.acceptance.mean()))
            self.step = self.size.current
        self.position = state.position.reshape(self.position.shape)

    def measure(self) -> tuple[Sums, Weights]:
        """Means over each population, and the weights (G, M) of its particles as they are now."""
        features = self.units.features(self.position)
        m = np.einsum("gmp,gp->gm", features, self.t)
        weights = Weights.at(m, self.Q[:, None], self.width)
        return Sums.of(features, features, weights), weights

    def learn(self, sums: Sums) -> None:
        """Mix new averages in and let the force and Q of each population follow its own."""
        self.steps += 1
        self.running = self.running.mix(sums, (FIRST_GAIN + self.steps) ** -GAIN_POWER)
        at = {"width": self.width, "temperature": self.temperature}
        for g, moments in enumerate(self.running.moments(self.kernel)):
            try:
                self.t[g], self.Q[g] = update(moments, self.y, float(self.Q[g]), **at)
            except LinAlgError as error:
                raise ConvergenceError(
                    "the averages over the particles are too noisy for a covariance of the labels "
                    f"at temperature={self.temperature:g}; try more particles than "
                    f"{self.position[..., 0].size}"
                ) from error


def _start(K: Array, y: Array, scalar: ProportionalSolution) -> tuple[Array, float]:
    """The force of the scalar theory, and the Q that gives its order parameter."""
    t = force(Moments(scalar.Q * K, K), y, 1.0, scalar.temperature)
    return t, scalar.Q / (1 + scalar.Q * float(t @ K @ t) / scalar.width)


def gaussian_start(
    task: Task, scalar: ProportionalSolution, priors: PriorsAtWidth
) -> tuple[Array, float]:
    """Force and Q of the scalar theory of a task, where particles start."""
    return _start(prior_kernel(task, priors), task.y, scalar)


def prior_kernel(task: Task, priors: PriorsAtWidth) -> Array:
    """K (P, P), readout precision included."""
    return kernel(
        task.X,
        activation=priors.activation,
        weight_variance=1 / priors.weight_precision,
        readout_precision=priors.readout_precision,
    )


def begin(
    units: Units,
    K: Array,
    y: Array,
    scalar: ProportionalSolution,
    particles: int,
    rng: np.random.Generator,
) -> Walk:
    """Particles of two starts, between which the law should be.

    Half of the populations are drawn from the prior and feel less than the scalar theory's force;
    half are stretched along Xᵀt and feel it whole.
    """
    G, N1, T = POPULATIONS, scalar.width, scalar.temperature
    t, Q = _start(K, y, scalar)
    low = np.sqrt(LOW) * t
    rows = [_gaussian_sums(K, force, Q, N1) for force in [low] * (G // 2) + [t] * (G - G // 2)]
    running = Sums(*(np.array(values) for values in zip(*rows, strict=True)))
    position = rng.standard_normal((G, particles // G, units.X.shape[1]))
    pull = t @ units.X
    pull /= max(float(np.linalg.norm(pull)), 1e-300)
    far = position[G // 2 :]
    far += (STRETCH - 1) * (far @ pull)[..., None] * pull
    forces = np.array([low] * (G // 2) + [t] * (G - G // 2))
    return Walk(units, K, y, N1, T, rng, position, forces, np.full(G, Q), running)


def _gaussian_sums(K: Array, t: Array, Q: float, width: float) -> Sums:
    """Averages over units whose field is Gaussian under the prior, of one population."""
    Kt = K @ t
    k = float(t @ Kt)
    stretch = 1 / (1 - Q * k / width)
    v = stretch * k
    tilt, n2 = Q * v / width, Q**2 * v
    second = K + np.outer(Kt, Kt) * ((stretch - 1) / k if k > 0 else 0.0)
    undo = (1 + tilt) ** -0.5
    rows = second, undo * K, n2 * second, undo, (1 + 2 * tilt) ** -0.5, n2, n2 * (1 + tilt) ** -1.5
    return Sums(*(np.asarray(x) for x in rows))


def solve(
    task: Task,
    *,
    width: float,
    particles: int = 2000,
    warmup: int = 60,
    draws: int = 20,
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
        Steps before averages are kept, and steps of a round of averages.
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
        for _ in range(warmup):
            walk.move(adapt=True)
            walk.learn(walk.measure()[0])
        walk.step = walk.size.final
        collected = Collection(walk)
        while True:
            collected.extend(draws)
            drawn = collected.particles()
            closures, found = summarise(drawn, y, width=width, temperature=temperature)
            report = _disagreement(found, closures, walk, tolerance)
            if report is None:
                break
            if walk.steps + draws > max_steps:
                raise ConvergenceError(
                    f"the law of a unit at width={width:g}, temperature={temperature:g} is not "
                    f"known to {tolerance:g} after {walk.steps} steps of {count} particles: "
                    f"{report}; try more particles, a larger max_steps, a higher temperature or a "
                    "larger tolerance"
                )
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
        self.sums: Sums | None = None

    def extend(self, draws: int) -> None:
        """Make and keep so many steps."""
        for _ in range(draws):
            self.walk.move()
            sums, weights = self.walk.measure()
            self.walk.learn(sums)
            self.positions.append(self.walk.position)
            self.weights.append(weights)
            n = len(self.positions)
            self.sums = sums if self.sums is None else self.sums.mix(sums, 1 / n)

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
    found: dict[str, Estimate], closures: tuple[Closure, ...], walk: Walk, tolerance: float
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
    at = {"width": walk.width, "temperature": walk.temperature}
    last = walk.running.only(slice(None)).moments(walk.kernel)[0]
    last_Q = close(last, walk.y, **at).mean_square
    value, mcse = found["Q"]
    if not abs(last_Q - value) <= 4 * max(mcse, tolerance * value):
        return f"Q drifts, it is {value:.4g} on average and {last_Q:.4g} in the last steps"
    return None
