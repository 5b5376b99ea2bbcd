r"""Networks drawn from their posteriors, with what is needed to judge the draws.

One task: chains of `tlnb.simulation.hmc` over the hidden weights, readouts integrated out
("collapsed-hmc"), or over all weights ("hmc", and "langevin", unadjusted as the papers use it).
Transfer: source networks first; then, around each of these quenched sources, target chains whose
prior is N(b w_s, 1/(λ0t + γ)). Any two chains around one source are two target replicas. What can
be averaged over readouts given the hidden weights is averaged analytically.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlnb.activations import Activation
from tlnb.data.task import Task, check_task
from tlnb.errors import SamplingError
from tlnb.priors import Priors, weight_covariances
from tlnb.simulation.hmc import StepSize, exchange, hmc, langevin, start
from tlnb.simulation.network import Network
from tlnb.validation import (
    check_choice,
    check_count,
    check_nonnegative,
    check_positive,
    check_rng,
)

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
SAMPLERS = ("collapsed-hmc", "hmc", "langevin")
EXTRA = {"prediction": ("test",), "prediction_variance": ("test",)}
EXTRA["hidden_weights"] = ("unit", "feature")
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
    exchange: Array  # mean acceptance of swaps between neighbouring temperatures


def _run(
    targets: list[_Target],
    sampler: str,
    positions: Array,
    plan: _Plan,
    rng: np.random.Generator,
    record: Callable[[Array], dict[str, Array]],
    progress: bool,
    label: str,
) -> _Run:
    """Warm up, adapting the steps, then draw from the first target; the others exchange with it.

    Positions are of shape (targets, C, ...).
    """
    from tqdm import tqdm

    collapsed = sampler == "collapsed-hmc"
    sizes = [StepSize(0.1, np.pi / 2 if collapsed else 0.5) for _ in targets]
    steps = [plan.step_size or size.current for size in sizes]
    rows: list[dict[str, Array]] = []
    accepted, divergences, swapped = [], 0, []
    states, when = None, "at the start"
    length = plan.warmup + plan.draws * plan.thin
    bar = tqdm(range(length), desc=label, disable=not progress, leave=False)
    # One BLAS thread: the same numbers whatever the number of workers, and small matrices.
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"), bar:
        try:
            states = [start(*pair) for pair in zip(positions, targets, strict=True)]
            for i in bar:
                warming = i < plan.warmup
                adapting = warming and plan.step_size is None
                if i == plan.warmup and plan.step_size is None and plan.warmup > 0:
                    steps = [size.final for size in sizes]
                for k, target in enumerate(targets):
                    when = f"in step {i + 1}, of size {steps[k]:.3g}"
                    if sampler == "langevin" and not adapting:
                        moved = langevin(states[k], target, rng, step=steps[k])
                        if _not_finite(moved.log_likelihood, moved.gradient).any():
                            raise FloatingPointError("the dynamics ran away")
                        states[k] = moved
                        continue
                    # Jittered lengths; Langevin adapts its step as a single accepted one.
                    jitter = rng.uniform(0.5, 1.0) * np.pi / 2
                    angle = steps[k] if sampler == "langevin" else jitter
                    states[k], info = hmc(
                        states[k], target, rng, step=steps[k], angle=angle, rotate=collapsed
                    )
                    if adapting:
                        sizes[k].update(float(info.acceptance.mean()))
                        steps[k] = sizes[k].current
                    elif k == 0 and not warming:
                        accepted.append(info.acceptance.mean())
                        divergences += int(info.diverged.sum())
                states, swaps = exchange(states, targets, rng)
                if not warming:
                    swapped.append(swaps)
                if not warming and (i + 1 - plan.warmup) % plan.thin == 0:
                    rows.append(record(states[0].position))
        except FloatingPointError as error:
            last = positions[0] if states is None else states[0].position
            raise SamplingError(
                f"the log likelihood or its gradient is not finite {when}: {error}; try a smaller "
                "step, a higher temperature or another activation. The last finite positions are "
                "in the error's `state`",
                last,
            ) from error
    records = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    acceptance = float(np.mean(accepted)) if accepted else 1.0
    return _Run(records, float(steps[0]), acceptance, divergences, np.mean(swapped, axis=0))


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
    tempering: Sequence[float] = (),
    weights: bool = False,
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
    tempering : sequence of float
        Increasing temperatures above T at which further chains run, as many as at T. After each
        step chains at neighbouring temperatures may exchange their positions, which leaves every
        posterior as it is and carries chains at T across barriers that are low at the last
        temperature.
    weights : bool
        Keep the hidden weights, so that the networks can be sources of `sample_transfer`.
    seed : int or Generator

    Returns
    -------
    xarray.Dataset over (chain, draw[, test])
        order_parameter, train_error and, given a test task, prediction, prediction_variance and
        test_error (over chain and draw: the mean over test points). With the readouts integrated
        out all are averages over them given the hidden weights. With ``weights`` hidden_weights
        over (chain, draw, unit, feature). Attributes: acceptance, divergences, step_size, the
        parameters and, with tempering, exchange: the accepted fraction of swaps by neighbours.

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
    hotter = [check_positive("tempering", T) for T in np.ravel(tempering).tolist()]
    temperatures = [priors.temperature, *hotter]
    if (np.diff(temperatures) <= 0).any():
        raise ValueError(f"tempering must increase from T = {temperature}, got {tempering!r}")
    rng = check_rng("seed", seed)
    network = _network(task, priors, width)
    collapsed, spread = sampler == "collapsed-hmc", priors.weight_precision**-0.5
    targets = [
        _Target(replace(network, temperature=T), 0.0, spread, collapsed) for T in temperatures
    ]
    shape = (len(targets), chains, width, task.n_features + (not collapsed))

    def record(position: Array) -> dict[str, Array]:
        row = targets[0].measure(position, test)
        del row["readout"]
        return row | ({"hidden_weights": targets[0].split(position)[0]} if weights else {})

    positions = rng.standard_normal(shape)
    run = _run(targets, sampler, positions, plan, rng, record, progress, "networks")
    attributes: dict[str, Any] = {"sampler": sampler}
    if len(targets) > 1:
        attributes |= {"tempering": np.array(hotter), "exchange": run.exchange}
    return _dataset(run.records, ("chain", "draw"), run, priors, width, **attributes)


def sample_transfer(
    source: Task,
    target: Task,
    *,
    width: int,
    coupling: float,
    sources: int | Dataset = 50,
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
    sources : int or Dataset
        Number of quenched sources, taken from ``source_chains`` chains of the source's posterior,
        one in ``source_thin`` steps; or the networks that ``sample_posterior(source, weights=True,
        ...)`` drew: the same for many couplings, from chains judged before.
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
        `sample_posterior`, and source_chains: source s is of chain s modulo this number.

    Raises
    ------
    ValueError, TypeError, SamplingError
        As `sample_posterior` does.
    """
    priors = Priors(**priors)
    coupling = check_nonnegative("coupling", coupling, allow_infinite=True)
    plan = _plan(draws, warmup, thin, None)
    width, chains = check_count("width", width), check_count("chains", chains, 2)
    check_task("target", target, check_task("source", source).n_features)
    if test is not None:
        check_task("test", test, target.n_features)
    rng = check_rng("seed", seed)
    of_source = {
        "temperature": priors.source_temperature,
        "weight_precision": priors.source_weight_precision,
        "readout_precision": priors.source_readout_precision,
    }
    if isinstance(sources, (int, np.integer)):
        S = check_count("sources", sources, 2)
        source_chains = min(check_count("source_chains", source_chains), S)
        source_thin = check_count("source_thin", source_thin)
        drawn = sample_posterior(
            source, width=width, activation=priors.activation, **of_source, chains=source_chains,
            draws=-(-S // source_chains), warmup=warmup, thin=source_thin, weights=True, seed=rng,
            progress=progress,
        )  # fmt: skip
    else:
        S, drawn = None, sources
    W, v_s, Q_s = (x[:S] for x in _quenched(drawn, source, priors, width, of_source))
    S = check_count("sources", len(W), 2)

    c_s, c_st, c_t, c_tt = weight_covariances(
        coupling,
        source_weight_precision=priors.source_weight_precision,
        target_weight_precision=priors.weight_precision,
        scheme=priors.coupling_scheme,
    )
    frozen = np.isinf(coupling)
    copies = 1 if frozen else chains
    centre = np.repeat(c_st / c_s * W, copies, axis=0)
    network = _network(target, priors, width)
    around = _Target(network, centre, np.sqrt(max(c_t - c_tt, 0.0)), True)
    cross = np.sqrt(priors.source_readout_precision * priors.readout_precision) / width

    def record(position: Array) -> dict[str, Array]:
        row = around.measure(position, test)
        v = row.pop("readout").reshape(S, copies, width)
        row = {name: x.reshape(S, copies, *x.shape[1:]) for name, x in row.items()}
        row["Q_t"] = row.pop("order_parameter")
        row["Q_st"] = cross * np.einsum("sci,si->sc", v, v_s)
        # Given the hidden weights two replicas' readouts are independent.
        partner = np.roll(v, 1, axis=1)
        row["Q_tt"] = priors.readout_precision / width * np.einsum("sci,sci->sc", v, partner)
        return {name: x.reshape(-1, *x.shape[2:]) for name, x in row.items()}

    if frozen:
        records = {name: x[:, None] for name, x in record(np.zeros_like(centre)).items()}
        moved = (drawn.attrs[name] for name in ("step_size", "acceptance", "divergences"))
        run = _Run(records, *moved, np.empty(0))
    else:
        positions = rng.standard_normal((1, *centre.shape))
        run = _run([around], "collapsed-hmc", positions, plan, rng, record, progress, "targets")
    records = {name: x.reshape(S, copies, *x.shape[1:]) for name, x in run.records.items()}
    records["Q_s"] = Q_s
    attributes = {"coupling": coupling, "coupling_scheme": priors.coupling_scheme}
    attributes |= {f"source_{name}": value for name, value in of_source.items()}
    attributes["source_chains"] = drawn.sizes["chain"]
    if test is not None:
        attributes["test_labels"] = test.y
    return _dataset(records, ("source", "chain", "draw"), run, priors, width, **attributes)


def _quenched(
    drawn: Dataset, source: Task, priors: Priors, width: int, given: dict[str, float]
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
    expected = {"width": width, "activation": priors.activation.name, "sampler": SAMPLERS[0]}
    expected |= given
    found = {name: drawn.attrs.get(name) for name in expected}
    if found != expected:
        raise ValueError(f"{rule}{found}")
    W = drawn.hidden_weights.transpose("draw", "chain", ...).values
    W = W.reshape(-1, *W.shape[2:])
    network = Network(
        source, priors.activation, width, given["temperature"], given["readout_precision"]
    )
    readouts = network.readouts(network.features(W)) if W.shape[2] == source.n_features else None
    Q_s = drawn.order_parameter.transpose("draw", "chain").values.ravel()
    if readouts is None or not np.allclose(readouts.order_parameter(), Q_s, rtol=1e-6):
        raise ValueError(f"{rule}those of another task")
    return W, readouts.mean, Q_s


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
        extra = EXTRA.get(name, ())
        return (*dims[: values.ndim - len(extra)], *extra), values

    attributes |= {"width": width, "activation": priors.activation.name}
    for name in ("temperature", "weight_precision", "readout_precision"):
        attributes[name] = getattr(priors, name)
    for name in ("acceptance", "divergences", "step_size"):
        attributes[name] = getattr(run, name)
    return xr.Dataset({name: of(name, x) for name, x in records.items()}, attrs=attributes)
