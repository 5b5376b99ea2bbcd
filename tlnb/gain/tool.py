"""The measurement behind `tlnb gain`: candidates, choices, opponents, verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from tlnb._renamed import gone_attributes, renamed_arguments
from tlnb.data.task import Task, check_task
from tlnb.gain.candidates import MEASURES, Candidates, Grid, alone, together
from tlnb.gain.large import Coupled, check_theory, coupled_to
from tlnb.gain.training import DECAYS, train_beside
from tlnb.gain.unit_law import UnitLaw
from tlnb.gain.verdict import Comparison, Decision, Judged, decide, expected_gain, judge
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.problem import DENSE_UP_TO, transfer_problem
from tlnb.theory.large.screening import Screening
from tlnb.theory.transfer import Priors
from tlnb.validation import (
    check_choice,
    check_count,
    check_nonnegative,
    check_positive,
    check_seed,
    check_width,
)

Array = NDArray[np.float64]
TEMPERATURES = (0.001, 0.01, 0.1)
RICHNESS = (0.01, 0.1, 1.0, 10.0)
COUPLINGS = (0.0, 0.3, 1.0, 3.0, 10.0, 100.0, np.inf)
WIDTHS = (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, np.inf)
LEAST_EXAMPLES = 5  # the spread of fewer says little of their mean's error
LARGEST_LABEL = 1e100  # so that squared errors are finite
OPPONENTS = ("scratch", "matched prior", "best width")
CHOSEN = ("coupling", "temperature", "readout_precision", "richness")


@gone_attributes
@dataclass(frozen=True, eq=False)
class TransferGain:
    """The verdict and the tables it rests on.

    Errors and gains are averages over the test set if there is one, else over the left-out training
    examples; standard errors as in `tlnb.gain.verdict`.

    Attributes
    ----------
    verdict : "helps", "hurts" or "undecided".
    action : the sentence to act on. reason : the numbers behind it.
    chosen : coupling, temperature, readout_precision and richness of least left-out error, coupling
        0 included.
    test_error, squared_bias, classification_error : of the chosen network (Gibbs error; error of
        the mean; share of wrong classes of the mean, NaN for values), with their standard errors
        (``_se``).
    left_out : verdict, action, reason and more_examples as the training labels alone would have
        them; without a test set those above.
    coupled : the same errors of the best network with a coupling > 0, which the gains are those of.
    opponents : table over scratch, matched prior, best width, frozen: width, coupling,
        temperature, readout_precision, test_error, squared_bias, classification_error, gain,
        standard_error, classification_gain, classification_se.
    curve : table over the couplings, each at the temperature and richness that leave-one-out
        chooses for it: the same errors left out and, with ``on_test_``, on the test set.
    candidates : all candidates of the coupled network and of scratch.
    regret : Gibbs error of the choice on the test set relative to the best candidate's, minus 1;
        None without a test set.
    expected_gain : over scratch, from the training labels alone; the number to rank sources by.
    more_examples : how many more target examples would decide, if the gain stays; None if decided.
    trained : networks trained beside it, or None.
    width, n_train, n_test, classes, failures : N1; how many examples, outputs, failed candidates.
    screening : of a source above 12,000 examples, `tlnb.theory.large.screening.Screening`, else
        None. Errors of its solver stand in ``candidates`` and are part of the standard errors.
    theory : by which errors of the choices were computed; their Monte Carlo errors, if it has any,
        are part of the gains' standard errors. The curve, the candidates and the regret are always
        the scalar theory's.
    """

    verdict: str
    action: str
    reason: str
    chosen: dict[str, float]
    test_error: float
    test_error_se: float
    squared_bias: float
    squared_bias_se: float
    classification_error: float
    classification_error_se: float
    left_out: Decision
    coupled: dict[str, float]
    opponents: pd.DataFrame
    curve: pd.DataFrame
    candidates: pd.DataFrame
    regret: float | None
    expected_gain: float
    more_examples: int | None
    trained: pd.DataFrame | None
    width: float
    n_train: int
    n_test: int
    classes: int
    failures: int
    theory: str
    screening: Screening | None = None


@renamed_arguments(seed="rng")
def transfer_gain(
    source: Task | Sequence[Task],
    target: Task | Sequence[Task],
    test: Task | Sequence[Task] | None = None,
    *,
    width: float = 200,
    temperatures: Sequence[float] = TEMPERATURES,
    richness: Sequence[float] | None = None,
    readout_precisions: Sequence[float] | None = None,
    couplings: Sequence[float] = COUPLINGS,
    widths: Sequence[float] = WIDTHS,
    train: int = 0,
    decay_to: str = "start",
    theory: str = "scalar",
    effort: dict[str, Any] | None = None,
    options: LargeOptions | None = None,
    rng: int | np.random.Generator = 0,
    progress: bool = False,
    **priors: Any,
) -> TransferGain:
    """Measure what coupling to a source network does to the test error of a target task.

    Parameters
    ----------
    source, target : Task, or a sequence of them
        Inputs (P_s, N0) and (P_t, N0), P_t ≥ 5; labels up to 1e100. Of more than two classes a
        sequence, one class against the rest (`tlnb.data.tables.class_tasks`), with the same inputs;
        class k of the target goes with class k of the source, over again if those are fewer.
    test : the same, optional
        At least two test examples. They judge; they never choose.
    width : N1, infinity allowed.
    temperatures, couplings : candidates of T > 0 and γ ≥ 0.
    richness, readout_precisions : sequences of float
        Candidates of λ1/N1, by default .01, .1, 1 and 10; or of λ1 itself.
    widths : sequence of float
        Among which the opponent "best width" chooses too; ``width`` is added.
    train : int
        Networks to train from as many starts beside the theory; needs a test set, a finite width.
    decay_to : {"start", "zero"}
        What their weights decay to; see `tlnb.gain.training`.
    theory : {"scalar", "unit-law"}
        By which theory the choices are judged: with "unit-law" every network that the scalar theory
        chose is solved for again by the law of a hidden unit, which takes minutes; see
        `tlnb.gain.unit_law`, which says what ``effort`` may hold.
    options : tlnb.theory.large.LargeOptions, optional
        How a source above 12,000 examples is screened and solved; the folder to continue from.
    rng : int or Generator
        Of resampled examples, the starts, and the particles of the law of a unit.
    progress : show a bar.
    **priors : activation, weight_precision, coupling_scheme: see `tlnb.priors.Priors`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If no candidate converges.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((115, 20))
    >>> y = X[:, 0]
    >>> found = transfer_gain(Task(X[:100], y[:100]), Task(X[100:], y[100:]), width=40)
    >>> found.chosen["coupling"] > 0
    True
    """
    width = check_width(width)
    grid = _grid(temperatures, richness, readout_precisions, couplings, width)
    widths = np.unique([width, *(check_width(w, "widths") for w in widths)]).tolist()
    train, seed = check_count("train", train, least=0), check_seed("rng", rng)
    check_choice("decay_to", decay_to, DECAYS)
    sources, targets, tests = _tasks(source, target, test)
    check_theory(theory, sources[0].n_examples)
    if train and (tests is None or not np.isfinite(width)):
        got = "no test set" if tests is None else f"width {width:g}"
        raise ValueError(f"train needs a test set and a finite width, got {got}")

    strengths = grid.couplings[grid.couplings > 0].tolist()
    n_points = len(grid.points())
    total = n_points * (len(strengths) * 2 + 1 + len(widths)) + 3 * train
    threads = 1 if sources[0].n_examples <= DENSE_UP_TO else None  # a cost on small matrices
    with threadpool_limits(threads), _bar(total, progress) as tick:
        problem = transfer_problem(sources[0], targets[0], _own(priors), "auto", options)
        problems = [
            problem if c == 0 else problem.with_labels(s.y, t.y)
            for c, (s, t) in enumerate(zip(sources, targets, strict=True))
        ]
        scratch = alone(problems, tests, grid, [width], tick=tick)
        found = coupled_to(problems, tests, grid, tick) if strengths else Coupled(scratch)
        network = found.candidates
        prior = alone(problems, tests, grid, [width], strengths, tick) if strengths else scratch
        width_too = alone(problems, tests, grid, widths, tick=tick)
        rivals = {"scratch": scratch, "matched prior": prior, "best width": width_too}
        frozen = np.isinf(network.table.coupling.to_numpy())
        if frozen.any():
            rivals["frozen"] = network.where(frozen)

        again = None
        if theory == "unit-law":
            again = UnitLaw(sources, targets, tests, seed, effort, **priors)
        compared = _Comparisons.of(network, rivals, seed, again)
        every = together([scratch, network] if 0 in grid.couplings or not strengths else [network])
        best, choice = every.best(), judge(every, seed, again)
        left_out = compared.decision()
        if tests is not None:
            unseen = {name: replace(rival, test=None) for name, rival in rivals.items()}
            left_out = _Comparisons.of(replace(network, test=None), unseen, seed, again).decision()
        trained = None
        if train and tests is not None:
            ways = {"scratch": scratch, "frozen": rivals.get("frozen"), "fine-tuned": network}
            points = {k: c.table.iloc[c.best()].to_dict() for k, c in ways.items() if c}
            given = {"width": int(width), "starts": train, "decay_to": decay_to, "rng": seed}
            trained = train_beside(sources, targets, tests, points, tick=tick, **given, **priors)
    averages = every.averages()
    regret = None
    if every.test is not None:
        on_test = averages.on_test_test_error
        regret = float(on_test[best] / on_test.min() - 1)
    decision = compared.decision()
    numbers = dict(zip(MEASURES, (choice.mean(name) for name in MEASURES), strict=True))
    return TransferGain(
        decision.verdict,
        decision.action,
        decision.reason,
        chosen={name: float(every.table[name][best]) for name in CHOSEN},
        **{name: value for name, (value, _) in numbers.items()},
        **{f"{name}_se": error for name, (_, error) in numbers.items()},
        left_out=left_out,
        coupled=compared.point,
        opponents=compared.table(),
        curve=_curve(together([scratch, network]) if strengths else scratch),
        candidates=averages,
        regret=regret,
        expected_gain=expected_gain(scratch, network, found.dropped),
        more_examples=decision.more_examples,
        trained=trained,
        width=width,
        n_train=targets[0].n_examples,
        n_test=0 if tests is None else tests[0].n_examples,
        classes=len(targets),
        failures=sum(len(c.failures) for c in (scratch, network, prior, width_too)),
        theory=theory,
        screening=found.screening,
    )


def _grid(
    temperatures: Sequence[float],
    richness: Sequence[float] | None,
    readout_precisions: Sequence[float] | None,
    couplings: Sequence[float],
    width: float,
) -> Grid:
    if richness is not None and readout_precisions is not None:
        raise ValueError("give richness or readout_precisions, not both")
    if readout_precisions is not None:
        levels = _candidates("readout_precisions", readout_precisions, check_positive)
    else:
        levels = _candidates("richness", RICHNESS if richness is None else richness, check_positive)
    return Grid(
        _candidates("temperatures", temperatures, check_positive),
        levels,
        _candidates("couplings", couplings, partial(check_nonnegative, allow_infinite=True)),
        width,
        by_richness=readout_precisions is None,
    )


def _candidates(
    name: str, values: Sequence[float], check: Callable[[str, object], float]
) -> np.ndarray:
    checked = [check(name, value) for value in values]
    if not checked:
        raise ValueError(f"{name} must name at least one candidate, got none")
    return np.unique(checked)


def _tasks(
    source: Task | Sequence[Task],
    target: Task | Sequence[Task],
    test: Task | Sequence[Task] | None,
) -> tuple[list[Task], list[Task], list[Task] | None]:
    """One task for each class, checked."""
    sources = _listed("source", source, 2)
    n_features = sources[0].n_features
    targets = _listed("target", target, LEAST_EXAMPLES, n_features)
    for name, tasks in (("source", sources), ("target", targets)):
        for task in tasks:
            if (task.y == task.y[0]).all():
                raise ValueError(f"{name}.y must hold two labels at least, all are {task.y[0]:g}")
    sources = [sources[c % len(sources)] for c in range(len(targets))]
    if test is None:
        return sources, targets, None
    tests = _listed("test", test, 2, n_features)
    if len(tests) != len(targets):
        got = f"got {len(tests)}, not {len(targets)}"
        raise ValueError(f"test must have as many tasks, one for each class, as target, {got}")
    return sources, targets, tests


def _listed(
    name: str, given: Task | Sequence[Task], least: int, n_features: int | None = None
) -> list[Task]:
    tasks = list(given) if isinstance(given, Sequence) else [given]
    if not tasks:
        raise ValueError(f"{name} must be a Task or a sequence of them, got none")
    for task in tasks:
        check_task(name, task, n_features)
        if (size := np.abs(task.y).max()) > LARGEST_LABEL:
            raise ValueError(f"{name}.y must be at most {LARGEST_LABEL:g} in size, got {size:g}")
        if not np.array_equal(task.X, tasks[0].X):
            raise ValueError(f"{name} must have the same inputs in the tasks of all classes")
    if (n := tasks[0].n_examples) < least:
        raise ValueError(f"{name} must have at least {least} examples, got {n}")
    return tasks


def _own(priors: dict[str, Any]) -> Priors:
    for name in priors:
        check_choice("priors", name, ("activation", "weight_precision", "coupling_scheme"))
    return Priors(**priors)


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[], object]]:
    with tqdm(total=total, desc="candidates", disable=not progress, leave=False) as bar:
        yield bar.update


def _point(candidates: Candidates, judged: Judged) -> dict[str, float]:
    """The best candidate of a table and its errors."""
    row = candidates.table.iloc[candidates.best()]
    return {k: float(v) for k, v in row.items()} | {m: judged.mean(m)[0] for m in MEASURES}


@dataclass(frozen=True, eq=False)
class _Comparisons:
    """The coupled network and its opponents, each judged at its own choice."""

    point: dict[str, float]
    network: Judged
    points: dict[str, dict[str, float]]
    judged: dict[str, Judged]

    @classmethod
    def of(
        cls, network: Candidates, rivals: dict[str, Candidates], seed: int, again: UnitLaw | None
    ) -> _Comparisons:
        alone = partial(again, alone=True) if again else None
        mine = judge(network, seed, again)
        judged = {
            name: judge(rival, seed, again if name == "frozen" else alone)
            for name, rival in rivals.items()
        }
        points = {name: _point(rival, judged[name]) for name, rival in rivals.items()}
        return cls(_point(network, mine), mine, points, judged)

    def decision(self) -> Decision:
        frozen = None
        if "frozen" in self.judged:
            frozen = Comparison.of(self.judged["scratch"], self.judged["frozen"])
        return decide(
            self.point["coupling"],
            self.point["coupling"] * self.point["temperature"],
            {name: Comparison.of(self.judged[name], self.network) for name in OPPONENTS},
            frozen,
            n=self.network.errors.shape[1],
            on_test=self.network.on_test,
        )

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(
            {"opponent": name} | point | Comparison.of(self.judged[name], self.network)._asdict()
            for name, point in self.points.items()
        )


def _curve(candidates: Candidates) -> pd.DataFrame:
    """At each coupling the candidate that leave-one-out chooses."""
    averages = candidates.averages()
    best = averages.groupby("coupling").test_error.idxmin()
    spread = candidates.left_out.test_error.std(axis=1, ddof=1)
    averages["standard_error"] = spread / np.sqrt(candidates.left_out.test_error.shape[1])
    return averages.loc[best].drop(columns="width").reset_index(drop=True)
