r"""One task learnt by a deep network: kernels, layer factors, predictor.

With K the nested kernel of L layers and R = Π_l Q_l of `tlnb.theory.deep.source`, the network
predicts as a Gaussian process with kernel R K and noise T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.data.task import Task, check_task
from tlnb.kernels import Activation, gram, squared_norms
from tlnb.priors import OneTaskOptions, Priors, check_options
from tlnb.theory.deep.nested import Layers, nested_kernel, through_layers
from tlnb.theory.deep.source import SourceSaddle, source_saddle
from tlnb.theory.factors import Eigenbasis
from tlnb.theory.leave_one_out import LeaveOneOut, leave_one_out
from tlnb.theory.prediction import Prediction, in_parts, prediction
from tlnb.validation import check_count, check_positive, check_width

Array = NDArray[np.float64]


def check_widths(widths: Sequence[float], depth: int | None = None) -> tuple[float, ...]:
    """Return the widths (N_1, ..., N_L) of a network, each ≥ 1 or infinite.

    Raises
    ------
    TypeError, ValueError
        For what is not a sequence of widths, or not one of ``depth`` of them.
    """
    if isinstance(widths, str) or not np.iterable(widths):
        raise TypeError(f"widths must be a sequence (N_1, ..., N_L), got {widths!r}")
    widths = tuple(check_width(width, "widths") for width in widths)
    if not widths or depth not in (None, len(widths)):
        wanted = "at least one" if depth is None else str(depth)
        raise ValueError(f"widths must hold {wanted} hidden layer(s), got {len(widths)}")
    return widths


class DeepProcess(NamedTuple):
    """The Gaussian process of a wide deep network, with the inputs it is trained on.

    ``variances`` holds the variance of a weight of each hidden layer. Kernels do not carry the
    readouts' precision.
    """

    X: Array
    activation: Activation
    variances: tuple[float, ...]

    def train_kernel(self) -> Array:
        """K of shape (P, P)."""
        own = self.layers(self.X).variances
        return nested_kernel(self.activation, gram(self.X), own, own, self.variances)

    def projected(self, X: Array, factor: Eigenbasis) -> tuple[Array, Array]:
        """UᵀK of shape (P, n) against new inputs (n, N0), and their K(x, x) (n,)."""
        own, new = self.layers(self.X), self.layers(X)
        args = gram(self.X, X), own.variances, new.variances, self.variances
        return factor.projections(nested_kernel(self.activation, *args)), new.diagonal

    def layers(self, X: Array) -> Layers:
        """The variances of the units of each layer at inputs (n, N0)."""
        pairs = [(c, c) for c in self.variances]
        return through_layers(self.activation, squared_norms(X), pairs)


@dataclass(frozen=True, eq=False)
class DeepSolution:
    """The saddle point of one task and what follows from it.

    Attributes
    ----------
    widths, temperature : (N_1, ..., N_L) and T.
    Q : array of shape (L,), the factor by which each layer rescales the kernel. The last one is the
        order parameter of the readouts, (λ1/N_L)⟨‖v‖²⟩.
    R : their product, which multiplies the nested kernel.
    action : the action at the saddle; infinite layers have no term of their own.
    log_evidence : leading order of ln ∫ Π N(y | f, T) over normalised priors.
    train_error : ⟨(y - f)²⟩ averaged over the training examples.
    residual, iterations, converged : of the solver; the residual is undamped.
    competing : (R, action) of every other minimum of the action, lowest action first.
    """

    widths: tuple[float, ...]
    temperature: float
    Q: Array
    R: float
    action: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    competing: tuple[tuple[float, float], ...]
    _precision: float = field(repr=False)
    _factor: Eigenbasis = field(repr=False)
    _projections: Array = field(repr=False)
    _process: DeepProcess = field(repr=False)

    def leave_one_out(self) -> LeaveOneOut:
        """What the network would say of each training example had it not seen it.

        The factors Q_l are held and no refit is needed: see `tlnb.theory.leave_one_out`.
        """
        factor = self._factor.shifted(self.R / self._precision, self.temperature)
        solved = factor.from_projections(self._projections)
        return leave_one_out(solved, factor.inverse_diagonal(), 0.0, self.temperature)

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variance of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        P, N0 = self._process.X.shape
        return in_parts(X, y, N0, lambda n: chunks(n, 3 * P), self._outcome)

    def _outcome(self, X: Array, y: Array | None) -> Prediction:
        R = self.R / self._precision
        share = R / self._factor.noise(R, self.temperature)
        V, prior = self._process.projected(X, self._factor)
        mean = (share * self._projections) @ V
        variance = np.maximum(R * (prior - share @ V**2), 0.0)
        return prediction(mean, variance, np.zeros_like(mean), y)


class DeepOneTaskProblem:
    """One task and the priors of a network of ``depth`` hidden layers: what all widths share.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    priors : Priors, optional
        Activation, temperature and precisions, that of the weights being the same in all hidden
        layers. Or, as keywords:
    depth : int
        L ≥ 1.
    variances : sequence of L floats, optional
        Prior variances of a weight of each hidden layer, instead of 1/λ0.
    **options
        activation, temperature, weight_precision, readout_precision or richness (λ1/N_L): see
        `Priors`.

    Examples
    --------
    The kernel is decomposed once for all widths; wide layers leave it as it is:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.deep import DeepOneTaskProblem
    >>> X = np.random.default_rng(0).standard_normal((20, 5))
    >>> problem = DeepOneTaskProblem(Task(X, X[:, 0]), depth=2, temperature=0.1)
    >>> [round(problem.solve(widths=(N, N)).R, 2) for N in (10, 1000, np.inf)]
    [..., 1.0]
    """

    def __init__(
        self,
        task: Task,
        priors: Priors | None = None,
        *,
        depth: int,
        variances: Sequence[float] | None = None,
        **options: Unpack[OneTaskOptions],
    ) -> None:
        self.task = check_task("task", task)
        self.priors = priors = check_priors(type(self).__name__, priors, options)
        self.depth = check_count("depth", depth)
        variances = [1 / priors.weight_precision] * depth if variances is None else variances
        self.process = DeepProcess(task.X, priors.activation, tuple(variances))
        self.factor = Eigenbasis.of(self.process.train_kernel())
        self.projections = self.factor.projections(task.y)

    def readout_precision(self, widths: tuple[float, ...]) -> float:
        """λ1 at these widths."""
        return self.priors.at_width(widths[-1]).readout_precision

    def saddle(self, widths: tuple[float, ...]) -> SourceSaddle:
        """The stationary point of least action."""
        precision, T = self.readout_precision(widths), self.priors.temperature
        self.factor.check_resolution(T, precision)
        e, y2 = self.factor.eigenvalues / precision, self.projections**2
        return source_saddle(e, y2, widths=np.array(widths), temperature=T)

    def solve(self, *, widths: Sequence[float]) -> DeepSolution:
        """The saddle point at these widths (N_1, ..., N_L), infinity allowed.

        Raises
        ------
        ValueError, TypeError
            For widths outside what is allowed.
        ConvergenceError
            If the residual of the stationarity equation is above 1e-9.

        Warns
        -----
        CompetingSaddlesWarning
            If the action has further minima.
        """
        widths = check_widths(widths, self.depth)
        found, T = self.saddle(widths), self.priors.temperature
        precision = self.readout_precision(widths)
        signal = found.R * self.factor.eigenvalues / precision
        constant = sum(width for width in widths if np.isfinite(width))
        return DeepSolution(
            widths,
            T,
            found.Q,
            found.R,
            found.action,
            log_evidence=-0.5 * (found.action - constant + len(signal) * np.log(2 * np.pi)),
            train_error=float(
                np.mean((T / (T + signal) * self.projections) ** 2 + T * signal / (T + signal))
            ),
            residual=found.residual,
            iterations=found.iterations,
            converged=True,
            competing=found.competing,
            _precision=precision,
            _factor=self.factor,
            _projections=self.projections,
            _process=self.process,
        )


def check_priors(name: str, priors: Priors | None, options: Mapping[str, Any]) -> Priors:
    """The priors given as such or as keywords, not both."""
    if priors is not None and options:
        raise TypeError(f"{name}() takes priors or keywords for them, got both")
    return Priors.of(name, options) if priors is None else priors


def layer_precisions(
    priors: Priors,
    depth: int,
    given: Sequence[float] | None,
    *,
    of_source: bool = False,
    follow: Sequence[float] | None = None,
) -> tuple[float, ...]:
    """λ0 of each hidden layer: as given, or else of the target's layers, or else of the priors.

    Raises
    ------
    ValueError, TypeError
        For another number of them, and what is not > 0; beside a precision of the priors.
    """
    name = "source_weight_precision" if of_source else "weight_precision"
    common = getattr(priors, name)
    own = common != (priors.weight_precision if of_source else 1.0)
    if given is None:
        if own or follow is None:
            return (common,) * depth
        return layer_precisions(priors, depth, follow)
    if own:
        raise ValueError(f"give {name} or {name}s, got {common:g} and {given!r}")
    if isinstance(given, str) or not np.iterable(given):
        raise TypeError(f"{name}s must be a sequence of {depth} numbers > 0, got {given!r}")
    precisions = tuple(check_positive(f"{name}s", value) for value in given)
    if len(precisions) != depth:
        raise ValueError(f"{name}s must hold {depth} of them, one a layer, got {len(precisions)}")
    return precisions


def solve_one_task(
    task: Task,
    *,
    widths: Sequence[float],
    weight_precisions: Sequence[float] | None = None,
    **priors: Unpack[OneTaskOptions],
) -> DeepSolution:
    """The saddle point of one task learnt by a network of hidden layers (N_1, ..., N_L).

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    widths : sequence of float
        N_l ≥ 1 from the input up; a layer of infinite width only maps kernels.
    weight_precisions : sequence of float, optional
        λ0 of each hidden layer, where they differ.
    **priors
        activation, temperature, weight_precision (of every hidden layer), readout_precision or
        richness (λ1/N_L): see `Priors`.

    Examples
    --------
    The narrow layer is stretched more, in proportion to 1/N:

    >>> from tlnb import Task
    >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [3.0, -2.0])
    >>> Q = solve_one_task(task, widths=(10, 100), temperature=0.1).Q
    >>> round(float((Q[0] - 1) / (Q[1] - 1)), 6)
    10.0

    Raises and warns as `DeepOneTaskProblem.solve` does.
    """
    check_options("solve_one_task", priors, OneTaskOptions)
    widths = check_widths(widths)
    own = Priors(**priors)
    variances = [1 / each for each in layer_precisions(own, len(widths), weight_precisions)]
    problem = DeepOneTaskProblem(task, own, depth=len(widths), variances=variances)
    return problem.solve(widths=widths)
