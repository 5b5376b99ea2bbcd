r"""Source networks, quenched, and target networks drawn around each of them.

Source networks first; then, around each, target chains whose prior is N(b w_s, 1/(λ0t + γ)). Any
two chains around one source are two target replicas. What can be averaged over readouts given the
hidden weights is averaged analytically.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed_arguments
from tlnb.data.task import Task, check_task
from tlnb.networks.two_layer import TwoLayerNetwork, check_network
from tlnb.priors import PriorOptions, Priors, PriorsAtWidth, weight_covariances
from tlnb.sampling.chains import check_plan
from tlnb.sampling.density import WhitenedPosterior, likelihood_of
from tlnb.sampling.hmc import State
from tlnb.sampling.posterior import sample_posterior
from tlnb.sampling.quenched import run_around, take_sources
from tlnb.sampling.records import HOW_MOVED, OF_A_TASK, as_dataset, options_of
from tlnb.validation import check_count, check_nonnegative, check_rng

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]


@renamed_arguments(seed="rng")
def sample_transfer(
    source: Task,
    target: Task,
    *,
    width: int,
    coupling: float,
    sources: int | Dataset | Sequence[TwoLayerNetwork] = 50,
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
    """Draw source networks, and around each of them, quenched, coupled target networks.

    Parameters
    ----------
    source, target, test : Task
    width : int
        N1 ≥ 1 of all networks.
    coupling : float
        γ from 0 to ``numpy.inf``; at infinity the hidden weights are the source's.
    sources : int, Dataset or sequence of TwoLayerNetwork
        Number of quenched sources, taken from ``source_chains`` chains of the source's posterior,
        one in ``source_thin`` steps; or the networks that ``sample_posterior(source, weights=True,
        ...)`` drew: the same for many couplings, from chains judged before; or networks however
        they came about, trained ones among them, whose readouts are taken as they are.
    chains : int
        Target chains around each source, at least 2: neighbours are two replicas.
    draws, warmup, thin, progress
        As in `sample_posterior`, for sources and targets.
    rng : int or Generator
        Of all random numbers. An integer seeds a stream of its own: `sample_posterior` with the
        same one shares none of them.
    **priors
        Of source and target, as in `tlnb.priors.Priors`.

    Returns
    -------
    xarray.Dataset over (source, chain, draw[, test])
        Q_s over (source,); Q_t, Q_st, Q_tt, train_error and, given a test task, prediction,
        prediction_variance and test_error. Averages over readouts are analytic. Attributes as in
        `sample_posterior`, and source_chains: source s is of chain s modulo this number.

    Raises
    ------
    ValueError, TypeError, SamplingError
        As `sample_posterior` does.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.sampling import sample_transfer
    >>> X = np.random.default_rng(0).standard_normal((25, 5))
    >>> source, target = Task(X[:20], X[:20, 0]), Task(X[20:], X[20:, 0])
    >>> plan = {"sources": 3, "chains": 2, "draws": 4, "warmup": 4, "rng": 0, "progress": False}
    >>> drawn = sample_transfer(source, target, coupling=1.0, width=10, temperature=0.1, **plan)
    >>> dict(drawn.Q_st.sizes)
    {'source': 3, 'chain': 2, 'draw': 4}
    """
    coupling = check_nonnegative("coupling", coupling, allow_infinite=True)
    plan = check_plan(draws, warmup, thin, None)
    width, chains = check_count("width", width), check_count("chains", chains, 2)
    given = Priors.of("sample_transfer", priors).at_width(width)
    check_task("target", target, check_task("source", source).n_features)
    if test is not None:
        check_task("test", test, target.n_features)
    rng = check_rng("rng", rng, purpose="transfer")
    alone = given.of_source()
    sample = partial(
        sample_posterior, source, width=width, rng=rng, progress=progress, **options_of(alone)
    )
    S, drawn = take_sources(sources, sample, source_chains, source_thin, warmup)
    if isinstance(drawn, Sequence):
        W, v_s, Q_s = _of_networks(drawn, given, width, source.n_features)
        moved, independent = dict.fromkeys(HOW_MOVED, 0.0), len(drawn)
    else:
        W, v_s, Q_s = (x[:S] for x in _quenched(drawn, source, alone, width))
        moved, independent = drawn.attrs, drawn.sizes["chain"]
    S = check_count("sources", len(W), 2)

    c_s, c_st, c_t, c_tt = weight_covariances(
        coupling,
        source_weight_precision=given.source_weight_precision,
        target_weight_precision=given.weight_precision,
        scheme=given.coupling_scheme,
    )
    frozen = np.isinf(coupling)
    copies = 1 if frozen else chains
    centre = np.repeat(c_st / c_s * W, copies, axis=0)
    network = likelihood_of(target, given, width)
    around = WhitenedPosterior(network, centre, np.sqrt(max(c_t - c_tt, 0.0)), True)
    cross = np.sqrt(given.source_readout_precision * given.readout_precision) / width

    def record(state: State) -> dict[str, Array]:
        row = around.measure(state.position, test, state.details)
        v = row.pop("readout").reshape(S, copies, width)
        row = {name: x.reshape(S, copies, *x.shape[1:]) for name, x in row.items()}
        row["Q_t"] = row.pop("order_parameter")
        row["Q_st"] = cross * np.einsum("sci,si->sc", v, v_s)
        # Given the hidden weights two replicas' readouts are independent.
        partner = np.roll(v, 1, axis=1)
        row["Q_tt"] = given.readout_precision / width * np.einsum("sci,sci->sc", v, partner)
        return {name: x.reshape(-1, *x.shape[2:]) for name, x in row.items()}

    run = run_around(around, frozen, plan, rng, record, progress, moved)
    records = {name: x.reshape(S, copies, *x.shape[1:]) for name, x in run.records.items()}
    records["Q_s"] = Q_s
    attributes: dict[str, Any] = {"coupling": coupling, "coupling_scheme": given.coupling_scheme}
    attributes |= {f"source_{name}": getattr(alone, name) for name in OF_A_TASK}
    attributes["source_chains"] = independent
    if test is not None:
        attributes["test_labels"] = test.y
    return as_dataset(records, ("source", "chain", "draw"), run, given, width, **attributes)


def _of_networks(
    networks: Sequence[TwoLayerNetwork], priors: PriorsAtWidth, width: int, n_features: int
) -> tuple[Array, Array, Array]:
    """Hidden weights, readouts and Q_s of networks that are given."""
    check_count("sources", len(networks), 2)
    for network in networks:
        found = check_network("sources", network)
        if found.first_layer.shape != (width, n_features) or found.feature_mean.any():
            raise ValueError(
                f"sources must be networks of {width} units on {n_features} inputs, not centred, "
                f"got one with weights of shape {found.first_layer.shape}"
            )
        if found.activation != priors.activation:
            raise ValueError(
                f"sources must have the activation {priors.activation.name!r}, got "
                f"{found.activation.name!r}"
            )
    W = np.stack([network.first_layer for network in networks])
    v = np.stack([network.readout for network in networks])
    return W, v, priors.source_readout_precision / width * (v**2).sum(1)


def _quenched(
    drawn: Dataset, source: Task, priors: PriorsAtWidth, width: int
) -> tuple[Array, Array, Array]:
    """Hidden weights (S, N1, N0), mean readouts (S, N1) and Q_s (S,) of networks drawn.

    The first draws of all chains stand before the second ones.
    """
    rule = f"sources must be a number, or networks of {width} units drawn by sample_posterior"
    rule += "(source, weights=True) from the posterior of this source with these priors, got "
    if not {"hidden_weights", "order_parameter"} <= set(getattr(drawn, "data_vars", ())):
        raise TypeError(f"{rule}{type(drawn).__name__} without hidden_weights and order_parameter")
    if not {"chain", "draw"} <= set(drawn.dims):
        raise ValueError(f"{rule}a Dataset over {tuple(drawn.dims)}")
    expected: dict[str, Any] = {
        "width": width,
        "activation": priors.activation.name,
        "sampler": "collapsed-hmc",
    }
    expected |= {name: getattr(priors, name) for name in OF_A_TASK}
    found = {name: drawn.attrs.get(name) for name in expected}
    if found != expected:
        raise ValueError(f"{rule}{found}")
    W = drawn.hidden_weights.transpose("draw", "chain", ...).values
    W = W.reshape(-1, *W.shape[2:])
    network = likelihood_of(source, priors, width)
    readouts = network.readouts(network.features(W)) if W.shape[2] == source.n_features else None
    Q_s = drawn.order_parameter.transpose("draw", "chain").values.ravel()
    if readouts is None or not np.allclose(readouts.order_parameter(), Q_s, rtol=1e-6):
        raise ValueError(f"{rule}those of another task")
    return W, readouts.mean, Q_s
