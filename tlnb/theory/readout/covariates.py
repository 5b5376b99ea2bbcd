"""The three covariances that say all about the data: of the features, with the teacher, of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from tlnb.validation import check_inputs, check_labels, check_positive, read_only

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GaussianCovariates:
    """Features and a teacher's field that are jointly Gaussian with mean zero.

    Parameters
    ----------
    feature_covariance : array of shape (K, K)
        Ω = Cov(u), symmetric and positive semi-definite.
    teacher_covariance : array of shape (K,)
        τ = E[u ν].
    teacher_variance : float
        ρ_ν = E[ν²] > 0; noise of the teacher before the sign is taken counts.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, values that are not finite, a covariance that is none, and for
        τᵀΩ⁻¹τ > ρ_ν, which no Gaussian allows: the features would tell more about ν than ν has.

    Attributes
    ----------
    eigenvalues, squared_projections : arrays of shape (K,)
        e_k ≥ 0 of Ω, ascending, and (Uᵀτ)_k².

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.glm import GaussianCovariates
    >>> GaussianCovariates(np.eye(20), np.full(20, 0.2), teacher_variance=1.0).n_features
    20
    """

    feature_covariance: Array = field(repr=False)
    teacher_covariance: Array = field(repr=False)
    teacher_variance: float
    eigenvalues: Array = field(init=False, repr=False)
    squared_projections: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        omega = check_inputs(self.feature_covariance, "feature_covariance")
        mirrored = omega.T if omega.shape[0] == omega.shape[1] else np.inf
        if (apart := np.abs(omega - mirrored).max()) > 1e-10 * np.abs(omega).max():
            what = f"got shape {omega.shape}, transposed entries up to {apart:.2g} apart"
            raise ValueError(f"feature_covariance must be a symmetric matrix, {what}")
        tau = check_labels(self.teacher_covariance, len(omega), "teacher_covariance")
        rho = check_positive("teacher_variance", self.teacher_variance)
        e, U = eigh(omega, check_finite=False, driver="evd")
        noise = len(e) * np.finfo(float).eps * e[-1]
        if e[-1] <= 0 or e[0] < -100 * noise:
            what = f"got eigenvalues from {e[0]:.3g} to {e[-1]:.3g}"
            raise ValueError(f"feature_covariance must be positive semi-definite, not 0, {what}")
        e, t2 = np.maximum(e, 0.0), (tau @ U) ** 2
        if (explained := (t2 / (e + noise)).sum()) > rho * (1 + 1e-8):
            raise ValueError(
                f"teacher_variance must be at least τᵀΩ⁻¹τ = {explained:.6g}, the part of ν that "
                f"the features explain, got {rho:.6g}: an impossible Gaussian"
            )
        arrays = {"feature_covariance": omega, "teacher_covariance": tau}
        for name, array in (arrays | {"eigenvalues": e, "squared_projections": t2}).items():
            object.__setattr__(self, name, read_only(array))
        object.__setattr__(self, "teacher_variance", rho)

    @property
    def n_features(self) -> int:
        """K."""
        return len(self.teacher_covariance)
