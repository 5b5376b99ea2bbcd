"""What the theory says of a network's output at new inputs: mean, variances, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from tlnb._renamed import renamed_names
from tlnb.validation import check_inputs, check_labels

Array = NDArray[np.float64]
# Fields of a prediction that are averaged over test points.
AVERAGED = (
    "squared_bias",
    "total_variance",
    "source_variance",
    "test_error",
    "classification_error",
)


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
    """Assemble a `Prediction`, adding the errors if the labels ``y`` of shape (n,) are given.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.prediction import prediction
    >>> mean, variance, y = np.array([0.5]), np.array([1.0]), np.array([1.0])
    >>> outcome = prediction(mean, variance, np.zeros(1), y)
    >>> print(f"{outcome.test_error[0]} {outcome.classification_error[0]:.3f}")  # Φ(-1/2)
    1.25 0.309
    """
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


def in_parts(
    X: ArrayLike,
    y: ArrayLike | None,
    n_features: int,
    parts: Callable[[int], Iterable[slice]],
    outcome: Callable[[Array, Array | None], Prediction],
) -> Prediction:
    """Predict at any number of inputs with bounded memory, some of them at a time.

    Parameters
    ----------
    X : array of shape (n, n_features)
    y : array of shape (n,), optional
        Labels, by which errors are given.
    n_features : int
        N0 of the networks.
    parts : callable
        Slices of ``range(n)`` that fit in memory.
    outcome : callable
        The prediction for some of the inputs and labels.

    Raises
    ------
    ValueError, TypeError
        For inputs and labels of other shapes, or not finite.
    """
    X = check_inputs(X, n_features=n_features)
    labels = None if y is None else check_labels(y, len(X))
    return concatenate(
        [outcome(X[p], None if labels is None else labels[p]) for p in parts(len(X))]
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


__getattr__ = renamed_names(__name__)
