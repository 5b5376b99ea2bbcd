r"""Whether a source task helps a target task, and whether the gain is transfer.

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
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.data.task import Task, check_task
from tlnb.priors import Priors
from tlnb.theory.transfer import TransferProblem
from tlnb.validation import check_count, check_nonnegative, check_rng, check_width

Array = NDArray[np.float64]
COUPLINGS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)
WIDTHS = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, np.inf)
PRIORS = Priors(temperature=0.1)
TRAIN_SHARE = 0.8
LEAST_EXAMPLES = 5  # so that both parts of an 80 : 20 split hold one
LARGEST_LABEL = 1e100  # so that squared errors are finite


@dataclass(frozen=True, eq=False)
class TransferGain:
    """The verdict and the tables it rests on.

    Attributes
    ----------
    verdict, reason : "helps", "hurts" or "undecided" by the rule of the module, and why.
    width : N1. n_train, n_test : examples in each split. fixed_test : whether one test set served
        all splits.
    chosen_error : test error at the couplings that the evidence chose.
    comparisons : table over the opponents scratch, matched prior and best width, at the chosen
        couplings: opponent, width, test_error, gain, standard_error, beaten (the gain exceeds 2 s).
    curve : table over the couplings, ascending, averaged over splits: coupling, test_error, the
        gains over scratch and matched prior with standard errors (gain_scratch, se_scratch,
        gain_prior, se_prior), log_evidence, chosen (by the evidence, in how many splits).
    scratch : table over the widths tried from scratch: width, test_error.
    """

    verdict: str
    reason: str
    width: float
    n_train: int
    n_test: int
    fixed_test: bool
    chosen_error: float
    comparisons: pd.DataFrame
    curve: pd.DataFrame
    scratch: pd.DataFrame


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
        Inputs (P_s, N0) and (P_t, N0), P_t ≥ 5; labels up to 1e100.
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
    widths = np.unique([width, *(check_width(w, "widths") for w in widths)])
    couplings = [check_nonnegative("couplings", g, allow_infinite=True) for g in couplings]
    if not couplings:
        raise ValueError("couplings must name at least one, got none")
    splits = check_count("splits", splits, 2)
    rng = check_rng("seed", seed)
    least = {"source": (source, 1), "target": (target, LEAST_EXAMPLES), "test": (test, 2)}
    n_features = check_task("source", source).n_features
    for name, (task, n) in list(least.items())[: 2 if test is None else 3]:
        check_task(name, task, n_features)
        if task.n_examples < n:
            raise ValueError(f"{name} must have at least {n} examples, got {task.n_examples}")
        if (size := np.abs(task.y).max()) > LARGEST_LABEL:
            raise ValueError(f"{name}.y must be at most {LARGEST_LABEL:g} in size, got {size:g}")

    couplings, problem = np.unique(couplings), TransferProblem(source, target, priors)
    evidence, coupled, prior, scratch = [], [], [], []
    with threadpool_limits(1):  # matrices of the target's size: threads cost more than they give
        for train, held_out in _splits(target, test, splits, rng):
            mine = problem.with_target(train)
            networks = [mine.solve(width=width, coupling=g) for g in couplings]
            evidence.append([network.log_evidence for network in networks])
            coupled.append([n.predict(held_out.X, held_out.y).test_error for n in networks])
            prior.append([_errors_alone(mine, g, [width], held_out)[0] for g in couplings])
            scratch.append(_errors_alone(mine, 0.0, widths, held_out))
    coupled, prior, scratch = map(np.array, (coupled, prior, scratch))  # (J, C or W, n_test)

    n_train, n_test = train.n_examples, held_out.n_examples
    gain = partial(_gain, n_train, target.n_examples - n_train, test is not None)
    chosen = np.arange(splits), np.argmax(evidence, axis=1)
    network, same = coupled[chosen], scratch[:, np.searchsorted(widths, width)]
    alone = pd.DataFrame({"width": widths, "test_error": scratch.mean(axis=(0, 2))})
    best = int(alone.test_error.argmin())
    opponents = {
        "scratch": (width, same),
        "matched prior": (width, prior[chosen]),
        "best width": (widths[best], scratch[:, best]),
    }
    comparisons = pd.DataFrame(
        [(k, N1, errors.mean(), *gain(errors - network)) for k, (N1, errors) in opponents.items()],
        columns=["opponent", "width", "test_error", "gain", "standard_error"],
    ).assign(beaten=lambda table: table.gain > 2 * table.standard_error)
    curve = pd.DataFrame({"coupling": couplings, "test_error": coupled.mean(axis=(0, 2))})
    curve["gain_scratch"], curve["se_scratch"] = gain(same[:, None] - coupled)
    curve["gain_prior"], curve["se_prior"] = gain(prior - coupled)
    curve["log_evidence"] = np.mean(evidence, axis=0)
    curve["chosen"] = np.bincount(chosen[1], minlength=len(couplings))
    verdict = _verdict(comparisons, bool(couplings[chosen[1]].any()))
    sizes = n_train, n_test, test is not None
    return TransferGain(*verdict, width, *sizes, float(network.mean()), comparisons, curve, alone)


def _verdict(comparisons: pd.DataFrame, any_coupling: bool) -> tuple[str, str]:
    """The verdict by the rule of the module, and the reason in words."""
    scratch, prior, best = comparisons.itertuples()
    if comparisons.beaten.all():
        return "helps", "better than scratch, matched prior and best width by more than 2 s.e."
    if scratch.gain < -2 * scratch.standard_error:
        return "hurts", "worse than scratch at the same width by more than 2 s.e."
    if not any_coupling:
        return "undecided", "the evidence chose no coupling: the network is that from scratch"
    if not scratch.beaten:
        return "undecided", "the difference from scratch at the same width is within 2 s.e."
    if not prior.beaten:
        return "undecided", "the matched prior explains the gain: regularisation, not transfer"
    repairs = f"the coupling repairs the width {scratch.width:g}"
    return "undecided", f"width {best.width:g} from scratch explains the gain: {repairs}"


def _errors_alone(
    problem: TransferProblem, coupling: float, widths: Sequence[float], test: Task
) -> list[Array]:
    """Test errors from scratch with the prior that the coupling leaves, (len(widths), n_test)."""
    alone = problem.alone(coupling)
    networks = [alone.solve(width=width) for width in widths]
    return [network.predict(test.X, test.y).test_error for network in networks]


def _splits(
    target: Task, test: Task | None, splits: int, rng: np.random.Generator
) -> Iterator[tuple[Task, Task]]:
    n_train = round(TRAIN_SHARE * target.n_examples)
    for _ in range(splits):
        order = np.split(rng.permutation(target.n_examples), [n_train])
        train, rest = (Task(target.X[rows], target.y[rows]) for rows in order)
        yield train, rest if test is None else test


def _gain(n_train: int, n_deleted: int, fixed_test: bool, differences: Array) -> tuple:
    """Mean and standard error of gains of shape (J, ..., n_test), by the rules of the module."""
    splits, n_test = differences.shape[0], differences.shape[-1]
    between = differences.mean(axis=-1).var(axis=0, ddof=1)
    if fixed_test:
        within = differences.mean(axis=0).var(axis=-1, ddof=1) / n_test
        variance = n_train / n_deleted * between + within
    else:
        variance = (1 / splits + n_test / n_train) * between
    return differences.mean(axis=(0, -1)), np.sqrt(variance)
