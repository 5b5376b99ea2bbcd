"""Standard errors by simulation, the rule case by case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tlnb.gain.candidates import COLUMNS, Candidates, Errors
from tlnb.gain.verdict import Comparison, Judged, decide, expected_gain, gain, judge


def candidates(left_out: Any, test: Any = None) -> Candidates:
    def errors(values: Any) -> Errors:
        values = np.asarray(values, dtype=float)
        return Errors(values, values / 2, (values > 1).astype(float))

    table = pd.DataFrame(np.ones((len(left_out), 5)), columns=list(COLUMNS))
    return Candidates(table, errors(left_out), None if test is None else errors(test))


def test_left_out_errors_are_those_of_the_choice() -> None:
    judged = judge(candidates([[1, 1, 2], [0, 1, 1]]))
    np.testing.assert_array_equal(judged.errors[0], [0, 1, 1])
    assert not judged.on_test and judged.resampled.shape[0] == 3


def test_the_error_of_one_candidate_counts_an_example_twice() -> None:
    # as one that is judged, and as one that the others were predicted from
    values = np.random.default_rng(0).standard_normal((1, 200)) + 3
    _, error = judge(candidates(values)).mean()
    assert error / (values.std() / np.sqrt(200)) == pytest.approx(np.sqrt(2), rel=0.05)


def test_a_choice_that_might_have_been_another_is_less_certain() -> None:
    rng = np.random.default_rng(1)
    one = rng.standard_normal(40)
    sure, torn = candidates([one, one + 5]), candidates([one, rng.permutation(one) - 0.05])
    opponent = judge(candidates([one + 1]), 3)
    assert gain(opponent, judge(sure, 3))[1] == pytest.approx(
        0, abs=1e-12
    )  # paired, resampled alike
    assert gain(opponent, judge(torn, 3))[1] > 0.1


def test_expected_gain_averages_over_candidates_that_do_as_well() -> None:
    rng = np.random.default_rng(2)
    least, averaged = [], []
    for _ in range(300):  # two networks of equally good candidates: a gain is noise
        scratch, network = (candidates(3 + rng.standard_normal((12, 20))) for _ in range(2))
        least.append(gain(judge(scratch), judge(network))[0])
        averaged.append(expected_gain(scratch, network))
    assert np.std(averaged) < 0.9 * np.std(least)
    flat = np.ones((2, 9)) + np.linspace(0, 1, 9)
    assert expected_gain(candidates(flat + 1), candidates(flat)) == pytest.approx(1)


def test_a_test_set_judges_the_candidate_that_training_chose() -> None:
    judged = judge(candidates([[1, 1], [0, 1]], [[0.0, 0, 0], [1, 2, 3]]))
    assert judged.on_test
    np.testing.assert_array_equal(judged.errors[0], [1, 2, 3])
    mean, standard_error = judged.mean()
    assert mean == 2
    np.testing.assert_allclose(standard_error, 1 / np.sqrt(3))


def test_gains_are_paired_and_their_error_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    shared = 10 * rng.standard_normal(50)
    found = []
    for _ in range(2000):
        better, worse = shared + rng.standard_normal(50), shared + 1 + rng.standard_normal(50)
        against, network = (Judged(np.array(3 * [e]), True) for e in (worse, better))
        found.append(gain(against, network))
    gains, errors = np.array(found).T
    np.testing.assert_allclose(gains.mean(), 1, atol=0.02)
    np.testing.assert_allclose(errors.mean(), gains.std(), rtol=0.05)


def against(
    scratch: Any, prior: float = 3.0, width: float = 3.0, classes: float = 0.1
) -> dict[str, Comparison]:
    numbers = {"scratch": scratch, "matched prior": prior, "best width": width}
    return {name: Comparison(g, 1.0, classes, 1.0) for name, g in numbers.items()}


FREE, LOSES = Comparison(0.0, 1.0, 0.0, 1.0), Comparison(-2.5, 1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "gains, frozen, verdict, action",
    [
        (against(3), FREE, "helps", "fine-tune with this strength: coupling 10, .* pull of 0.1 to"),
        (against(3), LOSES, "helps", "fine-tune with this strength"),
        (against(3, classes=np.nan), FREE, "helps", "fine-tune"),
        (against(3, classes=-0.01), FREE, "undecided", "but the share of wrong classes rises"),
        (against(3, prior=1), FREE, "undecided", "about 300 more target examples would decide"),
        (against(3, width=-1), FREE, "undecided", "do not transfer: the best width from scratch"),
        (against(3, prior=0), FREE, "undecided", "do not transfer: the matched prior from scratch"),
        (against(1.5), LOSES, "undecided", "about 78 more target examples"),
        (against(0.5), LOSES, "hurts", "do not transfer: frozen features lose 2.5"),
        (against(-1), FREE, "undecided", "do not transfer: training from scratch does as well"),
        (against(-3), FREE, "hurts", "do not transfer: it loses to training from scratch"),
        (against(-3), None, "hurts", "do not transfer"),
    ],
)
def test_the_verdict_follows_its_rule(gains: Any, frozen: Any, verdict: str, action: str) -> None:
    found = decide(10.0, 0.1, gains, frozen, n=100, on_test=False)
    assert found.verdict == verdict
    assert pd.Series([found.action]).str.contains(action).all(), found.action
    assert "left-out examples: " in found.reason
    assert (found.more_examples is None) == ("would decide" not in found.action)


def test_frozen_features_no_coupling_and_a_test_set_in_words() -> None:
    assert decide(np.inf, np.inf, against(3), FREE, n=9, on_test=True).action.startswith("freeze")
    none = decide(0.0, 0.0, against(0), None, n=9, on_test=True)
    assert none.verdict == "undecided" and "no coupling is among the candidates" in none.action
    more = decide(1.0, 1.0, against(1), FREE, n=100, on_test=True)
    assert more.more_examples == 300 and "300 more test examples" in more.action
    assert "at 100 test examples: +1.000 ± 1.000 over scratch" in more.reason
