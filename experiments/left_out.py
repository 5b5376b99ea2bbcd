"""What the training labels say of a gain, held against large test sets: of chapter 09.

Rules of `tlnb.gain.verdict` were settled on `pairs.development_pair`, among the alternatives that
are computed here; the atlas, whose pairs share neither groups nor images with those, tests them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments import pairs
from tlnb.gain import COUPLINGS, RICHNESS, TEMPERATURES, WIDTHS
from tlnb.gain.candidates import Candidates, Grid, alone, coupled
from tlnb.gain.verdict import Comparison, Judged, decide, expected_gain, gain, judge
from tlnb.theory.transfer import TransferProblem

VERDICTS = ("hurts", "undecided", "helps")
SCALES = (0.0, 0.25, 0.5, 1.0, 2.0)  # of the weights of candidates, in standard errors
FOLDS = 10


def left_out_point(number: int, which: str) -> dict[str, np.ndarray | float]:
    """The gain over scratch at a test set and at left-out examples, judged in several ways."""
    pair = pairs.pair(number) if which == "atlas" else pairs.development_pair(number)
    source, target, test = pairs.tasks(pair)
    width, couplings = pair.width, np.array(COUPLINGS)
    grid = Grid(np.array(TEMPERATURES), np.array(RICHNESS), couplings, width)
    problems, tests, strengths = [TransferProblem(source, target)], [test], couplings[1:].tolist()
    every = {
        "scratch": alone(problems, tests, grid, [width]),
        "matched prior": alone(problems, tests, grid, [width], strengths),
        "best width": alone(problems, tests, grid, sorted({width, *WIDTHS})),
    }
    network = coupled(problems, tests, grid)
    frozen = network.where(np.isinf(network.table.coupling.to_numpy()))
    found: dict[str, np.ndarray | float] = {"n_target": pair.n_target, "width": width}
    found["relation"] = pairs.RELATIONS.index(pair.relation)
    found["test"], found["test_se"] = gain(judge(every["scratch"]), judge(network))

    blind = {name: judge(replace(c, test=None)) for name, c in every.items()}
    mine, cold = (judge(replace(c, test=None)) for c in (network, frozen))
    against = {name: Comparison.of(judged, mine) for name, judged in blind.items()}
    point = network.table.iloc[network.best()]
    decision = decide(
        point.coupling, point.coupling * point.temperature, against,
        Comparison.of(blind["scratch"], cold), n=pair.n_target, on_test=False,
    )  # fmt: skip
    found["verdict"] = VERDICTS.index(decision.verdict)
    found["left_out"], found["left_out_se"] = against["scratch"][:2]
    # Other ways: errors of the paired differences alone; the choice by folds.
    plain = [judged._replace(resampled=None) for judged in (blind["scratch"], mine)]
    found["plain_se"] = gain(*plain)[1]
    folds = [_by_folds(c) for c in (every["scratch"], network)]
    found["folds"], found["folds_se"] = gain(*folds)
    found["expected"] = np.array([_averaged(every["scratch"], network, k) for k in SCALES])
    assert np.isclose(found["expected"][3], expected_gain(every["scratch"], network))
    return found


def _by_folds(candidates: Candidates) -> Judged:
    """Each example judged by the candidate that the other folds choose."""
    errors = np.array(candidates.left_out)
    n = errors.shape[-1]
    fold = np.random.default_rng(0).permutation(n) % min(FOLDS, n)
    totals = candidates.left_out.test_error @ np.eye(fold.max() + 1)[fold]
    others = totals.sum(axis=1, keepdims=True) - totals
    return Judged(errors[:, others.argmin(axis=0)[fold], np.arange(n)], False)


def _averaged(opponent: Candidates, network: Candidates, scale: float) -> float:
    """`expected_gain` with weights of another width."""
    errors = opponent.left_out.test_error[opponent.best()]
    scale *= errors.std(ddof=1) / np.sqrt(errors.size)
    averages = []
    for candidates in (opponent, network):
        E = candidates.left_out.test_error.mean(axis=1)
        weights = np.exp(-(E - E.min()) / max(scale, np.finfo(float).tiny))
        averages.append(weights @ E / weights.sum())
    return averages[0] - averages[1]
