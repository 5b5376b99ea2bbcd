"""Sampled networks and the law of a hidden unit, for chapter 17: makes results/17_*.nc.

MNIST is read from the directory that the environment variable TLNB_MNIST names, which holds the
test images in IDX format; everything else needs no data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from experiments import other_units
from experiments.chapter_07 import TEMPERING, digit_tasks, shared_teacher, statistics
from experiments.sweep import Sweep
from tlnb import Task
from tlnb.data.images import digits, read_mnist, transfer_tasks
from tlnb.kernels import get_activation, kernel
from tlnb.sampling import sample_posterior, sample_transfer
from tlnb.sampling.adaptation import StepSize
from tlnb.sampling.diagnostics import chain_statistics
from tlnb.sampling.hmc import hmc, init
from tlnb.theory import one_task, transfer, unit_law
from tlnb.theory.unit_law.walk import POPULATIONS

HALVES, PARITY = "0,1,2,3,4|5,6,7,8,9", "0,2,4,6,8|1,3,5,7,9"
CASES = {
    "rich": {"source": HALVES, "readout_precision": 100.0},
    "unrelated": {"source": PARITY, "readout_precision": 100.0},
    "lazy": {"source": HALVES, "readout_precision": 1.0},
    "lazy unrelated": {"source": PARITY, "readout_precision": 1.0},
}
RICH, LAZY = ["rich", "unrelated"], ["lazy", "lazy unrelated"]
IMAGES = {"width": 100, "temperature": 0.01}
WIDTHS = [20, 50, 100, 200, 400, 800]
ACTIVATIONS = ["erf", "relu", "tanh"]
COUPLINGS = [0.0, 0.3, 1.0, 10.0, np.inf]
HUNDRED = {"n_source": 100, "n_target": 20, "n_test": 200}
NAMES = ("Q_s", "Q_t", "Q_st", "Q_tt", "test_error", "squared_bias", "total_variance")


def image_tasks(case: str) -> tuple[Task, Task, Task]:
    """300 source, 60 target and 300 test images of MNIST, 14 by 14 pixels."""
    folder = Path(os.environ.get("TLNB_MNIST", ""))
    files = [folder / f"t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(file.is_file() for file in files):
        names = " and ".join(file.name for file in files)
        raise FileNotFoundError(f"TLNB_MNIST must name a directory with {names}")
    sizes = {"n_source": 300, "n_target": 60, "n_test": 300, "size": 14}
    tasks = transfer_tasks(read_mnist(*files), CASES[case]["source"], HALVES, **sizes, seed=0)
    return tasks.source, tasks.target, tasks.test


def teacher_tasks() -> tuple[Task, Task]:
    """60 training and 200 test examples of a linear teacher in 20 dimensions."""
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal(20)
    X = rng.standard_normal((260, 20))
    y = X @ teacher / np.linalg.norm(teacher)
    return Task(X[:60], y[:60]), Task(X[60:], y[60:])


def chains(drawn: xr.Dataset, test: Task) -> dict[str, float]:
    """Q, test error and squared bias of chains of one task: means, errors, R-hat."""
    found = {}
    for name, x in (("Q", drawn.order_parameter.values), ("test_error", drawn.test_error.values)):
        r_hat, size = chain_statistics(x)
        found |= {name: x.mean(), f"{name}_mcse": x.std(ddof=1) / size**0.5, f"{name}_r_hat": r_hat}
    # Products of different chains: the noise of a mean does not enter its square.
    residual = test.y - drawn.prediction.mean("draw").values
    n = len(residual)
    pairs = (residual.sum(0) ** 2 - (residual**2).sum(0)) / (n * (n - 1))
    return found | {"squared_bias": pairs.mean()}


def sampled_images(case: str, seed: int, thin: int = 4) -> xr.Dataset:
    """Networks of the source's task, tested on the target's images, and targets around them.

    The source's chains are long enough for R-hat; four draws of each are quenched sources.
    """
    source, target, test = image_tasks(case)
    rng, precision = np.random.default_rng(seed), CASES[case]["readout_precision"]
    given = dict(**IMAGES, readout_precision=precision, rng=rng, progress=False)
    plan = dict(chains=6, warmup=150, draws=84, thin=thin)
    drawn = sample_posterior(source, test=test, weights=True, **plan, **given)
    found = {f"source_{name}": x for name, x in chains(drawn, test).items()}
    quenched = drawn.isel(draw=slice(20, None, 21))
    targets = dict(sources=quenched, test=test, chains=2, warmup=30, draws=16, thin=3)
    points = [
        statistics(sample_transfer(source, target, coupling=coupling, **targets, **given))
        for coupling in COUPLINGS
    ]
    found |= {name: ("coupling", [point[name] for point in points]) for name in points[0]}
    return xr.Dataset(found, coords={"coupling": COUPLINGS})


def sampled_widths(activation: str, width: int, seed: int) -> dict[str, float]:
    """Networks of one linear teacher's task."""
    train, test = teacher_tasks()
    plan = dict(chains=12, warmup=80, draws=100, thin=2, rng=seed, progress=False)
    drawn = sample_posterior(
        train, test=test, width=width, activation=activation, temperature=0.1, **plan
    )
    return chains(drawn, test)


def both(
    train: Task, test: Task, effort: dict, rng: int | np.random.Generator, **given: Any
) -> dict[str, Any]:
    """Q, errors by the scalar theory and by the law of a unit, with Monte Carlo errors; the law."""
    scalar = one_task.solve(train, **given)
    outcome = scalar.predict(test.X, test.y)
    found = {"scalar_Q": scalar.Q, "scalar_test_error": outcome.test_error.mean()}
    found["scalar_squared_bias"] = outcome.squared_bias.mean()
    law = unit_law.solve(train, rng=rng, **effort, **given)
    found |= {"law": law, "Q": law.Q, "Q_mcse": law.errors["Q"]}
    averages = law.averages(test)
    for name in ("test_error", "squared_bias"):
        found |= {name: averages[name].value, f"{name}_mcse": averages[name].mcse}
    return found


def law_curve(
    source: Task,
    target: Task,
    test: Task,
    width: int,
    effort: dict,
    seed: int,
    couplings: list[float] = COUPLINGS,
    **given: Any,
) -> tuple[unit_law.TransferLawProblem, xr.Dataset]:
    """Both theories over the couplings; the law's with Monte Carlo errors."""
    problem = unit_law.TransferLawProblem(source, target, rng=seed, **effort, **given)
    law = problem.sweep(test, widths=[width], couplings=couplings)
    scalar = transfer.coupling_sweep(
        source, target, test, widths=[width], couplings=couplings, **given
    )
    found = {f"scalar_{name}": scalar[name] for name in NAMES}
    for name in NAMES:
        found |= {name: law[name], f"{name}_mcse": law[f"{name}_mcse"]}
    return problem, xr.Dataset(found).isel(width=0, drop=True)


def law_images(case: str, seed: int, particles: int = 2000) -> xr.Dataset:
    """Both theories on the tasks of `sampled_images`: the source's as ``source_*``."""
    source, target, test = image_tasks(case)
    width, given = IMAGES["width"], {"temperature": IMAGES["temperature"]}
    given["readout_precision"] = CASES[case]["readout_precision"]
    effort = {"particles": particles, "warmup": 80, "draws": 24, "tolerance": 0.05}
    problem, found = law_curve(source, target, test, width, effort, seed, **given)
    scalar = one_task.solve(source, width=width, **given)
    outcome = scalar.predict(test.X, test.y)
    found["source_scalar_Q"] = scalar.Q
    found["source_scalar_test_error"] = outcome.test_error.mean()
    law = problem.source_law(float(width))
    error = law.averages(test)["test_error"]
    found["source_Q"], found["source_Q_mcse"] = law.Q, law.errors["Q"]
    found["source_test_error"], found["source_test_error_mcse"] = error.value, error.mcse
    return found


def law_widths(activation: str, width: int, seed: int) -> dict[str, float]:
    """Both theories on the task of `sampled_widths`."""
    effort = {"particles": 2000, "warmup": 60, "draws": 60, "tolerance": 0.05}
    given = {"width": width, "activation": activation, "temperature": 0.1}
    found = both(*teacher_tasks(), effort, seed, **given)
    del found["law"]
    return found


def law_digits(width: int, seed: int) -> xr.Dataset:
    """Both theories on the digits of chapter 07, over the couplings."""
    effort = {"particles": 2000, "warmup": 80, "draws": 24, "tolerance": 0.1}
    return law_curve(*digit_tasks(0), width, effort, seed, temperature=0.01)[1]


def own_variance(
    train: Task, test: Task, width: int, temperature: float, own: bool, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Q, test error and squared bias of particles whose q is their own, or the mean of all.

    With q(w) = σᵀΓσ/N1 of its own a unit has the law N(w) (1 + q)^(-1/2) exp(Q m²/(2 N1)),
    Q = 1/(1 + q). Erf units, precisions of one; for comparison only, not fast.
    """
    erf, X = get_activation("erf"), train.X / np.sqrt(train.n_features)
    y, one = train.y, np.eye(train.n_examples)
    scalar = one_task.solve(train, width=width, temperature=temperature)
    K = scalar.Q * kernel(train.X, activation="erf")
    t = np.linalg.solve(temperature * one + K, y)
    Gamma = np.linalg.inv(temperature * one + K)
    position, mean_Q, step = rng.standard_normal((1500, train.n_features)), 0.5, 0.3
    pulled, spread = 0.5 * K, 0.5 * K

    def tilt(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = position @ X.T
        sigma = erf(h)
        m, turned = sigma @ t, sigma @ Gamma
        slope = (m[:, None] * t) * (mean_Q / width)
        if not own:
            return mean_Q * m**2 / (2 * width), (slope * erf.derivative(h)) @ X
        Q = 1 / (1 + np.einsum("mp,mp->m", turned, sigma) / width)
        slope = (
            slope * (Q / mean_Q)[:, None] - turned * ((Q + (Q * m) ** 2 / width) / width)[:, None]
        )
        return 0.5 * np.log(Q) + Q * m**2 / (2 * width), (slope * erf.derivative(h)) @ X

    size, sums = StepSize(step, np.pi / 2), []
    for k in range(240):
        angle = rng.uniform(0.5, 1.0) * np.pi / 2
        state, info = hmc(init(position, tilt), tilt, rng, step=step, angle=angle)
        position = state.position
        if k < 60:
            size.update(float(info.acceptance.mean()))
            step = size.current
        sigma = erf(position @ X.T)
        q = np.einsum("mp,mp->m", sigma @ Gamma, sigma) / width
        Q = 1 / (1 + (q if own else np.full_like(q, q.mean())))
        n, M = Q * (sigma @ t), len(sigma)
        gain = (20 + k) ** -0.5
        pulled = pulled + gain * ((sigma * Q[:, None]).T @ sigma / M - pulled)
        spread = spread + gain * ((sigma * (n**2 / width)[:, None]).T @ sigma / M - spread)
        t = np.linalg.solve(temperature * one + pulled, y)
        Gamma, mean_Q = np.linalg.inv(temperature * one + pulled + spread), float(Q.mean())
        if k >= 160:
            new = erf(position @ (test.X / np.sqrt(test.n_features)).T)
            V = Q + n**2 / width
            weighed = sigma * V[:, None]
            rows = V.mean(), n @ new / M, weighed.T @ new / M, V @ new**2 / M, weighed.T @ sigma / M
            sums.append(rows)
    V, mean, cross, variance, Sigma = (np.mean(x, axis=0) for x in zip(*sums, strict=True))
    variance = variance - np.einsum(
        "pn,pn->n", cross, np.linalg.solve(temperature * one + Sigma, cross)
    )
    bias = np.mean((test.y - mean) ** 2)
    return float(V), float(bias + variance.mean()), float(bias)


def per_unit(width: int, temperature: float, seed: int) -> dict[str, float]:
    """Networks of a hundred digits, and units with a q of their own or the mean one, twice each."""
    tasks = transfer_tasks(digits(), "3,8|4,9", "3,8|4,9", **HUNDRED, seed=0)
    rng, given = np.random.default_rng(seed), {"width": width, "temperature": temperature}
    plan = dict(chains=8, warmup=200, draws=100, thin=2, rng=rng, progress=False)
    drawn = sample_posterior(tasks.source, test=tasks.test, **plan, **given)
    found = {f"networks_{name}": x for name, x in chains(drawn, tasks.test).items()}
    scalar = one_task.solve(tasks.source, **given)
    outcome = scalar.predict(tasks.test.X, tasks.test.y)
    found |= {"scalar_Q": scalar.Q, "scalar_test_error": outcome.test_error.mean()}
    found["scalar_squared_bias"] = outcome.squared_bias.mean()
    for name, own in (("mean", False), ("own", True)):
        rows = [own_variance(tasks.source, tasks.test, **given, own=own, rng=rng) for _ in (0, 1)]
        for key, values in zip(
            ("Q", "test_error", "squared_bias"), np.transpose(rows), strict=True
        ):
            found |= {f"{name}_{key}": values.mean(), f"{name}_{key}_mcse": abs(np.ptp(values)) / 2}
    return found


def cavity(width: int, readout_precision: float, seed: int) -> xr.Dataset:
    """A hundred digits: networks, both theories, and what a unit feels of the others.

    ``refed_*`` are the theory's equations at averages over the networks' own units.
    """
    tasks = transfer_tasks(digits(), "3,8|4,9", "3,8|4,9", **HUNDRED, seed=0)
    at = other_units.Setting(tasks.source, width, 0.01, readout_precision)
    test, rng = tasks.test, np.random.default_rng(seed)
    plan = dict(chains=8, warmup=200, draws=60, thin=8 if width == 25 else 4)
    whole, others = other_units.networks(at, test, rng, plan)
    found = {f"networks_{name}": x for name, x in chains(whole, test).items()}
    found |= {f"others_{name}": x for name, x in chains(others, test).items()}
    refed, _, second = other_units.refed(whole, at, test)
    found |= {f"refed_{name}": x for name, x in refed.items()}
    effort = {"particles": 2000, "warmup": 80, "draws": 40, "tolerance": 0.1}
    given = at._asdict()
    told = both(given.pop("train"), test, effort, rng, **given)
    law = told.pop("law")
    found |= {k if k.startswith("scalar") else f"law_{k}": x for k, x in told.items()}
    found["law_readout_variance"] = law.readout_variance
    squares = law.particles.weights.square
    found["law_carriers"] = at.width * squares.mean() ** 2 / (squares**2).mean()
    weights = whole.hidden_weights.values.reshape(-1, at.train.n_features)
    weights = weights[rng.permutation(len(weights))]
    responses = other_units.Responses.of(others, at)
    by_unit = other_units.felt(weights[:400], responses, law, at, second)
    found |= {k: ("unit", x) if np.ndim(x) else x for k, x in by_unit.items()}
    return xr.Dataset(found)


def fed(width: int, seed: int) -> xr.Dataset:
    """The digits of chapter 07: the theory's targets around units of sampled networks.

    ``refed_*`` are the equations of the source at averages over these units.
    """
    source, target, test = digit_tasks(0)
    at, rng = other_units.Setting(source, width, 0.01, 1.0), np.random.default_rng(seed)
    plan = dict(chains=6, warmup=100, draws=40, thin=4)
    if width == 50:
        plan = dict(chains=4, warmup=150, draws=24, thin=5, tempering=TEMPERING)
    given = dict(width=width, temperature=0.01, weights=True, rng=rng, progress=False)
    whole = sample_posterior(source, test=test, **plan, **given)
    found = {f"networks_{name}": x for name, x in chains(whole, test).items()}
    refed, closed, _ = other_units.refed(whole, at, test)
    found |= {f"refed_{name}": x for name, x in refed.items()}
    effort = {"particles": 2000, "warmup": 80, "draws": 24, "tolerance": 0.1}
    problem = unit_law.TransferLawProblem(source, target, temperature=0.01, rng=rng, **effort)
    each = effort["particles"] // POPULATIONS
    around = other_units.law_of_networks(whole, at, closed, POPULATIONS, each)
    problem._sources[float(width)] = around
    told = problem.sweep(test, widths=[width], couplings=[1.0, np.inf]).isel(width=0, drop=True)
    names = [name for name in NAMES if name != "Q_s"]
    names += [f"{name}_mcse" for name in names]
    return told[names].assign(found)


def levels(width: int, seed: int) -> xr.Dataset:
    """Chains of the source of chapter 07 without tempering: their levels, and who carries."""
    source, _, test = digit_tasks(0)
    plan = dict(chains=12, warmup=150, draws=12, thin=8, weights=True, rng=seed, progress=False)
    drawn = sample_posterior(source, test=test, width=width, temperature=0.01, **plan)
    at = other_units.Setting(source, width, 0.01, 1.0)
    number, largest = other_units.carriers(drawn, at)
    found = {name: drawn[name].mean("draw").values for name in ("order_parameter", "test_error")}
    found |= {"carriers": number.mean(1), "largest_share": largest.mean(1)}
    return xr.Dataset({name: ("network_chain", x) for name, x in found.items()})


def activations(activation: str, seed: int) -> xr.Dataset:
    """A hundred digits, 50 units, T = 0.1: sampled sources and targets, and both theories."""
    tasks = transfer_tasks(digits(), "3,8|4,9", "3,8|4,9", **HUNDRED, seed=0)
    source, target, test = tasks.source, tasks.target, tasks.test
    couplings, rng = [0.0, 1.0, np.inf], np.random.default_rng(seed)
    at = {"activation": activation, "temperature": 0.1}
    given = dict(width=50, rng=rng, progress=False, **at)
    plan = dict(chains=8, warmup=150, draws=60, thin=3)
    drawn = sample_posterior(source, test=test, weights=True, **plan, **given)
    found = {f"source_{name}": x for name, x in chains(drawn, test).items()}
    around = dict(sources=drawn.isel(draw=slice(14, None, 15)), test=test)
    around |= dict(chains=2, warmup=30, draws=20, thin=2)
    points = [
        statistics(sample_transfer(source, target, coupling=coupling, **around, **given))
        for coupling in couplings
    ]
    found |= {name: ("coupling", [point[name] for point in points]) for name in points[0]}
    effort = {"particles": 2000, "warmup": 60, "draws": 40, "tolerance": 0.1}
    problem, told = law_curve(source, target, test, 50, effort, seed, couplings, **at)
    found |= {f"theory_{name}": x for name, x in told.items()}
    law = problem.source_law(50.0)
    scalar = one_task.solve(source, width=50, **at)
    outcome = scalar.predict(test.X, test.y)
    found["source_scalar_Q"] = scalar.Q
    found["source_scalar_test_error"] = outcome.test_error.mean()
    error = law.averages(test)["test_error"]
    found |= {"source_law_Q": law.Q, "source_law_Q_mcse": law.errors["Q"]}
    found |= {"source_law_test_error": error.value, "source_law_test_error_mcse": error.mcse}
    return xr.Dataset(found, coords={"coupling": couplings})


def terms(left_out: str, seed: int) -> dict[str, float]:
    """The teacher of chapter 07 at width 40 and γ = 2, with one term of the equations left out."""
    source, target, test = shared_teacher(40, 0)
    effort = {"particles": 8000, "warmup": 60, "draws": 32, "tolerance": 0.1}
    problem = unit_law.TransferLawProblem(source, target, temperature=0.1, rng=seed, **effort)
    kept = {} if left_out == "none" else {f"keep_{left_out}": False}
    solved = problem.solve(width=40, coupling=2.0, **kept)
    found = {}
    for name in ("Q_s", "Q_t", "Q_st", "Q_tt", "log_evidence"):
        found |= {name: getattr(solved, name), f"{name}_mcse": solved.errors[name]}
    error = solved.averages(test)["test_error"]
    return found | {"test_error": error.value, "test_error_mcse": error.mcse}


SWEEPS = {
    "images": Sweep(sampled_images, {"case": RICH}, seed=17),
    "images_lazy": Sweep(sampled_images, {"case": LAZY}, seed=17, fixed={"thin": 6}),
    "widths": Sweep(sampled_widths, {"activation": ACTIVATIONS, "width": WIDTHS}, seed=17),
    "law_images": Sweep(law_images, {"case": RICH}, seed=17),
    "law_images_lazy": Sweep(law_images, {"case": LAZY}, seed=17),
    "cavity": Sweep(cavity, {"readout_precision": [1.0], "width": [25, 50, 100, 200]}, seed=17),
    "cavity_rich": Sweep(cavity, {"readout_precision": [50.0], "width": [100]}, seed=17),
    "levels": Sweep(levels, {"width": [50]}, seed=17),
    "fed": Sweep(fed, {"width": [50, 200]}, seed=17),
    "activations": Sweep(activations, {"activation": ["relu", "tanh"]}, seed=17),
    "per_unit": Sweep(per_unit, {"width": [25, 100], "temperature": [0.01]}, seed=17),
    "terms": Sweep(terms, {"left_out": ["none", "field", "pull", "known"]}, seed=17),
    "law_widths": Sweep(law_widths, {"activation": ACTIVATIONS, "width": WIDTHS}, seed=17),
    "law_digits": Sweep(law_digits, {"width": [50, 200, 500]}, seed=17),
}
