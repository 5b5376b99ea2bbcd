"""The sampled deep networks of chapter 10: makes results/10_*.nc.

A point draws deep sources once and, around the same sources, targets whose layers are coupled in
several ways; it keeps means, Monte Carlo errors and R-hat. The theory of the same tasks is stored
too; the chapter computes pieces of both again.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.chapter_07 import statistics
from experiments.sweep import Sweep
from tlnb import Task
from tlnb.data.images import digits, transfer_tasks
from tlnb.sampling import sample_deep_posterior, sample_deep_transfer
from tlnb.theory.deep import DeepTransferProblem

AVERAGED = ("squared_bias", "total_variance", "source_variance", "test_error")

ON_TEACHER = {"which": "teacher", "draw": 0, "temperature": 0.1, "richness": None, "tuned": 2.0}
ON_DIGITS = {"which": "digits", "draw": 0, "temperature": 0.01, "richness": 1.0, "tuned": 10.0}
# Steps of warm-up of sources and of targets; draws of each chain, and steps between them.
SHORT = {"source_warmup": 60, "source_draws": 5, "source_thin": 4}
SHORT |= {"warmup": 30, "draws": 12, "thin": 2}
LONG = {"source_warmup": 160, "source_draws": 4, "source_thin": 10}
LONG |= {"warmup": 40, "draws": 12, "thin": 4}
EVERY = ["scratch", "tuned", "first frozen", "all but the last frozen", "frozen"]
SOME = ["scratch", "tuned", "frozen"]


def couplings_of(pattern: str, depth: int, tuned: float) -> tuple[float, ...]:
    """The coupling of each hidden layer, from the input up."""
    return {
        "scratch": (0.0,) * depth,
        "tuned": (tuned,) * depth,
        "first frozen": (np.inf, *(0.0,) * (depth - 1)),
        "all but the last frozen": (*(np.inf,) * (depth - 1), 0.0),
        "frozen": (np.inf,) * depth,
    }[pattern]


def teacher_tasks(draw: int, width: int) -> tuple[Task, Task, Task]:
    """Source, target and test task of one linear teacher, all sizes in proportion to the width."""
    n_features, rng = width // 2, np.random.default_rng(draw)
    teacher = rng.standard_normal(n_features)
    tasks = []
    for n in (3 * width // 2, 3 * width // 8, 100):
        X = rng.standard_normal((n, n_features))
        tasks.append(Task(X, X @ teacher / np.linalg.norm(teacher)))
    return tuple(tasks)


def digit_tasks(draw: int) -> tuple[Task, Task, Task]:
    """300 source, 20 target and 200 test images of the task 3, 8 against 4, 9."""
    sizes = dict(n_source=300, n_target=20, n_test=200)
    tasks = transfer_tasks(digits(), "3,8|4,9", "3,8|4,9", **sizes, seed=draw)
    return tasks.source, tasks.target, tasks.test


def tasks_of(which: str, draw: int, width: int) -> tuple[Task, Task, Task]:
    """Source, target and test task."""
    return teacher_tasks(draw, width) if which == "teacher" else digit_tasks(draw)


def deep_point(
    depth: int, width: int, activation: str, seed: int, which: str, draw: int, temperature: float,
    richness: float | None, tuned: float, patterns: list[str], chains: int, lengths: dict[str, int],
) -> xr.Dataset:  # fmt: skip
    """Statistics over (pattern,) of networks of ``depth`` hidden layers of one width."""
    source, target, test = tasks_of(which, draw, width)
    rng = np.random.default_rng(seed)
    given = {"widths": (width,) * depth, "activation": activation, "temperature": temperature}
    given |= {"rng": rng, "progress": False}
    given |= {} if richness is None else {"richness": richness}
    plan = {name: lengths[f"source_{name}"] for name in ("draws", "thin", "warmup")}
    drawn = sample_deep_posterior(source, chains=chains, weights=True, **plan, **given)
    plan = {name: lengths[name] for name in ("draws", "thin", "warmup")}
    points = []
    for pattern in patterns:
        at = {"couplings": couplings_of(pattern, depth, tuned), "sources": drawn, "test": test}
        points.append(statistics(sample_deep_transfer(source, target, **at, **plan, **given)))
    found = {name: ("pattern", [point[name] for point in points]) for name in points[0]}
    return xr.Dataset(found, coords={"pattern": patterns})


def theory_point(
    depth: int, width: int, activation: str, which: str, draw: int, temperature: float,
    richness: float | None, tuned: float, patterns: list[str],
) -> xr.Dataset:  # fmt: skip
    """What the theory says of the same tasks, over (pattern,)."""
    source, target, test = tasks_of(which, draw, width)
    given = {"activation": activation, "temperature": temperature}
    given |= {} if richness is None else {"richness": richness}
    problem = DeepTransferProblem(source, target, depth=depth, **given)
    points = []
    for pattern in patterns:
        couplings = couplings_of(pattern, depth, tuned)
        solved = problem.solve(widths=(width,) * depth, couplings=couplings)
        outcome = solved.predict(test.X, test.y)
        names = ("Q_s", "Q_t", "Q_st", "Q_tt", "train_error", "residual")
        point = {name: getattr(solved, name) for name in names}
        point |= {name: getattr(outcome, name).mean() for name in AVERAGED}
        for name, value in zip(
            ("A_s_1", "A_st_1", "A_t_1", "A_tt_1"), solved.overlaps[0], strict=True
        ):
            point[name] = value
        points.append(point)
    found = {name: ("pattern", [float(point[name]) for point in points]) for name in points[0]}
    return xr.Dataset(found, coords={"pattern": patterns})


TEACHER = ON_TEACHER | {"lengths": SHORT, "chains": 10}
DIGITS = ON_DIGITS | {"lengths": LONG, "chains": 6, "activation": "erf"}
DIGITS |= {"patterns": ["scratch", "tuned", "first frozen", "frozen"]}
OF_WIDTH = TEACHER | {"activation": "erf", "patterns": SOME}


def on_teacher(activation: str, depth: list[int]) -> Sweep:
    """Layers of 80 units, every pattern of couplings."""
    fixed = TEACHER | {"activation": activation, "patterns": EVERY}
    return Sweep(deep_point, {"depth": depth, "width": [80]}, seed=10, fixed=fixed)


def without(fixed: dict, *names: str) -> dict:
    """The same settings without some of them."""
    return {name: value for name, value in fixed.items() if name not in names}


DRAWS = {"draw": [0, 1, 2], "width": [30, 60, 120]}
OF_DRAWS = without(OF_WIDTH, "draw") | {"depth": 2}
SWEEPS = {
    "linear": on_teacher("linear", [2]),
    "linear_three": on_teacher("linear", [3]),  # which has one overlap more
    "layers": on_teacher("erf", [2, 3]),
    "widths": Sweep(deep_point, DRAWS, seed=10, fixed=OF_DRAWS),
    "wide": Sweep(deep_point, {"depth": [2], "width": [240]}, seed=10, fixed=OF_WIDTH),
    "digits": Sweep(deep_point, {"depth": [1, 2], "width": [100]}, seed=10, fixed=DIGITS),
    "theory": Sweep(
        theory_point,
        {"activation": ["linear", "erf"], "depth": [2, 3], "width": [80]},
        seed=10,
        fixed=ON_TEACHER | {"patterns": EVERY},
    ),
    "theory_widths": Sweep(
        theory_point, DRAWS, seed=10, fixed=without(OF_DRAWS, "lengths", "chains")
    ),
    "theory_wide": Sweep(
        theory_point,
        {"depth": [2], "width": [240]},
        seed=10,
        fixed=without(OF_WIDTH, "lengths", "chains"),
    ),
    "theory_digits": Sweep(
        theory_point,
        {"depth": [1, 2, 3], "width": [100]},
        seed=10,
        fixed=without(DIGITS, "lengths", "chains"),
    ),
}
