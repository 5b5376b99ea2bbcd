"""What the theory says of a network's output at new inputs: mean, variances, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]


class Prediction(NamedTuple):
    """The law of the output f(x) over the posterior, and its errors where labels are given.

    Every field is an array of shape (n,), one entry for each input. The variances are those of
    the network's output, without the noise T.

    Attributes
    ----------
    mean : ⟨f(x)⟩ over networks and, in transfer, over sources.
    total_variance : ⟨f²⟩ - ⟨f⟩².
    source_variance : the part of the total variance that is spread between quenched sources.
    squared_bias : (y - mean)².
    test_error : Gibbs error ⟨(y - f)²⟩ = squared bias + total variance.
    classification_error : probability that f has not the sign of y, for Gaussian f.
    """

    mean: Array
    total_variance: Array
    source_variance: Array
    squared_bias: Array | None = None
    test_error: Array | None = None
    classification_error: Array | None = None


def prediction(
    mean: Array, total_variance: Array, source_variance: Array, y: Array | None = None
) -> Prediction:
    """Assemble a `Prediction`, adding the errors if the labels ``y`` of shape (n,) are given."""
    if y is None:
        return Prediction(mean, total_variance, source_variance)
    squared_bias = (y - mean) ** 2
    margin = np.sign(y) * mean
    deviation = np.sqrt(total_variance)
    # A network without spread is right or wrong for sure: its margin counts as infinite.
    certain = np.where(margin == 0, 0.0, np.copysign(np.inf, margin))
    standardised = np.divide(margin, deviation, out=certain, where=deviation > 0)
    return Prediction(
        mean,
        total_variance,
        source_variance,
        squared_bias,
        squared_bias + total_variance,
        ndtr(-standardised),
    )


def concatenate(parts: Sequence[Prediction]) -> Prediction:
    """Join the predictions of consecutive chunks."""
    return combined(parts, np.concatenate)


def combined(
    parts: Sequence[Prediction], function: Callable[[Sequence[Array]], Array]
) -> Prediction:
    """The prediction whose fields are a function of those of several, given or missing in all."""

    def one(name: str) -> Any:
        column = [getattr(part, name) for part in parts]
        return None if column[0] is None else function(column)

    return Prediction(*map(one, Prediction._fields))
