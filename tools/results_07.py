"""The sampled networks of chapter 07: makes results/07_*.nc.

A point draws sources once and, around the same sources, targets at every coupling; it keeps means,
Monte Carlo errors and R-hat. The theory is computed in the chapter. Interrupted, it continues where
it was: python tools/results_07.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from tlnb import Task
from tlnb.data.images import digits, transfer_tasks
from tlnb.simulation import sample_posterior, sample_transfer, summary
from tlnb.sweeps import run_grid

RESULTS = Path(__file__).resolve().parent.parent / "results"
COMMAND = "python tools/results_07.py"
ON_TEACHER = {"temperature": 0.1, "couplings": [0, 0.5, 2, 10, 1e4, np.inf], "chains": 20}
ON_DIGITS = {"temperature": 0.01, "couplings": [0, 0.3, 1, 10, np.inf], "chains": 8}
# By width: the source's chains, which of their draws become sources, steps between target draws.
TEACHER_LENGTHS = {
    40: dict(draws=22, thin=3, warmup=60, every=1, target_thin=5),
    80: dict(draws=22, thin=3, warmup=60, every=2, target_thin=5),
    160: dict(draws=14, thin=4, warmup=60, every=2, target_thin=5),
}
TEMPERING = [0.012, 0.015, 0.02, 0.03]
DIGITS_LENGTHS = {
    50: dict(draws=40, thin=15, warmup=150, every=5, target_thin=8, tempering=TEMPERING),
    200: dict(draws=40, thin=5, warmup=100, every=5, target_thin=5),
    500: dict(draws=40, thin=3, warmup=100, every=5, target_thin=5),
}
TARGETS = dict(chains=2, draws=24, warmup=30)


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


def statistics(dataset: xr.Dataset) -> dict[str, float]:
    """Mean, Monte Carlo error, R-hat and effective number of sources by name."""
    found = {name: dataset.attrs[name] for name in ("acceptance", "divergences")}
    for name, row in summary(dataset).iterrows():
        found |= {name: row["mean"], f"{name}_mcse": row["mcse"]}
        found |= {f"{name}_r_hat": row["r_hat"], f"{name}_sources": row["sources"]}
    return {name: float(value) for name, value in found.items()} | {"sources": len(dataset.source)}


def transfer_point(
    which: str, draw: int, width: int, seed: int, temperature: float, couplings: list[float],
    chains: int, lengths: dict[int, dict], targets: dict,
) -> xr.Dataset:  # fmt: skip
    """Statistics over (coupling,), and Q_s along the source's chains."""
    tasks = shared_teacher(width, draw) if which == "teacher" else digit_tasks(draw)
    source, target, test = tasks
    rng = np.random.default_rng(seed)
    given = dict(width=width, temperature=temperature, seed=rng, progress=False)
    plan = dict(lengths[width])
    every, thin = plan.pop("every"), plan.pop("target_thin")
    drawn = sample_posterior(source, chains=chains, weights=True, **plan, **given)
    kept = drawn.isel(draw=slice(every - 1, None, every))
    at = dict(sources=kept, test=test, thin=thin, **targets, **given)
    points, of_source = [], []
    for coupling in couplings:
        sampled = sample_transfer(source, target, coupling=coupling, **at)
        points.append(statistics(sampled))
        of_source.append(sampled[["Q_s", "test_error"]].mean(["chain", "draw"]))
    found = {name: ("coupling", [point[name] for point in points]) for name in points[0]}
    for name in ("Q_s", "test_error"):
        found[f"{name}_by_source"] = (("coupling", "source"), [x[name].values for x in of_source])
    found["Q_s_along_chains"] = (("source_chain", "step"), drawn.order_parameter.values)
    found["source_acceptance"] = drawn.attrs["acceptance"]
    found["least_exchange"] = np.min(drawn.attrs.get("exchange", np.nan))
    return xr.Dataset(found, coords={"coupling": np.array(couplings, dtype=float)})


def chains_point(width: int, seed: int) -> dict[str, np.ndarray]:
    """Chains of the digits' source without tempering: how they do not mix."""
    source, _, _ = digit_tasks(draw=0)
    plan = dict(chains=8, draws=40, thin=15, warmup=150, seed=seed, progress=False)
    drawn = sample_posterior(source, width=width, temperature=0.01, **plan)
    return {"order_parameter": drawn.order_parameter.values}


CASES = {"teacher": (ON_TEACHER, TEACHER_LENGTHS), "digits": (ON_DIGITS, DIGITS_LENGTHS)}


def sweep(which: str, draw: list[int], width: list[int]) -> dict:
    """Arguments of run_grid."""
    on, lengths = CASES[which]
    fixed = on | {"which": which, "lengths": lengths, "targets": TARGETS}
    return {"function": transfer_point, "grid": {"draw": draw, "width": width}, "fixed": fixed}


SWEEPS = {
    "digits": sweep("digits", [0], [50, 200, 500]),
    "digits_again": sweep("digits", [1], [200]),
    "teacher": sweep("teacher", [0], [40, 80, 160]),
    "draws": sweep("teacher", [1, 2], [40]),
    "draws_wide": sweep("teacher", [1], [160]),
    "chains": {
        "function": chains_point,
        "grid": {"width": [50]},
        "dims": {"order_parameter": ["chain", "step"]},
    },
}

if __name__ == "__main__":
    for name, given in SWEEPS.items():
        print(run_grid(**given, path=RESULTS / f"07_{name}.nc", seed=7, command=COMMAND))
