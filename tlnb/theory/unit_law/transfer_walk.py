"""Target units on the move around quenched source units, in the fields that they themselves make.

Around each source unit, kept as it is, two replicas of a target unit move; the equations are those
of `tlnb.theory.unit_law.transfer_moments`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlnb.sampling.adaptation import StepSize
from tlnb.sampling.hmc import hmc
from tlnb.theory.unit_law.moments import Units
from tlnb.theory.unit_law.solution import UnitLawSolution
from tlnb.theory.unit_law.tilt import Tilt
from tlnb.theory.unit_law.transfer_moments import (
    TargetClosure,
    TargetSums,
    close_target,
)
from tlnb.theory.unit_law.walk import FIRST_STEP, STEP_LIMIT

Array = NDArray[np.float64]
FIRST_GAIN, GAIN_POWER = 20.0, 0.7  # all populations share one force: (20 + step)^-0.7


@dataclass(frozen=True, eq=False)
class SourceUnits:
    """Quenched source units in populations (G, M): weights, readouts, fields not yet scaled.

    ``weights`` (G, M, N0); ``readouts`` sqrt(N1) v_s (G, M); ``pulls`` the same times σ_s
    (G, M, P_s); ``noise`` (G, M, P_t) standard normal, from which ζ is made.
    """

    weights: Array
    readouts: Array
    pulls: Array
    noise: Array
    propagator: Array

    @classmethod
    def of(
        cls,
        source: UnitLawSolution,
        n_labels: int,
        rng: np.random.Generator,
        per_population: int,
        times: int = 1,
    ) -> SourceUnits:
        """Where the source's ``per_population`` particles were last, with readouts drawn for them.

        Or at so many ``times``, evenly apart: all places of a particle are in the same half of the
        units, as one that is slow to leave a place would tell both halves of the same noise.
        """
        particles, Q = source.particles, source.readout_variance
        G, _, n = particles.positions.shape
        places = particles.positions.reshape(G, -1, per_population, n)
        draws = places.shape[1]
        kept = np.arange(draws - 1, -1, -max(1, draws // times))[:times]
        places = places[:, kept, : per_population // 2 * 2]
        position = places.swapaxes(1, 2).reshape(G, -1, n)
        weights = particles.units.spread * position
        features = particles.units.features(position)
        m = features @ source.force
        # sqrt(N1) v_s given the unit: mean Q m, variance N1 Q.
        spread = np.sqrt(source.width * Q)
        readouts = Q * m + spread * rng.standard_normal(m.shape)
        noise = rng.standard_normal((*m.shape, n_labels))
        return cls(weights, readouts, readouts[..., None] * features, noise, source.propagator)


@dataclass
class TargetWalk:
    """Two replicas of a target unit around each source unit, on the move.

    ``position`` (G, 2, M, N0) whitened, ``features`` (G, 2, M, P_t); ``force`` (G, 1, M, P_t) is
    t + ζ + η.
    """

    units: Units
    source: SourceUnits
    y: Array
    width: float
    temperature: float
    rng: np.random.Generator
    position: Array
    closed: TargetClosure
    keep_field: bool = True
    keep_pull: bool = True
    keep_known: bool = True
    running: TargetSums | None = None
    force: Array = field(default_factory=lambda: np.empty(0))
    features: Array = field(init=False)
    size: StepSize = field(default_factory=lambda: StepSize(FIRST_STEP, STEP_LIMIT))
    step: float = 0.3
    steps: int = 0
    share: float = 1.0  # of the tilt that units feel; below one only for the evidence

    def __post_init__(self) -> None:
        self.features = self.features_at(self.units.X)

    def features_at(self, X: Array) -> Array:
        """σ (G, 2, M, n) at inputs ``X``."""
        G, R, M, n = self.position.shape
        return self.units.features(self.position.reshape(G, R * M, n), X).reshape(G, R, M, -1)

    @property
    def frozen(self) -> bool:
        """Whether targets keep the source's weights as they are."""
        return self.units.spread == 0

    def update_force(self) -> None:
        """t + ζ + η of each source unit from the present closure."""
        t, Gamma, _, between, _, X = self.closed
        e, U = np.linalg.eigh(between)
        # The symmetric root, which moves with the matrix; noise of the averages can make e < 0.
        root = (U * np.sqrt(np.maximum(e, 0.0))) @ U.T
        G, M, _ = self.source.weights.shape
        force = np.broadcast_to(t, (G, M, len(t))).copy()
        if self.keep_field:
            force += self.source.noise @ (root @ Gamma)
        if self.keep_pull:
            halves = self.source.pulls.reshape(G, 2, M // 2, -1)
            for half in (0, 1):  # with the X of the other half
                back = self.source.propagator @ X[1 - half] @ Gamma / self.width
                part = slice(half * (M // 2), (half + 1) * (M // 2))
                force[:, part] += halves[:, half] @ back
        self.force = force[:, None]

    @property
    def tilt(self) -> Tilt:
        """u = Q m²/(2 N1), times ``share``, of the units that move."""
        G, R, M, _ = self.position.shape
        pull = np.broadcast_to(self.force, (G, R, M, len(self.y))).reshape(G, R * M, -1)
        return Tilt(self.units, pull, np.full((G, 1), self.share * self.closed.Q / self.width))

    def mean_log_integrals(self, nodes: int = 6, steps: int = 3) -> Array:
        """ln ∫ dw N(w; b w_s, 1/(λ0t + γ)) e^u averaged over the source units, by population (G,).

        The integral over a from 0 to 1 of the mean of u under a tilt by a u, at Gauss-Legendre
        nodes: linear in the units, so that the noise of each unit's integral does not enter.
        """
        G = len(self.position)
        if self.frozen:
            return self.tilts().mean(1)
        found = np.zeros(G)
        places, weights = np.polynomial.legendre.leggauss(nodes)
        for place, weight in sorted(zip(places, weights, strict=True), reverse=True):
            self.share = 0.5 * (1 + place)
            for k in range(2 * steps):
                self.move()
                if k >= steps:  # the first ones forget the tilt before
                    found += 0.5 * weight / steps * self.tilts().mean(1) / self.share
        self.share = 1.0
        return found

    def tilts(self) -> Array:
        """u, times ``share``, of every unit (G, 2 M)."""
        m = self._along(self.features)
        return 0.5 * self.share * self.closed.Q / self.width * m.reshape(len(m), -1) ** 2

    def move(self, adapt: bool = False) -> None:
        """One trajectory of every unit."""
        if self.frozen:
            return
        shape, tilt = self.position.shape, self.tilt
        features = self.features.reshape(-1, len(self.y))
        state = tilt.at(self.position.reshape(-1, shape[3]), features)
        angle = self.rng.uniform(0.5, 1.0) * np.pi / 2
        state, info = hmc(state, tilt, self.rng, step=self.step, angle=angle)
        if adapt:
            self.size.update(float(info.acceptance.mean()))
            self.step = self.size.current
        self.position = state.position.reshape(shape)
        self.features = state.details[0].reshape(self.features.shape)

    def fields(self, features: Array) -> tuple[Array, Array]:
        """m and its part (ζ + η)·σ, each (G, 2, M)."""
        m = self._along(features)
        return m, m - features @ self.closed.t

    def _along(self, features: Array) -> Array:
        """m (G, 2, M)."""
        return np.einsum("grmp,grmp->grm", features, np.broadcast_to(self.force, features.shape))

    def measure(self) -> tuple[TargetSums, Array, Array]:
        """Averages, and m and (ζ + η)·σ of every unit."""
        features = self.features
        m, shared = self.fields(features)
        sums = TargetSums.of(features, features, m, shared, self.source.readouts, self.source.pulls)
        return sums, m, shared

    def learn(self, sums: TargetSums) -> None:
        """Mix new averages in and let t, Q, B and X follow them."""
        self.steps += 1
        # Units that stay where they are have nothing to be averaged over.
        gain = 1.0 if self.frozen else (FIRST_GAIN + self.steps) ** -GAIN_POWER
        self.running = sums if self.running is None else self.running.mix(sums, gain)
        self.closed = self.close(self.running.only(slice(None)), Q=self.closed.Q)
        self.update_force()

    def close(self, sums: TargetSums, Q: float | None = None) -> TargetClosure:
        """The equations at these averages; terms left out on request are left out here."""
        if not self.keep_known:
            sums = sums._replace(cross=0 * sums.cross, weight=0 * sums.weight)
        at: dict[str, Any] = {"width": self.width, "temperature": self.temperature, "Q": Q}
        return close_target(sums, self.y, self.source.propagator, **at)
