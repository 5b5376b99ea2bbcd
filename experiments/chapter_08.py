"""When transfer helps, chapter 08: makes results/08_*.nc.

Tasks are correlated hidden manifolds and scikit-learn's digits: nothing is read from files.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from experiments.chapter_07 import statistics
from experiments.sweep import Sweep
from tlnb import CorrelatedHiddenManifold, Task
from tlnb.data.images import digits, transfer_tasks
from tlnb.sampling import sample_posterior, sample_transfer
from tlnb.sampling.diagnostics import chain_statistics
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.transfer import TransferProblem
from tlnb.theory.transfer.action import delta
from tlnb.theory.unit_law import TransferLawProblem

Array = np.ndarray
Tasks = tuple[Task, Task, Task]

# One pair of tasks and networks, and what each of its knobs is turned through.
BASE = {
    "teacher_overlap": 1.0, "feature_overlap": 1.0, "n_source": 150, "n_target": 40,
    "width": 50, "temperature": 0.01, "richness": 2.0,
}  # fmt: skip
KNOBS = {
    "teacher_overlap": [0.0, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0],
    "feature_overlap": [0.0, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0],
    "width": [10, 20, 35, 50, 100, 200, 1000],  # λ1 as it was
    "width, richness kept": [10, 20, 35, 50, 100, 200, 1000],
    "n_source": [10, 25, 50, 100, 150, 300, 600],
    "n_target": [10, 20, 30, 40, 60, 100, 200],
    "temperature": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
    "richness": [0.02, 0.1, 0.3, 1.0, 2.0, 6.0, 20.0],
}
SAMPLED = {
    "base": [1.0],
    "teacher_overlap": [0.0, 0.7],
    "width": [20, 200],
    "n_source": [50, 600],
    "n_target": [20, 100],
    "temperature": [0.001, 0.1],
    "richness": [0.1, 20.0],
}
SPOTS = [f"{knob} {value:g}" for knob, values in SAMPLED.items() for value in values]
TIED = [10.0, np.inf]
EFFORT = {"particles": 600, "warmup": 50, "draws": 8, "tolerance": 0.2}
LOW, PARITY = "0,1,2,3,4|5,6,7,8,9", "0,2,4,6,8|1,3,5,7,9"
SOURCES = {"the same": LOW, "one exchanged": "0,1,2,3,9|5,6,7,8,4", "another": PARITY}
WIDTH = 50
ON_DIGITS = {"temperature": 0.01, "richness": 2.0}
COUPLINGS = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf]
TEMPERATURES = [0.001, 0.01, 0.1]
RICHNESS = [0.02, 0.05, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0]
ALONE = {
    "temperatures": [1e-4, *TEMPERATURES], "richness": RICHNESS,
    "weight_precisions": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0], "widths": [20, 50, 200, 1000, 5000],
}  # fmt: skip
CONTROLS = ["real", "variance-preserving", "fitted teacher", "random teacher"]
DIAGRAM = {"richness": [0.3, 5.0, 30.0], "coupling": [0.0, 1.0, 10.0, np.inf]}
COLD = 0.001
# Of all networks without a source, the best on the mean of the draws: see the sweep "alone".
RIVAL = {"temperature": 0.001, "richness": 5.0, "weight_precision": 0.1, "width": 200}
PLANS = {
    "source": {"chains": 8, "draws": 30, "thin": 2, "warmup": 100},
    "alone": {"chains": 8, "draws": 60, "thin": 1, "warmup": 100},
    "target": {"chains": 2, "draws": 10, "thin": 2, "warmup": 30},
    "every": 5,
}
LONG = {
    "source": {"chains": 8, "draws": 20, "thin": 4, "warmup": 150},
    "alone": {"chains": 8, "draws": 80, "thin": 1, "warmup": 120},
    "target": {"chains": 2, "draws": 10, "thin": 2, "warmup": 30},
    "every": 4,
}


def manifold_tasks(
    draw: int, n_source: int, n_target: int, teacher_overlap: float, feature_overlap: float
) -> Tasks:
    """Source, target and 300 test examples of hidden manifolds: D = 20, N0 = 40.

    A knob changes nothing but what it is about; more examples contain the fewer.
    """
    pair = CorrelatedHiddenManifold(
        40, 20, teacher_overlap=teacher_overlap, feature_overlap=feature_overlap,
        nonlinearity="tanh", random_state=draw,
    )  # fmt: skip
    rng = [np.random.default_rng([draw, k]) for k in range(3)]
    source = pair.sample_source(n_source, rng[0])
    return source, pair.sample_target(n_target, rng[1]), pair.sample_target(300, rng[2])


def digit_tasks(draw: int, source: str = "the same") -> Tasks:
    """200 source, 40 target and 300 test images; the target asks whether a digit is below 5."""
    sizes = {"n_source": 200, "n_target": 40, "n_test": 300}
    tasks = transfer_tasks(digits(), SOURCES[source], LOW, **sizes, seed=draw)
    return tasks.source, tasks.target, tasks.test


def turned(knob: str, value: float, draw: int) -> tuple[Tasks, dict[str, float]]:
    """The base point with one knob turned: its tasks, and width and priors of its networks."""
    at = BASE | ({} if knob == "base" else {knob.split(",")[0]: value})
    if knob == "width":
        at["richness"] *= BASE["width"] / value
    of_tasks = ("n_source", "n_target", "teacher_overlap", "feature_overlap")
    tasks = manifold_tasks(draw, **{name: at.pop(name) for name in of_tasks})
    return tasks, at


def knob_theory(knob: str, level: int, draw: int) -> dict[str, Array | float]:
    """Test errors by theory over the couplings, and of the matched prior."""
    (source, target, test), at = turned(knob, KNOBS[knob][level], draw)
    given = {"widths": [at.pop("width")], "couplings": [0.0, *TIED]}
    problem = TransferProblem(source, target, **at)
    coupled = problem.sweep(test, **given)
    matched = problem.sweep(test, baseline="matched-prior", **given)
    names = ("test_error", "Q_st", "Q_t")
    found = {name: coupled[name].values[0] for name in names}
    return found | {"matched": matched.test_error.values[0], "Q_s": float(coupled.Q_s[0, 0])}


def sampled_targets(
    tasks: Tasks, couplings: list[float], seed: int, plans: dict, width: int, **priors: Any
) -> xr.Dataset:
    """Networks sampled around sampled sources: statistics over (coupling,), 0 from scratch.

    From scratch Q_t is the norm of the readouts, and the overlaps with a source are not measured.
    ``source_r_hat``: of Q_s along the sources' whole chains.
    """
    source, target, test = tasks
    given = priors | {"width": width, "rng": np.random.default_rng(seed), "progress": False}
    scheme = given.pop("coupling_scheme", "elastic")
    drawn = sample_posterior(source, weights=True, **plans["source"], **given)
    r_hat, _ = chain_statistics(drawn.order_parameter.values)
    alone = statistics_alone(target, test, plans["alone"], given)
    every = plans["every"]
    at = {"sources": drawn.isel(draw=slice(every - 1, None, every)), "test": test}
    at |= {"coupling_scheme": scheme} | plans["target"] | given
    rows = [
        alone if coupling == 0 else
        statistics(sample_transfer(source, target, coupling=coupling, **at))
        for coupling in couplings
    ]  # fmt: skip
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: ("coupling", [row.get(name, np.nan) for row in rows]) for name in names}
    found["source_r_hat"] = r_hat
    return xr.Dataset(found, coords={"coupling": np.array(couplings, dtype=float)})


def statistics_alone(target: Task, test: Task, plan: dict, given: dict) -> dict[str, float]:
    """Mean, Monte Carlo error and R-hat of networks that know no source."""
    drawn = sample_posterior(target, test=test, **plan, **given)
    found = {}
    for name, x in (("Q_t", drawn.order_parameter.values), ("test_error", drawn.test_error.values)):
        r_hat, size = chain_statistics(x)
        found |= {name: x.mean(), f"{name}_r_hat": r_hat}
        found[f"{name}_mcse"] = x.std(ddof=1) / np.sqrt(size)
    return {name: float(value) for name, value in found.items()}


def knob_sampled(spot: str, draw: int, seed: int, plans: dict) -> xr.Dataset:
    """`sampled_targets` at the base point with one knob turned."""
    knob, value = spot.split()
    kind = type(BASE.get(knob, 1.0))
    tasks, at = turned(knob, kind(value), draw)
    return sampled_targets(tasks, [0.0, *TIED], seed, plans, **at)


def knob_law(spot: str, draw: int, seed: int, effort: dict) -> dict[str, Array]:
    """Test errors by the law of a hidden unit, at the base point with one knob turned."""
    knob, value = spot.split()
    (source, target, test), at = turned(knob, type(BASE.get(knob, 1.0))(value), draw)
    width = at.pop("width")
    law = TransferLawProblem(source, target, rng=seed, **effort, **at)
    swept = law.sweep(test, widths=[width], couplings=[0.0, *TIED])
    names = ("test_error", "test_error_mcse", "Q_s", "Q_st")
    return {name: swept[name].values[0] for name in names}


def with_same_Q(problem: TransferProblem, y: Array, width: int) -> TransferProblem:
    """The source with labels y (P_s,) scaled until it has the order parameter that it had."""
    Q, own = problem.source_order_parameter(width), problem.target.y

    def scaled(log_scale: float) -> TransferProblem:
        return problem.with_labels(np.exp(log_scale) * y, own)

    found = brentq(lambda a: scaled(a).source_order_parameter(width) / Q - 1, -8, 8, xtol=1e-12)
    return scaled(found)


def linear_labels(kind: str, source: Task, rng: np.random.Generator) -> Array:
    """Labels X θ of a linear teacher: θ random, or fitted to the source's labels by ridge."""
    if kind == "random teacher":
        return source.X @ rng.standard_normal(source.n_features)
    gram = source.X.T @ source.X + 10.0 * np.eye(source.n_features)
    return source.X @ np.linalg.solve(gram, source.X.T @ source.y)


def controlled(
    kind: str, draw: int, at: dict[str, float], width: int = WIDTH
) -> tuple[TransferProblem, Task]:
    """The digits with a source of this kind, and the test task."""
    source, target, test = digit_tasks(draw)
    problem = TransferProblem(source, target, **at)
    if kind.endswith("teacher"):
        y = linear_labels(kind, source, np.random.default_rng([draw, 8]))
        problem = with_same_Q(problem, y, width)
    if kind == "variance-preserving":
        problem = problem.with_priors(coupling_scheme=kind)
    return problem, test


def control_sampled(
    kind: str, draw: int, seed: int, couplings: list[float], plans: dict
) -> xr.Dataset:
    """`sampled_targets` on digits with a source of this kind."""
    problem, test = controlled(kind, draw, ON_DIGITS)
    scheme = {"coupling_scheme": problem.priors.coupling_scheme}
    tasks = problem.source, problem.target, test
    return sampled_targets(tasks, couplings, seed, plans, width=WIDTH, **scheme, **ON_DIGITS)


def matched_sampled(coupling: float, draw: int, seed: int, plans: dict) -> dict[str, float]:
    """Networks on digits that know no source and have the prior that the coupling would leave."""
    problem, test = controlled("real", draw, ON_DIGITS)
    given = ON_DIGITS | {"weight_precision": 1 / problem.covariances(coupling).c_t}
    given |= {"width": WIDTH, "rng": seed, "progress": False}
    return statistics_alone(problem.target, test, plans["alone"], given)


def spot_sampled(
    source: str, richness: float, draw: int, seed: int, couplings: list[float], plans: dict
) -> xr.Dataset:
    """`sampled_targets` at spots of the diagram."""
    at = {"width": WIDTH, "temperature": COLD, "richness": richness}
    return sampled_targets(digit_tasks(draw, source), couplings, seed, plans, **at)


def rival_sampled(draw: int, seed: int, point: dict[str, float], plans: dict) -> dict[str, float]:
    """The best network without a source, sampled."""
    _, target, test = digit_tasks(draw)
    given = point | {"rng": seed, "progress": False}
    return statistics_alone(target, test, plans["alone"], given)


def target_blocks(
    problem: TransferProblem, width: int, coupling: float
) -> tuple[Array, Array, Array, float]:
    """Δ, E (P_t, P_t) and r (P_t,) in units of the labels, and the price of the overlaps.

    The log evidence is -½ [price + ln det Δ + Tr(Δ⁻¹E) + rᵀΔ⁻¹r + P_t ln 2π].
    """
    y, priors = problem.target.y, problem.priors.at_width(width)
    precision = priors.readout_precision
    if coupling == 0:
        alone = problem.alone()
        basis, Q = alone.kernel.factor, alone.saddle(width).Q
        K = (basis.eigenvectors * basis.eigenvalues) @ basis.eigenvectors.T / precision
        price = width * (Q - 1 - np.log(Q))
        return priors.temperature * np.eye(len(y)) + Q * K, np.zeros_like(K), y, price
    overlaps, b = problem.saddle(width, coupling), problem.blocks(width, coupling)
    D, Q_tt, Q_st = overlaps.D, overlaps.Q_tt, overlaps.Q_st
    m = b.root.T @ b.root if b.m is None else b.m
    E = (Q_tt * b.K_tt - Q_st**2 * m) / precision
    r = (b.y - Q_st * b.u) / np.sqrt(precision)
    price = width * (D + Q_tt - 1 - np.log(D) - (Q_tt - Q_st**2 / b.Q_s) / D)
    return delta(D, Q_tt, b) / precision, E, r, price


def log_score(residual: Array, source_variance: Array, own: Array) -> tuple[float, float]:
    """Mean of ln N(y; f, own) over examples, averaged over sources, and the mean squared z."""
    z = (residual**2 + source_variance) / own
    return float(-0.5 * (np.log(2 * np.pi * own) + z).mean()), float(z.mean())


def judged(problem: TransferProblem, test: Task, width: int, coupling: float) -> dict[str, float]:
    """What several criteria say of one candidate, per example, and what it does on the test set."""
    T, n = problem.priors.temperature, problem.target.n_examples
    solution = problem.solve(width=width, coupling=coupling)
    blocks, E, r, price = target_blocks(problem, width, coupling)
    W = np.linalg.inv(blocks)
    log_det = np.linalg.slogdet(blocks)[1]
    misfit = r @ W @ r + np.vdot(W, E)
    left = solution.leave_one_out()
    outcome = solution.predict(test.X, test.y)
    found = {
        "log_evidence": solution.log_evidence / n,
        "price": price / (2 * n),
        "log_det": log_det / (2 * n),
        "misfit": misfit / (2 * n),
        "scale_free": -0.5 * (log_det / n + np.log(misfit / n) + 1 + np.log(2 * np.pi)),
        "left_out": left.test_error.mean(),
        "squared_residual": (left.residual**2).mean(),
        "error": outcome.test_error.mean(),
        "wrong": np.mean(outcome.mean * test.y <= 0),
    }
    own = left.total_variance - left.source_variance + T
    found["left_log_score"], found["left_z"] = log_score(left.residual, left.source_variance, own)
    own = outcome.total_variance - outcome.source_variance + T
    residual = test.y - outcome.mean
    scores = log_score(residual, outcome.source_variance, own)
    found["test_log_score"], found["test_z"] = scores
    return {name: float(value) for name, value in found.items()}


CRITERIA = ("log_evidence", "price", "log_det", "misfit", "scale_free", "left_out")
CRITERIA += ("squared_residual", "error", "wrong", "left_log_score", "left_z")
CRITERIA += ("test_log_score", "test_z")


def candidates(
    source: str, draw: int, temperatures: list, richness: list, couplings: list
) -> dict[str, Array]:
    """`judged` over (temperature, richness, coupling), on digits."""
    *tasks, test = digit_tasks(draw, source)
    problem = TransferProblem(*tasks)
    shape = len(temperatures), len(richness), len(couplings)
    found = {name: np.full(shape, np.nan) for name in CRITERIA}
    for i, j in product(range(shape[0]), range(shape[1])):
        mine = problem.with_priors(temperature=temperatures[i], richness=richness[j])
        for k, coupling in enumerate(couplings):
            for name, value in judged(mine, test, WIDTH, coupling).items():
                found[name][i, j, k] = value
    return found


def alone_errors(
    draw: int, temperatures: list, richness: list, widths: list, weight_precisions: list
) -> dict[str, Array]:
    """Test and leave-one-out errors without a source over (temperature, richness, λ0, width)."""
    _, target, test = digit_tasks(draw)
    shape = len(temperatures), len(richness), len(weight_precisions), len(widths)
    found = {name: np.full(shape, np.nan) for name in ("error", "left_out")}
    for k, precision in enumerate(weight_precisions):
        problem = OneTaskProblem(target, weight_precision=precision)
        for i, j, w in np.ndindex(shape[0], shape[1], shape[3]):
            mine = problem.with_priors(temperature=temperatures[i], richness=richness[j])
            solution = mine.solve(width=widths[w])
            left = solution.leave_one_out().test_error
            found["error"][i, j, k, w] = solution.predict(test.X, test.y).test_error.mean()
            found["left_out"][i, j, k, w] = left.mean()
    return found


GRID = {"temperatures": TEMPERATURES, "richness": RICHNESS}
SWEEPS = {
    "theory": Sweep(
        knob_theory, {"knob": list(KNOBS), "level": range(7), "draw": range(4)}, seed=8,
        dims={name: ["coupling"] for name in ("test_error", "Q_st", "Q_t", "matched")},
    ),
    "knobs": Sweep(
        knob_sampled, {"draw": [0, 1], "spot": SPOTS}, seed=8, fixed={"plans": PLANS}
    ),
    "law": Sweep(
        knob_law, {"draw": [0, 1], "spot": SPOTS}, seed=8, fixed={"effort": EFFORT},
        dims={n: ["coupling"] for n in ("test_error", "test_error_mcse", "Q_s", "Q_st")},
    ),
    "controls": Sweep(
        control_sampled, {"kind": CONTROLS, "draw": [0]}, seed=8,
        fixed={"couplings": [0.0, 1.0, 10.0, np.inf], "plans": LONG},
    ),
    "matched": Sweep(
        matched_sampled, {"coupling": [1.0, 10.0], "draw": [0, 1]}, seed=8, fixed={"plans": PLANS}
    ),
    "candidates": Sweep(
        candidates, {"source": list(SOURCES), "draw": range(6)}, seed=8,
        fixed=GRID | {"couplings": COUPLINGS},
        dims={name: ["temperature", "richness", "coupling"] for name in CRITERIA},
    ),
    "alone": Sweep(
        alone_errors, {"draw": range(6)}, seed=8, fixed=ALONE,
        dims={n: ["temperature", "richness", "precision", "width"] for n in ("error", "left_out")},
    ),
    "rival": Sweep(
        rival_sampled, {"draw": [0, 1]}, seed=8, fixed={"point": RIVAL, "plans": PLANS}
    ),
    "spots": Sweep(
        spot_sampled,
        {"source": ["the same", "another"], "richness": DIAGRAM["richness"], "draw": [0]},
        seed=8, fixed={"couplings": DIAGRAM["coupling"], "plans": LONG},
    ),
}  # fmt: skip
