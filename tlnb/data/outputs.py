"""A task with several outputs: one network with C readouts, and the codes of classes.

C classes are C outputs, one for each: an example has the code of its class, and the class of an
output vector is that of its largest entry. The simplex code gives 1 to the own class and
-1/(C - 1) to the others, so that the outputs of an example sum to zero; signs give 1 and -1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.data.task import Task
from tlnb.validation import check_choice, check_inputs, check_outputs, read_only

Array = NDArray[np.float64]
CODES = ("simplex", "signs")


@dataclass(frozen=True, eq=False)
class MultiOutputTask:
    """Inputs ``X`` and labels ``y`` of C outputs; not a `Task`, whose labels are one number each.

    Parameters
    ----------
    X : array of shape (P, N0)
        Finite inputs, as in `Task`.
    y : array of shape (P, C)
        Finite labels, one column for each output. More outputs than examples, equal columns and
        constant ones are allowed.
    name : str
        For tables and figures.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, no examples or outputs, and values that are not finite.

    Examples
    --------
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> task = MultiOutputTask([[0.0, 1.0], [1.0, 0.0]], [[1, 0, 2], [0, 1, 3]])
    >>> task.n_examples, task.n_outputs
    (2, 3)
    """

    X: Array = field(repr=False)
    y: Array = field(repr=False)
    name: str

    def __init__(self, X: ArrayLike, y: ArrayLike, name: str = "") -> None:
        X = check_inputs(X)
        y = check_outputs(y, len(X))
        # the fields are frozen
        self.__dict__.update(X=read_only(X), y=read_only(y), name=name)

    @property
    def n_examples(self) -> int:
        """P, the number of examples."""
        return self.X.shape[0]

    @property
    def n_features(self) -> int:
        """N0, the dimension of the inputs."""
        return self.X.shape[1]

    @property
    def n_outputs(self) -> int:
        """C, the number of outputs."""
        return self.y.shape[1]

    def column(self, output: int) -> Task:
        """One output alone, as a `Task`."""
        return Task(self.X, self.y[:, output], name=self.name)


def check_outputs_task(name: str, task: object, n_features: int | None = None) -> MultiOutputTask:
    """Return ``task`` if it has several outputs, or a `Task` as one with a single output."""
    if isinstance(task, Task):
        task = MultiOutputTask(task.X, task.y[:, None], task.name)
    if not isinstance(task, MultiOutputTask):
        raise TypeError(
            f"{name} must be a tlnb.data.outputs.MultiOutputTask or a tlnb.Task, got "
            f"{type(task).__name__}"
        )
    if n_features is not None:
        check_inputs(task.X, f"{name}.X", n_features)
    return task


def class_codes(
    labels: ArrayLike, classes: ArrayLike | None = None, code: str = "simplex"
) -> tuple[Array, NDArray[Any]]:
    """Codes (P, C) of class labels (P,), and the classes (C,), in ascending order.

    Parameters
    ----------
    labels : array of shape (P,)
        Numbers or strings.
    classes : array of shape (C,), optional
        All classes there are; those of ``labels`` by default.
    code : {"simplex", "signs"}
        1 for the own class and -1/(C - 1), or -1, for the others.

    Raises
    ------
    ValueError
        For fewer than two classes, and labels of no class.

    Examples
    --------
    >>> from tlnb.data.outputs import class_codes
    >>> class_codes(["b", "a", "c"])[0].tolist()
    [[-0.5, 1.0, -0.5], [1.0, -0.5, -0.5], [-0.5, -0.5, 1.0]]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"labels must be of shape (P,) with P >= 1, got shape {labels.shape}")
    known = np.unique(labels if classes is None else np.asarray(classes))
    if len(known) < 2:
        raise ValueError(f"labels must be of at least two classes, got {known.tolist()}")
    strange = np.setdiff1d(labels, known)
    if len(strange):
        raise ValueError(f"labels must be among the classes {known.tolist()}, got {strange[0]!r}")
    check_choice("code", code, CODES)
    others = -1.0 if code == "signs" else -1 / (len(known) - 1)
    return np.where(labels[:, None] == known, 1.0, others), known
