"""What the scalar theory chose, judged anew by the law of a hidden unit (`tlnb.theory.unit_law`).

That theory is right on real images where the scalar one is not, but it moves particles: a solution
takes seconds to minutes, and its numbers have Monte Carlo errors. So the scalar theory chooses
among all candidates, and the law of a unit is solved for the choices alone, that of the coupled
network and of each opponent. Its Monte Carlo errors are part of every gain's error. An infinitely
wide network has no law of a unit to solve for; the two theories are one there, and the scalar one's
numbers are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlnb.data.task import Task
from tlnb.gain.candidates import Errors
from tlnb.gain.verdict import Again
from tlnb.priors import Priors, weight_covariances
from tlnb.theory import unit_law

Array = NDArray[np.float64]
EFFORT = {"particles": 2000, "warmup": 60, "draws": 24, "tolerance": 0.1}


class UnitLaw:
    """Solves candidates by the law of a unit, each once.

    Parameters
    ----------
    sources, targets, tests : sequences of Task
        One for each class; no tests: None.
    rng : int
        Of the particles.
    effort : dict, optional
        particles, warmup, draws, tolerance of `tlnb.theory.unit_law.solve`.
    **priors
        activation, weight_precision and coupling_scheme of `tlnb.priors.Priors`.
    """

    def __init__(
        self,
        sources: Sequence[Task],
        targets: Sequence[Task],
        tests: Sequence[Task] | None,
        rng: int = 0,
        effort: dict[str, Any] | None = None,
        **priors: Any,
    ) -> None:
        self.sources, self.targets, self.tests = sources, targets, tests
        self.seed, self.priors = rng, priors
        self.effort = EFFORT if effort is None else effort
        self._problems: dict[tuple[Any, ...], unit_law.TransferLawProblem] = {}
        self._solved: dict[tuple[Any, ...], Again] = {}

    def __call__(self, row: pd.Series, *, alone: bool = False) -> Again | None:
        """Errors of a candidate, a row of its table; None at infinite width.

        ``alone``: from scratch, with the prior variance that the coupling leaves.
        """
        if np.isinf(row.width):
            return None
        alone = bool(alone or row.coupling == 0)
        key = alone, row.width, row.coupling, row.temperature, row.readout_precision
        if key not in self._solved:
            self._solved[key] = self._solve(*key)
        return self._solved[key]

    def _solve(
        self, alone: bool, width: float, coupling: float, T: float, precision: float
    ) -> Again:
        at = self.priors | {"temperature": T, "readout_precision": precision}
        solve = self._alone if alone else self._coupled
        solutions = [solve(c, width, coupling, at) for c in range(len(self.targets))]
        left_out = [solution.leave_one_out() for solution in solutions]
        noise = [solution.errors["leave_one_out_error"] for solution in solutions]
        found = Again(_errors(self.targets, left_out), None, _of_mean(noise), np.nan)
        if self.tests is None:
            return found
        pairs = list(zip(solutions, self.tests, strict=True))
        outcomes = [solution.predict(test.X, test.y) for solution, test in pairs]
        noise = [solution.averages(test)["test_error"].mcse for solution, test in pairs]
        return found._replace(test=_errors(self.tests, outcomes), test_noise=_of_mean(noise))

    def _alone(
        self, c: int, width: float, coupling: float, at: dict[str, Any]
    ) -> unit_law.UnitLawSolution:
        given = Priors(**at)
        variance = weight_covariances(
            coupling,
            source_weight_precision=given.weight_precision,
            target_weight_precision=given.weight_precision,
            scheme=given.coupling_scheme,
        ).c_t
        return unit_law.solve(
            self.targets[c], width=width, activation=given.activation,
            temperature=given.temperature, weight_precision=1 / variance,
            readout_precision=given.readout_precision, rng=self._rng(), **self.effort,
        )  # fmt: skip

    def _coupled(
        self, c: int, width: float, coupling: float, at: dict[str, Any]
    ) -> unit_law.TransferLawSolution:
        key = c, at["temperature"], at["readout_precision"]
        if key not in self._problems:
            self._problems[key] = unit_law.TransferLawProblem(
                self.sources[c], self.targets[c], rng=self._rng(), **self.effort, **at
            )
        return self._problems[key].solve(width=width, coupling=coupling)

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, len(self._solved), len(self._problems)])


def _errors(tasks: Sequence[Task], outcomes: Sequence[Any]) -> Array:
    mean = np.array([outcome.mean for outcome in outcomes])[None]
    variance = np.array([outcome.total_variance for outcome in outcomes])[None]
    return np.array(Errors.of(np.array([task.y for task in tasks]), mean, variance))[:, 0]


def _of_mean(noise: Sequence[float]) -> float:
    return float(np.sqrt(np.sum(np.square(noise))) / len(noise))
