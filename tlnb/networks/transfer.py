r"""Real networks for what the theory says: trained at the mode of the posterior, alone or coupled.

The posterior at (T, λ0, λ1), coupled to a source's hidden weights w_s by γ, is largest where

    ½ Σ_μ (y_μ - f(x_μ))² + (Tλ1/2) ‖v‖² + (Tλ0/2) ‖w‖² + (Tγ/2) ‖w - w_s‖²

is least: square loss, weight decay in both layers, and an elastic pull towards the source which
practitioners know as L2-SP (Li et al. 2018). γ = 0 is training from scratch, γ = ∞ leaves the
source's features frozen and trains the readout alone, in between is fine-tuning. The weight decays
that other ways to write a network mean stand in `tlnb.networks.parametrisations`.

Given the hidden weights the best readout is that of a ridge regression. It is put in (variable
projection, Golub and Pereyra 1973), which leaves a function of the hidden weights alone,

    E(W) = ½ yᵀ(1 + ΦΦᵀ/c)⁻¹ y + (p/2) ‖W - b W_s‖²,
    c = Tλ1 N1,   p = T(λ0 + γ),   b = γ/(λ0 + γ),

up to a constant, with the gradient -(1/c) r rᵀΦ in the features, r = y - f. L-BFGS takes it from
there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from tlnb.data.task import Task, check_task
from tlnb.errors import ConvergenceError
from tlnb.networks.two_layer import TwoLayerNetwork, check_network
from tlnb.priors import PriorOptions, Priors, weight_covariances
from tlnb.validation import check_count, check_nonnegative, check_positive, check_seed

if TYPE_CHECKING:
    from pandas import DataFrame

Array = NDArray[np.float64]
WAYS = ("scratch", "frozen", "fine-tuned")


class Mode(NamedTuple):
    """A network at a mode of its posterior.

    ``objective`` is that of the module's first formula, ``gradient`` the largest entry of its
    gradient in the hidden weights (in the readouts it is zero), ``converged`` whether that is below
    the tolerance.
    """

    network: TwoLayerNetwork
    objective: float
    gradient: float
    iterations: int
    converged: bool


class ModeObjective:
    """E(W) and its gradient at flat hidden weights, the readout at its best.

    Parameters
    ----------
    network : TwoLayerNetwork
        Gives activation, feature means and width.
    task : Task
    readout_decay, hidden_decay : float
        Tλ1 and p.
    centre : array of shape (K, N0), or 0
        b W_s, towards which the hidden weights decay.
    """

    def __init__(
        self,
        network: TwoLayerNetwork,
        task: Task,
        readout_decay: float,
        hidden_decay: float,
        centre: Array | float = 0.0,
    ) -> None:
        self.network, self.y = network, task.y
        self.X = task.X / np.sqrt(task.n_features)
        self.scale, self.decay = readout_decay * network.width, hidden_decay
        self.centre = centre

    def best_readout(self, features: Array) -> tuple[Array, Array]:
        """Readouts (K,) that fit best on ``features`` (P, K), and what they leave, y - f (P,)."""
        Phi, c = features, self.scale
        if not np.isfinite(Phi).all():
            raise ConvergenceError(
                "training diverged: features are not finite; scale inputs to |x|²/N0 of order 1"
            )
        if len(Phi) <= Phi.shape[1]:
            M = Phi @ Phi.T
            M.flat[:: len(M) + 1] += c
            left = c * cho_solve(cho_factor(M, lower=True), self.y)
            readout = Phi.T @ left / c
        else:
            M = Phi.T @ Phi
            M.flat[:: len(M) + 1] += c
            readout = cho_solve(cho_factor(M, lower=True), Phi.T @ self.y)
            left = self.y - Phi @ readout
        return readout * np.sqrt(self.network.width), left

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        """Value and gradient in the hidden weights, readouts at their best."""
        W = parameters.reshape(self.network.width, -1)
        h = self.X @ W.T
        Phi = self.network.activation(h) - self.network.feature_mean
        readout, left = self.best_readout(Phi)
        away = W - self.centre
        value = 0.5 * left @ self.y + 0.5 * self.decay * (away**2).sum()
        slope = self.network.activation.derivative(h) * left[:, None]
        gradient = self.decay * away
        gradient -= (readout / np.sqrt(len(W)))[:, None] * (slope.T @ self.X)
        return float(value), gradient.ravel()

    def unpack(self, parameters: Array) -> TwoLayerNetwork:
        """Return the network of these hidden weights, with its best readout."""
        W = parameters.reshape(self.network.width, -1)
        network = replace(self.network, first_layer=W)
        Phi = self.network.activation(self.X @ W.T) - self.network.feature_mean
        return replace(network, readout=self.best_readout(Phi)[0])


def train_mode(
    task: Task,
    *,
    width: int | None = None,
    source: TwoLayerNetwork | None = None,
    coupling: float = 0.0,
    restarts: int = 1,
    iterations: int = 1000,
    tolerance: float = 1e-4,
    rng: int | np.random.Generator = 0,
    **priors: Unpack[PriorOptions],
) -> Mode:
    """Train a network to a mode of its posterior.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,), ±1 or real numbers.
    width : int, optional
        N1; with a source, the source's.
    source : TwoLayerNetwork, optional
        The network whose hidden weights the new ones are coupled to. Its activation and feature
        means stay.
    coupling : float
        γ from 0 to ``numpy.inf``; 0: the source is not used.
    restarts : int
        Trainings from independent starts, drawn from the prior; the best one is returned. With a
        coupling there is one start, the prior's centre b W_s.
    iterations : int
        Of L-BFGS, at most.
    tolerance : float
        Training has converged where no entry of the gradient is larger than this times P/sqrt(N0),
        what it would be for errors and features of order one.
    rng : int or Generator
        Of the starts.
    **priors
        Activation, T, λ0, λ1 or the richness, and the scheme of the coupling, as in
        `tlnb.priors.Priors`.

    Returns
    -------
    Mode

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If the features cease to be finite.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> task, at = Task(X, np.sign(X[:, 0])), {"temperature": 0.01, "readout_precision": 10.0}
    >>> alone = train_mode(task, width=10, **at)
    >>> tuned = train_mode(task, source=alone.network, coupling=1e6, **at)
    >>> bool(np.allclose(tuned.network(X), alone.network(X), atol=1e-3))
    True
    """
    allowed = Priors.of("train_mode", priors)
    coupling = check_nonnegative("coupling", coupling, allow_infinite=True)
    if source is not None:
        check_network("source", source)
        width = source.width if width is None else check_count("width", width)
        if width != source.width:
            raise ValueError(f"width must be the source's, {source.width}, got {width}")
    elif coupling > 0:
        raise ValueError(f"coupling must be 0 without a source network, got {coupling:g}")
    width = check_count("width", width)
    given = allowed.at_width(width)
    check_task("task", task, None if source is None else source.n_features)
    restarts, iterations = check_count("restarts", restarts), check_count("iterations", iterations)
    tolerance = check_positive("tolerance", tolerance)
    seed = check_seed("rng", rng)
    given.activation.derivative(np.zeros(1))  # a missing derivative is said now
    decay = given.temperature * given.readout_precision
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        if source is not None and coupling > 0:
            return _around(source, task, given, coupling, decay, iterations, tolerance)
        hidden = given.temperature * given.weight_precision
        found = []
        for restart in range(restarts):
            own = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(restart, 3)))
            W = own.standard_normal((width, task.n_features)) / np.sqrt(given.weight_precision)
            start = TwoLayerNetwork(W, activation=given.activation)
            found.append(
                _descend(ModeObjective(start, task, decay, hidden), W, iterations, tolerance)
            )
    return min(found, key=lambda mode: mode.objective)


def _around(
    source: TwoLayerNetwork,
    task: Task,
    given: Priors,
    coupling: float,
    decay: float,
    iterations: int,
    tolerance: float,
) -> Mode:
    c_s, c_st, c_t, c_tt = weight_covariances(
        coupling,
        source_weight_precision=given.source_weight_precision,
        target_weight_precision=given.weight_precision,
        scheme=given.coupling_scheme,
    )
    centre = c_st / c_s * source.first_layer
    if np.isinf(coupling):
        frozen = ModeObjective(source, task, decay, 0.0)
        value, _ = frozen(source.first_layer.ravel())
        return Mode(frozen.unpack(source.first_layer.ravel()), value, 0.0, 0, True)
    hidden = given.temperature / (c_t - c_tt)
    objective = ModeObjective(source, task, decay, hidden, centre)
    mode = _descend(objective, centre, iterations, tolerance)
    # What completing the square in w left out.
    constant = 0.5 * given.temperature * coupling * (1 - c_st / c_s)
    return mode._replace(objective=mode.objective + constant * float((source.first_layer**2).sum()))


def _descend(objective: ModeObjective, W: Array, iterations: int, tolerance: float) -> Mode:
    """From hidden weights ``W`` downhill until the gradient is small."""
    small = tolerance * len(objective.y) / np.sqrt(W.shape[1])
    options = {"maxiter": iterations, "maxfun": 20 * iterations, "gtol": small, "ftol": 0}
    options["maxcor"] = 20
    found = minimize(objective, W.ravel(), jac=True, method="L-BFGS-B", options=options)
    slope = float(abs(found.jac).max())
    return Mode(objective.unpack(found.x), float(found.fun), slope, found.nit, slope <= small)


def train_transfer(
    source: Task,
    target: Task,
    *,
    width: int,
    coupling: float,
    starts: int = 3,
    rng: int | np.random.Generator = 0,
    iterations: int = 1000,
    tolerance: float = 1e-4,
    **priors: Unpack[PriorOptions],
) -> dict[str, list[Mode]]:
    """Train sources from several starts, and on the target from scratch, frozen and fine-tuned.

    Parameters
    ----------
    source, target : Task
    width : int
        N1 of all networks.
    coupling : float
        γ of the fine-tuned networks; at 0 they are those from scratch, at infinity the frozen ones.
    starts : int
        Number of source networks, and of networks from scratch.
    rng, iterations, tolerance
        As in `train_mode`.
    **priors
        Activation, T, λ0 and λ1 of the target and of the source, as in `tlnb.priors.Priors`.

    Returns
    -------
    dict of lists of Mode, one for each start
        "source", "scratch", "frozen" and "fine-tuned".

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As `train_mode` does.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.networks import train_transfer
    >>> X = np.random.default_rng(0).standard_normal((30, 5))
    >>> source, target = Task(X[:24], X[:24, 0]), Task(X[24:], X[24:, 0])
    >>> trained = train_transfer(source, target, width=8, coupling=1.0, starts=2, temperature=0.1)
    >>> {way: len(modes) for way, modes in trained.items()}
    {'source': 2, 'scratch': 2, 'frozen': 2, 'fine-tuned': 2}
    """
    width = check_count("width", width)
    given = Priors.of("train_transfer", priors).at_width(width)
    starts = check_count("starts", starts)
    check_task("target", target, check_task("source", source).n_features)
    seeds = np.random.SeedSequence(check_seed("rng", rng)).generate_state(2 * starts)
    train = partial(train_mode, iterations=iterations, tolerance=tolerance)
    of_source = given.of_source()
    found: dict[str, list[Mode]] = {way: [] for way in ("source", *WAYS)}
    for first, second in seeds.reshape(starts, 2):
        taught = train(
            source,
            width=width,
            rng=int(first),
            activation=of_source.activation,
            temperature=of_source.temperature,
            weight_precision=of_source.weight_precision,
            readout_precision=of_source.readout_precision,
        )
        found["source"].append(taught)
        for way, strength in zip(WAYS, (0.0, np.inf, coupling), strict=True):
            mode = train(
                target, source=taught.network, coupling=strength, rng=int(second), **priors
            )
            found[way].append(mode)
    return found


def error_table(trained: dict[str, list[Mode]], test: Task) -> DataFrame:
    """Test errors of trained networks, a row for each of them.

    Returns
    -------
    pandas.DataFrame with columns way, start, squared_error, error, iterations and converged
        squared_error is the mean of (y - f)², error the fraction of wrong signs for labels ±1 and
        else again the squared error.

    Examples
    --------
    Three labels tell little, the source tells more:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.networks.transfer import error_table, train_transfer
    >>> X = np.random.default_rng(0).standard_normal((80, 5))
    >>> source, target, test = (Task(X[p], X[p, 0]) for p in np.split(np.arange(80), [40, 43]))
    >>> trained = train_transfer(source, target, width=8, coupling=10.0, starts=1, temperature=0.1)
    >>> errors = error_table(trained, test).set_index("way").squared_error
    >>> bool(errors["fine-tuned"] < errors["scratch"])
    True
    """
    import pandas as pd

    check_task("test", test)
    return pd.DataFrame(
        {
            "way": way,
            "start": start,
            "squared_error": float(((test.y - mode.network(test.X)) ** 2).mean()),
            "error": mode.network.error(test),
            "iterations": mode.iterations,
            "converged": mode.converged,
        }
        for way, modes in trained.items()
        if way != "source"
        for start, mode in enumerate(modes)
    )
