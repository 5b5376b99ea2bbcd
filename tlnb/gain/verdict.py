r"""From errors at examples to a verdict: gains, their standard errors, a sentence to act on.

With d_μ the paired difference between opponent and coupled network at example μ of n, each at its
own choice, the gain is its mean. At a test set its error is

    s² = Σ (d_μ - d̄)²/((n - 1) n).

Left-out examples have chosen the candidates that they then judge, and each of them is also one that
the others were predicted from. So to s² comes the variance of the gain over resampled examples (the
bootstrap), among which the choice is made anew. Neither source nor training set is resampled beyond
that: the verdict holds for this source and these examples. Chapter 09 shows on pairs of tasks with
large test sets that these errors are of the right size, that the choice flatters by little, and
that a cross-validation of the choice, though without flattery, is noisier than what it repairs.

The verdict is *helps* if the gain over scratch, matched prior and best width exceeds 2 s each, and
the classification error of the mean, where there are classes, does not rise. It is *hurts* if the
gain over scratch is below -2 s, or if frozen features lose more than 2 s and no coupling gains more
than s. It is *undecided* otherwise.

To rank sources, `expected_gain` is better than the gain: with few examples the least of many
estimated errors is a noisy number, and an average over candidates that do about as well is less so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlnb.gain.candidates import MEASURES, Candidates

Array = NDArray[np.float64]
RESAMPLES = 400
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

    ``noise`` is the error of their mean Gibbs error that theory or solver leave, if any;
    ``resampled`` (3, resamples) are means over resampled left-out examples, the choice made anew.
    """

    errors: Array
    on_test: bool
    noise: float = 0.0
    resampled: Array | None = None

    def mean(self, measure: str = "test_error") -> tuple[float, float]:
        """Average and standard error of one measure."""
        index = MEASURES.index(measure)
        again = None if self.resampled is None else self.resampled[index]
        return float(self.errors[index].mean()), _standard_error(self.errors[index], again)


def judge(
    candidates: Candidates,
    rng: np.random.Generator | int = 0,
    again: Callable[[pd.Series], Again | None] | None = None,
) -> Judged:
    """The errors of choosing among the candidates by leave-one-out.

    At the test examples if there are any, else at the left-out training examples. ``rng`` resamples
    them: of opponents the same, if it is the same number. ``again`` solves for the chosen row of
    the table by another theory, or returns None where that has nothing to say.
    """
    best = candidates.best()
    on_test = candidates.test is not None
    every = np.array(candidates.test if on_test else candidates.left_out)
    found = again(candidates.table.iloc[best]) if again else None
    errors, noise = every[:, best], 0.0
    if candidates.noise is not None:
        noise = float(candidates.noise[best, int(on_test)])
    if found is not None and found.test is not None and on_test:
        errors, noise = found.test, found.test_noise
    elif found is not None and not on_test:
        errors, noise = found.left_out, found.left_out_noise
    if on_test:
        return Judged(errors, True, noise)
    n = every.shape[-1]
    shares = np.random.default_rng(rng).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    chosen = (every[MEASURES.index("test_error")] @ shares.T).argmin(axis=0)
    return Judged(errors, False, noise, np.einsum("kbn,bn->kb", every[:, chosen], shares))


def expected_gain(
    opponent: Candidates, network: Candidates, further: Sequence[float] | Array = ()
) -> float:
    """The gain to rank sources by, from left-out examples alone.

    The left-out errors E of either are averaged over its candidates with weights
    exp[-(E - min E)/s], s the standard error of the opponent's least: candidates that cannot be
    told from the best one count about as much. ``further`` (m,) are left-out errors that are only
    expected of candidates of the network, beside those of its table.
    """
    best = opponent.best()
    scale = max(_standard_error(opponent.left_out.test_error[best]), np.finfo(float).tiny)
    averages = []
    for candidates, more in ((opponent, ()), (network, further)):
        E = np.concatenate([candidates.left_out.test_error.mean(axis=1), more])
        weights = np.exp(-(E - E.min()) / scale)
        averages.append(weights @ E / weights.sum())
    return float(averages[0] - averages[1])


def gain(opponent: Judged, network: Judged, measure: str = "test_error") -> tuple[float, float]:
    """What the network gains over the opponent in a measure, and its standard error.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.gain.verdict import Judged, gain
    >>> scratch = Judged(np.full((3, 10), 0.5), on_test=True)
    >>> network = Judged(np.full((3, 10), 0.2), on_test=True)
    >>> round(gain(scratch, network)[0], 9)
    0.3
    """
    index = MEASURES.index(measure)
    differences = opponent.errors[index] - network.errors[index]
    same = np.array_equal(opponent.errors, network.errors, equal_nan=True)  # then so is the noise
    noise = [opponent.noise, network.noise] if measure == "test_error" and not same else []
    again = None
    if opponent.resampled is not None and network.resampled is not None:
        again = opponent.resampled[index] - network.resampled[index]
    error = _standard_error(differences, again)
    return float(differences.mean()), float(np.hypot.reduce([error, *noise]))


def _standard_error(values: Array, resampled: Array | None = None) -> float:
    variance = values.var(ddof=1) / len(values)
    return float(np.sqrt(variance if resampled is None else variance + resampled.var()))


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
