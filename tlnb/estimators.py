"""scikit-learn faces of the theory: one task, and transfer from a source task.

Both predict the mean output of networks drawn from the posterior, in pipelines, grid searches and
cross-validation; ``decompose`` gives the variances and errors, ``order_parameters_`` the saddle.
Labels of shape (P, C) are those of C outputs that share the hidden layer (`tlnb.theory.outputs`):
means and deviations are then (n, C), and order parameters matrices.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from tlnb.data.outputs import MultiOutputTask
from tlnb.data.task import Task
from tlnb.kernels import Activation
from tlnb.theory import one_task, outputs, transfer, unit_law
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.one_task import LargeSolution
from tlnb.theory.large.one_task import solve as solve_large
from tlnb.theory.large.problem import SOLVERS, is_iterative, transfer_problem
from tlnb.theory.prediction import Prediction
from tlnb.theory.unit_law import TransferLawProblem
from tlnb.validation import check_choice

Array = NDArray[np.float64]


class OneTaskOrderParameters(NamedTuple):
    """Q = (λ1/N1)⟨‖v‖²⟩, a matrix for several outputs."""

    Q: float | Array


class TransferOrderParameters(NamedTuple):
    """Readout overlaps of source and target, see `tlnb.theory.transfer.TransferSolution`."""

    Q_s: float | Array
    Q_t: float | Array
    Q_st: float | Array
    Q_tt: float | Array


class _Solution(Protocol):
    """What any theory gives."""

    def predict(
        self, X: ArrayLike, y: ArrayLike | None = None
    ) -> Prediction | outputs.OutputsPrediction:
        """Mean, variances and, given labels, errors at inputs ``X`` (n, N0)."""
        ...


class _NetworkRegressor(RegressorMixin, BaseEstimator):
    """What both estimators do once the theory is solved."""

    solution_: _Solution
    _single: bool

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _task(self, X: ArrayLike, y: ArrayLike) -> Task | MultiOutputTask:
        given = {"dtype": np.float64, "y_numeric": True, "multi_output": True}
        X, y = validate_data(self, X, y, **given)
        self._single = np.ndim(y) == 1
        return Task(X, y) if self._single else MultiOutputTask(X, y)

    def _predict(
        self, X: ArrayLike, y: ArrayLike | None = None
    ) -> Prediction | outputs.OutputsPrediction:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self.solution_.predict(X, y)

    def predict(self, X: ArrayLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Mean output at inputs ``X`` (n, N0); with ``return_std`` also its standard deviation.

        Both have the shape of the labels, (n,) or (n, C). The deviation is that of the network's
        output, without the noise T.
        """
        outcome = self._predict(X)
        mean, deviation = outcome.mean, np.sqrt(outcome.total_variance)
        if self._single and mean.ndim == 2:  # after a source of several outputs
            mean, deviation = mean[:, 0], deviation[:, 0]
        return (mean, deviation) if return_std else mean

    def decompose(
        self, X: ArrayLike, y: ArrayLike | None = None
    ) -> Prediction | outputs.OutputsPrediction:
        """Mean, variances and, given labels ``y``, errors at inputs ``X`` (n, N0)."""
        return self._predict(X, y)


def _alone(
    task: Task | MultiOutputTask,
    theory: str,
    rng: int | np.random.Generator | None,
    solver: str,
    parameters: dict[str, Any],
) -> (
    one_task.ProportionalSolution
    | LargeSolution
    | unit_law.UnitLawSolution
    | outputs.OutputsSolution
):
    """The solution of one task by either theory."""
    check_choice("theory", theory, transfer.THEORIES)
    iterative = is_iterative(solver, task.n_examples)
    if isinstance(task, MultiOutputTask):
        _check_several(theory, iterative, task.n_examples)
        return outputs.solve(task, **parameters)
    if theory == "unit-law":
        return unit_law.solve(task, rng=rng, **parameters)
    if iterative:
        return solve_large(task, options=LargeOptions(rng=rng), **parameters)
    return one_task.solve(task, **parameters)


def _check_several(theory: str, iterative: bool, n_examples: int) -> None:
    if theory != "scalar":
        raise ValueError(f"theory must be 'scalar' with several outputs, got {theory!r}")
    if iterative:
        raise ValueError(
            "solver must be 'dense' with several outputs, whose order parameters are matrices, got "
            f"{n_examples} examples for the iterative one: fit one output at a time (of classes, "
            "one against the rest, with sklearn.multiclass.OneVsRestClassifier), or let the "
            "regressor decompose the kernel"
        )


class RenormalizedGPRegressor(_NetworkRegressor):
    """One network of finite width: a Gaussian process with a kernel renormalised by the data.

    Parameters
    ----------
    width : float, default=200
        N1 ≥ 1; ``numpy.inf`` is the infinite-width Gaussian process.
    activation : str, Activation or callable, default="erf"
        "linear", "erf", "relu", "tanh", "gelu", "sign", or any vectorised function.
    temperature : float, default=0.01
        T > 0 of the posterior, the noise variance of the Gaussian process.
    weight_precision, readout_precision : float, default=1.0
        λ0 and λ1, > 0.
    richness : float, optional
        λ1/N1 instead of ``readout_precision``: a grid over widths then compares equally rich ones.
    theory : {"scalar", "unit-law"}, default="scalar"
        One order parameter, or the whole law of a hidden unit by particles
        (`tlnb.theory.unit_law`): slower, and right on real images.
    rng : int or Generator, default=0
        Of the particles, and of the iterative solver.
    solver : {"auto", "dense", "iterative"}, default="auto"
        How the kernel is dealt with: iteratively above 12,000 examples, see `tlnb.theory.large`.

    Attributes
    ----------
    order_parameters_ : NamedTuple (Q,)
    log_evidence_ : float
    solution_ : tlnb.theory.one_task.ProportionalSolution
    n_features_in_ : int

    Notes
    -----
    Inputs are used as they are: scale them to mean ``|x|²/N0`` of about 1. Errors and warnings are
    those of `tlnb.theory.one_task.solve`. Source: Pacelli et al. (2023).

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import RenormalizedGPRegressor
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> model = RenormalizedGPRegressor(width=20, temperature=0.1).fit(X[:30], X[:30, 0])
    >>> mean, std = model.predict(X[30:], return_std=True)
    >>> mean.shape, bool((std > 0).all())
    ((10,), True)
    """

    def __init__(
        self,
        width: float = 200,
        activation: str | Activation = "erf",
        temperature: float = 0.01,
        weight_precision: float = 1.0,
        readout_precision: float = 1.0,
        richness: float | None = None,
        theory: str = "scalar",
        rng: int | np.random.Generator | None = 0,
        solver: str = "auto",
    ) -> None:
        self.width = width
        self.activation = activation
        self.temperature = temperature
        self.weight_precision = weight_precision
        self.readout_precision = readout_precision
        self.richness = richness
        self.theory = theory
        self.rng = rng
        self.solver = solver

    def fit(self, X: ArrayLike, y: ArrayLike) -> RenormalizedGPRegressor:
        """Solve the saddle point for inputs ``X`` (P, N0) and labels ``y``, (P,) or (P, C)."""
        parameters = self.get_params()
        theory, rng = parameters.pop("theory"), parameters.pop("rng")
        solver, task = parameters.pop("solver"), self._task(X, y)
        self.solution_ = solution = _alone(task, theory, rng, solver, parameters)
        self.order_parameters_ = OneTaskOrderParameters(solution.Q)
        self.log_evidence_ = solution.log_evidence
        return self


class TransferGPRegressor(_NetworkRegressor):
    """A network whose hidden weights are coupled to those of a network trained on a source task.

    Parameters
    ----------
    width : float, default=200
        N1 ≥ 1 of both networks, ``numpy.inf`` allowed.
    coupling : float, "leave-one-out" or "evidence", default=1.0
        γ from 0 (from scratch) to ``numpy.inf`` (frozen source features). "leave-one-out" takes
        the coupling of least leave-one-out error on the training data, "evidence" the one of
        largest log evidence.
    activation : str, Activation or callable, default="erf"
    temperature, weight_precision, readout_precision : float
        T, λ0 and λ1 of the target, > 0.
    source_temperature, source_weight_precision, source_readout_precision : float, optional
        Those of the source; None: as the target's.
    coupling_scheme : {"elastic", "variance-preserving"}, default="elastic"
    richness, source_richness : float, optional
        λ1/N1 instead of the readout precisions.
    theory : {"scalar", "unit-law"}, default="scalar"
    rng : int or Generator, default=0
        As in `RenormalizedGPRegressor`; "unit-law" takes no coupling "evidence".
    solver : {"auto", "dense", "iterative"}, default="auto"
        How the source's kernel is dealt with: iteratively above 12,000 examples, see
        `tlnb.theory.transfer.coupling_sweep`.

    Attributes
    ----------
    order_parameters_ : NamedTuple (Q_s, Q_t, Q_st, Q_tt); without a source Q_s is NaN
    coupling_ : float, the coupling in use; 0 without a source
    log_evidence_ : float
    solution_ : the solution object of `tlnb.theory.transfer` (or `.one_task` without a source)
    n_features_in_ : int

    Notes
    -----
    The source is handed over as one `Task`, which no cross-validation slices:
    ``GridSearchCV(TransferGPRegressor(), {"coupling": [0, 1, inf]}).fit(X, y, source=task)``. In a
    pipeline the steps before this one transform ``X`` alone: hand over a source whose inputs went
    through the same transformation. Errors and warnings are those of `tlnb.theory.transfer.solve`.
    Source: Ingrosso et al. (2025).

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task, TransferGPRegressor
    >>> X = np.random.default_rng(0).standard_normal((60, 5))
    >>> source = Task(X[:40], X[:40, 0])
    >>> model = TransferGPRegressor(width=20, coupling=10.0, temperature=0.1)
    >>> model.fit(X[40:50], X[40:50, 0], source=source).predict(X[50:]).shape
    (10,)
    """

    def __init__(
        self,
        width: float = 200,
        coupling: float | str = 1.0,
        activation: str | Activation = "erf",
        temperature: float = 0.01,
        weight_precision: float = 1.0,
        readout_precision: float = 1.0,
        source_temperature: float | None = None,
        source_weight_precision: float | None = None,
        source_readout_precision: float | None = None,
        coupling_scheme: str = "elastic",
        richness: float | None = None,
        source_richness: float | None = None,
        theory: str = "scalar",
        rng: int | np.random.Generator | None = 0,
        solver: str = "auto",
    ) -> None:
        self.width = width
        self.coupling = coupling
        self.activation = activation
        self.temperature = temperature
        self.weight_precision = weight_precision
        self.readout_precision = readout_precision
        self.source_temperature = source_temperature
        self.source_weight_precision = source_weight_precision
        self.source_readout_precision = source_readout_precision
        self.coupling_scheme = coupling_scheme
        self.richness = richness
        self.source_richness = source_richness
        self.theory = theory
        self.rng = rng
        self.solver = solver

    def fit(
        self, X: ArrayLike, y: ArrayLike, source: Task | MultiOutputTask | None = None
    ) -> TransferGPRegressor:
        """Solve the saddle point for target inputs ``X`` (P_t, N0), their labels ``y``, a source.

        Labels are of shape (P_t,), or (P_t, C) with any number of outputs of the source. Without a
        source the target is trained from scratch.
        """
        target = self._task(X, y)
        parameters = self.get_params()
        width, coupling = parameters.pop("width"), parameters.pop("coupling")
        theory, rng = parameters.pop("theory"), parameters.pop("rng")
        solver = check_choice("solver", parameters.pop("solver"), SOLVERS)
        # A parameter out of range is an error with or without a source.
        transfer.check_coupling(coupling)
        priors = transfer.Priors(**parameters)
        problem: TransferLawProblem | transfer.TransferProblem | outputs.OutputsTransferProblem
        if source is None:
            shared = set(RenormalizedGPRegressor().get_params()) - {"theory", "rng", "solver"}
            alone = {name: getattr(self, name) for name in shared}
            self.solution_ = scratch = _alone(target, theory, rng, solver, alone)
            order = TransferOrderParameters(np.nan, scratch.Q, 0.0, 0.0)
            self.coupling_, self.log_evidence_ = 0.0, scratch.log_evidence
        else:
            check_choice("theory", theory, transfer.THEORIES)
            if isinstance(target, MultiOutputTask) or isinstance(source, MultiOutputTask):
                n_examples = source.n_examples
                _check_several(theory, is_iterative(solver, n_examples), n_examples)
                problem = outputs.OutputsTransferProblem(source, target, **parameters)
            elif theory == "unit-law":
                problem = TransferLawProblem(source, target, rng=rng, **parameters)
            else:
                problem = transfer_problem(source, target, priors, solver, LargeOptions(rng=rng))
            self.solution_ = solution = problem.solve(width=width, coupling=coupling)
            order = TransferOrderParameters(
                solution.Q_s, solution.Q_t, solution.Q_st, solution.Q_tt
            )
            self.coupling_, self.log_evidence_ = solution.coupling, solution.log_evidence
        self.order_parameters_ = order
        return self
