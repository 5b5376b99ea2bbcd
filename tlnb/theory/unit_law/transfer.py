r"""Transfer: the law of a target's hidden unit around each unit of a quenched source.

The source's law is solved first, as a task of its own (`tlnb.theory.unit_law.one_task`), and serves
every coupling. Then target units move around its units (`tlnb.theory.unit_law.transfer_walk`) until
the fields they feel and the averages they give agree. Derivation: chapter 17.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.priors import OneTaskOptions, PriorOptions, Priors, weight_covariances
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.unit_law import one_task
from tlnb.theory.unit_law.moments import Units
from tlnb.theory.unit_law.solution import AVERAGED, UnitLawSolution
from tlnb.theory.unit_law.transfer_moments import TargetClosure, TargetSums
from tlnb.theory.unit_law.transfer_solution import (
    Draw,
    TargetUnits,
    TransferLawSolution,
    jackknife,
    numbers,
    subsets,
)
from tlnb.theory.unit_law.transfer_walk import SourceUnits, TargetWalk
from tlnb.theory.unit_law.walk import POPULATIONS, gaussian_start
from tlnb.validation import check_between, check_count, check_nonnegative, check_rng, check_width

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
SWEPT = ("Q_s", "Q_t", "Q_st", "Q_tt", "train_error", "log_evidence", "residual")


class Terms(TypedDict, total=False):
    """Parts of the equations that can be left out, to see what each of them does."""

    keep_field: bool
    keep_pull: bool
    keep_known: bool


class TransferLawProblem:
    """A source, a target and their priors; the laws of sources are kept, one for each width.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    particles, warmup, draws, tolerance, rng
        As in `tlnb.theory.unit_law.solve`, for the source; as many target units are moved, for as
        many steps, two replicas around each source unit.
    **priors
        As in `tlnb.theory.transfer.solve`; see `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.

    Examples
    --------
    One law of the source for all couplings, and errors of every number:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.unit_law import TransferLawProblem
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> source, target = Task(X[:20], X[:20, 0]), Task(X[20:], X[20:, 0])
    >>> few = {"particles": 400, "warmup": 20, "draws": 10, "tolerance": 0.3}
    >>> problem = TransferLawProblem(source, target, temperature=0.1, **few)
    >>> solution = problem.solve(width=20, coupling=1.0)
    >>> solution.Q_st > 3 * solution.errors["Q_st"]
    True
    """

    def __init__(
        self,
        source: Task,
        target: Task,
        *,
        particles: int = 2000,
        warmup: int = 60,
        draws: int = 20,
        max_steps: int = 1000,
        tolerance: float = 0.02,
        rng: int | np.random.Generator | None = 0,
        **priors: Unpack[PriorOptions],
    ) -> None:
        self.priors = Priors.of(type(self).__name__, priors)
        self.source = check_task("source", source)
        self.target = check_task("target", target, source.n_features)
        self.effort: dict[str, Any] = {
            "particles": check_count("particles", particles, 16),
            "warmup": check_count("warmup", warmup),
            "draws": check_count("draws", draws, 2),
            "max_steps": max_steps,
            "tolerance": check_between("tolerance", tolerance, 1e-6, 1.0),
        }
        self.rng = check_rng("rng", rng)
        self._sources: dict[float, UnitLawSolution] = {}
        self._last: dict[float, TransferLawSolution] = {}

    def source_law(self, width: float) -> UnitLawSolution:
        """The law of the source, which does not feel the target."""
        if width not in self._sources:
            priors = self.priors.at_width(width)
            own = {
                name: getattr(priors, f"source_{name}")
                for name in ("temperature", "weight_precision", "readout_precision")
            }
            self._sources[width] = one_task.solve(
                self.source, width=width, activation=priors.activation, rng=self.rng, **own,
                **self.effort,
            )  # fmt: skip
        return self._sources[width]

    def solve(
        self, *, width: float, coupling: float, **terms: Unpack[Terms]
    ) -> TransferLawSolution:
        """The law of the target at one width and coupling.

        Parameters
        ----------
        width, coupling : float
            N1, finite, and γ from 0 to ``numpy.inf``.
        **terms : bool
            keep_field, keep_pull, keep_known: False leaves out ζ, η or XᵀΓ_sX, to see what each of
            them does.

        Raises
        ------
        ConvergenceError
            As `tlnb.theory.unit_law.solve`.
        """
        width = check_width(width)
        coupling = check_nonnegative("coupling", coupling, allow_infinite=True)
        source = self.source_law(width)
        if coupling == 0:
            return self._alone(width, source)
        walk = self._begin(width, coupling, source, terms)
        draws, sums = self._run(walk)
        found = self._finish(walk, draws, sums, coupling, source)
        if not terms:
            self._last[width] = found
        return found

    def _own(self, width: float) -> dict[str, Any]:
        priors = self.priors.at_width(width)
        return {name: getattr(priors, name) for name in OneTaskOptions.__annotations__}

    def _alone(self, width: float, source: UnitLawSolution) -> TransferLawSolution:
        """At zero coupling the target does not know the source."""
        alone = one_task.solve(
            self.target, width=width, rng=self.rng, **self._own(width), **self.effort
        )
        errors = {"Q_s": source.errors["Q"], "Q_t": alone.errors["Q"], "Q_st": 0.0, "Q_tt": 0.0}
        return TransferLawSolution(
            width, 0.0, alone.temperature, source.Q, alone.Q, 0.0, 0.0, alone.train_error,
            alone.log_evidence, errors=alone.errors | errors, residual=alone.residual,
            steps=alone.steps, converged=True, source=source, y=self.target.y, units=alone,
            closures=(), drive=np.empty(0),
        )  # fmt: skip

    def _begin(
        self, width: float, coupling: float, source: UnitLawSolution, terms: Terms
    ) -> TargetWalk:
        """Target units at random around their source's, in the force of the last coupling."""
        priors, target = self.priors.at_width(width), self.target
        c_s, c_st, c_t, c_tt = weight_covariances(
            coupling,
            source_weight_precision=priors.source_weight_precision,
            target_weight_precision=priors.weight_precision,
            scheme=priors.coupling_scheme,
        )
        per_population = -(-self.effort["particles"] // POPULATIONS)
        # Frozen units are not moved, and more of them cost little.
        times = FROZEN_UNITS if np.isinf(coupling) else 1
        quenched = SourceUnits.of(source, target.n_examples, self.rng, per_population, times)
        G, M, n = quenched.weights.shape
        centre = np.repeat(c_st / c_s * quenched.weights[:, None], 2, axis=1)
        units = Units(
            target.X, priors.activation, max(c_t - c_tt, 0.0) ** 0.5, priors.readout_precision,
            centre.reshape(G, 2 * M, n),
        )  # fmt: skip
        position = self.rng.standard_normal((G, 2, M, n))
        if width in self._last:
            closed = self._last[width].closures[0]
        else:
            own = self._own(width) | {"weight_precision": 1 / c_t}
            problem = OneTaskProblem(target, **own)
            K = one_task.prior_kernel(target, problem.priors.at_width(width))
            t, Q = gaussian_start(K, target.y, problem.solve(width=width))
            zero = np.zeros((target.n_examples, target.n_examples))
            X = np.zeros((2, self.source.n_examples, target.n_examples))
            closed = TargetClosure(t, zero, Q, zero, zero, X)
        walk = TargetWalk(
            units, quenched, target.y, width, priors.temperature, self.rng, position, closed,
            **terms,
        )  # fmt: skip
        walk.update_force()
        return walk

    def _run(self, walk: TargetWalk) -> tuple[list[Draw], TargetSums]:
        with threadpool_limits(1):
            warmup = self.effort["warmup"]
            for _ in range(min(warmup, FROZEN_STEPS) if walk.frozen else warmup):
                walk.move(adapt=True)
                walk.learn(walk.measure()[0])
            walk.step = walk.size.final
            draw, sums = self._draw(walk)
            draws = [draw]
            for k in range(2, 2 if walk.frozen else KEPT + 1):
                draw, found = self._draw(walk)
                draws.append(draw)
                sums = sums.mix(found, 1 / k)
        return draws, sums

    def _draw(self, walk: TargetWalk) -> tuple[Draw, TargetSums]:
        """Target units some steps later, and the averages over them."""
        for _ in range(max(1, self.effort["draws"] // KEPT)):
            walk.move()
            walk.learn(walk.measure()[0])
        G, R, M, n = walk.position.shape
        weights = walk.units.centre + walk.units.spread * walk.position.reshape(G, R * M, n)
        # In the force of now, which the averages of the draw are made with.
        sums, m, shared = walk.measure()
        return Draw(weights.reshape(G, R, M, n), walk.features, m, shared), sums

    def _finish(
        self, walk: TargetWalk, draws: list[Draw], sums: TargetSums, coupling: float,
        source: UnitLawSolution,
    ) -> TransferLawSolution:  # fmt: skip
        closures, rows = [], []
        integrals = walk.mean_log_integrals()
        for kept in subsets(len(sums.drive)):
            part = sums.only(kept)
            closures.append(walk.close(part))
            rows.append(
                numbers(
                    closures[-1], part, integrals[kept].mean(), walk.y, walk.width, walk.temperature
                )
            )
        found = rows[0]
        errors = {
            name: float(jackknife(np.array([row[name] for row in rows[1:]]))) for name in found
        }
        errors["Q_s"] = source.errors["Q"]
        for name in ("Q_t", "leave_one_out_error"):
            if not errors[name] <= 4 * self.effort["tolerance"] * abs(found[name]):
                raise ConvergenceError(
                    f"the law of a target unit at width={walk.width:g}, coupling={coupling:g} is "
                    f"not known well enough: {name} = {found[name]:.4g} ± {errors[name]:.2g}; try "
                    "more particles, more draws or a larger tolerance"
                )
        felt, given = walk.closed.t, closures[0].t
        found.pop("leave_one_out_error")
        units = TargetUnits(
            walk.units.activation, walk.units.readout_precision, walk.units.X, walk.source,
            tuple(draws),
        )  # fmt: skip
        return TransferLawSolution(
            walk.width, coupling, walk.temperature, Q_s=source.Q, **found,
            errors=errors, residual=float(np.linalg.norm(felt - given) / np.linalg.norm(felt)),
            steps=walk.steps, converged=True, source=source, y=self.target.y, units=units,
            closures=tuple(closures), drive=sums.drive,
        )  # fmt: skip

    def sweep(self, test: Task, *, widths: Sequence[float], couplings: Sequence[float]) -> Dataset:
        """The transfer curve over widths and couplings, with Monte Carlo errors as ``*_mcse``."""
        import xarray as xr

        check_task("test", test, self.target.n_features)
        widths = [check_width(width, "widths") for width in widths]
        couplings = [check_nonnegative("couplings", g, allow_infinite=True) for g in couplings]
        names = [*SWEPT, *AVERAGED]
        names += [f"{name}_mcse" for name in (*SWEPT[:6], *AVERAGED)]
        table = {name: np.zeros((len(widths), len(couplings))) for name in names}
        for i, width in enumerate(widths):
            for j in np.argsort(couplings, kind="stable"):
                solution = self.solve(width=width, coupling=couplings[j])
                row = {name: getattr(solution, name) for name in SWEPT}
                row |= {f"{name}_mcse": solution.errors[name] for name in SWEPT[:6]}
                for name, (value, mcse) in solution.averages(test).items():
                    row |= {name: value, f"{name}_mcse": mcse}
                for name, value in row.items():
                    table[name][i, j] = value
        return xr.Dataset(
            {name: (("width", "coupling"), values) for name, values in table.items()},
            coords={"width": widths, "coupling": couplings},
            attrs={
                "activation": self.priors.activation.name,
                "temperature": self.priors.temperature,
                "coupling_scheme": self.priors.coupling_scheme,
                "theory": "unit-law",
            },
        )


FROZEN_STEPS = 16  # in which the force on frozen units comes to rest
FROZEN_UNITS = 8  # times as many source units where the target's are theirs
KEPT = 8  # steps of the target's units that predictions are made from


def solve_transfer(
    source: Task, target: Task, *, width: float, coupling: float, **options: Any
) -> TransferLawSolution:
    """The law of a hidden unit of a target coupled to a source.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    width, coupling : float
        N1, finite, and γ from 0, the target alone, to ``numpy.inf``, frozen source features.
    **options
        As of `TransferLawProblem`, which serves several couplings from one source.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        As `tlnb.theory.unit_law.solve`.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory import unit_law
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> source, target = Task(X[:20], X[:20, 0]), Task(X[20:], X[20:, 0])
    >>> few = {"particles": 400, "warmup": 20, "draws": 10, "tolerance": 0.3, "temperature": 0.1}
    >>> solution = unit_law.solve_transfer(source, target, width=20, coupling=np.inf, **few)
    >>> solution.Q_tt < solution.Q_t
    True
    """
    return TransferLawProblem(source, target, **options).solve(width=width, coupling=coupling)
