"""The losses that networks are trained by, in one table, and the tasks that each of them takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tlnb.data.task import Task, check_task

Array = NDArray[np.float64]


class Loss(NamedTuple):
    """A loss ℓ(y, f) of one example.

    Called with labels and outputs of one shape it returns the losses; `slope` is their derivative
    in f. `signs` says that labels must be ±1. Its proximal map, where the theory has one, is
    `tlnb.theory.glm.proximal` under the same name.
    """

    value: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]
    signs: bool

    def __call__(self, y: Array, f: Array) -> Array:
        """ℓ(y, f), example by example."""
        return self.value(y, f)


def _logistic_slope(y: Array, f: Array) -> Array:
    return -y * expit(-y * f)


LOSSES = {
    "logistic": Loss(lambda y, f: np.logaddexp(0, -y * f), _logistic_slope, signs=True),
    "square": Loss(lambda y, f: 0.5 * (y - f) ** 2, lambda y, f: f - y, signs=False),
    "hinge": Loss(
        lambda y, f: np.maximum(0, 1 - y * f), lambda y, f: np.where(y * f < 1, -y, 0.0), signs=True
    ),
}


def is_binary(y: Array) -> bool:
    """Whether all labels are ±1."""
    return bool((abs(y) == 1).all())


def check_labels_for(
    name: str, task: object, loss: str, n_features: int | None = None, classes: int = 2
) -> Task:
    """Return ``task`` if its inputs and labels are those that ``loss`` takes, of enough classes."""
    task = check_task(name, task, n_features)
    y = task.y
    if LOSSES[loss].signs and not is_binary(y):
        raise ValueError(f"{name}.y must hold labels ±1 for loss={loss!r}, got {y[:5]}")
    if LOSSES[loss].signs and len(np.unique(y)) < classes:
        raise ValueError(f"{name}.y must hold labels of both classes, all are {y[0]:+g}")
    return task
