"""Tasks with several outputs and the codes of classes."""

from __future__ import annotations

import numpy as np
import pytest

from tlnb import Task
from tlnb.data.outputs import MultiOutputTask, check_outputs_task, class_codes


def test_a_column_is_a_task() -> None:
    task = MultiOutputTask(np.eye(3), np.arange(6.0).reshape(3, 2), name="both")
    column = task.column(1)
    assert isinstance(column, Task) and column.y.tolist() == [1, 3, 5] and column.name == "both"
    back = check_outputs_task("task", column)
    assert back.y.shape == (3, 1) and back.n_outputs == 1
    with pytest.raises(ValueError, match="read-only"):
        task.y[0, 0] = 1


@pytest.mark.parametrize("C", [2, 3, 10])
def test_simplex_codes(C: int) -> None:
    """All codes of equal length and equal angles, summing to zero: no class is special."""
    codes, classes = class_codes(np.arange(C) + 5, code="simplex")
    assert classes.tolist() == list(range(5, 5 + C))
    gram = codes @ codes.T
    expected = C / (C - 1) * (np.eye(C) - 1 / C) * C / (C - 1)
    np.testing.assert_allclose(gram, expected, atol=1e-12)
    np.testing.assert_allclose(codes.sum(1), 0, atol=1e-12)
    assert (codes.argmax(1) == np.arange(C)).all()


def test_signs_and_absent_classes() -> None:
    codes, classes = class_codes(["b", "a"], classes=["a", "b", "c"], code="signs")
    assert classes.tolist() == ["a", "b", "c"]
    assert codes.tolist() == [[-1, 1, -1], [1, -1, -1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 1],), "at least two classes"),
        (([1, 2], [1, 3]), "among the classes"),
        (([[1, 2]],), r"shape \(P,\)"),
        (([1, 2], None, "gray"), "code must be one of"),
    ],
)
def test_bad_classes(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_codes(*arguments)
