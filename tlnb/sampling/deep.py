r"""Deep networks drawn from their posteriors, and deep targets around quenched deep sources.

As `tlnb.sampling.posterior` and `tlnb.sampling.transfer`, for L hidden layers of their own widths:
the hidden weights move by Hamiltonian Monte Carlo with the prior's motion exact, the readouts are
integrated out, and each layer of a target may have a coupling of its own to the source's. A frozen
layer does not move; one of coupling 0 has the prior of a network alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.priors import PriorOptions, Priors, PriorsAtWidth, weight_covariances
from tlnb.sampling.chains import check_plan, run_chains
from tlnb.sampling.deep_likelihood import DeepLikelihood
from tlnb.sampling.density import Whitened
from tlnb.sampling.hmc import State
from tlnb.sampling.quenched import run_around, take_sources
from tlnb.sampling.records import OF_A_TASK, as_dataset, options_of
from tlnb.sampling.tempering import ladder
from tlnb.validation import check_count, check_couplings, check_rng

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
SAMPLER = "collapsed-hmc"


@dataclass(frozen=True, eq=False)
class DeepPosterior(Whitened):
    """The posterior of deep networks, at positions (C, D)."""

    network: DeepLikelihood

    def measure(self, position: Array, test: Task | None) -> tuple[dict[str, Array], list[Array]]:
        """What is recorded of each chain; mean readouts, for linear networks of every layer.

        The latter from the last layer down, in units where a readout's prior variance is 1.
        """
        weights = self.weights(position)
        readouts = self.network.readouts(weights)
        row = {
            "order_parameter": readouts.order_parameter(),
            "train_error": readouts.train_error(),
        }
        means = [np.sqrt(self.network.readout_precision) * readouts.mean]
        if self.network.activation.name == "linear":
            below = self.network.propagated_back(weights, readouts)
            for layer, (mean, square) in zip(range(len(below), 0, -1), below, strict=True):
                row[f"overlap_{layer}"] = square
                means.append(mean)
        if test is not None:
            mean, variance = readouts.predict(self.network.features(weights, test.X))
            row["prediction"], row["prediction_variance"] = mean, variance
            row["test_error"] = ((test.y - mean) ** 2 + variance).mean(1)
        return row, means


def sample_deep_posterior(
    task: Task,
    *,
    widths: Sequence[int],
    test: Task | None = None,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 300,
    thin: int = 1,
    step_size: float | None = None,
    tempering: Sequence[float] = (),
    weights: bool = False,
    rng: int | np.random.Generator = 0,
    progress: bool = True,
    **priors: Unpack[PriorOptions],
) -> Dataset:
    """Draw deep networks from the posterior of one task.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    widths : sequence of L ints
        (N_1, ..., N_L) ≥ 1, from the input up.
    test, chains, draws, warmup, thin, step_size, tempering, rng, progress
        As in `tlnb.sampling.sample_posterior`.
    weights : bool
        Keep the hidden weights, so that the networks can be sources of `sample_deep_transfer`.
    **priors
        activation, with a derivative, temperature, weight_precision of every hidden layer,
        readout_precision or richness (λ1/N_L).

    Returns
    -------
    xarray.Dataset over (chain, draw[, test])
        order_parameter, train_error and, given a test task, prediction, prediction_variance and
        test_error; of linear networks overlap_1, ..., overlap_(L-1), those of the readouts
        propagated back to each layer. With ``weights`` weights over (chain, draw, weight). All are
        averages over the readouts. Attributes as in `tlnb.sampling.sample_posterior`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    SamplingError
        If the posterior is not finite; the last finite positions are in its ``state``.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.sampling import sample_deep_posterior
    >>> X = np.random.default_rng(0).standard_normal((20, 5))
    >>> given = {"temperature": 0.1, "chains": 2, "draws": 5, "warmup": 5, "progress": False}
    >>> drawn = sample_deep_posterior(Task(X, X[:, 0]), widths=(10, 8), **given)
    >>> dict(drawn.order_parameter.sizes), drawn.attrs["widths"]
    ({'chain': 2, 'draw': 5}, array([10,  8]))
    """
    widths = _widths(widths)
    given = Priors.of("sample_deep_posterior", priors).at_width(widths[-1])
    plan, chains = check_plan(draws, warmup, thin, step_size), check_count("chains", chains)
    if test is not None:
        check_task("test", test, task.n_features)
    temperatures = ladder(given.temperature, tempering)
    rng = check_rng("rng", rng)
    network = _likelihood(task, given, widths)
    spread = np.full(network.size, given.weight_precision**-0.5)
    targets = [DeepPosterior(replace(network, temperature=T), 0.0, spread) for T in temperatures]

    def record(state: State) -> dict[str, Array]:
        position = state.position
        row, _ = targets[0].measure(position, test)
        return row | ({"weights": targets[0].weights(position)} if weights else {})

    positions = rng.standard_normal((len(targets), chains, network.size))
    run = run_chains(targets, SAMPLER, positions, plan, rng, record, progress, "networks")
    attributes: dict[str, Any] = {"sampler": SAMPLER, "widths": np.array(widths)}
    if len(targets) > 1:
        attributes |= {"tempering": np.array(temperatures[1:]), "exchange": run.exchange}
    return as_dataset(run.records, ("chain", "draw"), run, given, widths[-1], **attributes)


def sample_deep_transfer(
    source: Task,
    target: Task,
    *,
    widths: Sequence[int],
    couplings: float | Sequence[float],
    sources: int | Dataset = 50,
    test: Task | None = None,
    chains: int = 2,
    draws: int = 100,
    warmup: int = 200,
    thin: int = 1,
    source_chains: int = 10,
    source_thin: int = 5,
    rng: int | np.random.Generator = 0,
    progress: bool = True,
    **priors: Unpack[PriorOptions],
) -> Dataset:
    """Draw deep source networks, and around each of them, quenched, coupled deep targets.

    Parameters
    ----------
    source, target, test : Task
    widths : sequence of L ints
        (N_1, ..., N_L) of all networks.
    couplings : float or sequence of L floats
        γ of every layer, or of each from the input up; ``numpy.inf`` freezes a layer.
    sources : int or Dataset
        Number of quenched sources, or the networks that ``sample_deep_posterior(source,
        weights=True, ...)`` drew.
    chains, draws, warmup, thin, source_chains, source_thin, rng, progress
        As in `tlnb.sampling.sample_transfer`.
    **priors
        As in `tlnb.theory.deep.solve`.

    Returns
    -------
    xarray.Dataset over (source, chain, draw[, test])
        Q_s over (source,); Q_t, Q_st, Q_tt, train_error and, given a test task, prediction,
        prediction_variance and test_error; of linear networks A_s_l, A_t_l, A_st_l and A_tt_l for
        the layers l below the last. `tlnb.sampling.summary` judges them.

    Raises
    ------
    ValueError, TypeError, SamplingError
        As `sample_deep_posterior` does.

    Examples
    --------
    The first layer tied to the source's, the second one free:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.sampling import sample_deep_transfer
    >>> X = np.random.default_rng(0).standard_normal((25, 5))
    >>> source, target = Task(X[:20], X[:20, 0]), Task(X[20:], X[20:, 0])
    >>> plan = {"sources": 3, "chains": 2, "draws": 4, "warmup": 4, "rng": 0, "progress": False}
    >>> given = {"widths": (10, 8), "couplings": (1.0, 0.0), "temperature": 0.1}
    >>> drawn = sample_deep_transfer(source, target, **given, **plan)
    >>> dict(drawn.Q_st.sizes)
    {'source': 3, 'chain': 2, 'draw': 4}
    """
    widths = _widths(widths)
    given = Priors.of("sample_deep_transfer", priors).at_width(widths[-1])
    couplings = check_couplings(couplings, len(widths))
    plan, chains = check_plan(draws, warmup, thin, None), check_count("chains", chains, 2)
    check_task("target", target, check_task("source", source).n_features)
    if test is not None:
        check_task("test", test, target.n_features)
    rng = check_rng("rng", rng, purpose="transfer")
    alone = given.of_source()
    sample = partial(
        sample_deep_posterior, source, widths=widths, rng=rng, progress=progress,
        **options_of(alone),
    )  # fmt: skip
    S, drawn = take_sources(sources, sample, source_chains, source_thin, warmup)
    network_s = _likelihood(source, alone, widths)
    W, row_s, means_s = _quenched(drawn, network_s, alone, S)
    S = check_count("sources", len(W), 2)

    network = _likelihood(target, given, widths)
    centre, spread = _around(W, network, given, couplings)
    frozen = not spread.any()
    copies = 1 if frozen else chains
    around = DeepPosterior(network, np.repeat(centre, copies, axis=0), spread)

    def record(state: State) -> dict[str, Array]:
        row, means = around.measure(state.position, test)
        row["Q_t"] = row.pop("order_parameter")
        for k, (mean, mean_s) in enumerate(zip(means, means_s, strict=True)):
            v, layer = mean.reshape(S, copies, -1), len(widths) - k
            # Given the hidden weights two replicas' readouts are independent.
            pairs = np.einsum("sci,sci->sc", v, np.roll(v, 1, axis=1))
            cross = np.einsum("sci,si->sc", v, mean_s)
            names = ("Q_tt", "Q_st") if k == 0 else (f"A_tt_{layer}", f"A_st_{layer}")
            for name, values in zip(names, (pairs, cross), strict=True):
                row[name] = values.ravel() / v.shape[-1]
            if k:
                row[f"A_t_{layer}"] = row.pop(f"overlap_{layer}")
        return row

    run = run_around(around, frozen, plan, rng, record, progress, drawn.attrs)
    records = {name: x.reshape(S, copies, *x.shape[1:]) for name, x in run.records.items()}
    records["Q_s"] = row_s["order_parameter"]
    for layer in range(1, len(means_s)):
        records[f"A_s_{layer}"] = row_s[f"overlap_{layer}"]
    attributes: dict[str, Any] = {"widths": np.array(widths), "couplings": np.array(couplings)}
    attributes["coupling_scheme"] = given.coupling_scheme
    attributes |= {f"source_{name}": getattr(alone, name) for name in OF_A_TASK}
    attributes["source_chains"] = drawn.sizes["chain"]
    if test is not None:
        attributes["test_labels"] = test.y
    dims = ("source", "chain", "draw")
    return as_dataset(records, dims, run, given, widths[-1], **attributes)


def _around(
    W: Array, network: DeepLikelihood, priors: Priors, couplings: tuple[float, ...]
) -> tuple[Array, Array]:
    """Centres (S, D) and spreads (D,) of the targets' priors around the sources' weights."""
    covariances = np.array(
        [
            weight_covariances(
                coupling,
                source_weight_precision=priors.source_weight_precision,
                target_weight_precision=priors.weight_precision,
                scheme=priors.coupling_scheme,
            )
            for coupling in couplings
        ]
    )
    c_s, c_st, c_t, c_tt = covariances.T
    spread = np.sqrt(np.maximum(c_t - c_tt, 0.0))
    return network.per_weight(c_st / c_s) * W, network.per_weight(spread)


def _quenched(
    drawn: Dataset, network: DeepLikelihood, priors: Priors, S: int | None
) -> tuple[Array, dict[str, Array], list[Array]]:
    """Hidden weights (S, D) of the sources, what is recorded of them, and their mean readouts.

    The first draws of all chains stand before the second ones.
    """
    rule = f"sources must be a number, or networks of widths {network.widths} drawn by "
    rule += "sample_deep_posterior(source, weights=True) from the posterior of this source with "
    rule += "these priors, got "
    if not {"weights", "order_parameter"} <= set(getattr(drawn, "data_vars", ())):
        raise TypeError(f"{rule}{type(drawn).__name__} without weights and order_parameter")
    expected = {"activation": priors.activation.name}
    expected |= {name: getattr(priors, name) for name in OF_A_TASK}
    found = {name: drawn.attrs.get(name) for name in expected}
    if found != expected or tuple(np.ravel(drawn.attrs.get("widths", ()))) != network.widths:
        raise ValueError(f"{rule}{found | {'widths': drawn.attrs.get('widths')}}")
    W = drawn.weights.transpose("draw", "chain", ...).values
    W = W.reshape(-1, W.shape[-1])[:S]
    Q_s = drawn.order_parameter.transpose("draw", "chain").values.ravel()[:S]
    if W.shape[1] != network.size:
        raise ValueError(f"{rule}those of inputs with another number of features")
    row, means = DeepPosterior(network, 0.0, np.ones(network.size)).measure(W, None)
    if not np.allclose(row["order_parameter"], Q_s, rtol=1e-6):
        raise ValueError(f"{rule}those of another task")
    return W, row, means


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    if isinstance(widths, str) or not np.iterable(widths) or not len(widths):
        raise TypeError(f"widths must be a sequence (N_1, ..., N_L) of integers, got {widths!r}")
    return tuple(check_count("widths", width) for width in widths)


def _likelihood(task: Task, priors: PriorsAtWidth, widths: tuple[int, ...]) -> DeepLikelihood:
    priors.activation.derivative(np.zeros(1))  # a missing derivative is said now
    check_task("task", task)
    return DeepLikelihood(
        task, priors.activation, widths, priors.temperature, priors.readout_precision
    )
