r"""Networks drawn from their posteriors, with what is needed to judge the draws.

One task: chains of `tlnb.simulation.hmc` over the hidden weights, readouts integrated out
("collapsed-hmc"), or over all weights ("hmc", and "langevin", unadjusted as the papers use it).
Transfer: source networks first; then, around each of these quenched sources, target chains whose
prior is N(b w_s, 1/(λ0t + γ)). Any two chains around one source are two target replicas. What can
be averaged over readouts given the hidden weights is averaged analytically.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.activations import Activation
from tlnb.data.task import Task
from tlnb.errors import SamplingError
from tlnb.priors import Priors, weight_covariances
from tlnb.simulation.hmc import StepSize, hmc, langevin, start
from tlnb.simulation.network import Network
from tlnb.validation import (
    check_choice,
    check_count,
    check_inputs,
    check_nonnegative,
    check_positive,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from xarray import Dataset

Array = NDArray[np.float64]
SAMPLERS = ("collapsed-hmc", "hmc", "langevin")
FEWEST = 100  # effective draws below which a chain is called too short
NOT_JUDGED = (np.nan,) * 4
PARTS = ("squared_bias", "total_variance", "source_variance")
FARTHEST = 100.0  # prior standard deviations: a trajectory that went so far has diverged


class _Target(NamedTuple):
    """A density in whitened coordinates: hidden weights centre + spread ξ, readouts ξ/sqrt(λ1)."""

    network: Network
    centre: Array | float  # of shape (C, N1, N0), or 0
    spread: float
    collapsed: bool

    def split(self, position: Array) -> tuple[Array, Array | None]:
        """Hidden weights (C, N1, N0) and readouts (C, N1), None where they are integrated out."""
        if self.collapsed:
            return self.centre + self.spread * position, None
        v = position[..., -1] / np.sqrt(self.network.readout_precision)
        return self.centre + self.spread * position[..., :-1], v

    def __call__(self, position: Array) -> tuple[Array, Array]:
        W, v = self.split(position)
        if v is None:
            value, gradient = self.network.collapsed(W)
            gradient *= self.spread
        else:
            value, by_W, by_v = self.network.joint(W, v)
            by_v /= np.sqrt(self.network.readout_precision)
            gradient = np.concatenate([self.spread * by_W, by_v[..., None]], axis=-1)
        if not np.isfinite(value.sum() + gradient.sum()):
            bad = _not_finite(value, gradient)
            if (abs(position[bad]) < FARTHEST).all():
                raise FloatingPointError(f"not finite in {bad.sum()} of {len(bad)} chains")
        return value, gradient

    def measure(self, position: Array, test: Task | None) -> dict[str, Array]:
        """What is recorded of each chain."""
        W, v = self.split(position)
        Phi = self.network.features(W)
        Phi_0 = None if test is None else self.network.features(W, test.X)
        found: dict[str, list] = {}
        for c in range(len(W)):
            if v is None:
                readouts = self.network.readouts(Phi[c])
                row = {
                    "order_parameter": readouts.order_parameter(),
                    "train_error": readouts.train_error(),
                    "readout": readouts.mean,
                }
                moments = None if test is None else readouts.predict(Phi_0[c])
            else:
                row = _with_readouts(self.network, Phi[c], v[c])
                if test is not None:
                    f = Phi_0[c] @ v[c] / np.sqrt(self.network.width)
                    moments = f, np.zeros_like(f)
            if test is not None:
                row["prediction"], row["prediction_variance"] = moments
                row["test_error"] = np.mean((test.y - moments[0]) ** 2 + moments[1])
            for name, value in row.items():
                found.setdefault(name, []).append(value)
        return {name: np.array(values) for name, values in found.items()}


def _with_readouts(network: Network, Phi: Array, v: Array) -> dict[str, Any]:
    error = network.task.y - Phi @ v / np.sqrt(network.width)
    order_parameter = network.readout_precision / network.width * (v @ v)
    return {"order_parameter": order_parameter, "train_error": np.mean(error**2), "readout": v}


class _Plan(NamedTuple):
    """How long to run: warm-up steps, draws, steps between draws; the step, if it is given."""

    warmup: int
    draws: int
    thin: int = 1
    step_size: float | None = None


class _Run(NamedTuple):
    """Records of shape (C, draws, ...) by name, and how the chains moved."""

    records: dict[str, Array]
    step_size: float
    acceptance: float
    divergences: int


def _run(
    target: _Target,
    sampler: str,
    position: Array,
    plan: _Plan,
    rng: np.random.Generator,
    record: Callable[[Array], dict[str, Array]],
    progress: bool,
    label: str,
) -> _Run:
    """Warm up, adapting the step, then draw."""
    from tqdm import tqdm

    collapsed = sampler == "collapsed-hmc"
    sizes = StepSize(0.1, np.pi / 2 if collapsed else 0.5)
    step = plan.step_size or sizes.current
    rows: list[dict[str, Array]] = []
    accepted, divergences = [], 0
    state, when = None, "at the start"
    steps = plan.warmup + plan.draws * plan.thin
    bar = tqdm(range(steps), desc=label, disable=not progress, leave=False)
    # One BLAS thread: the same numbers whatever the number of workers, and small matrices.
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"), bar:
        try:
            state = start(position, target)
            for i in bar:
                warming = i < plan.warmup
                when = f"in step {i + 1}, of size {step:.3g}"
                if i == plan.warmup and plan.step_size is None and plan.warmup > 0:
                    step = sizes.final
                if sampler == "langevin" and not (warming and plan.step_size is None):
                    moved = langevin(state, target, rng, step=step)
                    if _not_finite(moved.log_likelihood, moved.gradient).any():
                        raise FloatingPointError("the dynamics ran away")
                    state = moved
                else:
                    # Jittered lengths; Langevin adapts its step as a single accepted one.
                    jitter = rng.uniform(0.5, 1.0) * np.pi / 2
                    angle = step if sampler == "langevin" else jitter
                    state, info = hmc(state, target, rng, step=step, angle=angle, rotate=collapsed)
                    if warming and plan.step_size is None:
                        sizes.update(float(info.acceptance.mean()))
                        step = sizes.current
                    if not warming:
                        accepted.append(info.acceptance.mean())
                        divergences += int(info.diverged.sum())
                if not warming and (i + 1 - plan.warmup) % plan.thin == 0:
                    rows.append(record(state.position))
        except FloatingPointError as error:
            last = position if state is None else state.position
            raise SamplingError(
                f"the log likelihood or its gradient is not finite {when}: {error}; try a smaller "
                "step, a higher temperature or another activation. The last finite positions are "
                "in the error's `state`",
                last,
            ) from error
    records = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    acceptance = float(np.mean(accepted)) if accepted else 1.0
    return _Run(records, float(step), acceptance, divergences)


def _not_finite(value: Array, gradient: Array) -> NDArray[np.bool_]:
    """Which chains (C,) have no gradient, or no likelihood; a likelihood of zero is one."""
    wrong = ~np.isfinite(gradient.reshape(len(gradient), -1)).all(1)
    return wrong | np.isnan(value) | (value == np.inf)


def sample_posterior(
    task: Task,
    *,
    width: int,
    activation: str | Activation = "erf",
    temperature: float = 0.01,
    weight_precision: float = 1.0,
    readout_precision: float = 1.0,
    test: Task | None = None,
    sampler: str = "collapsed-hmc",
    chains: int = 4,
    draws: int = 500,
    warmup: int = 300,
    thin: int = 1,
    step_size: float | None = None,
    seed: int | np.random.Generator = 0,
    progress: bool = True,
) -> Dataset:
    """Draw networks from the posterior of one task.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    width : int
        N1 ≥ 1.
    activation, temperature, weight_precision, readout_precision
        σ with a derivative, T, λ0 and λ1.
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
        (for Langevin, to that its step would have if it were adjusted).
    seed : int or Generator

    Returns
    -------
    xarray.Dataset over (chain, draw[, test])
        order_parameter, train_error and, given a test task, prediction, prediction_variance and
        test_error (over chain and draw: the mean over test points). With the readouts integrated
        out all are averages over them given the hidden weights. Attributes: acceptance,
        divergences, step_size and the parameters.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    SamplingError
        If the posterior is not finite; the last finite positions are in its ``state``.
    """
    priors = Priors(activation, temperature, weight_precision, readout_precision)
    check_choice("sampler", sampler, SAMPLERS)
    plan = _plan(draws, warmup, thin, step_size)
    chains, width = check_count("chains", chains), check_count("width", width)
    test = _test_task(test, task)
    rng = np.random.default_rng(seed)
    network = _network(task, priors, width)
    collapsed = sampler == "collapsed-hmc"
    target = _Target(network, 0.0, priors.weight_precision**-0.5, collapsed)
    shape = (chains, width, task.n_features + (not collapsed))

    def record(position: Array) -> dict[str, Array]:
        row = target.measure(position, test)
        del row["readout"]
        return row

    position = rng.standard_normal(shape)
    run = _run(target, sampler, position, plan, rng, record, progress, "networks")
    return _dataset(run.records, ("chain", "draw"), run, priors, width, sampler=sampler)


def sample_transfer(
    source: Task,
    target: Task,
    *,
    width: int,
    coupling: float,
    sources: int = 50,
    test: Task | None = None,
    chains: int = 2,
    draws: int = 100,
    warmup: int = 200,
    thin: int = 1,
    source_chains: int = 10,
    source_thin: int = 5,
    seed: int | np.random.Generator = 0,
    progress: bool = True,
    **priors: Any,
) -> Dataset:
    """Draw source networks, and around each of them, quenched, coupled target networks.

    Parameters
    ----------
    source, target, test : Task
    width : int
        N1 ≥ 1 of all networks.
    coupling : float
        γ from 0 to ``numpy.inf``; at infinity the hidden weights are the source's.
    sources : int
        Number of quenched sources, taken from ``source_chains`` chains of the source's posterior,
        one in ``source_thin`` steps.
    chains : int
        Target chains around each source, at least 2: neighbours are two replicas.
    draws, warmup, thin, seed, progress
        As in `sample_posterior`, for sources and targets.
    **priors
        As in `tlnb.theory.transfer.solve`.

    Returns
    -------
    xarray.Dataset over (source, chain, draw[, test])
        Q_s over (source,); Q_t, Q_st, Q_tt, train_error and, given a test task, prediction,
        prediction_variance and test_error. Averages over readouts are analytic. Attributes as in
        `sample_posterior`, and source_r_hat and source_ess of Q_s along the source chains.

    Raises
    ------
    ValueError, TypeError, SamplingError
        As `sample_posterior` does.
    """
    priors = Priors(**priors)
    coupling = check_nonnegative("coupling", coupling, allow_infinite=True)
    plan = _plan(draws, warmup, thin, None)
    sources, width = check_count("sources", sources, 2), check_count("width", width)
    chains = check_count("chains", chains, 2)
    source_chains = min(check_count("source_chains", source_chains), sources)
    for name, task in (("source", source), ("target", target)):
        if not isinstance(task, Task):
            raise TypeError(f"{name} must be a tlnb.Task, got {type(task).__name__}")
    check_inputs(target.X, "target.X", source.n_features)
    test = _test_task(test, target)
    rng = np.random.default_rng(seed)

    # The quenched sources: hidden weights, mean readouts, Q_s.
    of_source = Network(
        source,
        priors.activation,
        width,
        priors.source_temperature,
        priors.source_readout_precision,
    )
    law = _Target(of_source, 0.0, priors.source_weight_precision**-0.5, True)
    per_chain = -(-sources // source_chains)

    def keep(position: Array) -> dict[str, Array]:
        return law.measure(position, None) | {"W": law.split(position)[0]}

    position = rng.standard_normal((source_chains, width, source.n_features))
    source_plan = _Plan(warmup, per_chain, check_count("source_thin", source_thin))
    drawn = _run(law, "collapsed-hmc", position, source_plan, rng, keep, progress, "sources")
    flat = {
        name: values.swapaxes(0, 1).reshape(-1, *values.shape[2:])[:sources]
        for name, values in drawn.records.items()
    }

    c_s, c_st, c_t, c_tt = weight_covariances(
        coupling,
        source_weight_precision=priors.source_weight_precision,
        target_weight_precision=priors.weight_precision,
        scheme=priors.coupling_scheme,
    )
    frozen = np.isinf(coupling)
    copies = 1 if frozen else chains
    centre = np.repeat(c_st / c_s * flat["W"], copies, axis=0)
    network = _network(target, priors, width)
    around = _Target(network, centre, np.sqrt(max(c_t - c_tt, 0.0)), True)
    cross = np.sqrt(priors.source_readout_precision * priors.readout_precision) / width

    def record(position: Array) -> dict[str, Array]:
        row = around.measure(position, test)
        v = row.pop("readout").reshape(sources, copies, width)
        row = {name: x.reshape(sources, copies, *x.shape[1:]) for name, x in row.items()}
        row["Q_t"] = row.pop("order_parameter")
        row["Q_st"] = cross * np.einsum("sci,si->sc", v, flat["readout"])
        # Given the hidden weights two replicas' readouts are independent.
        partner = np.roll(v, 1, axis=1)
        row["Q_tt"] = priors.readout_precision / width * np.einsum("sci,sci->sc", v, partner)
        return {name: x.reshape(-1, *x.shape[2:]) for name, x in row.items()}

    if frozen:
        records = {name: x[:, None] for name, x in record(np.zeros_like(centre)).items()}
        run = _Run(records, drawn.step_size, drawn.acceptance, drawn.divergences)
    else:
        position = rng.standard_normal(centre.shape)
        run = _run(around, "collapsed-hmc", position, plan, rng, record, progress, "targets")
    records = {name: x.reshape(sources, copies, *x.shape[1:]) for name, x in run.records.items()}
    records["Q_s"] = flat["order_parameter"]
    r_hat, ess = _chain_statistics(drawn.records["order_parameter"])
    attributes = {"coupling": coupling, "coupling_scheme": priors.coupling_scheme}
    for name in ("source_temperature", "source_weight_precision", "source_readout_precision"):
        attributes[name] = getattr(priors, name)
    attributes["source_r_hat"] = r_hat
    attributes["source_ess"] = float(min(sources, np.nan_to_num(ess, nan=source_chains)))
    if test is not None:
        attributes["test_labels"] = test.y
    return _dataset(records, ("source", "chain", "draw"), run, priors, width, **attributes)


def _plan(draws: int, warmup: int, thin: int, step_size: float | None) -> _Plan:
    if step_size is not None:
        step_size = check_positive("step_size", step_size)
    return _Plan(
        check_count("warmup", warmup, 0), check_count("draws", draws), check_count("thin", thin),
        step_size,
    )  # fmt: skip


def _network(task: Task, priors: Priors, width: int) -> Network:
    if not isinstance(task, Task):
        raise TypeError(f"task must be a tlnb.Task, got {type(task).__name__}")
    priors.activation.derivative(np.zeros(1))  # a missing derivative is said now
    return Network(task, priors.activation, width, priors.temperature, priors.readout_precision)


def _test_task(test: Task | None, task: Task) -> Task | None:
    if test is not None:
        if not isinstance(test, Task):
            raise TypeError(f"test must be a tlnb.Task, got {type(test).__name__}")
        check_inputs(test.X, "test.X", task.n_features)
    return test


def _dataset(
    records: dict[str, Array], dims: tuple[str, ...], run: _Run, priors: Priors, width: int,
    **attributes: Any,
) -> Dataset:  # fmt: skip
    import xarray as xr

    def of(name: str, values: Array) -> tuple[tuple[str, ...], Array]:
        extra = ("test",) if name.startswith("prediction") else ()
        return (*dims[: values.ndim - len(extra)], *extra), values

    return xr.Dataset(
        {name: of(name, values) for name, values in records.items()},
        attrs={
            "width": width,
            "activation": priors.activation.name,
            "temperature": priors.temperature,
            "weight_precision": priors.weight_precision,
            "readout_precision": priors.readout_precision,
            "acceptance": run.acceptance,
            "divergences": run.divergences,
            "step_size": run.step_size,
            **attributes,
        },
    )


def _chain_statistics(x: Array) -> tuple[float, float]:
    """Rank-normalised R-hat and bulk effective sample size of x (chain, draw); NaN if too short."""
    if x.shape[1] < 4:
        return np.nan, np.nan
    import arviz as az

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(az.rhat(x)) if len(x) > 1 else np.nan, float(az.ess(x))


def summary(dataset: Dataset) -> DataFrame:
    """Mean, Monte Carlo error, effective sample size and R-hat of every quantity sampled.

    One task: chain statistics by arviz. Transfer: R-hat and effective sample size are taken within
    each quenched source, whose means differ by construction (the largest R-hat and the sum of the
    sample sizes are given), and the error is that of the mean over sources, from their spread.
    Squared bias, total and source variance are estimated without the bias of a finite number of
    sources, their errors by the jackknife over sources.

    A quantity whose chains are too short to be judged (fewer than 100 effective draws, or 10
    sources) has no numbers: they are NaN, and ``judged`` is False.

    Returns
    -------
    pandas.DataFrame with columns mean, mcse, ess, r_hat, judged
    """
    import pandas as pd

    rows = {}
    transfer = "source" in dataset.dims
    for name, values in dataset.data_vars.items():
        if "test" in values.dims:
            continue
        rows[name] = _of_sources(values.values, dataset.attrs) if transfer else _of_chains(values)
    if transfer and "prediction" in dataset:
        judged = np.isfinite(rows["test_error"][1])
        parts = _decomposition(dataset) if judged else dict.fromkeys(PARTS, NOT_JUDGED)
        rows |= parts
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "mcse", "ess", "r_hat"])
    table["judged"] = table["mcse"].notna()
    return table


def _of_chains(values: Any) -> tuple[float, float, float, float]:
    """Mean, Monte Carlo error, effective sample size and R-hat of a quantity over (chain, draw)."""
    import arviz as az

    x = values.transpose("chain", "draw").values
    r_hat, ess = _chain_statistics(x)
    if not ess >= FEWEST:
        return NOT_JUDGED
    return float(x.mean()), float(az.mcse(x)), ess, r_hat


def _of_sources(x: Array, attributes: dict[str, Any]) -> tuple[float, float, float, float]:
    """The same over (source, chain, draw), or (source,) for what belongs to the source alone."""
    sources = len(x)
    means = x.reshape(sources, -1).mean(1)
    # Sources taken from one chain are not quite independent.
    independent = min(sources, attributes["source_ess"])
    error = means.std(ddof=1) / np.sqrt(independent)
    if x.ndim == 1:
        r_hat, ess = attributes["source_r_hat"], float(independent)
    elif x.shape[1:] == (1, 1):  # frozen features: nothing was left to sample
        r_hat, ess = 1.0, float(sources)
    else:
        statistics = np.array([_chain_statistics(of_source) for of_source in x])
        r_hat, ess = statistics[:, 0].max(), statistics[:, 1].sum()
    if not (independent >= FEWEST / 10 and ess >= min(FEWEST, independent)):
        return NOT_JUDGED
    return float(means.mean()), float(error), float(ess), float(r_hat)


def _decomposition(dataset: Dataset) -> dict[str, tuple[float, float, float, float]]:
    """Squared bias, total and source variance, averaged over test points, with jackknife errors."""
    f = dataset.prediction.transpose("source", "chain", "draw", "test").values
    spread = dataset.prediction_variance.transpose("source", "chain", "draw", "test").values
    y = dataset.attrs["test_labels"]
    S = len(f)
    mean = f.mean((1, 2))
    # Two replicas around one source: different chains; for frozen features, one and the same.
    of_chains = f.mean(2)
    copies = f.shape[1]
    total = of_chains.sum(1)
    if copies > 1:
        pairs = (total**2 - (of_chains**2).sum(1)) / (copies * (copies - 1))
    else:
        pairs = mean**2
    second = (f**2 + spread).mean((1, 2))

    def parts(keep: Array) -> Array:
        m, n = mean[keep], len(keep)
        product = (m.sum(0) ** 2 - (m**2).sum(0)) / (n * (n - 1))  # of two different sources
        bias = (y**2 - 2 * y * m.mean(0) + product).mean()
        return np.array([bias, (second[keep].mean(0) - product).mean(),
                         (pairs[keep].mean(0) - product).mean()])  # fmt: skip

    everything = np.arange(S)
    whole = parts(everything)
    left_out = np.array([parts(np.delete(everything, s)) for s in everything])
    factor = (S - 1) * max(1.0, S / dataset.attrs["source_ess"])
    errors = np.sqrt(factor * left_out.var(0))
    return {
        name: (float(value), float(error), float(S), np.nan)
        for name, value, error in zip(PARTS, whole, errors, strict=True)
    }
