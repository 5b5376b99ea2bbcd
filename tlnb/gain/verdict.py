r"""From errors at examples to a verdict: gains, their standard errors, a sentence to act on.

Left-out examples have chosen the candidate that they then judge, which flatters whoever had more
candidates. The errors compared are therefore those of the whole procedure, by cross-validation: for
each of ten folds the candidate is chosen by the other folds' left-out errors and judged on this
one. With d_μ the paired difference between opponent and coupled network at example μ of n, the gain
is its mean, and

    s² = Σ (d_μ - d̄)²/((n - 1) n)

at left-out examples and at those of a test set alike; at a test set the candidates are chosen by
all training examples. Neither is resampled: the verdict holds for this source and these examples.

The verdict is *helps* if the gain over scratch, matched prior and best width exceeds 2 s each, and
the classification error of the mean, where there are classes, does not rise. It is *hurts* if the
gain over scratch is below -2 s, or if frozen features lose more than 2 s and no coupling gains more
than s. It is *undecided* otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlnb.gain.candidates import MEASURES, Candidates

Array = NDArray[np.float64]
FOLDS = 10
DEVIATIONS = 2.0  # standard errors that a difference must exceed


class Again(NamedTuple):
    """A candidate solved for by another theory.

    Errors (3, n) as in `Judged`, left out and on a test set, and the Monte Carlo errors of their
    mean Gibbs errors.
    """

    left_out: Array
    test: Array | None
    left_out_noise: float
    test_noise: float


class Judged(NamedTuple):
    """Errors of a choice at n examples, (3, n) in the order of `MEASURES`, and of which kind.

    ``noise`` is the Monte Carlo error of their mean Gibbs error, if the theory has one.
    """

    errors: Array
    on_test: bool
    noise: float = 0.0

    def mean(self, measure: str = "test_error") -> tuple[float, float]:
        """Average and standard error of one measure."""
        errors = self.errors[MEASURES.index(measure)]
        return float(errors.mean()), _standard_error(errors)


def judge(
    candidates: Candidates,
    rng: np.random.Generator | int = 0,
    again: Callable[[pd.Series], Again | None] | None = None,
) -> Judged:
    """The errors of choosing among the candidates by leave-one-out.

    At the test examples if there are any; else at the training examples, cross-validated.
    ``rng`` draws the folds; ``again`` solves for a chosen row of the table by another theory, or
    returns None where that has nothing to say.
    """
    if candidates.test is not None:
        best = candidates.best()
        found = again(candidates.table.iloc[best]) if again else None
        if found is not None and found.test is not None:
            return Judged(found.test, True, found.test_noise)
        return Judged(np.array([errors[best] for errors in candidates.test]), True)
    errors = np.array(candidates.left_out)
    n = errors.shape[-1]
    fold = np.random.default_rng(rng).permutation(n) % min(FOLDS, n)
    of_fold = np.eye(fold.max() + 1)[fold]  # (n, folds)
    totals = candidates.left_out.test_error @ of_fold
    others = totals.sum(axis=1, keepdims=True) - totals
    chosen = others.argmin(axis=0)[fold]  # by the folds that the example is not in
    judged, noise = errors[:, chosen, np.arange(n)], 0.0
    for row in np.unique(chosen):
        found = again(candidates.table.iloc[row]) if again else None
        if found is not None:
            mine = chosen == row
            judged[:, mine] = found.left_out[:, mine]
            noise += mine.mean() * found.left_out_noise
    return Judged(judged, False, noise)


def gain(opponent: Judged, network: Judged, measure: str = "test_error") -> tuple[float, float]:
    """What the network gains over the opponent in a measure, and its standard error."""
    index = MEASURES.index(measure)
    differences = opponent.errors[index] - network.errors[index]
    same = np.array_equal(opponent.errors, network.errors, equal_nan=True)  # then so is the noise
    noise = [opponent.noise, network.noise] if measure == "test_error" and not same else []
    return float(differences.mean()), float(np.hypot.reduce([_standard_error(differences), *noise]))


def _standard_error(values: Array) -> float:
    return float(np.sqrt(values.var(ddof=1) / len(values)))


class Comparison(NamedTuple):
    """The coupled network against one opponent: gains and standard errors."""

    gain: float
    standard_error: float
    classification_gain: float
    classification_se: float

    @classmethod
    def of(cls, opponent: Judged, network: Judged) -> Comparison:
        """Both measures that the verdict looks at."""
        return cls(*gain(opponent, network), *gain(opponent, network, "classification_error"))

    @property
    def beaten(self) -> bool:
        """The gain exceeds two standard errors."""
        return self.gain > DEVIATIONS * self.standard_error


class Decision(NamedTuple):
    """Verdict, the sentence to act on, the numbers behind it, and how many examples are missing."""

    verdict: str
    action: str
    reason: str
    more_examples: int | None = None


def decide(
    coupling: float,
    pull: float,
    against: dict[str, Comparison],
    frozen: Comparison | None,
    *,
    n: int,
    on_test: bool,
) -> Decision:
    """The verdict by the rule of the module.

    Parameters
    ----------
    coupling, pull : float
        γ of the best coupled network, and the strength Tγ of the pull that it means in training;
        a coupling of 0: no other was allowed.
    against : dict of Comparison
        With "scratch", "matched prior" and "best width".
    frozen : Comparison, optional
        Of frozen features against scratch.
    n : int
        Examples judged at. on_test : whether those of a test set.
    """
    scratch = against["scratch"]
    numbers = ", ".join(
        f"{c.gain:+.3f} ± {c.standard_error:.3f} over {name}" for name, c in against.items()
    )
    where = f"{n} test examples" if on_test else f"{n} left-out examples"
    reason = f"gain in test error at {where}: {numbers}"
    if coupling == 0:
        return Decision("undecided", "undecided: no coupling is among the candidates", reason)
    agree = not scratch.classification_gain < 0  # NaN: no classes to ask
    if all(c.beaten for c in against.values()) and agree:
        if np.isinf(coupling):
            return Decision("helps", "freeze the source's features and train a readout", reason)
        how = f"coupling {coupling:g}, in training a pull of {pull:.3g} to the source's weights"
        return Decision("helps", f"fine-tune with this strength: {how}", reason)
    loses = _sure_loss(frozen)
    if scratch.gain < -DEVIATIONS * scratch.standard_error:
        return Decision("hurts", "do not transfer: it loses to training from scratch", reason)
    if loses and scratch.gain < scratch.standard_error:
        what = f"frozen features lose {loses:.3f}, and no coupling gains"
        return Decision("hurts", f"do not transfer: {what}", reason)
    if all(c.beaten for c in against.values()):
        what = "the test error falls, but the share of wrong classes rises"
        return Decision("undecided", f"undecided: {what}", reason)
    for name in ("scratch", "matched prior", "best width"):
        if against[name].gain <= 0:
            does = "training from scratch" if name == "scratch" else f"the {name} from scratch"
            return Decision("undecided", f"do not transfer: {does} does as well", reason)
    more = max(_missing(c, n) for c in against.values())
    kind = "test" if on_test else "target"
    sentence = f"undecided: about {more} more {kind} examples would decide, if the gain stays"
    return Decision("undecided", sentence, reason, more)


def _sure_loss(frozen: Comparison | None) -> float:
    """What frozen features lose if that is more than two standard errors, else 0."""
    if frozen is None or frozen.gain >= -DEVIATIONS * frozen.standard_error:
        return 0.0
    return -frozen.gain


def _missing(comparison: Comparison, n: int) -> int:
    """Further examples until a gain of this size is two standard errors."""
    ratio = DEVIATIONS * comparison.standard_error / comparison.gain
    return max(0, int(np.ceil(min(n * (ratio**2 - 1), 1e9))))
