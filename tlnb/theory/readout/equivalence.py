r"""Gaussian-equivalent covariances: what a linear readout sees of features on a hidden manifold.

A readout acts on features u = σ(W x/sqrt(N0)) of an input x = φ(cᵀF/sqrt(D)), and its labels come
from the field ν = θ·c/sqrt(D). Where (ν, a·u) is Gaussian, three moments decide everything: Ω =
Cov(u), τ = Cov(u, ν) and ρ_ν = Var ν. They follow from replacing, unit by unit and layer by layer,

    g(z)  by  g0 + g1(s) z + independent noise of the variance that is missing,
    z ~ N(0, s),   g0 = E g(z),   g1(s) = E[z g(z)]/s,

first for φ on z = cᵀF/sqrt(D), then for σ on h = W x/sqrt(N0):

    Σ_x = φ1 φ1ᵀ∘FᵀF/D,  diagonal E φ² - φ0²;      Σ_h = W Σ_x Wᵀ/N0
    Ω = σ1 σ1ᵀ∘Σ_h,      diagonal E σ² - σ0²;      τ = σ1∘W (φ1∘Fᵀθ)/(D sqrt(N0)).

Exact for linear φ and σ. Otherwise it drops products of the higher Hermite coefficients of two
units with powers of their correlation, and the Gaussian law of sums: both are small if W and F are
generic and N0, D are large. Sources: Goldt et al. (2020, 2022); Gerace et al. (2020, 2022);
Loureiro et al. (2021) for measured covariances of any features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.data.manifold import CorrelatedHiddenManifold
from tlnb.kernels import Activation, get_activation
from tlnb.theory.readout.covariates import GaussianCovariates
from tlnb.validation import check_choice, check_inputs, check_labels

Array = NDArray[np.float64]


class _Linearised(NamedTuple):
    """g(z) = constant + slope z + noise, for z of given variances; all of their shape."""

    slope: Array  # g1(s)
    variance: Array  # of g(z)

    @classmethod
    def of(cls, g: Activation, s: Array) -> _Linearised:
        """Of ``g`` at variances ``s``; a unit that is silent (s = 0) has slope 0."""
        g0, a1 = np.moveaxis(g.hermite_coefficients(s, 1), -1, 0)
        slope = np.divide(a1, np.sqrt(s), out=np.zeros_like(s), where=s > 0)
        # Not below the linear part's, whatever the rounding: covariances stay positive.
        return cls(slope, np.maximum(g.dual_diagonal(s, s, s) - g0**2, a1**2))

    def covariance(self, of_z: Array) -> Array:
        """Covariance of g(z), given that of z."""
        covariance = self.slope[:, None] * of_z * self.slope
        np.fill_diagonal(covariance, self.variance)
        return covariance


def analytic_covariates(
    manifold: CorrelatedHiddenManifold,
    first_layer: ArrayLike,
    *,
    activation: str | Activation | Callable[[Array], ArrayLike] = "erf",
    side: str = "target",
) -> GaussianCovariates:
    """Ω, τ and ρ_ν of features σ(W x/sqrt(N0)) of a hidden manifold, without any draw of inputs.

    Label noise enters as ρ_ν = θᵀθ/D + label_noise². Features that are not odd have a mean, which
    these covariances leave out: centre them, or fit an intercept, in simulations.

    Parameters
    ----------
    manifold : CorrelatedHiddenManifold
        Its nonlinearity φ must be odd.
    first_layer : array of shape (K, N0)
        W.
    activation : str, Activation or callable
        σ.
    side : "target" or "source"
        Whose F and θ.

    Raises
    ------
    ValueError, TypeError
        For a nonlinearity that is not odd (use `measured_covariates` there), a first layer of the
        wrong shape, an unknown activation or side.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import CorrelatedHiddenManifold
    >>> from tlnb.theory.readout.equivalence import analytic_covariates
    >>> manifold = CorrelatedHiddenManifold(60, 40, random_state=0)
    >>> W = np.random.default_rng(0).standard_normal((30, 60))
    >>> covariates = analytic_covariates(manifold, W, activation="erf")
    >>> covariates.n_features, bool(covariates.teacher_variance > 0)
    (30, True)
    """
    if not isinstance(manifold, CorrelatedHiddenManifold):
        raise TypeError(
            f"manifold must be a CorrelatedHiddenManifold, got {type(manifold).__name__}"
        )
    check_choice("side", side, ("target", "source"))
    half = manifold.target if side == "target" else manifold.source
    W = check_inputs(first_layer, "first_layer", half.n_features)
    σ, φ = get_activation(activation), half.nonlinearity
    z = np.linspace(0.1, 5, 25)  # not 0, where a sign may be either
    if not np.allclose(φ(-z), -φ(z), rtol=1e-9, atol=1e-12):
        raise ValueError(
            f"nonlinearity {φ.name!r} is not odd: its inputs have a mean, which the analytic "
            "covariances leave out; use measured_covariates on a large draw"
        )
    D, N0 = half.F.shape
    G = half.F.T @ half.F / D
    x = _Linearised.of(φ, np.diagonal(G))
    Σ_h = W @ x.covariance(G) @ W.T / N0
    u = _Linearised.of(σ, np.diagonal(Σ_h))
    Ω = u.covariance(0.5 * (Σ_h + Σ_h.T))
    τ = u.slope * (W @ (x.slope * (half.F.T @ half.theta))) / (D * np.sqrt(N0))
    return GaussianCovariates(Ω, τ, half.teacher_variance)


def measured_covariates(features: ArrayLike, field: ArrayLike) -> GaussianCovariates:
    """Sample moments about the mean: the only way for real data.

    The relative error of Ω is about sqrt(K/n) for K features that vary independently, less where
    a few directions dominate: draw many more examples than features. From one sample
    τᵀΩ⁻¹τ ≤ ρ_ν holds by itself. Label noise is not seen in a noiseless ``field``: add its
    variance to the teacher variance.

    Parameters
    ----------
    features : array of shape (n, K)
        u of n ≥ 2 unlabelled examples.
    field : array of shape (n,)
        ν of the same examples where a teacher is known, the raw labels ±1 otherwise.

    Raises
    ------
    ValueError, TypeError
        For fewer than two examples, labels of one class, wrong shapes, values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.readout.equivalence import measured_covariates
    >>> u = np.random.default_rng(0).standard_normal((5000, 4))
    >>> measured_covariates(u, u[:, 0]).teacher_covariance.round(1) + 0.0
    array([1., 0., 0., 0.])
    """
    u = check_inputs(features, "features")
    ν = check_labels(field, len(u), "field")
    if len(u) < 2:
        raise ValueError("features must hold at least 2 examples to have a covariance, got 1")
    if ν.min() == ν.max():
        raise ValueError(f"field must hold two different values, got {ν[0]:g} only: one class")
    mean, ν = u.mean(axis=0), ν - ν.mean()
    Ω, τ = np.zeros((u.shape[1], u.shape[1])), np.zeros(u.shape[1])
    for part in chunks(len(u), u.shape[1]):
        centred = u[part] - mean
        Ω += centred.T @ centred
        τ += centred.T @ ν[part]
    return GaussianCovariates(Ω / len(u), τ / len(u), float(ν @ ν / len(u)))


class CovarianceError(NamedTuple):
    """Relative errors in Frobenius norm: of Ω, and of τ."""

    feature: float
    teacher: float


def covariance_error(
    covariates: GaussianCovariates, reference: GaussianCovariates
) -> CovarianceError:
    """‖Ω - Ω_ref‖/‖Ω_ref‖ and ‖τ - τ_ref‖/‖τ_ref‖.

    A reference measured on n examples has an error of its own: that of two independent halves,
    halved, is about what remains where the covariates are right.

    Raises
    ------
    ValueError
        For different numbers of features, or a reference that is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.theory.glm import GaussianCovariates
    >>> from tlnb.theory.readout.equivalence import covariance_error
    >>> reference = GaussianCovariates(np.eye(4), np.full(4, 0.2), teacher_variance=1.0)
    >>> other = GaussianCovariates(1.1 * np.eye(4), np.full(4, 0.2), teacher_variance=1.0)
    >>> print(f"{covariance_error(other, reference).feature:.2f}")
    0.10
    """
    pairs = (
        (covariates.feature_covariance, reference.feature_covariance),
        (covariates.teacher_covariance, reference.teacher_covariance),
    )
    if pairs[0][0].shape != pairs[0][1].shape:
        raise ValueError(
            f"reference must have {len(pairs[1][0])} features like covariates, "
            f"got {len(pairs[1][1])}"
        )
    if not all(np.any(b) for _, b in pairs):
        raise ValueError("reference must not be zero: there is no error relative to it")
    return CovarianceError(*(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs))
