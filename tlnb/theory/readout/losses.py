"""What learning one example does to the student's field: the proximal maps of three losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, wrightomega

from tlnb.errors import ConvergenceError
from tlnb.validation import check_choice, check_positive

Array = NDArray[np.float64]
Loss = Literal["logistic", "square", "hinge"]


def proximal(margin: ArrayLike, V: float, loss: str) -> Array:
    """y prox_{Vℓ(y,·)}(ω), the z that minimises ℓ(z) + (z - a)²/(2V), at margins a = yω.

    ℓ(z) is log(1 + e^-z) ("logistic"), max(0, 1 - z) ("hinge") or (1 - z)²/2 ("square"). The
    logistic one is found by Newton's method, which is monotone there, for V of any size.

    Examples
    --------
    >>> from tlnb.theory.glm import proximal
    >>> proximal([-1.0, 0.5, 2.0], 1.0, "hinge")
    array([0., 1., 2.])
    """
    V = check_positive("V", V)
    return LEARNED[check_choice("loss", loss, LEARNED)](np.asarray(margin, dtype=float), V).z


class Learned(NamedTuple):
    """At margins a: z = y prox, the pull f = (z - a)/V, its derivative, and the loss ℓ(z)."""

    z: Array
    pull: Array
    slope: Array
    loss: Array


def _logistic(a: Array, V: float) -> Learned:
    # z(-V - a) = -z(a): z ≥ 0 is enough. There z - a - V/(1 + e^z) is concave and rising, so that a
    # Newton step never ends above the root and, after the first, never moves down. The start is the
    # root with e^-z for 1/(1 + e^z), which is above.
    mirrored = a < -V / 2
    b = np.where(mirrored, -V - a, a)
    z = np.clip(b + wrightomega(np.log(V) - b), 0.0, b + V / 2)
    for _ in range(100):
        tail = expit(-z)
        step = (z - b - V * tail) / (1 + V * tail * (1 - tail))
        z = np.maximum(z - step, np.maximum(b, 0.0))
        if (np.abs(step) <= 1e-14 * (1 + z)).all():
            break
    else:
        raise ConvergenceError(f"the proximal map at V={V:.3g} was not found")
    z = np.where(mirrored, -z, z)
    pull = expit(-z)
    curvature = pull * expit(z)
    return Learned(z, pull, -curvature / (1 + V * curvature), np.logaddexp(0.0, -z))


def _hinge(a: Array, V: float) -> Learned:
    pull = np.clip((1 - a) / V, 0.0, 1.0)
    slope = np.where((a < 1) & (a > 1 - V), -1 / V, 0.0)
    return Learned(np.clip(1.0, a, a + V), pull, slope, np.maximum(1 - V - a, 0.0))


def _square(a: Array, V: float) -> Learned:
    pull = (1 - a) / (1 + V)
    return Learned((a + V) / (1 + V), pull, np.full_like(a, -1 / (1 + V)), pull**2 / 2)


# By loss: at margins and V, what learning an example does.
LEARNED: dict[str, Callable[[Array, float], Learned]] = {
    "logistic": _logistic,
    "square": _square,
    "hinge": _hinge,
}
