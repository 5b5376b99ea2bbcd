r"""Does a source task help a target task, and is the gain transfer?

The test error of the coupled network, averaged over repeated splits of the target's data, is
compared with three opponents trained on the same target examples alone:

1. scratch: the same width, no source;
2. matched prior: the same width from scratch with the prior variance that the coupling leaves,
   λ0 = 1/c_t(γ), which does as well if the coupling merely regularises;
3. best width: of a list of widths, infinity included, the one that proves best from scratch *on the
   test errors*. This opponent is stronger than any rule that could choose a width honestly.

The coupling is chosen anew in each split, as the one of largest log evidence of the training part;
no test label enters. With g_j the gain (opponent's error minus the coupled network's) in split j of
J, the mean gain ḡ is given a standard error that knows that the splits overlap:

* no test set: random splits in training and test part (80 : 20),
  s² = (1/J + n_test/n_train) Σ (g_j - ḡ)²/(J - 1)   (Nadeau and Bengio 2003);
* a test set: random subsets of 80 % of the training examples, all tested on it. The delete-d
  jackknife (Shao and Wu 1989) plus what the finite test set adds, with g_i the mean gain at its
  example i: s² = (n_train/n_deleted) Σ (g_j - ḡ)²/(J - 1) + Σ (g_i - ḡ)²/((n_test - 1) n_test).

Verdict: *helps* if every one of the three gains exceeds 2 s; *hurts* if the gain over scratch is
below -2 s; *undecided* otherwise. It holds for this source data set, which is not resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from types import NoneType

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.data.task import Task
from tlnb.theory.coupled import CoupledTasks, Priors
from tlnb.theory.proportional import ProportionalSolution, at_width
from tlnb.theory.transfer import TransferSolution, solution
from tlnb.validation import check_inputs, check_nonnegative, check_width

Array = NDArray[np.float64]
COUPLINGS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)
WIDTHS = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, np.inf)
PRIORS = Priors(temperature=0.1)
TRAIN_SHARE = 0.8
LEAST_EXAMPLES = 5  # so that both parts of an 80 : 20 split hold one


@dataclass(frozen=True)
class Comparison:
    """The mean gain over one opponent: its test error minus that of the coupled network."""

    opponent: str
    test_error: float
    gain: float
    standard_error: float

    @property
    def beaten(self) -> bool:
        """The gain exceeds two standard errors."""
        return self.gain > 2 * self.standard_error


@dataclass(frozen=True, eq=False)
class TransferGain:
    """The transfer curve of two tasks and the verdict.

    Attributes
    ----------
    width : N1. n_train, n_test : examples in each split. fixed_test : whether one test set served
        all splits.
    curve : arrays of shape (C,) by name, averaged over splits: coupling, test_error, log_evidence,
        matched_prior_error, gain_over_scratch and gain_over_matched_prior with their standard
        errors (the same names with _se).
    widths, scratch_error : (W,), test error from scratch at each width tried.
    best_width : the width of least scratch_error.
    chosen : (J,), the coupling that the evidence chose in each split.
    chosen_error : test error at the chosen couplings.
    comparisons : with scratch, the matched prior and the best width, at the chosen couplings.
    """

    width: float
    n_train: int
    n_test: int
    fixed_test: bool
    curve: dict[str, Array]
    widths: Array
    scratch_error: Array
    best_width: float
    chosen: Array
    chosen_error: float
    comparisons: tuple[Comparison, Comparison, Comparison]

    @property
    def verdict(self) -> str:
        """``"helps"``, ``"hurts"`` or ``"undecided"``, by the rule of the module."""
        if all(comparison.beaten for comparison in self.comparisons):
            return "helps"
        scratch = self.comparisons[0]
        return "hurts" if scratch.gain < -2 * scratch.standard_error else "undecided"

    @property
    def reason(self) -> str:
        """What the verdict rests on, in words."""
        scratch, prior, _ = self.comparisons
        if self.verdict == "helps":
            return "better than scratch, matched prior and best width by more than 2 s.e."
        if self.verdict == "hurts":
            return "worse than scratch at the same width by more than 2 s.e."
        if not self.chosen.any():
            return "the evidence chose no coupling: the network is that from scratch"
        if not scratch.beaten:
            return "the difference from scratch at the same width is within 2 s.e."
        if not prior.beaten:
            return "the matched prior explains the gain: regularisation, not transfer"
        return (
            f"width {self.best_width:g} from scratch explains the gain: the coupling repairs the "
            f"width {self.width:g}"
        )


def transfer_gain(
    source: Task,
    target: Task,
    test: Task | None = None,
    *,
    width: float = 200,
    priors: Priors = PRIORS,
    couplings: Sequence[float] = COUPLINGS,
    widths: Sequence[float] = WIDTHS,
    splits: int = 10,
    seed: int | np.random.Generator = 0,
) -> TransferGain:
    """Measure what coupling to a source network does to the test error of a target task.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0) and (P_t, N0), P_t ≥ 5.
    test : Task, optional
        At least two test examples of the target; without it the target's own are split.
    width : float
        N1, infinity allowed.
    priors : Priors
        Activation, temperatures, precisions. The default has T = 0.1: close to T = 0 labels of ±1
        count as exact, rigid source features cost evidence, and it rarely chooses a coupling.
    couplings, widths : sequences of float
        Those the evidence chooses from, and those the best width is sought in (``width`` is added).
    splits : int
        J ≥ 2 random splits, or subsets if there is a test set.
    seed : int or Generator
        Draws the splits.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If the saddle point cannot be found at one of the couplings.
    """
    width = check_width(width)
    couplings = np.array(
        [check_nonnegative("couplings", g, allow_infinite=True) for g in couplings]
    )
    widths = np.unique([width, *(check_width(w, "widths") for w in widths)])
    if len(couplings) == 0:
        raise ValueError("couplings must name at least one, got none")
    if not isinstance(splits, Integral) or splits < 2:
        raise ValueError(f"splits must be an integer >= 2, got {splits!r}")
    tasks = CoupledTasks(source, target, priors)
    if not isinstance(test, (Task, NoneType)):
        raise TypeError(f"test must be a tlnb.Task, got {type(test).__name__}")
    for name, task, least in (("target", target, LEAST_EXAMPLES), ("test", test, 2)):
        if task is not None:
            check_inputs(task.X, f"{name}.X", source.n_features)
            if task.n_examples < least:
                raise ValueError(
                    f"{name} must have at least {least} examples, got {task.n_examples}"
                )

    chosen, evidence, coupled, prior, scratch = [], [], [], [], []
    with threadpool_limits(1):  # matrices of the target's size: threads cost more than they give
        for train, held_out in _splits(target, test, splits, np.random.default_rng(seed)):
            mine = tasks.with_target(train)
            networks = [solution(mine, width, g) for g in couplings]
            evidence.append([network.log_evidence for network in networks])
            chosen.append(int(np.argmax(evidence[-1])))
            coupled.append(_errors(networks, held_out))
            prior.append(_errors([_alone(mine, g, [width])[0] for g in couplings], held_out))
            scratch.append(_errors(_alone(mine, 0.0, widths), held_out))
    every = np.arange(splits)
    coupled, prior, scratch = map(np.array, (coupled, prior, scratch))  # (J, C or W, n_test)

    def gain(opponent: Array, network: Array) -> tuple[float, float]:
        deleted = target.n_examples - train.n_examples
        return _gain(opponent - network, train.n_examples, deleted, test is not None)

    network = coupled[every, chosen]
    scratch_error = scratch.mean(axis=(0, 2))
    best = int(np.argmin(scratch_error))
    same = scratch[:, np.searchsorted(widths, width)]
    opponents = {
        "scratch": same,
        "matched prior": prior[every, chosen],
        "best width": scratch[:, best],
    }
    over_scratch = np.array([gain(same, c) for c in coupled.swapaxes(0, 1)]).T
    over_prior = np.array([gain(prior[:, k], coupled[:, k]) for k in range(len(couplings))]).T
    return TransferGain(
        width,
        train.n_examples,
        held_out.n_examples,
        test is not None,
        curve={
            "coupling": couplings,
            "test_error": coupled.mean(axis=(0, 2)),
            "gain_over_scratch": over_scratch[0],
            "gain_over_scratch_se": over_scratch[1],
            "gain_over_matched_prior": over_prior[0],
            "gain_over_matched_prior_se": over_prior[1],
            "matched_prior_error": prior.mean(axis=(0, 2)),
            "log_evidence": np.mean(evidence, axis=0),
        },
        widths=widths,
        scratch_error=scratch_error,
        best_width=float(widths[best]),
        chosen=couplings[chosen],
        chosen_error=float(network.mean()),
        comparisons=tuple(
            Comparison(name, float(errors.mean()), *gain(errors, network))
            for name, errors in opponents.items()
        ),
    )


def _alone(
    tasks: CoupledTasks, coupling: float, widths: Sequence[float]
) -> list[ProportionalSolution]:
    """The target from scratch with the prior that the coupling leaves, at several widths."""
    spectrum, process = tasks.alone_spectrum(coupling), tasks.alone(coupling)
    return [at_width(width, tasks.priors.temperature, spectrum, process) for width in widths]


def _splits(
    target: Task, test: Task | None, splits: int, rng: np.random.Generator
) -> Iterator[tuple[Task, Task]]:
    n = target.n_examples
    n_train = round(TRAIN_SHARE * n)
    for _ in range(splits):
        order = rng.permutation(n)
        train, rest = (Task(target.X[rows], target.y[rows]) for rows in np.split(order, [n_train]))
        yield train, rest if test is None else test


def _errors(networks: Sequence[TransferSolution | ProportionalSolution], test: Task) -> list[Array]:
    """Test error at every test example, (len(networks), n_test)."""
    return [network.predict(test.X, test.y).test_error for network in networks]


def _gain(
    differences: Array, n_train: int, n_deleted: int, fixed_test: bool
) -> tuple[float, float]:
    """Mean and standard error of gains of shape (J, n_test), by the rules of the module."""
    splits, n_test = differences.shape
    between = differences.mean(axis=1).var(ddof=1)
    if fixed_test:
        within = differences.mean(axis=0).var(ddof=1) / n_test
        variance = n_train / n_deleted * between + within
    else:
        variance = (1 / splits + n_test / n_train) * between
    return float(differences.mean()), float(np.sqrt(variance))
