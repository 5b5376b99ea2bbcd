r"""Particles of one task on the move, in the force that they themselves make.

Units move by rotation Hamiltonian Monte Carlo in the tilted prior

    p(w) ∝ N(w; 0, 1/λ0) exp(Q m(w)²/(2 N1)),   m(w) = t·σ(w),

and force and Q follow their averages (stochastic approximation). On the approach the force goes
after the labels that the units miss,

    t ← t + a [T + Q⟨σσᵀ⟩]⁻¹ (y - T t - ⟨Q σ m⟩),   a = (1 + step/2)^(-0.8),

⟨Qσm⟩ over the particles as they are now, which costs a product with their features; ⟨σσᵀ⟩ steers
only, and it and Q are renewed after ever more steps. The force may grow by a fifth in one step:
units that do not yet carry the labels ask for one that would carry all of them away, from where
they are slow to come back. Then running averages say what the force is, t = (T + Q⟨σσᵀ⟩)⁻¹ y, with
less noise.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve

from tlnb.sampling.adaptation import StepSize
from tlnb.sampling.hmc import hmc
from tlnb.theory.one_task import ProportionalSolution
from tlnb.theory.unit_law.closure import force, update
from tlnb.theory.unit_law.moments import Moments, Sums, Units, Weights
from tlnb.theory.unit_law.tilt import Tilt

Array = NDArray[np.float64]
POPULATIONS = 4
STRETCH = 4.0  # of half the populations at the start, in standard deviations of the prior
LOW = 0.7  # times the scalar theory's tilt, where the others start
GAIN_STEPS, GAIN_POWER = 2.0, 0.8
APPROACH = 16  # steps
LEARN_POWER = 0.6  # running averages take in new ones with a gain of (1 + how many)^-0.6
MOST_GROWTH = 1.2
FIRST_STEP = 0.04  # from where the leapfrog's step is learnt
STEP_LIMIT = np.pi / 2
LONGEST = np.pi / 2  # of a trajectory, in the angle by which the prior's motion turns


@dataclass
class Walk:
    """Particles on the move, and the averages they have left behind.

    ``position`` (G, M, N0) and ``features`` (G, M, P) of G populations that know nothing of each
    other; ``t`` (G, P) and ``Q`` (G,) are what they feel, ``running`` the averages of each and
    ``factors`` the Cholesky factors of T + Q⟨σσᵀ⟩.
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
    features: Array
    size: StepSize = field(default_factory=lambda: StepSize(FIRST_STEP, STEP_LIMIT))
    step: float = 0.3
    steps: int = 0
    learned: int = 0
    factors: list[tuple[Array, bool]] = field(default_factory=list)

    def tilt(self, g: int) -> Tilt:
        """u = Q m²/(2 N1) in the present force on one population."""
        return Tilt(self.units, self.t[g, None, None], self.Q[g, None, None] / self.width)

    def move(self, adapt: bool = False) -> None:
        """One trajectory of every particle, of a length of its own in each population."""
        self.steps += 1
        acceptance, before = [], self.position
        self.position, self.features = np.empty_like(before), self.features.copy()
        for g, position in enumerate(before):
            tilt, angle = self.tilt(g), self.rng.uniform(0.5, 1.0) * LONGEST
            state = tilt.at(position, self.features[g])
            state, info = hmc(state, tilt, self.rng, step=self.step, angle=angle)
            self.position[g], self.features[g] = state.position, state.details[0]
            acceptance.append(info.acceptance.mean())
        if adapt:
            self.size.update(float(np.mean(acceptance)))
            self.step = self.size.current

    def warm_up(self, steps: int) -> None:
        """So many steps that are not kept, in which the leapfrog's step is learnt."""
        due = 0
        for k in range(steps):
            self.move(adapt=True)
            if k >= APPROACH:
                if k % 2 == 1:
                    self.settle(self.measure()[0])
                continue
            if k == due:
                self.learn(self.measure()[0])
                due = k + 1 + k // 3
            self.follow()
        self.step = self.size.final

    def weights(self) -> Weights:
        """What the particles count, (G, M), as they are now."""
        m = np.einsum("gmp,gp->gm", self.features, self.t)
        return Weights.at(m, self.Q[:, None], self.width)

    def measure(self) -> tuple[Sums, Weights]:
        """Means over each population, and the weights of its particles."""
        weights = self.weights()
        return Sums.of(self.features, self.features, weights), weights

    def follow(self) -> None:
        """Let the force of each population go after the labels that its particles miss now."""
        gain = (1 + self.steps / GAIN_STEPS) ** -GAIN_POWER
        undo = self.weights().undo
        for g, factor in enumerate(self.factors):
            n = self.Q[g] * (self.features[g] @ self.t[g])
            omega = undo[g] / undo[g].mean()
            share = 1 / (omega**2).mean()
            drive = ((1 - share * omega) * n) @ self.features[g] / len(n)
            drive += share * self.Q[g] * (self.kernel @ self.t[g])
            missed = self.y - self.temperature * self.t[g] - drive
            t = self.t[g] + gain * cho_solve(factor, missed, check_finite=False)
            # Units that do not yet pull ask for a force that would tear all of them away.
            most = MOST_GROWTH * np.linalg.norm(self.t[g])
            self.t[g] = t * min(1.0, most / max(float(np.linalg.norm(t)), 1e-300))

    def learn(self, sums: Sums) -> None:
        """Mix new averages in and let Q of each population follow its own."""
        self.learned += 1
        self.running.mix_in(sums, (1 + self.learned) ** -LEARN_POWER)
        at = {"width": self.width, "temperature": self.temperature}
        for g, moments in enumerate(self.running.moments(self.kernel)):
            # Too noisy still for a covariance of the labels: the one before must do.
            with contextlib.suppress(LinAlgError):
                self.Q[g], self.factors[g] = update(moments, float(self.Q[g]), **at)

    def settle(self, sums: Sums) -> None:
        """Learn, and take the force that the running averages ask for."""
        self.learn(sums)
        for g, factor in enumerate(self.factors):
            self.t[g] = cho_solve(factor, self.y, check_finite=False)


def gaussian_start(K: Array, y: Array, scalar: ProportionalSolution) -> tuple[Array, float]:
    """The force of the scalar theory, and the Q that gives its order parameter."""
    t = force(Moments(scalar.Q * K, K), y, 1.0, scalar.temperature)
    return t, scalar.Q / (1 + scalar.Q * float(t @ K @ t) / scalar.width)


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
    t, Q = gaussian_start(K, y, scalar)
    low = np.sqrt(LOW) * t
    rows = [_gaussian_sums(K, force, Q, N1) for force in [low] * (G // 2) + [t] * (G - G // 2)]
    running = Sums(*(np.array(values) for values in zip(*rows, strict=True)))
    position = rng.standard_normal((G, particles // G, units.X.shape[1]))
    pull = t @ units.X
    pull /= max(float(np.linalg.norm(pull)), 1e-300)
    far = position[G // 2 :]
    far += (STRETCH - 1) * (far @ pull)[..., None] * pull
    forces = np.array([low] * (G // 2) + [t] * (G - G // 2))
    features = units.features(position)
    walk = Walk(units, K, y, N1, T, rng, position, forces, np.full(G, Q), running, features)
    walk.factors = [
        update(moments, Q, width=N1, temperature=T)[1] for moments in running.moments(K)
    ]
    return walk


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
