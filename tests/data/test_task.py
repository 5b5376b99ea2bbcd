"""A task holds what it was given, read-only, or refuses it."""

from __future__ import annotations

import numpy as np
import pytest

from tlnb.data.task import Task


def test_a_task_keeps_copies_that_cannot_change() -> None:
    X, y, ids = np.arange(6).reshape(3, 2), np.array([1, -1, 1]), np.array(["a", "b", "c"])
    task = Task(X, y, ids, "mine")
    X[0], y[0], ids[0] = 9, 9, "z"
    np.testing.assert_array_equal(task.X, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(task.y, [1, -1, 1])
    assert task.ids.tolist() == ["a", "b", "c"] and task.name == "mine"
    assert task.X.dtype == task.y.dtype == np.float64
    assert (task.n_examples, task.n_features) == (3, 2)
    for values in (task.X, task.y, task.ids):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
    with pytest.raises(AttributeError):
        task.name = "other"  # type: ignore[misc]


def test_a_task_is_not_an_array() -> None:
    task = Task(np.eye(3), np.ones(3))
    assert not any(hasattr(task, name) for name in ("__len__", "__array__", "shape"))
    assert task.ids is None


@pytest.mark.parametrize(
    "X, y, ids, message",
    [
        (np.ones(3), np.ones(3), None, r"X must be .* got shape \(3,\)"),
        (np.ones((0, 2)), np.ones(0), None, r"X must be .* got shape \(0, 2\)"),
        ([[1.0, np.nan]], [1.0], None, r"X must be .* got nan at index \(0, 1\)"),
        (np.ones((2, 2)), [1.0], None, r"y must be .* got shape \(1,\)"),
        (np.ones((2, 2)), [1.0, np.inf], None, r"y must be .* got inf at index \(1,\)"),
        (np.ones((2, 2)), np.ones(2), ["a"], r"ids must be 2 distinct .* got shape \(1,\)"),
        (np.ones((2, 2)), np.ones(2), ["a", "a"], r"ids must be 2 distinct .* with 1 distinct"),
    ],
)
def test_a_task_refuses(
    X: np.ndarray | list[list[float]],
    y: np.ndarray | list[float],
    ids: list[str] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        Task(X, y, ids)
