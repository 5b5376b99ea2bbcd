"""Choices judged anew by the law of a hidden unit, where the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tlnb.data.task import Task
from tlnb.gain import transfer_gain
from tlnb.gain.unit_law import UnitLaw
from tlnb.gain.verdict import Judged, gain

EFFORT = {"particles": 400, "warmup": 30, "draws": 16, "tolerance": 0.2}
FEW: dict[str, Any] = {"couplings": (0, 2, np.inf), "widths": (20, np.inf), "width": 30}
FEW |= {"temperatures": (0.1,), "richness": (0.05,), "activation": "linear"}


def linear_task(n: int, seed: int) -> Task:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 8))
    return Task(X, X[:, 0] + 0.3 * X[:, 1])


SOURCE, TARGET, TEST = linear_task(40, 1), linear_task(10, 2), linear_task(50, 3)


def test_of_linear_units_both_theories_are_one() -> None:
    # a linear unit's law is Gaussian, of which the scalar theory's number is all there is
    scalar = transfer_gain(SOURCE, TARGET, TEST, **FEW)
    law = transfer_gain(SOURCE, TARGET, TEST, **FEW, theory="unit-law", effort=EFFORT)
    assert (scalar.theory, law.theory) == ("scalar", "unit-law")
    assert law.chosen == scalar.chosen and law.curve.equals(scalar.curve)
    rows = law.opponents.set_index("opponent")
    others = scalar.opponents.set_index("opponent")
    difference = np.abs(rows.gain - others.gain)
    assert (difference < 4 * rows.standard_error + 1e-12).all()
    assert (difference[["scratch", "matched prior"]] > 0).all()
    # at infinite width there is no unit to solve for; against itself nothing is gained
    assert rows.width["best width"] == np.inf
    assert rows.test_error["best width"] == others.test_error["best width"]
    assert tuple(rows.loc["frozen", ["gain", "standard_error"]]) == (0, 0)


def test_without_a_test_set_left_out_examples_are_solved_for_too() -> None:
    scalar = transfer_gain(SOURCE, TARGET, **FEW)
    law = transfer_gain(SOURCE, TARGET, **FEW, theory="unit-law", effort=EFFORT)
    # what is held while an example is left out differs by one over the number of examples
    np.testing.assert_allclose(law.opponents.test_error, scalar.opponents.test_error, rtol=0.1)
    assert law.test_error != scalar.test_error and law.left_out.reason == law.reason


def test_a_candidate_is_solved_for_once_and_not_at_infinite_width() -> None:
    law = UnitLaw([SOURCE], [TARGET], [TEST], effort=EFFORT, activation="linear")
    table = transfer_gain(SOURCE, TARGET, TEST, **FEW).opponents
    row = table.loc[table.opponent == "scratch"].iloc[0]
    found = law(row)
    assert law(row, alone=True) is found
    assert found.left_out.shape == (3, 10) and found.test.shape == (3, 50)
    assert 0 < found.test_noise < 0.1 and 0 < found.left_out_noise < 0.1
    wide = row.copy()
    wide["width"] = np.inf
    assert law(wide) is None


def test_monte_carlo_errors_are_part_of_a_gain() -> None:
    errors = np.ones((3, 4)) * np.arange(4)
    one, other = Judged(errors, True, 0.3), Judged(2 * errors, True, 0.4)
    value, error = gain(other, one)
    spread = np.arange(4).std(ddof=1) / 2
    assert value == 1.5 and error == pytest.approx(np.hypot(0.5, spread))
    assert gain(other, one, "squared_bias")[1] == pytest.approx(spread)


def test_unknown_theories_are_refused() -> None:
    with pytest.raises(ValueError, match=r"theory must be one of .* got 'exact'"):
        transfer_gain(SOURCE, TARGET, **FEW, theory="exact")
