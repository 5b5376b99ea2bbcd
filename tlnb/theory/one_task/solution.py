r"""One task at its saddle point: the predictor and what else follows.

At the order parameter Q the network predicts as a Gaussian process with kernel Q K and noise T,

    mean      Q k(x)ᵀ (T + Q K)⁻¹ y
    variance  Q k(x, x) - Q² k(x)ᵀ (T + Q K)⁻¹ k(x),

and Q is the mean squared readout, (λ1/N1) ⟨‖v‖²⟩. Source: Pacelli et al. (2023).

Kernels are those of readout precision one: the labels are measured in units of the readouts'
prior, sqrt(λ1) y at temperature λ1 T, and outputs go back by 1/sqrt(λ1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.theory.leave_one_out import LeaveOneOut, leave_one_out
from tlnb.theory.one_task.kernel import NetworkKernel, TestKernel
from tlnb.theory.one_task.saddle import LeastAction
from tlnb.theory.prediction import Prediction, in_parts, prediction

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ProportionalSolution:
    """The saddle point of one task and what follows from it.

    Attributes
    ----------
    width, temperature, readout_precision : N1, T and λ1.
    Q : the order parameter (λ1/N1) ⟨‖v‖²⟩, which renormalises the kernel.
    action : A(Q); without the first term at infinite width.
    log_evidence : leading order of ln ∫ Π N(y | f, T) over normalised priors.
    train_error : ⟨(y - f)²⟩ averaged over the training examples.
    residual, iterations, converged : of the solver; the residual is undamped.
    competing : (Q, action) of every other minimum of the action, lowest action first.

    Examples
    --------
    The error of a network drawn from the posterior is that of the mean, and the variance:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.one_task import solve
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> solution = solve(Task(X[:20], X[:20, 0]), width=20, temperature=0.1)
    >>> outcome = solution.predict(X[20:], X[20:, 0])
    >>> parts = outcome.squared_bias + outcome.total_variance
    >>> bool(solution.Q > 1), np.allclose(outcome.test_error, parts)
    (True, True)
    """

    width: float
    temperature: float
    readout_precision: float
    Q: float
    action: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    competing: tuple[tuple[float, float], ...]
    _kernel: NetworkKernel = field(repr=False)
    _projections: Array = field(repr=False)  # Uᵀy sqrt(λ1)

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
    ) -> ProportionalSolution:
        """What follows from a saddle point in the units of the readouts' prior."""
        unit_temperature = temperature * readout_precision
        G = kernel.factor.noise(saddle.Q, unit_temperature)
        prior = 0.0 if np.isinf(width) else width
        action = saddle.action - len(G) * np.log(readout_precision)
        # Thermal fluctuations and squared residuals of the training outputs.
        errors = unit_temperature * saddle.Q * kernel.factor.eigenvalues / G
        errors += (unit_temperature / G * projections) ** 2
        return cls(
            width,
            temperature,
            readout_precision,
            saddle.Q,
            action,
            log_evidence=-0.5 * (action - prior + len(G) * np.log(2 * np.pi)),
            train_error=float(np.mean(errors)) / readout_precision,
            residual=saddle.residual,
            iterations=saddle.iterations,
            converged=True,
            competing=saddle.competing,
            _kernel=kernel,
            _projections=projections,
        )

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variance of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        P, N0 = self._kernel.X.shape
        return in_parts(
            X,
            y,
            N0,
            lambda n: chunks(n, 3 * P),
            lambda X, y: self.outcome(self._kernel.against(X), y),
        )

    def leave_one_out(self) -> LeaveOneOut:
        """What the network would say of each training example had it not seen it, at the same Q.

        No refit is needed: see `tlnb.theory.leave_one_out`.
        """
        unit_temperature = self.temperature * self.readout_precision
        factor = self._kernel.factor.shifted(self.Q, unit_temperature)
        solved = factor.from_projections(self._projections)
        diagonal = factor.inverse_diagonal()
        return leave_one_out(solved, diagonal, 0.0, unit_temperature, self.readout_precision)

    def outcome(self, test: TestKernel, y: Array | None) -> Prediction:
        """The prediction where the kernel with the new inputs is known already."""
        G = self._kernel.factor.noise(self.Q, self.temperature * self.readout_precision)
        share = self.Q / G  # Q (T + Q K)⁻¹ in the eigenbasis
        mean = (share * self._projections) @ test.V / np.sqrt(self.readout_precision)
        variance = self.Q * (test.k - share @ test.V_squared) / self.readout_precision
        return prediction(mean, np.maximum(variance, 0.0), np.zeros_like(mean), y)
