"""Theory against sampling as the width grows, for chapter 04: makes results/04_widths.nc.

Draws of one task at fixed P/N1 = 1.5 and N0/N1 = 0.5; on each the saddle point, the process of
infinite width, and networks drawn from the posterior.
"""

from __future__ import annotations

import numpy as np

from experiments.sweep import Sweep
from tlnb import Task
from tlnb.sampling import sample_posterior, summary
from tlnb.theory import one_task

QUANTITIES = ["order_parameter", "train_error", "test_error"]
# Draws kept of each chain: fewer where a draw costs more, the difference being smaller there too.
KEPT = {10: 1000, 20: 1000, 40: 600, 80: 300, 160: 150}
GRID = {"draw": list(range(12)), "activation": ["erf", "relu"], "width": list(KEPT)}
FIXED = {"temperature": 0.1, "chains": 4, "warmup": 150}


def teacher_task(P: int, N0: int, rng: np.random.Generator, n_test: int = 200) -> list[Task]:
    """Gaussian inputs, labels of a linear teacher of unit norm: training and test task."""
    θ = rng.standard_normal(N0)
    inputs = rng.standard_normal((P, N0)), rng.standard_normal((n_test, N0))
    return [Task(X, X @ θ / np.linalg.norm(θ)) for X in inputs]


def compare(
    draw: int, activation: str, width: int, temperature: float, seed: int, **lengths: int
) -> dict[str, np.ndarray]:
    """Q, training and test error: in theory, at infinite width, and sampled with statistics."""
    train, test = teacher_task(3 * width // 2, width // 2, np.random.default_rng([4, width, draw]))
    settings = {"activation": activation, "temperature": temperature}
    found = {}
    for name, at in (("theory", width), ("infinite", np.inf)):
        solution = one_task.solve(train, width=at, **settings)
        test_error = solution.predict(test.X, test.y).test_error.mean()
        found[name] = np.array([solution.Q, solution.train_error, test_error])
    sampled = sample_posterior(
        train, test=test, width=width, rng=seed, draws=KEPT[width], progress=False,
        **settings, **lengths,
    )  # fmt: skip
    table = summary(sampled).loc[QUANTITIES]
    return found | {name: table[name].to_numpy() for name in ("mean", "mcse", "ess", "r_hat")}


DIMS = {name: ["quantity"] for name in ("theory", "infinite", "mean", "mcse", "ess", "r_hat")}
SWEEPS = {"widths": Sweep(compare, GRID, seed=4, fixed=FIXED, dims=DIMS)}
