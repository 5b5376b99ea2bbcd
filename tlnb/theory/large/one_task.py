r"""One task of many examples: its saddle point, evidence and predictor without a decomposition.

The formulas of `tlnb.theory.one_task`, with G = T + Q K solved iteratively for the labels and for
each new input; Tr G⁻¹, its diagonal and ln det G come with their standard errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.kernels import InnerProducts, dual_diagonal, squared_norms
from tlnb.priors import OneTaskOptions, Priors, check_options
from tlnb.theory.large.iterative import solve as solve_equation
from tlnb.theory.large.kernel import LargeKernel, LargeOptions
from tlnb.theory.large.source import EstimatedSaddle, log_evidence, source_saddle
from tlnb.theory.large.traces import inverse_diagonals, inverse_trace
from tlnb.theory.leave_one_out import LeaveOneOut, leave_one_out
from tlnb.theory.prediction import Prediction, in_parts, prediction
from tlnb.validation import check_width

Array = NDArray[np.float64]
LEFT_OUT_PROBES, GROUPS = 64, 8  # random vectors to begin with, and parts of them


class EstimatedLeaveOneOut(NamedTuple):
    """`tlnb.theory.leave_one_out.LeaveOneOut` from an estimated diagonal: arrays of shape (P,).

    ``error``: standard errors of ``test_error``; ``mean_error``: that of its mean.
    """

    residual: Array
    source_variance: Array
    total_variance: Array
    test_error: Array
    error: Array
    mean_error: float

    @classmethod
    def jackknifed(
        cls, left_out: Callable[[Array], LeaveOneOut], estimates: Array
    ) -> EstimatedLeaveOneOut:
        """From independent estimates (k, P) of the diagonal, by leaving out each of them.

        That gives the standard errors, and takes away what noise in the diagonal adds on average
        to functions of it that are not linear.
        """
        k, total = len(estimates), estimates.sum(axis=0)
        whole = left_out(total / k)
        others = [left_out((total - each) / (k - 1)) for each in estimates]
        columns = {}
        for name in LeaveOneOut._fields:
            without = np.mean([getattr(other, name) for other in others], axis=0)
            columns[name] = k * getattr(whole, name) - (k - 1) * without
        errors = np.array([other.test_error for other in others])
        spread, of_mean = ((k - 1) * part.var(axis=0) for part in (errors, errors.mean(axis=1)))
        return cls(**columns, error=np.sqrt(spread), mean_error=float(np.sqrt(of_mean)))


@dataclass(frozen=True, eq=False)
class LargeSolution:
    """The saddle point of one large task and what follows from it.

    Attributes
    ----------
    width, temperature, readout_precision : N1, T and λ1.
    Q, Q_error : the order parameter (λ1/N1) ⟨‖v‖²⟩ and its standard error.
    log_evidence, log_evidence_error : leading order, and the standard error at this Q.
    train_error : ⟨(y - f)²⟩ averaged over the training examples.
    """

    width: float
    temperature: float
    readout_precision: float
    Q: float
    Q_error: float
    log_evidence: float
    log_evidence_error: float
    train_error: float
    _kernel: LargeKernel = field(repr=False)
    _saddle: EstimatedSaddle = field(repr=False)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variance of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Variances are at most a fifth of the tolerance of Q k(x, x) too large.
        """
        columns = self._kernel.options.columns
        n_features = self._kernel.X.shape[1]
        return in_parts(X, y, n_features, lambda n: chunks(n, 1, columns), self._outcome)

    def leave_one_out(self) -> EstimatedLeaveOneOut:
        """What the network would say of each training example had it not seen it, at the same Q.

        As of smaller tasks (`tlnb.theory.leave_one_out`), but the diagonal of G⁻¹ is estimated from
        random vectors: every number has a standard error, and so has the mean test error, which is
        known much better.

        Raises
        ------
        ConvergenceError
            If the error of the mean stays above the tolerance.
        """
        kernel, equation = self._kernel, self._saddle.equation
        options, T = kernel.options, equation.temperature
        limits = 1 / (T + equation.Q * kernel.tiles.diagonal), 1 / T

        def left_out(diagonal: Array) -> LeaveOneOut:
            diagonal = np.clip(diagonal, *limits)
            return leave_one_out(self._saddle.alpha, diagonal, 0.0, T, self.readout_precision)

        n = min(max(options.n_probes, LEFT_OUT_PROBES), options.most_probes)
        n, estimates = GROUPS * (n // GROUPS), np.zeros((GROUPS, len(kernel.X)))
        before = 0
        while True:
            new = inverse_diagonals(equation, kernel.probes(n)[:, before:], GROUPS)
            estimates = (before * estimates + (n - before) * new) / n
            found = EstimatedLeaveOneOut.jackknifed(left_out, estimates)
            allowed = options.tolerance * (found.test_error.mean() + self.temperature)
            if found.mean_error <= allowed:
                return found
            if 2 * n > options.most_probes:
                raise ConvergenceError(
                    f"the left-out error {found.test_error.mean():.4g} has a standard error of "
                    f"{found.mean_error:.1e} with {n} random vectors, allowed {allowed:.1e}; take "
                    "more vectors (most_probes), more landmarks or a larger tolerance"
                )
            before, n = n, 2 * n

    def _outcome(self, X: Array, y: Array | None) -> Prediction:
        kernel, equation, Q = self._kernel, self._saddle.equation, self.Q
        c, activation = kernel.variance, kernel.activation
        K = InnerProducts.between(kernel.X, X).dual(activation, c, c, c)
        k = dual_diagonal(activation, squared_norms(X), c, c)
        allowed = kernel.options.tolerance / 5 * equation.temperature * k / Q
        found = solve_equation(equation, K, np.sqrt(np.maximum(allowed, 1e-12)))
        mean = self._saddle.alpha @ K + self._saddle.labels.residual[:, 0] @ found.X
        variance = np.maximum(Q * k - Q**2 * found.diagonal(K), 0.0)
        unit = self.readout_precision
        return prediction(Q * mean / np.sqrt(unit), variance / unit, np.zeros_like(k), y)


def solve(
    task: Task,
    *,
    width: float,
    options: LargeOptions | None = None,
    **priors: Unpack[OneTaskOptions],
) -> LargeSolution:
    """The saddle point of one large task.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    width : float
        N1 ≥ 1; ``numpy.inf`` is the Gaussian-process limit, Q = 1.
    options : LargeOptions, optional
    **priors
        Those of `tlnb.priors.Priors` for one task.

    Raises
    ------
    ConvergenceError
        If no minimum is found, or the error of Q stays above the tolerance.
    ValueError, TypeError
        For arguments outside what is allowed, and temperatures too low for float32 kernels.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory import one_task
    >>> from tlnb.theory.large.one_task import solve
    >>> X = np.random.default_rng(0).standard_normal((200, 10))
    >>> solution = solve(Task(X, X[:, 0]), width=50, temperature=0.1)
    >>> exact = one_task.solve(Task(X, X[:, 0]), width=50, temperature=0.1)
    >>> abs(solution.Q - exact.Q) < 3 * solution.Q_error < 3e-3
    True
    """
    check_options("solve", priors, OneTaskOptions)
    task, width = check_task("task", task), check_width(width)
    own = Priors(**priors).at_width(width)
    kernel = LargeKernel(
        task.X, own.activation, 1 / own.weight_precision, options or LargeOptions()
    )
    precision, P = own.readout_precision, task.n_examples
    T, y = own.temperature * precision, np.sqrt(precision) * task.y
    saddle = source_saddle(kernel, y, width=width, temperature=T)
    evidence = log_evidence(kernel, y, saddle, width=width)
    trace = saddle.trace.value
    if np.isnan(trace):  # at infinite width no saddle point had to be found
        probes = kernel.probes(kernel.options.n_probes)
        trace = inverse_trace(saddle.equation, kernel.moments, probes).value
    alpha = saddle.alpha
    train_error = T * (P - T * trace + T * float(alpha @ alpha)) / (P * precision)
    return LargeSolution(
        width,
        own.temperature,
        precision,
        saddle.Q,
        saddle.error,
        evidence.value + 0.5 * P * np.log(precision),
        evidence.error,
        train_error,
        kernel,
        saddle,
    )
