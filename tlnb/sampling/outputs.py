r"""Networks with several outputs, drawn from their posteriors, alone and around quenched sources.

Chains over the hidden weights, as in `tlnb.sampling.posterior` and `tlnb.sampling.transfer`; what
can be averaged over the C readouts given the hidden weights is averaged analytically.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb.data.outputs import MultiOutputTask, check_outputs_task
from tlnb.data.task import Task
from tlnb.priors import OneTaskOptions, PriorOptions, Priors, check_options, weight_covariances
from tlnb.sampling.chains import check_plan, run_chains
from tlnb.sampling.hmc import State
from tlnb.sampling.outputs_likelihood import OutputsLikelihood, WhitenedOutputs
from tlnb.sampling.quenched import run_around, take_sources
from tlnb.sampling.records import as_dataset, options_of
from tlnb.validation import check_count, check_nonnegative, check_rng

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
FURTHER = {
    "order_parameter": ("output", "other_output"),
    "Q_s": ("source_output", "other_source_output"),
    "Q_t": ("output", "other_output"),
    "Q_tt": ("output", "other_output"),
    "Q_st": ("source_output", "output"),
    "prediction": ("test", "output"),
    "prediction_variance": ("test",),
    "hidden_weights": ("unit", "feature"),
}


def sample_outputs(
    task: MultiOutputTask | Task,
    *,
    width: int,
    test: MultiOutputTask | Task | None = None,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 300,
    thin: int = 1,
    weights: bool = False,
    rng: int | np.random.Generator = 0,
    progress: bool = True,
    **priors: Unpack[OneTaskOptions],
) -> Dataset:
    """Draw networks from the posterior of one task with several outputs.

    Parameters
    ----------
    task, test : MultiOutputTask or Task
        Inputs and labels (P, C); predictions and errors are for ``test``.
    width, chains, draws, warmup, thin, weights, rng, progress
        As in `tlnb.sampling.sample_posterior`, readouts integrated out.
    **priors
        activation, temperature, weight_precision, readout_precision or richness: see
        `tlnb.priors.Priors`. The activation needs a derivative.

    Returns
    -------
    xarray.Dataset over (chain, draw[, test][, output])
        order_parameter (λ1/N1) ⟨vᵀv⟩ over (output, other_output), train_error and, given a test
        task, prediction, prediction_variance (the same for all outputs given the hidden weights)
        and test_error, the mean over test points and outputs; all averages over the readouts. With
        ``weights`` hidden_weights over (unit, feature).

    Raises
    ------
    ValueError, TypeError, SamplingError
        As `tlnb.sampling.sample_posterior` does.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.sampling import sample_outputs
    >>> X = np.random.default_rng(0).standard_normal((20, 5))
    >>> given = {"width": 10, "temperature": 0.1, "rng": 0, "progress": False}
    >>> drawn = sample_outputs(MultiOutputTask(X, X[:, :3]), chains=2, draws=5, warmup=5, **given)
    >>> dict(drawn.order_parameter.sizes)
    {'chain': 2, 'draw': 5, 'output': 3, 'other_output': 3}
    """
    check_options("sample_outputs", priors, OneTaskOptions)
    task, width = check_outputs_task("task", task), check_count("width", width)
    given = Priors(**priors).at_width(width)
    plan, chains = check_plan(draws, warmup, thin, None), check_count("chains", chains)
    rng = check_rng("rng", rng)
    target = WhitenedOutputs(likelihood_of(task, given, width), 0.0, given.weight_precision**-0.5)
    test = _like(test, task)

    def record(state: State) -> dict[str, Array]:
        row = target.measure(state.position, test)
        del row["readout"]
        return row | ({"hidden_weights": target.weights(state.position)} if weights else {})

    positions = rng.standard_normal((1, chains, width, task.n_features))
    run = run_chains([target], "collapsed-hmc", positions, plan, rng, record, progress, "networks")
    return as_dataset(run.records, ("chain", "draw"), run, given, width, FURTHER)


def sample_outputs_transfer(
    source: MultiOutputTask | Task,
    target: MultiOutputTask | Task,
    *,
    width: int,
    coupling: float,
    sources: int | Dataset = 50,
    test: MultiOutputTask | Task | None = None,
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
    """Draw quenched sources and, around each of them, coupled targets, with several outputs.

    Parameters
    ----------
    source, target, test : MultiOutputTask or Task
        Source and target may have different numbers of outputs.
    sources : int or Dataset
        Their number, or networks drawn by ``sample_outputs(source, weights=True, ...)`` with the
        same width and the source's priors.
    width, coupling, chains, draws, warmup, thin, source_chains, source_thin, rng, progress
        As in `tlnb.sampling.sample_transfer`.
    **priors
        Of source and target, as in `tlnb.priors.Priors`.

    Returns
    -------
    xarray.Dataset over (source, chain, draw[, test][, output])
        Q_s over (source, source_output, other_source_output); Q_t, Q_tt over (output,
        other_output), Q_st over (source_output, output); train_error and, given a test task,
        prediction, prediction_variance and test_error.

    Raises
    ------
    ValueError, TypeError, SamplingError
        As `tlnb.sampling.sample_transfer` does.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.sampling import sample_outputs_transfer
    >>> X = np.random.default_rng(0).standard_normal((25, 5))
    >>> source, target = MultiOutputTask(X[:20], X[:20, :2]), MultiOutputTask(X[20:], X[20:, :3])
    >>> plan = {"sources": 3, "chains": 2, "draws": 4, "warmup": 4, "rng": 0, "progress": False}
    >>> given = {"coupling": 1.0, "width": 10, "temperature": 0.1}
    >>> sample_outputs_transfer(source, target, **given, **plan).Q_st.shape
    (3, 2, 4, 2, 3)
    """
    coupling = check_nonnegative("coupling", coupling, allow_infinite=True)
    plan = check_plan(draws, warmup, thin, None)
    width, chains = check_count("width", width), check_count("chains", chains, 2)
    given = Priors.of("sample_outputs_transfer", priors).at_width(width)
    source = check_outputs_task("source", source)
    target = check_outputs_task("target", target, source.n_features)
    test = _like(test, target)
    rng = check_rng("rng", rng, purpose="transfer")
    alone = given.of_source()
    sample = partial(
        sample_outputs, source, width=width, rng=rng, progress=progress, **options_of(alone)
    )
    S, drawn = take_sources(sources, sample, source_chains, source_thin, warmup)
    shape = (width, source.n_features)
    if "hidden_weights" not in getattr(drawn, "data_vars", ()) or (
        drawn.hidden_weights.shape[2:] != shape
    ):
        raise ValueError(
            f"sources must be a number, or networks with hidden weights of shape {shape} drawn by "
            "sample_outputs(source, weights=True)"
        )
    W = drawn.hidden_weights.transpose("draw", "chain", ...).values.reshape(-1, *shape)[:S]
    S = check_count("sources", len(W), 2)
    quenched = likelihood_of(source, alone, width).averages(W)
    c_s, c_st, c_t, c_tt = weight_covariances(
        coupling,
        source_weight_precision=alone.weight_precision,
        target_weight_precision=given.weight_precision,
        scheme=given.coupling_scheme,
    )
    frozen = np.isinf(coupling)
    copies = 1 if frozen else chains
    centre = np.repeat(c_st / c_s * W, copies, axis=0)
    around = WhitenedOutputs(
        likelihood_of(target, given, width), centre, float(np.sqrt(max(c_t - c_tt, 0.0)))
    )
    precision = given.readout_precision
    cross = np.sqrt(given.source_readout_precision * precision) / width

    def record(state: State) -> dict[str, Array]:
        row = around.measure(state.position, test)
        v = row.pop("readout").reshape(S, copies, width, -1)
        row["Q_t"] = row.pop("order_parameter")
        # Given the hidden weights two replicas' readouts are independent.
        partner = np.roll(v, 1, axis=1)
        Q_st = cross * np.einsum("sia,scib->scab", quenched.readout, v)
        Q_tt = precision / width * np.einsum("scia,scib->scab", v, partner)
        Q_tt = 0.5 * (Q_tt + Q_tt.swapaxes(2, 3))
        row |= {name: x.reshape(-1, *x.shape[2:]) for name, x in (("Q_st", Q_st), ("Q_tt", Q_tt))}
        return row

    run = run_around(around, frozen, plan, rng, record, progress, drawn.attrs)
    records = {name: x.reshape(S, copies, *x.shape[1:]) for name, x in run.records.items()}
    records["Q_s"] = quenched.order_parameter
    attributes = {"coupling": coupling, "source_chains": drawn.sizes["chain"]}
    dims = ("source", "chain", "draw")
    return as_dataset(records, dims, run, given, width, FURTHER, **attributes)


def likelihood_of(task: MultiOutputTask, priors: Priors, width: int) -> OutputsLikelihood:
    """The likelihood of networks of ``width`` units on ``task``; the target's T and λ1."""
    sigma = priors.activation
    slope: Any = sigma.derivative
    slope(np.zeros(1))  # a missing derivative is said now
    precision = priors.at_width(width).readout_precision
    return OutputsLikelihood(task, sigma, width, priors.temperature, precision)


def _like(test: MultiOutputTask | Task | None, task: MultiOutputTask) -> MultiOutputTask | None:
    if test is None:
        return None
    test = check_outputs_task("test", test, task.n_features)
    if test.n_outputs != task.n_outputs:
        raise ValueError(f"test must have {task.n_outputs} outputs, got {test.n_outputs}")
    return test
