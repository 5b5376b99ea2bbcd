"""The sampled networks of chapter 07: makes results/07_*.nc.

A point draws quenched sources and targets around them, and keeps means, Monte Carlo errors and
R-hat; the theory is computed in the chapter. Interrupted, it continues where it was:
python tools/results_07.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
from xarray import Dataset

from tlnb import Task
from tlnb.data.images import digits, transfer_tasks
from tlnb.simulation import sample_posterior, sample_transfer, summary
from tlnb.sweeps import run_grid

RESULTS = Path(__file__).resolve().parent.parent / "results"
COMMAND = "python tools/results_07.py"
TEACHER_COUPLINGS = {"coupling": [0, 0.5, 2, 10, 1e4, np.inf]}
DIGITS_COUPLINGS = {"coupling": [0, 0.3, 1, 10, np.inf]}
BY_SOURCE = {"Q_s_by_source": ["source"], "test_error_by_source": ["source"]}
BY_STEP = {"order_parameter": ["chain", "step"], "test_error": ["chain", "step"]}
TEACHER_SOURCES = {40: 300, 80: 160, 160: 100}
TEACHER_PLAN = dict(source_chains=20, source_thin=3, chains=2, draws=24, thin=2, warmup=30)
DIGITS_PLAN = dict(sources=50, chains=2, draws=24)
# At zero coupling the target does not feel its source.
LENGTHS = {
    0: dict(source_chains=5, source_thin=1, warmup=40, thin=4),
    50: dict(source_chains=50, source_thin=1, warmup=60, thin=4),
    200: dict(source_chains=5, source_thin=3, warmup=40, thin=4),
    500: dict(source_chains=5, source_thin=3, warmup=40, thin=4),
}
WITHIN = ("Q_t", "Q_st", "Q_tt", "train_error", "test_error")


def shared_teacher(width: int, draw: int) -> tuple[Task, Task, Task]:
    """Source, target and test task of one linear teacher, all sizes in proportion to the width."""
    n_features, rng = width // 2, np.random.default_rng(draw)
    teacher = rng.standard_normal(n_features)
    tasks = []
    for n in (2 * width, 3 * width // 8, 100):
        X = rng.standard_normal((n, n_features))
        tasks.append(Task(X, X @ teacher / np.linalg.norm(teacher)))
    return tuple(tasks)


def digit_tasks(draw: int) -> tuple[Task, Task, Task]:
    """300 source, 20 target and 200 test images of the task 3, 8 against 4, 9."""
    sizes = dict(n_source=300, n_target=20, n_test=200)
    tasks = transfer_tasks(digits(), "3,8|4,9", "3,8|4,9", **sizes, seed=draw)
    return tasks.source, tasks.target, tasks.test


def pooled_r_hat(x: np.ndarray) -> float:
    """Split R-hat of x (source, chain, draw) with both variances averaged over the sources."""
    n = x.shape[2] // 2
    halves = np.concatenate([x[..., :n], x[..., n : 2 * n]], axis=1)
    within = halves.var(axis=2, ddof=1).mean()
    between = halves.mean(axis=2).var(axis=1, ddof=1).mean()
    return float(np.sqrt((n - 1) / n + between / within))


def of_sources(dataset: Dataset, name: str, chains: int) -> dict[str, float]:
    """Monte Carlo error of a mean, R-hat and effective number of its sources.

    The sources follow each other along ``chains`` chains, so that their means are no independent
    draws: statistics of these chains tell, for each quantity by itself.
    """
    values = dataset[name].values
    means = values.reshape(len(values), -1).mean(axis=1)
    whole = len(means) // chains * chains
    of_chain = means[:whole].reshape(-1, chains).T
    effective, r_hat = float(len(means)), np.nan
    if of_chain.shape[1] >= 4:
        effective, r_hat = min(effective, float(az.ess(of_chain))), float(az.rhat(of_chain))
    error = means.std(ddof=1) / np.sqrt(effective)
    return {f"{name}_mcse": error, f"{name}_sources": effective, f"{name}_source_r_hat": r_hat}


def statistics(dataset: Dataset, chains: int) -> dict[str, float]:
    """Mean, Monte Carlo error and R-hat by name."""
    table, found = summary(dataset), {}
    for name, row in table.iterrows():
        found |= {name: row["mean"], f"{name}_mcse": row["mcse"]}
    for name in ("Q_s", *WITHIN):
        found |= of_sources(dataset, name, chains)
    for name in WITHIN:
        sampled = dataset.sizes["draw"] > 1  # frozen features leave nothing to sample
        found[f"{name}_r_hat"] = pooled_r_hat(dataset[name].values) if sampled else 1.0
        found[f"{name}_r_hat_largest"] = table.r_hat[name]
    found |= {name: dataset.attrs[name] for name in ("acceptance", "divergences")}
    return {name: float(value) for name, value in found.items()} | {"sources": len(dataset.source)}


def teacher_point(
    draw: int, width: int, coupling: float, seed: int, sources: dict[int, int], plan: dict
) -> dict[str, float]:
    """Networks on the shared teacher, T = 0.1."""
    source, target, test = shared_teacher(width, draw)
    settings = plan | {"sources": sources[width] // (1 if coupling else 2)}
    settings |= dict(width=width, coupling=coupling, temperature=0.1, seed=seed, progress=False)
    drawn = sample_transfer(source, target, test=test, **settings)
    return statistics(drawn, settings["source_chains"])


def digits_point(
    draw: int, width: int, coupling: float, seed: int, lengths: dict[int, dict], plan: dict
) -> dict[str, Any]:
    """Networks on digits, T = 0.01; Q_s and test error of every source too."""
    source, target, test = digit_tasks(draw)
    settings = plan | lengths[width if coupling else 0]
    settings |= dict(width=width, coupling=coupling, temperature=0.01, seed=seed, progress=False)
    drawn = sample_transfer(source, target, test=test, **settings)
    found = statistics(drawn, settings["source_chains"])
    of_source = drawn[["Q_s", "test_error"]].mean(["chain", "draw"])
    return found | {f"{name}_by_source": x.values for name, x in of_source.items()}


def chains_point(width: int, seed: int) -> dict[str, np.ndarray]:
    """Chains of the digits' source alone, one draw in five: how they mix."""
    source, target, _ = digit_tasks(draw=0)
    plan = dict(chains=8, draws=60, warmup=100, thin=5, seed=seed, progress=False)
    drawn = sample_posterior(source, width=width, test=target, temperature=0.01, **plan)
    return {name: drawn[name].values for name in ("order_parameter", "test_error")}


ON_TEACHER = {"fixed": {"sources": TEACHER_SOURCES, "plan": TEACHER_PLAN}}
ON_DIGITS = {"fixed": {"lengths": LENGTHS, "plan": DIGITS_PLAN}, "dims": BY_SOURCE}
SWEEPS = {
    "teacher": (teacher_point, {"draw": [0], "width": [40, 80, 160]} | TEACHER_COUPLINGS),
    "draws": (teacher_point, {"draw": [1, 2], "width": [40]} | TEACHER_COUPLINGS),
    "digits": (digits_point, {"draw": [0], "width": [50, 200, 500]} | DIGITS_COUPLINGS),
    "digits_again": (digits_point, {"draw": [1], "width": [200]} | DIGITS_COUPLINGS),
    "chains": (chains_point, {"width": [50]}),
}
MORE = {"chains": {"dims": BY_STEP}} | dict.fromkeys(["teacher", "draws"], ON_TEACHER)
MORE |= dict.fromkeys(["digits", "digits_again"], ON_DIGITS)

if __name__ == "__main__":
    for name, (function, grid) in SWEEPS.items():
        path = RESULTS / f"07_{name}.nc"
        print(run_grid(function, grid, path=path, seed=7, command=COMMAND, **MORE[name]))
