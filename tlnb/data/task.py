"""A task: inputs and labels of one data set, with ids that tell its examples apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.validation import check_inputs, check_labels, read_only


@dataclass(frozen=True, eq=False, init=False)
class Task:
    """Inputs ``X`` and labels ``y`` of one data set.

    A task is not an array: it has no length, so that no cross-validation ever slices a source
    task by mistake. Its arrays are read-only copies.

    Parameters
    ----------
    X : array of shape (P, N0)
        Finite inputs. The theory divides by N0 itself: inputs with mean ``|x|²/N0 = 1`` make the
        pre-activations of order one.
    y : array of shape (P,)
        Finite labels: ±1 for a binary task, any real numbers for regression.
    ids : array of shape (P,), optional
        Hashable, distinct names of the examples, to assert that two tasks share none.
    name : str
        For tables and figures.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, no examples, values that are not finite, ids that are not distinct.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> Task(X, [1, -1, 1], name="corners").n_examples
    3
    """

    X: NDArray[np.float64] = field(repr=False)
    y: NDArray[np.float64] = field(repr=False)
    ids: NDArray[Any] | None = field(repr=False)
    name: str

    def __init__(
        self, X: ArrayLike, y: ArrayLike, ids: ArrayLike | None = None, name: str = ""
    ) -> None:
        X = check_inputs(X)
        y = check_labels(y, len(X))
        if ids is not None:
            ids = np.asarray(ids)
            distinct = len(set(ids.ravel().tolist()))
            if ids.shape != (len(X),) or distinct != len(X):
                raise ValueError(
                    f"ids must be {len(X)} distinct values, one for each input, got shape "
                    f"{ids.shape} with {distinct} distinct values"
                )
        self.__dict__.update(  # the fields are frozen
            X=read_only(X), y=read_only(y), ids=None if ids is None else read_only(ids), name=name
        )

    @property
    def n_examples(self) -> int:
        """P, the number of examples."""
        return self.X.shape[0]

    @property
    def n_features(self) -> int:
        """N0, the dimension of the inputs."""
        return self.X.shape[1]


def check_task(name: str, task: object, n_features: int | None = None) -> Task:
    """Return ``task`` if it is a `Task`, with inputs of ``n_features`` columns if that is given."""
    if not isinstance(task, Task):
        raise TypeError(f"{name} must be a tlnb.Task, got {type(task).__name__}")
    if n_features is not None:
        check_inputs(task.X, f"{name}.X", n_features)
    return task
