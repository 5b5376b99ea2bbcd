r"""Two-layer networks trained on data, and what of a source they hand on to a target.

f(x) = K^(-1/2) Σ_k a_k [σ(w_k·x/sqrt(N0)) - μ_k], with first layer W (K, N0), readout a (K,) and
feature means μ (K,), zero unless asked for. Both layers are trained by minimising

    Σ_μ ℓ(y_μ, f(x_μ)) + (λ/2) (‖a‖² + ‖W‖²),   ℓ = log(1 + e^(-yf)) or ½ (y - f)²,

or the readout alone, a convex problem, by Σ_μ ℓ + (λ/2)‖a‖²: the objective of the replica theory.
There the features are centred. Those of an odd σ on symmetric inputs are; for others,
`TwoLayerNetwork.centred` subtracts their mean over unlabelled inputs. No intercept is ever fitted.

Four protocols on a target, as in Gerace et al. (2022): TF, the source's first layer and a new
readout; RF, a random first layer; 2L, both layers trained from scratch; fTF, both layers trained
from the network of TF.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from tlnb.activations import Activation, get_activation
from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.validation import (
    check_choice,
    check_count,
    check_inputs,
    check_labels,
    check_positive,
    check_rng,
    read_only,
)

Array = NDArray[np.float64]
PROTOCOLS = ("TF", "RF", "2L", "fTF")
TRAINING = ("optimizer", "batch_size", "epochs", "tolerance", "patience", "restarts", "progress")
DIVERGED = "diverged; lower learning_rate (Adam), or scale inputs and labels to order 1"
LOSSES = {  # ℓ and its derivative in f
    "logistic": lambda y, f: (np.logaddexp(0, -y * f), -y * expit(-y * f)),
    "square": lambda y, f: (0.5 * (y - f) ** 2, f - y),
    "hinge": lambda y, f: (np.maximum(0, 1 - y * f), np.where(y * f < 1, -y, 0.0)),
}


@dataclass(frozen=True, eq=False)
class TwoLayerNetwork:
    """f(x) = K^(-1/2) Σ_k a_k [σ(w_k·x/sqrt(N0)) - μ_k]; its arrays are read-only copies.

    Parameters
    ----------
    first_layer : array of shape (K, N0)
    readout : array of shape (K,), optional
        Zero by default.
    activation : str, Activation or callable
    feature_mean : array of shape (K,), optional
        μ, subtracted from the features; zero by default.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, values that are not finite, an unknown activation.
    """

    first_layer: Array
    readout: Array | None = None
    activation: str | Activation | Callable = "erf"
    feature_mean: Array | None = None

    def __post_init__(self) -> None:
        W = check_inputs(self.first_layer, "first_layer")
        object.__setattr__(self, "first_layer", read_only(W))
        object.__setattr__(self, "activation", get_activation(self.activation))
        for name in ("readout", "feature_mean"):
            value = getattr(self, name)
            value = np.zeros(len(W)) if value is None else check_labels(value, len(W), name)
            object.__setattr__(self, name, read_only(value))

    @classmethod
    def random(
        cls,
        width: int,
        n_features: int,
        *,
        activation: str | Activation | Callable = "erf",
        seed: int | np.random.SeedSequence | np.random.Generator,
    ) -> TwoLayerNetwork:
        """Return a network of standard normal weights in both layers."""
        K, N0 = check_count("width", width), check_count("n_features", n_features)
        rng = check_rng("seed", seed)
        return cls(rng.standard_normal((K, N0)), rng.standard_normal(K), activation)

    @property
    def width(self) -> int:
        """K, the number of hidden units."""
        return len(self.first_layer)

    def features(self, X: ArrayLike) -> Array:
        """σ(X Wᵀ/sqrt(N0)) - μ of shape (n, K) at inputs ``X`` (n, N0)."""
        N0 = self.first_layer.shape[1]
        X = check_inputs(X, n_features=N0)
        return self.activation(X @ self.first_layer.T / np.sqrt(N0)) - self.feature_mean

    def __call__(self, X: ArrayLike) -> Array:
        return self.features(X) @ self.readout / np.sqrt(self.width)

    def centred(self, X: ArrayLike) -> TwoLayerNetwork:
        """Return the network whose features have mean zero over the inputs ``X`` (n, N0)."""
        return replace(self, feature_mean=self.feature_mean + self.features(X).mean(0))

    def loss(self, task: Task, loss: str = "logistic") -> float:
        """Return the mean loss of an example, without the penalty."""
        check_choice("loss", loss, LOSSES)
        _check_task("task", task, loss, classes=1)
        return float(LOSSES[loss](task.y, self(task.X))[0].mean())

    def error(self, task: Task) -> float:
        """Return the fraction of wrong signs if the labels are ±1, else the mean square error."""
        f = self(check_task("task", task).X)
        if _is_binary(task.y):
            return float((task.y * f <= 0).mean())
        return float(((task.y - f) ** 2).mean())


class TrainedNetwork(NamedTuple):
    """A trained network: that of the best epoch of the best restart.

    The best epoch has the least validation loss, or without validation the least objective.
    Objectives are sums over examples with the penalty, losses means of an example without it.
    The histories, of shape (epochs + 1,), hold the start and the end of each epoch; those of the
    validation loss are NaN without a validation task. ``gradient`` is the largest entry of the
    objective's gradient, ``converged`` whether it is below the tolerance.
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


class Protocol(NamedTuple):
    """What a protocol arrived at: the network with the least validation error of its candidates."""

    network: TwoLayerNetwork
    regularization: float
    learning_rate: float  # NaN where there is none
    validation_error: float


class Objective:
    """Σ_μ ℓ(y_μ, f(x_μ)) + (λ/2)(‖a‖² + ‖W‖²) with its gradient, at flat parameters (W, a)."""

    def __init__(self, network: TwoLayerNetwork, task: Task, loss: str, penalty: float) -> None:
        self.network, self.loss, self.penalty = network, loss, penalty
        self.X, self.y = task.X / np.sqrt(task.n_features), task.y

    def unpack(self, parameters: Array) -> TwoLayerNetwork:
        """Return the network of these parameters."""
        W, a = np.split(parameters.copy(), [-self.network.width])
        return replace(self.network, first_layer=W.reshape(self.network.width, -1), readout=a)

    def __call__(self, parameters: Array, batch: slice | Array = slice(None)) -> tuple:
        """Value and gradient, the sum over a ``batch`` scaled up to all examples."""
        X, y, K = self.X[batch], self.y[batch], self.network.width
        W, a = parameters[:-K].reshape(K, -1), parameters[-K:]
        readout, scale = a / np.sqrt(K), len(self.y) / len(y)
        h = X @ W.T
        U = self.network.activation(h) - self.network.feature_mean
        losses, slope = LOSSES[self.loss](y, U @ readout)
        back = self.network.activation.derivative(h) * slope[:, None]
        gradient = self.penalty * parameters
        gradient[:-K] += (scale * readout[:, None] * (back.T @ X)).ravel()
        gradient[-K:] += scale / np.sqrt(K) * (slope @ U)
        value = scale * losses.sum() + 0.5 * self.penalty * (parameters @ parameters)
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


def train_two_layer(
    task: Task,
    *,
    width: int | None = None,
    activation: str | Activation | Callable = "erf",
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
    seed: int = 0,
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

    Raises
    ------
    ValueError, TypeError
        For arguments other than these, and labels of one class.
    ConvergenceError
        If the objective ceases to be finite, or ends far above that of a network that is zero.
    """
    check_choice("loss", loss, ("logistic", "square"))
    check_choice("optimizer", optimizer, ("lbfgs", "adam"))
    _check_task("task", task, loss, None if initial is None else _inputs_of("initial", initial))
    if validation is not None:
        _check_task("validation", validation, loss, task.n_features, classes=1)
    penalty = check_positive("regularization", regularization)
    rate = check_positive("learning_rate", learning_rate)
    size, epochs = check_count("batch_size", batch_size), check_count("epochs", epochs)
    tolerance, patience = check_positive("tolerance", tolerance), check_count("patience", patience)
    seed, restarts = check_count("seed", seed, least=0), check_count("restarts", restarts)
    watches = []
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        for restart in range(restarts):
            # A key of its own: no stream of data that are drawn with the same seed.
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(restart, 2)))
            options = {"activation": activation, "seed": rng}
            start = initial or TwoLayerNetwork.random(width, task.n_features, **options)
            objective = Objective(start, task, loss, penalty)
            x = np.append(start.first_layer, start.readout)
            with tqdm(total=epochs, desc="training", disable=not progress, leave=False) as bar:
                watches.append(_Watch(objective, validation, patience, bar))
                if optimizer == "lbfgs":
                    _lbfgs(objective, x, watches[-1], epochs, tolerance)
                else:
                    _adam(objective, x, watches[-1], epochs, rate, size, rng)
        watch = min(watches, key=lambda watch: watch.best_score)
        value, gradient = watch.objective(watch.best)
    network, slope = watch.objective.unpack(watch.best), float(abs(gradient).max())
    best = watch.best_epoch
    means = network.loss(task, loss), watch.losses[best]
    found = float(value), *means, best, np.array(watch.values), np.array(watch.losses)
    return TrainedNetwork(network, *found, slope, slope <= tolerance)


def _lbfgs(objective: Objective, x: Array, watch: _Watch, epochs: int, tolerance: float) -> None:
    def callback(intermediate_result) -> None:
        if not watch(intermediate_result.x, intermediate_result.fun):
            raise StopIteration

    watch(x, objective(x)[0])
    options = {"maxiter": epochs, "maxfun": 20 * epochs, "gtol": tolerance, "ftol": 0, "maxcor": 20}
    minimize(objective, x, jac=True, method="L-BFGS-B", callback=callback, options=options)


def _adam(objective: Objective, x: Array, watch: _Watch, epochs: int, rate: float, size: int, rng):
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
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.svm import LinearSVC

    check_choice("loss", loss, LOSSES)
    _check_task("task", task, loss, _inputs_of("network", network))
    penalty = check_positive("regularization", regularization)
    options = {"fit_intercept": False, "random_state": 0}
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


def compare_protocols(
    source: TwoLayerNetwork,
    target: Task,
    validation: Task,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    loss: str = "logistic",
    regularizations: Sequence[float] = (0.01, 0.1, 0.3, 1.0, 10.0),
    learning_rates: Sequence[float] = (0.003, 0.03),
    readout_regularizations: Sequence[float] | None = None,
    centre_on: ArrayLike | None = None,
    seed: int = 0,
    **training,
) -> dict[str, Protocol]:
    """Train the target by each protocol, every one tuned on the validation task.

    Of each protocol the candidate with the least validation error is kept: one for each
    regularisation, and with ``optimizer="adam"`` and both layers trained for each learning rate
    too. Trainings of both layers stop early on the validation task.

    Parameters
    ----------
    source : TwoLayerNetwork
        The network trained on the source. RF and 2L have its width and activation.
    protocols : sequence of "TF", "RF", "2L", "fTF"
    regularizations, learning_rates, readout_regularizations : sequence of float
        The candidates, each > 0. Of readouts, which are cheap, it may be a longer list; None: the
        same.
    centre_on : array of shape (n, N0), optional
        Unlabelled inputs over which the features of TF and RF are centred.
    seed : int
        Of the random first layer and of the starts.
    training
        Of `train_two_layer`, for 2L and fTF: optimizer, batch_size, epochs, tolerance, patience,
        restarts, progress.

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As of `train_readout` and `train_two_layer`; of a divergence only if every candidate of
        a protocol diverges.
    """
    if unknown := set(training) - set(TRAINING):
        raise TypeError(f"training must be among {', '.join(TRAINING)}, got {sorted(unknown)}")
    _check_task("target", target, loss, _inputs_of("source", source))
    _check_task("validation", validation, loss, target.n_features, classes=1)
    for protocol in protocols:
        check_choice("protocols", protocol, PROTOCOLS)
    of_readouts = regularizations if readout_regularizations is None else readout_regularizations
    if not (len(regularizations) and len(of_readouts) and len(learning_rates)):
        raise ValueError("regularizations and learning_rates must hold a candidate, got none")
    states = np.random.SeedSequence(check_count("seed", seed, least=0)).generate_state(2)
    fixed = {"width": source.width, "activation": source.activation}
    random = TwoLayerNetwork.random(**fixed, n_features=target.n_features, seed=int(states[0]))
    frozen = {"TF": source, "RF": random}
    if centre_on is not None:
        frozen = {name: network.centred(centre_on) for name, network in frozen.items()}
    fixed |= {"validation": validation, "seed": int(states[1])} | training
    found: dict[str, Protocol] = {}
    for protocol in dict.fromkeys([*(["TF"] if "fTF" in protocols else []), *protocols]):
        start = found["TF"].network if protocol == "fTF" else None
        adam = protocol not in frozen and training.get("optimizer") == "adam"
        penalties = of_readouts if protocol in frozen else regularizations
        candidates = []
        for penalty, rate in product(penalties, learning_rates if adam else [np.nan]):
            options = {"regularization": penalty, "loss": loss}
            with suppress(ConvergenceError):
                if protocol in frozen:
                    network = train_readout(frozen[protocol], target, **options)
                else:
                    options |= fixed | ({"learning_rate": rate} if adam else {})
                    network = train_two_layer(target, initial=start, **options).network
                errors = network.error(validation), network.loss(validation, loss)
                candidates.append((*errors, Protocol(network, penalty, rate, errors[0])))
        if not candidates:
            raise ConvergenceError(f"no candidate of protocol {protocol} converged")
        found[protocol] = min(candidates, key=lambda candidate: candidate[:2])[2]
    return {protocol: found[protocol] for protocol in protocols}


def _is_binary(y: Array) -> bool:
    return bool((abs(y) == 1).all())


def _check_task(
    name: str, task: object, loss: str, n_features: int | None = None, classes: int = 2
) -> None:
    y = check_task(name, task, n_features).y
    if loss != "square" and not _is_binary(y):
        raise ValueError(f"{name}.y must hold labels ±1 for loss={loss!r}, got {y[:5]}")
    if loss != "square" and len(np.unique(y)) < classes:
        raise ValueError(f"{name}.y must hold labels of both classes, all are {y[0]:+g}")


def _inputs_of(name: str, network: object) -> int:
    if not isinstance(network, TwoLayerNetwork):
        raise TypeError(f"{name} must be a TwoLayerNetwork, got {type(network).__name__}")
    return network.first_layer.shape[1]
