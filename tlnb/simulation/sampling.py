r"""Networks drawn from their posteriors, with what is needed to judge the draws.

One task: chains of `tlnb.simulation.hmc` over the hidden weights, readouts integrated out
("collapsed-hmc"), or over all weights ("hmc", and "langevin", unadjusted as the papers use it).
Transfer: source networks first; then, around each of these quenched sources, target chains whose
prior is N(b w_s, 1/(λ0t + γ)). Any two chains around one source are two target replicas. What can
be averaged over readouts given the hidden weights is averaged analytically.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.activations import Activation
from tlnb.data.task import Task, check_task
from tlnb.errors import SamplingError
from tlnb.priors import Priors, weight_covariances
from tlnb.simulation.diagnostics import chain_statistics
from tlnb.simulation.hmc import StepSize, hmc, langevin, start
from tlnb.simulation.network import Network
from tlnb.validation import (
    check_choice,
    check_count,
    check_nonnegative,
    check_positive,
)

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
SAMPLERS = ("collapsed-hmc", "hmc", "langevin")
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
            if bad.any() and (abs(position[bad]) < FARTHEST).all():
                raise FloatingPointError(f"not finite in {bad.sum()} of {len(bad)} chains")
        return value, gradient

    def measure(self, position: Array, test: Task | None) -> dict[str, Array]:
        """What is recorded of each chain."""
        W, v = self.split(position)
        net, Phi = self.network, self.network.features(W)
        if v is None:
            readouts = net.readouts(Phi)
            row = {
                "order_parameter": readouts.order_parameter(),
                "train_error": readouts.train_error(),
                "readout": readouts.mean,
            }
        else:
            f = np.matmul(Phi, v[..., None])[..., 0] / np.sqrt(net.width)
            row = {
                "order_parameter": net.readout_precision / net.width * (v**2).sum(1),
                "train_error": ((net.task.y - f) ** 2).mean(1),
                "readout": v,
            }
        if test is not None:
            if v is None:
                mean, variance = readouts.predict(net.features(W, test.X))
            else:
                mean = net.output(W, v, test.X)
                variance = np.zeros_like(mean)
            row["prediction"], row["prediction_variance"] = mean, variance
            row["test_error"] = ((test.y - mean) ** 2 + variance).mean(1)
        return row


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
    if test is not None:
        check_task("test", test, task.n_features)
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
    check_task("target", target, check_task("source", source).n_features)
    if test is not None:
        check_task("test", test, target.n_features)
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
    r_hat, ess = chain_statistics(drawn.records["order_parameter"])
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
    draws, thin = check_count("draws", draws), check_count("thin", thin)
    return _Plan(check_count("warmup", warmup, 0), draws, thin, step_size)


def _network(task: Task, priors: Priors, width: int) -> Network:
    priors.activation.derivative(np.zeros(1))  # a missing derivative is said now
    check_task("task", task)
    return Network(task, priors.activation, width, priors.temperature, priors.readout_precision)


def _dataset(
    records: dict[str, Array], dims: tuple[str, ...], run: _Run, priors: Priors, width: int,
    **attributes: Any,
) -> Dataset:  # fmt: skip
    import xarray as xr

    def of(name: str, values: Array) -> tuple[tuple[str, ...], Array]:
        extra = ("test",) if name.startswith("prediction") else ()
        return (*dims[: values.ndim - len(extra)], *extra), values

    attributes |= {"width": width, "activation": priors.activation.name}
    for name in ("temperature", "weight_precision", "readout_precision"):
        attributes[name] = getattr(priors, name)
    for name in ("acceptance", "divergences", "step_size"):
        attributes[name] = getattr(run, name)
    return xr.Dataset({name: of(name, x) for name, x in records.items()}, attrs=attributes)
