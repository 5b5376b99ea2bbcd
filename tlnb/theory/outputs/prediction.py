r"""What the theory says of several outputs at new inputs, and of examples that were left out.

Outputs of one network are correlated: beside mean and variances of each there is a C × C covariance
for every input. A network votes for the class of its largest output; the share of networks that
vote for each class is a Gaussian probability. An example is left out with all its outputs: with
W = Δ⁻¹ in blocks W_μμ (C, C) the Schur complement of tlnb.theory.leave_one_out becomes

    residual           y_μ - f_{-μ}(x_μ) = W_μμ⁻¹ (Wr)_μ
    source covariance  W_μμ⁻¹ (WEW)_μμ W_μμ⁻¹
    total covariance   W_μμ⁻¹ - T + W_μμ⁻¹ (WEW)_μμ W_μμ⁻¹.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from tlnb.chunking import chunks
from tlnb.theory.prediction import prediction
from tlnb.validation import check_inputs, check_outputs

Array = NDArray[np.float64]
POINTS = 4096  # of the lattice that votes are counted on


class OutputsPrediction(NamedTuple):
    """The law of the outputs f(x), and their errors where labels are given.

    The first six fields are those of `tlnb.theory.prediction.Prediction` for every output, arrays
    of shape (n, C); ``covariance`` and ``source_covariance`` (n, C, C) have the variances on their
    diagonals. ``classification_error`` is that of the sign of each output.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.theory import outputs
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> solution = outputs.solve(MultiOutputTask(X[:30], X[:30, :3]), width=20, temperature=0.1)
    >>> outcome = solution.predict(X[30:])
    >>> outcome.covariance.shape, bool(np.allclose(outcome.votes().sum(1), 1))
    ((10, 3, 3), True)
    """

    mean: Array
    total_variance: Array
    source_variance: Array
    squared_bias: Array | None
    test_error: Array | None
    classification_error: Array | None
    covariance: Array
    source_covariance: Array

    def votes(self) -> Array:
        """The share of networks whose largest output is the c-th, of shape (n, C); see `votes`."""
        return votes(self.mean, self.covariance)


def outputs_prediction(
    mean: Array, covariance: Array, source_covariance: Array, y: Array | None = None
) -> OutputsPrediction:
    """Assemble the prediction from means (n, C) and covariances (n, C, C), labels (n, C)."""
    total, source = (
        np.maximum(np.einsum("naa->na", each), 0.0) for each in (covariance, source_covariance)
    )
    each_alone = prediction(mean, total, source, y)._asdict()
    return OutputsPrediction(
        **each_alone, covariance=covariance, source_covariance=source_covariance
    )


def in_parts(
    X: ArrayLike,
    y: ArrayLike | None,
    n_features: int,
    n_outputs: int,
    numbers_each: int,
    outcome: Callable[[Array, Array | None], OutputsPrediction],
) -> OutputsPrediction:
    """Predict at any number of inputs with bounded memory, some of them at a time.

    Parameters
    ----------
    X : array of shape (n, n_features)
    y : array of shape (n, n_outputs), optional
        Labels, by which errors are given.
    n_features, n_outputs : int
        N0 and C of the networks.
    numbers_each : int
        How many numbers the prediction of one input holds.
    outcome : callable
        The prediction for some of the inputs and labels.

    Raises
    ------
    ValueError, TypeError
        For inputs and labels of other shapes, or not finite.
    """
    X = check_inputs(X, n_features=n_features)
    labels = None if y is None else check_outputs(y, len(X))
    if labels is not None and labels.shape[1] != n_outputs:
        raise ValueError(f"y must have {n_outputs} columns, got shape {labels.shape}")
    parts = (
        outcome(X[part], None if labels is None else labels[part])
        for part in chunks(len(X), numbers_each)
    )
    joined: Any = (None if c[0] is None else np.concatenate(c) for c in zip(*parts, strict=True))
    return OutputsPrediction(*joined)


def votes(mean: Array, covariance: Array) -> Array:
    """P(f_c is the largest of C Gaussian outputs), of shape (n, C).

    Two outputs: in closed form. More: counted on a lattice of points, the same for all inputs; off
    by 1 or 2 in a thousand, at worst by 7 (three and ten outputs of random covariances).

    Parameters
    ----------
    mean, covariance : arrays of shape (n, C) and (n, C, C)
        Of the outputs of networks, without the noise T.

    Examples
    --------
    Of two outputs with one standard deviation each, means one apart, the larger mean wins with
    probability Φ(1/sqrt(2)):

    >>> import numpy as np
    >>> from tlnb.theory.outputs import votes
    >>> votes(np.array([[1.0, 0.0]]), np.eye(2)[None]).round(3)
    array([[0.76, 0.24]])
    """
    n, C = mean.shape
    if C == 1:
        return np.ones((n, 1))
    if C == 2:
        contrast = np.array([1.0, -1.0])
        margin = mean @ contrast
        deviation = np.sqrt(np.maximum(covariance @ contrast @ contrast, 0.0))
        certain = np.where(margin == 0, 0.0, np.copysign(np.inf, margin))
        first = ndtr(np.divide(margin, deviation, out=certain, where=deviation > 0))
        return np.column_stack([first, 1 - first])
    # The lattice of generalised golden ratios: the root of x^(C+1) = x + 1.
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (C + 1))
    uniform = (0.5 + np.outer(np.arange(1, POINTS + 1), ratio ** -np.arange(1.0, C + 1))) % 1
    normal = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
    normal = np.concatenate([normal, -normal])
    shares = np.empty((n, C))
    for part in chunks(n, 2 * len(normal) * C):
        e, R = np.linalg.eigh(covariance[part])
        root = R * np.sqrt(np.maximum(e, 0.0))[:, None, :]
        winners = (mean[part, None, :] + normal @ root.swapaxes(1, 2)).argmax(2)
        shares[part] = (winners[..., None] == np.arange(C)).mean(1)
    return shares


class OutputsLeaveOneOut(NamedTuple):
    """What is expected of each training example by a network trained on the others.

    The first four fields are those of `tlnb.theory.leave_one_out.LeaveOneOut` for every output,
    arrays of shape (P, C); ``covariance`` (P, C, C) is the total one.
    """

    residual: Array
    source_variance: Array
    total_variance: Array
    test_error: Array
    covariance: Array


def leave_one_out(
    solved: Array,
    inverse_blocks: Array,
    spread: Array | float,
    temperature: float,
    readout_precision: float = 1.0,
) -> OutputsLeaveOneOut:
    """The closed form, from what the solver has.

    Parameters
    ----------
    solved : array of shape (P, C)
        Wr, in units of the readouts' prior.
    inverse_blocks, spread : arrays of shape (P, C, C)
        The blocks W_μμ and (WEW)_μμ.
    temperature, readout_precision : float
        T in the same units, and the λ1 that turns outputs back into those of the labels.
    """
    C = solved.shape[1]
    private = np.linalg.solve(inverse_blocks, np.broadcast_to(np.eye(C), inverse_blocks.shape))
    residual = np.matmul(private, solved[..., None])[..., 0] / np.sqrt(readout_precision)
    source = private @ np.broadcast_to(spread, private.shape) @ private / readout_precision
    own = (private - temperature * np.eye(C)) / readout_precision
    own_variance, source_variance = (
        np.maximum(np.einsum("naa->na", each), 0.0) for each in (own, source)
    )
    total = own_variance + source_variance
    return OutputsLeaveOneOut(residual, source_variance, total, residual**2 + total, own + source)
