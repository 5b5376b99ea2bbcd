r"""Training of both layers of a network, or of its readout alone.

Both layers are trained by minimising

    Σ_μ ℓ(y_μ, f(x_μ)) + (λ/2) (‖a‖² + ‖W‖²),   ℓ = log(1 + e^(-yf)) or ½ (y - f)²,

or the readout alone, a convex problem, by Σ_μ ℓ + (λ/2)‖a‖²: the objective of the replica theory.
No intercept is ever fitted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from tlnb._renamed import renamed_arguments
from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.kernels import Activation
from tlnb.networks.losses import LOSSES, check_labels_for
from tlnb.networks.two_layer import TwoLayerNetwork, check_network
from tlnb.validation import check_choice, check_count, check_positive, check_seed

Array = NDArray[np.float64]
DIVERGED = "diverged; lower learning_rate (Adam), or scale inputs and labels to order 1"


class TrainedNetwork(NamedTuple):
    """A trained network: that of the best epoch of the best restart.

    The best epoch has the least validation loss, or without validation the least objective.
    Objectives are sums over examples with the penalty, losses means of an example without it.
    The histories, of shape (epochs + 1,), hold the start and the end of each epoch; those of the
    validation loss are NaN without a validation task. ``gradient`` is the largest entry of the
    objective's gradient, ``converged`` whether it is below the tolerance.

    Examples
    --------
    >>> from tlnb import CorrelatedHiddenManifold
    >>> from tlnb.networks import train_two_layer
    >>> source = CorrelatedHiddenManifold(40, 20, random_state=0).sample_source(200, rng=1)
    >>> trained = train_two_layer(source, width=10, regularization=0.3)
    >>> bool(trained.objective_history[-1] < trained.objective_history[0])
    True
    """

    network: TwoLayerNetwork
    objective: float
    train_loss: float
    validation_loss: float
    best_epoch: int
    objective_history: Array
    validation_history: Array
    gradient: float
    converged: bool


class Objective:
    """Σ_μ ℓ(y_μ, f(x_μ)) + (λ/2)(‖a‖² + ‖W‖²) with its gradient, at flat parameters (W, a)."""

    def __init__(self, network: TwoLayerNetwork, task: Task, loss: str, penalty: float) -> None:
        self.network, self.loss, self.penalty = network, loss, penalty
        self.X, self.y = task.X / np.sqrt(task.n_features), task.y

    def unpack(self, parameters: Array) -> TwoLayerNetwork:
        """Return the network of these parameters."""
        W, a = np.split(parameters.copy(), [-self.network.width])
        return replace(self.network, first_layer=W.reshape(self.network.width, -1), readout=a)

    def __call__(
        self, parameters: Array, batch: slice | NDArray[np.intp] = slice(None)
    ) -> tuple[float, Array]:
        """Value and gradient, the sum over a ``batch`` scaled up to all examples."""
        X, y, K = self.X[batch], self.y[batch], self.network.width
        W, a = parameters[:-K].reshape(K, -1), parameters[-K:]
        readout, scale = a / np.sqrt(K), len(self.y) / len(y)
        h = X @ W.T
        U = self.network.activation(h) - self.network.feature_mean
        f, loss = U @ readout, LOSSES[self.loss]
        slope = loss.slope(y, f)
        back = self.network.activation.derivative(h) * slope[:, None]
        gradient = self.penalty * parameters
        gradient[:-K] += (scale * readout[:, None] * (back.T @ X)).ravel()
        gradient[-K:] += scale / np.sqrt(K) * (slope @ U)
        value = scale * loss(y, f).sum() + 0.5 * self.penalty * (parameters @ parameters)
        return value, gradient


@dataclass
class _Watch:
    """Follows one training: its history, the best parameters, and whether to go on."""

    objective: Objective
    validation: Task | None
    patience: int
    bar: tqdm
    values: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best: Array = field(default_factory=lambda: np.empty(0))
    best_score: float = np.inf

    def __call__(self, parameters: Array, value: float) -> bool:
        """Note an epoch; False once ``patience`` epochs have brought nothing better."""
        epoch, held_out = len(self.values), np.nan
        if not np.isfinite(value):
            raise ConvergenceError(f"objective {value} in epoch {epoch}: training {DIVERGED}")
        if self.validation is not None:
            held_out = self.objective.unpack(parameters).loss(self.validation, self.objective.loss)
        self.values.append(float(value))
        self.losses.append(held_out)
        self.bar.update(epoch > 0)
        scores = self.values if self.validation is None else self.losses
        if epoch == 0 or scores[epoch] < self.best_score:
            self.best_epoch, self.best, self.best_score = epoch, parameters.copy(), scores[epoch]
        return self.validation is None or epoch - self.best_epoch < self.patience


@renamed_arguments(seed="rng")
def train_two_layer(
    task: Task,
    *,
    width: int | None = None,
    activation: str | Activation | Callable[..., Any] = "erf",
    loss: str = "logistic",
    regularization: float = 0.01,
    optimizer: str = "lbfgs",
    learning_rate: float = 0.01,
    batch_size: int = 32,
    epochs: int = 200,
    tolerance: float = 1e-5,
    validation: Task | None = None,
    patience: int = 20,
    initial: TwoLayerNetwork | None = None,
    restarts: int = 1,
    rng: int | np.random.Generator = 0,
    progress: bool = False,
) -> TrainedNetwork:
    """Train both layers on ``task``.

    Parameters
    ----------
    width, activation
        Of a network that starts at standard normal weights; not needed with ``initial``.
    loss : {"logistic", "square"}
        Logistic needs labels ±1 of both classes.
    regularization : float
        λ > 0, the weight decay of both layers.
    optimizer : {"lbfgs", "adam"}
        L-BFGS takes all examples at once and has no learning rate; an epoch is one iteration. Adam
        (Kingma and Ba, 2015) goes through shuffled batches of ``batch_size`` examples.
    tolerance : float
        Training has converged where no entry of the gradient is larger; L-BFGS ends there.
    validation : Task, optional
        Early stopping: training ends when ``patience`` epochs have not lowered the loss on it, and
        the network of the best epoch, the start included, is returned.
    initial : TwoLayerNetwork, optional
        Start from this network: fine-tuning. Its activation and feature means stay.
    restarts : int
        Trainings from independent starts (with Adam: and shuffles); the best one is returned.
    rng : int or Generator
        Of starts and shuffles.

    Raises
    ------
    ValueError, TypeError
        For arguments other than these, and labels of one class.
    ConvergenceError
        If the objective ceases to be finite, or ends far above that of a network that is zero.

    Examples
    --------
    >>> from tlnb import CorrelatedHiddenManifold
    >>> from tlnb.networks import train_two_layer
    >>> source = CorrelatedHiddenManifold(40, 20, random_state=0).sample_source(200, rng=1)
    >>> trained = train_two_layer(source, width=10, regularization=0.3)
    >>> trained.network.width, bool(trained.network.error(source) < 0.4)
    (10, True)
    """
    check_choice("loss", loss, ("logistic", "square"))
    check_choice("optimizer", optimizer, ("lbfgs", "adam"))
    n_features = None if initial is None else check_network("initial", initial).n_features
    check_labels_for("task", task, loss, n_features)
    if validation is not None:
        check_labels_for("validation", validation, loss, task.n_features, classes=1)
    penalty = check_positive("regularization", regularization)
    rate = check_positive("learning_rate", learning_rate)
    size, epochs = check_count("batch_size", batch_size), check_count("epochs", epochs)
    tolerance, patience = check_positive("tolerance", tolerance), check_count("patience", patience)
    seed, restarts = check_seed("rng", rng), check_count("restarts", restarts)
    watches = []
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        for restart in range(restarts):
            # A key of its own: no stream of data that are drawn with the same seed.
            own = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(restart, 2)))
            start = initial or TwoLayerNetwork.random(
                check_count("width", width), task.n_features, activation=activation, rng=own
            )
            objective = Objective(start, task, loss, penalty)
            x = np.append(start.first_layer, start.readout)
            with tqdm(total=epochs, desc="training", disable=not progress, leave=False) as bar:
                watches.append(_Watch(objective, validation, patience, bar))
                if optimizer == "lbfgs":
                    _lbfgs(objective, x, watches[-1], epochs, tolerance)
                else:
                    _adam(objective, x, watches[-1], epochs, rate, size, own)
        watch = min(watches, key=lambda watch: watch.best_score)
        value, gradient = watch.objective(watch.best)
    network, slope = watch.objective.unpack(watch.best), float(abs(gradient).max())
    best = watch.best_epoch
    means = network.loss(task, loss), watch.losses[best]
    found = float(value), *means, best, np.array(watch.values), np.array(watch.losses)
    return TrainedNetwork(network, *found, slope, slope <= tolerance)


def _lbfgs(objective: Objective, x: Array, watch: _Watch, epochs: int, tolerance: float) -> None:
    def callback(intermediate_result: OptimizeResult) -> None:
        if not watch(intermediate_result.x, intermediate_result.fun):
            raise StopIteration

    watch(x, objective(x)[0])
    options = {"maxiter": epochs, "maxfun": 20 * epochs, "gtol": tolerance, "ftol": 0, "maxcor": 20}
    minimize(objective, x, jac=True, method="L-BFGS-B", callback=callback, options=options)


def _adam(
    objective: Objective,
    x: Array,
    watch: _Watch,
    epochs: int,
    rate: float,
    size: int,
    rng: np.random.Generator,
) -> None:
    n, step = len(objective.y), 0
    first, second = np.zeros_like(x), np.zeros_like(x)
    go_on = watch(x, objective(x)[0])
    while go_on and len(watch.values) <= epochs:
        order = rng.permutation(n)
        for batch in np.split(order, range(size, n, size)):
            step += 1
            gradient = objective(x, batch)[1] / n
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
            x = x - rate * mean / (np.sqrt(square) + 1e-8)
        go_on = watch(x, objective(x)[0])
    before, after = watch.values[0], watch.values[-1]
    if after > 10 * max(before, objective(np.zeros_like(x))[0]):
        raise ConvergenceError(f"objective {before:.3g} to {after:.3g}: training {DIVERGED}")


def train_readout(
    network: TwoLayerNetwork, task: Task, *, regularization: float, loss: str = "logistic"
) -> TwoLayerNetwork:
    """Return the network with the readout that minimises Σ_μ ℓ(y_μ, f(x_μ)) + (λ/2)‖a‖².

    By scikit-learn's convex solvers on the features divided by sqrt(K), without intercept:
    LogisticRegression with C = 1/λ, Ridge with alpha = λ, LinearSVC(loss="hinge") with C = 1/λ.
    Features that are not odd: see `TwoLayerNetwork.centred`.

    Parameters
    ----------
    regularization : float
        λ > 0.
    loss : {"logistic", "square", "hinge"}
        Logistic and hinge need labels ±1 of both classes.

    Raises
    ------
    ValueError, TypeError
        For arguments other than these, and labels of one class.
    ConvergenceError
        If the solver does not arrive.

    Examples
    --------
    >>> from tlnb import CorrelatedHiddenManifold
    >>> from tlnb.networks import TwoLayerNetwork, train_readout
    >>> task = CorrelatedHiddenManifold(40, 20, random_state=0).sample_target(200, rng=1)
    >>> network = TwoLayerNetwork.random(30, 40, rng=2)
    >>> fitted = train_readout(network, task, regularization=0.1)
    >>> bool(fitted.error(task) < 0.4)
    True
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.svm import LinearSVC

    check_choice("loss", loss, LOSSES)
    check_labels_for("task", task, loss, check_network("network", network).n_features)
    penalty = check_positive("regularization", regularization)
    options: dict[str, Any] = {"fit_intercept": False, "random_state": 0}
    if loss == "logistic":
        options |= {"solver": "newton-cholesky", "tol": 1e-9, "max_iter": 1000}
        model = LogisticRegression(C=1 / penalty, **options)
    elif loss == "square":
        model = Ridge(alpha=penalty, fit_intercept=False)
    else:
        model = LinearSVC(C=1 / penalty, loss="hinge", tol=1e-6, max_iter=100_000, **options)
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(network.features(task.X) / np.sqrt(network.width), task.y)
    if messages := [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]:
        advice = "raise regularization, or use loss='square'"
        raise ConvergenceError(f"readout at regularization={penalty:g}: {messages[0]}; {advice}")
    return replace(network, readout=model.coef_.ravel())
