r"""One task with C outputs at its saddle point: the predictor and what else follows.

At the matrix Q the network's outputs are Gaussian processes with the kernel Q⊗K and noise T. In the
eigenbasis Q = R diag(q) Rᵀ they do not feel each other: the rotated outputs (yR)_a are predicted as
by a network of one output with the factor q_a, and rotated back,

    mean        Σ_a R_ca q_a k(x)ᵀ (T + q_a K)⁻¹ (yR)_a
    covariance  R diag[q_a k(x, x) - q_a² k(x)ᵀ (T + q_a K)⁻¹ k(x)] Rᵀ.

Q is the mean overlap of readouts, (λ1/N1) ⟨vᵀv⟩ with v of shape (N1, C). Kernels are those of
readout precision one, as in `tlnb.theory.one_task.solution`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.theory.one_task.kernel import NetworkKernel, TestKernel
from tlnb.theory.outputs.prediction import (
    OutputsLeaveOneOut,
    OutputsPrediction,
    in_parts,
    leave_one_out,
    outputs_prediction,
)
from tlnb.theory.outputs.saddle import LeastAction

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutputsSolution:
    """The saddle point of one task with C outputs and what follows from it.

    Attributes
    ----------
    width, temperature, readout_precision : N1, T and λ1.
    overlap : how Q was restricted; see `solve`.
    Q : array of shape (C, C), the order parameter (λ1/N1) ⟨vᵀv⟩.
    action : A(Q); without the first term at infinite width.
    log_evidence : leading order of ln ∫ Π N(y | f, T) over normalised priors.
    train_error : ⟨(y - f)²⟩ averaged over the training examples and outputs.
    residual, iterations, converged : of the solver; the residual is undamped.
    competing : (Q, action) of every other minimum that was met, lowest action first.
    """

    width: float
    temperature: float
    readout_precision: float
    overlap: str
    Q: Array
    action: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    competing: tuple[tuple[Array, float], ...]
    _kernel: NetworkKernel = field(repr=False)
    _basis: tuple[Array, Array] = field(repr=False)  # q (C,) and R (C, C)
    _projections: Array = field(repr=False)  # Uᵀy R sqrt(λ1), (P, C)

    @classmethod
    def at(
        cls,
        saddle: LeastAction,
        kernel: NetworkKernel,
        projections: Array,
        *,
        width: float,
        temperature: float,
        readout_precision: float,
        overlap: str,
    ) -> OutputsSolution:
        """What follows from a saddle point in the units of the readouts' prior."""
        unit_temperature = temperature * readout_precision
        z = projections @ saddle.R
        e = kernel.factor.eigenvalues[:, None]
        G = unit_temperature + e * saddle.q
        prior = 0.0 if np.isinf(width) else width * len(saddle.q)
        action = saddle.action - G.size * np.log(readout_precision)
        # Thermal fluctuations and squared residuals of the training outputs.
        errors = unit_temperature * saddle.q * e / G + (unit_temperature / G * z) ** 2
        return cls(
            width,
            temperature,
            readout_precision,
            overlap,
            saddle.Q,
            action,
            log_evidence=-0.5 * (action - prior + G.size * np.log(2 * np.pi)),
            train_error=float(np.mean(errors)) / readout_precision,
            residual=saddle.residual,
            iterations=saddle.iterations,
            converged=True,
            competing=saddle.competing,
            _kernel=kernel,
            _basis=(saddle.q, saddle.R),
            _projections=z,
        )

    @property
    def n_outputs(self) -> int:
        """C."""
        return len(self.Q)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> OutputsPrediction:
        """Mean and covariance of the outputs at inputs ``X`` (n, N0), errors given ``y`` (n, C).

        Memory is bounded: the test points are taken in chunks.
        """
        P, N0 = self._kernel.X.shape
        numbers = 3 * P + 3 * self.n_outputs**2
        return in_parts(
            X,
            y,
            N0,
            self.n_outputs,
            numbers,
            lambda X, y: self.outcome(self._kernel.against(X), y),
        )

    def outcome(self, test: TestKernel, y: Array | None = None) -> OutputsPrediction:
        """The prediction where the kernel with the new inputs is known already."""
        q, R = self._basis
        share = q / self.noise()  # q_a (T + q_a K)⁻¹ in the eigenbasis, (P, C)
        mean = test.V.T @ (share * self._projections) @ R.T / np.sqrt(self.readout_precision)
        variance = q * (test.k[:, None] - test.V_squared.T @ share) / self.readout_precision
        covariance = (R * np.maximum(variance, 0.0)[:, None, :]) @ R.T
        return outputs_prediction(mean, covariance, np.zeros_like(covariance), y)

    def leave_one_out(self) -> OutputsLeaveOneOut:
        """What the network would say of each training example had it not seen it, at the same Q.

        An example is left out with all its outputs: see `tlnb.theory.outputs.prediction`.
        """
        R, G, factor = self._basis[1], self.noise(), self._kernel.factor
        solved = factor.eigenvectors @ (self._projections / G) @ R.T
        diagonal = factor.squared_eigenvectors @ (1 / G)
        blocks = (R * diagonal[:, None, :]) @ R.T
        unit_temperature = self.temperature * self.readout_precision
        return leave_one_out(solved, blocks, 0.0, unit_temperature, self.readout_precision)

    def eigenvalues(self) -> Array:
        """q (C,) of Q."""
        return self._basis[0]

    def rotation(self) -> Array:
        """R (C, C), whose columns are the eigenvectors of Q."""
        return self._basis[1]

    def projections(self) -> Array:
        """The labels (P, C) in the eigenbases of K and Q, in units of the readouts' prior."""
        return self._projections

    def noise(self) -> Array:
        """T + e_k q_a, of shape (P, C), in the same units."""
        unit_temperature = self.temperature * self.readout_precision
        return unit_temperature + self._kernel.factor.eigenvalues[:, None] * self._basis[0]
