"""The map whose fixed point is the trained readout, and what follows from a point of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, owens_t

from tlnb.theory.readout.covariates import GaussianCovariates
from tlnb.theory.readout.losses import LEARNED, Learned, Loss
from tlnb.theory.readout.nodes import gaussian_nodes

Array = NDArray[np.float64]
Labels = Literal["sign", "linear"]


class Overlaps(NamedTuple):
    """Of the student's field: its response to a pull, its variance, its covariance with ν."""

    V: float
    q: float
    m: float


class Conjugates(NamedTuple):
    """The pull of all examples on the readout: what `Overlaps` are conjugate to."""

    V_hat: float
    q_hat: float
    m_hat: float


@dataclass(frozen=True)
class ReplicaMap:
    """The two halves of the fixed-point map at one sample ratio and regularisation.

    `overlaps` is what a Gaussian readout makes of a pull, `conjugates` how hard the examples pull;
    a fixed point is where one undoes the other.

    Examples
    --------
    At a fixed point each half undoes the other:

    >>> import numpy as np
    >>> from tlnb.theory.glm import GaussianCovariates, solve
    >>> from tlnb.theory.readout.fixed_point import ReplicaMap
    >>> covariates = GaussianCovariates(np.eye(20), np.full(20, 0.2), teacher_variance=1.0)
    >>> solution = solve(covariates, sample_ratio=2.0, regularization=0.5, loss="square")
    >>> at = ReplicaMap(covariates, 2.0, 0.5, "square", "sign")
    >>> pulled = at.overlaps(*solution.conjugates)
    >>> np.allclose(pulled, [solution.V, solution.q, solution.m])
    True
    """

    covariates: GaussianCovariates
    sample_ratio: float
    regularization: float
    loss: Loss
    labels: Labels

    def overlaps(self, V_hat: float, q_hat: float, m_hat: float) -> Overlaps:
        """V, q, m of a readout under the pull of all examples: always those of a Gaussian."""
        e, t2 = self.covariates.eigenvalues, self.covariates.squared_projections
        r = 1 / (self.regularization + V_hat * e)
        er = e * r
        q = q_hat * np.mean(er * er) + m_hat**2 * (t2 * er) @ r
        return Overlaps(float(np.mean(er)), float(q), float(m_hat * (t2 @ r)))

    def norm(self, V_hat: float, q_hat: float, m_hat: float) -> float:
        """‖a‖²/K."""
        e, t2 = self.covariates.eigenvalues, self.covariates.squared_projections
        r = 1 / (self.regularization + V_hat * e)
        return float(q_hat * np.mean(e * r * r) + m_hat**2 * (t2 @ (r * r)))

    def conjugates(self, V: float, q: float, m: float) -> Conjugates:
        """V̂, q̂, m̂, the pull of all examples on a readout of these overlaps; NaN if impossible."""
        if not (0 < V < np.inf and 0 < q < np.inf):
            return Conjugates(np.nan, np.nan, np.nan)
        if self.loss == "square":
            variance, slope = self._label_moments()
            pull = self.sample_ratio / (1 + V)
            return Conjugates(pull, pull * (variance - 2 * slope * m + q) / (1 + V), pull * slope)
        Z, dZ, learned = self._at_nodes(V, q, m)
        means = -Z @ learned.slope, Z @ learned.pull**2, dZ @ learned.pull
        return Conjugates(*(2 * self.sample_ratio * float(mean) for mean in means))

    def train_loss(self, V: float, q: float, m: float) -> float:
        """Mean loss of the training examples."""
        if self.loss == "square":
            variance, slope = self._label_moments()
            return (variance - 2 * slope * m + q) / (1 + V) ** 2 / 2
        Z, _, learned = self._at_nodes(V, q, m)
        return 2 * float(Z @ learned.loss)

    def errors(self, V: float, q: float, m: float) -> tuple[float, float]:
        """Test and training error."""
        if self.labels == "linear":
            error = self.covariates.teacher_variance - 2 * m + q
            return error, error / (1 + V) ** 2
        border = -V / 2 if self.loss == "logistic" else -V  # the margin that is moved to zero
        threshold = np.array([0.0, border / np.sqrt(q)])
        below = ndtr(threshold) - 2 * owens_t(threshold, self._teacher_given_student(q, m)[1])
        test_error, train_error = below.tolist()
        return test_error, train_error

    def _label_moments(self) -> tuple[float, float]:
        """E[y²], and E[y ω]/m."""
        rho = self.covariates.teacher_variance
        return (rho, 1.0) if self.labels == "linear" else (1.0, float(np.sqrt(2 / (np.pi * rho))))

    def _teacher_given_student(self, q: float, m: float) -> tuple[float, float]:
        """Variance of ν given ω, and its mean in units of its spread, for each unit of ξ."""
        rho = self.covariates.teacher_variance
        variance = max(rho - m**2 / q, 1e-15 * rho)
        return variance, m / np.sqrt(q * variance)

    def _at_nodes(self, V: float, q: float, m: float) -> tuple[Array, Array, Learned]:
        """Z and ∂Z, times the nodes' weights, and the proximal map at the nodes, for y = 1."""
        V0, steepness = self._teacher_given_student(q, m)
        xi, weights = gaussian_nodes(V, q, steepness, self.loss)
        dZ = np.exp(-((steepness * xi) ** 2) / 2) / np.sqrt(2 * np.pi * V0)
        learned = LEARNED[self.loss](np.sqrt(q) * xi, V)
        return weights * ndtr(steepness * xi), weights * dZ, learned

    def residual(self, hats: Array) -> float:
        """Largest relative change of V, q, m under one undamped step of the map."""
        old = np.array(self.overlaps(*hats))
        new = np.array(self.overlaps(*self.conjugates(*old)))
        return float(np.max(np.abs(new - old) / np.where(old > 0, old, 1.0)))
