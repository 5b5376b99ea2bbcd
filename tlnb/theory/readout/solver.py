"""`solve` for one readout, `learning_curve` for one at every number of examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tlnb.theory.readout.covariates import GaussianCovariates
from tlnb.theory.readout.fixed_point import Labels, ReplicaMap
from tlnb.theory.readout.losses import LEARNED, Loss
from tlnb.theory.readout.optimum import least_test_error
from tlnb.theory.readout.solution import GLMSolution, solution_of
from tlnb.validation import check_choice, check_positive

if TYPE_CHECKING:
    from xarray import Dataset


def solve(
    covariates: GaussianCovariates,
    *,
    sample_ratio: float,
    regularization: float | Literal["optimal"],
    loss: Loss = "logistic",
    labels: Labels = "sign",
    initial: GLMSolution | None = None,
) -> GLMSolution:
    """The fixed point of a readout trained on α examples for each feature.

    Parameters
    ----------
    covariates : GaussianCovariates
    sample_ratio : float
        α = n/K > 0.
    regularization : float or "optimal"
        λ > 0; "optimal" takes the λ of least test error between 1e-4 and 1e3 mean eigenvalues of Ω
        (the end of that interval where the error falls beyond; the least one where it is flat).
    loss : {"logistic", "square", "hinge"}
        ln(1 + e^(-yx)), (y - x)²/2 or max(0, 1 - yx).
    labels : {"sign", "linear"}
        y = sign(ν), or y = ν; the latter with square loss only.
    initial : GLMSolution, optional
        Of a problem close by, to start from; the search for an optimal λ begins at its λ.

    Notes
    -----
    The same readout in scikit-learn: features divided by sqrt(K), ``fit_intercept=False``, and
    ``C=1/λ`` in LogisticRegression and LinearSVC(loss="hinge"), ``alpha=λ`` in Ridge. The objective
    is a sum over examples. There is no intercept: u and ν have mean zero. Features with a mean
    must have it subtracted, the population's in the theory and in the simulation alike; an
    intercept fitted to balanced labels does the same in the limit.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If no fixed point with a residual below 1e-9 was reached.

    Examples
    --------
    Twenty features that explain four fifths of the teacher's field, two examples for each:

    >>> import numpy as np
    >>> from tlnb.theory.glm import GaussianCovariates, solve
    >>> covariates = GaussianCovariates(np.eye(20), np.full(20, 0.2), teacher_variance=1.0)
    >>> solution = solve(covariates, sample_ratio=2.0, regularization=0.5)
    >>> print(f"{solution.test_error:.3f} of the signs are wrong")
    0.261 of the signs are wrong
    """
    if not isinstance(covariates, GaussianCovariates):
        raise TypeError(f"covariates must be GaussianCovariates, got {type(covariates).__name__}")
    sample_ratio = check_positive("sample_ratio", sample_ratio)
    check_choice("loss", loss, LEARNED)
    if check_choice("labels", labels, ["sign", "linear"]) == "linear" and loss != "square":
        raise ValueError(f"labels='linear' must come with loss='square', got loss={loss!r}")
    if not isinstance(initial, GLMSolution | None):
        raise TypeError(f"initial must be a GLMSolution or None, got {type(initial).__name__}")
    at = ReplicaMap(covariates, sample_ratio, 1.0, loss, labels)
    if isinstance(regularization, str):
        check_choice("regularization", regularization, ["optimal"])
        return least_test_error(at, initial)
    try:
        regularization = check_positive("regularization", regularization)
    except ValueError as error:
        why = "the minimiser of separable examples runs away, or is not unique"
        raise ValueError(f"{error}: without it {why}; take a small one, as 1e-4") from None
    return solution_of(replace(at, regularization=regularization), initial)


def learning_curve(
    covariates: GaussianCovariates,
    *,
    sample_ratios: Sequence[float],
    regularization: float | Literal["optimal"],
    loss: Loss = "logistic",
    labels: Labels = "sign",
) -> Dataset:
    """`solve` over sample ratios, each solution starting from the one before.

    Returns a Dataset over ``sample_ratio``, in the given order, with everything that a
    `GLMSolution` holds. Parameters, and what is raised, are as of `solve`.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.glm import GaussianCovariates, learning_curve
    >>> covariates = GaussianCovariates(np.eye(20), np.full(20, 0.2), teacher_variance=1.0)
    >>> curve = learning_curve(covariates, sample_ratios=[0.5, 2, 8], regularization="optimal")
    >>> curve.test_error.values.round(3)
    array([0.361, 0.256, 0.18 ])
    """
    import xarray as xr

    ratios = [check_positive("sample_ratios", ratio) for ratio in np.ravel(sample_ratios).tolist()]
    if not ratios:
        raise ValueError("sample_ratios must hold at least one number > 0, got none")
    solutions: dict[float, GLMSolution] = {}
    last = None
    for ratio in sorted(ratios):
        last = solve(
            covariates,
            sample_ratio=ratio,
            regularization=regularization,
            loss=loss,
            labels=labels,
            initial=last,
        )
        solutions[ratio] = last
    columns = zip(*(solutions[ratio] for ratio in ratios), strict=True)
    table = dict(zip(GLMSolution._fields, columns, strict=True))
    return xr.Dataset(
        {name: ("sample_ratio", list(column)) for name, column in table.items()},
        coords={"sample_ratio": ratios},
        attrs={"loss": loss, "labels": labels},
    )
