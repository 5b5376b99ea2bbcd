"""The sampled networks of chapter 07: makes results/07_*.nc.

A point draws sources once and, around the same sources, targets at every coupling; it keeps means,
Monte Carlo errors and R-hat. The theory is computed in the chapter.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.sweep import Sweep
from tlnb import Task
from tlnb.data.images import digits, transfer_tasks
from tlnb.gain.training import train_networks
from tlnb.sampling import sample_posterior, sample_transfer, summary

ON_TEACHER = {"temperature": 0.1, "couplings": [0, 0.5, 2, 10, 1e4, np.inf], "chains": 20}
ON_DIGITS = {"temperature": 0.01, "couplings": [0, 0.3, 1, 10, np.inf], "chains": 6}
# By width: the source's chains, which of their draws become sources, steps between target draws.
TEACHER_LENGTHS = {
    40: dict(draws=20, thin=3, warmup=60, every=1, target_thin=4),
    80: dict(draws=20, thin=3, warmup=60, every=2, target_thin=4),
    160: dict(draws=12, thin=4, warmup=60, every=2, target_thin=4),
}
TEMPERING = [0.0115, 0.0132, 0.0152, 0.0175, 0.021, 0.026, 0.033]
DIGITS_LENGTHS = {
    50: dict(draws=50, thin=8, warmup=250, every=5, target_thin=8, tempering=TEMPERING),
    200: dict(draws=50, thin=4, warmup=100, every=5, target_thin=5),
    500: dict(draws=50, thin=3, warmup=100, every=5, target_thin=5),
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


def two_teachers(overlap: float, draw: int) -> tuple[Task, Task, Task]:
    """As ``shared_teacher`` at width 40, but the source's teacher turned away from the target's.

    ``overlap`` is the cosine between them.
    """
    source, target, test = shared_teacher(40, draw)
    teacher = np.linalg.lstsq(source.X, source.y, rcond=None)[0]
    other = np.random.default_rng([draw, 1]).standard_normal(len(teacher))
    other -= (other @ teacher) * teacher
    turned = overlap * teacher + np.sqrt(1 - overlap**2) * other / np.linalg.norm(other)
    return Task(source.X, source.X @ turned), target, test


def digit_tasks(draw: int, groups: str = "3,8|4,9") -> tuple[Task, Task, Task]:
    """300 source images; 20 target and 200 test images of the task 3, 8 against 4, 9."""
    sizes = dict(n_source=300, n_target=20, n_test=200)
    tasks = transfer_tasks(digits(), groups, "3,8|4,9", **sizes, seed=draw)
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
    """Statistics over (coupling,); on digits also those of each source and of their chains."""
    tasks = shared_teacher(width, draw) if which == "teacher" else digit_tasks(draw)
    source, target, test = tasks
    rng = np.random.default_rng(seed)
    given = dict(width=width, temperature=temperature, rng=rng, progress=False)
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
    if which == "digits":  # as many at every width
        for name in ("Q_s", "test_error"):
            x = [values[name].values for values in of_source]
            found[f"{name}_by_source"] = (("coupling", "source"), x)
        found["Q_s_along_chains"] = (("source_chain", "step"), drawn.order_parameter.values)
        found["exchange"] = np.min(drawn.attrs.get("exchange", np.nan))
    return xr.Dataset(found, coords={"coupling": np.array(couplings, dtype=float)})


def relation_point(
    groups: str, readout_precision: float, seed: int, couplings: list[float], targets: dict
) -> xr.Dataset:
    """As ``transfer_point``, for a source of other digits; and hidden weights of 12 sources."""
    source, target, test = digit_tasks(0, groups)
    given = dict(width=50, temperature=0.01, readout_precision=readout_precision)
    given |= dict(rng=np.random.default_rng(seed), progress=False)
    plan = dict(chains=6, draws=50, thin=4, warmup=200, weights=True)
    drawn = sample_posterior(source, **plan, **given)
    kept = drawn.isel(draw=slice(4, None, 5))
    at = dict(sources=kept, test=test, thin=5, **targets, **given)
    points = [
        statistics(sample_transfer(source, target, coupling=coupling, **at))
        for coupling in couplings
    ]
    found = {name: ("coupling", [point[name] for point in points]) for name in points[0]}
    found["Q_s_along_chains"] = (("source_chain", "step"), drawn.order_parameter.values)
    weights = kept.hidden_weights.values[:, [4, 9]].reshape(12, 50, -1).astype("float32")
    found["hidden_weights"] = (("network", "unit", "pixel"), weights)
    return xr.Dataset(found, coords={"coupling": np.array(couplings, dtype=float)})


def dial_point(
    overlap: float, draw: int, seed: int, couplings: list[float], targets: dict
) -> xr.Dataset:
    """Statistics over (coupling,) for two teachers of given overlap, at width 40."""
    source, target, test = two_teachers(overlap, draw)
    given = dict(width=40, temperature=0.1, rng=np.random.default_rng(seed), progress=False)
    drawn = sample_posterior(source, chains=10, weights=True, draws=12, thin=5, warmup=60, **given)
    at = dict(sources=drawn, test=test, thin=4, **targets, **given)
    points = [
        statistics(sample_transfer(source, target, coupling=coupling, **at))
        for coupling in couplings
    ]
    found = {name: ("coupling", [point[name] for point in points]) for name in points[0]}
    return xr.Dataset(found, coords={"coupling": np.array(couplings, dtype=float)})


def chains_point(width: int, seed: int) -> dict[str, np.ndarray]:
    """Chains of the digits' source without tempering: how they do not mix."""
    source, _, _ = digit_tasks(draw=0)
    plan = dict(chains=8, draws=50, thin=8, warmup=100, rng=seed, progress=False)
    drawn = sample_posterior(source, width=width, temperature=0.01, **plan)
    return {name: drawn[name].values for name in ("order_parameter", "train_error")}


def explorer_point(
    groups: str, width: int, richness: float, seed: int,
    target: str, sizes: dict[str, int], couplings: list[float], temperature: float, starts: int,
    targets: dict,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Test errors over (coupling,) of networks drawn, and of networks trained, with error bars."""
    tasks = transfer_tasks(digits(), groups, target, **sizes, seed=0)
    given = dict(width=width, temperature=temperature, readout_precision=richness * width)
    at = dict(rng=np.random.default_rng(seed), progress=False)
    plan = dict(chains=10, draws=16, thin=4, warmup=150, weights=True)
    drawn = sample_posterior(tasks.source, **plan, **given, **at)
    kept = drawn.isel(draw=slice(3, None, 4))
    given_sources = dict(sources=kept, test=tasks.test, thin=4, **targets)
    rows = [
        statistics(
            sample_transfer(tasks.source, tasks.target, coupling=c, **given_sources, **given, **at)
        )
        for c in couplings
    ]
    names = ("test_error", "test_error_mcse", "test_error_r_hat")
    found = {name: np.array([row[name] for row in rows]) for name in names}
    priors = {name: given[name] for name in ("temperature", "readout_precision")}
    points = {str(c): {"coupling": c, **priors} for c in couplings}
    outputs, converged = train_networks(
        [tasks.source], [tasks.target], points, tasks.test.X, width=width, starts=starts, rng=seed
    )
    errors = np.array([((tasks.test.y - outputs[way][:, 0]) ** 2).mean(1) for way in points])
    found["trained"], found["trained_se"] = errors.mean(1), errors.std(1, ddof=1) / starts**0.5
    found["converged"] = np.array([converged[way].all() for way in points], dtype=float)
    return found


CASES = {"teacher": (ON_TEACHER, TEACHER_LENGTHS), "digits": (ON_DIGITS, DIGITS_LENGTHS)}


def of_transfer(which: str, draw: list[int], width: list[int]) -> Sweep:
    """Sampled targets around shared sources, for these draws of the tasks and these widths."""
    on, lengths = CASES[which]
    fixed = on | {"which": which, "lengths": lengths, "targets": TARGETS}
    return Sweep(transfer_point, {"draw": draw, "width": width}, seed=7, fixed=fixed)


# The book's explorer of transfer: is a digit below 5? Sources ask the same, nearly, or parity.
LOW, NEARLY, PARITY = "0,1,2,3,4|5,6,7,8,9", "0,1,2,3,5|4,6,7,8,9", "0,2,4,6,8|1,3,5,7,9"
OF_NETWORKS = ("test_error", "test_error_mcse", "test_error_r_hat", "trained", "trained_se")
OF_NETWORKS += ("converged",)
ALONG_CHAINS = {name: ["chain", "step"] for name in ("order_parameter", "train_error")}
SWEEPS = {
    "digits": of_transfer("digits", [0], [50, 200, 500]),
    "chains": Sweep(chains_point, {"width": [50]}, seed=7, dims=ALONG_CHAINS),
    "teacher": of_transfer("teacher", [0], [40, 80, 160]),
    "draws": of_transfer("teacher", [1, 2], [40]),
    "digits_again": of_transfer("digits", [1], [200]),
    "draws_wide": of_transfer("teacher", [1], [160]),
    "relations": Sweep(
        relation_point,
        {"groups": ["3,8|4,9", "3,1|4,9", "3,4|8,9"], "readout_precision": [30]},
        seed=7,
        fixed={"couplings": [0, 1, 10, np.inf], "targets": TARGETS},
    ),
    "dial": Sweep(
        dial_point,
        {"draw": [0, 1, 2], "overlap": [0.0, 0.5, 0.75, 1.0]},
        seed=7,
        fixed={"couplings": [0, 2, np.inf], "targets": TARGETS},
    ),
    "explorer": Sweep(
        explorer_point,
        {"groups": [LOW, NEARLY, PARITY], "width": [50, 200], "richness": [1.0]},
        seed=7,
        fixed={
            "target": LOW,
            "sizes": {"n_source": 300, "n_target": 40, "n_test": 400},
            "couplings": [0, 1, 10, np.inf],
            "temperature": 0.01,
            "starts": 6,
            "targets": {"chains": 2, "draws": 12, "warmup": 30},
        },
        dims={name: ["coupling"] for name in OF_NETWORKS},
    ),
}
