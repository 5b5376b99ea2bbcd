r"""Networks drawn from the posterior of one task.

Chains of `tlnb.sampling.hmc` over the hidden weights, readouts integrated out ("collapsed-hmc"), or
over all weights ("hmc", and "langevin", unadjusted as the papers use it). What can be averaged over
readouts given the hidden weights is averaged analytically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed_arguments
from tlnb.data.task import Task, check_task
from tlnb.priors import OneTaskOptions, Priors, check_options
from tlnb.sampling.chains import check_plan, run_chains
from tlnb.sampling.density import WhitenedPosterior, likelihood_of
from tlnb.sampling.hmc import State
from tlnb.sampling.records import as_dataset
from tlnb.sampling.tempering import ladder
from tlnb.validation import check_choice, check_count, check_rng

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
SAMPLERS = ("collapsed-hmc", "hmc", "langevin")


@renamed_arguments(seed="rng")
def sample_posterior(
    task: Task,
    *,
    width: int,
    test: Task | None = None,
    sampler: str = "collapsed-hmc",
    chains: int = 4,
    draws: int = 500,
    warmup: int = 300,
    thin: int = 1,
    step_size: float | None = None,
    tempering: Sequence[float] = (),
    weights: bool = False,
    rng: int | np.random.Generator = 0,
    progress: bool = True,
    **priors: Unpack[OneTaskOptions],
) -> Dataset:
    """Draw networks from the posterior of one task.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    width : int
        N1 ≥ 1.
    test : Task, optional
        Inputs and labels that predictions and test errors are for.
    sampler : {"collapsed-hmc", "hmc", "langevin"}
        Hidden weights with the readouts integrated out and the prior's motion exact; all weights;
        all weights by unadjusted Langevin dynamics, whose averages are off by the order of its
        step squared, for comparison.
    chains, draws, warmup, thin : int
        Chains start from the prior; steps (trajectories for HMC) of warm-up are dropped, then one
        in ``thin`` is kept.
    step_size : float, optional
        Fixes ε in whitened coordinates; otherwise it is adapted in warm-up to an acceptance of 0.8
        (for Langevin, to that its step would have if it were adjusted). In a warm-up of 100 steps
        or more HMC learns the length of its trajectories too, and the step that goes with it: see
        `tlnb.sampling.adaptation.Trajectory`.
    tempering : sequence of float
        Increasing temperatures above T at which further chains run, as many as at T. After each
        step chains at neighbouring temperatures may exchange their positions, which leaves every
        posterior as it is and carries chains at T across barriers that are low at the last
        temperature.
    weights : bool
        Keep the hidden weights, so that the networks can be sources of `sample_transfer`.
    rng : int or Generator
        Of all random numbers; the same integer gives the same draws.
    **priors
        activation, temperature, weight_precision, readout_precision or richness: see
        `tlnb.priors.Priors`. The activation needs a derivative.

    Returns
    -------
    xarray.Dataset over (chain, draw[, test])
        order_parameter, train_error and, given a test task, prediction, prediction_variance and
        test_error (over chain and draw: the mean over test points). With the readouts integrated
        out all are averages over them given the hidden weights. With ``weights`` hidden_weights
        over (chain, draw, unit, feature). Attributes: acceptance, divergences, step_size,
        trajectory (the longest, in whitened coordinates), the parameters and, with tempering,
        exchange: the accepted fraction of swaps by neighbours.

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
    >>> from tlnb.sampling import sample_posterior
    >>> X = np.random.default_rng(0).standard_normal((20, 5))
    >>> given = {"width": 10, "temperature": 0.1, "rng": 0, "progress": False}
    >>> drawn = sample_posterior(Task(X, X[:, 0]), chains=2, draws=5, warmup=5, **given)
    >>> dict(drawn.order_parameter.sizes)
    {'chain': 2, 'draw': 5}
    """
    check_options("sample_posterior", priors, OneTaskOptions)
    width = check_count("width", width)
    given = Priors(**priors).at_width(width)
    check_choice("sampler", sampler, SAMPLERS)
    plan = check_plan(draws, warmup, thin, step_size)
    chains = check_count("chains", chains)
    if test is not None:
        check_task("test", test, task.n_features)
    temperatures = ladder(given.temperature, tempering)
    rng = check_rng("rng", rng)
    network = likelihood_of(task, given, width)
    collapsed, spread = sampler == "collapsed-hmc", given.weight_precision**-0.5
    targets = [
        WhitenedPosterior(replace(network, temperature=T), 0.0, spread, collapsed)
        for T in temperatures
    ]
    shape = (len(targets), chains, width, task.n_features + (not collapsed))

    def record(state: State) -> dict[str, Array]:
        row = targets[0].measure(state.position, test, state.details)
        del row["readout"]
        return row | ({"hidden_weights": targets[0].split(state.position)[0]} if weights else {})

    positions = rng.standard_normal(shape)
    run = run_chains(targets, sampler, positions, plan, rng, record, progress, "networks")
    attributes: dict[str, Any] = {"sampler": sampler}
    if len(targets) > 1:
        attributes |= {"tempering": np.array(temperatures[1:]), "exchange": run.exchange}
    return as_dataset(run.records, ("chain", "draw"), run, given, width, **attributes)
