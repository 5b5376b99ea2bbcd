"""Every check returns what is allowed and names argument, value and rule otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tlnb import validation as v

NUMBER_CHECKS = {
    "positive": (lambda x: v.check_positive("T", x), [1, 0.5, np.float32(2)], [0, -1, np.inf]),
    "nonnegative": (lambda x: v.check_nonnegative("T", x), [0, 0.0, 3], [-1e-300, np.inf]),
    "nonnegative or infinite": (
        lambda x: v.check_nonnegative("T", x, allow_infinite=True),
        [0, np.inf],
        [-1],
    ),
    "width": (lambda x: v.check_width(x, "T"), [1, 200, np.int64(3), np.inf], [0, 0.5, -np.inf]),
}


@pytest.mark.parametrize("check, good, bad", NUMBER_CHECKS.values(), ids=list(NUMBER_CHECKS))
def test_numbers(check: Any, good: Any, bad: Any) -> None:
    for value in good:
        assert check(value) == value and type(check(value)) is float
    for value in [*bad, np.nan]:
        with pytest.raises(ValueError, match="T must be a number >") as error:
            check(value)
        assert repr(value) in str(error.value)
    for value in ["1", None, True, np.True_, 1j, [1.0]]:
        with pytest.raises(TypeError, match="T must be a number") as wrong:
            check(value)
        assert repr(value) in str(wrong.value)


def test_numbers_between_bounds() -> None:
    for inside in (-1, 0, np.float32(0.5), 1):
        assert type(v.check_between("q", inside, -1, 1)) is float
    for value in (-1.001, 2, np.nan, np.inf):
        with pytest.raises(ValueError, match="q must be a number from -1 to 1, got"):
            v.check_between("q", value, -1, 1)
    with pytest.raises(TypeError, match="q must be a number from 0 to 1, got True"):
        v.check_between("q", True, 0, 1)


def test_choice() -> None:
    assert v.check_choice("scheme", "a", ("a", "b")) == "a"
    for value in ("c", None, 1):
        with pytest.raises(ValueError, match="scheme must be one of 'a', 'b', got") as error:
            v.check_choice("scheme", value, iter(("a", "b")))
        assert repr(value) in str(error.value)


def test_inputs() -> None:
    assert v.check_inputs([[1, 2]]).dtype == np.float64
    X = np.ones((2, 3))
    assert v.check_inputs(X) is X
    for value, message in [
        ([1.0], r"shape \(1,\)"),
        (np.ones((2, 0)), r"shape \(2, 0\)"),
        (np.ones((0, 2)), r"shape \(0, 2\)"),
        (np.ones((1, 2, 2)), r"shape \(1, 2, 2\)"),
        ([[1.0, -np.inf]], r"-inf at index \(0, 1\)"),
        ([[1.0], [1.0, 2.0]], "X must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            v.check_inputs(value)
    with pytest.raises(ValueError, match=r"Z must have N0 = 4 columns, got shape \(2, 3\)"):
        v.check_inputs(X, "Z", 4)
    dates, masked = np.zeros((1, 1), "datetime64[s]"), np.ma.masked_equal([[1.0, 2.0]], 2.0)
    for value in ([[1j]], [[{}]], [["one"]], [["1"]], dates, masked):
        with pytest.raises(TypeError, match="X must be a finite real array"):
            v.check_inputs(value)


def test_labels() -> None:
    np.testing.assert_array_equal(v.check_labels([1, -1], 2), [1.0, -1.0])
    for value, message in [
        ([1.0], r"y must be .* shape \(2,\).* got shape \(1,\)"),
        ([[1.0], [1.0]], r"got shape \(2, 1\)"),
        ([1.0, np.nan], r"nan at index \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            v.check_labels(value, 2)


def test_generators_and_seeds() -> None:
    rng = np.random.default_rng(3)
    assert v.check_rng("seed", rng) is rng
    assert v.check_rng("seed", 3).random() == rng.random()
    for value, error in ((-1, ValueError), (1.5, TypeError), ("a", TypeError)):
        with pytest.raises(error, match=f"seed must be an integer >= 0 .*, got {value!r}"):
            v.check_rng("seed", value)


def test_read_only_copies() -> None:
    values = np.zeros(2)
    copy = v.read_only(values)
    values[0] = 1
    assert copy[0] == 0 and not copy.flags.writeable
