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

from experiments.chapter_07 import digit_tasks
from experiments.sweep import Sweep
from tlnb import Task
from tlnb.data.images import read_mnist, transfer_tasks
from tlnb.sampling import sample_posterior
from tlnb.sampling.diagnostics import chain_statistics
from tlnb.theory import one_task, transfer, unit_law

HALVES, PARITY = "0,1,2,3,4|5,6,7,8,9", "0,2,4,6,8|1,3,5,7,9"
CASES = {
    "rich": {"source": HALVES, "readout_precision": 100.0},
    "lazy": {"source": HALVES, "readout_precision": 1.0},
    "unrelated": {"source": PARITY, "readout_precision": 100.0},
}
IMAGES = {"width": 100, "temperature": 0.01}
WIDTHS = [20, 50, 100, 200, 400, 800]
ACTIVATIONS = ["erf", "relu", "tanh"]
COUPLINGS = [0.0, 0.3, 1.0, 10.0, np.inf]
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


def sampled_images(case: str, seed: int) -> xr.Dataset:
    """Networks of the source's task, tested on the target's images."""
    source, _, test = image_tasks(case)
    rng, precision = np.random.default_rng(seed), CASES[case]["readout_precision"]
    given = dict(**IMAGES, readout_precision=precision, rng=rng, progress=False)
    plan = dict(chains=8, warmup=150, draws=60, thin=3)
    drawn = sample_posterior(source, test=test, weights=True, **plan, **given)
    return xr.Dataset({f"source_{name}": x for name, x in chains(drawn, test).items()})


def sampled_widths(activation: str, width: int, seed: int) -> dict[str, float]:
    """Networks of one linear teacher's task."""
    train, test = teacher_tasks()
    plan = dict(chains=12, warmup=80, draws=100, thin=2, rng=seed, progress=False)
    drawn = sample_posterior(
        train, test=test, width=width, activation=activation, temperature=0.1, **plan
    )
    return chains(drawn, test)


def both(train: Task, test: Task, effort: dict, seed: int, **given: Any) -> dict[str, float]:
    """Q, errors by the scalar theory and by the law of a unit, with Monte Carlo errors."""
    scalar = one_task.solve(train, **given)
    outcome = scalar.predict(test.X, test.y)
    found = {"scalar_Q": scalar.Q, "scalar_test_error": outcome.test_error.mean()}
    found["scalar_squared_bias"] = outcome.squared_bias.mean()
    law = unit_law.solve(train, rng=seed, **effort, **given)
    found |= {"Q": law.Q, "Q_mcse": law.errors["Q"]}
    averages = law.averages(test)
    for name in ("test_error", "squared_bias"):
        found |= {name: averages[name].value, f"{name}_mcse": averages[name].mcse}
    return found


def law_images(case: str, seed: int) -> dict[str, float]:
    """Both theories on the tasks of `sampled_images`."""
    source, _, test = image_tasks(case)
    effort = {"particles": 2000, "warmup": 100, "draws": 20, "tolerance": 0.05}
    precision = CASES[case]["readout_precision"]
    return both(source, test, effort, seed, readout_precision=precision, **IMAGES)


def law_widths(activation: str, width: int, seed: int) -> dict[str, float]:
    """Both theories on the task of `sampled_widths`."""
    effort = {"particles": 2000, "warmup": 60, "draws": 60, "tolerance": 0.05}
    given = {"width": width, "activation": activation, "temperature": 0.1}
    return both(*teacher_tasks(), effort, seed, **given)


def law_digits(width: int, seed: int) -> xr.Dataset:
    """Both theories on the digits of chapter 07, over the couplings."""
    source, target, test = digit_tasks(0)
    given = {"temperature": 0.01}
    law = unit_law.TransferLawProblem(
        source, target, particles=3000, warmup=90, draws=16, tolerance=0.1, rng=seed, **given
    ).sweep(test, widths=[width], couplings=COUPLINGS)
    scalar = transfer.coupling_sweep(
        source, target, test, widths=[width], couplings=COUPLINGS, **given
    )
    found = {f"scalar_{name}": scalar[name] for name in NAMES}
    for name in NAMES:
        found |= {name: law[name], f"{name}_mcse": law[f"{name}_mcse"]}
    return xr.Dataset(found).isel(width=0, drop=True)


SWEEPS = {
    "images": Sweep(sampled_images, {"case": list(CASES)}, seed=17),
    "widths": Sweep(sampled_widths, {"activation": ACTIVATIONS, "width": WIDTHS}, seed=17),
    "law_images": Sweep(law_images, {"case": list(CASES)}, seed=17),
    "law_widths": Sweep(law_widths, {"activation": ACTIVATIONS, "width": WIDTHS}, seed=17),
    "law_digits": Sweep(law_digits, {"width": [200, 500]}, seed=17),
}
